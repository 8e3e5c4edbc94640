// Operations on blobs and containers that need no open blob. All of them block and are thread-safe.
#pragma once

#include <string>

#include "client.hpp"
#include "detail/c_api.hpp"

namespace aztorch {

/// Returns whether a blob exists. Blocks. Thread-safe. Throws Error: AZT_STATUS_NOT_FOUND for a missing container,
/// AZT_STATUS_UNAUTHENTICATED for a private container without a credential.
inline bool exists(const std::string& url, const Client& client = {}) {
  bool found = false;
  detail::call(azt_blob_exists, client.get(), detail::c_string(url), &found);
  return found;
}

/// Deletes a blob, or the snapshot or version that the URL names. Blocks. Thread-safe. Throws Error:
/// AZT_STATUS_NOT_FOUND for a missing blob, AZT_STATUS_REJECTED for a blob that has snapshots.
inline void remove(const std::string& url, const Client& client = {}) {
  detail::call(azt_blob_delete, client.get(), detail::c_string(url));
}

/// Copies a blob into the file `path`, in parallel ranges. The file is written under a temporary name and renamed when
/// it is complete; on failure nothing is left. Blocks. Thread-safe. Throws Error: AZT_STATUS_LOCAL_IO for the file.
inline void download(const std::string& url, const std::string& path, const Client& client = {}) {
  detail::call(azt_blob_download, client.get(), detail::c_string(url), detail::c_string(path));
}

/// Writes the file `path` as a blob. `mode` is AZT_BLOB_MODE_WRITE, which replaces an existing blob, or
/// AZT_BLOB_MODE_CREATE. On failure the previous blob stays. Blocks. Thread-safe. Throws Error: AZT_STATUS_LOCAL_IO for
/// the file, AZT_STATUS_ALREADY_EXISTS in AZT_BLOB_MODE_CREATE.
inline void upload(const std::string& path, const std::string& url, const Client& client = {},
                   azt_blob_mode mode = AZT_BLOB_MODE_WRITE) {
  detail::call(azt_blob_upload, client.get(), detail::c_string(path), detail::c_string(url), mode);
}

/// Creates a container. Blocks. Thread-safe. Throws Error: AZT_STATUS_ALREADY_EXISTS when it exists.
inline void create_container(const std::string& container_url, const Client& client = {}) {
  detail::call(azt_container_create, client.get(), detail::c_string(container_url));
}

}  // namespace aztorch
