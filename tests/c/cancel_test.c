/* Cancellation, deadlines and interrupts: a waiting call ends at once, and then the library does not use the caller's
 * memory any more. The test unmaps that memory. */
#define _DEFAULT_SOURCE
#include <arpa/inet.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "check.h"
#include "process.h"

enum { SIZE = 32 << 20 };

/* A server that sends and receives at about 2 MB/s. */
static void *serve_one(void *argument) {
  const int connection = (int)(intptr_t)argument;
  char request[65536];
  static char zeros[20000];
  const struct timespec pause = {0, 10 * 1000 * 1000};
  ssize_t got = recv(connection, request, sizeof request - 1, 0);
  if (got <= 0) goto end;
  request[got] = '\0';
  if (strncmp(request, "GET", 3) == 0) {
    unsigned long first = 0, last = SIZE - 1;
    const char *range = strstr(request, "bytes=");
    if (range != NULL) sscanf(range, "bytes=%lu-%lu", &first, &last);
    char head[400];
    int length = snprintf(head, sizeof head,
                          "HTTP/1.1 206 Partial Content\r\nETag: \"1\"\r\nContent-Range: bytes %lu-%lu/%d\r\n"
                          "Content-Length: %lu\r\n\r\n", first, last, SIZE, last - first + 1);
    if (send(connection, head, (size_t)length, MSG_NOSIGNAL) < 0) goto end;
    while (send(connection, zeros, sizeof zeros, MSG_NOSIGNAL) > 0) nanosleep(&pause, NULL);
  } else {
    while (recv(connection, request, 20000, 0) > 0) nanosleep(&pause, NULL);
  }
end:
  close(connection);
  return NULL;
}

static void *serve(void *argument) {
  const int listener = (int)(intptr_t)argument;
  for (;;) {
    const int connection = accept(listener, NULL, NULL);
    pthread_t thread;
    if (connection < 0) return NULL;
    if (pthread_create(&thread, NULL, serve_one, (void *)(intptr_t)connection) != 0) exit(2);
    pthread_detach(thread);
  }
}

static void start_server(char *url, size_t capacity) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t length = sizeof address;
  const int listener = socket(AF_INET, SOCK_STREAM, 0);
  pthread_t thread;
  if (listener < 0 || bind(listener, (struct sockaddr *)&address, length) != 0 || listen(listener, 64) != 0 ||
      getsockname(listener, (struct sockaddr *)&address, &length) != 0 ||
      pthread_create(&thread, NULL, serve, (void *)(intptr_t)listener) != 0) {
    perror("a loopback server");
    exit(2);
  }
  snprintf(url, capacity, "http://127.0.0.1:%d/account/container/blob?sv=2021-12-02&sig=x", ntohs(address.sin_port));
}

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

/* The object that another thread cancels a third of a second after its start, and the time of the cancel. */
struct plan {
  const azt_blob *blob;
  const azt_client *client;
  const azt_dataset *dataset;
  double cancelled;
};

static void *cancel(void *argument) {
  struct plan *plan = argument;
  const struct timespec pause = {0, 330 * 1000 * 1000};
  nanosleep(&pause, NULL);
  plan->cancelled = now();
  if (plan->blob != NULL) azt_blob_cancel(plan->blob);
  if (plan->client != NULL) azt_client_cancel(plan->client);
  if (plan->dataset != NULL) azt_dataset_cancel(plan->dataset);
  return NULL;
}

static pthread_t start(struct plan *plan) {
  pthread_t thread;
  if (pthread_create(&thread, NULL, cancel, plan) != 0) exit(2);
  return thread;
}

/* The contract promises 100 ms. The bound is larger, because the machine may be busy. */
static void stop(pthread_t thread, const struct plan *plan) {
  const double ended = now();
  pthread_join(thread, NULL);
  CHECK(ended - plan->cancelled < 2);
}

/* Memory that is unmapped when the call has returned: a later write by the library would be a SIGSEGV. */
static void *map(void) {
  void *memory = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) exit(2);
  memset(memory, 1, SIZE);
  return memory;
}

static void unmap(void *memory) {
  const struct timespec pause = {0, 200 * 1000 * 1000};
  CHECK(munmap(memory, SIZE) == 0);
  nanosleep(&pause, NULL);
}

