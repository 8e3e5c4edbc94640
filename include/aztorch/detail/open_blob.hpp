// Opening blobs, and their progress callbacks: the common code of BlobReader and BlobWriter.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "../client.hpp"
#include "../progress.hpp"
#include "c_api.hpp"

namespace aztorch::detail {

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

/// Sets a blob's progress callback. An empty one removes the callback that was set before.
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

}  // namespace aztorch::detail
