// aztorch: Azure Blob Storage for LibTorch, from any language that speaks C.
//
// Written by cbindgen from src/ffi/. Edit the doc comments there and run `make header`.
//
// Conventions, which hold for every function:
//
// - A call that can fail returns azt_status and takes a last `azt_error **error`, which may be NULL. It is set
//   to NULL at entry, whatever it held, and to an error on failure, which the caller frees. Other outputs are
//   written on success only; an output handle is set to NULL first.
// - When a call returns, with whatever status, the library never again touches memory that the caller passed.
// - A `const` handle may be used from many threads at once, any other by one thread at a time; a breach of
//   that serialises. Handles keep what they need alive: a client may be freed before its blobs.
// - Every `_free` accepts NULL, does no network I/O, may be called from static destructors and after fork, and
//   is the only way to free its type.
// - Strings in are NUL-terminated UTF-8 and copied before the call returns. Strings out are borrowed and live as
//   long as the handle that gave them. Accessors given NULL return "", NULL, 0, false or AZT_STATUS_OK.
// - NULL where it is not allowed, bad UTF-8, unknown constants and impossible lengths are
//   AZT_STATUS_INVALID_ARGUMENT, never a crash. A length of 0 ignores its pointer.
// - Errors and URLs given out never hold a SAS signature, a key or a token.
// - "Blocks" means that a call waits for the network, until it succeeds, its retries end, or its deadline passes.
// - Nothing happens when the library is loaded; its threads start with the first request.
// - In a forked child clients and datasets work, with connections of their own, if no other thread was inside a call
//   at the fork; a stream begins with its first sample; blobs opened before it say AZT_STATUS_FORKED.
//
// URLs: https://ACCOUNT.blob.core.windows.net/CONTAINER/BLOB with any of a SAS, snapshot= and versionid= in the
// query; sovereign clouds and custom host names; http://HOST:PORT/ACCOUNT/CONTAINER/BLOB, as Azurite serves it, when
// the host is an IP address, localhost or one label, or the port is given and neither 80 nor 443. dfs, abfs[s]://
// and wasb[s]:// URLs are translated. A SAS in a URL wins over the client's credential.


#ifndef AZTORCH_H
#define AZTORCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// The version of this header; azt_version() gives that of the loaded library.
#define AZT_VERSION_MAJOR 0
#define AZT_VERSION_MINOR 1
#define AZT_VERSION_PATCH 0

// One blob, opened for reading or for writing.
//
// Functions for both: azt_blob_open(), azt_blob_open_in(), azt_blob_tell(), azt_blob_etag(), azt_blob_url(),
// azt_blob_flush(), azt_blob_set_progress(), azt_blob_close(), azt_blob_cancel(), azt_blob_free(). Readers:
// azt_blob_open_if_changed(), azt_blob_read(), azt_blob_read_at(), azt_blob_seek(), azt_blob_size(). Writers:
// azt_blob_write(), azt_blob_set_if_match(). Without an open blob: azt_blob_exists(), azt_blob_delete(),
// azt_blob_download(), azt_blob_upload().
//
// A reader is pinned to the version that it opened: a blob replaced meanwhile gives AZT_STATUS_MODIFIED, never
// a mix of two versions. A writer publishes nothing before azt_blob_close(). In a forked child both say
// AZT_STATUS_FORKED and may be freed.
typedef struct azt_blob azt_blob;

// A credential, a connection pool and limits. Thread-safe; works in a forked child, with connections of
// its own. May be freed before the blobs that were opened with it.
//
// Where a call takes a client, NULL means the process's default one, with default options: a SAS in the URL, or
// else the credential that the environment has, or else the default chain of identities.
//
// Functions: azt_client_new(), azt_client_with_timeout_ms(), azt_client_stats(), azt_client_cancel(),
// azt_client_free().
typedef struct azt_client azt_client;

// The settings of a client: made with defaults, changed by setters, read by azt_client_new().
//
// Each setter checks its value and leaves the options as they were if it refuses it
// (AZT_STATUS_INVALID_ARGUMENT). None blocks. Of the credentials the one set last counts; a SAS in a URL wins
// over all of them for that URL. One thread at a time.
//
// Functions: azt_client_options_new(), azt_client_options_free(); credentials: azt_client_options_set_anonymous(),
// azt_client_options_set_sas_token(), azt_client_options_set_account_key(),
// azt_client_options_set_connection_string(), azt_client_options_set_default_credential(),
// azt_client_options_set_client_secret(), azt_client_options_set_managed_identity(),
// azt_client_options_set_workload_identity(), azt_client_options_set_azure_cli(),
// azt_client_options_set_token_callback(); the network: azt_client_options_set_proxy(),
// azt_client_options_set_ca_file(), azt_client_options_set_user_agent(); limits:
// azt_client_options_set_max_concurrency(), azt_client_options_set_memory_limit(),
// azt_client_options_set_block_size(), azt_client_options_set_max_retries(), azt_client_options_set_timeout_ms(),
// azt_client_options_set_stall_timeout_ms(); what is checked: azt_client_options_set_checksum().
typedef struct azt_client_options azt_client_options;

// A map-style dataset: blobs, or parts of blobs, by index. Listed when it is made and immutable.
//
// Thread-safe: all functions but azt_dataset_free() may be called from many threads at once. Works in a forked child,
// with connections of its own. Texts live as long as the dataset.
//
// To make one: azt_dataset_list(), azt_dataset_from_urls(), azt_dataset_from_ranges(), azt_dataset_from_tars(),
// azt_dataset_from_manifest(); to save it: azt_dataset_save_manifest(). Entries: azt_dataset_len(),
// azt_dataset_blob_name(), azt_dataset_container_name(), azt_dataset_blob_size(), azt_dataset_url(). Bytes:
// azt_dataset_get(), azt_dataset_get_batch(), azt_dataset_get_into(), azt_dataset_get_batch_into(),
// azt_dataset_prefetch(), azt_dataset_open(). At last: azt_dataset_cancel(), azt_dataset_free().
typedef struct azt_dataset azt_dataset;

// What went wrong in a call.
//
// Every call that can fail takes a last parameter `azt_error **error`, which may be NULL. It is set to NULL
// at entry, whatever it held, and to an error on failure, which the caller frees with azt_error_free().
// An error is immutable and may be read from many threads at once.
//
// Accessors: azt_error_status(), azt_error_message(), azt_error_http_status(), azt_error_service_code(),
// azt_error_request_id(), azt_error_is_retryable().
typedef struct azt_error azt_error;

