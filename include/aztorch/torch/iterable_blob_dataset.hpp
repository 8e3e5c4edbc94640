// IterableBlobDataset: blobs in sequence, as a stateful dataset of torch::data that can be saved and resumed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <torch/data/datasets/stateful.h>
#include <torch/serialize/archive.h>

#include "../dataset.hpp"
#include "../detail/batch_position.hpp"
#include "../detail/batched_stream.hpp"
#include "../stream.hpp"
#include "blob_transform.hpp"
#include "example.hpp"
#include "optional.hpp"

namespace aztorch {

/// Options of an IterableBlobDataset: `IterableOptions().shard(rank, world_size).shuffle(10'000, seed)`. Setters return
/// the options, for chaining.
class IterableOptions {
 public:
  /// Reads the blobs `index`, `index + count`, `index + 2 * count`, … only. Default: all blobs.
  IterableOptions& shard(std::size_t index, std::size_t count) {
    shard_ = {index, count};
    return *this;
  }

  /// Shuffles the names through a buffer of `buffer_names` names. Each epoch has an order of its own. Default: no
  /// shuffle.
  IterableOptions& shuffle(std::size_t buffer_names, std::uint64_t seed) {
    buffer_names_ = buffer_names;
    seed_ = seed;
    return *this;
  }

  /// The shard that was set.
  const Shard& shard() const noexcept { return shard_; }

  /// The size of the shuffle buffer; 0: no shuffle.
  std::size_t buffer_names() const noexcept { return buffer_names_; }

  /// The seed of the shuffle.
  std::uint64_t seed() const noexcept { return seed_; }

