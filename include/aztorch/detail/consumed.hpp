// Which of the samples that were handed out a training loop has consumed.
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

// A sample of a stream: its position, and a number for its name.
struct Place {
  std::uint64_t position;
  std::uint64_t name;
};

// Batches are cut from a stream in order, but several workers may bring them to the loop in another. So what is consumed
// is everything up to one position, and some batches behind it.
class Consumed {
 public:
  // In the order of their positions.
  void hand_out(Place place, std::uint64_t batch, bool consumed = false) {
    if (open_.size() == kMostOpen) {
      open_.pop_front();
      too_many_ = true;
    }
    open_.push_back({place, batch, consumed});
    advance();
  }

  // The batch that this position is in.
  void mark(std::uint64_t position) {
    const auto before = [](const Open& open, std::uint64_t other) { return open.place.position < other; };
    auto open = std::lower_bound(open_.begin(), open_.end(), position, before);
    if (open == open_.end() || open->place.position != position || open->consumed) {
      throw Error(AZT_STATUS_INVALID_ARGUMENT, "the sample at position " + std::to_string(position) +
                                                   " is in no batch of this epoch that is still to be consumed");
    }
    const std::uint64_t batch = open->batch;
    while (open != open_.begin() && (open - 1)->batch == batch) --open;
    for (; open != open_.end() && open->batch == batch; ++open) open->consumed = true;
    advance();
  }

  // Everything up to this position is consumed; nothing while the very first sample is not.
  std::optional<std::uint64_t> up_to() const {
    if (!too_many_) return up_to_;
    throw Error(AZT_STATUS_OUT_OF_RANGE, "more than " + std::to_string(kMostOpen) +
                                             " samples were handed out and not marked as consumed");
  }

  std::vector<Place> behind() const {
    std::vector<Place> places;
    for (const Open& open : open_) {
      if (open.consumed) places.push_back(open.place);
    }
    return places;
  }

 private:
  struct Open {
    Place place;
    std::uint64_t batch;
    bool consumed;
  };

  void advance() {
    for (; !open_.empty() && open_.front().consumed; open_.pop_front()) up_to_ = open_.front().place.position;
  }

  // A stream's cursors go back as far. It also bounds the memory where a loop marks nothing.
  static constexpr std::size_t kMostOpen = 65'536;

  std::deque<Open> open_;  // from the first one on that is not consumed
  std::optional<std::uint64_t> up_to_;
  bool too_many_ = false;
};

}  // namespace aztorch::detail
