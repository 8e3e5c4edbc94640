// What BlobDataset and IterableBlobDataset give: tensors over samples without a copy, examples, and their positions.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include <torch/data/transforms/base.h>
#include <torch/types.h>

#include "sample.hpp"

namespace aztorch {

namespace detail {

// UINT64_MAX when no memory could hold so many.
inline std::uint64_t byte_size(torch::IntArrayRef sizes, torch::Dtype dtype) {
  std::uint64_t bytes = c10::elementSize(dtype);
  for (const std::int64_t size : sizes) {
    const auto factor = static_cast<std::uint64_t>(size);
    if (size < 0 || (factor != 0 && bytes > std::numeric_limits<std::uint64_t>::max() / factor)) return UINT64_MAX;
    bytes *= factor;
  }
  return bytes;
}

}  // namespace detail

// The sample's bytes as a tensor, without a copy: they are freed with the tensor's last view. The sizes and the dtype
// have to take just as many bytes as the sample has; else it throws and the sample stays whole.
inline torch::Tensor to_tensor(Sample&& sample, torch::IntArrayRef sizes, torch::Dtype dtype = torch::kUInt8) {
  if (detail::byte_size(sizes, dtype) != sample.size()) {
    std::ostringstream message;
    message << sample.blob_name() << " of " << sample.url() << " has " << sample.size() << " bytes, but a tensor of "
            << sizes << " of " << dtype << " takes " << detail::byte_size(sizes, dtype);
    throw Error(AZT_STATUS_INVALID_ARGUMENT, message.str());
  }
  if (sample.size() == 0) {  // no memory to lend: what from_blob does with NULL differs among versions of torch
    const Sample taken = std::move(sample);
    return torch::empty(sizes, dtype);
  }
  // The sample alone owns its bytes, so writing to them is safe. It is released only afterwards, because from_blob does
  // not call its deleter when it throws.
  azt_sample* const handle = const_cast<azt_sample*>(sample.get());
  auto tensor = torch::from_blob(
      const_cast<std::uint8_t*>(sample.data()), sizes, [handle](void*) { azt_sample_free(handle); }, dtype);
  sample.release();
  return tensor;
}

// All of its bytes, in one dimension.
inline torch::Tensor to_tensor(Sample&& sample) {
  return to_tensor(std::move(sample), {static_cast<std::int64_t>(sample.size())});
}

// What a dataset without a transform gives.
struct BlobExample {
  BlobExample() = default;
  explicit BlobExample(Sample&& sample)
      : url(sample.url()), blob_name(sample.blob_name()), position(sample.position()),
        data(to_tensor(std::move(sample))) {}

  std::string url;  // without query
  std::string blob_name;
  std::uint64_t position = 0;  // Sample::position()
  torch::Tensor data;          // uint8, the bytes themselves
};

// An example with its Sample::position(), where its own type has no place for it. A BlobDataset<Positioned<E>> takes
// the same transforms as a BlobDataset<E>.
template <typename Example>
struct Positioned {
  Example example;
  std::uint64_t position = 0;
};

// A batch that was collated with the positions of its examples kept: what a loop marks as consumed.
template <typename Batch>
struct PositionedBatch {
  Batch batch;
  std::vector<std::uint64_t> positions;
};

// Makes a collation of torch's, such as Stack, keep the positions: .map(KeepPositions<Stack<>>()).
template <typename Collation>
class KeepPositions
    : public torch::data::transforms::BatchTransform<
          std::vector<Positioned<typename Collation::InputBatchType::value_type>>,
          PositionedBatch<typename Collation::OutputBatchType>> {
 public:
  explicit KeepPositions(Collation collation = {}) : collation_(std::move(collation)) {}

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
