// ClientOptions: the settings of a Client.
#pragma once

#include <chrono>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "detail/c_api.hpp"
#include "error.hpp"

namespace aztorch {

/// A Microsoft Entra access token and the time at which it expires.
struct Token {
  std::string bearer;                             ///< The token, without the word "Bearer".
  std::chrono::system_clock::time_point expires;  ///< When it expires.
};

/// Returns a token for an OAuth scope and a tenant id. `tenant_id` is empty when a token of any tenant is accepted.
///
/// The library calls it on a thread of its own, one call at a time per client. When it throws, the calls that wait for
/// the token fail: with the status of an Error, or with AZT_STATUS_UNAUTHENTICATED after another exception. Inside it,
/// calls of this library that block throw AZT_STATUS_UNSUPPORTED.
using TokenCallback = std::function<Token(const std::string& scope, const std::string& tenant_id)>;

namespace detail {

inline std::uint64_t milliseconds(std::chrono::milliseconds timeout) {
  if (timeout.count() < 0) throw Error(AZT_STATUS_INVALID_ARGUMENT, "a timeout cannot be negative");
  return static_cast<std::uint64_t>(timeout.count());
}

/// Adapts a TokenCallback, in `user_data`, to the C API's azt_token_callback.
inline azt_status call_token_callback(void* user_data, const char* scope, const char* tenant_id, azt_token* out_token) {
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
    azt_token_set_error(out_token, "the token callback threw something other than a std::exception");
  }
  return AZT_STATUS_UNAUTHENTICATED;
}

}  // namespace detail

/// The settings of a Client: made with defaults, changed by setters, read by Client's constructor.
///
/// Each setter returns the options, for chaining. It throws Error with AZT_STATUS_INVALID_ARGUMENT for a value that it
/// refuses, and then leaves the options unchanged. No setter blocks. Only the credential that was set last is used; a
/// SAS in a URL has priority over it. Movable, not copyable; used by one thread at a time.
class ClientOptions {
 public:
  /// The defaults. The credential comes from the environment (AZURE_STORAGE_CONNECTION_STRING, or AZURE_STORAGE_ACCOUNT
  /// with AZURE_STORAGE_KEY or AZURE_STORAGE_SAS_TOKEN), or else from set_default_credential().
  ClientOptions() : handle_(azt_client_options_new()) {}

  /// Sends no credential: for public containers, and for URLs that have a SAS.
  ClientOptions& set_anonymous() { return set(azt_client_options_set_anonymous); }

  /// Uses a shared access signature, with or without a leading '?', for every URL that has none of its own.
  ClientOptions& set_sas_token(const std::string& sas) {
    return set(azt_client_options_set_sas_token, detail::c_string(sas));
  }

  /// Signs each request with the account's key, given in base64 as the Azure portal shows it.
  ClientOptions& set_account_key(const std::string& account, const std::string& key_base64) {
    return set(azt_client_options_set_account_key, detail::c_string(account), detail::c_string(key_base64));
  }

  /// Takes the credential and the endpoint from an Azure Storage connection string.
  ClientOptions& set_connection_string(const std::string& connection_string) {
    return set(azt_client_options_set_connection_string, detail::c_string(connection_string));
  }

  /// Uses Microsoft Entra tokens from the first source that works: a service principal in AZURE_TENANT_ID,
  /// AZURE_CLIENT_ID and AZURE_CLIENT_SECRET; a workload identity; a managed identity; the Azure CLI; the Azure
  /// Developer CLI.
  ClientOptions& set_default_credential() { return set(azt_client_options_set_default_credential); }

  /// Uses tokens of an application (service principal) with a client secret. The tenant is an id or a domain.
  ClientOptions& set_client_secret(const std::string& tenant_id, const std::string& client_id,
                                   const std::string& secret) {
    return set(azt_client_options_set_client_secret, detail::c_string(tenant_id), detail::c_string(client_id),
               detail::c_string(secret));
  }

  /// Uses tokens of this machine's system-assigned managed identity.
  ClientOptions& set_managed_identity() {
    return set(azt_client_options_set_managed_identity, static_cast<const char*>(nullptr));
  }

  /// Uses tokens of this machine's user-assigned managed identity with this client id.
  ClientOptions& set_managed_identity(const std::string& client_id) {
    return set(azt_client_options_set_managed_identity, detail::c_string(client_id));
  }

