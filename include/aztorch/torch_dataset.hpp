// BlobDataset and IterableBlobDataset: blobs through torch's DataLoader.
//
//   auto dataset = aztorch::BlobDataset<torch::data::Example<>>::from_container_url(
//       "https://account.blob.core.windows.net/container?SAS", "train/",
//       [](const aztorch::Sample& sample) { return decode(sample.data(), sample.size()); });
//   auto loader = torch::data::make_data_loader(
//       dataset.map(torch::data::transforms::Stack<>()), aztorch::PrefetchSampler(dataset),
//       torch::data::DataLoaderOptions(32).workers(4));
//   for (auto& batch : *loader) train(batch.data, batch.target);
//
// What throws in a worker reaches the loop as torch's WorkerException, whose original_exception is the aztorch::Error.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <torch/data/datasets/base.h>
#include <torch/data/datasets/stateful.h>
#include <torch/serialize/archive.h>

#include "blob_transform.hpp"
#include "dataset.hpp"
#include "detail/position.hpp"
#include "detail/stream_feed.hpp"
#include "example.hpp"
#include "stream.hpp"

namespace aztorch {

// Blobs by index, for any of torch's samplers; PrefetchSampler also fetches ahead of the workers. Copies, one for each
// worker, share the listing, and have a copy of the transform each.
template <typename Example = BlobExample>
class BlobDataset : public torch::data::datasets::Dataset<BlobDataset<Example>, Example> {
 public:
  // Of an aztorch::Dataset: of packed ranges or tar files, for example.
  explicit BlobDataset(aztorch::Dataset blobs, BlobTransform<Example> transform = {})
      : blobs_(std::move(blobs)), transform_(std::move(transform)) {}

  // Lists now.
  static BlobDataset from_container_url(const std::string& container_url, const std::string& prefix = "",
                                        BlobTransform<Example> transform = {}, const Client& client = {}) {
    return BlobDataset(aztorch::Dataset::list(container_url, prefix, client), std::move(transform));
  }

  static BlobDataset from_blob_urls(const std::vector<std::string>& urls, BlobTransform<Example> transform = {},
                                    const Client& client = {}) {
    return BlobDataset(aztorch::Dataset::from_urls(urls, client), std::move(transform));
  }

  static BlobDataset from_manifest(const std::string& url, BlobTransform<Example> transform = {},
                                   const Client& client = {}) {
    return BlobDataset(aztorch::Dataset::from_manifest(url, client), std::move(transform));
  }

  Example get(std::size_t index) override {
    return takes_blob() ? transform_(Blob(blobs_, index)) : transform_(blobs_.get(index));
  }

  // Fetched concurrently, then transformed one after the other.
  std::vector<Example> get_batch(torch::ArrayRef<std::size_t> indices) override {
    std::vector<Example> examples;
    examples.reserve(indices.size());
    if (takes_blob()) {
      for (const std::size_t index : indices) examples.push_back(transform_(Blob(blobs_, index)));
    } else {
      for (Sample& sample : blobs_.get_batch(indices.data(), indices.size())) {
        examples.push_back(transform_(std::move(sample)));
      }
    }
    return examples;
  }

  torch::optional<std::size_t> size() const override { return blobs_.size(); }

  const aztorch::Dataset& blobs() const noexcept { return blobs_; }

  // Whether the transform takes Blobs, so that fetching them whole would be in vain.
  bool takes_blob() const noexcept { return transform_.takes_blob(); }

 private:
  aztorch::Dataset blobs_;
  BlobTransform<Example> transform_;
};

// For IterableBlobDataset: IterableOptions().shard(rank, world_size).shuffle(10'000, seed).
class IterableOptions {
 public:
  // Every count-th blob, from number `index` on.
  IterableOptions& shard(std::size_t index, std::size_t count) {
    shard_ = {index, count};
    return *this;
  }

  // In a buffer of so many names; each epoch is shuffled otherwise.
  IterableOptions& shuffle(std::size_t buffer_names, std::uint64_t seed) {
    buffer_names_ = buffer_names;
    seed_ = seed;
    return *this;
  }

  const Shard& shard() const noexcept { return shard_; }
  std::size_t buffer_names() const noexcept { return buffer_names_; }
  std::uint64_t seed() const noexcept { return seed_; }

