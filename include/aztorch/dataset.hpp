// Dataset: many blobs by index, listed once and fetched concurrently. Blob: one entry, not fetched yet.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "blob.hpp"
#include "client.hpp"
#include "detail/c_api.hpp"
#include "sample.hpp"

namespace aztorch {

/// A part of a blob that is one sample: `length` bytes from byte `offset` on.
struct BlobRange {
  std::string url;           ///< The blob's URL.
  std::uint64_t offset = 0;  ///< The first byte.
  std::uint64_t length = 0;  ///< The number of bytes.
};

namespace detail {

/// Pointers to the texts, which must outlive them. Throws AZT_STATUS_INVALID_ARGUMENT for a text with a NUL inside.
inline std::vector<const char*> c_strings(const std::vector<std::string>& texts) {
  std::vector<const char*> pointers;
  pointers.reserve(texts.size());
  for (const std::string& text : texts) pointers.push_back(c_string(text));
  return pointers;
}

/// `name` as a string. Throws AZT_STATUS_OUT_OF_RANGE for NULL, which the C API returns for an index past the end.
inline std::string name_or_throw(const char* name, std::size_t index, std::size_t length) {
  if (name != nullptr) return name;
  throw Error(AZT_STATUS_OUT_OF_RANGE,
              "index " + std::to_string(index) + " of a dataset of " + std::to_string(length) + " samples");
}

}  // namespace detail

/// A map-style dataset: blobs, or parts of blobs, by index. Listed when it is made, immutable afterwards.
///
/// Thread-safe: several threads may call every function at once. Copies share the listing. Works in a forked child.
/// Member functions that take an index throw AZT_STATUS_OUT_OF_RANGE past the end.
class Dataset {
 public:
  /// Lists the blobs of a container whose names begin with `prefix`, all pages of the listing, in the service's order.
  /// If there are no such blobs, the dataset is empty. Blocks. Throws Error: AZT_STATUS_NOT_FOUND for a missing
  /// container.
  static Dataset list(const std::string& container_url, const std::string& prefix = "", const Client& client = {}) {
    return make(azt_dataset_list, client.get(), detail::c_string(container_url), detail::c_string(prefix));
  }

  /// The blobs of these URLs, in this order, from any containers and accounts, each with its own SAS, snapshot or
  /// version. Sends nothing. Throws AZT_STATUS_INVALID_ARGUMENT for a bad URL; the message names it.
  static Dataset from_urls(const std::vector<std::string>& urls, const Client& client = {}) {
    return make(azt_dataset_from_urls, client.get(), detail::c_strings(urls).data(), urls.size());
  }

  /// Parts of blobs, for samples that are packed into larger blobs. Sends nothing. Throws AZT_STATUS_INVALID_ARGUMENT
  /// for a bad URL. Reading a range past the end of its blob throws AZT_STATUS_OUT_OF_RANGE.
  static Dataset from_ranges(const std::vector<BlobRange>& ranges, const Client& client = {}) {
    std::vector<const char*> urls;
    std::vector<std::uint64_t> offsets, lengths;
    for (const BlobRange& range : ranges) {
      urls.push_back(detail::c_string(range.url));
      offsets.push_back(range.offset);
      lengths.push_back(range.length);
    }
    return make(azt_dataset_from_ranges, client.get(), urls.data(), offsets.data(), lengths.data(), ranges.size());
  }

  /// The regular files in these tar archives (ustar, GNU, pax), which are indexed now with ranged reads. Blocks. Throws
  /// Error: AZT_STATUS_CORRUPT for a compressed or damaged archive.
  static Dataset from_tars(const std::vector<std::string>& urls, const Client& client = {}) {
    return make(azt_dataset_from_tars, client.get(), detail::c_strings(urls).data(), urls.size());
  }

  /// Loads a dataset that save_manifest() saved, with the same entries at the same indices. With it, all processes of a
  /// training job have the same indices. Blocks. Throws Error: AZT_STATUS_CORRUPT for a damaged manifest.
  static Dataset from_manifest(const std::string& url, const Client& client = {}) {
    return make(azt_dataset_from_manifest, client.get(), detail::c_string(url));
  }