// One blob's bytes, or a part's, or an archive's member's, and where they came from.
//
// Owned by the caller, who frees it with azt_sample_free(); it outlives the dataset or stream that it came from.
// Immutable, so that any number of threads may read from it. Texts live as long as the sample.
//
// Functions: azt_sample_data(), azt_sample_size(), azt_sample_url(), azt_sample_blob_name(),
// azt_sample_container_name(), azt_sample_position(), azt_sample_blob_size(), azt_sample_open(), azt_sample_free().
typedef struct azt_sample azt_sample;

// An iterable dataset: samples one after the other, listed while they are read and fetched ahead within the memory
// limit. Shard `i` of `n` gives out the blobs `i`, `i + n`, `i + 2n` … of the listing.
//
// Thread-safe: all functions but azt_stream_free() may be called from many threads at once, and each sample goes to
// one of them. In a forked child a stream begins with its first sample, or where it was resumed. Shards that list a
// container on their own agree only while it does not change: to share one listing, use azt_stream_from_dataset()
// with a manifest.
//
// To make one: azt_stream_list(), azt_stream_from_urls(), azt_stream_from_dataset(); before its first sample:
// azt_stream_set_shuffle(), azt_stream_set_lazy(). Then azt_stream_next(), azt_stream_reset(), azt_stream_cursor(),
// azt_stream_resume(), azt_stream_cancel(), azt_stream_free().
typedef struct azt_stream azt_stream;

// What a token callback fills in, during its call only.
//
// Functions: azt_token_set(), azt_token_set_error().
typedef struct azt_token azt_token;

// The outcome of a call that can fail: one of the AZT_STATUS_* constants. Their numbers never change, and
// later versions may add some.
typedef int32_t azt_status;

// Gives a token for `scope` and `tenant_id`: "" when any, or the tenant that the account has named when it refused
// the token for any. Calls azt_token_set() and returns AZT_STATUS_OK, or calls azt_token_set_error() and returns the
// status that the waiting calls are to fail with.
//
// Called on a thread of its own, one at a time per client, with no lock held. The strings live during the call.
// Calls of the library that block are refused there (AZT_STATUS_UNSUPPORTED).
typedef azt_status (*azt_token_callback)(void *user_data,
                                         const char *scope,
                                         const char *tenant_id,
                                         struct azt_token *out_token);

// How a blob is opened: one of the AZT_BLOB_MODE_* constants.
typedef int32_t azt_blob_mode;

// Takes the bytes that reads of this blob have delivered, or that its writer has landed at the service, and those in
// all (UINT64_MAX: not known, which it is for a writer before azt_blob_close()). Called only on a thread that is inside
// a call on that blob, at most ten times a second and at the call's end. Calls of the library that block are refused
// there (AZT_STATUS_UNSUPPORTED).
typedef void (*azt_progress_callback)(void *user_data, uint64_t done, uint64_t total);

// How important a log line is: one of the AZT_LOG_LEVEL_* constants. A callback gets those up to its own level.
typedef int32_t azt_log_level;

// Takes one line, which lives during the call and holds no secret. Called from any thread, also from several at once.
// Calls of the library that block are refused there (AZT_STATUS_UNSUPPORTED).
typedef void (*azt_log_callback)(void *user_data, azt_log_level level, const char *target, const char *message);

// What a client and those derived from it have done in this process. Later versions may add fields at the end.
typedef struct azt_stats {
    // Requests sent to the storage service, retries included; not those for tokens.
    uint64_t requests;
    // How often something was tried again.
    uint64_t retries;
    // Answers that asked to slow down (HTTP 429, 503).
    uint64_t throttled;
    // Bytes of response bodies.
    uint64_t bytes_received;
    // Bytes of request bodies that were answered.
    uint64_t bytes_sent;
    // How often this client asked for a token.
    uint64_t token_requests;
    // Connections made to the service, or to the proxy before it.
    uint64_t connections_opened;
    // Requests under way now, until their bodies have ended.
    uint64_t requests_in_flight;
    // Bytes held now for read-ahead and for blocks.
    uint64_t memory_in_use;
    // The most that was held at once.
    uint64_t memory_peak;
    // Time that callers spent inside this client's calls.
    uint64_t caller_wait_microseconds;
} azt_stats;

// Success.
#define AZT_STATUS_OK 0

// A value that no call of this kind accepts; the message names it.
#define AZT_STATUS_INVALID_ARGUMENT 1

// The handle does not offer this (reading a writer, seeking a writer, writing after close), or a blocking
// call was made from inside a callback.
#define AZT_STATUS_UNSUPPORTED 2

// An allocation failed.
#define AZT_STATUS_OUT_OF_MEMORY 3

// A file of this machine could not be read or written.
#define AZT_STATUS_LOCAL_IO 4

// No such blob or container.
#define AZT_STATUS_NOT_FOUND 10

// The blob or container exists already.
#define AZT_STATUS_ALREADY_EXISTS 11

// The blob changed under an open reader, or another writer won.
#define AZT_STATUS_MODIFIED 12

// An index or range past the end.
#define AZT_STATUS_OUT_OF_RANGE 13

// The caller's buffer is too small; the size needed was written.
#define AZT_STATUS_BUFFER_TOO_SMALL 14

// No credential, or one that the service does not accept (HTTP 401).
#define AZT_STATUS_UNAUTHENTICATED 20

// The credential does not permit this (HTTP 403).
#define AZT_STATUS_PERMISSION_DENIED 21

// Any other refusal (HTTP 4xx); azt_error_service_code() says which.
#define AZT_STATUS_REJECTED 22

// The service asked to slow down (HTTP 429, 503), after retries.
#define AZT_STATUS_THROTTLED 30

// Network trouble or another HTTP 5xx, after retries.
#define AZT_STATUS_UNAVAILABLE 31

// The deadline passed and no answer had come.
#define AZT_STATUS_TIMEOUT 32

// The caller cancelled.
#define AZT_STATUS_CANCELLED 33

// What arrived is not what was stored: a length or checksum does not match, after retries.
#define AZT_STATUS_CORRUPT 40

// A reader or writer opened before a fork was used in the child.
#define AZT_STATUS_FORKED 50

// A defect of this library.
#define AZT_STATUS_INTERNAL 99

// For reading.
#define AZT_BLOB_MODE_READ 0

// For writing; a blob that is there is replaced when the writer is closed.
#define AZT_BLOB_MODE_WRITE 1

// For writing; a blob that is there stays, and the writer fails with AZT_STATUS_ALREADY_EXISTS, also when
// another writer was faster. The failure shows in a write, in azt_blob_flush() or in azt_blob_close().
#define AZT_BLOB_MODE_CREATE 2

// Nothing.
#define AZT_LOG_LEVEL_OFF 0

// What is lost for good.
#define AZT_LOG_LEVEL_ERROR 1

// What needs attention soon: a SAS about to expire, a token that could not be had.
#define AZT_LOG_LEVEL_WARN 2

