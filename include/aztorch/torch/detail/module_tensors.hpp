// A module's tensors by name, as Python's state_dict() names them, and their dtypes.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <ATen/ATen.h>
#include <torch/nn/module.h>

#include "../../detail/tensor_view.hpp"
#include "../../error.hpp"

namespace aztorch::detail {

// In the order of kDtypes.
inline constexpr std::array<at::ScalarType, kDtypes.size()> kScalarTypes{
    at::kFloat, at::kDouble, at::kHalf, at::kBFloat16, at::kLong,          at::kInt,
    at::kShort, at::kChar,   at::kByte, at::kBool,     at::kComplexFloat, at::kComplexDouble,
};

inline at::ScalarType scalar_type(Dtype dtype) { return kScalarTypes[static_cast<std::size_t>(dtype)]; }

/// The Dtype of a scalar type; std::nullopt for a type that a state_dict file cannot hold.
inline std::optional<Dtype> dtype_of(at::ScalarType type) {
  for (const auto& known : kDtypes) {
    if (scalar_type(known.dtype) == type) return known.dtype;
  }
  return std::nullopt;
}

using NamedTensors = std::vector<std::pair<std::string, at::Tensor>>;

/// Appends the tensors of a module in Python's order: its parameters, its buffers, then its children. Undefined
/// tensors, which bias=False gives in C++, are left out: Python's state_dict does not have them.
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

/// The entries of the module's state_dict, in Python's order. The tensors share the module's memory.
inline NamedTensors named_tensors(const torch::nn::Module& module) {
  NamedTensors tensors;
  collect_tensors(module, "", tensors);
  return tensors;
}

/// The module in a reference, a std::shared_ptr or a ModuleHolder. Throws AZT_STATUS_INVALID_ARGUMENT for an empty one.
template <typename Value>
auto& unwrap_module(Value& value) {
  if constexpr (std::is_base_of_v<torch::nn::Module, std::remove_cv_t<Value>>) {
    return value;
  } else {
    if (!value) throw Error(AZT_STATUS_INVALID_ARGUMENT, "the module is empty");
    return *value;
  }
}

}  // namespace aztorch::detail
