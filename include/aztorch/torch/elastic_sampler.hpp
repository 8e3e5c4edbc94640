// ElasticSampler: one shuffled order of all samples, shared by any number of ranks.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include <torch/data/samplers/base.h>
#include <torch/serialize/archive.h>

#include "../detail/permutation.hpp"
#include "../error.hpp"
#include "detail/archive_numbers.hpp"
#include "optional.hpp"

namespace aztorch {

/// A sampler of torch for data-parallel training on any number of ranks, and for a single process (the defaults).
///
/// The order of an epoch depends on the seed and the epoch only: it is the same on all ranks and machines. The ranks go
/// through it in steps: from position p on, rank 0 takes the first batch_size samples, rank 1 the next, and so on; then
/// p grows by the number of samples of all ranks. So a single number, the position, describes for all ranks which
/// samples were used, and a checkpoint of rank 0 resumes on any number of ranks.
///
/// Each sample is given out exactly once in an epoch. A last step that is too short for a full batch per rank is
/// divided evenly, and some ranks may get nothing. They must still take part in the collectives of that step, or the
/// others would wait forever. So loop over positions, not over batches:
///
///     const aztorch::ElasticSampler plan(size, world_size, rank, seed);
///     aztorch::PrefetchSampler sampler(dataset, plan);
///     if (resumed) sampler.load(archive);
///     auto loader = torch::data::make_data_loader(dataset, sampler, DataLoaderOptions(batch_size).workers(4));
///     for (std::size_t epoch = sampler.epoch(); epoch < epochs; ++epoch) {
///       sampler.set_epoch(epoch);
///       auto batch = loader->begin();
///       for (std::size_t position = sampler.position(); position < size;) {
///         const std::size_t samples = plan.step(position, batch_size);  // of all ranks together
///         optimizer.zero_grad();                                        // a rank without a batch adds zeros
///         if (batch != loader->end()) {
///           (sum_of_losses(model, *batch) / samples).backward();
///           sampler.mark_consumed(*batch);
///           ++batch;
///         }
///         all_reduce_sum_of_gradients(model);                           // the gradient of the step's mean loss
///         optimizer.step();
///         position += samples;
///         if (rank == 0 && time_to_save()) sampler.save(archive);       // rank 0 has a batch in every step
///       }
///     }
///
/// The loader's enforce_ordering must be on and its drop_last off, which are the defaults. Used by one thread at a
/// time.
class ElasticSampler final : public torch::data::samplers::Sampler<> {
 public:
  /// A sampler of the indices 0 … size - 1 for rank `rank` of `world_size`. Without `shuffle` the order is 0, 1, 2, ….
  /// Throws AZT_STATUS_INVALID_ARGUMENT unless rank < world_size.
  explicit ElasticSampler(std::size_t size, std::size_t world_size = 1, std::size_t rank = 0, std::uint64_t seed = 0,
                          bool shuffle = true)
      : size_(size), world_size_(world_size), rank_(rank), seed_(seed), shuffle_(shuffle), order_(size, seed, 0) {
    if (rank >= world_size) {
      throw Error(AZT_STATUS_INVALID_ARGUMENT,
                  "rank " + std::to_string(rank) + " in a world of " + std::to_string(world_size));
    }
  }

  /// The number of samples that all ranks together take in the step from `position` on. 0 at the end of the epoch.
  std::size_t step(std::size_t position, std::size_t batch_size) const noexcept {
    const std::size_t remaining = size_ - std::min(position, size_);
    return batch_size > remaining / world_size_ ? remaining : batch_size * world_size_;
  }

  /// Sets the epoch of the next samples. The position does not change. Call reset() to start at position 0.
  void set_epoch(std::size_t epoch) {
    epoch_ = epoch;
    order_ = detail::Permutation(size_, seed_, epoch_);
  }

  /// Goes to position 0 of the epoch that is set, and optionally changes the number of indices.
  void reset(Optional<std::size_t> new_size = {}) override {
    size_ = new_size.value_or(size_);
    position_ = 0;
    set_epoch(epoch_);
  }

  /// Returns this rank's indices of the next step, at most `batch_size`, or nothing when it has none.
  Optional<std::vector<std::size_t>> next(std::size_t batch_size) override {
    const std::size_t samples = step(position_, batch_size);
    const std::size_t per_rank = samples / world_size_;
    const std::size_t remainder = samples % world_size_;  // one more for each of the first ranks
    const std::size_t begin = position_ + rank_ * per_rank + std::min(rank_, remainder);
    std::vector<std::size_t> indices(per_rank + (rank_ < remainder ? 1 : 0));
    for (std::size_t i = 0; i < indices.size(); ++i) indices[i] = shuffle_ ? order_[begin + i] : begin + i;
    position_ += samples;
    if (indices.empty()) return {};
    return indices;
  }

  /// The epoch that is set.
  std::size_t epoch() const noexcept { return epoch_; }

  /// The number of samples that all ranks together were given in this epoch.
  std::size_t position() const noexcept { return position_; }

  /// Sets the position. Values past the end mean the end.
  void seek(std::size_t position) noexcept { position_ = std::min(position, size_); }

  /// Writes size, seed, shuffle, epoch and position into an archive; the rank and the number of ranks are not part of
  /// it.
  void save(torch::serialize::OutputArchive& archive) const override {
    detail::write_number(archive, "size", size_);
    detail::write_number(archive, "seed", seed_);
    detail::write_number(archive, "shuffle", shuffle_ ? 1 : 0);
    detail::write_number(archive, "epoch", epoch_);
    detail::write_number(archive, "position", position_);
  }

  /// Restores the state that save() wrote, on any rank and with any number of ranks. Throws AZT_STATUS_INVALID_ARGUMENT
  /// when size, seed or shuffle differ.
  void load(torch::serialize::InputArchive& archive) override {
    detail::expect_number(archive, "size", size_);
    detail::expect_number(archive, "seed", seed_);
    detail::expect_number(archive, "shuffle", shuffle_ ? 1 : 0);
    set_epoch(detail::read_number(archive, "epoch"));
    seek(detail::read_number(archive, "position"));
  }

 private:
  std::size_t size_;
  std::size_t world_size_;
  std::size_t rank_;
  std::uint64_t seed_;
  bool shuffle_;
  std::size_t epoch_ = 0;
  std::size_t position_ = 0;
  detail::Permutation order_;
};

}  // namespace aztorch