 private:
  Shard shard_;
  std::size_t buffer_names_ = 0;
  std::uint64_t seed_ = 0;
};

// Blobs in sequence, listed while they are read, and read ahead. Copies share one sequence and one transform, which the
// workers call at the same time. Keep a copy beside the one that the loader takes, to save and restore the position:
//
//   auto dataset = aztorch::IterableBlobDataset<>::from_container_url(url);
//   if (resumed) dataset.load(archive);
//   auto loader = torch::data::make_data_loader(dataset, torch::data::DataLoaderOptions(32).workers(4));
//   for (auto& batch : *loader) {
//     train(batch);
//     dataset.mark_consumed(batch);
//     if (time_to_save()) dataset.save(archive);  // what the loop has consumed, not what the workers have fetched
//   }
//
// Each epoch begins with the loader's begin(), which calls reset(). The first reset() of all, and the first after
// load(), keep the position.
template <typename Example = BlobExample>
class IterableBlobDataset
    : public torch::data::datasets::StatefulDataset<IterableBlobDataset<Example>, std::vector<Example>> {
 public:
  static IterableBlobDataset from_container_url(const std::string& container_url, const std::string& prefix = "",
                                                BlobTransform<Example> transform = {}, const Client& client = {},
                                                const IterableOptions& options = {}) {
    return IterableBlobDataset(Stream::list(container_url, prefix, options.shard(), client), KnownBy::name,
                               std::move(transform), options);
  }

  static IterableBlobDataset from_blob_urls(const std::vector<std::string>& urls,
                                            BlobTransform<Example> transform = {}, const Client& client = {},
                                            const IterableOptions& options = {}) {
    return IterableBlobDataset(Stream::from_urls(urls, options.shard(), client), KnownBy::position,
                               std::move(transform), options);
  }

  static IterableBlobDataset from_manifest(const std::string& url, BlobTransform<Example> transform = {},
                                           const Client& client = {}, const IterableOptions& options = {}) {
    return IterableBlobDataset(aztorch::Dataset::from_manifest(url, client), std::move(transform), options);
  }

  // Of an aztorch::Dataset: of packed ranges or tar files, for example.
  explicit IterableBlobDataset(const aztorch::Dataset& blobs, BlobTransform<Example> transform = {},
                               const IterableOptions& options = {})
      : IterableBlobDataset(Stream::from_dataset(blobs, options.shard()), KnownBy::position, std::move(transform),
                            options) {}

  // Nothing at the end of the epoch, again and again until reset().
  torch::optional<std::vector<Example>> get_batch(std::size_t batch_size) override {
    std::vector<Sample> samples = shared_->feed.take(batch_size);
    if (samples.empty()) return torch::nullopt;
    std::vector<Example> examples;
    examples.reserve(samples.size());
    for (Sample& sample : samples) {
      examples.push_back(shared_->transform.takes_blob() ? shared_->transform(Blob(std::move(sample)))
                                                         : shared_->transform(std::move(sample)));
    }
    return examples;
  }

  void reset() override { shared_->feed.reset(); }

  torch::optional<std::size_t> size() const override { return torch::nullopt; }

  // The loop is done with this batch. Needed for save() and cursor() only, and then for each batch: with several
  // workers batches may come to the loop in another order than that of the sequence.
  template <typename Batch>
  void mark_consumed(const Batch& batch) {
    if (const auto position = detail::first_position(batch)) shared_->feed.mark_consumed(*position);
  }

  // What has been marked, as one line of text, and back: in a new process, with the same blobs, shuffle, and shard. A
  // blob that was being worked on and not marked is given out again.
  std::string cursor() const { return shared_->feed.cursor(); }
  void resume(const std::string& cursor) { shared_->feed.resume(cursor); }

  // The same in a torch archive.
  void save(torch::serialize::OutputArchive& archive) const override { archive.write("cursor", c10::IValue(cursor())); }

  void load(torch::serialize::InputArchive& archive) override {
    c10::IValue cursor;
    archive.read("cursor", cursor);
    resume(cursor.toStringRef());
  }

 private:
  using KnownBy = detail::StreamFeed::KnownBy;

  struct Shared {
    Shared(Stream stream, KnownBy known_by, BlobTransform<Example> function)
        : feed(std::move(stream), known_by), transform(std::move(function)) {}

    detail::StreamFeed feed;
    BlobTransform<Example> transform;
  };

  IterableBlobDataset(Stream stream, KnownBy known_by, BlobTransform<Example> transform,
                      const IterableOptions& options) {
    if (options.buffer_names() > 0) stream.set_shuffle(options.buffer_names(), options.seed());
    if (transform.takes_blob()) stream.set_lazy();
    shared_ = std::make_shared<Shared>(std::move(stream), known_by, std::move(transform));
  }

  std::shared_ptr<Shared> shared_;
};

}  // namespace aztorch
