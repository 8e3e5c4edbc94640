// One blob, opened for reading or for writing, and the operations on blobs that need no open one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "client.hpp"

namespace aztorch {

namespace detail {

using BlobHandle = Handle<azt_blob, azt_blob_free>;

inline BlobHandle open_blob(const std::string& url, azt_blob_mode mode, const Client& client) {
  azt_blob* handle = nullptr;
  call(azt_blob_open, client.get(), c_string(url), mode, &handle);
  return BlobHandle(handle);
}

inline BlobHandle open_blob_in(const std::string& container_url, const std::string& blob_name, azt_blob_mode mode,
                               const Client& client) {
  azt_blob* handle = nullptr;
  call(azt_blob_open_in, client.get(), c_string(container_url), c_string(blob_name), mode, &handle);
  return BlobHandle(handle);
}

}  // namespace detail

// Bytes done and those in all (UINT64_MAX: not known). Called only on a thread that is inside a call on the blob; must not
// throw.
using ProgressCallback = std::function<void(std::uint64_t done, std::uint64_t total)>;

namespace detail {

inline void set_progress(azt_blob* blob, ProgressCallback callback) {
  if (!callback) {
    call(azt_blob_set_progress, blob, azt_progress_callback{nullptr}, static_cast<void*>(nullptr), Finalizer{nullptr});
    return;
  }
  auto owned = std::make_unique<ProgressCallback>(std::move(callback));
  const auto forward = [](void* user_data, std::uint64_t done, std::uint64_t total) {
    (*static_cast<ProgressCallback*>(user_data))(done, total);
  };
  call(azt_blob_set_progress, blob, azt_progress_callback{forward}, static_cast<void*>(owned.get()),
       Finalizer{finalize<ProgressCallback>});
  owned.release();
}

}  // namespace detail

enum class Whence : std::int32_t { set = 0, current = 1, end = 2 };

// A blob opened for reading, pinned to the version that was there: a blob replaced meanwhile is an error, never a mix.
class BlobReader {
 public:
  explicit BlobReader(const std::string& url, const Client& client = {})
      : handle_(detail::open_blob(url, AZT_BLOB_MODE_READ, client)) {}

  // Takes over a handle of the C ABI.
  explicit BlobReader(azt_blob* handle) noexcept : handle_(handle) {}

  // Joins the two, encodes the name and keeps the container URL's SAS.
  static BlobReader open_in(const std::string& container_url, const std::string& blob_name,
                            const Client& client = {}) {
    return BlobReader(detail::open_blob_in(container_url, blob_name, AZT_BLOB_MODE_READ, client).release());
  }

  // Nothing when the blob still has this ETag: one request that moves no blob bytes.
  static std::optional<BlobReader> open_if_changed(const std::string& url, const std::string& etag,
                                                   const Client& client = {}) {
    azt_blob* handle = nullptr;
    detail::call(azt_blob_open_if_changed, client.get(), detail::c_string(url), detail::c_string(etag), &handle);
    if (handle == nullptr) return std::nullopt;
    return BlobReader(handle);
  }

  // Returns less than `length` only at the end of the blob.
  std::size_t read(void* buffer, std::size_t length) {
    std::size_t count = 0;
    detail::call(azt_blob_read, handle_.get(), buffer, length, &count);
    return count;
  }

  // Moves no position, and may be called from many threads at once.
  std::size_t read_at(std::uint64_t offset, void* buffer, std::size_t length) const {
    std::size_t count = 0;
    detail::call(azt_blob_read_at, handle_.get(), offset, buffer, length, &count);
    return count;
  }

  std::uint64_t seek(std::int64_t offset, Whence whence = Whence::set) {
    std::uint64_t position = 0;
    detail::call(azt_blob_seek, handle_.get(), offset, static_cast<std::int32_t>(whence), &position);
    return position;
  }

  std::uint64_t tell() const {
    std::uint64_t position = 0;
    detail::call(azt_blob_tell, handle_.get(), &position);
    return position;
  }

  std::uint64_t size() const {
    std::uint64_t bytes = 0;
    detail::call(azt_blob_size, handle_.get(), &bytes);
    return bytes;
  }

