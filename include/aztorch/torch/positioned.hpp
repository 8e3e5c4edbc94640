// Positioned, PositionedBatch, KeepPositions: examples and batches with the positions of their samples.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include <torch/data/transforms/base.h>

namespace aztorch {

/// An example with its Sample::position(), for types of examples that have no member `position`. A
/// BlobDataset<Positioned<E>> takes the same transforms as a BlobDataset<E>.
template <typename Example>
struct Positioned {
  Example example;             ///< The example.
  std::uint64_t position = 0;  ///< The position of its sample.
};

/// A collated batch with the positions of its examples, for `mark_consumed()` of the datasets and samplers.
template <typename Batch>
struct PositionedBatch {
  Batch batch;                           ///< The collated batch.
  std::vector<std::uint64_t> positions;  ///< The positions of its examples, in their order.
};

/// Makes a collation of torch, such as Stack, keep the positions: `.map(KeepPositions<Stack<>>())` turns a batch of
/// Positioned examples into a PositionedBatch.
template <typename Collation>
class KeepPositions
    : public torch::data::transforms::BatchTransform<
          std::vector<Positioned<typename Collation::InputBatchType::value_type>>,
          PositionedBatch<typename Collation::OutputBatchType>> {
 public:
  /// Wraps this collation.
  explicit KeepPositions(Collation collation = {}) : collation_(std::move(collation)) {}

  /// Collates the examples, and returns the result with their positions. Called by torch.
  PositionedBatch<typename Collation::OutputBatchType> apply_batch(
      std::vector<Positioned<typename Collation::InputBatchType::value_type>> positioned) override {
    typename Collation::InputBatchType examples;
    std::vector<std::uint64_t> positions;
    for (auto& entry : positioned) {
      examples.push_back(std::move(entry.example));
      positions.push_back(entry.position);
    }
    return {collation_.apply_batch(std::move(examples)), std::move(positions)};
  }

 private:
  Collation collation_;
};

}  // namespace aztorch