// Decisions: which credential is used, what is tried again and why.
#define AZT_LOG_LEVEL_INFO 3

// Each request: method, URL without query, status, milliseconds, attempt, request ids.
#define AZT_LOG_LEVEL_DEBUG 4

// All there is.
#define AZT_LOG_LEVEL_TRACE 5

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// The name of a status, such as "AZT_STATUS_NOT_FOUND", or "AZT_STATUS_UNKNOWN".
//
// The text is static. Thread-safe, does not block.
const char *azt_status_name(azt_status status);

// The version of the loaded library, "MAJOR.MINOR.PATCH"; the AZT_VERSION_* macros are the header's.
//
// The text is static. Thread-safe, does not block.
const char *azt_version(void);

// The error's status, the same that the failed call returned; AZT_STATUS_OK for NULL.
//
// Thread-safe, does not block.
azt_status azt_error_status(const struct azt_error *error);

// What failed, on which blob, why, and what to do: one readable line without secrets; "" for NULL.
//
// The text lives as long as the error. Thread-safe, does not block.
const char *azt_error_message(const struct azt_error *error);

// The HTTP status of the service's answer; 0 when there was none, and for NULL.
//
// Thread-safe, does not block.
uint16_t azt_error_http_status(const struct azt_error *error);

// The service's error code, such as "BlobNotFound"; "" when there is none, and for NULL.
// See <https://learn.microsoft.com/rest/api/storageservices/blob-service-error-codes>.
//
// The text lives as long as the error. Thread-safe, does not block.
const char *azt_error_service_code(const struct azt_error *error);

// The service's x-ms-request-id, which Azure support asks for; "" when there is none, and for NULL.
//
// The text lives as long as the error. Thread-safe, does not block.
const char *azt_error_request_id(const struct azt_error *error);

// Whether the same call may succeed later although the caller changes nothing; false for NULL.
//
// The library has already retried as its options say. Thread-safe, does not block.
bool azt_error_is_retryable(const struct azt_error *error);

// Frees an error. NULL is allowed.
void azt_error_free(struct azt_error *error);

// New options with the defaults: the credential is what the environment has for storage
// (AZURE_STORAGE_CONNECTION_STRING, or AZURE_STORAGE_ACCOUNT with AZURE_STORAGE_KEY or AZURE_STORAGE_SAS_TOKEN, in
// this order, and for that account only), or else azt_client_options_set_default_credential(). NULL when there is no
// memory.
//
// The caller frees them with azt_client_options_free(). Thread-safe, does not block.
struct azt_client_options *azt_client_options_new(void);

// Frees options; clients made from them are not affected. NULL is allowed.
void azt_client_options_free(struct azt_client_options *options);

// Sends no credential: for public containers, and for URLs with a SAS.
azt_status azt_client_options_set_anonymous(struct azt_client_options *options, struct azt_error **error);

// Uses a shared access signature, with or without its leading '?', for all URLs without one.
azt_status azt_client_options_set_sas_token(struct azt_client_options *options,
                                            const char *sas,
                                            struct azt_error **error);

// Signs each request with an account's key (SharedKey). The key is base64, as the portal shows it.
azt_status azt_client_options_set_account_key(struct azt_client_options *options,
                                              const char *account,
                                              const char *key_base64,
                                              struct azt_error **error);

// Takes credential and endpoint from an Azure Storage connection string, with an AccountKey or a
// SharedAccessSignature, with or without a BlobEndpoint; or UseDevelopmentStorage=true, with or without a
// DevelopmentStorageProxyUri.
// See <https://learn.microsoft.com/azure/storage/common/storage-configure-connection-string>.
azt_status azt_client_options_set_connection_string(struct azt_client_options *options,
                                                    const char *connection_string,
                                                    struct azt_error **error);

// How many requests the client has under way at once at most, 1 to 4096. Default: 64, so that a batch of
// 64 samples goes out at once.
azt_status azt_client_options_set_max_concurrency(struct azt_client_options *options,
                                                  uint32_t requests,
                                                  struct azt_error **error);

// How many bytes the client holds at most for read-ahead, prefetched samples and blocks being written, at least 1 MiB.
// Default: an eighth of the memory that the machine or this process's cgroup has, divided by LOCAL_WORLD_SIZE
// (torchrun sets it), between 32 and 512 MiB: more does not make transfers faster, and training needs the rest. All
// clients of a process together hold no more than the largest of their limits.
//
// The limit is never exceeded, and nothing fails or waits for a caller because of it: what was only read ahead makes
// way for who needs the memory, a block that an idle writer has begun is sent as it is, and without memory readers
// fetch just what they are asked for. A block that is buffered has no more than half of it, so that a blob written in
// small pieces has 25,000 times as much at most; an upload of a larger file is refused before anything is sent.
azt_status azt_client_options_set_memory_limit(struct azt_client_options *options,
                                               uint64_t bytes,
                                               struct azt_error **error);

// The size in bytes of a blob's first blocks, 64 KiB to 4000 MiB. Default: 8 MiB. Block n (from 0) has
// block_size * (1 + n / 2500) bytes, n / 2500 rounded down, so that the 50,000 blocks which the service allows
// hold 525,000 * block_size: 4 TiB by default, with enough memory (see azt_client_options_set_memory_limit()). For
// blobs of S bytes set at least S / 525,000.
azt_status azt_client_options_set_block_size(struct azt_client_options *options,
                                             uint64_t bytes,
                                             struct azt_error **error);

// How often a request that failed for now (HTTP 408, 429, 500, 502, 503, 504, connection errors, broken
// bodies) is tried again, 0 to 1000. Default: 8, some eight seconds of patience. A pause lasts up to 0.005 s, then up to
// three times as long and so on, up to 20 s. Retry-After is obeyed by each request, and under a limit of requests per
// second by the client as a whole. A body that broke is resumed where it broke. A request that met
// an idle connection which had died is sent again at once on a new one, and that does not count.
azt_status azt_client_options_set_max_retries(struct azt_client_options *options,
                                              uint32_t retries,
                                              struct azt_error **error);

// Ends each call after so many milliseconds, retries included. Default: none; then a call ends with its
// retries. See azt_client_with_timeout_ms() for a limit on some calls only.
azt_status azt_client_options_set_timeout_ms(struct azt_client_options *options,
                                             uint64_t whole_call_ms,
                                             struct azt_error **error);

// Gives up a connection that moves less than 1 KiB/s over so many milliseconds, in either direction, and one on which
// the answer to a read does not begin for so long; what it brought is kept and the rest asked for again, which counts
// as a retry. Default: 30,000, as long as the service itself may take for an operation. A large body may take as
// long as it takes; see azt_client_options_set_timeout_ms() for a limit on whole calls.
azt_status azt_client_options_set_stall_timeout_ms(struct azt_client_options *options,
                                                   uint64_t milliseconds,
                                                   struct azt_error **error);

