// The C API of aztorch: Azure Blob Storage for LibTorch.
//
// `make header` writes this file from the doc comments in src/ffi/.
//
// Rules for all functions:
//
// - A function that can fail returns azt_status and has a last parameter `azt_error **error`, which may be NULL. It
//   sets `*error` to NULL at entry, regardless of its old value, and to a new error on failure, which the caller
//   frees. Other outputs are written on success only. An output handle is set to NULL first.
// - After a function has returned, with any status, the library no longer reads or writes memory that the caller
//   passed.
// - "Thread-safe": many threads may call the function on a handle at once. "One thread at a time": one thread at a time
//   may use the handle. A handle that is `const` in a signature may be used by many threads at once. Concurrent calls
//   on a handle that is not const are serialised or refused, never undefined.
// - "Blocks": the call waits for the network until it succeeds, its retries end, its deadline passes, it is
//   cancelled, or its thread's callback interrupts it (azt_thread_set_interrupt_callback()).
// - A handle keeps the objects that it needs alive, so a client may be freed before its blobs.
// - Each `_free` function accepts NULL, does no network I/O, and may be called from static destructors and after fork.
//   It is the only way to free its type.
// - Strings from the caller are UTF-8 with a NUL at their end, and are copied before the function returns. Strings from
//   the library are borrowed: they are valid as long as the handle that returned them. Functions that only return a
//   property of a handle accept NULL and return "", NULL, 0, false or AZT_STATUS_OK for it.
// - NULL where it is not allowed, text that is not UTF-8, an unknown constant or a length that no object can have gives
//   AZT_STATUS_INVALID_ARGUMENT. A length or count of 0 ignores its pointer.
// - Error messages, log messages and returned URLs never contain a SAS signature, a key or a token.
// - Loading the library has no side effects. Its threads start with the first request.
// - In a forked child, clients and datasets work, with connections of their own, if no other thread was inside a call
//   at the fork. A stream starts at its first sample. Blobs that were opened before the fork fail with
//   AZT_STATUS_FORKED.
//
// URLs: `https://ACCOUNT.blob.core.windows.net/CONTAINER/BLOB`; the query may have a SAS, snapshot= and versionid=.
// Sovereign clouds and custom host names work too. The form is `http://HOST:PORT/ACCOUNT/CONTAINER/BLOB`, as Azurite
// serves it, if the host is an IP address, localhost or one label, or if the port is given and neither 80 nor 443. dfs,
// abfs[s]:// and wasb[s]:// URLs are translated. A SAS in a URL takes the place of the client's credential.


#ifndef AZTORCH_H
#define AZTORCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// The handles. Each has a section below.
struct azt_blob;
struct azt_client;
struct azt_client_options;
struct azt_dataset;
struct azt_error;
struct azt_sample;
struct azt_stream;
struct azt_token;

// ---- Version -------------------------------------------------------------------------------------

// The major version of this header. azt_version() returns the version of the loaded library.
#define AZT_VERSION_MAJOR 0

// The minor version of this header.
#define AZT_VERSION_MINOR 1

// The patch version of this header.
#define AZT_VERSION_PATCH 0

// The version of this header as one number: major * 10000 + minor * 100 + patch. For example,
// `#if AZT_VERSION_NUMBER >= 10200` is true from version 1.2.0 on.
#define AZT_VERSION_NUMBER 100

// Returns the version of the loaded library, "MAJOR.MINOR.PATCH". The AZT_VERSION_* macros are the header's version.
//
// The string is static. Thread-safe. Does not block.
const char *azt_version(void);

// ---- Errors --------------------------------------------------------------------------------------

// The outcome of a call that can fail: one of the AZT_STATUS_* constants. Their numbers never change. Later versions
// may add constants.
typedef int32_t azt_status;

// The call succeeded.
#define AZT_STATUS_OK 0

// The function does not accept the value of an argument. The error message names it.
#define AZT_STATUS_INVALID_ARGUMENT 1

// The handle does not support this operation (reading from a writer, seeking in a writer, writing after close), or a
// blocking function was called inside a callback.
#define AZT_STATUS_UNSUPPORTED 2

// A memory allocation failed.
#define AZT_STATUS_OUT_OF_MEMORY 3

// A file on this machine could not be read or written.
#define AZT_STATUS_LOCAL_IO 4

// The blob or container does not exist.
#define AZT_STATUS_NOT_FOUND 10

// The blob or container already exists.
#define AZT_STATUS_ALREADY_EXISTS 11

// The blob was replaced while a reader had it open, or another writer published first.
#define AZT_STATUS_MODIFIED 12

// An index or a byte range is past the end.
#define AZT_STATUS_OUT_OF_RANGE 13

// The caller's buffer is too small. The size output is set to the size that is needed.
#define AZT_STATUS_BUFFER_TOO_SMALL 14

// There is no credential, or the service does not accept it (HTTP 401).
#define AZT_STATUS_UNAUTHENTICATED 20

// The credential does not permit this operation (HTTP 403).
#define AZT_STATUS_PERMISSION_DENIED 21

// The service refused the request with another HTTP 4xx status. azt_error_service_code() returns the reason.
#define AZT_STATUS_REJECTED 22

// The service still asked the client to slow down (HTTP 429 or 503) after all retries.
#define AZT_STATUS_THROTTLED 30

// The network still failed, or the service returned HTTP 408 or another 5xx, after all retries.
#define AZT_STATUS_UNAVAILABLE 31

// The deadline passed before a response arrived.
#define AZT_STATUS_TIMEOUT 32

// The caller cancelled the operation, or its interrupt callback ended the call.
#define AZT_STATUS_CANCELLED 33

// Received data has a wrong length or checksum after all retries, or an archive or manifest is damaged.
#define AZT_STATUS_CORRUPT 40

// A reader or writer that was opened before a fork was used in the child.
#define AZT_STATUS_FORKED 50

// This library has a bug.
#define AZT_STATUS_INTERNAL 99

// Returns the name of a status, such as "AZT_STATUS_NOT_FOUND"; "AZT_STATUS_UNKNOWN" for other numbers.
//
// The string is static. Thread-safe. Does not block.
const char *azt_status_name(azt_status status);

// An error: why a call failed.
//
// A function that can fail has a last parameter `azt_error **error`, which may be NULL. The function sets `*error` to
// NULL at entry, regardless of its old value, and to a new error on failure. The caller frees the error with
// azt_error_free(). An error is immutable: many threads may read it at once.
//
// Functions: azt_error_status(), azt_error_message(), azt_error_http_status(), azt_error_service_code(),
// azt_error_request_id(), azt_error_is_retryable(), azt_error_free().
typedef struct azt_error azt_error;

// Returns the status of an error: the status that the failed call returned. AZT_STATUS_OK for NULL.
//
// Thread-safe. Does not block.
azt_status azt_error_status(const struct azt_error *error);

// Returns the message of an error: what failed, on which blob, why, and what to do. One line, without secrets. "" for
// NULL.
//
// The string is valid until the error is freed. Thread-safe. Does not block.
const char *azt_error_message(const struct azt_error *error);

// Returns the HTTP status of the service's response, such as 404. 0 if there was no response, and for NULL.
//
// Thread-safe. Does not block.
uint16_t azt_error_http_status(const struct azt_error *error);

// Returns the service's error code, such as "BlobNotFound". "" if there is none, and for NULL.
// All codes: <https://learn.microsoft.com/rest/api/storageservices/blob-service-error-codes>.
//
// The string is valid until the error is freed. Thread-safe. Does not block.
const char *azt_error_service_code(const struct azt_error *error);

// Returns the service's request ID (x-ms-request-id), which Azure support asks for. "" if there is none, and for NULL.
//
// The string is valid until the error is freed. Thread-safe. Does not block.
const char *azt_error_request_id(const struct azt_error *error);

// Returns whether the same call may succeed later without a change by the caller. The library has already retried as
// often as the client's options allow. False for NULL.
//
// Thread-safe. Does not block.
bool azt_error_is_retryable(const struct azt_error *error);

// Frees an error, and the strings that it returned. NULL is allowed.
//
// May be called from static destructors and in a forked child. Does not block.
void azt_error_free(struct azt_error *error);

// ---- Callbacks -----------------------------------------------------------------------------------

// Releases the `user_data` of a callback.
//
// A function that sets a callback also takes a `user_data` pointer and a finalizer, which may be NULL. If the function
// succeeds, the library calls the finalizer once with `user_data`, as soon as nothing uses the callback any more. If
// the function fails, the finalizer is not called and the caller keeps `user_data`.
//
// The finalizer may run on any thread. It must not throw an exception or call longjmp().
typedef void (*azt_finalizer)(void *user_data);

