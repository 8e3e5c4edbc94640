/* The contract of errors, clients and blobs that does not depend on the service: NULL, bad text, unknown constants,
 * outputs, misuse. Needs AZTORCH_TEST_CONTAINER_URL for the calls that succeed. */
#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "check.h"

static const char BAD_UTF8[] = "https://acc.blob.core.windows.net/con/\xff\xfe";
static const char URL[] = "https://acc.blob.core.windows.net/con/blob";
static const char CONTAINER[] = "https://acc.blob.core.windows.net/con";

static void statuses_and_version(void) {
  static const struct {
    azt_status status;
    int number;
    const char *name;
  } known[] = {
      {AZT_STATUS_OK, 0, "AZT_STATUS_OK"},
      {AZT_STATUS_INVALID_ARGUMENT, 1, "AZT_STATUS_INVALID_ARGUMENT"},
      {AZT_STATUS_UNSUPPORTED, 2, "AZT_STATUS_UNSUPPORTED"},
      {AZT_STATUS_OUT_OF_MEMORY, 3, "AZT_STATUS_OUT_OF_MEMORY"},
      {AZT_STATUS_LOCAL_IO, 4, "AZT_STATUS_LOCAL_IO"},
      {AZT_STATUS_NOT_FOUND, 10, "AZT_STATUS_NOT_FOUND"},
      {AZT_STATUS_ALREADY_EXISTS, 11, "AZT_STATUS_ALREADY_EXISTS"},
      {AZT_STATUS_MODIFIED, 12, "AZT_STATUS_MODIFIED"},
      {AZT_STATUS_OUT_OF_RANGE, 13, "AZT_STATUS_OUT_OF_RANGE"},
      {AZT_STATUS_BUFFER_TOO_SMALL, 14, "AZT_STATUS_BUFFER_TOO_SMALL"},
      {AZT_STATUS_UNAUTHENTICATED, 20, "AZT_STATUS_UNAUTHENTICATED"},
      {AZT_STATUS_PERMISSION_DENIED, 21, "AZT_STATUS_PERMISSION_DENIED"},
      {AZT_STATUS_REJECTED, 22, "AZT_STATUS_REJECTED"},
      {AZT_STATUS_THROTTLED, 30, "AZT_STATUS_THROTTLED"},
      {AZT_STATUS_UNAVAILABLE, 31, "AZT_STATUS_UNAVAILABLE"},
      {AZT_STATUS_TIMEOUT, 32, "AZT_STATUS_TIMEOUT"},
      {AZT_STATUS_CANCELLED, 33, "AZT_STATUS_CANCELLED"},
      {AZT_STATUS_CORRUPT, 40, "AZT_STATUS_CORRUPT"},
      {AZT_STATUS_FORKED, 50, "AZT_STATUS_FORKED"},
      {AZT_STATUS_INTERNAL, 99, "AZT_STATUS_INTERNAL"},
  };
  for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
    CHECK(known[i].status == known[i].number);
    CHECK(strcmp(azt_status_name(known[i].status), known[i].name) == 0);
  }
  const azt_status unknown[] = {-1, 5, 98, 100, INT32_MAX, INT32_MIN};
  for (size_t i = 0; i < sizeof unknown / sizeof unknown[0]; i++) {
    CHECK(azt_status_name(unknown[i]) != NULL);
    for (size_t j = 0; j < sizeof known / sizeof known[0]; j++) {
      CHECK(strcmp(azt_status_name(unknown[i]), known[j].name) != 0);
    }
  }
  char version[64];
  snprintf(version, sizeof version, "%d.%d.%d", AZT_VERSION_MAJOR, AZT_VERSION_MINOR, AZT_VERSION_PATCH);
  CHECK(strcmp(azt_version(), version) == 0);
  CHECK(AZT_VERSION_NUMBER == AZT_VERSION_MAJOR * 10000 + AZT_VERSION_MINOR * 100 + AZT_VERSION_PATCH);
  CHECK(AZT_BLOB_MODE_READ == 0 && AZT_BLOB_MODE_WRITE == 1 && AZT_BLOB_MODE_CREATE == 2);
  CHECK(AZT_SEEK_SET == 0 && AZT_SEEK_CURRENT == 1 && AZT_SEEK_END == 2);
}

