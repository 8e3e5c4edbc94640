/* Forks, as a data loader does for its workers. In the child, clients and datasets work, a stream starts with its first
 * sample, and blobs opened before the fork return FORKED and may be freed. In the parent everything keeps working. */
#define _GNU_SOURCE
#include <stdint.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"

enum { SIZE = 10 << 20, FORKS = 20 };

static unsigned char bytes[SIZE];

static void write_blob(const azt_client *client, const char *container, const char *name) {
  azt_blob *blob = NULL;
  OK(azt_blob_open_in, client, container, name, AZT_BLOB_MODE_WRITE, &blob);
  OK(azt_blob_write, blob, bytes, SIZE);
  OK(azt_blob_close, blob);
  azt_blob_free(blob);
}

static void read_blob(const azt_client *client, const char *container, const char *name) {
  azt_blob *blob = NULL;
  size_t read = 0;
  unsigned char *buffer = malloc(SIZE);
  OK(azt_blob_open_in, client, container, name, AZT_BLOB_MODE_READ, &blob);
  OK(azt_blob_read, blob, buffer, SIZE, &read);
  CHECK(read == SIZE && memcmp(buffer, bytes, SIZE) == 0);
  azt_blob_free(blob);
  free(buffer);
}

/* Reads a stream to its end. Returns whether it had `count` samples, with the positions from `first` on. */
static bool drain(const azt_stream *stream, uint64_t first, size_t count) {
  for (size_t i = 0; i < count; i++) {
    azt_sample *sample = NULL;
    OK(azt_stream_next, stream, &sample);
    if (azt_sample_position(sample) != first + i || azt_sample_size(sample) != SIZE) return false;
    azt_sample_free(sample);
  }
  azt_sample *none = NULL;
  OK(azt_stream_next, stream, &none);
  return none == NULL;
}

/* The child must not wait for the parent's prefetches: it would wait forever. */
static void datasets(const azt_client *client, const char *container) {
  azt_dataset *dataset = NULL;
  azt_stream *stream = NULL;
  azt_sample *sample = NULL;
  const size_t all[] = {0, 1, 0};
  OK(azt_dataset_list, client, container, "fork/", &dataset);
  CHECK(azt_dataset_len(dataset) >= 2);
  OK(azt_stream_from_dataset, dataset, 0, 1, &stream);
  for (int i = 0; i < FORKS; i++) {
    OK(azt_dataset_prefetch, dataset, all, 2);
    OK(azt_stream_next, stream, &sample);
    azt_sample_free(sample);
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
      azt_sample *samples[3] = {NULL};
      OK(azt_dataset_get_batch, dataset, all, 3, samples);
      for (int j = 0; j < 3; j++) {
        CHECK(azt_sample_size(samples[j]) == SIZE && memcmp(azt_sample_data(samples[j]), bytes, SIZE) == 0);
        azt_sample_free(samples[j]);
      }
      CHECK(drain(stream, 0, azt_dataset_len(dataset)));
      azt_stream_free(stream);
      azt_dataset_free(dataset);
      _exit(failed == 0 ? 0 : 1);
    }
    int status = 0;
    CHECK(drain(stream, 1, azt_dataset_len(dataset) - 1));
    OK(azt_stream_reset, stream);
    CHECK(waitpid(pid, &status, 0) == pid);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    OK(azt_dataset_get, dataset, 1, &sample);
    azt_sample_free(sample);
  }
  azt_stream_free(stream);
  azt_dataset_free(dataset);
}

static void child(azt_client *client, const char *container, azt_blob *reader, azt_blob *writer) {
  char byte = 0;
  size_t read = 0;
  uint64_t position = 0;
  CHECK(azt_blob_read(reader, &byte, 1, &read, NULL) == AZT_STATUS_FORKED);
  CHECK(azt_blob_read_at(reader, 0, &byte, 1, &read, NULL) == AZT_STATUS_FORKED);
  CHECK(azt_blob_seek(reader, 0, 0, NULL, NULL) == AZT_STATUS_FORKED);
  CHECK(azt_blob_tell(writer, &position, NULL) == AZT_STATUS_FORKED);
  CHECK(azt_blob_write(writer, "x", 1, NULL) == AZT_STATUS_FORKED);
  CHECK(azt_blob_flush(writer, NULL) == AZT_STATUS_FORKED);
  CHECK(azt_blob_close(writer, NULL) == AZT_STATUS_FORKED);
  azt_blob_free(reader);
  azt_blob_free(writer);
  read_blob(client, container, "fork/parent");
  write_blob(client, container, "fork/child");
  read_blob(NULL, container, "fork/child");
  azt_client_free(client);
}

int main(void) {
  const char *container = environment("AZTORCH_TEST_CONTAINER_URL");
  azt_client *client = NULL;
  azt_blob *reader = NULL, *writer = NULL;
  size_t read = 0;
  char byte = 0;
  for (size_t i = 0; i < SIZE; i++) bytes[i] = (unsigned char)(i * 2654435761u >> 13);

  OK(azt_client_new, NULL, &client);
  write_blob(client, container, "fork/parent");
  OK(azt_blob_open_in, client, container, "fork/parent", AZT_BLOB_MODE_READ, &reader);
  OK(azt_blob_open_in, client, container, "fork/writer", AZT_BLOB_MODE_WRITE, &writer);
  for (int i = 0; i < FORKS; i++) {
    /* Bytes are in flight in both directions while the process forks. */
    OK(azt_blob_write, writer, bytes, SIZE);
    OK(azt_blob_read_at, reader, (uint64_t)i, &byte, 1, &read);
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
      child(client, container, reader, writer);
      _exit(failed == 0 ? 0 : 1);
    }
    OK(azt_blob_read_at, reader, SIZE / 2, &byte, 1, &read);
    CHECK((unsigned char)byte == bytes[SIZE / 2]);
    int status = 0;
    CHECK(waitpid(pid, &status, 0) == pid);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  }
  datasets(client, container);
  OK(azt_blob_close, writer);
  azt_blob_free(writer);
  azt_blob_free(reader);

  uint64_t size = 0;
  OK(azt_blob_open_in, client, container, "fork/writer", AZT_BLOB_MODE_READ, &reader);
  OK(azt_blob_size, reader, &size);
  CHECK(size == (uint64_t)SIZE * FORKS);
  azt_blob_free(reader);
  azt_client_free(client);
  return finish();
}