// Whether every byte of a blob is checked end to end. True: an upload carries a CRC64 that the service compares, and a
// download is asked for with checksums (a structured body; where the service has none, a CRC64 or MD5 for ranges of at
// most 4 MiB), compared before anyone sees its bytes. Bytes that are wrong are fetched or sent again, and
// AZT_STATUS_CORRUPT if they stay so; a service that gives no checksum is AZT_STATUS_UNSUPPORTED. False: neither.
// Default: uploads over https, by a service that knows CRC64: beside TLS that costs next to nothing. Lengths, ranges
// and versions are always checked.
azt_status azt_client_options_set_checksum(struct azt_client_options *options,
                                           bool verify,
                                           struct azt_error **error);

// Sends all requests through this proxy, "http://[USER:PASSWORD@]HOST:PORT": https through a tunnel that it cannot
// read, http in plain. Default: what HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY (or their lower-case forms) say,
// read when the client is made. Identity endpoints of this machine are never asked through a proxy.
azt_status azt_client_options_set_proxy(struct azt_client_options *options,
                                        const char *proxy_url,
                                        struct azt_error **error);

// Trusts the CA certificates of a PEM file beside those of the system, for a private endpoint or a proxy that
// looks into TLS. Default: the system's only, or those of SSL_CERT_FILE and SSL_CERT_DIR in their place. The file is
// read now: AZT_STATUS_LOCAL_IO when that fails.
azt_status azt_client_options_set_ca_file(struct azt_client_options *options,
                                          const char *pem_path,
                                          struct azt_error **error);

// Puts this behind "aztorch/VERSION" in each request's User-Agent, where the account's logs show it: up to 200
// printable ASCII characters, for example "trainer/1.2". Default: nothing.
azt_status azt_client_options_set_user_agent(struct azt_client_options *options,
                                             const char *suffix,
                                             struct azt_error **error);

// Sets the token and when it expires, in seconds since 1970. The token is copied.
//
// AZT_STATUS_INVALID_ARGUMENT for NULL, an empty token, or one with characters that no token has. Within the callback
// that was given `token`; does not block.
azt_status azt_token_set(struct azt_token *token,
                         const char *bearer,
                         int64_t expires_unix_seconds);

// Says why there is no token; the text becomes part of the error of the calls that wait. It is copied.
//
// AZT_STATUS_INVALID_ARGUMENT for NULL. Within the callback that was given `token`; does not block.
azt_status azt_token_set_error(struct azt_token *token, const char *message);

// Takes tokens from `callback`, for programs that have a credential object of their own.
//
// `finalizer`, which may be NULL, is called with `user_data` once nothing needs the callback any more: after the
// options and all clients made from them are freed or got another credential; on whichever thread that happens.
// When this call fails, it is not called.
azt_status azt_client_options_set_token_callback(struct azt_client_options *options,
                                                 azt_token_callback callback,
                                                 void *user_data,
                                                 void (*finalizer)(void *user_data),
                                                 struct azt_error **error);

// Uses tokens of the first that works of: a service principal in AZURE_TENANT_ID, AZURE_CLIENT_ID and
// AZURE_CLIENT_SECRET (or AZURE_CLIENT_CERTIFICATE_PATH, a PEM file); a workload identity; a managed identity
// (AZURE_CLIENT_ID picks one); the Azure CLI; the Azure Developer CLI. The one that worked is kept.
// AZURE_TOKEN_CREDENTIALS (prod, dev or one credential's name) narrows the choice. When none works, the error
// says of each why (AZT_STATUS_UNAUTHENTICATED).
//
// This is the default where the URL has no SAS and the environment no key, SAS or connection string.
azt_status azt_client_options_set_default_credential(struct azt_client_options *options,
                                                     struct azt_error **error);

// Uses tokens of an application (service principal) with a secret. The tenant is an id or a domain.
azt_status azt_client_options_set_client_secret(struct azt_client_options *options,
                                                const char *tenant_id,
                                                const char *client_id,
                                                const char *secret,
                                                struct azt_error **error);

// Uses tokens of this machine's managed identity (virtual machine, App Service, Functions, AKS node): the
// system-assigned one when `client_id` is NULL, or the user-assigned one with this client id.
azt_status azt_client_options_set_managed_identity(struct azt_client_options *options,
                                                   const char *client_id,
                                                   struct azt_error **error);

// Uses tokens of a pod's workload identity, as AKS sets it up: AZURE_TENANT_ID, AZURE_CLIENT_ID and
// AZURE_FEDERATED_TOKEN_FILE, a file that is read again for each token.
azt_status azt_client_options_set_workload_identity(struct azt_client_options *options,
                                                    struct azt_error **error);

// Uses tokens of whoever logged in with `az login`; runs `az`, which must be on the PATH, for each token.
azt_status azt_client_options_set_azure_cli(struct azt_client_options *options, struct azt_error **error);

// Makes a client with these options; NULL means the defaults. The options are copied.
//
// The caller frees the client with azt_client_free(). Thread-safe; sends nothing, does not block.
azt_status azt_client_new(const struct azt_client_options *options,
                          struct azt_client **out_client,
                          struct azt_error **error);

// Makes a client that shares everything with `client` but ends each call after so many milliseconds; 0 means
// no limit.
//
// The caller frees it with azt_client_free(); either may be freed first. Thread-safe, does not block.
azt_status azt_client_with_timeout_ms(const struct azt_client *client,
                                      uint64_t whole_call_ms,
                                      struct azt_client **out_client,
                                      struct azt_error **error);

// Cancels a client: what is running with it, with the clients derived from it and with all that was opened with them
// ends, within 100 ms, and this and all later calls give AZT_STATUS_CANCELLED. The client that it was derived from
// goes on. For good: to go on, make another client.
//
// From any thread, beside any call but azt_client_free(). Does not block. NULL is allowed and does nothing: the
// process's default client, which other parts of a program use as well, cannot be cancelled for good.
void azt_client_cancel(const struct azt_client *client);

// Frees a client. Its blobs go on working. NULL is allowed.
void azt_client_free(struct azt_client *client);

// Opens a blob.
//
// For reading this sends one ranged GET and returns when the answer begins, while the first bytes come in;
// a missing blob is AZT_STATUS_NOT_FOUND. For writing it sends nothing.
//
// The caller frees the blob with azt_blob_free(). Thread-safe. Blocks when reading.
azt_status azt_blob_open(const struct azt_client *client,
                         const char *url,
                         azt_blob_mode mode,
                         struct azt_blob **out_blob,
                         struct azt_error **error);

