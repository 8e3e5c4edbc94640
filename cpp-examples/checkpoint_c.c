/* Writes a buffer to an Azure blob in plain C11, publishes it, reads it back and verifies it, with error handling.
 *
 *   checkpoint_c URL       URL is https://ACCOUNT.blob.core.windows.net/CONTAINER/NAME?SAS
 */
#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <aztorch.h>

enum { SIZE = 32 << 20 };

/* Prints an error and frees it. Its message is one line: the blob, the cause, and what to do. */
static int fail(azt_error *error) {
  fprintf(stderr, "checkpoint_c: %s\n", azt_error_message(error));
  fprintf(stderr, "  %s", azt_status_name(azt_error_status(error)));
  if (azt_error_http_status(error) != 0) {
    fprintf(stderr, ", HTTP %d %s, request %s", azt_error_http_status(error), azt_error_service_code(error),
            azt_error_request_id(error));
  }
  fprintf(stderr, "%s\n", azt_error_is_retryable(error) ? "; trying again may help" : "");
  azt_error_free(error);
  return 1;
}

static int write_blob(const azt_client *client, const char *url, const uint8_t *data, size_t length) {
  azt_error *error = NULL;
  azt_blob *blob = NULL;
  if (azt_blob_open(client, url, AZT_BLOB_MODE_WRITE, &blob, &error) != AZT_STATUS_OK) return fail(error);

  /* Nothing is visible before the close. Freeing a writer without closing it publishes nothing, so errors need no
   * cleanup at the service. */
  int result = 0;
  if (azt_blob_write(blob, data, length, &error) != AZT_STATUS_OK ||
      azt_blob_close(blob, &error) != AZT_STATUS_OK) {
    result = fail(error);
  } else {
    printf("wrote %zu bytes, ETag %s\n", length, azt_blob_etag(blob));
  }
  azt_blob_free(blob);
  return result;
}

static int read_blob(const azt_client *client, const char *url, uint8_t *data, size_t length) {
  azt_error *error = NULL;
  azt_blob *blob = NULL;
  if (azt_blob_open(client, url, AZT_BLOB_MODE_READ, &blob, &error) != AZT_STATUS_OK) return fail(error);

  /* A read is short only at the end of the blob. All reads are of the version that was opened: when the blob is
   * replaced, they fail with AZT_STATUS_MODIFIED. */
  int result = 0;
  size_t count = 0;
  if (azt_blob_read(blob, data, length, &count, &error) != AZT_STATUS_OK) {
    result = fail(error);
  } else if (count != length) {
    fprintf(stderr, "checkpoint_c: the blob has %zu bytes instead of %zu\n", count, length);
    result = 1;
  }
  azt_blob_free(blob);
  return result;
}

/* A missing blob often means the first start of a job, not an error: check the status. */
static int has_checkpoint(const azt_client *client, const char *url, bool *found) {
  azt_error *error = NULL;
  azt_blob *blob = NULL;
  const azt_status status = azt_blob_open(client, url, AZT_BLOB_MODE_READ, &blob, &error);
  *found = status == AZT_STATUS_OK;
  if (status != AZT_STATUS_OK && status != AZT_STATUS_NOT_FOUND) return fail(error);
  azt_error_free(error);
  azt_blob_free(blob);
  return 0;
}

/* Fills a buffer with pseudo-random bytes. */
static void fill(uint8_t *data, size_t length) {
  uint32_t state = 2463534242U;
  for (size_t i = 0; i < length; ++i) {
    state ^= state << 13;
    state ^= state >> 17;
    state ^= state << 5;
    data[i] = (uint8_t)state;
  }
}

int main(int argc, char **argv) {
  if (argc != 2) {
    fprintf(stderr, "usage: checkpoint_c URL\n");
    return 2;
  }
  const char *url = argv[1];

  /* Most programs can pass NULL, which is the default client. This one limits each call to a minute. */
  azt_error *error = NULL;
  azt_client *client = NULL;
  if (azt_client_with_timeout_ms(NULL, 60000, &client, &error) != AZT_STATUS_OK) return fail(error);

  uint8_t *sent = malloc(SIZE);
  uint8_t *received = malloc(SIZE);
  int result = 1;
  bool found = false;
  if (sent == NULL || received == NULL) {
    fprintf(stderr, "checkpoint_c: out of memory\n");
  } else if (has_checkpoint(client, url, &found) == 0) {
    printf("%s\n", found ? "replacing a blob" : "a new blob");
    fill(sent, SIZE);
    result = write_blob(client, url, sent, SIZE) || read_blob(client, url, received, SIZE);
    if (result == 0 && memcmp(sent, received, SIZE) != 0) {
      fprintf(stderr, "checkpoint_c: the bytes read differ from the bytes written\n");
      result = 1;
    }
    if (result == 0) printf("read %d bytes, all equal\n", SIZE);
  }
  free(received);
  free(sent);
  azt_client_free(client);
  return result;
}
