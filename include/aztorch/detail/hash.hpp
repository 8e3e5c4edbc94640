// FNV-1a: numbers for names, the same in every process.
#pragma once

#include <cstdint>
#include <string_view>

namespace aztorch::detail {

class Hash {
 public:
  // Each text ends in the hash where the next begins.
  Hash& add(std::string_view text) noexcept {
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
