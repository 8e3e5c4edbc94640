// BlobTransform: the function of a dataset that makes an example from a sample.
#pragma once

#include <cstdint>
#include <functional>
#include <type_traits>
#include <utility>

#include "../dataset.hpp"
#include "../sample.hpp"
#include "positioned.hpp"

namespace aztorch {

namespace detail {

/// Makes an Example by calling `function` with a Sample or a Blob.
template <typename Example>
struct MakeExample {
  template <typename Function, typename Source>
  static Example make(Function& function, Source&& source) {
    return function(std::forward<Source>(source));
  }
};

/// For Positioned examples: `function` makes the example, the position comes from the Sample or Blob.
template <typename Example>
struct MakeExample<Positioned<Example>> {
  template <typename Function, typename Source>
  static Positioned<Example> make(Function& function, Source&& source) {
    const std::uint64_t position = source.position();
    return {function(std::forward<Source>(source)), position};
  }
};

}  // namespace detail

/// Makes an Example from a Sample or from a Blob. Implicitly made from any function of one of these forms:
///
/// - `Example(const aztorch::Sample&)` or `Example(aztorch::Sample&&)` gets the bytes, fetched by the dataset.
/// - `Example(const aztorch::Blob&)` gets a blob of which nothing is fetched; it reads the parts that it needs through
///   blob.reader().
///
/// A default-constructed transform uses Example's constructor from a Sample&&. Copyable; a copy has a copy of the
/// function.
template <typename Example>
class BlobTransform {
 public:
  /// Uses Example's constructor from a Sample&&.
  BlobTransform() : BlobTransform([](Sample&& sample) { return Example(std::move(sample)); }) {
    static_assert(std::is_constructible_v<Example, Sample&&>, "this Example needs a transform that makes it");
  }

  /// Uses this function. A function that accepts both a Sample and a Blob is called with a Sample.
  template <typename Function, typename = std::enable_if_t<!std::is_same_v<std::decay_t<Function>, BlobTransform>>>
  BlobTransform(Function function) {
    constexpr bool takes_sample = std::is_invocable_v<Function&, Sample&&>;
    constexpr bool takes_blob = std::is_invocable_v<Function&, const Blob&>;
    static_assert(takes_sample || takes_blob,
                  "a transform is an Example(const aztorch::Sample&), an Example(aztorch::Sample&&) or an "
                  "Example(const aztorch::Blob&)");
    if constexpr (takes_sample) {
      of_sample_ = [function = std::move(function)](Sample&& sample) mutable {
        return detail::MakeExample<Example>::make(function, std::move(sample));
      };
    } else {
      of_blob_ = [function = std::move(function)](const Blob& blob) mutable {
        return detail::MakeExample<Example>::make(function, blob);
      };
    }
  }

  /// Whether the function takes a Blob; otherwise it takes a Sample.
  bool takes_blob() const noexcept { return of_blob_ != nullptr; }

  /// Makes an example from a sample. Call it only when takes_blob() is false. Throws the exceptions of the function.
  Example operator()(Sample&& sample) const { return of_sample_(std::move(sample)); }

  /// Makes an example from a blob. Call it only when takes_blob() is true. Throws the exceptions of the function.
  Example operator()(const Blob& blob) const { return of_blob_(blob); }

 private:
  std::function<Example(Sample&&)> of_sample_;
  std::function<Example(const Blob&)> of_blob_;
};

}  // namespace aztorch
