// `to_tensor`: a sample's bytes as a tensor, without a copy.
#pragma once

#include <cstdint>
#include <limits>
#include <sstream>
#include <utility>

#include <torch/types.h>

#include "../error.hpp"
#include "../sample.hpp"

namespace aztorch {

namespace detail {

/// The size of a dense tensor in bytes. UINT64_MAX when it overflows or a size is negative.
inline std::uint64_t byte_size(torch::IntArrayRef sizes, torch::Dtype dtype) {
  std::uint64_t bytes = c10::elementSize(dtype);
  for (const std::int64_t size : sizes) {
    const auto factor = static_cast<std::uint64_t>(size);
    if (size < 0 || (factor != 0 && bytes > std::numeric_limits<std::uint64_t>::max() / factor)) return UINT64_MAX;
    bytes *= factor;
  }
  return bytes;
}

}  // namespace detail

/// Makes the sample's bytes a tensor without copying them. The tensor owns the bytes: they are freed with its last
/// view. It may be written to. Throws AZT_STATUS_INVALID_ARGUMENT unless a tensor of these sizes and dtype has exactly
/// the sample's number of bytes; the sample is then unchanged.
inline torch::Tensor to_tensor(Sample&& sample, torch::IntArrayRef sizes, torch::Dtype dtype = torch::kUInt8) {
  if (detail::byte_size(sizes, dtype) != sample.size()) {
    std::ostringstream message;
    message << sample.blob_name() << " of " << sample.url() << " has " << sample.size() << " bytes, but a tensor of "
            << sizes << " of " << dtype << " takes " << detail::byte_size(sizes, dtype);
    throw Error(AZT_STATUS_INVALID_ARGUMENT, message.str());
  }
  if (sample.size() == 0) {  // from_blob handles NULL differently in different versions of torch
    const Sample consumed = std::move(sample);
    return torch::empty(sizes, dtype);
  }
  // Writing through const_cast is safe: the sample is the only owner of the bytes. The sample is released after
  // from_blob, which does not call its deleter when it throws.
  azt_sample* const handle = const_cast<azt_sample*>(sample.get());
  auto tensor = torch::from_blob(
      const_cast<std::uint8_t*>(sample.data()), sizes, [handle](void*) { azt_sample_free(handle); }, dtype);
  sample.release();
  return tensor;
}

/// Makes the sample's bytes a one-dimensional uint8 tensor without copying them. The tensor owns them: they are freed
/// with its last view. It may be written to.
inline torch::Tensor to_tensor(Sample&& sample) {
  return to_tensor(std::move(sample), {static_cast<std::int64_t>(sample.size())});
}

}  // namespace aztorch
