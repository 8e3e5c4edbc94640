// ElasticSampler: one shuffled order of all samples, walked in lockstep by any number of processes.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include <torch/data/samplers/base.h>
#include <torch/serialize/archive.h>

#include "detail/archive.hpp"
#include "detail/permutation.hpp"
#include "error.hpp"

namespace aztorch {

// For data-parallel training, and for one process (the defaults). The epoch's order is a function of the seed and the
// epoch, the same on all ranks and machines. It is walked in steps of a batch for each rank: from position p on, rank 0
// takes batch_size samples, rank 1 the next, and so on; then p grows by what all of them took. So one number, the
// position, says for all ranks what has been trained on, and a checkpoint of rank 0 resumes on any number of ranks.
//
// Each sample is given out exactly once in an epoch. A last step that is too short for a full batch on each rank is
// shared out evenly, and its last ranks may get nothing. They still have to take part in its collectives, or the others
// would wait for ever. So loop over positions, not over batches:
//
//   const aztorch::ElasticSampler plan(size, world_size, rank, seed);
//   aztorch::PrefetchSampler sampler(dataset, plan);
//   if (resumed) sampler.load(archive);
//   auto loader = torch::data::make_data_loader(dataset, sampler, DataLoaderOptions(batch_size).workers(4));
//   for (std::size_t epoch = sampler.epoch(); epoch < epochs; ++epoch) {
//     sampler.set_epoch(epoch);
//     auto batch = loader->begin();
//     for (std::size_t position = sampler.position(); position < size;) {
//       const std::size_t samples = plan.step(position, batch_size);  // of all ranks together
//       optimizer.zero_grad();                                        // a rank without a batch adds zeros
//       if (batch != loader->end()) {
//         (sum_of_losses(model, *batch) / samples).backward();
//         sampler.mark_consumed(*batch);
//         ++batch;
//       }
//       all_reduce_sum_of_gradients(model);                           // the gradient of the step's mean loss
//       optimizer.step();
//       position += samples;
//       if (rank == 0 && time_to_save()) sampler.save(archive);       // rank 0 has a batch in every step
//     }
//   }
//
// The loader's enforce_ordering has to be on and its drop_last off, as they are by default.
class ElasticSampler final : public torch::data::samplers::Sampler<> {
 public:
  explicit ElasticSampler(std::size_t size, std::size_t world_size = 1, std::size_t rank = 0, std::uint64_t seed = 0,
                          bool shuffle = true)
      : size_(size), world_size_(world_size), rank_(rank), seed_(seed), shuffle_(shuffle), order_(size, seed, 0) {
    if (rank >= world_size) {
      throw Error(AZT_STATUS_INVALID_ARGUMENT,
                  "rank " + std::to_string(rank) + " in a world of " + std::to_string(world_size));
    }
  }

  // How many samples all ranks together take in the step from `position` on; 0 at the end.
  std::size_t step(std::size_t position, std::size_t batch_size) const noexcept {
    const std::size_t left = size_ - std::min(position, size_);
    return batch_size > left / world_size_ ? left : batch_size * world_size_;
  }

  // Of the samples to come; call reset() to begin the epoch.
  void set_epoch(std::size_t epoch) {
    epoch_ = epoch;
    order_ = detail::Permutation(size_, seed_, epoch_);
  }

  // To position 0 of the epoch that is set.
  void reset(torch::optional<std::size_t> new_size = torch::nullopt) override {
    size_ = new_size.value_or(size_);
    position_ = 0;
    set_epoch(epoch_);
  }

  // This rank's part of the next step.
  torch::optional<std::vector<std::size_t>> next(std::size_t batch_size) override {
    const std::size_t samples = step(position_, batch_size);
    const std::size_t each = samples / world_size_;
    const std::size_t rest = samples % world_size_;  // one more for each of the first ranks
    const std::size_t begin = position_ + rank_ * each + std::min(rank_, rest);
    std::vector<std::size_t> indices(each + (rank_ < rest ? 1 : 0));
    for (std::size_t i = 0; i < indices.size(); ++i) indices[i] = shuffle_ ? order_[begin + i] : begin + i;
    position_ += samples;
    if (indices.empty()) return torch::nullopt;
    return indices;
  }

  std::size_t epoch() const noexcept { return epoch_; }

  // How many samples all ranks together have been given in this epoch.
  std::size_t position() const noexcept { return position_; }
  void seek(std::size_t position) noexcept { position_ = std::min(position, size_); }

  void save(torch::serialize::OutputArchive& archive) const override {
    detail::write_number(archive, "size", size_);
    detail::write_number(archive, "seed", seed_);
    detail::write_number(archive, "shuffle", shuffle_ ? 1 : 0);
    detail::write_number(archive, "epoch", epoch_);
    detail::write_number(archive, "position", position_);
  }

  // Of another rank too, but not of another order.
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
