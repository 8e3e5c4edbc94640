// `set_log_callback`: the library's log, as calls of a function of the program.
#pragma once

#include <functional>
#include <memory>
#include <string_view>
#include <utility>

#include "detail/c_api.hpp"

namespace aztorch {

/// Receives one log line: its level (one of the AZT_LOG_LEVEL_* constants), its target (the part of the library), and
/// its message, which holds no secret. The texts are valid during the call.
///
/// The library calls it on any thread, and on several threads at once. It must not throw. Inside it, calls of this
/// library that block throw AZT_STATUS_UNSUPPORTED.
using LogCallback = std::function<void(azt_log_level, std::string_view, std::string_view)>;

/// Sends the process's log, lines up to `level`, to `callback`, which replaces an earlier callback. An empty callback
/// turns the log off, which is the default.
///
/// When it returns, the earlier callback is not running and will not be called again. Thread-safe. Waits for running
/// calls of the earlier callback. Throws Error: AZT_STATUS_INVALID_ARGUMENT for an unknown level,
/// AZT_STATUS_UNSUPPORTED from inside a log callback.
inline void set_log_callback(azt_log_level level, LogCallback callback) {
  if (!callback) {
    detail::call(azt_log_set_callback, level, azt_log_callback{nullptr}, static_cast<void*>(nullptr),
                 detail::Finalizer{nullptr});
    return;
  }
  auto owned = std::make_unique<LogCallback>(std::move(callback));
  const auto forward = [](void* user_data, azt_log_level line_level, const char* target, const char* message) {
    (*static_cast<LogCallback*>(user_data))(line_level, target, message);
  };
  detail::call(azt_log_set_callback, level, azt_log_callback{forward}, static_cast<void*>(owned.get()),
               detail::Finalizer{detail::finalize<LogCallback>});
  owned.release();
}

}  // namespace aztorch
