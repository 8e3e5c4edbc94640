// BlobExample: the default example type of the datasets for torch::data.
#pragma once

#include <cstdint>
#include <string>
#include <utility>

#include <torch/types.h>

#include "../sample.hpp"
#include "to_tensor.hpp"

namespace aztorch {

/// The example that a BlobDataset or IterableBlobDataset returns without a transform: a sample's bytes as a tensor, and
/// its origin.
struct BlobExample {
  BlobExample() = default;

  /// Takes the sample's bytes over without a copy.
  explicit BlobExample(Sample&& sample)
      : url(sample.url()), blob_name(sample.blob_name()), position(sample.position()),
        data(to_tensor(std::move(sample))) {}

  std::string url;             ///< The blob's URL without its query, so without a SAS.
  std::string blob_name;       ///< The blob's name, or the path of a member of a tar archive.
  std::uint64_t position = 0;  ///< Sample::position(): the index in the dataset, or the place in the stream.
  torch::Tensor data;          ///< The bytes, as a one-dimensional uint8 tensor.
};

}  // namespace aztorch
