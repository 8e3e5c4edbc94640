/* From loading the library to the end of the process: no thread before the first request; exit status 0 for every
 * way to end a process with open handles and requests in flight; no leak after 10,000 clients. */
#define _GNU_SOURCE
#include <stdint.h>

#include "check.h"
#include "process.h"

enum { TIMEOUT_SECONDS = 60, LARGE = 16 << 20, CLIENTS = 10000, WARM = 2000, GROWTH = 4 << 20 };

static const char *container;

static void no_thread_before_the_first_request(void) {
  const char *url = "http://127.0.0.1:9/account/container/blob";
  const size_t files = open_files();
  CHECK(threads() == 1);
  azt_client_options *options = azt_client_options_new();
  azt_client *client = NULL;
  azt_blob *writer = NULL;
  azt_dataset *dataset = NULL;
  azt_stream *stream = NULL;
  azt_stats stats;
  OK(azt_client_new, options, &client);
  OK(azt_blob_open, client, url, AZT_BLOB_MODE_WRITE, &writer);
  OK(azt_blob_write, writer, "data", 4);
  OK(azt_dataset_from_urls, client, &url, 1, &dataset);
  OK(azt_stream_from_dataset, dataset, 0, 1, &stream);
  OK(azt_client_stats, client, &stats, sizeof stats);
  REFUSED(azt_blob_open, client, "no URL", AZT_BLOB_MODE_READ, &writer);
  CHECK(threads() == 1 && open_files() == files);
  azt_stream_free(stream);
  azt_dataset_free(dataset);
  azt_client_free(client);
  azt_client_options_free(options);
}

/* --- how a process ends ------------------------------------------------------------------------------------------- */

static azt_blob *leaked_reader, *leaked_writer;
static azt_stream *leaked_stream;

static void on_log_line(void *user_data, azt_log_level level, const char *target, const char *message) {
  (void)user_data, (void)level, (void)target, (void)message;
}

/* Leaves handles of all types open, with requests in both directions in flight. */
static void leave_all_open(void) {
  static char block[LARGE];
  azt_client *client = NULL;
  azt_dataset *dataset = NULL;
  azt_sample *sample = NULL;
  azt_error *error = NULL;
  const size_t indices[] = {0, 0, 0, 0};
  size_t read = 0;
  OK(azt_log_set_callback, AZT_LOG_LEVEL_TRACE, on_log_line, NULL, NULL);
  OK(azt_client_new, NULL, &client);
  OK(azt_blob_open_in, client, container, "life/large", AZT_BLOB_MODE_READ, &leaked_reader);
  OK(azt_blob_read, leaked_reader, block, 1 << 20, &read);
  OK(azt_dataset_list, client, container, "life/large", &dataset);
  OK(azt_dataset_prefetch, dataset, indices, 4);
  OK(azt_stream_from_dataset, dataset, 0, 1, &leaked_stream);
  OK(azt_stream_next, leaked_stream, &sample);
  OK(azt_blob_open_in, client, container, "life/unpublished", AZT_BLOB_MODE_WRITE, &leaked_writer);
  OK(azt_blob_write, leaked_writer, block, sizeof block);
  OK(azt_blob_write, leaked_writer, block, 1 << 20);
  CHECK(azt_blob_open_in(client, container, "life/absent", AZT_BLOB_MODE_READ, &leaked_reader, &error) ==
        AZT_STATUS_NOT_FOUND);
  CHECK(threads() > 1);
}

static void free_at_exit(void) {
  azt_stream_free(leaked_stream);
  azt_blob_free(leaked_writer);
}

static void on_progress(void *user_data, uint64_t done, uint64_t total) {
  (void)user_data, (void)total;
  if (done > LARGE) _exit(78);
}

/* Saves state at exit, as a program may do in a static destructor: by then the thread-local variables are destroyed. */
static void save_at_exit(void) {
  static char block[LARGE];
  azt_blob *blob = NULL;
  azt_error *error = NULL;
  azt_sample *sample = NULL;
  size_t read = 0;
  bool good = azt_blob_open_in(NULL, container, "life/at_exit", AZT_BLOB_MODE_WRITE, &blob, &error) == AZT_STATUS_OK &&
              azt_blob_set_progress(blob, on_progress, NULL, NULL, &error) == AZT_STATUS_OK &&
              azt_blob_write(blob, block, sizeof block, &error) == AZT_STATUS_OK &&
              azt_blob_close(blob, &error) == AZT_STATUS_OK &&
              azt_blob_open_in(NULL, container, "life/at_exit", AZT_BLOB_MODE_READ, &blob, &error) == AZT_STATUS_OK &&
              azt_blob_read(blob, block, sizeof block, &read, &error) == AZT_STATUS_OK && read == sizeof block &&
              azt_stream_reset(leaked_stream, &error) == AZT_STATUS_OK &&
              azt_stream_next(leaked_stream, &sample, &error) == AZT_STATUS_OK && azt_sample_size(sample) == LARGE;
  if (!good) {
    fprintf(stderr, "at exit: %s\n", azt_error_message(error));
    _exit(77);
  }
}

