/* Datasets, samples and streams: their results on Azurite, and the contract of each function that does not depend on
 * the service. Needs AZTORCH_TEST_CONTAINER_URL. */
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "check.h"

enum { BLOBS = 20, SIZE = 1000 };

static const char PREFIX[] = "dataset/";
static char urls[BLOBS][1024];
static const char *url_list[BLOBS];

/* An invalid pointer, which the library must neither read nor free. */
static char *poison(void) { return (char *)(uintptr_t)0x5a5a; }

/* Writes the URL of a blob in the container: the name is inserted before the query. */
static void blob_url(const char *container, const char *name, char *out, size_t capacity) {
  const char *query = strchr(container, '?');
  const int path = query == NULL ? (int)strlen(container) : (int)(query - container);
  const int length = snprintf(out, capacity, "%.*s/%s%s", path, container, name, query == NULL ? "" : query);
  if (length < 0 || (size_t)length >= capacity) exit(2);
}

static void put(const char *url, const void *bytes, size_t length) {
  azt_blob *blob = NULL;
  OK(azt_blob_open, NULL, url, AZT_BLOB_MODE_WRITE, &blob);
  OK(azt_blob_write, blob, bytes, length);
  OK(azt_blob_close, blob);
  azt_blob_free(blob);
}

static void fill(unsigned char *bytes, size_t blob) { memset(bytes, (int)(blob + 1), SIZE); }

static void make_blobs(const char *container) {
  for (size_t i = 0; i < BLOBS; i++) {
    char name[64];
    unsigned char bytes[SIZE];
    snprintf(name, sizeof name, "%s%02zu", PREFIX, i);
    blob_url(container, name, urls[i], sizeof urls[i]);
    url_list[i] = urls[i];
    fill(bytes, i);
    put(urls[i], bytes, SIZE);
  }
}

static bool is_blob(const azt_sample *sample, size_t blob) {
  unsigned char bytes[SIZE];
  fill(bytes, blob);
  return azt_sample_size(sample) == SIZE && memcmp(azt_sample_data(sample), bytes, SIZE) == 0;
}

static void accessors_accept_null(void) {
  CHECK(azt_dataset_len(NULL) == 0);
  CHECK(azt_dataset_blob_name(NULL, 0) == NULL);
  CHECK(azt_dataset_container_name(NULL, 0) == NULL);
  CHECK(azt_sample_data(NULL) == NULL);
  CHECK(azt_sample_size(NULL) == 0);
  CHECK(strcmp(azt_sample_url(NULL), "") == 0);
  CHECK(strcmp(azt_sample_blob_name(NULL), "") == 0);
  CHECK(strcmp(azt_sample_container_name(NULL), "") == 0);
  CHECK(azt_sample_position(NULL) == 0);
  CHECK(azt_sample_blob_size(NULL) == UINT64_MAX);
  azt_dataset_free(NULL);
  azt_sample_free(NULL);
  azt_stream_free(NULL);
}

/* Checks that a function that makes a handle refuses its arguments and stores NULL. */
#define REFUSES_TO_MAKE(type, function, ...)                      \
  do {                                                            \
    type *handle_ = (type *)poison();                             \
    EXPECT(AZT_STATUS_INVALID_ARGUMENT, function, __VA_ARGS__, &handle_); \
    CHECK(handle_ == NULL);                                       \
    REFUSED(function, __VA_ARGS__, NULL);                         \
  } while (0)

