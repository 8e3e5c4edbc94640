// What the tests of datasets with LibTorch share.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include <torch/types.h>

inline constexpr std::size_t kWorkers[] = {0, 1, 4};

inline std::string text(const torch::Tensor& bytes) {
  return std::string(bytes.data_ptr<std::uint8_t>(), bytes.data_ptr<std::uint8_t>() + bytes.numel());
}

// Blob i holds four floats: i, i + 0.25, i + 0.5, i + 0.75.
inline std::string floats(std::size_t i) {
  std::string bytes(4 * sizeof(float), '\0');
  for (std::size_t k = 0; k < 4; ++k) {
    const float value = static_cast<float>(i) + 0.25F * static_cast<float>(k);
    std::memcpy(&bytes[k * sizeof value], &value, sizeof value);
  }
  return bytes;
}

inline std::vector<std::size_t> counted(std::size_t size) {
  std::vector<std::size_t> numbers(size);
  for (std::size_t i = 0; i < size; ++i) numbers[i] = i;
  return numbers;
}

inline std::vector<std::size_t> sorted(std::vector<std::size_t> numbers) {
  std::sort(numbers.begin(), numbers.end());
  return numbers;
}