 private:
  Shard shard_;
  std::size_t buffer_names_ = 0;
  std::uint64_t seed_ = 0;
};

/// A stateful dataset of torch::data: blobs in sequence, listed while they are read, and read ahead.
///
/// Copies share one sequence and one transform, which the workers call at the same time. Keep a copy beside the one
/// that the loader takes, to save and restore the position:
///
///     auto dataset = aztorch::IterableBlobDataset<>::from_container_url(url);
///     if (resumed) dataset.load(archive);
///     auto loader = torch::data::make_data_loader(dataset, torch::data::DataLoaderOptions(32).workers(4));
///     for (auto& batch : *loader) {
///       train(batch);
///       dataset.mark_consumed(batch);
///       if (time_to_save()) dataset.save(archive);  // the position of the loop, not of the workers
///     }
///
/// The loader's begin() calls reset(), which starts the next epoch. The very first reset(), and the first one after
/// load(), keep the position. An exception in a worker reaches the loop as torch's WorkerException.
template <typename Example = BlobExample>
class IterableBlobDataset
    : public torch::data::datasets::StatefulDataset<IterableBlobDataset<Example>, std::vector<Example>> {
 public:
  /// The blobs of a container whose names begin with `prefix`. Sends nothing: the first batch throws the error of a
  /// missing container. Throws AZT_STATUS_INVALID_ARGUMENT for a bad URL or shard.
  static IterableBlobDataset from_container_url(const std::string& container_url, const std::string& prefix = "",
                                                BlobTransform<Example> transform = {}, const Client& client = {},
                                                const IterableOptions& options = {}) {
    return IterableBlobDataset(Stream::list(container_url, prefix, options.shard(), client), SampleKey::name,
                               std::move(transform), options);
  }

  /// The blobs of these URLs, in this order unless shuffled. Sends nothing. Throws AZT_STATUS_INVALID_ARGUMENT for a
  /// bad URL or shard.
  static IterableBlobDataset from_blob_urls(const std::vector<std::string>& urls,
                                            BlobTransform<Example> transform = {}, const Client& client = {},
                                            const IterableOptions& options = {}) {
    return IterableBlobDataset(Stream::from_urls(urls, options.shard(), client), SampleKey::position,
                               std::move(transform), options);
  }

  /// The entries of a manifest that aztorch::Dataset::save_manifest() saved. Blocks. Throws Error.
  static IterableBlobDataset from_manifest(const std::string& url, BlobTransform<Example> transform = {},
                                           const Client& client = {}, const IterableOptions& options = {}) {
    return IterableBlobDataset(aztorch::Dataset::from_manifest(url, client), std::move(transform), options);
  }

  /// The entries of an aztorch::Dataset, for example of packed ranges or tar archives. Sends nothing. Throws
  /// AZT_STATUS_INVALID_ARGUMENT for a bad shard.
  explicit IterableBlobDataset(const aztorch::Dataset& blobs, BlobTransform<Example> transform = {},
                               const IterableOptions& options = {})
      : IterableBlobDataset(Stream::from_dataset(blobs, options.shard()), SampleKey::position, std::move(transform),
                            options) {}

  /// Returns the next batch, or nothing at the end of the epoch, until reset(). Called by torch. Thread-safe.
  /// Blocks. Throws Error, and the exceptions of the transform.
  Optional<std::vector<Example>> get_batch(std::size_t batch_size) override {
    std::vector<Sample> samples = shared_->stream.take(batch_size);
    if (samples.empty()) return {};
    std::vector<Example> examples;
    examples.reserve(samples.size());
    for (Sample& sample : samples) {
      examples.push_back(shared_->transform.takes_blob() ? shared_->transform(Blob(std::move(sample)))
                                                         : shared_->transform(std::move(sample)));
    }
    return examples;
  }

  /// Starts the next epoch. The very first call, and the first one after load() or resume(), keep the position. Called
  /// by torch.
  void reset() override { shared_->stream.reset(); }

  /// Returns nothing: the number of samples is not known before the end.
  Optional<std::size_t> size() const override { return {}; }

  /// Marks this batch as consumed by the loop. Needed only for save() and cursor(), and then for each batch: with
  /// several workers, batches may reach the loop in another order than that of the sequence. Throws
  /// AZT_STATUS_INVALID_ARGUMENT for a batch that is not of this epoch or is marked already.
  template <typename Batch>
  void mark_consumed(const Batch& batch) {
    if (const auto position = detail::first_position(batch)) shared_->stream.mark_consumed(*position);
  }

  /// The samples marked as consumed, as one line of text for resume(). Throws AZT_STATUS_OUT_OF_RANGE when more than
  /// 65,536 samples were delivered and not marked.
  std::string cursor() const { return shared_->stream.cursor(); }

  /// Continues where a cursor was taken, usually in a new process, with the same blobs, shuffle and shard. Samples that
  /// were delivered and not marked are delivered again. Throws AZT_STATUS_INVALID_ARGUMENT for a cursor of another
  /// dataset.
  void resume(const std::string& cursor) { shared_->stream.resume(cursor); }

  /// Writes cursor() into an archive. Throws as cursor() does.
  void save(torch::serialize::OutputArchive& archive) const override { archive.write("cursor", c10::IValue(cursor())); }

  /// Reads a cursor from an archive that save() wrote, and resumes there. Throws as resume() does; c10::Error for
  /// another archive.
  void load(torch::serialize::InputArchive& archive) override {
    c10::IValue cursor;
    archive.read("cursor", cursor);
    resume(cursor.toStringRef());
  }

 private:
  using SampleKey = detail::BatchedStream::SampleKey;

  struct Shared {
    Shared(Stream samples, SampleKey sample_key, BlobTransform<Example> function)
        : stream(std::move(samples), sample_key), transform(std::move(function)) {}

    detail::BatchedStream stream;
    BlobTransform<Example> transform;
  };

  IterableBlobDataset(Stream stream, SampleKey sample_key, BlobTransform<Example> transform,
                      const IterableOptions& options) {
    if (options.buffer_names() > 0) stream.set_shuffle(options.buffer_names(), options.seed());
    if (transform.takes_blob()) stream.set_lazy();
    shared_ = std::make_shared<Shared>(std::move(stream), sample_key, std::move(transform));
  }

  std::shared_ptr<Shared> shared_;
};

}  // namespace aztorch