static void bad_arguments_make_no_handle(const char *container) {
  const char *bad_texts[] = {NULL, "", "\xff\xfe", "no url", "ftp://host/container", urls[0]};
  for (size_t i = 0; i < sizeof bad_texts / sizeof bad_texts[0]; i++) {
    REFUSES_TO_MAKE(azt_dataset, azt_dataset_list, NULL, bad_texts[i], NULL);
    REFUSES_TO_MAKE(azt_stream, azt_stream_list, NULL, bad_texts[i], NULL, 0, 1);
  }
  const char *one_bad[] = {urls[0], NULL, urls[1]};
  const uint64_t numbers[] = {0, 0, UINT64_MAX};
  bad_texts[5] = container; /* the URL of a container, not of a blob */
  for (size_t i = 0; i < sizeof bad_texts / sizeof bad_texts[0]; i++) {
    one_bad[1] = bad_texts[i];
    REFUSES_TO_MAKE(azt_dataset, azt_dataset_from_urls, NULL, one_bad, 3);
    REFUSES_TO_MAKE(azt_dataset, azt_dataset_from_tars, NULL, one_bad, 3);
    REFUSES_TO_MAKE(azt_dataset, azt_dataset_from_ranges, NULL, one_bad, numbers, numbers, 3);
    REFUSES_TO_MAKE(azt_stream, azt_stream_from_urls, NULL, one_bad, 3, 0, 1);
    REFUSES_TO_MAKE(azt_dataset, azt_dataset_from_manifest, NULL, bad_texts[i]);
  }
  REFUSES_TO_MAKE(azt_dataset, azt_dataset_list, NULL, container, "\xff");
  REFUSES_TO_MAKE(azt_dataset, azt_dataset_from_urls, NULL, NULL, 1);
  REFUSES_TO_MAKE(azt_dataset, azt_dataset_from_urls, NULL, url_list, SIZE_MAX);
  REFUSES_TO_MAKE(azt_dataset, azt_dataset_from_tars, NULL, NULL, 1);
  REFUSES_TO_MAKE(azt_dataset, azt_dataset_from_ranges, NULL, url_list, NULL, numbers, 1);
  REFUSES_TO_MAKE(azt_dataset, azt_dataset_from_ranges, NULL, url_list, numbers, NULL, 1);
  REFUSES_TO_MAKE(azt_dataset, azt_dataset_from_ranges, NULL, url_list, (const uint64_t[]){1}, &numbers[2], 1);
  REFUSES_TO_MAKE(azt_stream, azt_stream_list, NULL, container, NULL, 0, 0);
  REFUSES_TO_MAKE(azt_stream, azt_stream_list, NULL, container, NULL, 3, 3);
  REFUSES_TO_MAKE(azt_stream, azt_stream_from_urls, NULL, NULL, 1, 0, 1);
  REFUSES_TO_MAKE(azt_stream, azt_stream_from_dataset, NULL, 0, 1);

  /* The error names the bad element. */
  azt_error *error = NULL;
  azt_dataset *dataset = NULL;
  one_bad[1] = "no url";
  CHECK(azt_dataset_from_urls(NULL, one_bad, 3, &dataset, &error) == AZT_STATUS_INVALID_ARGUMENT);
  CHECK(strstr(azt_error_message(error), "URL 1") != NULL && strstr(azt_error_message(error), "no url") != NULL);
  azt_error_free(error);
}

static void an_empty_dataset_works(void) {
  azt_dataset *dataset = NULL;
  azt_stream *stream = NULL;
  azt_sample *sample = (azt_sample *)poison();
  OK(azt_dataset_from_urls, NULL, NULL, 0, &dataset);
  CHECK(azt_dataset_len(dataset) == 0);
  OK(azt_dataset_get_batch, dataset, NULL, 0, NULL);
  OK(azt_dataset_get_batch_into, dataset, NULL, 0, NULL, NULL, NULL);
  OK(azt_dataset_prefetch, dataset, NULL, 0);
  EXPECT(AZT_STATUS_OUT_OF_RANGE, azt_dataset_get, dataset, 0, &sample);
  CHECK(sample == NULL);
  OK(azt_stream_from_dataset, dataset, 0, 1, &stream);
  azt_dataset_free(dataset);
  for (int i = 0; i < 3; i++) {
    sample = (azt_sample *)poison();
    OK(azt_stream_next, stream, &sample);
    CHECK(sample == NULL);
  }
  azt_stream_free(stream);
}

static void entries(const azt_dataset *dataset) {
  CHECK(azt_dataset_len(dataset) == BLOBS);
  CHECK(strcmp(azt_dataset_blob_name(dataset, 3), "dataset/03") == 0);
  CHECK(strlen(azt_dataset_container_name(dataset, 3)) > 0);
  CHECK(azt_dataset_blob_name(dataset, BLOBS) == NULL);
  CHECK(azt_dataset_container_name(dataset, SIZE_MAX) == NULL);
  uint64_t size = 7;
  OK(azt_dataset_blob_size, dataset, 3, &size);
  CHECK(size == SIZE);
  size = 7;
  EXPECT(AZT_STATUS_OUT_OF_RANGE, azt_dataset_blob_size, dataset, BLOBS, &size);
  CHECK(size == 7);
  REFUSED(azt_dataset_blob_size, NULL, 0, &size);
  REFUSED(azt_dataset_blob_size, dataset, 0, NULL);

  char text[1024] = "untouched";
  size_t needed = 0, written = 0;
  EXPECT(AZT_STATUS_BUFFER_TOO_SMALL, azt_dataset_url, dataset, 3, NULL, 0, &needed);
  EXPECT(AZT_STATUS_BUFFER_TOO_SMALL, azt_dataset_url, dataset, 3, text, needed - 1, &written);
  CHECK(written == needed && strcmp(text, "untouched") == 0);
  OK(azt_dataset_url, dataset, 3, text, needed, &written);
  CHECK(written == needed && strlen(text) + 1 == needed);
  CHECK(strncmp(text, urls[3], needed - 1) == 0 && strchr(text, '?') == NULL);
  REFUSED(azt_dataset_url, NULL, 3, text, sizeof text, &written);
  REFUSED(azt_dataset_url, dataset, 3, NULL, 1, &written);
  REFUSED(azt_dataset_url, dataset, 3, text, sizeof text, NULL);
  written = 7;
  EXPECT(AZT_STATUS_OUT_OF_RANGE, azt_dataset_url, dataset, BLOBS, text, sizeof text, &written);
  CHECK(written == 7);
}

