/* Typical use of blobs by a C program, on Azurite. Needs AZTORCH_TEST_CONTAINER_URL and AZTORCH_TEST_CONNECTION_STRING. */
#define _GNU_SOURCE
#include <stdbool.h>
#include <stdint.h>
#include <unistd.h>

#include "check.h"

enum { SMALL = 1000, LARGE = (20 << 20) + 7 };

static unsigned char *pattern(size_t size, unsigned seed) {
  unsigned char *bytes = malloc(size);
  uint32_t state = seed;
  for (size_t i = 0; i < size; i++) {
    state = state * 1664525u + 1013904223u;
    bytes[i] = (unsigned char)(state >> 24);
  }
  return bytes;
}

static void write_in_pieces(azt_blob *blob, const unsigned char *bytes, size_t size) {
  static const size_t pieces[] = {1, 4096, 3, 1 << 20, 9 << 20};
  size_t done = 0;
  for (size_t i = 0; done < size; i++) {
    size_t length = pieces[i % 5] < size - done ? pieces[i % 5] : size - done;
    OK(azt_blob_write, blob, bytes + done, length);
    done += length;
  }
  uint64_t position = 0;
  OK(azt_blob_tell, blob, &position);
  CHECK(position == size);
}

static void read_back(const azt_client *client, const char *container, const char *name, const unsigned char *bytes,
                      size_t size) {
  azt_blob *blob = NULL;
  uint64_t number = 0;
  size_t read = 0;
  unsigned char *buffer = malloc(size + 1);
  OK(azt_blob_open_in, client, container, name, AZT_BLOB_MODE_READ, &blob);
  OK(azt_blob_size, blob, &number);
  CHECK(number == size);
  OK(azt_blob_read, blob, buffer, size + 1, &read);
  CHECK(read == size && memcmp(buffer, bytes, size) == 0);
  OK(azt_blob_read_at, blob, size / 2, buffer, 100, &read);
  CHECK(read == 100 && memcmp(buffer, bytes + size / 2, 100) == 0);
  OK(azt_blob_tell, blob, &number);
  CHECK(number == size);
  OK(azt_blob_seek, blob, -50, 2, &number);
  CHECK(number == size - 50);
  OK(azt_blob_read, blob, buffer, 100, &read);
  CHECK(read == 50 && memcmp(buffer, bytes + size - 50, 50) == 0);
  OK(azt_blob_close, blob);
  azt_blob_free(blob);
  free(buffer);
}

static void write_and_read(const azt_client *client, const char *container, size_t size) {
  unsigned char *bytes = pattern(size, 1), *others = pattern(size, 2);
  azt_blob *blob = NULL;
  OK(azt_blob_open_in, client, container, "round trip+1", AZT_BLOB_MODE_CREATE, &blob);
  write_in_pieces(blob, bytes, size);
  OK(azt_blob_flush, blob);
  azt_blob *unpublished = NULL;
  EXPECT(AZT_STATUS_NOT_FOUND, azt_blob_open_in, client, container, "round trip+1", AZT_BLOB_MODE_READ, &unpublished);
  OK(azt_blob_close, blob);
  read_back(client, container, "round trip+1", bytes, size);

  /* The blob stays: a second creation, a writer that is freed without a close, and one with an old ETag do not
   * replace it. */
  azt_blob *second = NULL, *discarded = NULL, *late = NULL;
  OK(azt_blob_open_in, client, container, "round trip+1", AZT_BLOB_MODE_CREATE, &second);
  OK(azt_blob_write, second, others, SMALL);
  EXPECT(AZT_STATUS_ALREADY_EXISTS, azt_blob_close, second);
  EXPECT(AZT_STATUS_ALREADY_EXISTS, azt_blob_close, second);
  azt_blob_free(second);
  OK(azt_blob_open_in, client, container, "round trip+1", AZT_BLOB_MODE_WRITE, &discarded);
  write_in_pieces(discarded, others, size);
  azt_blob_free(discarded);
  OK(azt_blob_open_in, client, container, "round trip+1", AZT_BLOB_MODE_WRITE, &late);
  OK(azt_blob_set_if_match, late, "\"0x123\"");
  OK(azt_blob_write, late, others, SMALL);
  EXPECT(AZT_STATUS_MODIFIED, azt_blob_close, late);
  azt_blob_free(late);
  read_back(client, container, "round trip+1", bytes, size);

  azt_blob *replacement = NULL;
  OK(azt_blob_open_in, client, container, "round trip+1", AZT_BLOB_MODE_WRITE, &replacement);
  OK(azt_blob_set_if_match, replacement, azt_blob_etag(blob));
  write_in_pieces(replacement, others, size);
  OK(azt_blob_close, replacement);
  CHECK(strcmp(azt_blob_etag(replacement), azt_blob_etag(blob)) != 0);
  read_back(client, container, "round trip+1", others, size);
  azt_blob_free(replacement);
  azt_blob_free(blob);
  free(bytes);
  free(others);
}

