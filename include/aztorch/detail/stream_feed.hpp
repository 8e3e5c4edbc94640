// A stream as several workers share it: cut into batches, and resumed at what the training loop has consumed.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "../stream.hpp"
#include "consumed.hpp"
#include "hash.hpp"

namespace aztorch::detail {

class StreamFeed {
 public:
  // A container's listing may change before a resume, which shifts positions; in a table of entries names may repeat.
  enum class KnownBy { name, position };

  StreamFeed(Stream stream, KnownBy known_by) : stream_(std::move(stream)), known_by_(known_by) {}

  // The next samples; fewer at the end of the epoch, then none, again and again. The lock is held while they come: it is
  // the library that fetches in parallel and ahead, not the workers.
  std::vector<Sample> take(std::size_t count) {
    const std::lock_guard<std::mutex> lock(mutex_);
    at_start_ = false;
    if (!start_) start_ = stream_.cursor();
    // What came before an error stays in `taken_`, for the next batch.
    while (taken_.size() < count) {
      std::optional<Sample> sample = stream_.next();
      if (!sample) break;
      const Place place = place_of(*sample);
      const bool skip = skip_.erase(key(place)) > 0;
      consumed_.hand_out(place, batch_, skip);
      if (!skip) taken_.push_back(*std::move(sample));
    }
    ++batch_;
    return std::exchange(taken_, {});
  }

  // Begins the next epoch. But the first of all, and the place that was just resumed, are still to be read: torch's
  // loader resets before each epoch.
  void reset() {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (std::exchange(at_start_, false)) return;
    stream_.reset();
    forget();
  }

  void mark_consumed(std::uint64_t position) {
    const std::lock_guard<std::mutex> lock(mutex_);
    consumed_.mark(position);
  }

  // One line of text: the stream's cursor, after what lies behind it and is consumed already, if anything does.
  std::string cursor() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    std::vector<Place> skip = consumed_.behind();
    for (const auto& [key, place] : skip_) skip.push_back(place);
    std::sort(skip.begin(), skip.end(), [](const Place& a, const Place& b) { return a.position < b.position; });
    std::ostringstream text;
    for (const Place& place : skip) text << (&place == skip.data() ? kSkip : ",") << place.position << ':' << place.name;
    if (!skip.empty()) text << ' ';
    if (const auto up_to = consumed_.up_to()) {
      text << stream_.cursor(*up_to);
    } else {
      text << (start_ ? *start_ : stream_.cursor());
    }
    return text.str();
  }

  void resume(const std::string& cursor) {
    const std::lock_guard<std::mutex> lock(mutex_);
    std::map<std::uint64_t, Place> skip;
    const std::string own = read_skip(cursor, skip);
    stream_.resume(own);
    forget();
    skip_ = std::move(skip);
    at_start_ = true;
  }

 private:
  static constexpr const char* kSkip = "skip=";

  static Place place_of(const Sample& sample) {
    return {sample.position(), Hash().add(azt_sample_blob_name(sample.get())).value()};
  }

  std::uint64_t key(const Place& place) const { return known_by_ == KnownBy::name ? place.name : place.position; }

  void forget() {
    taken_.clear();
    start_.reset();
    consumed_ = {};
    skip_.clear();
  }

  // Returns the rest, which is the stream's.
  std::string read_skip(const std::string& cursor, std::map<std::uint64_t, Place>& skip) const {
    const std::string prefix = kSkip;
    if (cursor.compare(0, prefix.size(), prefix) != 0) return cursor;
    std::istringstream text(cursor.substr(prefix.size()));
    for (char separator = ','; separator != ' ';) {
      Place place{};
      char colon = 0;
      text >> place.position >> colon >> place.name >> std::noskipws >> separator >> std::skipws;
      if (!text || colon != ':' || (separator != ',' && separator != ' ')) {
        throw Error(AZT_STATUS_INVALID_ARGUMENT, "this is no cursor of an IterableBlobDataset");
      }
      skip.emplace(key(place), place);
    }
    std::string rest;
    std::getline(text, rest);
    return rest;
  }

  mutable std::mutex mutex_;
  Stream stream_;
  const KnownBy known_by_;
  bool at_start_ = true;
  std::vector<Sample> taken_;
  std::uint64_t batch_ = 0;
  std::optional<std::string> start_;  // the cursor before the first sample since the last reset or resume
  Consumed consumed_;
  std::map<std::uint64_t, Place> skip_;  // consumed before the resume, and not met again yet
};

}  // namespace aztorch::detail