// Opens the blob of a container that has this name. The name is taken literally and percent-encoded here; a
// SAS in the container's URL is kept.
//
// Otherwise like azt_blob_open().
azt_status azt_blob_open_in(const struct azt_client *client,
                            const char *container_url,
                            const char *blob_name,
                            azt_blob_mode mode,
                            struct azt_blob **out_blob,
                            struct azt_error **error);

// Opens a blob for reading if its ETag is no longer `etag`. While it is, the call succeeds and the blob is
// NULL: one request, no bytes of the blob. For programs that poll for a new model.
//
// Otherwise like azt_blob_open().
azt_status azt_blob_open_if_changed(const struct azt_client *client,
                                    const char *url,
                                    const char *etag,
                                    struct azt_blob **out_blob,
                                    struct azt_error **error);

// Cancels a blob: what is running on it ends, within 100 ms, and this and all later calls that read, write, move or
// wait give AZT_STATUS_CANCELLED. A cancelled writer never publishes; if azt_blob_close() was waiting for the
// service's answer, its error says that the outcome is unknown. For good.
//
// From any thread, beside any call but azt_blob_free(). Does not block. NULL is allowed.
void azt_blob_cancel(const struct azt_blob *blob);

// Frees a blob. A writer that was not closed is discarded: nothing is published. NULL is allowed.
//
// Does no network I/O. Allowed from static destructors and in a forked child.
void azt_blob_free(struct azt_blob *blob);

// Reads up to `length` bytes at the current position, which moves on. Fewer come only at the end, none past it.
//
// The bytes go straight into `buffer`; large reads are split into parallel ranges. One thread at a time.
// Blocks. AZT_STATUS_MODIFIED when the blob was replaced since it was opened. On failure the position stays,
// and what `buffer` holds is not defined.
azt_status azt_blob_read(struct azt_blob *blob,
                         void *buffer,
                         size_t length,
                         size_t *out_read,
                         struct azt_error **error);

// Reads up to `length` bytes at `offset`, leaving the position alone. Fewer come only at the end.
//
// Any number of threads at once. Otherwise like azt_blob_read(), but it never fetches more than it was asked
// for.
azt_status azt_blob_read_at(const struct azt_blob *blob,
                            uint64_t offset,
                            void *buffer,
                            size_t length,
                            size_t *out_read,
                            struct azt_error **error);

// Moves a reader's position by `offset` from the start (`whence` 0), the current position (1) or the end (2).
// Past the end is allowed; before the start is AZT_STATUS_INVALID_ARGUMENT, and nothing moves.
//
// `out_position` may be NULL. One thread at a time. Sends nothing, and forgets nothing that was fetched.
azt_status azt_blob_seek(struct azt_blob *blob,
                         int64_t offset,
                         int32_t whence,
                         uint64_t *out_position,
                         struct azt_error **error);

// A reader's position, or how many bytes were written to a writer.
//
// Thread-safe. Sends nothing. AZT_STATUS_UNSUPPORTED for a reader that was closed.
azt_status azt_blob_tell(const struct azt_blob *blob, uint64_t *out_position, struct azt_error **error);

// The size in bytes of the version that a reader opened, or of the part of one.
//
// Thread-safe. Sends nothing. AZT_STATUS_UNSUPPORTED for a writer.
azt_status azt_blob_size(const struct azt_blob *blob, uint64_t *out_size, struct azt_error **error);

// The ETag of the version that a reader opened, or that a writer published; "" for a writer not closed yet,
// and for NULL. Quoted, as the service gives it.
//
// The text lives as long as the blob. Thread-safe, does not block.
const char *azt_blob_etag(const struct azt_blob *blob);

// The blob's URL without its query, so without a SAS; "" for NULL.
//
// The text lives as long as the blob. Thread-safe, does not block.
const char *azt_blob_url(const struct azt_blob *blob);

// Makes a writer publish only over the version with this ETag: if another is there at azt_blob_close(), that
// fails with AZT_STATUS_MODIFIED. A job that was evicted but still runs cannot overwrite its successor's work.
//
// One thread at a time. Sends nothing.
azt_status azt_blob_set_if_match(struct azt_blob *blob,
                                 const char *etag,
                                 struct azt_error **error);

// Writes all of `length` bytes, or fails for good: then each later call gives the same error, and nothing
// is published.
//
// Small writes are copied and sent in the background; large ones (from four blocks on) are sent from `data` itself.
// One thread at a time. Blocks while as much is under way as the limits allow. A failure in the background shows in a
// later write, in azt_blob_flush() or in azt_blob_close(). AZT_STATUS_UNSUPPORTED after the close,
// AZT_STATUS_INVALID_ARGUMENT for more than the blocks that are left can hold.
azt_status azt_blob_write(struct azt_blob *blob,
                          const void *data,
                          size_t length,
                          struct azt_error **error);

// Returns when everything written so far is staged at the service. Nothing is published. Each flush ends a
// block, of which a blob can have 50,000. For a reader it does nothing.
//
// One thread at a time. Blocks. Fails as azt_blob_write() does.
azt_status azt_blob_flush(struct azt_blob *blob, struct azt_error **error);

// Publishes what was written, at once and as a whole, or, for a reader, ends reading. Called again it gives
// the same answer. The handle stays until azt_blob_free().
//
// A writer closed without a write publishes an empty blob. When this fails the old blob is as it was, unless the
// message says that the outcome is unknown because the service's answer was lost, or was an error that may stand for
// a success (HTTP 408, 500, 502, 503, 504): then the blob is wholly old or wholly new. AZT_STATUS_ALREADY_EXISTS in AZT_BLOB_MODE_CREATE, AZT_STATUS_MODIFIED when another version is there
// than azt_blob_set_if_match() has named, or another writer was faster. One thread at a time. Blocks.
azt_status azt_blob_close(struct azt_blob *blob,
                          struct azt_error **error);

// Tells `callback` how the calls on this blob get on, in place of an earlier one; NULL ends that.
//
// `finalizer`, which may be NULL, is called with `user_data` when the callback was replaced or the blob is freed; when
// this call fails, it is not. One thread at a time. Sends nothing.
azt_status azt_blob_set_progress(struct azt_blob *blob,
                                 azt_progress_callback callback,
                                 void *user_data,
                                 void (*finalizer)(void *user_data),
                                 struct azt_error **error);

// Whether a blob exists. A missing container is AZT_STATUS_NOT_FOUND. Without a credential the service does not tell what
// a private container holds, or whether there is one: AZT_STATUS_UNAUTHENTICATED.
//
// Thread-safe. Blocks.
azt_status azt_blob_exists(const struct azt_client *client,
                           const char *url,
                           bool *out_exists,
                           struct azt_error **error);

