// BlobReader: a blob opened for reading.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>

#include "client.hpp"
#include "detail/c_api.hpp"
#include "detail/open_blob.hpp"
#include "progress.hpp"

namespace aztorch {

/// The place from which an offset of BlobReader::seek() counts.
enum class Whence : std::int32_t {
  set = 0,      ///< The start of the blob.
  current = 1,  ///< The current position.
  end = 2,      ///< The end of the blob.
};

/// A blob opened for reading, with a position.
///
/// All reads are of the version that was opened: when the blob is replaced, they throw AZT_STATUS_MODIFIED. Movable,
/// not copyable. Const member functions may be called by several threads at once, the others by one thread at a time.
/// In a forked child it throws AZT_STATUS_FORKED.
class BlobReader {
 public:
  /// Opens a blob. Sends one request and blocks until its response begins. Throws Error: AZT_STATUS_NOT_FOUND for a
  /// missing blob.
  explicit BlobReader(const std::string& url, const Client& client = {})
      : handle_(detail::open_blob(url, AZT_BLOB_MODE_READ, client)) {}

  /// Takes ownership of a reader of the C API.
  explicit BlobReader(azt_blob* handle) noexcept : handle_(handle) {}

  /// Opens the blob of a container that has this name. The name is percent-encoded here; a SAS in the container's URL
  /// is used. Blocks. Throws Error: AZT_STATUS_NOT_FOUND for a missing blob.
  static BlobReader open_in(const std::string& container_url, const std::string& blob_name,
                            const Client& client = {}) {
    return BlobReader(detail::open_blob_in(container_url, blob_name, AZT_BLOB_MODE_READ, client).release());
  }

  /// Opens a blob if its ETag is not `etag`. If it is, returns std::nullopt after one request, which transfers no bytes
  /// of the blob. Blocks. Throws Error.
  static std::optional<BlobReader> open_if_changed(const std::string& url, const std::string& etag,
                                                   const Client& client = {}) {
    azt_blob* handle = nullptr;
    detail::call(azt_blob_open_if_changed, client.get(), detail::c_string(url), detail::c_string(etag), &handle);
    if (handle == nullptr) return std::nullopt;
    return BlobReader(handle);
  }

  /// Reads up to `length` bytes at the position into `buffer` and moves the position past them. Returns the number of
  /// bytes, which is less than `length` only at the end of the blob. Blocks. Throws Error; then the position is
  /// unchanged and the content of `buffer` is undefined.
  std::size_t read(void* buffer, std::size_t length) {
    std::size_t count = 0;
    detail::call(azt_blob_read, handle_.get(), buffer, length, &count);
    return count;
  }

  /// Reads up to `length` bytes at `offset` into `buffer`; does not use the position. Returns the number of bytes,
  /// which is less than `length` only at the end of the blob. Several threads may call it at once. Blocks. Throws
  /// Error.
  std::size_t read_at(std::uint64_t offset, void* buffer, std::size_t length) const {
    std::size_t count = 0;
    detail::call(azt_blob_read_at, handle_.get(), offset, buffer, length, &count);
    return count;
  }

  /// Moves the position and returns it, in bytes from the start. Positions past the end are allowed. Sends nothing.
  /// Throws AZT_STATUS_INVALID_ARGUMENT for a position before the start, and then does not move.
  std::uint64_t seek(std::int64_t offset, Whence whence = Whence::set) {
    std::uint64_t position = 0;
    detail::call(azt_blob_seek, handle_.get(), offset, static_cast<std::int32_t>(whence), &position);
    return position;
  }

  /// The position, in bytes from the start. Sends nothing. Throws AZT_STATUS_UNSUPPORTED after close().
  std::uint64_t tell() const {
    std::uint64_t position = 0;
    detail::call(azt_blob_tell, handle_.get(), &position);
    return position;
  }

  /// The size in bytes of the version that was opened. Sends nothing. Throws Error.
  std::uint64_t size() const {
    std::uint64_t bytes = 0;
    detail::call(azt_blob_size, handle_.get(), &bytes);
    return bytes;
  }

  /// Ends reading: later reads throw AZT_STATUS_UNSUPPORTED. Optional: the destructor does the same. Throws Error.
  void close() { detail::call(azt_blob_close, handle_.get()); }

  /// Cancels this reader for good: running and later calls that read or move throw AZT_STATUS_CANCELLED. Any
  /// thread may call it. Does not block.
  void cancel() const noexcept { azt_blob_cancel(handle_.get()); }

  /// Sets the function that receives the progress of reads on this blob; an empty one removes it. Throws Error.
  void set_progress(ProgressCallback callback) { detail::set_progress(handle_.get(), std::move(callback)); }

  /// The ETag of the version that was opened, quoted as the service sends it.
  std::string etag() const { return azt_blob_etag(handle_.get()); }

  /// The blob's URL without its query, so without a SAS.
  std::string url() const { return azt_blob_url(handle_.get()); }

  /// The handle for functions of the C API. The reader keeps it.
  azt_blob* get() const noexcept { return handle_.get(); }

 private:
  detail::BlobHandle handle_;
};

}  // namespace aztorch
