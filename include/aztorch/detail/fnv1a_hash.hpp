// FNV-1a: a hash of texts that is the same in every process and on every machine.
#pragma once

#include <cstdint>
#include <string_view>

namespace aztorch::detail {

class Fnv1aHash {
 public:
  /// Adds a text and a terminating NUL, so that "ab", "c" and "a", "bc" differ.
  Fnv1aHash& add(std::string_view text) noexcept {
    for (const char byte : text) mix(static_cast<unsigned char>(byte));
    mix(0);
    return *this;
  }

  std::uint64_t value() const noexcept { return value_; }

 private:
  void mix(unsigned char byte) noexcept { value_ = (value_ ^ byte) * 0x100000001b3U; }

  std::uint64_t value_ = 0xcbf29ce484222325U;
};

}  // namespace aztorch::detail
