// Dataset: many blobs by index, listed once and fetched concurrently. Blob: one of them, not fetched yet.
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
#include "sample.hpp"

namespace aztorch {

// A part of a blob that is one sample.
struct BlobRange {
  std::string url;
  std::uint64_t offset = 0;
  std::uint64_t length = 0;
};

namespace detail {

inline std::vector<const char*> c_strings(const std::vector<std::string>& texts) {
  std::vector<const char*> pointers;
  pointers.reserve(texts.size());
  for (const std::string& text : texts) pointers.push_back(c_string(text));
  return pointers;
}

// For the functions whose NULL means "not there", where an owner throws.
inline std::string name_or_throw(const char* name, std::size_t index, std::size_t length) {
  if (name != nullptr) return name;
  throw Error(AZT_STATUS_OUT_OF_RANGE,
              "index " + std::to_string(index) + " of a dataset of " + std::to_string(length) + " samples");
}

}  // namespace detail

// Immutable and thread-safe; copies share the listing.
class Dataset {
 public:
  // Every blob of the container whose name begins with the prefix, in the service's order. Lists now, all pages.
  static Dataset list(const std::string& container_url, const std::string& prefix = "", const Client& client = {}) {
    return make(azt_dataset_list, client.get(), detail::c_string(container_url), detail::c_string(prefix));
  }

  // Of any containers and accounts, each with its own SAS, snapshot or version. Nothing is sent.
  static Dataset from_urls(const std::vector<std::string>& urls, const Client& client = {}) {
    return make(azt_dataset_from_urls, client.get(), detail::c_strings(urls).data(), urls.size());
  }

  // Samples packed into larger blobs.
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

  // The members of tar files (ustar, GNU and pax), indexed now by ranged reads.
  static Dataset from_tars(const std::vector<std::string>& urls, const Client& client = {}) {
    return make(azt_dataset_from_tars, client.get(), detail::c_strings(urls).data(), urls.size());
  }

  // What save_manifest wrote, so that all processes of a training agree on what index i is.
  static Dataset from_manifest(const std::string& url, const Client& client = {}) {
    return make(azt_dataset_from_manifest, client.get(), detail::c_string(url));
  }

  // Takes over a handle of the C ABI.
  explicit Dataset(azt_dataset* handle) : handle_(handle, azt_dataset_free) {}

  // Names, sizes and ETags as one blob; never a SAS.
  void save_manifest(const std::string& url) const {
    detail::call(azt_dataset_save_manifest, get(), detail::c_string(url));
  }

  std::size_t size() const noexcept { return azt_dataset_len(get()); }

  // A tar member's: its path in the archive.
  std::string blob_name(std::size_t index) const {
    return detail::name_or_throw(azt_dataset_blob_name(get(), index), index, size());
  }

  std::string container_name(std::size_t index) const {
    return detail::name_or_throw(azt_dataset_container_name(get(), index), index, size());
  }

  // UINT64_MAX when it is not known before a read.
  std::uint64_t blob_size(std::size_t index) const {
    std::uint64_t bytes = 0;
    detail::call(azt_dataset_blob_size, get(), index, &bytes);
    return bytes;
  }

  std::string url(std::size_t index) const {  // without query
    return detail::call_for_text(azt_dataset_url, get(), index);
  }

  // A loop over 0, 1, 2, … is noticed and read ahead of.
  Sample get(std::size_t index) const {
    azt_sample* sample = nullptr;
    detail::call(azt_dataset_get, get(), index, &sample);
    return Sample(sample);
  }

  // Concurrently, in the order asked for; all of them or an error.
  std::vector<Sample> get_batch(const std::size_t* indices, std::size_t count) const {
    std::vector<azt_sample*> handles(count);
    std::vector<Sample> samples;
    samples.reserve(count);  // before there is something to leak
    detail::call(azt_dataset_get_batch, get(), indices, count, handles.data());
    for (azt_sample* handle : handles) samples.emplace_back(handle);
    return samples;
  }

  std::vector<Sample> get_batch(const std::vector<std::size_t>& indices) const {
    return get_batch(indices.data(), indices.size());
  }

  // Into memory of the caller's; returns the sample's size. One that does not fit is BUFFER_TOO_SMALL.
  std::size_t get_into(std::size_t index, void* buffer, std::size_t capacity) const {
    std::size_t bytes = 0;
    detail::call(azt_dataset_get_into, get(), index, buffer, capacity, &bytes);
    return bytes;
  }

  // A buffer and a capacity for each index; returns the samples' sizes.
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

  // Says what will be asked for next: a hint, which returns at once.
  void prefetch(const std::vector<std::size_t>& indices) const {
    detail::call(azt_dataset_prefetch, get(), indices.data(), indices.size());
  }

  // As often as one likes, side by side.
  BlobReader open(std::size_t index) const {
    azt_blob* reader = nullptr;
    detail::call(azt_dataset_open, get(), index, &reader);
    return BlobReader(reader);
  }

  // Ends what is running on this dataset, for good: it throws AZT_STATUS_CANCELLED. From any thread.
  void cancel() const noexcept { azt_dataset_cancel(get()); }

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

// One entry of a dataset or of a lazy stream. Nothing is fetched before reader(), and then only what is read: for large
// volumes of which a sample needs a part.
class Blob {
 public:
  Blob(Dataset dataset, std::size_t index) : source_(Entry{std::move(dataset), index}) {
    blob_name();  // throws for an index past the end
  }

  explicit Blob(Sample sample) : source_(std::make_shared<const Sample>(std::move(sample))) {}

  std::string url() const {  // without query
    return entry() != nullptr ? entry()->dataset.url(entry()->index) : sample().url();
  }

  std::string blob_name() const {
    return entry() != nullptr ? entry()->dataset.blob_name(entry()->index) : sample().blob_name();
  }

  std::string container_name() const {
    return entry() != nullptr ? entry()->dataset.container_name(entry()->index) : sample().container_name();
  }

  // UINT64_MAX when nothing has told it yet; reader().size() always knows.
  std::uint64_t size() const {
    return entry() != nullptr ? entry()->dataset.blob_size(entry()->index) : sample().blob_size();
  }

  // As Sample::position().
  std::uint64_t position() const noexcept { return entry() != nullptr ? entry()->index : sample().position(); }

  // Opens the blob, each time anew.
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
