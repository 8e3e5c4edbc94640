// The state that the copies of a PrefetchSampler share.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <mutex>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <torch/serialize/archive.h>

#include "../../dataset.hpp"
#include "../../detail/fnv1a_hash.hpp"
#include "../../error.hpp"
#include "../optional.hpp"
#include "archive_numbers.hpp"

namespace aztorch::detail {

/// A hash of the names of all entries in their order, which identifies a dataset.
inline std::uint64_t fingerprint(const Dataset& dataset) {
  Fnv1aHash hash;
  for (std::size_t index = 0; index < dataset.size(); ++index) {
    hash.add(azt_dataset_container_name(dataset.get(), index)).add(azt_dataset_blob_name(dataset.get(), index));
  }
  return hash.value();
}

/// Whether a sampler has set_epoch().
template <typename Inner, typename = void>
inline constexpr bool kHasEpoch = false;
template <typename Inner>
inline constexpr bool kHasEpoch<Inner, std::void_t<decltype(std::declval<Inner&>().set_epoch(std::size_t{}))>> = true;

/// Whether a sampler has position() and seek(). Its position may then differ from the number of indices that it gave
/// out.
template <typename Inner, typename = void>
inline constexpr bool kIsSeekable = false;
template <typename Inner>
inline constexpr bool kIsSeekable<Inner, std::void_t<decltype(std::declval<Inner&>().seek(std::size_t{})),
                                                     decltype(std::declval<Inner&>().position())>> = true;

/// Draws batches from an inner sampler ahead of the loader, and tells the dataset to prefetch them. Implements the
/// member functions of PrefetchSampler with the same names. Thread-safe.
template <typename Inner>
class PrefetchSamplerState {
 public:
  PrefetchSamplerState(Dataset blobs, bool prefetch, Inner inner, std::size_t max_samples, std::uint64_t max_bytes)
      : blobs_(std::move(blobs)),
        prefetch_(prefetch),
        max_samples_(max_samples),
        max_bytes_(max_bytes),
        inner_(std::move(inner)),
        epoch_start_(inner_) {
    clear_batches();
  }

  void set_epoch(std::size_t epoch) {
    const std::lock_guard<std::mutex> lock(mutex_);
    next_epoch_ = epoch;
  }

  std::size_t epoch() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    return next_epoch_.value_or(epoch_);
  }