static void accessors_accept_null(void) {
  CHECK(azt_error_status(NULL) == AZT_STATUS_OK);
  CHECK(strcmp(azt_error_message(NULL), "") == 0);
  CHECK(azt_error_http_status(NULL) == 0);
  CHECK(strcmp(azt_error_service_code(NULL), "") == 0);
  CHECK(strcmp(azt_error_request_id(NULL), "") == 0);
  CHECK(!azt_error_is_retryable(NULL));
  CHECK(strcmp(azt_blob_etag(NULL), "") == 0);
  CHECK(strcmp(azt_blob_url(NULL), "") == 0);
  azt_error_free(NULL);
  azt_client_options_free(NULL);
  azt_client_free(NULL);
  azt_blob_free(NULL);
}

static void options(void) {
  azt_client_options *options = azt_client_options_new();
  CHECK(options != NULL);
  REFUSED(azt_client_options_set_anonymous, NULL);
  REFUSED(azt_client_options_set_sas_token, NULL, "sv=1&sig=eA");
  REFUSED(azt_client_options_set_account_key, NULL, "acc", "a2V5");
  REFUSED(azt_client_options_set_connection_string, NULL, "UseDevelopmentStorage=true");
  REFUSED(azt_client_options_set_max_concurrency, NULL, 8);
  REFUSED(azt_client_options_set_memory_limit, NULL, 1 << 30);
  REFUSED(azt_client_options_set_block_size, NULL, 1 << 20);
  REFUSED(azt_client_options_set_max_retries, NULL, 3);
  REFUSED(azt_client_options_set_timeout_ms, NULL, 1000);

  const char *bad_text[] = {NULL, "", "\xff\xfe"};
  for (size_t i = 0; i < 3; i++) {
    REFUSED(azt_client_options_set_sas_token, options, bad_text[i]);
    REFUSED(azt_client_options_set_account_key, options, bad_text[i], "a2V5");
    REFUSED(azt_client_options_set_account_key, options, "acc", bad_text[i]);
    REFUSED(azt_client_options_set_connection_string, options, bad_text[i]);
  }
  REFUSED(azt_client_options_set_account_key, options, "acc", "not base64!");
  REFUSED(azt_client_options_set_connection_string, options, "AccountName=acc");
  REFUSED(azt_client_options_set_max_concurrency, options, 0);
  REFUSED(azt_client_options_set_memory_limit, options, 0);
  REFUSED(azt_client_options_set_block_size, options, 0);
  REFUSED(azt_client_options_set_timeout_ms, options, 0);
  /* Accepted or refused, never a crash. With the values that were accepted, a client can be made. */
  (void)azt_client_options_set_max_concurrency(options, UINT32_MAX, NULL);
  (void)azt_client_options_set_memory_limit(options, UINT64_MAX, NULL);
  (void)azt_client_options_set_block_size(options, UINT64_MAX, NULL);
  (void)azt_client_options_set_max_retries(options, UINT32_MAX, NULL);
  (void)azt_client_options_set_timeout_ms(options, UINT64_MAX, NULL);

  azt_client *client = NULL;
  OK(azt_client_new, options, &client);
  azt_client_free(client);
  OK(azt_client_options_set_anonymous, options);
  OK(azt_client_options_set_sas_token, options, "sv=1&sig=eA");
  OK(azt_client_options_set_account_key, options, "acc", "a2V5");
  OK(azt_client_options_set_connection_string, options, "UseDevelopmentStorage=true");
  OK(azt_client_options_set_max_concurrency, options, 8);
  OK(azt_client_options_set_memory_limit, options, 64 << 20);
  OK(azt_client_options_set_block_size, options, 1 << 20);
  OK(azt_client_options_set_max_retries, options, 0);
  OK(azt_client_options_set_timeout_ms, options, 60000);
  OK(azt_client_new, options, &client);
  azt_client_options_free(options);
  azt_client_free(client);
}

