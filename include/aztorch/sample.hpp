// Sample: the bytes of one entry of a dataset or stream, and its origin.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "blob_reader.hpp"
#include "detail/c_api.hpp"

namespace aztorch {

/// One entry of a Dataset or a Stream with its bytes: a blob, a range of a blob, or a member of a tar archive.
///
/// It is the only owner of its bytes, so a tensor can take them over without a copy: see to_tensor() in torch.hpp. It
/// may outlive its dataset or stream. Movable, not copyable. Immutable: several threads may read it at once.
class Sample {
 public:
  /// Takes ownership of a handle of the C API, which must not be NULL.
  explicit Sample(azt_sample* handle) noexcept : handle_(handle) {}

  /// The bytes, aligned to 64 bytes, valid as long as the sample. NULL for a sample of a lazy stream.
  const std::uint8_t* data() const noexcept { return azt_sample_data(handle_.get()); }

  /// The number of bytes at data(). 0 for a sample of a lazy stream.
  std::size_t size() const noexcept { return azt_sample_size(handle_.get()); }

  /// The blob's URL without its query, so without a SAS. For a member of a tar archive: the archive's URL.
  std::string url() const { return azt_sample_url(handle_.get()); }

  /// The blob's name. For a member of a tar archive: its path in the archive.
  std::string blob_name() const { return azt_sample_blob_name(handle_.get()); }

  /// The name of the blob's container.
  std::string container_name() const { return azt_sample_container_name(handle_.get()); }

  /// From a dataset: the index. From a stream: the position in the stream's own sequence of the epoch: 0, 1, 2, ….
  std::uint64_t position() const noexcept { return azt_sample_position(handle_.get()); }

  /// The entry's size in bytes, from the listing, the range or the archive. UINT64_MAX when it is unknown. It is useful
  /// for samples of a lazy stream, whose size() is 0.
  std::uint64_t blob_size() const noexcept { return azt_sample_blob_size(handle_.get()); }

  /// Opens a reader over the entry, in the blob's current version. For a range or an archive member, the reader sees
  /// only its bytes, from position 0. Blocks. Several threads may call it at once. Throws Error: AZT_STATUS_NOT_FOUND
  /// when the blob was deleted.
  BlobReader open() const {
    azt_blob* reader = nullptr;
    detail::call(azt_sample_open, handle_.get(), &reader);
    return BlobReader(reader);
  }

  /// The handle for functions of the C API. The sample keeps it.
  const azt_sample* get() const noexcept { return handle_.get(); }

  /// Gives up the handle: the caller frees it with azt_sample_free(). The sample must not be used any more.
  azt_sample* release() noexcept { return handle_.release(); }

 private:
  detail::Handle<azt_sample, azt_sample_free> handle_;
};

}  // namespace aztorch