  /// Takes ownership of a handle of the C API, which is freed with the last copy.
  explicit Dataset(azt_dataset* handle) : handle_(handle, azt_dataset_free) {}

  /// Saves the names, sizes and ETags of all entries as one blob, without a SAS. An existing blob is replaced as a
  /// whole or not at all. Blocks. Throws Error.
  void save_manifest(const std::string& url) const {
    detail::call(azt_dataset_save_manifest, get(), detail::c_string(url));
  }

  /// The number of entries.
  std::size_t size() const noexcept { return azt_dataset_len(get()); }

  /// The blob's name. For a member of a tar archive: its path in the archive. Throws AZT_STATUS_OUT_OF_RANGE.
  std::string blob_name(std::size_t index) const {
    return detail::name_or_throw(azt_dataset_blob_name(get(), index), index, size());
  }

  /// The name of the blob's container. Throws AZT_STATUS_OUT_OF_RANGE.
  std::string container_name(std::size_t index) const {
    return detail::name_or_throw(azt_dataset_container_name(get(), index), index, size());
  }

  /// The entry's size in bytes. UINT64_MAX when it is unknown, as with from_urls() before the first read. Sends
  /// nothing. Throws AZT_STATUS_OUT_OF_RANGE.
  std::uint64_t blob_size(std::size_t index) const {
    std::uint64_t bytes = 0;
    detail::call(azt_dataset_blob_size, get(), index, &bytes);
    return bytes;
  }

  /// The blob's URL without its query, so without a SAS. For a member of a tar archive: the archive's URL. Throws
  /// AZT_STATUS_OUT_OF_RANGE.
  std::string url(std::size_t index) const { return detail::call_for_text(azt_dataset_url, get(), index); }

  /// Fetches an entry. A loop over 0, 1, 2, … is detected and read ahead; prefetched entries are used. Blocks. Throws
  /// Error.
  Sample get(std::size_t index) const {
    azt_sample* sample = nullptr;
    detail::call(azt_dataset_get, get(), index, &sample);
    return Sample(sample);
  }

  /// Fetches `count` entries concurrently and returns them in the order of `indices`. Blocks. Throws Error when any of
  /// them fails.
  std::vector<Sample> get_batch(const std::size_t* indices, std::size_t count) const {
    std::vector<azt_sample*> handles(count);
    std::vector<Sample> samples;
    samples.reserve(count);  // before the call: an exception after it would leak the handles
    detail::call(azt_dataset_get_batch, get(), indices, count, handles.data());
    for (azt_sample* handle : handles) samples.emplace_back(handle);
    return samples;
  }

  /// Fetches these entries concurrently and returns them in this order. Blocks. Throws Error when any of them fails.
  std::vector<Sample> get_batch(const std::vector<std::size_t>& indices) const {
    return get_batch(indices.data(), indices.size());
  }

  /// Fetches an entry into `buffer`, which has `capacity` bytes, and returns the entry's size. Blocks. Throws Error:
  /// AZT_STATUS_BUFFER_TOO_SMALL for a larger entry. On failure the content of `buffer` is undefined.
  std::size_t get_into(std::size_t index, void* buffer, std::size_t capacity) const {
    std::size_t bytes = 0;
    detail::call(azt_dataset_get_into, get(), index, buffer, capacity, &bytes);
    return bytes;
  }

  /// Fetches entries concurrently, entry `indices[i]` into `buffers[i]`, which has `capacities[i]` bytes, and returns
  /// their sizes. The buffers must not overlap. Blocks. Throws Error: AZT_STATUS_BUFFER_TOO_SMALL when an entry does
  /// not fit, AZT_STATUS_INVALID_ARGUMENT when the three vectors differ in length. On failure the buffers' content is
  /// undefined.
  std::vector<std::size_t> get_batch_into(const std::vector<std::size_t>& indices, const std::vector<void*>& buffers,
                                          const std::vector<std::size_t>& capacities) const {
    if (buffers.size() != indices.size() || capacities.size() != indices.size()) {
      throw Error(AZT_STATUS_INVALID_ARGUMENT, std::to_string(indices.size()) + " indices need as many buffers and " +
                                                   "capacities, not " + std::to_string(buffers.size()) + " and " +
                                                   std::to_string(capacities.size()));
    }
    std::vector<std::size_t> sizes(indices.size());
    detail::call(azt_dataset_get_batch_into, get(), indices.data(), indices.size(), buffers.data(), capacities.data(),
                 sizes.data());
    return sizes;
  }

