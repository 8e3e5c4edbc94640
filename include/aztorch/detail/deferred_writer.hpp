// A writer that reports its first error from close() only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <exception>
#include <utility>

#include "../blob_writer.hpp"

namespace aztorch::detail {

/// A BlobWriter whose write() never throws. The first error is kept, later bytes are dropped, and close() throws the
/// error without publishing.
///
/// LibTorch needs this: its writer reports a failed write from a destructor, which ends the process.
class DeferredWriter {
 public:
  explicit DeferredWriter(BlobWriter writer) : writer_(std::move(writer)) {}

  void write(const void* data, std::size_t length) {
    accepted_ += length;
    if (error_ || length == 0) return;
    try {
      writer_.write(data, length);
    } catch (const std::exception&) {
      error_ = std::current_exception();
    }
  }

  void close() {
    if (error_) std::rethrow_exception(error_);
    writer_.close();
  }

  /// Whether an earlier write failed, so that close() will throw.
  bool failed() const noexcept { return error_ != nullptr; }

  /// The number of bytes passed to write(), dropped ones included.
  std::uint64_t bytes_accepted() const noexcept { return accepted_; }

  BlobWriter& writer() noexcept { return writer_; }

 private:
  BlobWriter writer_;
  std::exception_ptr error_;
  std::uint64_t accepted_ = 0;
};

}  // namespace aztorch::detail