static void test_cancels(const char *url) {
  azt_client_options *options = azt_client_options_new();
  OK(azt_client_options_set_stall_timeout_ms, options, 60000);
  OK(azt_client_options_set_checksum, options, false);
  REFUSED(azt_client_options_set_stall_timeout_ms, options, 0);
  azt_client *client = NULL;
  OK(azt_client_new, options, &client);
  azt_client_options_free(options);

  azt_blob *blob = NULL;
  OK(azt_blob_open, client, url, AZT_BLOB_MODE_READ, &blob);
  void *memory = map();
  size_t count = 77;
  struct plan plan = {.blob = blob};
  pthread_t thread = start(&plan);
  EXPECT(AZT_STATUS_CANCELLED, azt_blob_read, blob, memory, SIZE, &count);
  stop(thread, &plan);
  unmap(memory);
  CHECK(count == 77);
  char byte;
  EXPECT(AZT_STATUS_CANCELLED, azt_blob_read_at, blob, 0, &byte, 1, &count);
  EXPECT(AZT_STATUS_CANCELLED, azt_blob_tell, blob, &(uint64_t){0});
  CHECK(azt_blob_url(blob)[0] == 'h');
  azt_blob_free(blob);

  OK(azt_blob_open, client, url, AZT_BLOB_MODE_WRITE, &blob);
  memory = map();
  plan = (struct plan){.blob = blob};
  thread = start(&plan);
  /* A write of four blocks or more is sent from the caller's memory. */
  EXPECT(AZT_STATUS_CANCELLED, azt_blob_write, blob, memory, SIZE);
  stop(thread, &plan);
  unmap(memory);
  EXPECT(AZT_STATUS_CANCELLED, azt_blob_close, blob);
  azt_blob_free(blob);

  azt_dataset *dataset = NULL;
  OK(azt_dataset_from_urls, client, &url, 1, &dataset);
  memory = map();
  plan = (struct plan){.dataset = dataset};
  thread = start(&plan);
  EXPECT(AZT_STATUS_CANCELLED, azt_dataset_get_into, dataset, 0, memory, SIZE, &count);
  stop(thread, &plan);
  unmap(memory);
  CHECK(azt_dataset_len(dataset) == 1);
  azt_dataset_free(dataset);

  azt_client *derived = NULL, *with_deadline = NULL;
  OK(azt_client_with_timeout_ms, client, 0, &derived);
  OK(azt_client_with_timeout_ms, client, 300, &with_deadline);
  /* After a deadline the library does not use the memory either. */
  OK(azt_blob_open, with_deadline, url, AZT_BLOB_MODE_READ, &blob);
  memory = map();
  EXPECT(AZT_STATUS_TIMEOUT, azt_blob_read, blob, memory, SIZE, &count);
  unmap(memory);
  azt_blob_free(blob);

  OK(azt_blob_open, derived, url, AZT_BLOB_MODE_READ, &blob);
  azt_client_cancel(derived);
  EXPECT(AZT_STATUS_CANCELLED, azt_blob_read, blob, &byte, 1, &count);
  azt_blob_free(blob);
  EXPECT(AZT_STATUS_CANCELLED, azt_blob_open, derived, url, AZT_BLOB_MODE_READ, &blob);
  CHECK(blob == NULL);
  OK(azt_blob_open, client, url, AZT_BLOB_MODE_READ, &blob);
  azt_stream *stream = NULL;
  OK(azt_stream_from_urls, client, &url, 1, 0, 1, &stream);
  azt_client_cancel(client);
  EXPECT(AZT_STATUS_CANCELLED, azt_blob_read, blob, &byte, 1, &count);
  azt_sample *sample = NULL;
  EXPECT(AZT_STATUS_CANCELLED, azt_stream_next, stream, &sample);
  azt_stream_cancel(stream);
  azt_blob_cancel(blob);
  azt_blob_free(blob);
  azt_stream_free(stream);
  azt_client_free(with_deadline);
  azt_client_free(derived);
  azt_client_free(client);

  azt_blob_cancel(NULL);
  azt_dataset_cancel(NULL);
  azt_stream_cancel(NULL);
}

/* When the callback of this thread ends a call, and what it has seen. */
struct interrupt {
  double at, ended;
  unsigned asked, asked_after_end;
  pthread_t thread;
};

