// A stream as several workers share it: cut into batches, and resumed at what the training loop has consumed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <optional>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "../stream.hpp"
#include "consumed.hpp"

namespace aztorch::detail {

class StreamFeed {
 public:
  explicit StreamFeed(Stream stream) : stream_(std::move(stream)) {}

  // The next samples, of consecutive positions; fewer at the end of the epoch, then none, again and again. The lock is
  // held while they come: it is the library that fetches ahead and in parallel, not the workers.
  std::vector<Sample> take(std::size_t count) {
    const std::lock_guard<std::mutex> lock(mutex_);
    at_start_ = false;
    if (!start_) start_ = stream_.cursor();
    // What comes before an error stays in `held_`, for the next batch.
    while (held_.size() < count) {
      std::optional<Sample> sample = stream_.next();
      if (!sample) break;
      consumed_.begin_at(sample->position());
      if (!consumed_.contains(sample->position())) held_.push_back(*std::move(sample));
    }
    if (!held_.empty() && count > 0) consumed_.hand_out(held_.back().position() + 1);
    return std::exchange(held_, {});
  }

  // Begins the next epoch. But the first of all, and the position that was just restored, are still to be read: torch's
  // loader resets before each epoch.
  void reset() {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (!std::exchange(at_start_, false)) {
      stream_.reset();
      forget();
    }
  }

  void mark_consumed(std::uint64_t position) {
    const std::lock_guard<std::mutex> lock(mutex_);
    consumed_.mark(position);
  }

  // One line of text: the stream's cursor, after the ranges beyond it that are consumed already, if there are any.
  std::string cursor() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    std::string text;
    for (const auto& [begin, end] : consumed_.beyond()) {
      text += (text.empty() ? kSkip : ",") + std::to_string(begin) + "-" + std::to_string(end);
    }
    if (!text.empty()) text += ' ';
    std::uint64_t low = 0;
    if (consumed_.low(low)) return text + stream_.cursor(low - 1);
    return text + (start_ ? *start_ : stream_.cursor());
  }

  void resume(const std::string& cursor) {
    const std::lock_guard<std::mutex> lock(mutex_);
    Consumed consumed;
    const std::string own = read_skip(cursor, consumed);
    stream_.resume(own);
    forget();
    start_ = own;
    consumed_ = std::move(consumed);
    at_start_ = true;
  }

 private:
  static constexpr const char* kSkip = "skip=";

  void forget() {
    held_.clear();
    start_.reset();
    consumed_ = {};
  }

  // Returns the rest, which is the stream's.
  static std::string read_skip(const std::string& cursor, Consumed& consumed) {
    const std::string skip = kSkip;
    if (cursor.compare(0, skip.size(), skip) != 0) return cursor;
    std::istringstream text(cursor.substr(skip.size()));
    for (char separator = ','; separator != ' ';) {
      std::uint64_t begin = 0, end = 0;
      char dash = 0;
      text >> begin >> dash >> end >> std::noskipws >> separator >> std::skipws;
      if (!text || dash != '-' || begin >= end || (separator != ',' && separator != ' ')) {
        throw Error(AZT_STATUS_INVALID_ARGUMENT, "not the cursor of an IterableBlobDataset: " + cursor);
      }
      consumed.add(begin, end);
    }
    std::string rest;
    std::getline(text, rest);
    return rest;
  }

  mutable std::mutex mutex_;
  Stream stream_;
  bool at_start_ = true;
  std::vector<Sample> held_;
  std::optional<std::string> start_;  // the cursor of what was first taken since the last reset or resume
  Consumed consumed_;
};

}  // namespace aztorch::detail
