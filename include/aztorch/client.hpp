// Client: credential, connection pool and limits, shared by everything that is opened with it.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

#include "error.hpp"

namespace aztorch {

// Each setter returns the options, so that they chain; each says at once what it refuses.
class ClientOptions {
 public:
  ClientOptions() : handle_(azt_client_options_new()) {}

  ClientOptions& set_anonymous() { return set(azt_client_options_set_anonymous); }
  ClientOptions& set_sas_token(const std::string& sas) {
    return set(azt_client_options_set_sas_token, detail::c_string(sas));
  }
  ClientOptions& set_account_key(const std::string& account, const std::string& key_base64) {
    return set(azt_client_options_set_account_key, detail::c_string(account), detail::c_string(key_base64));
  }
  ClientOptions& set_connection_string(const std::string& connection_string) {
    return set(azt_client_options_set_connection_string, detail::c_string(connection_string));
  }
  ClientOptions& set_max_concurrency(std::uint32_t requests) {
    return set(azt_client_options_set_max_concurrency, requests);
  }
  ClientOptions& set_memory_limit(std::uint64_t bytes) { return set(azt_client_options_set_memory_limit, bytes); }
  ClientOptions& set_block_size(std::uint64_t bytes) { return set(azt_client_options_set_block_size, bytes); }
  ClientOptions& set_max_retries(std::uint32_t retries) { return set(azt_client_options_set_max_retries, retries); }
  // For each whole call, retries included.
  ClientOptions& set_timeout(std::chrono::milliseconds timeout);

  const azt_client_options* get() const noexcept { return handle_.get(); }

 private:
  template <typename Setter, typename... Values>
  ClientOptions& set(Setter setter, Values... values) {
    detail::call(setter, handle_.get(), values...);
    return *this;
  }

  detail::Handle<azt_client_options, azt_client_options_free> handle_;
};

// Thread-safe. A default-constructed one is the process-wide default client, with default options and no credential.
class Client {
 public:
  Client() noexcept = default;

  explicit Client(const ClientOptions& options) {
    azt_client* handle = nullptr;
    detail::call(azt_client_new, options.get(), &handle);
    handle_.reset(handle);
  }

  // Takes over a handle of the C ABI.
  explicit Client(azt_client* handle) noexcept : handle_(handle) {}

  // The same pool, tokens and memory with another limit on each whole call; 0: none.
  Client with_timeout(std::chrono::milliseconds timeout) const;

  // NULL for the process-wide default client, as in the C ABI.
  const azt_client* get() const noexcept { return handle_.get(); }

 private:
  detail::Handle<azt_client, azt_client_free> handle_;
};

namespace detail {

inline std::uint64_t milliseconds(std::chrono::milliseconds timeout) {
  if (timeout.count() < 0) throw Error(AZT_STATUS_INVALID_ARGUMENT, "a timeout cannot be negative");
  return static_cast<std::uint64_t>(timeout.count());
}

}  // namespace detail

inline ClientOptions& ClientOptions::set_timeout(std::chrono::milliseconds timeout) {
  return set(azt_client_options_set_timeout_ms, detail::milliseconds(timeout));
}

inline Client Client::with_timeout(std::chrono::milliseconds timeout) const {
  azt_client* handle = nullptr;
  detail::call(azt_client_with_timeout_ms, get(), detail::milliseconds(timeout), &handle);
  return Client(handle);
}

}  // namespace aztorch
