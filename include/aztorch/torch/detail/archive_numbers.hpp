// Numbers in torch archives.
#pragma once

#include <cstdint>
#include <string>

#include <torch/serialize/archive.h>

#include "../../error.hpp"

namespace aztorch::detail {

inline void write_number(torch::serialize::OutputArchive& archive, const std::string& key, std::uint64_t number) {
  archive.write(key, c10::IValue(static_cast<std::int64_t>(number)));
}

inline std::uint64_t read_number(torch::serialize::InputArchive& archive, const std::string& key) {
  c10::IValue value;
  archive.read(key, value);
  return static_cast<std::uint64_t>(value.toInt());
}

/// Reads a number and throws AZT_STATUS_INVALID_ARGUMENT unless it is `expected`: a state that was saved with other
/// settings must not be loaded.
inline void expect_number(torch::serialize::InputArchive& archive, const std::string& key, std::uint64_t expected) {
  const std::uint64_t saved = read_number(archive, key);
  if (saved == expected) return;
  throw Error(AZT_STATUS_INVALID_ARGUMENT, "the saved state has " + key + " " + std::to_string(saved) +
                                               ", where it is loaded it is " + std::to_string(expected));
}

}  // namespace aztorch::detail
