/* The kinds of parameters of the C API, for misuse_test.c. Each kind has a good value, bad values that a function
 * must refuse, and odd values that it may accept or refuse. A value is made for one call and released after it.
 * Outputs are on the heap, where sanitizers find a write after the call. */
#ifndef AZTORCH_TESTS_MISUSE_KINDS_H
#define AZTORCH_TESTS_MISUSE_KINDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "check.h"

enum { BUFFER = 4096, MOST_VALUES = 10, LONG_TEXT = 1 << 20 };
#define STALE ((uintptr_t)0x5a5a5a5a5a5a5a5a)

typedef struct kind {
  enum { NO_POINTER, REQUIRED, OPTIONAL } pointer;
  uintptr_t (*make)(void);
  void (*release)(uintptr_t value);
  /* Values that are refused with `refusal`; with INVALID_ARGUMENT when `refusal` is 0. */
  uintptr_t bad[MOST_VALUES];
  azt_status refusal;
  /* Values that are accepted or refused. */
  uintptr_t odd[MOST_VALUES];
  size_t bad_count, odd_count;
  /* The output after a refused call: NULL for a handle, any other value unchanged. */
  enum { NO_OUTPUT, OUT_HANDLE, OUT_VALUE } output;
} kind;

/* --- handles and texts that all calls share, made by set_up() ----------------------------------------------------- */

static char container_url[2048], read_url[2048], absent_url[2048], written_url[2048], manifest_url[2048];
static char long_text[LONG_TEXT], cursor_text[BUFFER], serialized_text[BUFFER];
static size_t size_of_serialized;
static const char *one_url[1] = {read_url};
static azt_client_options *shared_options;
static azt_client *shared_client;
static azt_blob *shared_reader, *shared_writer;
static azt_dataset *shared_dataset;
static azt_stream *shared_stream;
static azt_sample *shared_sample;
static azt_error *shared_error;

/* --- handles that are made for one call --------------------------------------------------------------------------- */

static inline void *made(azt_status status, void *handle, azt_error *error) {
  if (status != AZT_STATUS_OK) {
    fprintf(stderr, "the test cannot make a handle: %s\n", azt_error_message(error));
    exit(2);
  }
  return handle;
}

#define MADE(type, function, ...)                                      \
  type *handle = NULL;                                                 \
  azt_error *error = NULL;                                             \
  azt_status status = function(__VA_ARGS__, &handle, &error);          \
  return made(status, handle, error)

static inline azt_client *new_client(void) { MADE(azt_client, azt_client_with_timeout_ms, shared_client, 0); }
static inline azt_blob *new_writer(void) {
  MADE(azt_blob, azt_blob_open, shared_client, written_url, AZT_BLOB_MODE_WRITE);
}
static inline azt_dataset *new_dataset(void) { MADE(azt_dataset, azt_dataset_from_urls, shared_client, one_url, 1); }
static inline azt_stream *new_stream(void) { MADE(azt_stream, azt_stream_from_urls, shared_client, one_url, 1, 0, 1); }
static inline azt_sample *new_sample(void) { MADE(azt_sample, azt_dataset_get, shared_dataset, 0); }
static inline azt_error *new_error(void) {
  azt_error *error = NULL;
  (void)azt_blob_flush(NULL, &error);
  return error;
}

#define FREE_WITH(free_it, type) \
  static void release_with_##free_it(uintptr_t value) { free_it((type *)value); }
FREE_WITH(azt_client_options_free, azt_client_options)
FREE_WITH(azt_blob_free, azt_blob)
FREE_WITH(azt_client_free, azt_client)
FREE_WITH(azt_dataset_free, azt_dataset)
FREE_WITH(azt_stream_free, azt_stream)

/* --- memory for inputs and outputs -------------------------------------------------------------------------------- */

static inline void *array_of(uintptr_t element) {
  uintptr_t *array = malloc(sizeof *array);
  *array = element;
  return array;
}
static void release_memory(uintptr_t value) { free((void *)value); }
static void release_buffers(uintptr_t value) {
  free(*(void **)value);
  free((void *)value);
}

/* Frees an output for a handle, and the handle that a call has stored there. */
#define FREE_SLOT(free_it, type)                                  \
  static void release_slot_of_##type(uintptr_t value) {           \
    uintptr_t content = *(uintptr_t *)value;                      \
    if (content != STALE) free_it((type *)content);               \
    free((void *)value);                                          \
  }