// ---- Client --------------------------------------------------------------------------------------

// A client: access to Blob Storage with a credential, a connection pool and limits.
//
// Where a function takes a client, NULL means the process-wide default client. It has default options: it uses the SAS
// in the URL, or else the credential in the environment variables, or else the default chain of identities.
//
// A client may be freed before the blobs, datasets and streams that were opened with it. Thread-safe. Works in a
// forked child, with connections of its own.
//
// Functions: azt_client_new(), azt_client_with_timeout_ms(), azt_client_stats(), azt_client_cancel(),
// azt_client_free().
typedef struct azt_client azt_client;

// Creates a client with the given options, which are copied. `options` may be NULL for the defaults.
//
// The caller frees the client with azt_client_free(). Thread-safe. Does not block, sends no request.
azt_status azt_client_new(const struct azt_client_options *options,
                          struct azt_client **out_client,
                          struct azt_error **error);

// Creates a client that shares the credential, connections, limits and numbers of `client`, and ends each of its own
// calls after `whole_call_ms` milliseconds, retries included. 0 means no time limit.
//
// The caller frees the new client with azt_client_free(). Either client may be freed first. Thread-safe. Does not
// block.
azt_status azt_client_with_timeout_ms(const struct azt_client *client,
                                      uint64_t whole_call_ms,
                                      struct azt_client **out_client,
                                      struct azt_error **error);

// Cancels a client for good. Every running call on the client, on clients derived from it, and on everything opened
// with them ends within 100 ms with AZT_STATUS_CANCELLED, and so does every later call. The client from which this
// one was derived is not affected. To continue, create another client.
//
// NULL is allowed and does nothing: the process-wide default client cannot be cancelled, because other parts of the
// program may use it.
//
// Any thread may call it, during any other call on the client except azt_client_free(). Does not block.
void azt_client_cancel(const struct azt_client *client);

// Frees a client. Blobs, datasets and streams that were opened with it still work. NULL is allowed.
//
// Does no network I/O. May be called from static destructors and in a forked child.
void azt_client_free(struct azt_client *client);

// ---- Client options ------------------------------------------------------------------------------

// The options of a client: created with default values, changed by setters, read by azt_client_new().
//
// A setter checks its value. If it refuses the value (AZT_STATUS_INVALID_ARGUMENT), the options do not change. Only
// the credential that was set last is used; a SAS in a URL takes its place for that URL.
//
// One thread at a time. No function blocks.
//
// Functions: azt_client_options_new(), azt_client_options_free(). Credentials: azt_client_options_set_anonymous(),
// azt_client_options_set_sas_token(), azt_client_options_set_account_key(),
// azt_client_options_set_connection_string(), azt_client_options_set_default_credential(),
// azt_client_options_set_client_secret(), azt_client_options_set_managed_identity(),
// azt_client_options_set_workload_identity(), azt_client_options_set_azure_cli(),
// azt_client_options_set_token_callback(). Network: azt_client_options_set_proxy(),
// azt_client_options_set_ca_file(), azt_client_options_set_user_agent(). Limits:
// azt_client_options_set_max_concurrency(), azt_client_options_set_memory_limit(),
// azt_client_options_set_block_size(), azt_client_options_set_max_retries(), azt_client_options_set_timeout_ms(),
// azt_client_options_set_stall_timeout_ms(). Checks: azt_client_options_set_checksum().
typedef struct azt_client_options azt_client_options;

// Creates options with default values. NULL if there is no memory.
//
// The default credential is in the environment variables: AZURE_STORAGE_CONNECTION_STRING, or AZURE_STORAGE_ACCOUNT
// with AZURE_STORAGE_KEY or AZURE_STORAGE_SAS_TOKEN, in this order, for that account only. Without it, the default is
// that of azt_client_options_set_default_credential().
//
// The caller frees the options with azt_client_options_free(). Thread-safe. Does not block.
struct azt_client_options *azt_client_options_new(void);

// Frees options. Clients that were created from them are not affected. NULL is allowed.
//
// May be called from static destructors and in a forked child. Does not block.
void azt_client_options_free(struct azt_client_options *options);

// Sets the maximum number of requests that the client has in flight: 1 to 4096. Default: 64, so that all samples of a
// batch of 64 are requested at once.
//
// One thread at a time. Does not block. Other values: AZT_STATUS_INVALID_ARGUMENT.
azt_status azt_client_options_set_max_concurrency(struct azt_client_options *options,
                                                  uint32_t requests,
                                                  struct azt_error **error);

// Sets the maximum memory in bytes that the client uses for read-ahead, prefetched samples and blocks being written:
// at least 1 MiB. Default: one eighth of the memory of the machine or of this process's cgroup, divided by
// LOCAL_WORLD_SIZE (set by torchrun), but at least 32 MiB and at most 512 MiB. More memory does not make transfers
// faster. All clients of a process together never use more than the largest of their limits.
//
// The client never exceeds the limit, and no call fails or waits for another caller because of it. If memory is
// needed, the client drops data that was only read ahead and sends the unfinished block of an idle writer; without
// memory, readers fetch only the bytes that are asked for. A buffered block uses at most half of the limit. So a blob
// that is written in small pieces can have at most 25,000 times the limit, and the upload of a larger file is refused
// before any request is sent.
//
// One thread at a time. Does not block. Smaller values: AZT_STATUS_INVALID_ARGUMENT.
azt_status azt_client_options_set_memory_limit(struct azt_client_options *options,
                                               uint64_t bytes,
                                               struct azt_error **error);

// Sets the size in bytes of the first blocks of a blob: 64 KiB to 4000 MiB. Default: 8 MiB.
//
// Block n (from 0) has block_size * (1 + n / 2500) bytes, with n / 2500 rounded down. The service allows 50,000
// blocks, which hold 525,000 * block_size bytes: 4 TiB by default, if the memory limit is large enough (see
// azt_client_options_set_memory_limit()). For a blob of S bytes, set at least S / 525,000.
//
// One thread at a time. Does not block. Other values: AZT_STATUS_INVALID_ARGUMENT.
azt_status azt_client_options_set_block_size(struct azt_client_options *options,
                                             uint64_t bytes,
                                             struct azt_error **error);

// Sets how often a request is retried after a temporary failure (HTTP 408, 429, 500, 502, 503, 504, a connection
// error, an incomplete response body): 0 to 1000. 0 turns retries off. Default: 8, which takes about eight seconds.
//
// The pause before a retry is at most 0.005 s, then up to three times as long each time, up to 20 s. Each request
// obeys Retry-After; under a limit of requests per second the whole client does. An incomplete body is resumed where
// it ended. A request on an idle connection that was already closed is sent again at once on a new one, which does not
// count as a retry.
//
// One thread at a time. Does not block. Larger values: AZT_STATUS_INVALID_ARGUMENT.
azt_status azt_client_options_set_max_retries(struct azt_client_options *options,
                                              uint32_t retries,
                                              struct azt_error **error);

// Sets the time limit of each call in milliseconds, retries included. Default: no limit, so that a call ends with its
// last retry. For a limit on some calls only, see azt_client_with_timeout_ms().
//
// One thread at a time. Does not block. 0: AZT_STATUS_INVALID_ARGUMENT.
azt_status azt_client_options_set_timeout_ms(struct azt_client_options *options,
                                             uint64_t whole_call_ms,
                                             struct azt_error **error);

// Sets after how many milliseconds a stalled connection is given up. A connection is stalled if it moves less than
// 1 KiB/s over this time, in either direction, or if the response to a read does not begin within this time. The bytes
// received so far are kept and the rest is requested again, which counts as a retry.
//
// Default: 30,000, the time that the service itself may take for an operation. A transfer that makes progress may take
// any time; see azt_client_options_set_timeout_ms() for a limit on whole calls.
//
// One thread at a time. Does not block. 0: AZT_STATUS_INVALID_ARGUMENT.
azt_status azt_client_options_set_stall_timeout_ms(struct azt_client_options *options,
                                                   uint64_t milliseconds,
                                                   struct azt_error **error);

// Sets whether the content of every blob is checked end to end. Lengths, ranges and versions are always checked.
//
// True: an upload carries a CRC64, which the service compares. A download is requested with checksums (a structured
// body; if the service has none, a CRC64 or MD5 for ranges of at most 4 MiB), which are compared before a call returns
// its bytes. Wrong bytes are fetched or sent again; if they stay wrong, the call fails with AZT_STATUS_CORRUPT. If the
// service gives no checksum, the call fails with AZT_STATUS_UNSUPPORTED. False: no content is checked. Default: only
// uploads over https to a service that supports CRC64, where the check costs little compared with TLS.
//
// One thread at a time. Does not block.
azt_status azt_client_options_set_checksum(struct azt_client_options *options,
                                           bool verify,
                                           struct azt_error **error);