// Deletes a blob, or the snapshot or version that the URL names. A blob that has snapshots is refused
// (AZT_STATUS_REJECTED, SnapshotsPresent).
//
// Thread-safe. Blocks.
azt_status azt_blob_delete(const struct azt_client *client, const char *url, struct azt_error **error);

// Brings a blob into a file, in parallel ranges. The file appears at `path` when it is whole, and replaces
// what was there; on failure nothing is left. A file that is replaced hands on its mode without
// set-ID bits, and its owner as far as that is permitted; a new one follows the umask. A symbolic link stays, and the
// file that it leads to is replaced or made. AZT_STATUS_LOCAL_IO when the file cannot be written, or is no regular file
// but a directory, a device, a FIFO, a socket or an open file below /proc; or when another user put the file or the link
// into a folder with the sticky bit, like /tmp.
//
// Thread-safe. Blocks.
azt_status azt_blob_download(const struct azt_client *client,
                             const char *url,
                             const char *path,
                             struct azt_error **error);

// Writes a file as a blob, in blocks large enough for its size. AZT_STATUS_LOCAL_IO when the file cannot be
// read, or is no regular file (/dev/null counts as an empty one): write what comes out of a pipe with
// azt_blob_write(). `mode` is AZT_BLOB_MODE_WRITE or AZT_BLOB_MODE_CREATE. On failure the old blob stays.
//
// Thread-safe. Blocks.
azt_status azt_blob_upload(const struct azt_client *client,
                           const char *path,
                           const char *url,
                           azt_blob_mode mode,
                           struct azt_error **error);

// Creates a container. One that exists is AZT_STATUS_ALREADY_EXISTS. The new one has the metadata aztorch_write, by which
// this call knows its own work again when the service's answer was lost.
//
// Thread-safe. Blocks.
azt_status azt_container_create(const struct azt_client *client,
                                const char *container_url,
                                struct azt_error **error);

// Sends the process's log to `callback`, in place of an earlier one; NULL turns it off, which is the default.
//
// When this returns, the earlier callback is not running and will not be called again; its `finalizer`, which may be
// NULL, has been called with its `user_data`. When it fails, the finalizer passed is not called:
// AZT_STATUS_UNSUPPORTED from inside a log callback, AZT_STATUS_INVALID_ARGUMENT for an unknown level. Thread-safe.
// Waits for calls of the earlier callback that are running, and for nothing else.
azt_status azt_log_set_callback(azt_log_level level,
                                azt_log_callback callback,
                                void *user_data,
                                void (*finalizer)(void *user_data),
                                struct azt_error **error);

// Writes the client's numbers. `stats_size` is sizeof(azt_stats) as the caller was compiled with it: a newer library
// fills in what an older caller knows, and an older one sets the rest to 0.
//
// AZT_STATUS_INVALID_ARGUMENT for a size that is 0 or no multiple of 8. Thread-safe, does not block. In a forked child
// the numbers begin at 0.
azt_status azt_client_stats(const struct azt_client *client,
                            struct azt_stats *out_stats,
                            size_t stats_size,
                            struct azt_error **error);

// The bytes, aligned to 64 bytes and this sample's alone; never written again. NULL for a sample of a lazy stream,
// and for NULL. An empty blob's are an aligned address that nothing may be read from.
//
// Thread-safe, does not block.
const uint8_t *azt_sample_data(const struct azt_sample *sample);

// How many bytes azt_sample_data() has; 0 for a sample of a lazy stream, and for NULL.
//
// Thread-safe, does not block.
size_t azt_sample_size(const struct azt_sample *sample);

// The blob's URL without its query, so without a SAS; of an archive's member, the archive's; "" for NULL.
//
// Thread-safe, does not block.
const char *azt_sample_url(const struct azt_sample *sample);

// The blob's name, or the path of an archive's member in it; "" for NULL.
//
// Thread-safe, does not block.
const char *azt_sample_blob_name(const struct azt_sample *sample);

// The name of the blob's container; "" for NULL.
//
// Thread-safe, does not block.
const char *azt_sample_container_name(const struct azt_sample *sample);

// The sample's place in its stream's own sequence of the epoch, 0, 1, 2 …; or its index in the dataset. 0 for NULL.
//
// Thread-safe, does not block.
uint64_t azt_sample_position(const struct azt_sample *sample);

// The size in bytes of what the sample came from, as the listing, the range, the archive or an earlier read gave it;
// UINT64_MAX when it is not known, and for NULL. For samples of a lazy stream.
//
// Thread-safe, does not block.
uint64_t azt_sample_blob_size(const struct azt_sample *sample);

// Opens what the sample came from for reading: the blob as it is now, or the range or member as if it were a blob.
//
// The caller frees the blob with azt_blob_free(). Thread-safe. Blocks. Otherwise like azt_dataset_open().
azt_status azt_sample_open(const struct azt_sample *sample,
                           struct azt_blob **out_blob,
                           struct azt_error **error);

// Frees a sample and its bytes. NULL is allowed.
void azt_sample_free(struct azt_sample *sample);

// Lists the blobs of a container whose names begin with `prefix`; NULL or "" for all. They come in the service's
// order. Stubs of directories, which hierarchical accounts have, are left out. No blob at all is an empty dataset.
//
// One GET for each 5,000 blobs. A container that is missing is AZT_STATUS_NOT_FOUND. The caller frees the dataset
// with azt_dataset_free(). Thread-safe. Blocks.
azt_status azt_dataset_list(const struct azt_client *client,
                            const char *container_url,
                            const char *prefix,
                            struct azt_dataset **out_dataset,
                            struct azt_error **error);

// Takes the blobs of `count` URLs, in this order, of one container or several, each with its own SAS, snapshot or
// version. A bad URL fails the whole call, AZT_STATUS_INVALID_ARGUMENT, and is named.
//
// Sends nothing. The caller frees the dataset with azt_dataset_free(). Thread-safe, does not block.
azt_status azt_dataset_from_urls(const struct azt_client *client,
                                 const char *const *urls,
                                 size_t count,
                                 struct azt_dataset **out_dataset,
                                 struct azt_error **error);

// Takes `count` parts of blobs: `lengths[i]` bytes from `offsets[i]` on, of the blob `urls[i]`. For samples that are
// packed into large blobs of a format of your own.
//
// Sends nothing; a part that is not in its blob is AZT_STATUS_OUT_OF_RANGE when it is read, and one that reaches to
// UINT64_MAX is AZT_STATUS_INVALID_ARGUMENT here. The caller frees the dataset with azt_dataset_free(). Thread-safe,
// does not block.
azt_status azt_dataset_from_ranges(const struct azt_client *client,
                                   const char *const *urls,
                                   const uint64_t *offsets,
                                   const uint64_t *lengths,
                                   size_t count,
                                   struct azt_dataset **out_dataset,
                                   struct azt_error **error);

