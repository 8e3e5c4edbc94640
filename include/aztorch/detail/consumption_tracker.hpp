// Tracks which of the samples that a stream delivered have been consumed by the training loop.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <vector>

#include "../error.hpp"

namespace aztorch::detail {

/// Identifies a sample of a stream: by position in the epoch, and by the hash of its name.
struct SampleId {
  std::uint64_t position;
  std::uint64_t name_hash;
};

/// Tracks consumed samples. Batches are cut from a stream in order, but several workers may bring them to the loop in
/// another order. So the consumed samples are all samples up to one position, and those of some later batches.
class ConsumptionTracker {
 public:
  /// Records a delivered sample of batch number `batch`. Called in the order of the positions.
  void add_delivered(SampleId sample, std::uint64_t batch, bool consumed = false) {
    if (pending_.size() == kMaxPending) {
      pending_.pop_front();
      overflowed_ = true;
    }
    pending_.push_back({sample, batch, consumed});
    advance();
  }

  /// Marks the whole batch that the sample at `position` belongs to. Throws AZT_STATUS_INVALID_ARGUMENT when that
  /// sample was not delivered or is consumed already.
  void mark_batch_consumed(std::uint64_t position) {
    const auto before = [](const Pending& pending, std::uint64_t other) { return pending.sample.position < other; };
    auto found = std::lower_bound(pending_.begin(), pending_.end(), position, before);
    if (found == pending_.end() || found->sample.position != position || found->consumed) {
      throw Error(AZT_STATUS_INVALID_ARGUMENT, "the sample at position " + std::to_string(position) +
                                                   " is in no batch of this epoch that is still to be consumed");
    }
    const std::uint64_t batch = found->batch;
    while (found != pending_.begin() && (found - 1)->batch == batch) --found;
    for (; found != pending_.end() && found->batch == batch; ++found) found->consumed = true;
    advance();
  }

  /// The position up to which all samples are consumed; std::nullopt while the first sample is not consumed. Throws
  /// AZT_STATUS_OUT_OF_RANGE when too many samples were delivered without being marked.
  std::optional<std::uint64_t> consumed_up_to() const {
    if (!overflowed_) return up_to_;
    throw Error(AZT_STATUS_OUT_OF_RANGE, "more than " + std::to_string(kMaxPending) +
                                             " samples were handed out and not marked as consumed");
  }

  /// The consumed samples after consumed_up_to().
  std::vector<SampleId> consumed_beyond() const {
    std::vector<SampleId> samples;
    for (const Pending& pending : pending_) {
      if (pending.consumed) samples.push_back(pending.sample);
    }
    return samples;
  }

 private:
  struct Pending {
    SampleId sample;
    std::uint64_t batch;
    bool consumed;
  };

  void advance() {
    for (; !pending_.empty() && pending_.front().consumed; pending_.pop_front()) {
      up_to_ = pending_.front().sample.position;
    }
  }

  // As far as a stream's cursors go back. It also bounds the memory for a loop that marks nothing.
  static constexpr std::size_t kMaxPending = 65'536;

  std::deque<Pending> pending_;  // starts with the first sample that is not consumed
  std::optional<std::uint64_t> up_to_;
  bool overflowed_ = false;
};

}  // namespace aztorch::detail