// Sends all requests through a proxy, `http://[USER:PASSWORD@]HOST:PORT`. Requests over https go through a tunnel that
// the proxy cannot read, requests over http go in plain text. Requests to identity endpoints of this machine never go
// through a proxy.
//
// Default: the environment variables HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY (or in lower case), which are
// read when the client is created.
//
// One thread at a time. Does not block. A bad URL: AZT_STATUS_INVALID_ARGUMENT.
azt_status azt_client_options_set_proxy(struct azt_client_options *options,
                                        const char *proxy_url,
                                        struct azt_error **error);

// Trusts the CA certificates of a PEM file in addition to those of the system, for example for a private endpoint or a
// proxy that inspects TLS. The file is read during this call. Default: the certificates of the system, or those of
// SSL_CERT_FILE and SSL_CERT_DIR in their place.
//
// One thread at a time. Does not wait for the network. A file that cannot be read: AZT_STATUS_LOCAL_IO. A file that
// has no valid certificate: AZT_STATUS_INVALID_ARGUMENT.
azt_status azt_client_options_set_ca_file(struct azt_client_options *options,
                                          const char *pem_path,
                                          struct azt_error **error);

// Adds text after "aztorch/VERSION" in the User-Agent of each request, which the logs of the storage account show: 1
// to 200 printable ASCII characters, for example "trainer/1.2". Default: no text.
//
// One thread at a time. Does not block. Other text: AZT_STATUS_INVALID_ARGUMENT.
azt_status azt_client_options_set_user_agent(struct azt_client_options *options,
                                             const char *suffix,
                                             struct azt_error **error);

// ---- Credentials ---------------------------------------------------------------------------------

// Sends no credential, for public containers and for URLs that have a SAS.
//
// One thread at a time. Does not block.
azt_status azt_client_options_set_anonymous(struct azt_client_options *options, struct azt_error **error);

// Uses a shared access signature (SAS), with or without its leading '?', for all URLs that have none.
//
// One thread at a time. Does not block. An empty or malformed SAS: AZT_STATUS_INVALID_ARGUMENT.
azt_status azt_client_options_set_sas_token(struct azt_client_options *options,
                                            const char *sas,
                                            struct azt_error **error);

// Signs each request with the key of a storage account (Shared Key). The key is base64, as the Azure portal shows it.
//
// One thread at a time. Does not block. An empty account or a malformed key: AZT_STATUS_INVALID_ARGUMENT.
azt_status azt_client_options_set_account_key(struct azt_client_options *options,
                                              const char *account,
                                              const char *key_base64,
                                              struct azt_error **error);

// Uses the credential and the endpoint of an Azure Storage connection string: with an AccountKey or a
// SharedAccessSignature, with or without a BlobEndpoint; or UseDevelopmentStorage=true, with or without a
// DevelopmentStorageProxyUri.
// The format: <https://learn.microsoft.com/azure/storage/common/storage-configure-connection-string>.
//
// One thread at a time. Does not block. A malformed connection string: AZT_STATUS_INVALID_ARGUMENT.
azt_status azt_client_options_set_connection_string(struct azt_client_options *options,
                                                    const char *connection_string,
                                                    struct azt_error **error);

// Uses tokens of the first of these identities that works: a service principal in AZURE_TENANT_ID, AZURE_CLIENT_ID and
// AZURE_CLIENT_SECRET (or AZURE_CLIENT_CERTIFICATE_PATH, a PEM file); a workload identity; a managed identity (the one
// of AZURE_CLIENT_ID, if set); the Azure CLI; the Azure Developer CLI. The client keeps the identity that worked.
//
// AZURE_TOKEN_CREDENTIALS (prod, dev or the name of one credential) limits the choice. If no identity works, calls
// fail with AZT_STATUS_UNAUTHENTICATED, and the message has the reason for each. This is the default if the URL has no
// SAS and the environment has no key, SAS or connection string.
//
// One thread at a time. Does not block.
azt_status azt_client_options_set_default_credential(struct azt_client_options *options,
                                                     struct azt_error **error);

// Uses tokens of an application (service principal) that has a secret. The tenant is an ID or a domain name.
//
// One thread at a time. Does not block. A malformed tenant or client ID, or an empty secret:
// AZT_STATUS_INVALID_ARGUMENT.
azt_status azt_client_options_set_client_secret(struct azt_client_options *options,
                                                const char *tenant_id,
                                                const char *client_id,
                                                const char *secret,
                                                struct azt_error **error);

// Uses tokens of this machine's managed identity (virtual machine, App Service, Functions, AKS node): the
// user-assigned identity with this client ID, or the system-assigned identity if `client_id` is NULL.
//
// One thread at a time. Does not block. A malformed client ID: AZT_STATUS_INVALID_ARGUMENT.
azt_status azt_client_options_set_managed_identity(struct azt_client_options *options,
                                                   const char *client_id,
                                                   struct azt_error **error);

// Uses tokens of a pod's workload identity, as AKS configures it: AZURE_TENANT_ID, AZURE_CLIENT_ID and
// AZURE_FEDERATED_TOKEN_FILE, a file that is read again for each token.
//
// One thread at a time. Does not block.
azt_status azt_client_options_set_workload_identity(struct azt_client_options *options,
                                                    struct azt_error **error);

// Uses tokens of the user who logged in with `az login`. The library runs `az`, which must be on the PATH, for each
// token.
//
// One thread at a time. Does not block.
azt_status azt_client_options_set_azure_cli(struct azt_client_options *options,
                                            struct azt_error **error);

// The result of a token callback. The library owns it; it is valid only during the callback's call.
//
// Functions: azt_token_set(), azt_token_set_error().
typedef struct azt_token azt_token;

// Provides a token for `scope` and `tenant_id`. `tenant_id` is "" for any tenant; if the storage account refuses that
// token and names its tenant, the callback is called again with it. The callback either calls azt_token_set() and
// returns AZT_STATUS_OK, or calls azt_token_set_error() and returns the status with which the waiting calls fail.
//
// The strings and `out_token` are valid during the call. The library calls it on a thread of its own, holds no lock,
// and makes one call at a time for each client. Inside it, functions of the library that block fail with
// AZT_STATUS_UNSUPPORTED. It must not throw an exception or call longjmp().
typedef azt_status (*azt_token_callback)(void *user_data,
                                         const char *scope,
                                         const char *tenant_id,
                                         struct azt_token *out_token);

// Sets the token of a token callback, which is copied, and the time when it expires, in seconds since 1970 (Unix
// time).
//
// Only inside the callback that was given `token`. Does not block. An empty token, or one with characters that a token
// cannot have: AZT_STATUS_INVALID_ARGUMENT.
azt_status azt_token_set(struct azt_token *token,
                         const char *bearer,
                         int64_t expires_unix_seconds);

// Sets the reason why a token callback has no token. The text is copied and becomes part of the error of the calls
// that wait for the token.
//
// Only inside the callback that was given `token`. Does not block.
azt_status azt_token_set_error(struct azt_token *token,
                               const char *message);

// Uses tokens of a callback, for programs that have their own credential object.
//
// `finalizer`, which may be NULL, is called once with `user_data` when nothing uses the callback any more: when the
// options and all clients created from them are freed or have another credential. It may run on any thread. If this
// function fails, the finalizer is not called.
//
// One thread at a time. Does not block. A NULL callback: AZT_STATUS_INVALID_ARGUMENT.
azt_status azt_client_options_set_token_callback(struct azt_client_options *options,
                                                 azt_token_callback callback,
                                                 void *user_data,
                                                 azt_finalizer finalizer,
                                                 struct azt_error **error);

// ---- Blobs ---------------------------------------------------------------------------------------

// A blob that is open for reading (a reader) or for writing (a writer).
//
// A reader is pinned to the version that it opened: if the blob is replaced, reads fail with AZT_STATUS_MODIFIED and
// never mix two versions. A writer publishes nothing before azt_blob_close(). In a forked child, both fail with
// AZT_STATUS_FORKED and may be freed.
//
// Readers and writers: azt_blob_open(), azt_blob_open_in(), azt_blob_tell(), azt_blob_etag(), azt_blob_url(),
// azt_blob_flush(), azt_blob_set_progress(), azt_blob_close(), azt_blob_cancel(), azt_blob_free(). Readers only:
// azt_blob_open_if_changed(), azt_blob_read(), azt_blob_read_at(), azt_blob_seek(), azt_blob_size(). Writers only:
// azt_blob_write(), azt_blob_set_if_match(). Without an open blob: azt_blob_exists(), azt_blob_delete(),
// azt_blob_download(), azt_blob_upload().
typedef struct azt_blob azt_blob;

