// PrefetchSampler: wraps a sampler of torch, fetches blobs ahead, and can be saved and resumed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <type_traits>
#include <utility>
#include <vector>

#include <torch/data/samplers/base.h>
#include <torch/data/samplers/random.h>
#include <torch/serialize/archive.h>

#include "../detail/batch_position.hpp"
#include "blob_dataset.hpp"
#include "detail/prefetch_sampler_state.hpp"
#include "optional.hpp"

namespace aztorch {

/// How far a PrefetchSampler fetches ahead of the batches that the loader has requested: up to both limits, and at
/// least one batch. The bytes count against the client's memory limit.
struct Lookahead {
  std::size_t samples = 512;                       ///< The largest number of samples.
  std::uint64_t bytes = std::uint64_t{128} << 20;  ///< The largest number of bytes.
};

/// Wraps a sampler of indices: it fetches the blobs ahead of the loader's workers, has an epoch that can be set, and a
/// position that can be saved and restored.
///
/// torch's loader takes its sampler by value, so copies share one state: keep a copy beside the loader's. Thread-safe.
/// The loader's begin() calls reset(), which starts the next epoch; the very first reset(), and the first one after
/// load(), keep the epoch and the position.
///
///     aztorch::PrefetchSampler sampler(dataset, torch::data::samplers::RandomSampler(*dataset.size()));
///     if (resumed) sampler.load(archive);
///     auto loader = torch::data::make_data_loader(dataset.map(Stack<>()), sampler, options);
///     for (std::size_t epoch = sampler.epoch(); epoch < epochs; ++epoch) {
///       for (auto& batch : *loader) {
///         train(batch);
///         sampler.mark_consumed(batch);
///         if (time_to_save()) sampler.save(archive);  // the position of the loop, not of the workers
///       }
///     }
///
/// A saved state holds the inner sampler as it was at the start of the epoch and the number of consumed samples. It is
/// small for most samplers; a RandomSampler saves its whole permutation. The state of one of torch's distributed
/// samplers is for one rank of that number of ranks. The state of an ElasticSampler is for any number of ranks.
///
/// Positions count batches in the loader's order, so the loader's enforce_ordering must be on, which is the default.
template <typename Inner = torch::data::samplers::RandomSampler>
class PrefetchSampler final : public torch::data::samplers::Sampler<> {
 public:
  /// Wraps the sampler `inner` of this dataset's indices. Fetches nothing ahead when the dataset's transform takes a
  /// Blob, because the transform reads only parts of it.
  template <typename Example>
  PrefetchSampler(const BlobDataset<Example>& dataset, Inner inner, Lookahead lookahead = {})
      : shared_(std::make_shared<State>(dataset.blobs(), !dataset.takes_blob(), std::move(inner), lookahead.samples,
                                        lookahead.bytes)) {}

  /// Wraps a RandomSampler of the whole dataset.
  template <typename Example>
  explicit PrefetchSampler(const BlobDataset<Example>& dataset, Lookahead lookahead = {})
      : PrefetchSampler(dataset, Inner(static_cast<std::int64_t>(dataset.blobs().size())), lookahead) {
    static_assert(std::is_same_v<Inner, torch::data::samplers::RandomSampler>, "this Inner needs to be given");
  }

  /// Sets the epoch that the next reset() starts. If it is the epoch of a restored position, the position is kept.
  void set_epoch(std::size_t epoch) { shared_->set_epoch(epoch); }

  /// The epoch that was set for the next reset(), or else the current one.
  std::size_t epoch() const { return shared_->epoch(); }

  /// The number of consumed samples of the epoch. With an ElasticSampler: of all ranks together.
  std::size_t position() const { return shared_->position(); }

  /// Marks this batch and all batches before it as consumed by the loop. Needed only for save() and position(). A batch
  /// whose type has no positions of its samples, such as one of Stack<>, counts as the next one. Throws
  /// AZT_STATUS_INVALID_ARGUMENT for a batch that is not of this epoch or is marked already.
  template <typename Batch>
  void mark_consumed(const Batch& batch) {
    if constexpr (detail::kHasFirstPosition<Batch>) {
      if (const auto index = detail::first_position(batch)) shared_->mark_consumed_to(static_cast<std::size_t>(*index));
    } else {
      shared_->mark_consumed();
    }
  }

  /// Marks the next batch, in the loader's order, as consumed by the loop. Throws AZT_STATUS_INVALID_ARGUMENT when
  /// there is none.
  void mark_consumed() { shared_->mark_consumed(); }

  /// Starts the next epoch. The very first call, and the first one after load(), keep the epoch and the position.
  /// Called by torch.
  void reset(Optional<std::size_t> new_size = {}) override { shared_->reset(new_size); }

  /// Returns the indices of the next batch, or nothing at the end of the epoch. Called by torch. Does not block.
  /// Throws AZT_STATUS_OUT_OF_RANGE when the inner sampler gives an index past the end of the dataset.
  Optional<std::vector<std::size_t>> next(std::size_t batch_size) override { return shared_->next(batch_size); }

  /// Writes the epoch, the consumed position and the inner sampler into an archive.
  void save(torch::serialize::OutputArchive& archive) const override { shared_->save(archive); }

  /// Restores the state that save() wrote. Throws AZT_STATUS_INVALID_ARGUMENT for a state of another dataset, which is
  /// recognised by the names and their order. A container's listing changes when blobs are added or deleted; a manifest
  /// does not.
  void load(torch::serialize::InputArchive& archive) override { shared_->load(archive); }

 private:
  using State = detail::PrefetchSamplerState<Inner>;

  std::shared_ptr<State> shared_;
};

}  // namespace aztorch
