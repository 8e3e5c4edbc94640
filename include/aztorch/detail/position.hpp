// Where a batch says which samples it was made of.
#pragma once

#include <cstdint>
#include <iterator>
#include <optional>
#include <type_traits>
#include <utility>

namespace aztorch::detail {

template <typename T, typename = void>
inline constexpr bool kHasPosition = false;
template <typename T>
inline constexpr bool kHasPosition<T, std::void_t<decltype(std::uint64_t{std::declval<const T&>().position})>> = true;

template <typename T, typename = void>
inline constexpr bool kHasPositions = false;
template <typename T>
inline constexpr bool kHasPositions<T, std::void_t<decltype(*std::begin(std::declval<const T&>().positions))>> = true;

template <typename T, typename = void>
inline constexpr bool kHoldsPositions = false;
template <typename T>
inline constexpr bool kHoldsPositions<T, std::void_t<decltype(*std::begin(std::declval<const T&>()))>> =
    kHasPosition<std::decay_t<decltype(*std::begin(std::declval<const T&>()))>>;

// A vector of examples with a `position`, a collated batch with `positions`, or one example.
template <typename Batch>
inline constexpr bool kKnowsPosition = kHasPositions<Batch> || kHoldsPositions<Batch> || kHasPosition<Batch>;

// That of the batch's first example; nothing for an empty batch.
template <typename Batch>
std::optional<std::uint64_t> first_position(const Batch& batch) {
  static_assert(kKnowsPosition<Batch>,
                "the batch does not know its samples' positions: use BlobExample, Positioned<Example>, examples with a "
                "member `std::uint64_t position`, and KeepPositions<Stack<...>> where they are collated");
  if constexpr (kHasPositions<Batch>) {
    if (std::begin(batch.positions) == std::end(batch.positions)) return std::nullopt;
    return *std::begin(batch.positions);
  } else if constexpr (kHoldsPositions<Batch>) {
    if (std::begin(batch) == std::end(batch)) return std::nullopt;
    return std::begin(batch)->position;
  } else {
    return batch.position;
  }
}

}  // namespace aztorch::detail
