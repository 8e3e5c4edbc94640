// IStream and OStream: a blob as a std::istream and as a std::ostream.
#pragma once

#include <istream>
#include <ostream>
#include <string>
#include <utility>

#include "blob_reader.hpp"
#include "blob_writer.hpp"
#include "detail/istream_buffer.hpp"
#include "detail/ostream_buffer.hpp"

namespace aztorch {

/// A blob as a std::istream: seekable, for formatted input, std::getline and torch::load.
///
/// A read that fails sets badbit and throws aztorch::Error from the input function. After
/// `exceptions(std::ios_base::goodbit)` it only sets badbit. Neither copyable nor movable; used by one thread at a
/// time.
class IStream : public std::istream {
 public:
  /// Opens a blob. Blocks until the response begins. Throws Error: AZT_STATUS_NOT_FOUND for a missing blob.
  explicit IStream(const std::string& url, const Client& client = {}) : IStream(BlobReader(url, client)) {}

  /// Takes ownership of a reader and starts at its position.
  explicit IStream(BlobReader reader) : std::istream(nullptr), buffer_(std::move(reader)) {
    rdbuf(&buffer_);
    exceptions(std::ios_base::badbit);
  }

  /// The reader below, for `size()`, `etag()` and `url()`. Its position is ahead of the stream's by the number of
  /// buffered bytes.
  const BlobReader& reader() const noexcept { return buffer_.reader(); }

  /// Ends reading: later reads fail. Optional: the destructor does the same. Throws Error.
  void close() { buffer_.reader().close(); }

 private:
  detail::IStreamBuf buffer_;
};

/// A blob as a std::ostream, for formatted output and torch::save.
///
/// close() publishes the whole blob at once, and throws the first error of any write. A stream that is destroyed
/// without close() publishes nothing. Output functions never throw and never set a state bit, because torch::save would
/// end the process; failed() returns whether an error has occurred. Neither copyable nor movable; used by one thread at
/// a time.
class OStream : public std::ostream {
 public:
  /// Opens a blob for writing. Sends nothing. `mode` is AZT_BLOB_MODE_WRITE, which replaces an existing blob, or
  /// AZT_BLOB_MODE_CREATE. Throws Error for a bad URL.
  explicit OStream(const std::string& url, const Client& client = {}, azt_blob_mode mode = AZT_BLOB_MODE_WRITE)
      : OStream(BlobWriter(url, client, mode)) {}

  /// Takes ownership of a writer, and appends to the bytes that were written to it.
  explicit OStream(BlobWriter writer) : std::ostream(nullptr), buffer_(std::move(writer)) { rdbuf(&buffer_); }

  /// The writer below, for `set_if_match()` and `etag()`. Do not write to it directly: those bytes would come before
  /// the ones that the stream has buffered.
  BlobWriter& writer() noexcept { return buffer_.writer(); }

  /// Whether a write has failed, so that close() will throw and more output is useless.
  bool failed() const noexcept { return buffer_.failed(); }

  /// Publishes the blob as a whole. Blocks. Throws the first Error of any write, or of publishing; the previous blob is
  /// then unchanged unless the message says that the outcome is unknown.
  void close() { buffer_.close(); }

 private:
  detail::OStreamBuf buffer_;
};

}  // namespace aztorch
