// ProgressCallback: a function that receives the progress of transfers.
#pragma once

#include <cstdint>
#include <functional>

namespace aztorch {

/// Receives the number of bytes transferred so far and the number in all, which is UINT64_MAX while it is unknown.
///
/// The library calls it only on a thread that is inside a call on that blob, at most ten times a second and at the end
/// of the call. It must not throw. Inside it, calls of this library that block throw AZT_STATUS_UNSUPPORTED.
using ProgressCallback = std::function<void(std::uint64_t done, std::uint64_t total)>;

}  // namespace aztorch
