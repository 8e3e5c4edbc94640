/* 1,000 forks while other threads of the parent transfer data. A child must neither close nor lock anything that the
 * parent uses, and the parent's bytes must be right. The contract promises less: it expects no other thread inside a
 * call at the fork. But a data loader forks without regard to the checkpoints that are being written. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/socket.h>

#include "check.h"
#include "process.h"

enum { SIZE = 4 << 20, SMALL = 1000, FORKS = 1000, REQUEST_EVERY = 40, TIMEOUT_SECONDS = 30, WORKERS = 4 };

static unsigned char bytes[SIZE];
static const char *container;
static azt_client *client;
static azt_dataset *dataset;
static azt_blob *idle_reader, *idle_writer;
static atomic_bool stop;
static atomic_size_t rounds[WORKERS];

static bool read_all(const char *name, unsigned char *into) {
  azt_blob *blob = NULL;
  size_t read = 0;
  bool good = azt_blob_open_in(client, container, name, AZT_BLOB_MODE_READ, &blob, NULL) == AZT_STATUS_OK &&
              azt_blob_read(blob, into, SIZE, &read, NULL) == AZT_STATUS_OK && read == SIZE &&
              memcmp(into, bytes, SIZE) == 0;
  azt_blob_free(blob);
  return good;
}

static bool write_all(const char *name) {
  azt_blob *blob = NULL;
  bool good = azt_blob_open_in(client, container, name, AZT_BLOB_MODE_WRITE, &blob, NULL) == AZT_STATUS_OK;
  for (size_t at = 0; good && at < SIZE; at += SIZE / 8) {
    good = azt_blob_write(blob, bytes + at, SIZE / 8, NULL) == AZT_STATUS_OK;
  }
  good = good && azt_blob_close(blob, NULL) == AZT_STATUS_OK;
  azt_blob_free(blob);
  return good;
}

static bool get_entries(void) {
  bool good = true;
  for (size_t i = 0; good && i < azt_dataset_len(dataset); i++) {
    azt_sample *sample = NULL;
    good = azt_dataset_get(dataset, i, &sample, NULL) == AZT_STATUS_OK && azt_sample_size(sample) == SMALL &&
           memcmp(azt_sample_data(sample), bytes + i, SMALL) == 0;
    azt_sample_free(sample);
  }
  return good;
}

static bool stream_entries(void) {
  azt_stream *stream = NULL;
  azt_sample *sample = NULL;
  bool good = azt_stream_from_dataset(dataset, 0, 1, &stream, NULL) == AZT_STATUS_OK;
  size_t count = 0;
  while (good && (good = azt_stream_next(stream, &sample, NULL) == AZT_STATUS_OK) && sample != NULL) {
    count++;
    azt_sample_free(sample);
  }
  azt_stream_free(stream);
  return good && count == azt_dataset_len(dataset);
}

static void *work(void *argument) {
  const size_t worker = (size_t)argument;
  unsigned char *buffer = malloc(SIZE);
  bool good = buffer != NULL;
  while (good && !atomic_load(&stop)) {
    switch (worker) {
      case 0: good = read_all("storm/large", buffer); break;
      case 1: good = write_all("storm/written") && read_all("storm/written", buffer); break;
      case 2: good = get_entries(); break;
      default: good = stream_entries(); break;
    }
    atomic_fetch_add(&rounds[worker], 1);
    pause_shortly();
  }
  free(buffer);
  return good ? NULL : argument == NULL ? "worker 0" : argument;
}

/* Checks in the child. Returns the number of the failed check, or 0. */
static int child(int number) {
  alarm(TIMEOUT_SECONDS);
  uint64_t position = 0;
  char byte = 0;
  size_t read = 0;
  if (azt_blob_tell(idle_writer, &position, NULL) != AZT_STATUS_FORKED) return 2;
  if (azt_blob_write(idle_writer, "x", 1, NULL) != AZT_STATUS_FORKED) return 3;
  azt_status reading = azt_blob_read_at(idle_reader, 0, &byte, 1, &read, NULL);
  if (reading != AZT_STATUS_FORKED && (reading != AZT_STATUS_OK || (unsigned char)byte != bytes[0])) return 4;
  const size_t files = open_files();
  if (number % REQUEST_EVERY == 0) {
    static unsigned char buffer[SIZE];
    if (!get_entries()) return 5;
    if (!stream_entries()) return 6;
    if (!read_all("storm/large", buffer)) return 7;
  } else if (threads() != 1) {
    return 8;
  }
  const size_t own = open_files();
  azt_blob_free(idle_writer);
  azt_blob_free(idle_reader);
  azt_dataset_free(dataset);
  azt_client_free(client);
  /* The child's own connections may be closed, not the inherited ones. */
  if (open_files() < files || (own == files && open_files() != files)) return 9;
  return 0;
}

int main(void) {
  container = environment("AZTORCH_TEST_CONTAINER_URL");
  for (size_t i = 0; i < SIZE; i++) bytes[i] = (unsigned char)(i * 2654435761u >> 13);
  OK(azt_client_new, NULL, &client);
  CHECK(write_all("storm/large"));
  for (size_t i = 0; i < 32; i++) {
    char name[32];
    azt_blob *blob = NULL;
    snprintf(name, sizeof name, "storm-entries/%02zu", i);
    OK(azt_blob_open_in, client, container, name, AZT_BLOB_MODE_WRITE, &blob);
    OK(azt_blob_write, blob, bytes + i, SMALL);
    OK(azt_blob_close, blob);
    azt_blob_free(blob);
  }
  OK(azt_dataset_list, client, container, "storm-entries/", &dataset);
  CHECK(azt_dataset_len(dataset) == 32);
  OK(azt_blob_open_in, client, container, "storm/large", AZT_BLOB_MODE_READ, &idle_reader);
  OK(azt_blob_open_in, client, container, "storm/idle", AZT_BLOB_MODE_WRITE, &idle_writer);
  OK(azt_blob_write, idle_writer, bytes, SIZE);

  pthread_t workers[WORKERS];
  for (size_t i = 0; i < WORKERS; i++) CHECK(pthread_create(&workers[i], NULL, work, (void *)i) == 0);
  for (int i = 0; i < FORKS; i++) {
    pid_t pid = fork();
    if (pid == 0) _exit(child(i));
    const int code = pid < 0 ? -1 : wait_for_exit(pid);
    if (code != 0) fprintf(stderr, "child %d ended with %d\n", i, code);
    CHECK(code == 0);
    if (failed > 3) break;
  }
  atomic_store(&stop, true);
  for (size_t i = 0; i < WORKERS; i++) {
    void *result = NULL;
    CHECK(pthread_join(workers[i], &result) == 0);
    CHECK(result == NULL);
    /* Each worker was at work during some of the forks. */
    CHECK(atomic_load(&rounds[i]) > 1);
  }
  OK(azt_blob_close, idle_writer);
  azt_blob_free(idle_writer);
  azt_blob_free(idle_reader);
  azt_dataset_free(dataset);
  azt_client_free(client);
  return finish();
}