// How a blob is opened: one of the AZT_BLOB_MODE_* constants.
typedef int32_t azt_blob_mode;

// Opens a blob for reading.
#define AZT_BLOB_MODE_READ 0

// Opens a blob for writing. azt_blob_close() replaces an existing blob.
#define AZT_BLOB_MODE_WRITE 1

// Opens a new blob for writing. If the blob exists, or another writer publishes it first, the writer fails with
// AZT_STATUS_ALREADY_EXISTS in a write, in azt_blob_flush() or in azt_blob_close(), and the existing blob stays.
#define AZT_BLOB_MODE_CREATE 2

// Opens the blob at a URL for reading or for writing.
//
// A reader sends one ranged GET, returns when the response begins, and receives the first bytes in the background. A
// writer sends no request.
//
// The caller frees the blob with azt_blob_free(). Thread-safe. Blocks when reading. A blob that does not exist:
// AZT_STATUS_NOT_FOUND when reading.
azt_status azt_blob_open(const struct azt_client *client,
                         const char *url,
                         azt_blob_mode mode,
                         struct azt_blob **out_blob,
                         struct azt_error **error);

// Opens a blob of a container by its name, for reading or for writing. The name is taken literally: the library
// percent-encodes it. A SAS in the container's URL is used.
//
// A reader sends one ranged GET, returns when the response begins, and receives the first bytes in the background. A
// writer sends no request.
//
// The caller frees the blob with azt_blob_free(). Thread-safe. Blocks when reading. A blob that does not exist:
// AZT_STATUS_NOT_FOUND when reading.
azt_status azt_blob_open_in(const struct azt_client *client,
                            const char *container_url,
                            const char *blob_name,
                            azt_blob_mode mode,
                            struct azt_blob **out_blob,
                            struct azt_error **error);

// Opens a blob for reading if its ETag is not `etag`. If the ETag is the same, the call succeeds and `*out_blob` is
// NULL: one request, and no bytes of the blob are sent. For programs that poll for a new model.
//
// The caller frees the blob with azt_blob_free(). Thread-safe. Blocks. A blob that does not exist:
// AZT_STATUS_NOT_FOUND.
azt_status azt_blob_open_if_changed(const struct azt_client *client,
                                    const char *url,
                                    const char *etag,
                                    struct azt_blob **out_blob,
                                    struct azt_error **error);

// Returns the position of a reader, or the number of bytes that were written to a writer.
//
// Thread-safe. Sends no request. A closed reader: AZT_STATUS_UNSUPPORTED.
azt_status azt_blob_tell(const struct azt_blob *blob, uint64_t *out_position, struct azt_error **error);

// Returns the ETag of the version that a reader opened or a writer published, in quotes, as the service gives it. ""
// for a writer that is not closed, and for NULL.
//
// The string is valid until the blob is freed. Thread-safe. Does not block.
const char *azt_blob_etag(const struct azt_blob *blob);

// Returns the URL of a blob without its query, and so without a SAS. "" for NULL.
//
// The string is valid until the blob is freed. Thread-safe. Does not block.
const char *azt_blob_url(const struct azt_blob *blob);

// Closes a blob. A writer publishes everything that was written, as a whole; without a write, it publishes an empty
// blob. A reader stops reading. A later call returns the same result.
//
// The handle stays valid until azt_blob_free(). One thread at a time. Blocks.
//
// If a writer fails, nothing is published and the old blob is unchanged, with one exception: the message says that the
// outcome is unknown if the response was lost, or was an error that can stand for a success (HTTP 408, 500, 502, 503,
// 504). Then the blob is either the old one or the new one, as a whole. AZT_STATUS_ALREADY_EXISTS: the blob exists, in
// AZT_BLOB_MODE_CREATE. AZT_STATUS_MODIFIED: the blob has another version than azt_blob_set_if_match() requires, or
// another writer published first.
azt_status azt_blob_close(struct azt_blob *blob,
                          struct azt_error **error);

// Cancels a blob for good. A running call on it ends within 100 ms with AZT_STATUS_CANCELLED, and so does every later
// call that reads, writes, seeks or waits. A cancelled writer never publishes. If azt_blob_close() was waiting for the
// service's response, its error says that the outcome is unknown.
//
// Any thread may call it, during any other call on the blob except azt_blob_free(). Does not block. NULL is allowed.
void azt_blob_cancel(const struct azt_blob *blob);

// Frees a blob. A writer that was not closed is discarded: nothing is published. NULL is allowed.
//
// Does no network I/O. May be called from static destructors and in a forked child.
void azt_blob_free(struct azt_blob *blob);

// ---- Reading a blob ------------------------------------------------------------------------------

// Reads up to `length` bytes at a reader's position into `buffer`, and advances the position. `*out_read` is the
// number of bytes read. It is less than `length` only at the end of the blob, and 0 at or past the end.
//
// The bytes are received straight into `buffer`. A large read is split into ranges that are fetched in parallel.
//
// One thread at a time. Blocks. A blob that was replaced since it was opened: AZT_STATUS_MODIFIED. A writer or a
// closed reader: AZT_STATUS_UNSUPPORTED. On failure the position does not change, and the content of `buffer` is
// undefined.
azt_status azt_blob_read(struct azt_blob *blob,
                         void *buffer,
                         size_t length,
                         size_t *out_read,
                         struct azt_error **error);

// Reads up to `length` bytes at `offset` of a reader's blob into `buffer`. The reader's position is neither used nor
// changed. `*out_read` is the number of bytes read. It is less than `length` only at the end of the blob, and 0 at or
// past the end.
//
// The bytes are received straight into `buffer`. A large read is split into ranges that are fetched in parallel. There
// is no read-ahead: only the bytes that are asked for are fetched.
//
// Thread-safe. Blocks. A blob that was replaced since it was opened: AZT_STATUS_MODIFIED. A writer or a closed reader:
// AZT_STATUS_UNSUPPORTED. On failure the content of `buffer` is undefined.
azt_status azt_blob_read_at(const struct azt_blob *blob,
                            uint64_t offset,
                            void *buffer,
                            size_t length,
                            size_t *out_read,
                            struct azt_error **error);

// A `whence` of azt_blob_seek(): the offset counts from the start of the blob.
#define AZT_SEEK_SET 0

// A `whence` of azt_blob_seek(): the offset counts from the current position.
#define AZT_SEEK_CURRENT 1

// A `whence` of azt_blob_seek(): the offset counts from the end of the blob.
#define AZT_SEEK_END 2

// Moves a reader's position to `offset` bytes from the start (AZT_SEEK_SET), from the current position
// (AZT_SEEK_CURRENT) or from the end (AZT_SEEK_END). A position past the end is allowed. `*out_position` is the new
// position; `out_position` may be NULL.
//
// One thread at a time. Sends no request, and keeps the data that was read ahead. A position before the start, or an
// unknown `whence`: AZT_STATUS_INVALID_ARGUMENT. A writer or a closed reader: AZT_STATUS_UNSUPPORTED. On failure the
// position does not change.
azt_status azt_blob_seek(struct azt_blob *blob,
                         int64_t offset,
                         int32_t whence,
                         uint64_t *out_position,
                         struct azt_error **error);

// Returns the size in bytes of the data that a reader opened: a version of a blob, or a part of one.
//
// Thread-safe. Sends no request. A writer: AZT_STATUS_UNSUPPORTED.
azt_status azt_blob_size(const struct azt_blob *blob, uint64_t *out_size, struct azt_error **error);

// ---- Writing a blob ------------------------------------------------------------------------------

// Appends `length` bytes to a writer. It takes all of them, or fails for good: then every later call on the writer
// returns the same error, and nothing is published.
//
// Small writes are copied and sent in the background. Writes of at least four blocks are sent straight from `data`. A
// failure in the background is returned by a later write, by azt_blob_flush() or by azt_blob_close().
//
// One thread at a time. Blocks while the limits of the client allow no more data in flight. A reader or a closed
// writer: AZT_STATUS_UNSUPPORTED. More bytes than the blob's remaining blocks can hold: AZT_STATUS_INVALID_ARGUMENT.
azt_status azt_blob_write(struct azt_blob *blob,
                          const void *data,
                          size_t length,
                          struct azt_error **error);