  std::size_t position() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    return consumed_;
  }

  void reset(Optional<std::size_t> new_size) {
    const std::lock_guard<std::mutex> lock(mutex_);
    const std::size_t epoch = next_epoch_.value_or(at_start_ ? epoch_ : epoch_ + 1);
    const bool keep_position = restored_ && epoch == epoch_ && !new_size;
    next_epoch_.reset();
    at_start_ = restored_ = false;
    if (keep_position) return;
    epoch_ = epoch;
    if constexpr (kHasEpoch<Inner>) inner_.set_epoch(epoch);
    inner_.reset(new_size);
    epoch_start_ = inner_;
    clear_batches();
  }

  Optional<std::vector<std::size_t>> next(std::size_t batch_size) {
    const std::lock_guard<std::mutex> lock(mutex_);
    at_start_ = restored_ = false;
    draw_ahead(batch_size);
    if (ahead_.empty()) return {};
    Batch batch = std::move(ahead_.front());
    ahead_.pop_front();
    ahead_samples_ -= batch.indices.size();
    ahead_bytes_ -= batch.bytes;
    delivered_.push_back({batch.indices.front(), batch.end});
    return std::move(batch.indices);
  }

  void mark_consumed() {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (delivered_.empty()) throw Error(AZT_STATUS_INVALID_ARGUMENT, "no batch of this epoch is left to be consumed");
    consumed_ = delivered_.front().end;
    delivered_.pop_front();
  }

  /// Marks the batch that begins with this index, and all before it.
  void mark_consumed_to(std::size_t first_index) {
    const std::lock_guard<std::mutex> lock(mutex_);
    std::size_t count = 0;
    while (count < delivered_.size() && delivered_[count].first_index != first_index) ++count;
    if (count == delivered_.size()) {
      throw Error(AZT_STATUS_INVALID_ARGUMENT, "no batch of this epoch that is left to be consumed begins with index " +
                                                   std::to_string(first_index));
    }
    consumed_ = delivered_[count].end;
    delivered_.erase(delivered_.begin(), delivered_.begin() + static_cast<std::ptrdiff_t>(count) + 1);
  }

  void save(torch::serialize::OutputArchive& archive) const {
    const std::lock_guard<std::mutex> lock(mutex_);
    write_number(archive, "dataset", fingerprint_of_blobs());
    write_number(archive, "epoch", epoch_);
    write_number(archive, "position", consumed_);
    torch::serialize::OutputArchive sampler;
    epoch_start_.save(sampler);
    archive.write("sampler", sampler);
  }

  void load(torch::serialize::InputArchive& archive) {
    const std::lock_guard<std::mutex> lock(mutex_);
    expect_number(archive, "dataset", fingerprint_of_blobs());
    const std::size_t epoch = read_number(archive, "epoch");
    const std::size_t position = read_number(archive, "position");
    torch::serialize::InputArchive sampler;
    archive.read("sampler", sampler);
    Inner start = inner_;
    start.load(sampler);
    Inner inner = start;
    seek(inner, position);

    epoch_start_ = std::move(start);
    inner_ = std::move(inner);
    epoch_ = epoch;
    clear_batches();
    drawn_ = consumed_ = position;
    next_epoch_.reset();
    at_start_ = restored_ = true;
  }

 private:
  struct Batch {
    std::vector<std::size_t> indices;
    std::size_t end;  // the sampler's position after the batch
    std::uint64_t bytes;
  };

  struct Delivered {
    std::size_t first_index;
    std::size_t end;
  };

  static std::size_t position_of(const Inner& inner) {
    if constexpr (kIsSeekable<Inner>) {
      return inner.position();
    } else {
      return 0;
    }
  }

  static void seek(Inner& inner, std::size_t position) {
    if constexpr (kIsSeekable<Inner>) {
      inner.seek(position);
    } else {
      while (position > 0) {
        const auto passed = inner.next(position);
        if (!passed || passed->empty()) {
          throw Error(AZT_STATUS_INVALID_ARGUMENT, "the saved position is past the end of this sampler");
        }
        position -= std::min(position, passed->size());
      }
    }
  }

  /// Whether at least this many samples or bytes are drawn and not delivered.
  bool is_ahead(std::size_t samples, std::uint64_t bytes) const {
    return !ahead_.empty() && (ahead_samples_ >= samples || ahead_bytes_ >= bytes);
  }

  /// Draws batches up to the limits, but only when at most half of the limits is in use: few hints of many indices cost
  /// less.
  void draw_ahead(std::size_t batch_size) {
    if (exhausted_ || is_ahead(max_samples_ / 2, max_bytes_ / 2)) return;
    std::vector<std::size_t> hint;
    while (!exhausted_ && !is_ahead(max_samples_, max_bytes_)) {
      auto indices = inner_.next(batch_size);
      if (!indices || indices->empty()) {
        exhausted_ = true;
        break;
      }
      drawn_ = kIsSeekable<Inner> ? position_of(inner_) : drawn_ + indices->size();
      const std::uint64_t bytes = bytes_of(*indices);
      ahead_samples_ += indices->size();
      ahead_bytes_ += bytes;
      hint.insert(hint.end(), indices->begin(), indices->end());
      ahead_.push_back({*std::move(indices), drawn_, bytes});
    }
    if (prefetch_ && !hint.empty()) blobs_.prefetch(hint);
  }

  /// The sum of the sizes that are known.
  std::uint64_t bytes_of(const std::vector<std::size_t>& indices) const {
    std::uint64_t bytes = 0;
    for (const std::size_t index : indices) {
      const std::uint64_t size = blobs_.blob_size(index);
      if (size != UINT64_MAX) bytes += size;
    }
    return bytes;
  }

  void clear_batches() {
    if (prefetch_ && !ahead_.empty()) blobs_.prefetch({});  // withdraws the hints
    ahead_.clear();
    delivered_.clear();
    ahead_samples_ = 0;
    ahead_bytes_ = 0;
    exhausted_ = false;
    drawn_ = consumed_ = position_of(inner_);
  }

  std::uint64_t fingerprint_of_blobs() const {
    if (!fingerprint_) fingerprint_ = fingerprint(blobs_);
    return *fingerprint_;
  }

  mutable std::mutex mutex_;
  const Dataset blobs_;
  const bool prefetch_;
  const std::size_t max_samples_;
  const std::uint64_t max_bytes_;
  mutable std::optional<std::uint64_t> fingerprint_;  // of blobs_, computed when it is needed

  Inner inner_;
  Inner epoch_start_;  // inner_ as it was at the start of the epoch
  std::size_t epoch_ = 0;
  std::optional<std::size_t> next_epoch_;
  bool at_start_ = true;   // of the first epoch, or where load() continued
  bool restored_ = false;  // by load(), and nothing was drawn since

  std::deque<Batch> ahead_;  // drawn, and not delivered yet
  std::size_t ahead_samples_ = 0;
  std::uint64_t ahead_bytes_ = 0;
  bool exhausted_ = false;
  std::size_t drawn_ = 0;  // inner_'s position
  std::deque<Delivered> delivered_;  // to the loader, and not consumed yet
  std::size_t consumed_ = 0;
};

}  // namespace aztorch::detail