static void samples(const azt_dataset *dataset) {
  azt_sample *sample = NULL;
  OK(azt_dataset_get, dataset, 3, &sample);
  CHECK(is_blob(sample, 3));
  CHECK((uintptr_t)azt_sample_data(sample) % 64 == 0);
  CHECK(azt_sample_position(sample) == 3 && azt_sample_blob_size(sample) == SIZE);
  CHECK(strcmp(azt_sample_blob_name(sample), "dataset/03") == 0);
  CHECK(strcmp(azt_sample_container_name(sample), azt_dataset_container_name(dataset, 3)) == 0);
  CHECK(strchr(azt_sample_url(sample), '?') == NULL);
  azt_blob *blob = NULL;
  uint64_t size = 0;
  OK(azt_sample_open, sample, &blob);
  OK(azt_blob_size, blob, &size);
  CHECK(size == SIZE);
  azt_blob_free(blob);
  REFUSED(azt_sample_open, sample, NULL);
  azt_sample_free(sample);
  blob = (azt_blob *)poison();
  EXPECT(AZT_STATUS_INVALID_ARGUMENT, azt_sample_open, NULL, &blob);
  CHECK(blob == NULL);

  const size_t indices[] = {5, 0, 5};
  azt_sample *batch[3];
  OK(azt_dataset_get_batch, dataset, indices, 3, batch);
  CHECK(is_blob(batch[0], 5) && is_blob(batch[1], 0) && is_blob(batch[2], 5));
  CHECK(azt_sample_data(batch[0]) != azt_sample_data(batch[2]));
  for (int i = 0; i < 3; i++) azt_sample_free(batch[i]);

  const size_t past[] = {5, BLOBS, 0};
  for (int i = 0; i < 3; i++) batch[i] = (azt_sample *)poison();
  EXPECT(AZT_STATUS_OUT_OF_RANGE, azt_dataset_get_batch, dataset, past, 3, batch);
  CHECK(batch[0] == NULL && batch[1] == NULL && batch[2] == NULL);
  REFUSED(azt_dataset_get_batch, NULL, indices, 3, batch);
  REFUSED(azt_dataset_get_batch, dataset, NULL, 3, batch);
  REFUSED(azt_dataset_get_batch, dataset, indices, 3, NULL);
  REFUSED(azt_dataset_get_batch, dataset, indices, SIZE_MAX, batch);
  REFUSED(azt_dataset_get, NULL, 0, &sample);
  REFUSED(azt_dataset_get, dataset, 0, NULL);

  OK(azt_dataset_prefetch, dataset, indices, 3);
  EXPECT(AZT_STATUS_OUT_OF_RANGE, azt_dataset_prefetch, dataset, past, 3);
  REFUSED(azt_dataset_prefetch, NULL, indices, 3);
  REFUSED(azt_dataset_prefetch, dataset, NULL, 3);

  OK(azt_dataset_open, dataset, 4, &blob);
  azt_blob_free(blob);
  blob = (azt_blob *)poison();
  EXPECT(AZT_STATUS_OUT_OF_RANGE, azt_dataset_open, dataset, BLOBS, &blob);
  CHECK(blob == NULL);
  REFUSED(azt_dataset_open, NULL, 0, &blob);
  REFUSED(azt_dataset_open, dataset, 0, NULL);
}

