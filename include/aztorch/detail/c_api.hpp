// Calls of the C API: owning handles, and errors as exceptions.
#pragma once

#include <cstddef>
#include <memory>
#include <string>

#include <aztorch.h>

#include "../error.hpp"

namespace aztorch::detail {

template <typename T, void (*Free)(T*)>
struct Deleter {
  void operator()(T* handle) const noexcept { Free(handle); }
};

/// An owning pointer to a handle of the C API.
template <typename T, void (*Free)(T*)>
using Handle = std::unique_ptr<T, Deleter<T, Free>>;

/// Frees `raw`, and throws it as an Error unless `status` is AZT_STATUS_OK.
inline void check(azt_status status, azt_error* raw) {
  const Handle<azt_error, azt_error_free> error(raw);
  if (status == AZT_STATUS_OK) return;
  if (error) throw Error(*error);
  throw Error(status, azt_status_name(status));
}

/// Calls a function of the C API with these arguments and, last, an `azt_error **`. Throws the error that it returns.
template <typename Function, typename... Arguments>
void call(Function function, Arguments... arguments) {
  azt_error* raw = nullptr;
  const azt_status status = function(arguments..., &raw);
  check(status, raw);
}

/// Calls a function of the C API that writes a text, and returns that text. After `arguments` the function takes a
/// buffer, its capacity, an output for the size with the NUL, and an `azt_error **`. Throws the error that it returns.
template <typename Function, typename... Arguments>
std::string call_for_text(Function function, Arguments... arguments) {
  std::string text(255, '\0');
  for (;;) {
    std::size_t size = 0;
    azt_error* raw = nullptr;
    const azt_status status = function(arguments..., text.data(), text.size() + 1, &size, &raw);
    const bool too_small = status == AZT_STATUS_BUFFER_TOO_SMALL && size > text.size() + 1;
    if (too_small) {
      azt_error_free(raw);
    } else {
      check(status, raw);
    }
    text.resize(size == 0 ? 0 : size - 1);
    if (!too_small) return text;
  }
}

/// Frees the user data of a callback of the C API.
using Finalizer = void (*)(void*);

/// A Finalizer for user data that was made with `new T`.
template <typename T>
void finalize(void* user_data) {
  delete static_cast<T*>(user_data);
}

/// Returns `text.c_str()`. Throws AZT_STATUS_INVALID_ARGUMENT for a NUL inside `text`: the C API would ignore the rest.
inline const char* c_string(const std::string& text) {
  if (text.find('\0') != std::string::npos) {
    // The text may be a secret, so the message does not contain it.
    throw Error(AZT_STATUS_INVALID_ARGUMENT, "a string has a NUL character inside");
  }
  return text.c_str();
}

}  // namespace aztorch::detail