// Waits until everything that was written so far is staged at the service. Nothing is published. Each flush ends a
// block, and a blob has at most 50,000 blocks. For a reader it does nothing.
//
// One thread at a time. Blocks. If a background write failed, the flush and every later call return its error.
azt_status azt_blob_flush(struct azt_blob *blob,
                          struct azt_error **error);

// Makes a writer publish only if the blob still has this ETag. If it has another one, azt_blob_close() fails with
// AZT_STATUS_MODIFIED. So a job that was evicted but still runs cannot overwrite the work of its successor.
//
// One thread at a time. Sends no request. A reader or a closed writer: AZT_STATUS_UNSUPPORTED. A malformed ETag, or a
// writer in AZT_BLOB_MODE_CREATE: AZT_STATUS_INVALID_ARGUMENT.
azt_status azt_blob_set_if_match(struct azt_blob *blob,
                                 const char *etag,
                                 struct azt_error **error);

// ---- Operations by URL ---------------------------------------------------------------------------

// Checks whether a blob exists.
//
// Thread-safe. Blocks. A container that does not exist: AZT_STATUS_NOT_FOUND. A private container, without a
// credential: AZT_STATUS_UNAUTHENTICATED, whether the container exists or not, because the service does not tell.
azt_status azt_blob_exists(const struct azt_client *client,
                           const char *url,
                           bool *out_exists,
                           struct azt_error **error);

// Deletes a blob, or only the snapshot or version that the URL names.
//
// Thread-safe. Blocks. A blob that does not exist: AZT_STATUS_NOT_FOUND. A blob that has snapshots:
// AZT_STATUS_REJECTED with the service code SnapshotsPresent.
azt_status azt_blob_delete(const struct azt_client *client, const char *url, struct azt_error **error);

// Downloads a blob to a file, in parallel ranges. The file appears at `path` only when it is complete, and replaces an
// existing file. On failure an existing file stays, and nothing new is left behind.
//
// The new file has the mode of the file that it replaces, without set-ID bits, and its owner if the system permits
// that. If no file is replaced, the mode follows the umask. If `path` is a symbolic link, the link stays and its
// target is replaced or created.
//
// Thread-safe. Blocks. AZT_STATUS_LOCAL_IO: the file cannot be written; the path is not a regular file but a
// directory, a device, a FIFO, a socket or an open file below /proc; or another user owns the file or link in a
// directory with the sticky bit, such as /tmp.
azt_status azt_blob_download(const struct azt_client *client,
                             const char *url,
                             const char *path,
                             struct azt_error **error);

// Uploads a file as a blob, in blocks that are large enough for its size. `mode` is AZT_BLOB_MODE_WRITE or
// AZT_BLOB_MODE_CREATE. On failure the old blob is unchanged, unless the message says that the outcome is unknown.
//
// Thread-safe. Blocks. AZT_STATUS_LOCAL_IO: the file cannot be read or is not a regular file. /dev/null is allowed as
// an empty file. For the output of a pipe, use azt_blob_write(). AZT_STATUS_ALREADY_EXISTS: the blob exists, in
// AZT_BLOB_MODE_CREATE.
azt_status azt_blob_upload(const struct azt_client *client,
                           const char *path,
                           const char *url,
                           azt_blob_mode mode,
                           struct azt_error **error);

// Creates a container. It has the metadata aztorch_write, by which this call recognises its own container if the
// service's response was lost.
//
// Thread-safe. Blocks. A container that exists: AZT_STATUS_ALREADY_EXISTS.
azt_status azt_container_create(const struct azt_client *client,
                                const char *container_url,
                                struct azt_error **error);

// ---- Datasets ------------------------------------------------------------------------------------

// A map-style dataset: blobs, or parts of blobs, by index from 0. Its entries are listed when it is created and never
// change.
//
// Thread-safe: many threads may call all of its functions except azt_dataset_free() at once. Works in a forked child,
// with connections of its own.
//
// To create and save: azt_dataset_list(), azt_dataset_from_urls(), azt_dataset_from_ranges(), azt_dataset_from_tars(),
// azt_dataset_from_manifest(), azt_dataset_save_manifest(), azt_dataset_serialize(), azt_dataset_deserialize(). Entries: azt_dataset_len(), azt_dataset_blob_name(),
// azt_dataset_container_name(), azt_dataset_blob_size(), azt_dataset_url(). Bytes: azt_dataset_get(),
// azt_dataset_get_batch(), azt_dataset_get_into(), azt_dataset_get_batch_into(), azt_dataset_prefetch(),
// azt_dataset_open(). To end: azt_dataset_cancel(), azt_dataset_free().
typedef struct azt_dataset azt_dataset;

// Creates a dataset of the blobs in a container whose names begin with `prefix`; NULL or "" means all. The entries are
// in the service's order. Placeholders of directories (in accounts with a hierarchical namespace) are left out. If
// there are no such blobs, the dataset is empty.
//
// Sends one GET for each 5,000 blobs. The caller frees the dataset with azt_dataset_free(). Thread-safe. Blocks. A
// container that does not exist: AZT_STATUS_NOT_FOUND.
azt_status azt_dataset_list(const struct azt_client *client,
                            const char *container_url,
                            const char *prefix,
                            struct azt_dataset **out_dataset,
                            struct azt_error **error);

// Creates a dataset of the blobs at `count` URLs, in this order. The URLs may name several containers, and each may
// have its own SAS, snapshot or version.
//
// Sends no request. The caller frees the dataset with azt_dataset_free(). Thread-safe. Does not block. A bad URL fails
// the whole call with AZT_STATUS_INVALID_ARGUMENT; the message names it.
azt_status azt_dataset_from_urls(const struct azt_client *client,
                                 const char *const *urls,
                                 size_t count,
                                 struct azt_dataset **out_dataset,
                                 struct azt_error **error);

// Creates a dataset of `count` parts of blobs, for samples that are packed into large blobs of the program's own
// format. Entry i is the `lengths[i]` bytes from byte `offsets[i]` on of the blob at `urls[i]`.
//
// Sends no request. The caller frees the dataset with azt_dataset_free(). Thread-safe. Does not block. A bad URL, or a
// part that reaches UINT64_MAX: AZT_STATUS_INVALID_ARGUMENT. A part past the end of its blob: AZT_STATUS_OUT_OF_RANGE
// when it is read.
azt_status azt_dataset_from_ranges(const struct azt_client *client,
                                   const char *const *urls,
                                   const uint64_t *offsets,
                                   const uint64_t *lengths,
                                   size_t count,
                                   struct azt_dataset **out_dataset,
                                   struct azt_error **error);

// Creates a dataset of the regular files in `count` tar archives (ustar, GNU, pax), in the order of the archives. The
// name of an entry is its path in the archive, its URL is that of the archive. In names that are not UTF-8, the
// invalid bytes become U+FFFD.
//
// The archives are indexed during this call, in parallel, by ranged reads: files of more than 1 MiB are skipped,
// smaller ones are read. To share the index with other processes, save a manifest (azt_dataset_save_manifest()).
//
// The caller frees the dataset with azt_dataset_free(). Thread-safe. Blocks. A damaged or compressed archive:
// AZT_STATUS_CORRUPT (a compressed one cannot be read by ranges). An archive that is replaced later:
// AZT_STATUS_MODIFIED when an entry is read.
azt_status azt_dataset_from_tars(const struct azt_client *client,
                                 const char *const *urls,
                                 size_t count,
                                 struct azt_dataset **out_dataset,
                                 struct azt_error **error);

// Creates a dataset from a manifest that azt_dataset_save_manifest() saved. It has the same entries at the same
// indices, even if blobs were added or deleted since then.
//
// A SAS in `url` is also used for the entries: for those in the same container, or in the whole account if it is an
// account SAS. The client's credential is sent only to the host of `url`, to Azure Storage, and to the endpoint of the
// client's connection string.
//
// The caller frees the dataset with azt_dataset_free(). Thread-safe. Blocks. A damaged manifest: AZT_STATUS_CORRUPT. A
// manifest with blobs on other hosts: AZT_STATUS_INVALID_ARGUMENT, unless the client has no credential that it would
// send there (for example an anonymous client).
azt_status azt_dataset_from_manifest(const struct azt_client *client,
                                     const char *url,
                                     struct azt_dataset **out_dataset,
                                     struct azt_error **error);

// Saves a dataset as a manifest: one blob with the names, sizes, ETags and locations of its entries. Other processes
// load it with azt_dataset_from_manifest(), so that all share one listing and the same indices. The manifest has no
// SAS.
//
// Thread-safe. Blocks. The blob at `url` is replaced as a whole. On failure it is unchanged, unless the message says
// that the outcome is unknown: then it is either the old or the new one.
azt_status azt_dataset_save_manifest(const struct azt_dataset *dataset,
                                     const char *url,
                                     struct azt_error **error);

