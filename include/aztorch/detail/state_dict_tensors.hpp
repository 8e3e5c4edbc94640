// What a state_dict holds on the side of LibTorch: a module's named tensors, and dtypes as torch has them.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <ATen/ATen.h>
#include <torch/nn/module.h>

#include "state_dict_format.hpp"

namespace aztorch::detail {

// In the order of kDtypes.
inline constexpr std::array<at::ScalarType, kDtypes.size()> kScalarTypes{
    at::kFloat, at::kDouble, at::kHalf, at::kBFloat16, at::kLong,          at::kInt,
    at::kShort, at::kChar,   at::kByte, at::kBool,     at::kComplexFloat, at::kComplexDouble,
};

inline at::ScalarType scalar_type(Dtype dtype) { return kScalarTypes[static_cast<std::size_t>(dtype)]; }

inline std::optional<Dtype> dtype_of(at::ScalarType type) {
  for (const auto& known : kDtypes) {
    if (scalar_type(known.dtype) == type) return known.dtype;
  }
  return std::nullopt;
}

using NamedTensors = std::vector<std::pair<std::string, at::Tensor>>;

// Python's order: each module's parameters, its buffers, then its children. A bias=False leaves an undefined tensor
// behind in C++, which Python's state_dict does not have.
inline void collect_tensors(const torch::nn::Module& module, const std::string& prefix, NamedTensors& tensors) {
  for (const auto& parameter : module.named_parameters(/*recurse=*/false)) {
    if (parameter.value().defined()) tensors.emplace_back(prefix + parameter.key(), parameter.value());
  }
  for (const auto& buffer : module.named_buffers(/*recurse=*/false)) {
    if (buffer.value().defined()) tensors.emplace_back(prefix + buffer.key(), buffer.value());
  }
  for (const auto& child : module.named_children()) {
    collect_tensors(*child.value(), prefix + child.key() + '.', tensors);
  }
}

inline NamedTensors state_of(const torch::nn::Module& module) {
  NamedTensors tensors;
  collect_tensors(module, "", tensors);
  return tensors;
}

}  // namespace aztorch::detail
