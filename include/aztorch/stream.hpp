// Stream: many blobs in sequence, listed while they are read, with read-ahead.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "client.hpp"
#include "dataset.hpp"
#include "detail/c_api.hpp"
#include "sample.hpp"

namespace aztorch {

/// The part of the blobs that one of `count` readers gets: the blobs `index`, `index + count`, `index + 2 * count`, …
/// of the listing.
struct Shard {
  std::size_t index = 0;  ///< This reader: 0 … count - 1.
  std::size_t count = 1;  ///< The number of readers.
};

/// An iterable dataset: samples one after the other, listed while they are read, and fetched ahead within the client's
/// memory limit.
///
/// Several threads may call next(), reset(), cursor() and resume() at once; each sample goes to one caller. Movable,
/// not copyable. In a forked child a stream starts with its first sample.
class Stream {
 public:
  /// Streams the blobs of a container whose names begin with `prefix`. Sends nothing: next() throws the error of a
  /// missing container. Throws AZT_STATUS_INVALID_ARGUMENT for a bad URL or shard.
  static Stream list(const std::string& container_url, const std::string& prefix = "", Shard shard = {},
                     const Client& client = {}) {
    return make(azt_stream_list, client.get(), detail::c_string(container_url), detail::c_string(prefix), shard.index,
                shard.count);
  }

  /// Streams the blobs of these URLs, in this order. Sends nothing. Throws AZT_STATUS_INVALID_ARGUMENT for a bad URL or
  /// shard.
  static Stream from_urls(const std::vector<std::string>& urls, Shard shard = {}, const Client& client = {}) {
    return make(azt_stream_from_urls, client.get(), detail::c_strings(urls).data(), urls.size(), shard.index,
                shard.count);
  }

  /// Streams the entries of a dataset, in its order. Sends nothing. The dataset may be destroyed first. Throws
  /// AZT_STATUS_INVALID_ARGUMENT for a bad shard.
  static Stream from_dataset(const Dataset& dataset, Shard shard = {}) {
    return make(azt_stream_from_dataset, dataset.get(), shard.index, shard.count);
  }

  /// Takes ownership of a handle of the C API.
  explicit Stream(azt_stream* handle) noexcept : handle_(handle) {}

  /// Shuffles the names, after sharding, through a buffer of `buffer_names` names. The same seed gives the same order;
  /// each epoch has an order of its own. Returns the stream. Throws AZT_STATUS_UNSUPPORTED after the first next() or
  /// resume().
  Stream& set_shuffle(std::size_t buffer_names, std::uint64_t seed) {
    detail::call(azt_stream_set_shuffle, handle_.get(), buffer_names, seed);
    return *this;
  }

  /// Returns samples without their bytes: only the listing is fetched, and Sample::open() opens a sample to read the
  /// parts that are needed. Returns the stream. Throws AZT_STATUS_UNSUPPORTED after the first next() or resume().
  Stream& set_lazy() {
    detail::call(azt_stream_set_lazy, handle_.get());
    return *this;
  }

  /// Returns the next sample, or std::nullopt at the end of the epoch and in every later call until reset(). Blocks.
  /// Throws Error. After a permanent failure (missing, denied) the sample is skipped; after a temporary one (timeout,
  /// throttled) the next call tries it again.
  std::optional<Sample> next() const {
    azt_sample* sample = nullptr;
    detail::call(azt_stream_next, get(), &sample);
    if (sample == nullptr) return std::nullopt;
    return Sample(sample);
  }

  /// Starts the next epoch, even before the end of the current one. A container is listed again. Sends nothing. Throws
  /// Error.
  void reset() const { detail::call(azt_stream_reset, get()); }

  /// The place after the last sample that next() returned, as one line of text for resume(). Sends nothing. Throws
  /// Error.
  std::string cursor() const { return cursor(UINT64_MAX); }

  /// The place after the sample with this position, as one line of text for resume(). Sends nothing. Throws
  /// AZT_STATUS_OUT_OF_RANGE for a position that was not returned yet, or is not among the last 65,536.
  std::string cursor(std::uint64_t after_position) const {
    return detail::call_for_text(azt_stream_cursor, get(), after_position);
  }

  /// Continues at a cursor, which may come from another process. Sends nothing. Throws AZT_STATUS_INVALID_ARGUMENT when
  /// the cursor is damaged, or when its listing, shard or shuffle differs from this stream's.
  void resume(const std::string& cursor) const { detail::call(azt_stream_resume, get(), detail::c_string(cursor)); }

  /// Cancels this stream for good: running and later calls of next() throw AZT_STATUS_CANCELLED. From any thread; does
  /// not block.
  void cancel() const noexcept { azt_stream_cancel(get()); }

  /// The handle for functions of the C API. The stream keeps it.
  const azt_stream* get() const noexcept { return handle_.get(); }

 private:
  template <typename Function, typename... Arguments>
  static Stream make(Function function, Arguments... arguments) {
    azt_stream* handle = nullptr;
    detail::call(function, arguments..., &handle);
    return Stream(handle);
  }

  detail::Handle<azt_stream, azt_stream_free> handle_;
};

}  // namespace aztorch
