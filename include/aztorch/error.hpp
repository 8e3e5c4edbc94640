// Error: the exception that this library throws.
#pragma once

#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>

#include <aztorch.h>

namespace aztorch {

/// Thrown by every call of this library that fails. `what()` is one line of text without secrets: what failed, on which
/// blob, why, and what to do. Immutable, so several threads may read it. Copying does not throw.
class Error : public std::runtime_error {
 public:
  /// An error that did not come from the service: `http_status()` is 0, `service_code()` and `request_id()` are empty,
  /// `retryable()` is false. `status` is one of the AZT_STATUS_* constants.
  Error(azt_status status, const std::string& message)
      : Error(message, Details{status, 0, false, {}, {}}) {}

  /// A copy of an error of the C API. The caller keeps `error` and frees it with azt_error_free().
  explicit Error(const azt_error& error)
      : Error(azt_error_message(&error),
              Details{azt_error_status(&error), azt_error_http_status(&error), azt_error_is_retryable(&error),
                      azt_error_service_code(&error), azt_error_request_id(&error)}) {}

  /// The kind of failure: one of the AZT_STATUS_* constants, such as AZT_STATUS_NOT_FOUND.
  azt_status status() const noexcept { return details_->status; }

  /// The HTTP status of the service's response, such as 404. 0 when there was no response.
  std::uint16_t http_status() const noexcept { return details_->http_status; }

  /// The service's error code, such as "BlobNotFound". Empty when the service sent none.
  const std::string& service_code() const noexcept { return details_->service_code; }

  /// The service's x-ms-request-id, which Azure support asks for. Empty when there was no response.
  const std::string& request_id() const noexcept { return details_->request_id; }

  /// Whether the same call may succeed later without any change by the caller. The library has already retried as often
  /// as its options allow.
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

  // Shared, because copying an exception must not throw.
  std::shared_ptr<const Details> details_;
};

}  // namespace aztorch
