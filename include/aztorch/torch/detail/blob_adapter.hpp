// A blob as a source that LibTorch's archive reader can read.
#pragma once

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <string>

#include <caffe2/serialize/read_adapter_interface.h>

#include "../../blob_reader.hpp"

namespace aztorch::detail {

/// Adapts a BlobReader to LibTorch's interface for archives. Thread-safe.
///
/// LibTorch reads each tensor with one call, directly into the tensor's memory, and small structures around it. The
/// adapter uses seek() and read() instead of read_at(), because only read() caches the surroundings of a small read.
class BlobAdapter final : public caffe2::serialize::ReadAdapterInterface {
 public:
  BlobAdapter(const std::string& url, const Client& client) : reader_(url, client) {}

  std::size_t size() const override { return static_cast<std::size_t>(reader_.size()); }

  std::size_t read(std::uint64_t position, void* buffer, std::size_t length, const char* = "") const override {
    // LibTorch searches backwards from the end, and in a very short file its position wraps below 0.
    if (position >= reader_.size()) return 0;
    const std::lock_guard<std::mutex> lock(mutex_);
    reader_.seek(static_cast<std::int64_t>(position));
    return reader_.read(buffer, length);
  }

  /// The blob's URL without its query.
  std::string url() const { return reader_.url(); }

 private:
  mutable std::mutex mutex_;
  mutable BlobReader reader_;
};

}  // namespace aztorch::detail
