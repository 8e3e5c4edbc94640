// BlobTransform: how an example is made of a sample.
#pragma once

#include <functional>
#include <type_traits>
#include <utility>

#include "dataset.hpp"
#include "example.hpp"
#include "sample.hpp"

namespace aztorch {

namespace detail {

// A function that makes an `Example` of what `function` makes of a Source, which has a position().
template <typename Example>
struct ExampleOf {
  template <typename Function, typename Source>
  static Example make(Function& function, Source&& source) {
    return function(std::forward<Source>(source));
  }
};

template <typename Example>
struct ExampleOf<Positioned<Example>> {
  template <typename Function, typename Source>
  static Positioned<Example> make(Function& function, Source&& source) {
    const std::uint64_t position = source.position();
    return {function(std::forward<Source>(source)), position};
  }
};

}  // namespace detail

// Made from any function of the form Example(const aztorch::Sample&) or Example(aztorch::Sample&&), which gets the
// bytes, or Example(const aztorch::Blob&), which gets a blob of which nothing has been fetched: what it reads through
// blob.reader() is all that is transferred. Without a function, Example's constructor from a Sample&& is used.
template <typename Example>
class BlobTransform {
 public:
  BlobTransform() : BlobTransform([](Sample&& sample) { return Example(std::move(sample)); }) {
    static_assert(std::is_constructible_v<Example, Sample&&>, "this Example needs a transform that makes it");
  }

  template <typename Function, typename = std::enable_if_t<!std::is_same_v<std::decay_t<Function>, BlobTransform>>>
  BlobTransform(Function function) {
    constexpr bool takes_sample = std::is_invocable_v<Function&, Sample&&>;
    constexpr bool takes_blob = std::is_invocable_v<Function&, const Blob&>;
    static_assert(takes_sample || takes_blob,
                  "a transform is an Example(const aztorch::Sample&), an Example(aztorch::Sample&&) or an "
                  "Example(const aztorch::Blob&)");
    if constexpr (takes_sample) {
      of_sample_ = [function = std::move(function)](Sample&& sample) mutable {
        return detail::ExampleOf<Example>::make(function, std::move(sample));
      };
    } else {
      of_blob_ = [function = std::move(function)](const Blob& blob) mutable {
        return detail::ExampleOf<Example>::make(function, blob);
      };
    }
  }

  // Else it is a transform of samples.
  bool takes_blob() const noexcept { return of_blob_ != nullptr; }

  Example operator()(Sample&& sample) const { return of_sample_(std::move(sample)); }
  Example operator()(const Blob& blob) const { return of_blob_(blob); }

 private:
  std::function<Example(Sample&&)> of_sample_;
  std::function<Example(const Blob&)> of_blob_;
};

}  // namespace aztorch