// Writes a dataset to `buffer`, which has `capacity` bytes, for another process of the same program, such as a worker
// that loads samples. azt_dataset_deserialize() makes the same dataset of these bytes there, without a listing and
// without an index of archives. `*out_size` is the number of bytes; there is no NUL at their end.
//
// **The bytes contain each SAS of the dataset's URLs**: keep them secret, and do not store them. For that there are
// manifests (azt_dataset_save_manifest()). The bytes do not contain the client, its credential or its options.
//
// Thread-safe. Sends no request, and takes about a tenth of a second for a million entries. A buffer that is too small:
// AZT_STATUS_BUFFER_TOO_SMALL, and `*out_size` is the size that is needed; a capacity of 0 asks for this size. If a
// read makes a size known meanwhile, the next call may need another size, and return AZT_STATUS_BUFFER_TOO_SMALL
// again. On failure the content of `buffer` is undefined.
azt_status azt_dataset_serialize(const struct azt_dataset *dataset,
                                 char *buffer,
                                 size_t capacity,
                                 size_t *out_size,
                                 struct azt_error **error);

// Creates a dataset from the `size` bytes at `data` that azt_dataset_serialize() has written. It has the same entries
// at the same indices: names, sizes, ETags, places in archives, and for each URL its own SAS, snapshot or version.
//
// Pass only bytes of this program: other than with a manifest, the client's credential is sent to every host that they
// name. Both processes should use the same version of the library.
//
// The caller frees the dataset with azt_dataset_free(). Thread-safe. Sends no request, and takes about a quarter of a
// second for a million entries. Damaged bytes, or bytes of another version of the format: AZT_STATUS_CORRUPT.
azt_status azt_dataset_deserialize(const struct azt_client *client,
                                   const char *data,
                                   size_t size,
                                   struct azt_dataset **out_dataset,
                                   struct azt_error **error);

// Cancels a dataset for good. Every running call on it, and on blobs and streams that were opened from it, ends within
// 100 ms with AZT_STATUS_CANCELLED, and so does every later call that fetches. Names, sizes and samples stay valid.
//
// Any thread may call it, during any other call on the dataset except azt_dataset_free(). Does not block. NULL is
// allowed. To cancel a function that creates a dataset, such as azt_dataset_list(), cancel its client with
// azt_client_cancel().
void azt_dataset_cancel(const struct azt_dataset *dataset);

// Frees a dataset. Samples, blobs and streams that came from it stay valid. NULL is allowed.
//
// Does no network I/O. May be called from static destructors and in a forked child.
void azt_dataset_free(struct azt_dataset *dataset);

// ---- Entries of a dataset ------------------------------------------------------------------------

// Returns the number of entries of a dataset. 0 for NULL.
//
// Thread-safe. Does not block.
size_t azt_dataset_len(const struct azt_dataset *dataset);

// Returns the name of an entry's blob; for a file in a tar archive, its path in the archive. NULL for an index past
// the end, and for NULL.
//
// The string is valid until the dataset is freed. Thread-safe. Does not block.
const char *azt_dataset_blob_name(const struct azt_dataset *dataset,
                                  size_t index);

// Returns the name of the container of an entry's blob. NULL for an index past the end, and for NULL.
//
// The string is valid until the dataset is freed. Thread-safe. Does not block.
const char *azt_dataset_container_name(const struct azt_dataset *dataset, size_t index);

// Returns the size of an entry in bytes, from the listing, the range, the archive or an earlier read. UINT64_MAX if it
// is not known, as for a URL before its first read.
//
// Thread-safe. Sends no request. An index past the end: AZT_STATUS_OUT_OF_RANGE.
azt_status azt_dataset_blob_size(const struct azt_dataset *dataset,
                                 size_t index,
                                 uint64_t *out_size,
                                 struct azt_error **error);

// Writes the URL of an entry's blob, without its query and with a NUL at its end, to `buffer`, which has `capacity`
// bytes. For a file in a tar archive, it is the URL of the archive. `*out_size` is the size in bytes with the NUL.
//
// Thread-safe. Sends no request. A buffer that is too small: AZT_STATUS_BUFFER_TOO_SMALL, and `*out_size` is the size
// that is needed; a capacity of 0 asks for this size. An index past the end: AZT_STATUS_OUT_OF_RANGE.
azt_status azt_dataset_url(const struct azt_dataset *dataset,
                           size_t index,
                           char *buffer,
                           size_t capacity,
                           size_t *out_size,
                           struct azt_error **error);

// Fetches an entry as a sample: with one GET up to 8 MiB, with parallel ranges above, and without a HEAD. If the blob
// was replaced since the listing, the sample has all of the new bytes.
//
// An entry that azt_dataset_prefetch() has fetched is returned without a request. If a caller reads entries in order,
// the next ones are read ahead within the memory limit.
//
// The caller frees the sample with azt_sample_free(). Thread-safe. Blocks. An index past the end:
// AZT_STATUS_OUT_OF_RANGE. A tar archive that was replaced: AZT_STATUS_MODIFIED.
azt_status azt_dataset_get(const struct azt_dataset *dataset,
                           size_t index,
                           struct azt_sample **out_sample,
                           struct azt_error **error);

// Fetches `count` entries in parallel as samples: entry `indices[i]` as `out_samples[i]`. Either all are fetched or
// none: on failure all of `out_samples` are NULL. An index that occurs twice is fetched once and gives two samples,
// each with its own copy of the bytes.
//
// The caller frees each sample with azt_sample_free(). Thread-safe. Blocks. An index past the end:
// AZT_STATUS_OUT_OF_RANGE. A tar archive that was replaced: AZT_STATUS_MODIFIED.
azt_status azt_dataset_get_batch(const struct azt_dataset *dataset,
                                 const size_t *indices,
                                 size_t count,
                                 struct azt_sample **out_samples,
                                 struct azt_error **error);

// Fetches an entry into the caller's memory, for example pinned or preallocated memory. `buffer` has `capacity` bytes.
// `*out_size` is the size of the entry in bytes.
//
// Thread-safe. Blocks. An entry larger than `capacity`: AZT_STATUS_BUFFER_TOO_SMALL, and `*out_size` is its size. An
// index past the end: AZT_STATUS_OUT_OF_RANGE. A tar archive that was replaced: AZT_STATUS_MODIFIED. On failure the
// content of `buffer` is undefined.
azt_status azt_dataset_get_into(const struct azt_dataset *dataset,
                                size_t index,
                                void *buffer,
                                size_t capacity,
                                size_t *out_size,
                                struct azt_error **error);

// Fetches `count` entries in parallel into the caller's memory: entry `indices[i]` into `buffers[i]`, which has
// `capacities[i]` bytes. The buffers must not overlap. `out_sizes[i]` is the size of the entry in bytes.
//
// Thread-safe. Blocks. An entry that is larger than its buffer: AZT_STATUS_BUFFER_TOO_SMALL, and `out_sizes` has the
// sizes of all entries. An index past the end: AZT_STATUS_OUT_OF_RANGE. A tar archive that was replaced:
// AZT_STATUS_MODIFIED. On failure the content of the buffers is undefined.
azt_status azt_dataset_get_batch_into(const struct azt_dataset *dataset,
                                      const size_t *indices,
                                      size_t count,
                                      void *const *buffers,
                                      const size_t *capacities,
                                      size_t *out_sizes,
                                      struct azt_error **error);

// Announces which entries will be read, in this order, so that they are fetched before. This is a hint: an entry that
// was fetched and not read is dropped for a later hint if memory is needed, and a failure shows when the entry is
// read.
//
// At most three quarters of the client's connections fetch at a time, within the memory limit; further entries follow
// as the fetched ones are read. A whole epoch may be announced at once. A `count` of 0 withdraws all earlier hints.
//
// Thread-safe. Does not block. An index past the end: AZT_STATUS_OUT_OF_RANGE, and the call has no effect.
azt_status azt_dataset_prefetch(const struct azt_dataset *dataset,
                                const size_t *indices,
                                size_t count,
                                struct azt_error **error);

// Opens an entry for reading. An entry may be opened many times at once. A range, or a file in a tar archive, reads
// like a blob of its own: its first byte is at offset 0, and it has its own size.
//
// Sends one ranged GET, returns when the response begins, and receives the first bytes in the background.
//
// The caller frees the blob with azt_blob_free(). It stays valid after the dataset is freed. Thread-safe. Blocks. An
// index past the end: AZT_STATUS_OUT_OF_RANGE. A blob that does not exist: AZT_STATUS_NOT_FOUND. A tar archive that
// was replaced: AZT_STATUS_MODIFIED.
azt_status azt_dataset_open(const struct azt_dataset *dataset,
                            size_t index,
                            struct azt_blob **out_blob,
                            struct azt_error **error);