  /// Hints which entries will be requested next, in this order, so that they are fetched in the background within the
  /// memory limit. No indices: withdraws earlier hints. Returns at once. Throws AZT_STATUS_OUT_OF_RANGE; other failures
  /// show when the entry is requested.
  void prefetch(const std::vector<std::size_t>& indices) const {
    detail::call(azt_dataset_prefetch, get(), indices.data(), indices.size());
  }

  /// Opens a reader over an entry. For a range or an archive member, the reader sees only its bytes, from position 0.
  /// Each call opens a new reader, which may outlive the dataset. Blocks. Throws Error.
  BlobReader open(std::size_t index) const {
    azt_blob* reader = nullptr;
    detail::call(azt_dataset_open, get(), index, &reader);
    return BlobReader(reader);
  }

  /// Cancels this dataset for good: running and later fetches from it, and from readers and streams opened from it,
  /// throw AZT_STATUS_CANCELLED. Any thread may call it. Does not block.
  void cancel() const noexcept { azt_dataset_cancel(get()); }

  /// The handle for functions of the C API. The dataset keeps it.
  const azt_dataset* get() const noexcept { return handle_.get(); }

 private:
  template <typename Function, typename... Arguments>
  static Dataset make(Function function, Arguments... arguments) {
    azt_dataset* handle = nullptr;
    detail::call(function, arguments..., &handle);
    return Dataset(handle);
  }

  std::shared_ptr<azt_dataset> handle_;
};

/// One entry of a dataset or of a lazy stream. Nothing is fetched before reader() is called, and then only the bytes
/// that are read. It is meant for large entries of which a program needs only a part.
///
/// It shares ownership of the dataset or sample. Copyable. Immutable: several threads may use it at once.
class Blob {
 public:
  /// Entry `index` of a dataset. Sends nothing. Throws AZT_STATUS_OUT_OF_RANGE.
  Blob(Dataset dataset, std::size_t index) : source_(Entry{std::move(dataset), index}) {
    blob_name();  // throws for an index past the end
  }

  /// The entry that a sample came from, usually a sample of a lazy stream. Sends nothing.
  explicit Blob(Sample sample) : source_(std::make_shared<const Sample>(std::move(sample))) {}

  /// The blob's URL without its query, so without a SAS. For a member of a tar archive: the archive's URL.
  std::string url() const {
    return entry() != nullptr ? entry()->dataset.url(entry()->index) : sample().url();
  }

  /// The blob's name. For a member of a tar archive: its path in the archive.
  std::string blob_name() const {
    return entry() != nullptr ? entry()->dataset.blob_name(entry()->index) : sample().blob_name();
  }

  /// The name of the blob's container.
  std::string container_name() const {
    return entry() != nullptr ? entry()->dataset.container_name(entry()->index) : sample().container_name();
  }

  /// The entry's size in bytes. UINT64_MAX when it is unknown; `reader().size()` is always known. Sends nothing.
  std::uint64_t size() const {
    return entry() != nullptr ? entry()->dataset.blob_size(entry()->index) : sample().blob_size();
  }

  /// From a dataset: the index. From a stream: the position in the stream's own sequence of the epoch: 0, 1, 2, ….
  std::uint64_t position() const noexcept { return entry() != nullptr ? entry()->index : sample().position(); }

  /// Opens a reader over the entry; each call opens a new one. Blocks. Throws Error.
  BlobReader reader() const {
    return entry() != nullptr ? entry()->dataset.open(entry()->index) : sample().open();
  }

 private:
  struct Entry {
    Dataset dataset;
    std::size_t index;
  };

  const Entry* entry() const noexcept { return std::get_if<Entry>(&source_); }
  const Sample& sample() const noexcept { return **std::get_if<std::shared_ptr<const Sample>>(&source_); }

  std::variant<Entry, std::shared_ptr<const Sample>> source_;
};

}  // namespace aztorch