FREE_SLOT(azt_error_free, azt_error)
FREE_SLOT(azt_client_free, azt_client)
FREE_SLOT(azt_blob_free, azt_blob)
FREE_SLOT(azt_dataset_free, azt_dataset)
FREE_SLOT(azt_stream_free, azt_stream)
FREE_SLOT(azt_sample_free, azt_sample)

/* --- callbacks that do nothing ------------------------------------------------------------------------------------ */

static azt_status callback_without_token(void *user_data, const char *scope, const char *tenant_id,
                                         azt_token *out_token) {
  (void)user_data, (void)scope, (void)tenant_id, (void)out_token;
  return AZT_STATUS_UNAUTHENTICATED;
}
static void empty_progress_callback(void *user_data, uint64_t done, uint64_t total) {
  (void)user_data, (void)done, (void)total;
}
static void empty_log_callback(void *user_data, azt_log_level level, const char *target, const char *message) {
  (void)user_data, (void)level, (void)target, (void)message;
}
static bool empty_interrupt_callback(void *user_data) { return (void)user_data, false; }
static void empty_finalizer(void *user_data) { (void)user_data; }
typedef void (*finalizer_function)(void *user_data);

/* --- values that are refused or odd ------------------------------------------------------------------------------- */

static const char BAD_UTF8[] = "\xff\xfe", BAD_UTF8_URL[] = "https://acc.blob.core.windows.net/con/\xff\xfe";
static const char *const NULL_IN_LIST[] = {NULL}, *const BAD_UTF8_IN_LIST[] = {BAD_UTF8_URL};
static const char *const EMPTY_IN_LIST[] = {""};
static void *const NULL_BUFFER[] = {NULL};
static const uint64_t LARGEST_IN_LIST[] = {UINT64_MAX};
/* Lengths that no object has, in bytes and in elements of 8 bytes. */
#define TOO_LONG (uintptr_t)PTRDIFF_MAX + 1, SIZE_MAX
#define TOO_MANY (uintptr_t)PTRDIFF_MAX / 8 + 1, (uintptr_t)1 << 61, TOO_LONG
#define INT(value) (uintptr_t)(intptr_t)(value)
#define TEXT(value) (uintptr_t)(value)

#define NUMBER_OF(...) (sizeof((uintptr_t[]){__VA_ARGS__}) / sizeof(uintptr_t))
#define BAD(...) .bad = {__VA_ARGS__}, .bad_count = NUMBER_OF(__VA_ARGS__)
#define ODD(...) .odd = {__VA_ARGS__}, .odd_count = NUMBER_OF(__VA_ARGS__)

/* --- the kinds ---------------------------------------------------------------------------------------------------- */

#define KIND(name, type, good, ...)                                       \
  typedef type type_##name;                                               \
  static uintptr_t make_##name(void) { return (uintptr_t)(good); }        \
  static const kind kind_##name = {.make = make_##name, __VA_ARGS__};

/* Handles. The shared ones are used by several threads at once, also where the parameter is not const. */
KIND(options, azt_client_options *, shared_options, .pointer = REQUIRED)
KIND(some_options, const azt_client_options *, shared_options, .pointer = OPTIONAL)
KIND(client, const azt_client *, shared_client, .pointer = OPTIONAL)
KIND(reader, azt_blob *, shared_reader, .pointer = REQUIRED)
KIND(writer, azt_blob *, shared_writer, .pointer = REQUIRED)
KIND(dataset, const azt_dataset *, shared_dataset, .pointer = REQUIRED)
KIND(stream, const azt_stream *, shared_stream, .pointer = REQUIRED)
KIND(sample, const azt_sample *, shared_sample, .pointer = REQUIRED)
KIND(error_read, const azt_error *, shared_error, .pointer = REQUIRED)
KIND(fresh_options, azt_client_options *, azt_client_options_new(), .pointer = REQUIRED,
     .release = release_with_azt_client_options_free)
KIND(fresh_writer, azt_blob *, new_writer(), .pointer = REQUIRED, .release = release_with_azt_blob_free)
KIND(fresh_stream, azt_stream *, new_stream(), .pointer = REQUIRED, .release = release_with_azt_stream_free)
KIND(cancelled_client, azt_client *, new_client(), .pointer = OPTIONAL, .release = release_with_azt_client_free)
KIND(cancelled_dataset, azt_dataset *, new_dataset(), .pointer = OPTIONAL, .release = release_with_azt_dataset_free)
KIND(verify, bool, true, ODD(false))

