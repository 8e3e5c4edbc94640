// The type by which datasets and samplers of torch may return nothing.
#pragma once

#include <cstddef>
#include <utility>

#include <torch/data/samplers/base.h>

namespace aztorch {
namespace detail {

template <typename Known, typename Value>
struct SameOptional;

template <template <typename> class Template, typename Known, typename Value>
struct SameOptional<Template<Known>, Value> {
  using type = Template<Value>;
};

using TorchBatch = decltype(std::declval<torch::data::samplers::Sampler<>&>().next(std::size_t{}));

}  // namespace detail

/// The optional of torch's datasets and samplers: std::optional, or a class of torch in LibTorch 1.13. A class that is
/// derived from them compiles with both; torch::optional is deprecated in LibTorch 2.
template <typename Value>
using Optional = typename detail::SameOptional<detail::TorchBatch, Value>::type;

}  // namespace aztorch
