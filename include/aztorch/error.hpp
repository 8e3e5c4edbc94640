// aztorch::Error, and the bridge from the C ABI's status and azt_error to it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>

#include <aztorch.h>

namespace aztorch {

// What failed, on which blob, why and what to do about it: what() is one readable line.
class Error : public std::runtime_error {
 public:
  Error(azt_status status, const std::string& message)
      : Error(message, Details{status, 0, false, {}, {}}) {}

  explicit Error(const azt_error& error)
      : Error(azt_error_message(&error),
              Details{azt_error_status(&error), azt_error_http_status(&error), azt_error_is_retryable(&error),
                      azt_error_service_code(&error), azt_error_request_id(&error)}) {}

  azt_status status() const noexcept { return details_->status; }
  // 0 when there was no response.
  std::uint16_t http_status() const noexcept { return details_->http_status; }
  // For example "BlobNotFound"; empty when the service gave none.
  const std::string& service_code() const noexcept { return details_->service_code; }
  // x-ms-request-id, the handle by which Azure support finds the request; empty when there was no response.
  const std::string& request_id() const noexcept { return details_->request_id; }
  // Whether the same call may succeed later, unchanged.
  bool retryable() const noexcept { return details_->retryable; }

 private:
  struct Details {
    azt_status status;
    std::uint16_t http_status;
    bool retryable;
    std::string service_code;
    std::string request_id;
  };

  Error(const std::string& message, Details details)
      : std::runtime_error(message), details_(std::make_shared<const Details>(std::move(details))) {}

  // Shared, because an exception's copy must not throw.
  std::shared_ptr<const Details> details_;
};

namespace detail {

template <typename T, void (*Free)(T*)>
struct Deleter {
  void operator()(T* handle) const noexcept { Free(handle); }
};

template <typename T, void (*Free)(T*)>
using Handle = std::unique_ptr<T, Deleter<T, Free>>;

// Throws what a function of the C ABI reported, and frees it.
inline void check(azt_status status, azt_error* raw) {
  const Handle<azt_error, azt_error_free> error(raw);
  if (status == AZT_STATUS_OK) return;
  if (error) throw Error(*error);
  throw Error(status, azt_status_name(status));
}

// Calls a function of the C ABI with its last argument, the azt_error **, added; throws what it reports.
template <typename Function, typename... Arguments>
void call(Function function, Arguments... arguments) {
  azt_error* raw = nullptr;
  const azt_status status = function(arguments..., &raw);
  check(status, raw);
}

// The same for a function that writes a text into its caller's buffer, whose size, with the NUL, comes last.
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

// Gives back what a callback of the C ABI was given as its user data.
using Finalizer = void (*)(void*);

template <typename T>
void finalize(void* user_data) {
  delete static_cast<T*>(user_data);
}

// The C ABI ends a string at its first NUL: what follows one must not be dropped silently.
inline const char* c_string(const std::string& text) {
  if (text.find('\0') != std::string::npos) {
    // Without the text, which may be a secret.
    throw Error(AZT_STATUS_INVALID_ARGUMENT, "a string has a NUL character inside");
  }
  return text.c_str();
}

}  // namespace detail
}  // namespace aztorch