static void clients(void) {
  REFUSED(azt_client_new, NULL, NULL);
  REFUSED(azt_client_with_timeout_ms, NULL, 1000, NULL);
  azt_client *client = NULL, *derived = NULL;
  OK(azt_client_new, NULL, &client);
  OK(azt_client_with_timeout_ms, client, 1000, &derived);
  CHECK(client != NULL && derived != NULL);
  azt_client_free(client);
  OK(azt_client_with_timeout_ms, derived, 0, &client);
  azt_client_free(derived);
  azt_client_free(client);
  OK(azt_client_with_timeout_ms, NULL, UINT64_MAX, &client);
  azt_client_free(client);
}

static void bad_texts_and_modes_are_refused(void) {
  azt_blob *blob;
  bool exists = true;
  const char *bad_text[] = {NULL, "", BAD_UTF8};
  for (size_t i = 0; i < 3; i++) {
    const char *bad = bad_text[i];
    for (azt_blob_mode mode = AZT_BLOB_MODE_READ; mode <= AZT_BLOB_MODE_CREATE; mode++) {
      blob = (azt_blob *)&exists;
      REFUSED(azt_blob_open, NULL, bad, mode, &blob);
      CHECK(blob == NULL);
      blob = (azt_blob *)&exists;
      REFUSED(azt_blob_open_in, NULL, bad, "blob", mode, &blob);
      CHECK(blob == NULL);
      blob = (azt_blob *)&exists;
      REFUSED(azt_blob_open_in, NULL, CONTAINER, bad, mode, &blob);
      CHECK(blob == NULL);
    }
    blob = (azt_blob *)&exists;
    REFUSED(azt_blob_open_if_changed, NULL, bad, "\"0x1\"", &blob);
    CHECK(blob == NULL);
    REFUSED(azt_blob_exists, NULL, bad, &exists);
    CHECK(exists);
    REFUSED(azt_blob_delete, NULL, bad);
    REFUSED(azt_blob_download, NULL, bad, "file");
    REFUSED(azt_blob_upload, NULL, "/dev/null", bad, AZT_BLOB_MODE_WRITE);
    REFUSED(azt_container_create, NULL, bad);
  }
  REFUSED(azt_blob_open_if_changed, NULL, URL, NULL, &blob);
  REFUSED(azt_blob_open_if_changed, NULL, URL, "\xff", &blob);
  REFUSED(azt_blob_download, NULL, URL, NULL);
  REFUSED(azt_blob_upload, NULL, NULL, URL, AZT_BLOB_MODE_WRITE);
  /* NULL for an output. */
  REFUSED(azt_blob_open, NULL, URL, AZT_BLOB_MODE_WRITE, NULL);
  REFUSED(azt_blob_open_in, NULL, CONTAINER, "blob", AZT_BLOB_MODE_WRITE, NULL);
  REFUSED(azt_blob_open_if_changed, NULL, URL, "\"0x1\"", NULL);
  REFUSED(azt_blob_exists, NULL, URL, NULL);
  /* Unknown modes, and an upload in read mode. */
  const azt_blob_mode unknown[] = {-1, 3, 99, INT32_MAX, INT32_MIN};
  for (size_t i = 0; i < sizeof unknown / sizeof unknown[0]; i++) {
    blob = (azt_blob *)&exists;
    REFUSED(azt_blob_open, NULL, URL, unknown[i], &blob);
    CHECK(blob == NULL);
    REFUSED(azt_blob_open_in, NULL, CONTAINER, "blob", unknown[i], &blob);
    REFUSED(azt_blob_upload, NULL, "/dev/null", URL, unknown[i]);
  }
  REFUSED(azt_blob_upload, NULL, "/dev/null", URL, AZT_BLOB_MODE_READ);
}