// ---- Samples -------------------------------------------------------------------------------------

// A sample: the bytes of a blob, of a part of a blob or of a file in a tar archive, and where they came from.
//
// The caller owns it and frees it with azt_sample_free(). It stays valid after its dataset or stream is freed. A
// sample is immutable: many threads may read it at once.
//
// Functions: azt_sample_data(), azt_sample_size(), azt_sample_url(), azt_sample_blob_name(),
// azt_sample_container_name(), azt_sample_position(), azt_sample_blob_size(), azt_sample_open(), azt_sample_free().
typedef struct azt_sample azt_sample;

// Returns the bytes of a sample, aligned to 64 bytes. No other sample shares them, and they never change. NULL for a
// sample of a lazy stream, and for NULL. For an empty blob, the address is aligned and must not be read.
//
// The bytes are valid until the sample is freed. Thread-safe. Does not block.
const uint8_t *azt_sample_data(const struct azt_sample *sample);

// Returns the number of bytes at azt_sample_data(). 0 for a sample of a lazy stream, and for NULL.
//
// Thread-safe. Does not block.
size_t azt_sample_size(const struct azt_sample *sample);

// Returns the URL of a sample's blob without its query, and so without a SAS. For a file in a tar archive, it is the
// URL of the archive. "" for NULL.
//
// The string is valid until the sample is freed. Thread-safe. Does not block.
const char *azt_sample_url(const struct azt_sample *sample);

// Returns the name of a sample's blob; for a file in a tar archive, its path in the archive. "" for NULL.
//
// The string is valid until the sample is freed. Thread-safe. Does not block.
const char *azt_sample_blob_name(const struct azt_sample *sample);

// Returns the name of the container of a sample's blob. "" for NULL.
//
// The string is valid until the sample is freed. Thread-safe. Does not block.
const char *azt_sample_container_name(const struct azt_sample *sample);

// Returns the position of a sample: for a stream, its number (0, 1, 2 …) in this stream's order of the epoch; for a
// dataset, its index. 0 for NULL.
//
// Thread-safe. Does not block.
uint64_t azt_sample_position(const struct azt_sample *sample);

// Returns the size in bytes of a sample's entry, from the listing, the range, the archive or an earlier read.
// UINT64_MAX if it is not known, and for NULL. It is useful for samples of a lazy stream, which have no bytes.
//
// Thread-safe. Does not block.
uint64_t azt_sample_blob_size(const struct azt_sample *sample);

// Opens the blob of a sample for reading, in its current version, which may be newer than the sample. A range, or a
// file in a tar archive, reads like a blob of its own: its first byte is at offset 0, and it has its own size.
//
// Sends one ranged GET, returns when the response begins, and receives the first bytes in the background.
//
// The caller frees the blob with azt_blob_free(). It stays valid after the sample is freed. Thread-safe. Blocks. A
// blob that does not exist: AZT_STATUS_NOT_FOUND. A tar archive that was replaced: AZT_STATUS_MODIFIED.
azt_status azt_sample_open(const struct azt_sample *sample,
                           struct azt_blob **out_blob,
                           struct azt_error **error);

// Frees a sample and its bytes. NULL is allowed.
//
// Does no network I/O. May be called from static destructors and in a forked child.
void azt_sample_free(struct azt_sample *sample);

// ---- Streams -------------------------------------------------------------------------------------

// An iterable dataset: samples one after the other. A container is listed while the stream is read, and samples are
// read ahead within the memory limit. Shard `i` of `n` gives the blobs `i`, `i + n`, `i + 2n` … of the listing.
//
// Shards that list a container on their own agree only while the container does not change. To share one listing, use
// azt_stream_from_dataset() with a dataset that was loaded from a manifest.
//
// Thread-safe: many threads may call all of its functions except azt_stream_free() at once, and each sample goes to
// one of them. In a forked child, a stream starts at its first sample, or at the cursor from which it was resumed.
//
// To create: azt_stream_list(), azt_stream_from_urls(), azt_stream_from_dataset(). Before the first sample:
// azt_stream_set_shuffle(), azt_stream_set_lazy(). Samples: azt_stream_next(), azt_stream_reset(),
// azt_stream_cursor(), azt_stream_resume(). To end: azt_stream_cancel(), azt_stream_free().
typedef struct azt_stream azt_stream;

// Creates a stream of the blobs in a container whose names begin with `prefix`; NULL or "" means all. Placeholders of
// directories (in accounts with a hierarchical namespace) are left out.
//
// Sends no request: the container is listed by azt_stream_next(), which also returns the error if it does not exist.
//
// The caller frees the stream with azt_stream_free(). Thread-safe. Does not block. A `shard_index` that is not less
// than `shard_count`: AZT_STATUS_INVALID_ARGUMENT.
azt_status azt_stream_list(const struct azt_client *client,
                           const char *container_url,
                           const char *prefix,
                           size_t shard_index,
                           size_t shard_count,
                           struct azt_stream **out_stream,
                           struct azt_error **error);

// Creates a stream of the blobs at `count` URLs, in this order. The URLs may name several containers, and each may
// have its own SAS, snapshot or version.
//
// Sends no request. The caller frees the stream with azt_stream_free(). Thread-safe. Does not block. A bad URL, or a
// `shard_index` that is not less than `shard_count`: AZT_STATUS_INVALID_ARGUMENT.
azt_status azt_stream_from_urls(const struct azt_client *client,
                                const char *const *urls,
                                size_t count,
                                size_t shard_index,
                                size_t shard_count,
                                struct azt_stream **out_stream,
                                struct azt_error **error);

// Creates a stream of the entries of a dataset, in their order: for ranges, for files in tar archives, or to share one
// listing between processes.
//
// Sends no request. The dataset may be freed first. The caller frees the stream with azt_stream_free(). Thread-safe.
// Does not block. A `shard_index` that is not less than `shard_count`: AZT_STATUS_INVALID_ARGUMENT.
azt_status azt_stream_from_dataset(const struct azt_dataset *dataset,
                                   size_t shard_index,
                                   size_t shard_count,
                                   struct azt_stream **out_stream,
                                   struct azt_error **error);

// Shuffles the names of a stream, after sharding, through a buffer of `buffer_names` names: the stream fills the
// buffer, takes a name out at random, and puts the next one in its place. A buffer for all names gives a full shuffle.
// The same `seed` gives the same order. Each epoch has another order.
//
// Only before the first azt_stream_next() or azt_stream_resume(); later: AZT_STATUS_UNSUPPORTED. Thread-safe. Does not
// block. A buffer of 0 names: AZT_STATUS_INVALID_ARGUMENT.
azt_status azt_stream_set_shuffle(struct azt_stream *stream,
                                  size_t buffer_names,
                                  uint64_t seed,
                                  struct azt_error **error);

// Makes a stream lazy: its samples have no bytes, and nothing is read ahead. azt_sample_open() opens a sample to read
// the parts that are needed.
//
// Only before the first azt_stream_next() or azt_stream_resume(); later: AZT_STATUS_UNSUPPORTED. Thread-safe. Does not
// block.
azt_status azt_stream_set_lazy(struct azt_stream *stream,
                               struct azt_error **error);

// Returns the next sample of a stream. At the end of the epoch the call succeeds and `*out_sample` is NULL; later
// calls do the same until azt_stream_reset().
//
// The caller frees the sample with azt_sample_free(). Thread-safe: each sample goes to one caller. Blocks.
//
// A container that does not exist: AZT_STATUS_NOT_FOUND. A sample with a permanent failure (missing, not permitted) is
// an error once; the next call continues after it, and its position is not used. A sample, or a page of the listing,
// with a temporary failure (timeout, throttled, cancelled) is tried again by the next call.
azt_status azt_stream_next(const struct azt_stream *stream,
                           struct azt_sample **out_sample,
                           struct azt_error **error);

// Starts the next epoch of a stream, even before the end of the current one. A container is listed again. A new stream
// is in epoch 0.
//
// Thread-safe. Sends no request.
azt_status azt_stream_reset(const struct azt_stream *stream,
                            struct azt_error **error);

