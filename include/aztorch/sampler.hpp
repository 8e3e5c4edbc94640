// PrefetchSampler: any of torch's samplers of indices, with the blobs fetched ahead of the workers, an epoch that can be
// set, and a position that can be saved and restored.
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

#include "detail/position.hpp"
#include "detail/prefetch_sampler_state.hpp"
#include "torch_dataset.hpp"

namespace aztorch {

// torch's loader takes its sampler by value, so copies share one state: keep one beside the loader's. Each begin() of
// the loader calls reset(), which begins the next epoch; the first of all, and the first after load(), keep the epoch
// and the position.
//
//   aztorch::PrefetchSampler sampler(dataset, torch::data::samplers::RandomSampler(*dataset.size()));
//   if (resumed) sampler.load(archive);
//   auto loader = torch::data::make_data_loader(dataset.map(Stack<>()), sampler, options);
//   for (std::size_t epoch = sampler.epoch(); epoch < epochs; ++epoch) {
//     for (auto& batch : *loader) {
//       train(batch);
//       sampler.mark_consumed(batch);
//       if (time_to_save()) sampler.save(archive);  // what the loop has consumed, not what the workers have fetched
//     }
//   }
//
// A saved state holds the inner sampler as it was at the epoch's start, and how many samples of it were consumed. That
// is small for most samplers; a RandomSampler saves its whole permutation. The state of torch's distributed samplers is
// of one rank among so many; that of an ElasticSampler serves all ranks, of any number, and is a few numbers.
//
// Positions count batches in the loader's order, so its enforce_ordering has to be on, as it is by default.
template <typename Inner = torch::data::samplers::RandomSampler>
class PrefetchSampler final : public torch::data::samplers::Sampler<> {
 public:
  // With a transform that takes Blobs nothing is fetched ahead: only the transform knows what it will read.
  template <typename Example>
  PrefetchSampler(const BlobDataset<Example>& dataset, Inner inner, Lookahead lookahead = {})
      : shared_(std::make_shared<State>(dataset.blobs(), !dataset.takes_blob(), std::move(inner), lookahead)) {}

  // Without an inner sampler it is a RandomSampler of the whole dataset.
  template <typename Example>
  explicit PrefetchSampler(const BlobDataset<Example>& dataset, Lookahead lookahead = {})
      : PrefetchSampler(dataset, Inner(static_cast<std::int64_t>(dataset.blobs().size())), lookahead) {
    static_assert(std::is_same_v<Inner, torch::data::samplers::RandomSampler>, "this Inner needs to be given");
  }

  // The epoch that the next reset() begins. With the epoch of a restored position, that position is kept.
  void set_epoch(std::size_t epoch) { shared_->set_epoch(epoch); }
  std::size_t epoch() const { return shared_->epoch(); }

  // How many samples of the epoch are consumed; of an ElasticSampler: on all ranks.
  std::size_t position() const { return shared_->position(); }

  // The loop is done with this batch, and with those before it. Needed for save() and position() only. A batch whose
  // type does not tell its samples' positions, as Stack<> makes them, counts as the next one.
  template <typename Batch>
  void mark_consumed(const Batch& batch) {
    if constexpr (detail::kKnowsPosition<Batch>) {
      if (const auto index = detail::first_position(batch)) shared_->mark_consumed_to(static_cast<std::size_t>(*index));
    } else {
      shared_->mark_consumed();
    }
  }

  // The next batch, in the loader's order.
  void mark_consumed() { shared_->mark_consumed(); }

  void reset(torch::optional<std::size_t> new_size = torch::nullopt) override { shared_->reset(new_size); }

  torch::optional<std::vector<std::size_t>> next(std::size_t batch_size) override { return shared_->next(batch_size); }

  void save(torch::serialize::OutputArchive& archive) const override { shared_->save(archive); }

  // Of another dataset: INVALID_ARGUMENT. A listing changes when blobs come and go; a manifest does not.
  void load(torch::serialize::InputArchive& archive) override { shared_->load(archive); }

 private:
  using State = detail::PrefetchSamplerState<Inner>;

  std::shared_ptr<State> shared_;
};

}  // namespace aztorch