static void samples_are_read_into_buffers(const azt_dataset *dataset) {
  unsigned char one[SIZE], two[SIZE + 10], expected[SIZE];
  size_t size = 7;
  OK(azt_dataset_get_into, dataset, 6, one, sizeof one, &size);
  fill(expected, 6);
  CHECK(size == SIZE && memcmp(one, expected, SIZE) == 0);
  size = 7;
  EXPECT(AZT_STATUS_BUFFER_TOO_SMALL, azt_dataset_get_into, dataset, 6, one, SIZE - 1, &size);
  CHECK(size == SIZE);
  size = 7;
  EXPECT(AZT_STATUS_BUFFER_TOO_SMALL, azt_dataset_get_into, dataset, 6, NULL, 0, &size);
  CHECK(size == SIZE);
  size = 7;
  EXPECT(AZT_STATUS_OUT_OF_RANGE, azt_dataset_get_into, dataset, BLOBS, one, sizeof one, &size);
  CHECK(size == 7);
  REFUSED(azt_dataset_get_into, NULL, 6, one, sizeof one, &size);
  REFUSED(azt_dataset_get_into, dataset, 6, NULL, 1, &size);
  REFUSED(azt_dataset_get_into, dataset, 6, one, SIZE_MAX, &size);
  REFUSED(azt_dataset_get_into, dataset, 6, one, sizeof one, NULL);

  const size_t indices[] = {7, 8};
  void *buffers[] = {one, two};
  size_t capacities[] = {sizeof one, sizeof two}, sizes[] = {1, 2};
  OK(azt_dataset_get_batch_into, dataset, indices, 2, buffers, capacities, sizes);
  fill(expected, 7);
  CHECK(sizes[0] == SIZE && memcmp(one, expected, SIZE) == 0);
  fill(expected, 8);
  CHECK(sizes[1] == SIZE && memcmp(two, expected, SIZE) == 0);
  capacities[1] = 3;
  sizes[0] = sizes[1] = 7;
  EXPECT(AZT_STATUS_BUFFER_TOO_SMALL, azt_dataset_get_batch_into, dataset, indices, 2, buffers, capacities, sizes);
  CHECK(sizes[0] == SIZE && sizes[1] == SIZE);
  REFUSED(azt_dataset_get_batch_into, NULL, indices, 2, buffers, capacities, sizes);
  REFUSED(azt_dataset_get_batch_into, dataset, NULL, 2, buffers, capacities, sizes);
  REFUSED(azt_dataset_get_batch_into, dataset, indices, 2, NULL, capacities, sizes);
  REFUSED(azt_dataset_get_batch_into, dataset, indices, 2, buffers, NULL, sizes);
  REFUSED(azt_dataset_get_batch_into, dataset, indices, 2, buffers, capacities, NULL);
  buffers[1] = NULL;
  REFUSED(azt_dataset_get_batch_into, dataset, indices, 2, buffers, capacities, sizes);
}

static void manifests(const azt_dataset *dataset, const char *container) {
  char url[1024];
  azt_dataset *again = NULL;
  azt_sample *sample = NULL;
  blob_url(container, "manifest", url, sizeof url);
  OK(azt_dataset_save_manifest, dataset, url);
  OK(azt_dataset_from_manifest, NULL, url, &again);
  CHECK(azt_dataset_len(again) == BLOBS);
  OK(azt_dataset_get, again, 9, &sample);
  CHECK(is_blob(sample, 9));
  azt_sample_free(sample);
  azt_dataset_free(again);
  REFUSED(azt_dataset_save_manifest, NULL, url);
  REFUSED(azt_dataset_save_manifest, dataset, NULL);
  REFUSED(azt_dataset_save_manifest, dataset, "no url");
  again = (azt_dataset *)poison();
  EXPECT(AZT_STATUS_CORRUPT, azt_dataset_from_manifest, NULL, urls[0], &again);
  CHECK(again == NULL);
}