// Writes a cursor for azt_stream_resume() to `buffer`, which has `capacity` bytes: one line of ASCII text with a NUL
// at its end. `*out_size` is its size in bytes with the NUL.
//
// The cursor is the place after the sample with position `after_position` (azt_sample_position()). Pass the last
// sample that the program has used, because threads may have fetched more; UINT64_MAX means the last sample that the
// stream has returned. A cursor can be taken for the last 65,536 positions.
//
// A cursor has about 200 bytes, and about 700 for a container; 11 more for each name in a shuffle buffer; with several
// shards of a container, up to 11 more for each name of a page of the listing.
//
// Thread-safe. Sends no request. A buffer that is too small: AZT_STATUS_BUFFER_TOO_SMALL, and `*out_size` is the size
// that is needed; a capacity of 0 asks for this size. A position that was not returned yet, or is too old:
// AZT_STATUS_OUT_OF_RANGE.
azt_status azt_stream_cursor(const struct azt_stream *stream,
                             uint64_t after_position,
                             char *buffer,
                             size_t capacity,
                             size_t *out_size,
                             struct azt_error **error);

// Resumes a stream at a cursor, from this process or another one: the samples after the cursor follow in the same
// order and with the same positions.
//
// If blobs were added to the container since then, no earlier blob is repeated or lost; deleted blobs are left out.
// With several shards, this holds for the pages (5,000 names each) that each shard had listed. After these pages, the
// shards continue with the current listing; they agree if nothing was added or deleted there.
//
// The stream finds the place by the names around it, up to 16 on each side. It does not depend on the order in which
// the service lists. If all of these blobs were deleted, the stream continues at the start of the page: no blob is
// lost, but blobs of this page may be repeated. The log then has a message.
//
// Thread-safe. Sends no request. A cursor of a stream with another listing (container and prefix, URLs, or dataset),
// shard or shuffle; a damaged cursor; a cursor of an earlier version of the library that this version cannot read:
// AZT_STATUS_INVALID_ARGUMENT.
azt_status azt_stream_resume(const struct azt_stream *stream,
                             const char *cursor,
                             struct azt_error **error);

// Cancels a stream for good. A running azt_stream_next() ends within 100 ms with AZT_STATUS_CANCELLED, and so does
// every later one. Samples stay valid, and azt_stream_cursor() still returns the place.
//
// Any thread may call it, during any other call on the stream except azt_stream_free(). Does not block. NULL is
// allowed.
void azt_stream_cancel(const struct azt_stream *stream);

// Frees a stream. Samples that came from it stay valid. NULL is allowed.
//
// Does no network I/O. May be called from static destructors and in a forked child.
void azt_stream_free(struct azt_stream *stream);

// ---- Log -----------------------------------------------------------------------------------------

// The level of a log message: one of the AZT_LOG_LEVEL_* constants. A log callback gets the messages of its own level
// and of all lower numbers.
typedef int32_t azt_log_level;

// No messages.
#define AZT_LOG_LEVEL_OFF 0

// Data or work that is lost for good.
#define AZT_LOG_LEVEL_ERROR 1

// Conditions that need attention soon: a SAS that is about to expire, a token that could not be obtained.
#define AZT_LOG_LEVEL_WARN 2

// Decisions: which credential is used, which requests are retried and why.
#define AZT_LOG_LEVEL_INFO 3

// Each request: method, URL without query, status, milliseconds, attempt, request IDs.
#define AZT_LOG_LEVEL_DEBUG 4

// All messages.
#define AZT_LOG_LEVEL_TRACE 5

// Receives one log message. `target` is the part of the library that sent it; `message` is one line without secrets.
//
// Both strings are valid during the call. The library calls it on any thread, and on several threads at once. Inside
// it, functions of the library that block fail with AZT_STATUS_UNSUPPORTED. It must not throw an exception or call
// longjmp().
typedef void (*azt_log_callback)(void *user_data, azt_log_level level, const char *target, const char *message);

// Sends the log of the process to `callback`, which replaces an earlier callback. NULL turns the log off, which is the
// default.
//
// When the function returns, the earlier callback is not running and is not called again, and its finalizer has been
// called. `finalizer`, which may be NULL, is called once with `user_data` when this callback is replaced. If this
// function fails, the finalizer is not called.
//
// Thread-safe. Waits only for running calls of the earlier callback. Inside a log callback: AZT_STATUS_UNSUPPORTED. An
// unknown level: AZT_STATUS_INVALID_ARGUMENT.
azt_status azt_log_set_callback(azt_log_level level,
                                azt_log_callback callback,
                                void *user_data,
                                azt_finalizer finalizer,
                                struct azt_error **error);

// ---- Statistics ----------------------------------------------------------------------------------

// The counters of a client, and of all clients derived from it, in this process. Later versions of the library may add
// fields at the end.
typedef struct azt_stats {
    // Number of requests to the storage service, with retries, without requests for tokens.
    uint64_t requests;
    // Number of retries.
    uint64_t retries;
    // Number of responses that asked to slow down (HTTP 429, 503).
    uint64_t throttled;
    // Bytes of response bodies that were received.
    uint64_t bytes_received;
    // Bytes of request bodies to which a response came.
    uint64_t bytes_sent;
    // Number of requests for tokens.
    uint64_t token_requests;
    // Number of connections opened to the service, or to a proxy.
    uint64_t connections_opened;
    // Number of requests in flight now, until the end of their response bodies.
    uint64_t requests_in_flight;
    // Bytes of memory in use now for read-ahead, prefetched samples and blocks.
    uint64_t memory_in_use;
    // The largest value that memory_in_use had.
    uint64_t memory_peak;
    // Time in microseconds that callers spent inside calls of this client, added up.
    uint64_t caller_wait_microseconds;
} azt_stats;

// Writes the counters of a client to `*out_stats`. `stats_size` is sizeof(azt_stats) in the calling program: the
// library writes only the fields that the program knows, and sets fields that the library does not know to 0. In a
// forked child the counters start at 0.
//
// Thread-safe. Does not block. A size that is 0, not a multiple of 8 or more than 4096: AZT_STATUS_INVALID_ARGUMENT.
azt_status azt_client_stats(const struct azt_client *client,
                            struct azt_stats *out_stats,
                            size_t stats_size,
                            struct azt_error **error);

// ---- Progress ------------------------------------------------------------------------------------

// Receives the progress of a blob. For a reader, `done` is the number of bytes that its reads have returned and
// `total` is its size. For a writer, `done` is the number of bytes that the service has received, and `total` is
// UINT64_MAX (not known) until azt_blob_close() has published the blob.
//
// The library calls it only on a thread that is inside a call on the blob, at most ten times a second and at the end
// of the call. Inside it, functions of the library that block fail with AZT_STATUS_UNSUPPORTED. It must not throw an
// exception or call longjmp().
typedef void (*azt_progress_callback)(void *user_data, uint64_t done, uint64_t total);

// Reports the progress of calls on a blob to `callback`, which replaces an earlier callback. NULL ends the reports.
//
// `finalizer`, which may be NULL, is called once with `user_data` when the callback is replaced or the blob is freed.
// If this function fails, the finalizer is not called.
//
// One thread at a time. Sends no request.
azt_status azt_blob_set_progress(struct azt_blob *blob,
                                 azt_progress_callback callback,
                                 void *user_data,
                                 azt_finalizer finalizer,
                                 struct azt_error **error);

// ---- Interrupts ----------------------------------------------------------------------------------

// Says whether the running call is to end: true ends it.
//
// The library calls it only on the thread for which it was set, about every 25 ms while a call blocks there, and holds
// no lock of its own meanwhile. Inside it, functions of the library that block fail with AZT_STATUS_UNSUPPORTED. It
// must not throw an exception or call longjmp().
typedef bool (*azt_interrupt_callback)(void *user_data);

// Sets the interrupt callback of the calling thread, which replaces an earlier one. NULL removes it. With it a language
// ends a blocking call when, for example, Ctrl-C was pressed.
//
// When the callback returns true, the call that blocks on this thread ends within 100 ms with AZT_STATUS_CANCELLED, or
// with its own result if that comes first. The callback is not called again in that call. This is no cancellation:
// later calls work as after a temporary failure. A reader keeps its position, and the next azt_stream_next() returns
// the sample that was waited for. Only a writer fails for good, as after every failed write; if azt_blob_close() is
// ended while the service publishes the blob, the message says that the outcome is unknown. Calls of other threads, and
// data that is read ahead, are not disturbed.
//
// The library has no finalizer for `user_data`: it must stay valid until the callback is replaced or removed, or the
// thread has ended. Each thread has a callback of its own; a new thread has none. The thread of a forked child keeps
// the one that it had.
//
// Does not block. May be called from inside the callback. A call that takes less than 25 ms never calls the callback.
azt_status azt_thread_set_interrupt_callback(azt_interrupt_callback callback,
                                             void *user_data,
                                             struct azt_error **error);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* AZTORCH_H */
