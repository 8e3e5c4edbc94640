// A pseudo-random permutation of 0 … size - 1 that is computed, not stored.
#pragma once

#include <cstddef>
#include <cstdint>

namespace aztorch::detail {

/// A permutation that depends only on size, seed and epoch. It is the same on every machine and with every standard
/// library, unlike std::shuffle. Checkpoints depend on it, so it must never change.
///
/// A Feistel network over the smallest even number of bits that holds the size. It is applied until the result is below
/// the size: fewer than four times on average.
class Permutation {
 public:
  Permutation() = default;

  Permutation(std::uint64_t size, std::uint64_t seed, std::uint64_t epoch) : size_(size), key_(mix(mix(seed) + epoch)) {
    while (half_bits_ < 32 && (std::uint64_t{1} << (2 * half_bits_)) < size) ++half_bits_;
  }

  /// The value at `index`, which must be less than the size.
  std::size_t operator[](std::size_t index) const noexcept {
    std::uint64_t value = index;
    do {
      value = scramble(value);
    } while (value >= size_);
    return static_cast<std::size_t>(value);
  }

 private:
  static constexpr std::uint64_t kRounds = 6;

  std::uint64_t scramble(std::uint64_t value) const noexcept {
    const std::uint64_t mask = (std::uint64_t{1} << half_bits_) - 1;
    std::uint64_t left = value >> half_bits_;
    std::uint64_t right = value & mask;
    for (std::uint64_t round = 0; round < kRounds; ++round) {
      const std::uint64_t next = left ^ (mix(key_ + kRounds * right + round) & mask);
      left = right;
      right = next;
    }
    return left << half_bits_ | right;
  }

  /// The output function of SplitMix64.
  static std::uint64_t mix(std::uint64_t value) noexcept {
    value += 0x9e3779b97f4a7c15U;
    value = (value ^ value >> 30) * 0xbf58476d1ce4e5b9U;
    value = (value ^ value >> 27) * 0x94d049bb133111ebU;
    return value ^ value >> 31;
  }

  std::uint64_t size_ = 0;
  std::uint64_t key_ = 0;
  unsigned half_bits_ = 1;
};

}  // namespace aztorch::detail