  /// Uses tokens of a pod's workload identity, as AKS sets it up in AZURE_TENANT_ID, AZURE_CLIENT_ID and
  /// AZURE_FEDERATED_TOKEN_FILE.
  ClientOptions& set_workload_identity() { return set(azt_client_options_set_workload_identity); }

  /// Uses tokens of the user who logged in with `az login`. Runs `az`, which must be on the PATH, for each token.
  ClientOptions& set_azure_cli() { return set(azt_client_options_set_azure_cli); }

  /// Takes tokens from a function of the program: see TokenCallback. It is destroyed when neither options nor clients
  /// use it any more, on any thread.
  ClientOptions& set_token_callback(TokenCallback callback) {
    if (!callback) throw Error(AZT_STATUS_INVALID_ARGUMENT, "the token callback is empty");
    auto owned = std::make_unique<TokenCallback>(std::move(callback));
    set(azt_client_options_set_token_callback, azt_token_callback{detail::call_token_callback},
        static_cast<void*>(owned.get()), detail::Finalizer{detail::finalize<TokenCallback>});
    owned.release();
    return *this;
  }

  /// Sends all requests through the proxy `http://[USER:PASSWORD@]HOST:PORT`. Default: HTTPS_PROXY, HTTP_PROXY,
  /// ALL_PROXY and NO_PROXY of the environment.
  ClientOptions& set_proxy(const std::string& proxy_url) {
    return set(azt_client_options_set_proxy, detail::c_string(proxy_url));
  }

  /// Trusts the CA certificates in a PEM file besides those of the system. Reads the file now, and throws
  /// AZT_STATUS_LOCAL_IO when that fails.
  ClientOptions& set_ca_file(const std::string& pem_path) {
    return set(azt_client_options_set_ca_file, detail::c_string(pem_path));
  }

  /// Appends a text to each request's User-Agent: up to 200 printable ASCII characters, such as "trainer/1.2".
  ClientOptions& set_user_agent(const std::string& suffix) {
    return set(azt_client_options_set_user_agent, detail::c_string(suffix));
  }

  /// Limits the requests in flight at once: 1 to 4096. Default: 64.
  ClientOptions& set_max_concurrency(std::uint32_t requests) {
    return set(azt_client_options_set_max_concurrency, requests);
  }

  /// Limits the memory for read-ahead, prefetched samples and blocks being written, in bytes: at least 1 MiB. Default:
  /// an eighth of the memory of the machine or cgroup, between 32 and 512 MiB.
  ClientOptions& set_memory_limit(std::uint64_t bytes) { return set(azt_client_options_set_memory_limit, bytes); }

  /// Sets the size of a blob's first blocks, in bytes: 64 KiB to 4000 MiB. Default: 8 MiB.
  ClientOptions& set_block_size(std::uint64_t bytes) { return set(azt_client_options_set_block_size, bytes); }

  /// Limits how often a request is retried after a temporary failure (HTTP 408, 429, 5xx, connection errors):
  /// 0 to 1000. Default: 8.
  ClientOptions& set_max_retries(std::uint32_t retries) { return set(azt_client_options_set_max_retries, retries); }

  /// Sets whether every byte is verified with a checksum, from end to end. True: uploads and downloads. False: neither.
  /// Default: uploads over https, where the service supports CRC64.
  ClientOptions& set_checksum(bool verify) { return set(azt_client_options_set_checksum, verify); }

  /// Closes a connection that moves less than 1 KiB/s for this long, or whose response does not begin for this long.
  /// Keeps the bytes received and requests the rest again, which counts as a retry. Default: 30 s.
  ClientOptions& set_stall_timeout(std::chrono::milliseconds timeout) {
    return set(azt_client_options_set_stall_timeout_ms, detail::milliseconds(timeout));
  }

  /// Limits the duration of each call, retries included. Default: no limit.
  ClientOptions& set_timeout(std::chrono::milliseconds timeout) {
    return set(azt_client_options_set_timeout_ms, detail::milliseconds(timeout));
  }

  /// The handle for functions of the C API. The options keep it.
  const azt_client_options* get() const noexcept { return handle_.get(); }

 private:
  template <typename Setter, typename... Values>
  ClientOptions& set(Setter setter, Values... values) {
    detail::call(setter, handle_.get(), values...);
    return *this;
  }

  detail::Handle<azt_client_options, azt_client_options_free> handle_;
};

}  // namespace aztorch
