// Client: credential, connection pool and limits, shared by everything that is opened with it.
#pragma once

#include <chrono>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "error.hpp"

namespace aztorch {

// A token of Microsoft Entra, and when it expires.
struct Token {
  std::string bearer;
  std::chrono::system_clock::time_point expires;
};

// Gives a token for a scope and a tenant ("" when any). Called on a thread of its own, one at a time per client; what it
// throws becomes the error of the calls that wait.
using TokenCallback = std::function<Token(const std::string& scope, const std::string& tenant_id)>;

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
  ClientOptions& set_default_credential() { return set(azt_client_options_set_default_credential); }
  ClientOptions& set_client_secret(const std::string& tenant_id, const std::string& client_id,
                                   const std::string& secret) {
    return set(azt_client_options_set_client_secret, detail::c_string(tenant_id), detail::c_string(client_id),
               detail::c_string(secret));
  }
  // The system-assigned identity, or the user-assigned one with this client id.
  ClientOptions& set_managed_identity() {
    return set(azt_client_options_set_managed_identity, static_cast<const char*>(nullptr));
  }
  ClientOptions& set_managed_identity(const std::string& client_id) {
    return set(azt_client_options_set_managed_identity, detail::c_string(client_id));
  }
  ClientOptions& set_workload_identity() { return set(azt_client_options_set_workload_identity); }
  ClientOptions& set_azure_cli() { return set(azt_client_options_set_azure_cli); }
  ClientOptions& set_token_callback(TokenCallback callback);
  ClientOptions& set_proxy(const std::string& proxy_url) {
    return set(azt_client_options_set_proxy, detail::c_string(proxy_url));
  }
  ClientOptions& set_ca_file(const std::string& pem_path) {
    return set(azt_client_options_set_ca_file, detail::c_string(pem_path));
  }
  ClientOptions& set_user_agent(const std::string& suffix) {
    return set(azt_client_options_set_user_agent, detail::c_string(suffix));
  }
  ClientOptions& set_max_concurrency(std::uint32_t requests) {
    return set(azt_client_options_set_max_concurrency, requests);
  }
  ClientOptions& set_memory_limit(std::uint64_t bytes) { return set(azt_client_options_set_memory_limit, bytes); }
  ClientOptions& set_block_size(std::uint64_t bytes) { return set(azt_client_options_set_block_size, bytes); }
  ClientOptions& set_max_retries(std::uint32_t retries) { return set(azt_client_options_set_max_retries, retries); }
  // Whether every byte is checked end to end, downloads too; by default uploads are.
  ClientOptions& set_checksum(bool verify) { return set(azt_client_options_set_checksum, verify); }
  // Under 1 KiB/s over this long, a connection is given up and the rest asked for again.
  ClientOptions& set_stall_timeout(std::chrono::milliseconds timeout);
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

// Thread-safe. A default-constructed one is the process-wide default client, with default options.
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

  // What this client and those derived from it have done in this process.
  azt_stats stats() const {
    azt_stats stats{};
    detail::call(azt_client_stats, get(), &stats, sizeof stats);
    return stats;
  }

  // Ends what is running with this client, what was opened with it and the clients derived from it, for good: all throw
  // AZT_STATUS_CANCELLED. From any thread. The process-wide default client is not cancelled.
  void cancel() const noexcept { azt_client_cancel(get()); }

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

namespace detail {

inline azt_status ask_for_token(void* user_data, const char* scope, const char* tenant_id, azt_token* out_token) {
  try {
    const Token token = (*static_cast<TokenCallback*>(user_data))(scope, tenant_id);
    const auto expires = std::chrono::duration_cast<std::chrono::seconds>(token.expires.time_since_epoch());
    return azt_token_set(out_token, c_string(token.bearer), expires.count());
  } catch (const Error& error) {
    azt_token_set_error(out_token, error.what());
    return error.status();
  } catch (const std::exception& error) {
    azt_token_set_error(out_token, error.what());
  } catch (...) {
    azt_token_set_error(out_token, "the token callback threw something that is no std::exception");
  }
  return AZT_STATUS_UNAUTHENTICATED;
}

}  // namespace detail

inline ClientOptions& ClientOptions::set_token_callback(TokenCallback callback) {
  if (!callback) throw Error(AZT_STATUS_INVALID_ARGUMENT, "the token callback is empty");
  auto owned = std::make_unique<TokenCallback>(std::move(callback));
  set(azt_client_options_set_token_callback, azt_token_callback{detail::ask_for_token},
      static_cast<void*>(owned.get()), detail::Finalizer{detail::finalize<TokenCallback>});
  owned.release();
  return *this;
}

inline ClientOptions& ClientOptions::set_timeout(std::chrono::milliseconds timeout) {
  return set(azt_client_options_set_timeout_ms, detail::milliseconds(timeout));
}

inline ClientOptions& ClientOptions::set_stall_timeout(std::chrono::milliseconds timeout) {
  return set(azt_client_options_set_stall_timeout_ms, detail::milliseconds(timeout));
}

inline Client Client::with_timeout(std::chrono::milliseconds timeout) const {
  azt_client* handle = nullptr;
  detail::call(azt_client_with_timeout_ms, get(), detail::milliseconds(timeout), &handle);
  return Client(handle);
}

}  // namespace aztorch