static void calls_without_a_blob_are_refused(void) {
  char buffer[4] = "abc";
  size_t read = 77;
  uint64_t number = 77;
  REFUSED(azt_blob_read, NULL, buffer, sizeof buffer, &read);
  REFUSED(azt_blob_read_at, NULL, 0, buffer, sizeof buffer, &read);
  REFUSED(azt_blob_seek, NULL, 0, 0, &number);
  REFUSED(azt_blob_tell, NULL, &number);
  REFUSED(azt_blob_size, NULL, &number);
  REFUSED(azt_blob_set_if_match, NULL, "\"0x1\"");
  REFUSED(azt_blob_write, NULL, buffer, sizeof buffer);
  REFUSED(azt_blob_flush, NULL);
  REFUSED(azt_blob_close, NULL);
  CHECK(read == 77 && number == 77 && strcmp(buffer, "abc") == 0);
}

static void writer(const char *container) {
  azt_blob *blob = NULL;
  OK(azt_blob_open_in, NULL, container, "contract", AZT_BLOB_MODE_WRITE, &blob);
  CHECK(strcmp(azt_blob_etag(blob), "") == 0);
  CHECK(strstr(azt_blob_url(blob), "/contract") != NULL && strchr(azt_blob_url(blob), '?') == NULL);

  char buffer[4] = "abc";
  size_t read = 77;
  uint64_t number = 77;
  EXPECT(AZT_STATUS_UNSUPPORTED, azt_blob_read, blob, buffer, sizeof buffer, &read);
  EXPECT(AZT_STATUS_UNSUPPORTED, azt_blob_read_at, blob, 0, buffer, sizeof buffer, &read);
  EXPECT(AZT_STATUS_UNSUPPORTED, azt_blob_seek, blob, 0, 0, &number);
  CHECK(read == 77 && number == 77 && strcmp(buffer, "abc") == 0);
  REFUSED(azt_blob_tell, blob, NULL);
  REFUSED(azt_blob_write, blob, NULL, 1);
  REFUSED(azt_blob_write, blob, buffer, SIZE_MAX);
  REFUSED(azt_blob_set_if_match, blob, NULL);
  REFUSED(azt_blob_set_if_match, blob, "\xff");

  /* The refused calls above have not changed the writer. */
  OK(azt_blob_write, blob, NULL, 0);
  OK(azt_blob_write, blob, "0123456789", 10);
  OK(azt_blob_flush, blob);
  OK(azt_blob_tell, blob, &number);
  CHECK(number == 10);
  OK(azt_blob_close, blob);
  OK(azt_blob_close, blob);
  CHECK(azt_blob_etag(blob)[0] == '"');
  EXPECT(AZT_STATUS_UNSUPPORTED, azt_blob_write, blob, "more", 4);
  azt_blob_free(blob);
}

