// Which of the samples that were handed out a training loop has consumed.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <map>
#include <string>

#include "../error.hpp"

namespace aztorch::detail {

// Batches are cut from a stream in order, but several workers may bring them to the loop in another. So what is consumed
// is all before one position, and some batches beyond it.
class Consumed {
 public:
  // The positions from the last batch's end to `end` are one batch. They include those of samples that failed for good
  // on the way: they are done when the loop has gone past their error and consumed what follows.
  void hand_out(std::uint64_t end) {
    batches_.emplace(end, handed_out_);
    handed_out_ = end;
    if (batches_.size() > kBatches) batches_.erase(batches_.begin());
  }

  // The first sample of an epoch, or the first after a resume.
  void begin_at(std::uint64_t position) {
    if (begun_) return;
    begun_ = true;
    first_ = low_ = handed_out_ = position;
    raise_low();
  }

  // The batch with the sample at `position`.
  void mark(std::uint64_t position) {
    const auto batch = batches_.upper_bound(position);
    if (batch == batches_.end() || batch->second > position) {
      throw Error(AZT_STATUS_INVALID_ARGUMENT, "position " + std::to_string(position) +
                                                   " is in no batch of this epoch that is still to be consumed");
    }
    add(batch->second, batch->first);
    batches_.erase(batch);
    raise_low();
  }

  // The first position that is not consumed; false while nothing has been since the start.
  bool low(std::uint64_t& position) const noexcept {
    position = low_;
    return begun_ && low_ > first_;
  }

  // Beyond low().
  bool contains(std::uint64_t position) const {
    const auto after = beyond_.upper_bound(position);
    return after != beyond_.begin() && std::prev(after)->second > position;
  }

  // Ranges [begin, end), beyond low() and apart from each other.
  const std::map<std::uint64_t, std::uint64_t>& beyond() const noexcept { return beyond_; }

  void add(std::uint64_t begin, std::uint64_t end) {
    auto next = beyond_.lower_bound(begin);
    if (next != beyond_.begin() && std::prev(next)->second >= begin) --next;
    while (next != beyond_.end() && next->first <= end) {
      begin = std::min(begin, next->first);
      end = std::max(end, next->second);
      next = beyond_.erase(next);
    }
    beyond_.emplace(begin, end);
  }

 private:
  void raise_low() {
    while (!beyond_.empty() && beyond_.begin()->first <= low_) {
      low_ = std::max(low_, beyond_.begin()->second);
      beyond_.erase(beyond_.begin());
    }
  }

  // A loop that never marks anything must not fill the memory. No more can be resumed from than as many samples.
  static constexpr std::size_t kBatches = 65'536;

  bool begun_ = false;
  std::uint64_t first_ = 0;
  std::uint64_t low_ = 0;
  std::uint64_t handed_out_ = 0;
  std::map<std::uint64_t, std::uint64_t> batches_;  // end to begin
  std::map<std::uint64_t, std::uint64_t> beyond_;   // begin to end
};

}  // namespace aztorch::detail
