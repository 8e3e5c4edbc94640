// A stream that several workers share. It is cut into batches, and resumes after the samples that the training loop has
// consumed.
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
#include "consumption_tracker.hpp"
#include "fnv1a_hash.hpp"

namespace aztorch::detail {

/// Cuts a stream into batches for several workers. Thread-safe. Its cursor is a stream's cursor with a prefix: the text
/// "skip=POSITION:NAME_HASH,… " lists the samples that come later in the stream and are consumed already.
class BatchedStream {
 public:
  /// How a sample is recognised after a resume. By name, for a container: positions shift when its listing changes. By
  /// position, for a list of URLs or entries: names may repeat.
  enum class SampleKey { name, position };

  BatchedStream(Stream stream, SampleKey sample_key) : stream_(std::move(stream)), sample_key_(sample_key) {}

  /// Takes the next `count` samples; fewer at the end of the epoch, then none until reset(). Holds the lock meanwhile:
  /// the library fetches in parallel and ahead, the workers do not need to. Throws Error; the next batch then begins
  /// with the samples that were taken before the error.
  std::vector<Sample> take(std::size_t count) {
    const std::lock_guard<std::mutex> lock(mutex_);
    at_start_ = false;
    if (!start_cursor_) start_cursor_ = stream_.cursor();
    while (taken_.size() < count) {
      std::optional<Sample> sample = stream_.next();
      if (!sample) break;
      const SampleId id = id_of(*sample);
      const bool skip = skip_.erase(key(id)) > 0;
      tracker_.add_delivered(id, batch_, skip);
      if (!skip) taken_.push_back(*std::move(sample));
    }
    ++batch_;
    return std::exchange(taken_, {});
  }

  /// Starts the next epoch. torch's loader calls it before each epoch, so the very first call, and the first after
  /// resume(), keep the place.
  void reset() {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (std::exchange(at_start_, false)) return;
    stream_.reset();
    clear();
  }

  /// Marks the whole batch that the sample at `position` belongs to. Throws AZT_STATUS_INVALID_ARGUMENT.
  void mark_consumed(std::uint64_t position) {
    const std::lock_guard<std::mutex> lock(mutex_);
    tracker_.mark_batch_consumed(position);
  }

  /// The consumed samples as one line of text, for resume().
  std::string cursor() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    std::vector<SampleId> skip = tracker_.consumed_beyond();
    for (const auto& [key, id] : skip_) skip.push_back(id);
    std::sort(skip.begin(), skip.end(), [](const SampleId& a, const SampleId& b) { return a.position < b.position; });
    std::ostringstream text;
    for (const SampleId& id : skip) text << (&id == skip.data() ? kSkip : ",") << id.position << ':' << id.name_hash;
    if (!skip.empty()) text << ' ';
    if (const auto up_to = tracker_.consumed_up_to()) {
      text << stream_.cursor(*up_to);
    } else {
      text << (start_cursor_ ? *start_cursor_ : stream_.cursor());
    }
    return text.str();
  }

  /// Continues at a cursor: samples that were not consumed come next. Throws AZT_STATUS_INVALID_ARGUMENT for a cursor
  /// of another stream, and then changes nothing.
  void resume(const std::string& cursor) {
    const std::lock_guard<std::mutex> lock(mutex_);
    std::map<std::uint64_t, SampleId> skip;
    const std::string stream_cursor = parse_skip(cursor, skip);
    stream_.resume(stream_cursor);
    clear();
    skip_ = std::move(skip);
    at_start_ = true;
  }

 private:
  static constexpr const char* kSkip = "skip=";

  static SampleId id_of(const Sample& sample) {
    return {sample.position(), Fnv1aHash().add(azt_sample_blob_name(sample.get())).value()};
  }

  std::uint64_t key(const SampleId& id) const { return sample_key_ == SampleKey::name ? id.name_hash : id.position; }

  void clear() {
    taken_.clear();
    start_cursor_.reset();
    tracker_ = {};
    skip_.clear();
  }

  /// Parses the "skip=" part into `skip`, and returns the rest: the stream's own cursor.
  std::string parse_skip(const std::string& cursor, std::map<std::uint64_t, SampleId>& skip) const {
    const std::string prefix = kSkip;
    if (cursor.compare(0, prefix.size(), prefix) != 0) return cursor;
    std::istringstream text(cursor.substr(prefix.size()));
    for (char separator = ','; separator != ' ';) {
      SampleId id{};
      char colon = 0;
      text >> id.position >> colon >> id.name_hash >> std::noskipws >> separator >> std::skipws;
      if (!text || colon != ':' || (separator != ',' && separator != ' ')) {
        throw Error(AZT_STATUS_INVALID_ARGUMENT, "this is not the cursor of an IterableBlobDataset");
      }
      skip.emplace(key(id), id);
    }
    std::string rest;
    std::getline(text, rest);
    return rest;
  }

  mutable std::mutex mutex_;
  Stream stream_;
  const SampleKey sample_key_;
  bool at_start_ = true;  // of the first epoch, or where resume() continued
  std::vector<Sample> taken_;
  std::uint64_t batch_ = 0;
  std::optional<std::string> start_cursor_;  // before the first sample since the last reset or resume
  ConsumptionTracker tracker_;
  std::map<std::uint64_t, SampleId> skip_;  // consumed before the resume, and not seen again yet
};

}  // namespace aztorch::detail