static void reader(const char *container) {
  azt_client *client = NULL;
  azt_blob *blob = NULL;
  OK(azt_client_new, NULL, &client);
  OK(azt_blob_open_in, client, container, "contract", AZT_BLOB_MODE_READ, &blob);
  azt_client_free(client);

  char buffer[16] = "";
  size_t read = 77;
  uint64_t number = 77;
  REFUSED(azt_blob_read, blob, NULL, 1, &read);
  REFUSED(azt_blob_read, blob, buffer, SIZE_MAX, &read);
  REFUSED(azt_blob_read_at, blob, 0, NULL, 1, &read);
  REFUSED(azt_blob_read_at, blob, 0, buffer, SIZE_MAX, &read);
  REFUSED(azt_blob_read, blob, buffer, 1, NULL);
  REFUSED(azt_blob_read_at, blob, 0, buffer, 1, NULL);
  const int32_t unknown[] = {-1, 3, INT32_MAX, INT32_MIN};
  for (size_t i = 0; i < sizeof unknown / sizeof unknown[0]; i++) {
    REFUSED(azt_blob_seek, blob, 0, unknown[i], &number);
  }
  REFUSED(azt_blob_seek, blob, -1, 0, &number);
  REFUSED(azt_blob_seek, blob, INT64_MIN, 1, &number);
  REFUSED(azt_blob_seek, blob, -11, 2, &number);
  REFUSED(azt_blob_tell, blob, NULL);
  REFUSED(azt_blob_size, blob, NULL);
  EXPECT(AZT_STATUS_UNSUPPORTED, azt_blob_write, blob, "x", 1);
  EXPECT(AZT_STATUS_UNSUPPORTED, azt_blob_set_if_match, blob, "\"0x1\"");
  CHECK(read == 77 && number == 77);

  OK(azt_blob_tell, blob, &number);
  CHECK(number == 0);
  OK(azt_blob_size, blob, &number);
  CHECK(number == 10);
  OK(azt_blob_read, blob, NULL, 0, &read);
  CHECK(read == 0);
  OK(azt_blob_read_at, blob, UINT64_MAX, buffer, 4, &read);
  CHECK(read == 0);
  OK(azt_blob_seek, blob, 4, 0, NULL);
  OK(azt_blob_read, blob, buffer, 3, &read);
  CHECK(read == 3 && memcmp(buffer, "456", 3) == 0);
  OK(azt_blob_seek, blob, -2, 1, &number);
  CHECK(number == 5);
  OK(azt_blob_seek, blob, 5, 2, &number);
  CHECK(number == 15);
  OK(azt_blob_read, blob, buffer, sizeof buffer, &read);
  CHECK(read == 0);
  OK(azt_blob_flush, blob);
  OK(azt_blob_close, blob);
  OK(azt_blob_close, blob);
  EXPECT(AZT_STATUS_UNSUPPORTED, azt_blob_read, blob, buffer, sizeof buffer, &read);
  EXPECT(AZT_STATUS_UNSUPPORTED, azt_blob_read_at, blob, 0, buffer, sizeof buffer, &read);
  CHECK(azt_blob_etag(blob)[0] == '"');
  azt_blob_free(blob);
}

static void failures(const char *container) {
  azt_blob *blob = (azt_blob *)&container;
  azt_error *error = NULL;
  CHECK(azt_blob_open_in(NULL, container, "absent", AZT_BLOB_MODE_READ, &blob, &error) == AZT_STATUS_NOT_FOUND);
  CHECK(blob == NULL);
  CHECK(azt_error_status(error) == AZT_STATUS_NOT_FOUND);
  CHECK(azt_error_http_status(error) == 404);
  CHECK(strcmp(azt_error_service_code(error), "BlobNotFound") == 0);
  CHECK(azt_error_request_id(error)[0] != '\0');
  CHECK(strstr(azt_error_message(error), "/absent") != NULL);
  CHECK(!azt_error_is_retryable(error));
  /* The caller owns the error: a later call neither frees nor changes it. */
  azt_error *kept = error;
  OK(azt_blob_open_in, NULL, container, "contract", AZT_BLOB_MODE_READ, &blob);
  CHECK(azt_error_http_status(kept) == 404);
  azt_error_free(kept);
  azt_blob_free(blob);
  CHECK(azt_blob_open_in(NULL, container, "absent", AZT_BLOB_MODE_READ, &blob, NULL) == AZT_STATUS_NOT_FOUND);
  EXPECT(AZT_STATUS_ALREADY_EXISTS, azt_container_create, NULL, container);
}

int main(void) {
  const char *container = environment("AZTORCH_TEST_CONTAINER_URL");
  statuses_and_version();
  accessors_accept_null();
  options();
  clients();
  bad_texts_and_modes_are_refused();
  calls_without_a_blob_are_refused();
  writer(container);
  reader(container);
  failures(container);
  return finish();
}