/* Handles that the call itself frees. */
KIND(last_options, azt_client_options *, azt_client_options_new(), .pointer = OPTIONAL)
KIND(last_client, azt_client *, new_client(), .pointer = OPTIONAL)
KIND(last_blob, azt_blob *, new_writer(), .pointer = OPTIONAL)
KIND(last_dataset, azt_dataset *, new_dataset(), .pointer = OPTIONAL)
KIND(last_stream, azt_stream *, new_stream(), .pointer = OPTIONAL)
KIND(last_sample, azt_sample *, new_sample(), .pointer = OPTIONAL)
KIND(last_error, azt_error *, new_error(), .pointer = OPTIONAL)

/* Outputs. */
KIND(error, azt_error **, array_of(STALE), .pointer = OPTIONAL, .release = release_slot_of_azt_error)
KIND(out_client, azt_client **, array_of(STALE), .pointer = REQUIRED, .output = OUT_HANDLE,
     .release = release_slot_of_azt_client)
KIND(out_blob, azt_blob **, array_of(STALE), .pointer = REQUIRED, .output = OUT_HANDLE,
     .release = release_slot_of_azt_blob)
KIND(out_dataset, azt_dataset **, array_of(STALE), .pointer = REQUIRED, .output = OUT_HANDLE,
     .release = release_slot_of_azt_dataset)
KIND(out_stream, azt_stream **, array_of(STALE), .pointer = REQUIRED, .output = OUT_HANDLE,
     .release = release_slot_of_azt_stream)
KIND(out_sample, azt_sample **, array_of(STALE), .pointer = REQUIRED, .output = OUT_HANDLE,
     .release = release_slot_of_azt_sample)
KIND(out_size, size_t *, array_of(STALE), .pointer = REQUIRED, .output = OUT_VALUE, .release = release_memory)
KIND(out_u64, uint64_t *, array_of(STALE), .pointer = REQUIRED, .output = OUT_VALUE, .release = release_memory)
KIND(out_position, uint64_t *, array_of(STALE), .pointer = OPTIONAL, .output = OUT_VALUE, .release = release_memory)
KIND(out_bool, bool *, array_of(STALE), .pointer = REQUIRED, .output = OUT_VALUE, .release = release_memory)
KIND(out_stats, azt_stats *, calloc(1, sizeof(azt_stats)), .pointer = REQUIRED, .release = release_memory)

/* Bytes. */
KIND(data, const void *, "data", .pointer = REQUIRED)
KIND(buffer, void *, calloc(1, BUFFER), .pointer = REQUIRED, .release = release_memory)
KIND(text_buffer, char *, calloc(1, BUFFER), .pointer = REQUIRED, .release = release_memory)
KIND(serialized, const char *, serialized_text, .pointer = REQUIRED, BAD(TEXT(long_text)),
     .refusal = AZT_STATUS_CORRUPT)
KIND(serialized_size, size_t, size_of_serialized, BAD(TOO_LONG), ODD(0, 1))
KIND(length, size_t, 4, BAD(TOO_LONG), ODD(0, 1))
KIND(capacity, size_t, BUFFER, BAD(TOO_LONG), ODD(0, 1))
KIND(stats_size, size_t, sizeof(azt_stats), BAD(0, 1, sizeof(azt_stats) - 1, 8192, TOO_LONG), ODD(8))

/* Lists. */
KIND(urls, const char *const *, one_url, .pointer = REQUIRED,
     BAD(TEXT(NULL_IN_LIST), TEXT(BAD_UTF8_IN_LIST), TEXT(EMPTY_IN_LIST)))
KIND(indices, const size_t *, array_of(0), .pointer = REQUIRED, .release = release_memory, ODD(TEXT(LARGEST_IN_LIST)))
KIND(offsets, const uint64_t *, array_of(0), .pointer = REQUIRED, .release = release_memory, ODD(TEXT(LARGEST_IN_LIST)))
KIND(lengths, const uint64_t *, array_of(1), .pointer = REQUIRED, .release = release_memory, ODD(TEXT(LARGEST_IN_LIST)))
KIND(buffers, void *const *, array_of((uintptr_t)calloc(1, BUFFER)), .pointer = REQUIRED, .release = release_buffers,
     BAD(TEXT(NULL_BUFFER)))
