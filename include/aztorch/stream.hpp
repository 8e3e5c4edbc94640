// Stream: many blobs in sequence, listed while they are read, with read-ahead.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "client.hpp"
#include "dataset.hpp"
#include "sample.hpp"

namespace aztorch {

// The part of one among several readers of the same blobs: of all blobs numbers index, index + count, index + 2 count, …
struct Shard {
  std::size_t index = 0;
  std::size_t count = 1;
};

// next(), reset(), cursor() and resume() may be called from many threads at once; each sample goes to one caller.
class Stream {
 public:
  static Stream list(const std::string& container_url, const std::string& prefix = "", Shard shard = {},
                     const Client& client = {}) {
    return make(azt_stream_list, client.get(), detail::c_string(container_url), detail::c_string(prefix), shard.index,
                shard.count);
  }

  static Stream from_urls(const std::vector<std::string>& urls, Shard shard = {}, const Client& client = {}) {
    return make(azt_stream_from_urls, client.get(), detail::c_strings(urls).data(), urls.size(), shard.index,
                shard.count);
  }

  static Stream from_dataset(const Dataset& dataset, Shard shard = {}) {
    return make(azt_stream_from_dataset, dataset.get(), shard.index, shard.count);
  }

  // Takes over a handle of the C ABI.
  explicit Stream(azt_stream* handle) noexcept : handle_(handle) {}

  // Shuffles names, in a buffer of that many, after sharding; each epoch otherwise. Before the first next().
  Stream& set_shuffle(std::size_t buffer_names, std::uint64_t seed) {
    detail::call(azt_stream_set_shuffle, handle_.get(), buffer_names, seed);
    return *this;
  }

  // Samples come without their bytes: nothing is fetched but the listing. Before the first next().
  Stream& set_lazy() {
    detail::call(azt_stream_set_lazy, handle_.get());
    return *this;
  }

  // Nothing at the end of the epoch, again and again. A sample that failed for good is thrown once and passed; one that
  // failed for now is tried again by the next call.
  std::optional<Sample> next() const {
    azt_sample* sample = nullptr;
    detail::call(azt_stream_next, get(), &sample);
    if (sample == nullptr) return std::nullopt;
    return Sample(sample);
  }

  // Begins the next epoch.
  void reset() const { detail::call(azt_stream_reset, get()); }

  // Where a stream that resumes goes on: after the last sample given out; one line of text.
  std::string cursor() const { return cursor(UINT64_MAX); }

  // The same after the sample with this position, one of the last 65,536.
  std::string cursor(std::uint64_t after_position) const {
    return detail::call_for_text(azt_stream_cursor, get(), after_position);
  }

  // Goes on there, in another process too. The listing, shuffle, and shard have to be those of the cursor.
  void resume(const std::string& cursor) const { detail::call(azt_stream_resume, get(), detail::c_string(cursor)); }

  // Ends what is running on this stream, for good: it throws AZT_STATUS_CANCELLED. From any thread.
  void cancel() const noexcept { azt_stream_cancel(get()); }

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