// Takes the regular files in `count` tar archives (ustar, GNU and pax), in the archives' order. An entry's name is
// its path in the archive; its URL is the archive's. Compressed archives are AZT_STATUS_CORRUPT, since they cannot be
// read by ranges, and so are damaged ones.
//
// The archives are indexed here, once, by ranged reads, side by side: files of more than 1 MiB are jumped over,
// smaller ones are read through. To spare other processes that, save a manifest. An archive that is replaced later
// gives AZT_STATUS_MODIFIED when it is read. Names that are not UTF-8 have U+FFFD where they are not. The caller frees
// the dataset with azt_dataset_free(). Thread-safe. Blocks.
azt_status azt_dataset_from_tars(const struct azt_client *client,
                                 const char *const *urls,
                                 size_t count,
                                 struct azt_dataset **out_dataset,
                                 struct azt_error **error);

// Loads what azt_dataset_save_manifest() saved: the same entries under the same indices, whatever came and went
// meanwhile. A SAS in `url` is used for the entries too, as far as it reaches: the same container, or all of the
// account with a SAS of the account. The client's credential goes to `url`'s own host, to Azure Storage and to the
// endpoint of its connection string: a manifest that names blobs elsewhere is AZT_STATUS_INVALID_ARGUMENT, unless the
// client has nothing to send there, as an anonymous one.
//
// A damaged manifest is AZT_STATUS_CORRUPT. The caller frees the dataset with azt_dataset_free(). Thread-safe. Blocks.
azt_status azt_dataset_from_manifest(const struct azt_client *client,
                                     const char *url,
                                     struct azt_dataset **out_dataset,
                                     struct azt_error **error);

// Saves the dataset's names, sizes, ETags and places as one blob, so that many processes share one listing and agree
// on what each index means. No SAS goes into it. The blob is replaced as a whole, or not at all.
//
// Thread-safe. Blocks. Fails as azt_blob_close() does.
azt_status azt_dataset_save_manifest(const struct azt_dataset *dataset,
                                     const char *url,
                                     struct azt_error **error);

// Cancels a dataset: what is running on it, and on the blobs and streams that were opened from it, ends within 100 ms,
// and this and all later calls that fetch give AZT_STATUS_CANCELLED. Names, sizes and samples stay. For good.
//
// From any thread, beside any call but azt_dataset_free(). Does not block. NULL is allowed. To cancel
// azt_dataset_list() and its like, which have no dataset yet, cancel their client: azt_client_cancel().
void azt_dataset_cancel(const struct azt_dataset *dataset);

// Frees a dataset; samples, blobs and streams that came from it stay. NULL is allowed.
//
// Does no network I/O. Allowed from static destructors and in a forked child.
void azt_dataset_free(struct azt_dataset *dataset);

// How many entries there are; 0 for NULL.
//
// Thread-safe, does not block.
size_t azt_dataset_len(const struct azt_dataset *dataset);

// The blob's name, or the path of an archive's member in it; NULL past the end, and for NULL.
//
// The text lives as long as the dataset. Thread-safe, does not block.
const char *azt_dataset_blob_name(const struct azt_dataset *dataset, size_t index);

// The name of the blob's container; NULL past the end, and for NULL.
//
// The text lives as long as the dataset. Thread-safe, does not block.
const char *azt_dataset_container_name(const struct azt_dataset *dataset, size_t index);

// The entry's size in bytes, as the listing, the range, the archive or an earlier read gave it; UINT64_MAX when it is
// not known yet, as with URLs before the first read. Past the end: AZT_STATUS_OUT_OF_RANGE.
//
// Thread-safe. Sends nothing.
azt_status azt_dataset_blob_size(const struct azt_dataset *dataset,
                                 size_t index,
                                 uint64_t *out_size,
                                 struct azt_error **error);

// Writes the blob's URL without its query into `buffer`, with a NUL at its end; of an archive's member, the
// archive's. `out_size` is the size with the NUL. A buffer that is too small is AZT_STATUS_BUFFER_TOO_SMALL, and
// `out_size` the size needed; a capacity of 0 asks for just that. Past the end: AZT_STATUS_OUT_OF_RANGE.
//
// Thread-safe. Sends nothing.
azt_status azt_dataset_url(const struct azt_dataset *dataset,
                           size_t index,
                           char *buffer,
                           size_t capacity,
                           size_t *out_size,
                           struct azt_error **error);

// Fetches an entry into memory of its own: one GET up to 8 MiB, parallel ranges above, no HEAD. A blob that changed
// since the listing gives its new bytes, whole. A caller that walks through the dataset in order is noticed, and read
// ahead of within the memory limit; what azt_dataset_prefetch() brought is taken.
//
// The caller frees the sample with azt_sample_free(). Past the end: AZT_STATUS_OUT_OF_RANGE. Thread-safe. Blocks.
azt_status azt_dataset_get(const struct azt_dataset *dataset,
                           size_t index,
                           struct azt_sample **out_sample,
                           struct azt_error **error);

// Fetches `count` entries concurrently, all or none, into `out_samples`, in this order. An index that comes twice is
// fetched once and gives two samples, with bytes of their own. On failure all of `out_samples` are NULL.
//
// The caller frees each sample with azt_sample_free(). Otherwise like azt_dataset_get(). Thread-safe. Blocks.
azt_status azt_dataset_get_batch(const struct azt_dataset *dataset,
                                 const size_t *indices,
                                 size_t count,
                                 struct azt_sample **out_samples,
                                 struct azt_error **error);

// Fetches an entry into the caller's memory, pinned or preallocated; `out_size` is how many bytes it has. If that is
// more than `capacity`, AZT_STATUS_BUFFER_TOO_SMALL, and `out_size` is set all the same.
//
// On failure what `buffer` holds is not defined. Otherwise like azt_dataset_get(). Thread-safe. Blocks.
azt_status azt_dataset_get_into(const struct azt_dataset *dataset,
                                size_t index,
                                void *buffer,
                                size_t capacity,
                                size_t *out_size,
                                struct azt_error **error);

// Fetches `count` entries concurrently into the caller's memory: entry `indices[i]` into `buffers[i]`, which has
// `capacities[i]` bytes, and the buffers must not overlap. `out_sizes[i]` is how many bytes it has. If one does not
// fit, AZT_STATUS_BUFFER_TOO_SMALL, and all of `out_sizes` are set.
//
// On failure what the buffers hold is not defined. Otherwise like azt_dataset_get_batch(). Thread-safe. Blocks.
azt_status azt_dataset_get_batch_into(const struct azt_dataset *dataset,
                                      const size_t *indices,
                                      size_t count,
                                      void *const *buffers,
                                      const size_t *capacities,
                                      size_t *out_sizes,
                                      struct azt_error **error);

