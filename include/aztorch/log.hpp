// The process's log, to a function of the program's own.
#pragma once

#include <functional>
#include <memory>
#include <string_view>
#include <utility>

#include "error.hpp"

namespace aztorch {

// Level (AZT_LOG_LEVEL_*), target and message of a line, which live during the call. Called from any thread, also from
// several at once; must not throw.
using LogCallback = std::function<void(azt_log_level, std::string_view, std::string_view)>;

// Sends lines up to `level` to `callback`, in place of an earlier one. An empty callback turns the log off. When this
// returns, the earlier callback is not running and will not be called again.
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