KIND(capacities, const size_t *, array_of(BUFFER), .pointer = REQUIRED, .release = release_memory,
     BAD(TEXT(LARGEST_IN_LIST)))
KIND(count, size_t, 1, BAD(TOO_MANY), ODD(0))

/* Numbers. */
KIND(status, azt_status, AZT_STATUS_OK, ODD(5, INT(-1), INT(INT32_MIN), INT32_MAX))
KIND(mode, azt_blob_mode, AZT_BLOB_MODE_READ, BAD(3, 99, INT(-1), INT(INT32_MIN), INT32_MAX), ODD(1, 2))
KIND(upload_mode, azt_blob_mode, AZT_BLOB_MODE_WRITE, BAD(0, 3, INT(-1), INT(INT32_MIN), INT32_MAX))
KIND(whence, int32_t, 0, BAD(3, INT(-1), INT(INT32_MIN), INT32_MAX), ODD(1, 2))
KIND(log_level, azt_log_level, AZT_LOG_LEVEL_ERROR, BAD(6, INT(-1), INT(INT32_MIN), INT32_MAX), ODD(0, 1, 2, 3, 4))
KIND(seek_offset, int64_t, 0, BAD(INT(-1), INT(INT64_MIN)), ODD(1, INT64_MAX))
KIND(offset, uint64_t, 0, ODD(1, INT64_MAX, UINT64_MAX))
KIND(requests, uint32_t, 8, BAD(0), ODD(1, UINT32_MAX))
KIND(retries, uint32_t, 2, ODD(0, UINT32_MAX))
KIND(memory, uint64_t, 64 << 20, BAD(0), ODD(1, UINT64_MAX))
KIND(block_size, uint64_t, 1 << 20, BAD(0), ODD(1, UINT64_MAX))
KIND(timeout, uint64_t, 60000, BAD(0), ODD(1, UINT64_MAX))
KIND(timeout_or_none, uint64_t, 0, ODD(1, UINT64_MAX))
KIND(index, size_t, 0, BAD(1, 1000, SIZE_MAX), .refusal = AZT_STATUS_OUT_OF_RANGE)
KIND(shard_index, size_t, 0, BAD(1, SIZE_MAX))
KIND(shard_count, size_t, 1, BAD(0), ODD(2, SIZE_MAX))
KIND(buffer_names, size_t, 16, ODD(0, 1, SIZE_MAX))
KIND(seed, uint64_t, 1, ODD(0, UINT64_MAX))
KIND(after_position, uint64_t, UINT64_MAX, ODD(0, 1, UINT64_MAX - 1))
KIND(expires, int64_t, 4102444800, ODD(0, INT(-1), INT(INT64_MIN), INT64_MAX))

/* Texts. Bad UTF-8 is refused by all. */
KIND(url, const char *, read_url, .pointer = REQUIRED,
     BAD(TEXT(""), TEXT(BAD_UTF8), TEXT(BAD_UTF8_URL), TEXT("x"), TEXT("ftp://a/b/c"), TEXT(long_text)))
KIND(url_of_absent, const char *, absent_url, .pointer = REQUIRED, BAD(TEXT(""), TEXT(BAD_UTF8_URL), TEXT(long_text)))
KIND(url_to_write, const char *, written_url, .pointer = REQUIRED, BAD(TEXT(""), TEXT(BAD_UTF8_URL), TEXT(long_text)))
KIND(url_of_manifest, const char *, manifest_url, .pointer = REQUIRED,
     BAD(TEXT(""), TEXT(BAD_UTF8_URL), TEXT(long_text)))
KIND(container, const char *, container_url, .pointer = REQUIRED,
     BAD(TEXT(""), TEXT(BAD_UTF8_URL), TEXT("x"), TEXT("https://account.example/"), TEXT(long_text)))
KIND(blob_name, const char *, "misuse/read", .pointer = REQUIRED,
     BAD(TEXT(""), TEXT(BAD_UTF8), TEXT(long_text), TEXT("..")))
KIND(prefix, const char *, "misuse/", .pointer = OPTIONAL, BAD(TEXT(BAD_UTF8)), ODD(TEXT(""), TEXT("\x01")))
KIND(etag, const char *, "\"0x1\"", .pointer = REQUIRED, BAD(TEXT(BAD_UTF8), TEXT("a\r\nb: c")),
     ODD(TEXT(""), TEXT("*"), TEXT("\""), TEXT(long_text)))
