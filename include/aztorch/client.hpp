// Client: a credential, a connection pool and limits, shared by all objects that are opened with it.
#pragma once

#include <chrono>

#include "client_options.hpp"
#include "detail/c_api.hpp"

namespace aztorch {

/// A credential, a connection pool and limits. Functions of this library take one as their last parameter.
///
/// Thread-safe. Movable, not copyable. May be destroyed before the readers, writers, datasets and streams that were
/// opened with it. Works in a forked child, with connections of its own.
class Client {
 public:
  /// The process-wide default client, with default options. All default-constructed clients are this client.
  Client() noexcept = default;

  /// A client with these options, which are copied. Sends nothing. Throws Error.
  explicit Client(const ClientOptions& options) {
    azt_client* handle = nullptr;
    detail::call(azt_client_new, options.get(), &handle);
    handle_.reset(handle);
  }

  /// Takes ownership of a handle of the C API. NULL is the process-wide default client.
  explicit Client(azt_client* handle) noexcept : handle_(handle) {}

  /// A client that shares connections, tokens and memory with this one, and limits the duration of each call. 0: no
  /// limit. Either may be destroyed first. Throws Error for a negative timeout.
  Client with_timeout(std::chrono::milliseconds timeout) const {
    azt_client* handle = nullptr;
    detail::call(azt_client_with_timeout_ms, get(), detail::milliseconds(timeout), &handle);
    return Client(handle);
  }

  /// Counters of this client and the clients derived from it, in this process: requests, retries, bytes, memory. Does
  /// not block. Throws Error.
  azt_stats stats() const {
    azt_stats stats{};
    detail::call(azt_client_stats, get(), &stats, sizeof stats);
    return stats;
  }

  /// Cancels this client for good: all running and later calls on it, on the clients derived from it, and on all
  /// objects that were opened with them throw AZT_STATUS_CANCELLED. Any thread may call it. Does not block. Does
  /// nothing on the process-wide default client.
  void cancel() const noexcept { azt_client_cancel(get()); }

  /// The handle for functions of the C API; NULL for the process-wide default client. The client keeps it.
  const azt_client* get() const noexcept { return handle_.get(); }

 private:
  detail::Handle<azt_client, azt_client_free> handle_;
};

}  // namespace aztorch