/* The URL of a blob in a container whose URL may have a query. */
static char *blob_url(const char *container, const char *name) {
  const char *query = strchr(container, '?');
  size_t path = query == NULL ? strlen(container) : (size_t)(query - container);
  char *url = malloc(strlen(container) + strlen(name) + 2);
  sprintf(url, "%.*s/%s%s", (int)path, container, name, query == NULL ? "" : query);
  return url;
}

static void files_and_operations(const azt_client *client, const char *container) {
  char *url = blob_url(container, "round%20trip%2B1");
  char path[] = "/tmp/aztorch-roundtrip-XXXXXX";
  int file = mkstemp(path);
  CHECK(file >= 0);
  close(file);
  bool exists = false;
  OK(azt_blob_exists, client, url, &exists);
  CHECK(exists);
  OK(azt_blob_download, client, url, path);
  EXPECT(AZT_STATUS_ALREADY_EXISTS, azt_blob_upload, client, path, url, AZT_BLOB_MODE_CREATE);
  OK(azt_blob_upload, client, path, url, AZT_BLOB_MODE_WRITE);
  unsigned char *bytes = pattern(LARGE, 2);
  read_back(client, container, "round trip+1", bytes, LARGE);
  free(bytes);
  EXPECT(AZT_STATUS_LOCAL_IO, azt_blob_upload, client, "/nonexistent/file", url, AZT_BLOB_MODE_WRITE);
  unlink(path);

  azt_blob *blob = NULL, *changed = NULL;
  OK(azt_blob_open, client, url, AZT_BLOB_MODE_READ, &blob);
  OK(azt_blob_open_if_changed, client, url, azt_blob_etag(blob), &changed);
  CHECK(changed == NULL);
  OK(azt_blob_open_if_changed, client, url, "\"0x123\"", &changed);
  CHECK(changed != NULL && strcmp(azt_blob_etag(changed), azt_blob_etag(blob)) == 0);
  azt_blob_free(changed);
  azt_blob_free(blob);

  OK(azt_blob_delete, client, url);
  EXPECT(AZT_STATUS_NOT_FOUND, azt_blob_delete, client, url);
  OK(azt_blob_exists, client, url, &exists);
  CHECK(!exists);
  EXPECT(AZT_STATUS_NOT_FOUND, azt_blob_download, client, url, path);
  CHECK(access(path, F_OK) != 0);
  free(url);
}

int main(void) {
  const char *with_sas = environment("AZTORCH_TEST_CONTAINER_URL");
  char *without = strdup(with_sas);
  *strchrnul(without, '?') = '\0';
  azt_client_options *options = azt_client_options_new();
  azt_client *client = NULL;
  OK(azt_client_options_set_connection_string, options, environment("AZTORCH_TEST_CONNECTION_STRING"));
  OK(azt_client_new, options, &client);
  azt_client_options_free(options);

  struct {
    const azt_client *client;
    const char *container;
  } ways[] = {{NULL, with_sas}, {client, without}};
  for (int way = 0; way < 2; way++) {
    write_and_read(ways[way].client, ways[way].container, SMALL);
    char *url = blob_url(ways[way].container, "round%20trip%2B1");
    OK(azt_blob_delete, ways[way].client, url);
    free(url);
    write_and_read(ways[way].client, ways[way].container, LARGE);
    files_and_operations(ways[way].client, ways[way].container);
  }
  azt_client_free(client);
  free(without);
  return finish();
}
