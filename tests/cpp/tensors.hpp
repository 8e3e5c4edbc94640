// Helpers for the tests of datasets with LibTorch.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include <torch/types.h>

// The numbers of loader workers that the tests try.
inline constexpr std::size_t kWorkers[] = {0, 1, 4};

inline std::string text(const torch::Tensor& bytes) {
  return std::string(bytes.data_ptr<std::uint8_t>(), bytes.data_ptr<std::uint8_t>() + bytes.numel());
}

// The content of a blob that holds four floats: i, i + 0.25, i + 0.5, i + 0.75.
inline std::string floats(std::size_t i) {
  std::string bytes(4 * sizeof(float), '\0');
  for (std::size_t k = 0; k < 4; ++k) {
    const float value = static_cast<float>(i) + 0.25F * static_cast<float>(k);
    std::memcpy(&bytes[k * sizeof value], &value, sizeof value);
  }
  return bytes;
}

// 0, 1, …, size - 1.
inline std::vector<std::size_t> iota(std::size_t size) {
  std::vector<std::size_t> numbers(size);
  for (std::size_t i = 0; i < size; ++i) numbers[i] = i;
  return numbers;
}

inline std::vector<std::size_t> sorted(std::vector<std::size_t> numbers) {
  std::sort(numbers.begin(), numbers.end());
  return numbers;
}
