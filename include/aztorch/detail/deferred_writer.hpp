// A writer that reports failures at close() only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <exception>
#include <utility>

#include "../blob.hpp"

namespace aztorch::detail {

// LibTorch ends the process when it sees a write fail (its writer throws from a destructor), so write() always succeeds:
// the first failure is kept, what comes later is dropped, and close() throws it and publishes nothing.
class DeferredWriter {
 public:
  explicit DeferredWriter(BlobWriter writer) : writer_(std::move(writer)) {}

  void write(const void* data, std::size_t length) {
    taken_ += length;
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

  bool failed() const noexcept { return error_ != nullptr; }
  std::uint64_t taken() const noexcept { return taken_; }
  BlobWriter& writer() noexcept { return writer_; }

 private:
  BlobWriter writer_;
  std::exception_ptr error_;
  std::uint64_t taken_ = 0;
};

}  // namespace aztorch::detail