  void close() { detail::call(azt_blob_close, handle_.get()); }

  // Ends what is running on this blob, for good: it throws AZT_STATUS_CANCELLED. From any thread.
  void cancel() const noexcept { azt_blob_cancel(handle_.get()); }

  // How the calls on this blob get on; an empty callback ends that.
  void set_progress(ProgressCallback callback) { detail::set_progress(handle_.get(), std::move(callback)); }

  std::string etag() const { return azt_blob_etag(handle_.get()); }
  std::string url() const { return azt_blob_url(handle_.get()); }  // without query
  azt_blob* get() const noexcept { return handle_.get(); }

 private:
  detail::BlobHandle handle_;
};

// A blob opened for writing. Nothing is visible until close(), which publishes all of it at once; a writer that goes
// away without close() publishes nothing, so that an exception in the middle leaves the old blob as it was.
class BlobWriter {
 public:
  // With AZT_BLOB_MODE_CREATE an existing blob is never replaced.
  explicit BlobWriter(const std::string& url, const Client& client = {}, azt_blob_mode mode = AZT_BLOB_MODE_WRITE)
      : handle_(detail::open_blob(url, mode, client)) {}

  // Takes over a handle of the C ABI.
  explicit BlobWriter(azt_blob* handle) noexcept : handle_(handle) {}

  static BlobWriter open_in(const std::string& container_url, const std::string& blob_name, const Client& client = {},
                            azt_blob_mode mode = AZT_BLOB_MODE_WRITE) {
    return BlobWriter(detail::open_blob_in(container_url, blob_name, mode, client).release());
  }

  // Publish only over this version of the blob.
  void set_if_match(const std::string& etag) {
    detail::call(azt_blob_set_if_match, handle_.get(), detail::c_string(etag));
  }

  // Takes all or throws.
  void write(const void* data, std::size_t length) { detail::call(azt_blob_write, handle_.get(), data, length); }

  // Everything written so far has reached the service; nothing is published.
  void flush() { detail::call(azt_blob_flush, handle_.get()); }

  void close() { detail::call(azt_blob_close, handle_.get()); }

  // Ends what is running on this blob, for good: it throws AZT_STATUS_CANCELLED. Nothing is published. From any thread.
  void cancel() const noexcept { azt_blob_cancel(handle_.get()); }

  // How the calls on this blob get on; an empty callback ends that.
  void set_progress(ProgressCallback callback) { detail::set_progress(handle_.get(), std::move(callback)); }

  std::uint64_t tell() const {
    std::uint64_t position = 0;
    detail::call(azt_blob_tell, handle_.get(), &position);
    return position;
  }

  std::string etag() const { return azt_blob_etag(handle_.get()); }  // empty until closed, then the published one
  std::string url() const { return azt_blob_url(handle_.get()); }    // without query
  azt_blob* get() const noexcept { return handle_.get(); }

 private:
  detail::BlobHandle handle_;
};

inline bool exists(const std::string& url, const Client& client = {}) {
  bool found = false;
  detail::call(azt_blob_exists, client.get(), detail::c_string(url), &found);
  return found;
}

// azt_blob_delete; `delete` is a keyword of C++.
inline void remove(const std::string& url, const Client& client = {}) {
  detail::call(azt_blob_delete, client.get(), detail::c_string(url));
}

// Parallel; into a temporary file that is renamed, so that a failure leaves nothing behind.
inline void download(const std::string& url, const std::string& path, const Client& client = {}) {
  detail::call(azt_blob_download, client.get(), detail::c_string(url), detail::c_string(path));
}

inline void upload(const std::string& path, const std::string& url, const Client& client = {},
                   azt_blob_mode mode = AZT_BLOB_MODE_WRITE) {
  detail::call(azt_blob_upload, client.get(), detail::c_string(path), detail::c_string(url), mode);
}

inline void create_container(const std::string& container_url, const Client& client = {}) {
  detail::call(azt_container_create, client.get(), detail::c_string(container_url));
}

}  // namespace aztorch