static void streams(void) {
  azt_stream *stream = NULL, *other = NULL;
  azt_sample *sample = NULL;
  OK(azt_stream_from_urls, NULL, url_list, BLOBS, 1, 3, &stream);
  OK(azt_stream_from_urls, NULL, url_list, BLOBS, 1, 3, &other);
  REFUSED(azt_stream_set_shuffle, NULL, 10, 1);
  REFUSED(azt_stream_set_shuffle, stream, 0, 1);
  REFUSED(azt_stream_set_lazy, NULL);
  REFUSED(azt_stream_next, NULL, &sample);
  REFUSED(azt_stream_next, stream, NULL);
  REFUSED(azt_stream_reset, NULL);
  for (size_t i = 1; i < BLOBS; i += 3) {
    OK(azt_stream_next, stream, &sample);
    CHECK(is_blob(sample, i) && azt_sample_position(sample) == i / 3);
    azt_sample_free(sample);
  }
  EXPECT(AZT_STATUS_UNSUPPORTED, azt_stream_set_shuffle, stream, 10, 1);
  EXPECT(AZT_STATUS_UNSUPPORTED, azt_stream_set_lazy, stream);
  OK(azt_stream_next, stream, &sample);
  CHECK(sample == NULL);

  char cursor[4096];
  size_t needed = 0, written = 7;
  EXPECT(AZT_STATUS_BUFFER_TOO_SMALL, azt_stream_cursor, stream, 2, NULL, 0, &needed);
  OK(azt_stream_cursor, stream, 2, cursor, needed, &written);
  CHECK(written == needed && strlen(cursor) + 1 == needed && strpbrk(cursor, "\r\n ") == NULL);
  REFUSED(azt_stream_cursor, NULL, 2, cursor, sizeof cursor, &written);
  REFUSED(azt_stream_cursor, stream, 2, NULL, 1, &written);
  REFUSED(azt_stream_cursor, stream, 2, cursor, sizeof cursor, NULL);
  EXPECT(AZT_STATUS_OUT_OF_RANGE, azt_stream_cursor, stream, BLOBS, cursor, sizeof cursor, &written);
  OK(azt_stream_resume, other, cursor);
  OK(azt_stream_next, other, &sample);
  CHECK(azt_sample_position(sample) == 3 && is_blob(sample, 10));
  azt_sample_free(sample);
  const char *bad[] = {NULL, "", "\xff", "cursor", "azt-cursor-1;check=0"};
  for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) REFUSED(azt_stream_resume, other, bad[i]);
  REFUSED(azt_stream_resume, NULL, cursor);
  azt_stream_free(other);
  OK(azt_stream_from_urls, NULL, url_list, BLOBS, 0, 3, &other);
  REFUSED(azt_stream_resume, other, cursor);
  azt_stream_free(other);

  OK(azt_stream_reset, stream);
  OK(azt_stream_next, stream, &sample);
  CHECK(azt_sample_position(sample) == 0);
  azt_stream_free(stream);
  CHECK(is_blob(sample, 1)); /* a sample outlives its stream */
  azt_sample_free(sample);

  OK(azt_stream_from_urls, NULL, url_list, BLOBS, 0, 1, &stream);
  OK(azt_stream_set_lazy, stream);
  OK(azt_stream_next, stream, &sample);
  CHECK(azt_sample_data(sample) == NULL && azt_sample_size(sample) == 0);
  CHECK(azt_sample_blob_size(sample) == UINT64_MAX);
  azt_sample_free(sample);
  azt_stream_free(stream);
}

static azt_stream *shared;
static const azt_dataset *shared_dataset;
static unsigned char times_given[BLOBS];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* check.h counts without a lock, so threads only record what they got. */
static void *take_all(void *unused) {
  azt_sample *sample = NULL;
  size_t index = 0;
  const size_t batch[] = {3, 1, 2};
  azt_sample *samples[3];
  while (azt_stream_next(shared, &sample, NULL) == AZT_STATUS_OK && sample != NULL) {
    pthread_mutex_lock(&lock);
    times_given[azt_sample_position(sample)]++;
    pthread_mutex_unlock(&lock);
    azt_sample_free(sample);
    azt_dataset_prefetch(shared_dataset, &index, 1, NULL);
    if (azt_dataset_get(shared_dataset, index++ % BLOBS, &sample, NULL) == AZT_STATUS_OK) azt_sample_free(sample);
    if (azt_dataset_get_batch(shared_dataset, batch, 3, samples, NULL) == AZT_STATUS_OK) {
      for (int i = 0; i < 3; i++) azt_sample_free(samples[i]);
    }
  }
  return unused;
}

static void threads_share_a_stream(const azt_dataset *dataset) {
  pthread_t threads[8];
  shared_dataset = dataset;
  OK(azt_stream_from_dataset, dataset, 0, 1, &shared);
  for (int i = 0; i < 8; i++) CHECK(pthread_create(&threads[i], NULL, take_all, NULL) == 0);
  for (int i = 0; i < 8; i++) CHECK(pthread_join(threads[i], NULL) == 0);
  for (int i = 0; i < BLOBS; i++) CHECK(times_given[i] == 1);
  azt_stream_free(shared);
}

int main(void) {
  const char *container = environment("AZTORCH_TEST_CONTAINER_URL");
  azt_dataset *dataset = NULL;
  make_blobs(container);
  OK(azt_dataset_list, NULL, container, PREFIX, &dataset);
  accessors_accept_null();
  bad_arguments_make_no_handle(container);
  an_empty_dataset_works();
  entries(dataset);
  samples(dataset);
  samples_are_read_into_buffers(dataset);
  manifests(dataset, container);
  streams();
  threads_share_a_stream(dataset);
  azt_dataset_free(dataset);
  return finish();
}