KIND(file_to_read, const char *, "/dev/null", .pointer = REQUIRED, BAD(TEXT(BAD_UTF8)),
     ODD(TEXT(""), TEXT("/"), TEXT(long_text)))
KIND(file_to_write, const char *, "/nonexistent/directory/file", .pointer = REQUIRED, BAD(TEXT(BAD_UTF8)),
     ODD(TEXT(""), TEXT("/"), TEXT(long_text)))
KIND(pem_path, const char *, "/nonexistent/ca.pem", .pointer = REQUIRED, BAD(TEXT(BAD_UTF8)),
     ODD(TEXT(""), TEXT("/"), TEXT("/dev/null"), TEXT(long_text)))
KIND(sas, const char *, "sv=1&sig=eA", .pointer = REQUIRED, BAD(TEXT(""), TEXT(BAD_UTF8)),
     ODD(TEXT("?"), TEXT(long_text)))
KIND(account, const char *, "acc", .pointer = REQUIRED, BAD(TEXT(""), TEXT(BAD_UTF8)), ODD(TEXT("/"), TEXT(long_text)))
KIND(key, const char *, "a2V5", .pointer = REQUIRED, BAD(TEXT(""), TEXT(BAD_UTF8), TEXT("not base64!")),
     ODD(TEXT(long_text)))
KIND(connection_string, const char *, "UseDevelopmentStorage=true", .pointer = REQUIRED,
     BAD(TEXT(""), TEXT(BAD_UTF8), TEXT("AccountName=acc"), TEXT(";;;="), TEXT(long_text)))
KIND(proxy, const char *, "http://127.0.0.1:1", .pointer = REQUIRED,
     BAD(TEXT(""), TEXT(BAD_UTF8), TEXT("ftp://a"), TEXT(long_text)))
KIND(agent, const char *, "trainer/1.2", .pointer = REQUIRED, BAD(TEXT(BAD_UTF8), TEXT("a\r\nb: c"), TEXT(long_text)),
     ODD(TEXT("")))
KIND(tenant, const char *, "tenant", .pointer = REQUIRED, BAD(TEXT(""), TEXT(BAD_UTF8), TEXT("a/../b")),
     ODD(TEXT(long_text)))
KIND(client_id, const char *, "00000000-0000-0000-0000-000000000000", .pointer = REQUIRED,
     BAD(TEXT(""), TEXT(BAD_UTF8)),
     ODD(TEXT("\r\n"), TEXT(long_text)))
KIND(some_client_id, const char *, "00000000-0000-0000-0000-000000000000", .pointer = OPTIONAL, BAD(TEXT(BAD_UTF8)),
     ODD(TEXT(""), TEXT("\r\n"), TEXT(long_text)))
KIND(secret, const char *, "secret", .pointer = REQUIRED, BAD(TEXT(""), TEXT(BAD_UTF8)),
     ODD(TEXT("\r\n"), TEXT(long_text)))
KIND(cursor, const char *, cursor_text, .pointer = REQUIRED, BAD(TEXT(""), TEXT(BAD_UTF8), TEXT("x"), TEXT(long_text)))
KIND(bearer, const char *, "token", .pointer = REQUIRED, BAD(TEXT(""), TEXT(BAD_UTF8), TEXT("a\r\nb: c")),
     ODD(TEXT(long_text)))
KIND(message, const char *, "no token today", .pointer = REQUIRED, BAD(TEXT(BAD_UTF8)),
     ODD(TEXT(""), TEXT("a\r\nb"), TEXT(long_text)))

/* Callbacks, their user data and finalizers. */
KIND(token_callback, azt_token_callback, callback_without_token, .pointer = REQUIRED)
KIND(progress_callback, azt_progress_callback, empty_progress_callback, .pointer = OPTIONAL)
KIND(interrupt_callback, azt_interrupt_callback, empty_interrupt_callback, .pointer = OPTIONAL)
KIND(log_callback, azt_log_callback, empty_log_callback, .pointer = OPTIONAL)
KIND(user_data, void *, &shared_options, .pointer = OPTIONAL)
KIND(finalizer, finalizer_function, empty_finalizer, .pointer = OPTIONAL)

/* The token of the running token callback. */
static azt_token *token_of_callback;
KIND(token, azt_token *, token_of_callback, .pointer = REQUIRED)

#endif
