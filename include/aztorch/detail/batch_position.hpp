// The position of a batch's first sample, for the types of batches that have one.
#pragma once

#include <cstdint>
#include <iterator>
#include <optional>
#include <type_traits>
#include <utility>

namespace aztorch::detail {

/// Whether T has a member `position` that converts to std::uint64_t without narrowing.
template <typename T, typename = void>
inline constexpr bool kHasPosition = false;
template <typename T>
inline constexpr bool kHasPosition<T, std::void_t<decltype(std::uint64_t{std::declval<const T&>().position})>> = true;

/// Whether T has a member `positions`, a range: a collated batch.
template <typename T, typename = void>
inline constexpr bool kHasPositions = false;
template <typename T>
inline constexpr bool kHasPositions<T, std::void_t<decltype(*std::begin(std::declval<const T&>().positions))>> = true;

/// Whether T is a range of elements that have a `position`: a vector of examples.
template <typename T, typename = void>
inline constexpr bool kElementsHavePosition = false;
template <typename T>
inline constexpr bool kElementsHavePosition<T, std::void_t<decltype(*std::begin(std::declval<const T&>()))>> =
    kHasPosition<std::decay_t<decltype(*std::begin(std::declval<const T&>()))>>;

/// Whether first_position() accepts the batch: a vector of examples, a collated batch, or a single example.
template <typename Batch>
inline constexpr bool kHasFirstPosition = kHasPositions<Batch> || kElementsHavePosition<Batch> || kHasPosition<Batch>;

/// The position of the batch's first sample; nothing for an empty batch.
template <typename Batch>
std::optional<std::uint64_t> first_position(const Batch& batch) {
  static_assert(kHasFirstPosition<Batch>,
                "the batch has no positions of its samples: use BlobExample, Positioned<Example>, examples with a "
                "member `std::uint64_t position`, and KeepPositions<Stack<...>> where they are collated");
  if constexpr (kHasPositions<Batch>) {
    if (std::begin(batch.positions) == std::end(batch.positions)) return std::nullopt;
    return *std::begin(batch.positions);
  } else if constexpr (kElementsHavePosition<Batch>) {
    if (std::begin(batch) == std::end(batch)) return std::nullopt;
    return std::begin(batch)->position;
  } else {
    return batch.position;
  }
}

}  // namespace aztorch::detail