/* Ends this process in the way `how`. The exit status must be 0. */
static int end_by(const char *how) {
  alarm(TIMEOUT_SECONDS);
  leave_all_open();
  if (failed > 0) return 66;
  if (strcmp(how, "_exit") == 0) _exit(0);
  if (strcmp(how, "quick_exit") == 0) quick_exit(0);
  if (strcmp(how, "atexit frees") == 0) atexit(free_at_exit);
  if (strcmp(how, "atexit saves") == 0) atexit(save_at_exit);
  if (strcmp(how, "exec") == 0) execl("/bin/true", "true", (char *)NULL);
  if (strcmp(how, "return") != 0) exit(0);
  return 0;
}

static void every_end_has_exit_status_0(const char *program) {
  const char *const ways[] = {"return", "exit", "_exit", "quick_exit", "atexit frees", "atexit saves", "exec"};
  for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++) {
    pid_t child = fork();
    if (child == 0) {
      execl(program, program, "--end-by", ways[i], (char *)NULL);
      _exit(99);
    }
    int code = wait_for_exit(child);
    if (code != 0) fprintf(stderr, "ended by %s: %d\n", ways[i], code);
    CHECK(code == 0);
  }
  azt_blob *blob = NULL;
  EXPECT(AZT_STATUS_NOT_FOUND, azt_blob_open_in, NULL, container, "life/unpublished", AZT_BLOB_MODE_READ, &blob);
}

static void put_large(void) {
  static char block[LARGE];
  azt_blob *blob = NULL;
  OK(azt_blob_open_in, NULL, container, "life/large", AZT_BLOB_MODE_WRITE, &blob);
  OK(azt_blob_write, blob, block, sizeof block);
  OK(azt_blob_close, blob);
  azt_blob_free(blob);
}

/* --- 10,000 clients ----------------------------------------------------------------------------------------------- */

static azt_status refuse_token(void *user_data, const char *scope, const char *tenant_id, azt_token *out_token) {
  (void)user_data, (void)scope, (void)tenant_id;
  azt_token_set_error(out_token, "no token today");
  return AZT_STATUS_UNAUTHENTICATED;
}

static size_t finalizers_called;
static void count_finalizer(void *user_data) {
  (void)user_data;
  __atomic_fetch_add(&finalizers_called, 1, __ATOMIC_RELAXED);
}

/* Makes and frees a client. Some clients send a request, some request a token, which starts a thread. */
static void use_and_free(int number) {
  azt_client_options *options = azt_client_options_new();
  azt_client *client = NULL, *derived = NULL;
  azt_blob *blob = NULL;
  bool exists;
  const bool asks_for_token = number % 50 == 7;
  if (asks_for_token) OK(azt_client_options_set_token_callback, options, refuse_token, NULL, count_finalizer);
  OK(azt_client_new, options, &client);
  OK(azt_client_with_timeout_ms, client, 20000, &derived);
  azt_client_options_free(options);
  azt_client_free(client);
  if (asks_for_token) {
    EXPECT(AZT_STATUS_UNAUTHENTICATED, azt_blob_exists, derived, "https://127.0.0.1:9/account/con/blob", &exists);
  } else if (number % 20 == 0) {
    OK(azt_blob_open_in, derived, container, "life/large", AZT_BLOB_MODE_READ, &blob);
  }
  azt_client_free(derived);
  azt_blob_free(blob);
}

static void clients_leak_nothing(void) {
  for (int i = 0; i < WARM; i++) use_and_free(i);
  const size_t files = wait_until_steady(open_files), running = wait_until_steady(threads), resident = resident_bytes();
  for (int i = WARM; i < CLIENTS; i++) use_and_free(i);
  CHECK(wait_until_at_most(open_files, files) <= files);
  CHECK(wait_until_at_most(threads, running) <= running);
  CHECK(__atomic_load_n(&finalizers_called, __ATOMIC_RELAXED) == CLIENTS / 50);
  const size_t now = resident_bytes();
  if (now > resident + GROWTH) fprintf(stderr, "%zu bytes more than before\n", now - resident);
  CHECK(now <= resident + GROWTH);
}

int main(int count, char **arguments) {
  container = environment("AZTORCH_TEST_CONTAINER_URL");
  if (count == 3 && strcmp(arguments[1], "--end-by") == 0) return end_by(arguments[2]);
  no_thread_before_the_first_request();
  put_large();
  every_end_has_exit_status_0(arguments[0]);
  clients_leak_nothing();
  return finish();
}