// Says which entries will be asked for, in this order, so that they can be fetched before they are: as many at a time
// as three quarters of the client's connections, as far as the memory limit allows, and the others as those are
// taken. All of an epoch may be announced at once. It is a hint: what was fetched and not taken makes way for a later
// hint when memory is short. A `count` of 0 withdraws the hints so far. Failures show when the entry is asked for.
//
// Thread-safe. Returns at once. An index past the end: AZT_STATUS_OUT_OF_RANGE, and no hint is taken.
azt_status azt_dataset_prefetch(const struct azt_dataset *dataset,
                                const size_t *indices,
                                size_t count,
                                struct azt_error **error);

// Opens an entry for reading, as often as one likes, side by side. A range, or a member of an archive, is read as if
// it were a blob: its first byte is at 0, its size is its own.
//
// The caller frees the blob with azt_blob_free(); it may outlive the dataset. Otherwise like azt_blob_open().
// Thread-safe. Blocks.
azt_status azt_dataset_open(const struct azt_dataset *dataset,
                            size_t index,
                            struct azt_blob **out_blob,
                            struct azt_error **error);

// Streams the blobs of a container whose names begin with `prefix`; NULL or "" for all. Stubs of directories are
// left out.
//
// Sends nothing: a container that is missing shows in azt_stream_next(). The caller frees the stream with
// azt_stream_free(). A `shard_index` of `shard_count` or more is AZT_STATUS_INVALID_ARGUMENT. Thread-safe, does not
// block.
azt_status azt_stream_list(const struct azt_client *client,
                           const char *container_url,
                           const char *prefix,
                           size_t shard_index,
                           size_t shard_count,
                           struct azt_stream **out_stream,
                           struct azt_error **error);

// Streams the blobs of `count` URLs, in this order; see azt_dataset_from_urls().
//
// Sends nothing. The caller frees the stream with azt_stream_free(). Thread-safe, does not block.
azt_status azt_stream_from_urls(const struct azt_client *client,
                                const char *const *urls,
                                size_t count,
                                size_t shard_index,
                                size_t shard_count,
                                struct azt_stream **out_stream,
                                struct azt_error **error);

// Streams the entries of a dataset, in its order: ranges, members of archives, or one listing for many processes.
//
// Sends nothing. The dataset may be freed first. The caller frees the stream with azt_stream_free(). Thread-safe,
// does not block.
azt_status azt_stream_from_dataset(const struct azt_dataset *dataset,
                                   size_t shard_index,
                                   size_t shard_count,
                                   struct azt_stream **out_stream,
                                   struct azt_error **error);

// Shuffles the names through a buffer of `buffer_names`, after sharding: the buffer is filled, one of it is given out
// at random, the next name takes its place. A buffer of all names shuffles them wholly. The same `seed` gives the same
// order, and each epoch has an order of its own.
//
// Before the first azt_stream_next() or azt_stream_resume(); later it is AZT_STATUS_UNSUPPORTED. Thread-safe, does not
// block.
azt_status azt_stream_set_shuffle(struct azt_stream *stream,
                                  size_t buffer_names,
                                  uint64_t seed,
                                  struct azt_error **error);

// Gives out samples without their bytes, and fetches none: azt_sample_open() reads what is needed of each.
//
// Before the first azt_stream_next() or azt_stream_resume(); later it is AZT_STATUS_UNSUPPORTED. Thread-safe, does not
// block.
azt_status azt_stream_set_lazy(struct azt_stream *stream,
                               struct azt_error **error);

// The next sample, or NULL at the end of the epoch, again and again.
//
// A container that is missing is AZT_STATUS_NOT_FOUND. A sample that failed for good (missing, denied) is reported
// once and passed: its position is left out. One that failed for now (timeout, throttled) is tried again by the next
// call, and so is the listing. The caller frees the sample with azt_sample_free(). Thread-safe. Blocks.
azt_status azt_stream_next(const struct azt_stream *stream,
                           struct azt_sample **out_sample,
                           struct azt_error **error);

// Begins the next epoch, also before the end of this one: a container is listed again. A new stream is in epoch 0.
//
// Thread-safe. Sends nothing.
azt_status azt_stream_reset(const struct azt_stream *stream,
                            struct azt_error **error);

// Writes where the stream is into `buffer`: one line of ASCII text with a NUL at its end, for azt_stream_resume().
// `after_position` is the position of the last sample that was consumed (azt_sample_position()), which is less than
// what threads may have fetched; UINT64_MAX means the last one that was given out. Positions go back 65,536.
//
// `out_size` is the size with the NUL. A buffer that is too small is AZT_STATUS_BUFFER_TOO_SMALL, and `out_size` the
// size needed; a capacity of 0 asks for just that. A cursor has some 200 bytes, of a container some 700, with a shuffle
// 11 more for each name in its buffer, with several shards of a container up to 11 more for each name of the page. A
// position that was not given out, or too long ago: AZT_STATUS_OUT_OF_RANGE.
//
// Thread-safe. Sends nothing.
azt_status azt_stream_cursor(const struct azt_stream *stream,
                             uint64_t after_position,
                             char *buffer,
                             size_t capacity,
                             size_t *out_size,
                             struct azt_error **error);

// Goes on where a cursor was taken, in this process or another one: the samples that were still to come then come now,
// in the same order and with the same positions. A container that grew meanwhile neither repeats nor loses what was
// there before; what was deleted is left out. Of several shards that holds for what each had listed (pages have 5,000
// names): beyond, they count anew, and agree if nothing was added or deleted there.
//
// The place is found by the names around it, 16 on either side where they are known, in whatever order the service
// lists. If all of them were deleted, the stream goes on with the beginning of its page of the listing: nothing is
// lost, and what was taken out of that page and is still there comes once more. The log says so.
//
// The stream must have the same listing (container and prefix, URLs, or entries of the dataset), shard and shuffle, or
// it is AZT_STATUS_INVALID_ARGUMENT, and so is a damaged cursor or one of an earlier version of the library that this
// one cannot read. Thread-safe. Sends nothing.
azt_status azt_stream_resume(const struct azt_stream *stream,
                             const char *cursor,
                             struct azt_error **error);

// Cancels a stream: what is running on it ends within 100 ms, and this and all later calls of azt_stream_next() give
// AZT_STATUS_CANCELLED. Samples stay, and azt_stream_cursor() still tells the place. For good.
//
// From any thread, beside any call but azt_stream_free(). Does not block. NULL is allowed.
void azt_stream_cancel(const struct azt_stream *stream);

// Frees a stream; samples that came from it stay. NULL is allowed.
//
// Does no network I/O. Allowed from static destructors and in a forked child.
void azt_stream_free(struct azt_stream *stream);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* AZTORCH_H */
