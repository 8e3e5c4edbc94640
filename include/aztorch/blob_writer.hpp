// BlobWriter: a blob opened for writing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>

#include "client.hpp"
#include "detail/c_api.hpp"
#include "detail/open_blob.hpp"
#include "progress.hpp"

namespace aztorch {

/// A blob opened for writing.
///
/// Nothing is visible before close(), which publishes the whole blob at once. A writer that is destroyed without
/// close(), for example by an exception, publishes nothing: the previous blob stays. Movable, not copyable. Const
/// member functions may be called by several threads at once, the others by one thread at a time. In a forked child it
/// throws AZT_STATUS_FORKED.
class BlobWriter {
 public:
  /// Opens a blob for writing. Sends nothing. `mode` is AZT_BLOB_MODE_WRITE, which replaces an existing blob, or
  /// AZT_BLOB_MODE_CREATE, which fails with AZT_STATUS_ALREADY_EXISTS in a later call when the blob exists. Throws
  /// Error for a bad URL.
  explicit BlobWriter(const std::string& url, const Client& client = {}, azt_blob_mode mode = AZT_BLOB_MODE_WRITE)
      : handle_(detail::open_blob(url, mode, client)) {}

  /// Takes ownership of a writer of the C API.
  explicit BlobWriter(azt_blob* handle) noexcept : handle_(handle) {}

  /// Opens the blob of a container that has this name, for writing. The name is percent-encoded here; a SAS in the
  /// container's URL is used. Sends nothing. `mode` is AZT_BLOB_MODE_WRITE or AZT_BLOB_MODE_CREATE. Throws Error for a
  /// bad URL.
  static BlobWriter open_in(const std::string& container_url, const std::string& blob_name, const Client& client = {},
                            azt_blob_mode mode = AZT_BLOB_MODE_WRITE) {
    return BlobWriter(detail::open_blob_in(container_url, blob_name, mode, client).release());
  }

  /// Makes close() publish only if the blob still has this ETag; otherwise close() throws AZT_STATUS_MODIFIED. Sends
  /// nothing. Throws Error for a bad ETag.
  void set_if_match(const std::string& etag) {
    detail::call(azt_blob_set_if_match, handle_.get(), detail::c_string(etag));
  }

  /// Appends all of `length` bytes, which the library copies or sends before it returns. Blocks while the limits of the
  /// client allow no more bytes in flight. Throws Error; then each later call throws the same error and nothing is
  /// published. An error of an earlier write may show here.
  void write(const void* data, std::size_t length) { detail::call(azt_blob_write, handle_.get(), data, length); }

  /// Returns when all bytes written so far are staged at the service. Publishes nothing. Each flush ends a block, of
  /// which a blob can have 50,000. Blocks. Throws Error.
  void flush() { detail::call(azt_blob_flush, handle_.get()); }

  /// Publishes the blob as a whole. When it throws, the previous blob is unchanged, unless the message says that the
  /// outcome is unknown. A second call has the same result. Blocks. Throws Error: AZT_STATUS_ALREADY_EXISTS in
  /// AZT_BLOB_MODE_CREATE, AZT_STATUS_MODIFIED when another writer published first.
  void close() { detail::call(azt_blob_close, handle_.get()); }

  /// Cancels this writer for good: running and later calls throw AZT_STATUS_CANCELLED, and nothing is published. From
  /// any thread; does not block.
  void cancel() const noexcept { azt_blob_cancel(handle_.get()); }

  /// Sets the function that receives the progress of writes on this blob; an empty one removes it. Throws Error.
  void set_progress(ProgressCallback callback) { detail::set_progress(handle_.get(), std::move(callback)); }

  /// The number of bytes written so far. Sends nothing. Throws Error.
  std::uint64_t tell() const {
    std::uint64_t position = 0;
    detail::call(azt_blob_tell, handle_.get(), &position);
    return position;
  }

  /// The ETag of the published blob, quoted as the service sends it. Empty before close().
  std::string etag() const { return azt_blob_etag(handle_.get()); }

  /// The blob's URL without its query, so without a SAS.
  std::string url() const { return azt_blob_url(handle_.get()); }

  /// The handle for functions of the C API. The writer keeps it.
  azt_blob* get() const noexcept { return handle_.get(); }

 private:
  detail::BlobHandle handle_;
};

}  // namespace aztorch
