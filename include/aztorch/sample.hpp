// Sample: the bytes of one blob, and where they came from.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "blob.hpp"

namespace aztorch {

// What a Dataset or a Stream gives for one entry: a whole blob, a range of one, or a member of a tar file. The bytes
// are aligned to 64 and owned by this sample alone, so that a tensor can take them over: see to_tensor.
class Sample {
 public:
  // Takes over a handle of the C ABI, which is not NULL.
  explicit Sample(azt_sample* handle) noexcept : handle_(handle) {}

  // NULL in a lazy stream, where size() is 0, too.
  const std::uint8_t* data() const noexcept { return azt_sample_data(handle_.get()); }
  std::size_t size() const noexcept { return azt_sample_size(handle_.get()); }

  std::string url() const { return azt_sample_url(handle_.get()); }  // without query
  // A tar member's: its path in the archive; url() and container_name() are the archive's.
  std::string blob_name() const { return azt_sample_blob_name(handle_.get()); }
  std::string container_name() const { return azt_sample_container_name(handle_.get()); }

  // The index in the dataset; in a stream 0, 1, 2, … in its own sequence of the epoch.
  std::uint64_t position() const noexcept { return azt_sample_position(handle_.get()); }

  // What the listing said; UINT64_MAX when nothing told it before the bytes came.
  std::uint64_t blob_size() const noexcept { return azt_sample_blob_size(handle_.get()); }

  // A reader over what the sample came from.
  BlobReader open() const {
    azt_blob* reader = nullptr;
    detail::call(azt_sample_open, handle_.get(), &reader);
    return BlobReader(reader);
  }

  const azt_sample* get() const noexcept { return handle_.get(); }

  // Gives up the handle, for the caller to free with azt_sample_free.
  azt_sample* release() noexcept { return handle_.release(); }

 private:
  detail::Handle<azt_sample, azt_sample_free> handle_;
};

}  // namespace aztorch
