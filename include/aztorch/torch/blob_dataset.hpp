// BlobDataset: blobs by index, as a dataset of torch::data.
//
//     auto dataset = aztorch::BlobDataset<torch::data::Example<>>::from_container_url(
//         "https://account.blob.core.windows.net/container?SAS", "train/",
//         [](const aztorch::Sample& sample) { return decode(sample.data(), sample.size()); });
//     auto loader = torch::data::make_data_loader(
//         dataset.map(torch::data::transforms::Stack<>()), aztorch::PrefetchSampler(dataset),
//         torch::data::DataLoaderOptions(32).workers(4));
//     for (auto& batch : *loader) train(batch.data, batch.target);
//
// An exception in a worker reaches the loop as torch's WorkerException; its original_exception is the aztorch::Error.
#pragma once

#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include <torch/data/datasets/base.h>

#include "../dataset.hpp"
#include "blob_transform.hpp"
#include "example.hpp"
#include "optional.hpp"

namespace aztorch {

/// A map-style dataset of torch::data over blobs, for any sampler of torch; PrefetchSampler also fetches ahead.
///
/// The transform makes an Example from each sample. torch's loader makes a copy for each worker: copies share the
/// listing, and each has a copy of the transform.
template <typename Example = BlobExample>
class BlobDataset : public torch::data::datasets::Dataset<BlobDataset<Example>, Example> {
 public:
  /// The entries of an aztorch::Dataset, for example of packed ranges or tar archives.
  explicit BlobDataset(aztorch::Dataset blobs, BlobTransform<Example> transform = {})
      : blobs_(std::move(blobs)), transform_(std::move(transform)) {}

  /// Lists the blobs of a container whose names begin with `prefix`. Blocks. Throws Error: AZT_STATUS_NOT_FOUND for a
  /// missing container.
  static BlobDataset from_container_url(const std::string& container_url, const std::string& prefix = "",
                                        BlobTransform<Example> transform = {}, const Client& client = {}) {
    return BlobDataset(aztorch::Dataset::list(container_url, prefix, client), std::move(transform));
  }

  /// The blobs of these URLs, in this order. Sends nothing. Throws AZT_STATUS_INVALID_ARGUMENT for a bad URL.
  static BlobDataset from_blob_urls(const std::vector<std::string>& urls, BlobTransform<Example> transform = {},
                                    const Client& client = {}) {
    return BlobDataset(aztorch::Dataset::from_urls(urls, client), std::move(transform));
  }

  /// The entries of a manifest that aztorch::Dataset::save_manifest() saved. Blocks. Throws Error.
  static BlobDataset from_manifest(const std::string& url, BlobTransform<Example> transform = {},
                                   const Client& client = {}) {
    return BlobDataset(aztorch::Dataset::from_manifest(url, client), std::move(transform));
  }

  /// Fetches and transforms one sample. Blocks. Throws Error, and the exceptions of the transform.
  Example get(std::size_t index) override {
    return takes_blob() ? transform_(Blob(blobs_, index)) : transform_(blobs_.get(index));
  }

  /// Fetches samples concurrently, then transforms them one after the other. Blocks. Throws Error when any of them
  /// fails, and the exceptions of the transform.
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

  /// The number of samples.
  Optional<std::size_t> size() const override { return blobs_.size(); }

  /// The underlying aztorch::Dataset: names, sizes, URLs.
  const aztorch::Dataset& blobs() const noexcept { return blobs_; }

  /// Whether the transform takes a Blob and reads only parts of it. Then whole blobs should not be fetched ahead.
  bool takes_blob() const noexcept { return transform_.takes_blob(); }

 private:
  aztorch::Dataset blobs_;
  BlobTransform<Example> transform_;
};

}  // namespace aztorch