static bool interrupt(void *user_data) {
  struct interrupt *interrupt = user_data;
  bool exists;
  interrupt->asked++;
  CHECK(pthread_equal(pthread_self(), interrupt->thread));
  if (interrupt->ended > 0) interrupt->asked_after_end++;
  if (interrupt->asked == 1) EXPECT(AZT_STATUS_UNSUPPORTED, azt_blob_exists, NULL, "https://a.example/con/blob", &exists);
  if (now() < interrupt->at) return false;
  interrupt->ended = now();
  return true;
}

/* Interrupts this thread's next call a third of a second from now. */
static void begin(struct interrupt *plan) {
  *plan = (struct interrupt){.at = now() + 0.33, .thread = pthread_self()};
  OK(azt_thread_set_interrupt_callback, interrupt, plan);
}

static void end(const struct interrupt *plan) {
  CHECK(plan->ended > 0 && plan->asked_after_end == 0);
  CHECK(now() - plan->ended < 2);
  OK(azt_thread_set_interrupt_callback, NULL, NULL);
}

static void test_interrupts(const char *url) {
  azt_client_options *options = azt_client_options_new();
  azt_client *client = NULL;
  OK(azt_client_options_set_stall_timeout_ms, options, 60000);
  OK(azt_client_options_set_checksum, options, false);
  OK(azt_client_new, options, &client);
  azt_client_options_free(options);

  struct interrupt plan;
  azt_blob *blob = NULL;
  size_t count = 77;
  uint64_t position = 77;
  char bytes[100];
  OK(azt_blob_open, client, url, AZT_BLOB_MODE_READ, &blob);
  void *memory = map();
  begin(&plan);
  EXPECT(AZT_STATUS_CANCELLED, azt_blob_read, blob, memory, SIZE, &count);
  end(&plan);
  unmap(memory);
  CHECK(count == 77);
  OK(azt_blob_tell, blob, &position);
  CHECK(position == 0);
  OK(azt_blob_read, blob, bytes, sizeof bytes, &count);
  CHECK(count == sizeof bytes);
  azt_blob_free(blob);

  OK(azt_blob_open, client, url, AZT_BLOB_MODE_WRITE, &blob);
  memory = map();
  begin(&plan);
  EXPECT(AZT_STATUS_CANCELLED, azt_blob_write, blob, memory, SIZE);
  end(&plan);
  unmap(memory);
  EXPECT(AZT_STATUS_CANCELLED, azt_blob_close, blob);
  azt_blob_free(blob);

  azt_dataset *dataset = NULL;
  const char *const urls[] = {url, url};
  OK(azt_dataset_from_ranges, client, urls, ((uint64_t[]){0, 10}), ((uint64_t[]){SIZE, 100}), 2, &dataset);
  memory = map();
  begin(&plan);
  EXPECT(AZT_STATUS_CANCELLED, azt_dataset_get_into, dataset, 0, memory, SIZE, &count);
  end(&plan);
  unmap(memory);
  OK(azt_dataset_get_into, dataset, 1, bytes, sizeof bytes, &count);

  azt_sample *sample = NULL;
  begin(&plan);
  EXPECT(AZT_STATUS_CANCELLED, azt_dataset_get_batch, dataset, ((size_t[]){0}), 1, &sample);
  end(&plan);
  CHECK(sample == NULL);
  azt_stream *stream = NULL;
  OK(azt_stream_from_dataset, dataset, 0, 1, &stream);
  for (int times = 0; times < 2; times++) {
    begin(&plan);
    EXPECT(AZT_STATUS_CANCELLED, azt_stream_next, stream, &sample);
    end(&plan);
  }
  azt_stream_free(stream);

  /* The thread of a forked child keeps the callback. */
  begin(&plan);
  const pid_t child = fork();
  if (child == 0) {
    EXPECT(AZT_STATUS_CANCELLED, azt_dataset_get, dataset, 0, &sample);
    end(&plan);
    _exit(failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE);
  }
  CHECK(wait_for_exit(child) == EXIT_SUCCESS);
  OK(azt_thread_set_interrupt_callback, NULL, NULL);
  azt_dataset_free(dataset);
  azt_client_free(client);
}

int main(void) {
  char url[200];
  start_server(url, sizeof url);
  test_cancels(url);
  test_interrupts(url);
  return finish();
}
