/* Calls every function of the header with wrong arguments: NULL for each pointer and for all, bad UTF-8, lengths
 * that no object has, unknown constants; from inside callbacks; from many threads at once. Expects an error, never a
 * crash, and outputs that hold what the contract says. The functions are in misuse_rows.h, the kinds of parameters
 * in misuse_kinds.h, calls and checks in misuse_call.h. `misuse_test --list` prints the functions. */
#define _GNU_SOURCE
#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "misuse_call.h"

enum { THREADS = 8, CALLS_PER_THREAD = 200, TIMEOUT_SECONDS = 120 };

/* --- one wrong argument after the other --------------------------------------------------------------------------- */

static void call_with_good_arguments(const row *row) {
  call this = prepare(row);
  run(&this);
  check_good(&this, "good arguments");
  finish_call(&this, "good arguments");
}

static void call_with_one_null(const row *row) {
  for (size_t i = 0; i < MOST_PARAMETERS && row->kinds[i] != NULL; i++) {
    const kind *kind = row->kinds[i];
    if (kind->pointer == NO_POINTER) continue;
    char what[32];
    snprintf(what, sizeof what, "NULL as argument %zu", i + 1);
    call this = prepare(row);
    this.given[i] = 0;
    run(&this);
    if (kind->pointer == REQUIRED) check_refusal(&this, what, AZT_STATUS_INVALID_ARGUMENT);
    finish_call(&this, what);
  }
}

static void call_with_all_null(const row *row) {
  bool refused = false;
  call this = prepare(row);
  for (size_t i = 0; i < this.parameters; i++) {
    if (row->kinds[i]->pointer != NO_POINTER) this.given[i] = 0;
    if (row->kinds[i]->pointer == REQUIRED) refused = true;
  }
  run(&this);
  if (refused) check_refusal(&this, "NULL for all", AZT_STATUS_INVALID_ARGUMENT);
  finish_call(&this, "NULL for all");
}

static void call_with_bad_and_odd_values(const row *row) {
  for (size_t i = 0; i < MOST_PARAMETERS && row->kinds[i] != NULL; i++) {
    const kind *kind = row->kinds[i];
    for (size_t j = 0; j < kind->bad_count + kind->odd_count; j++) {
      bool is_bad = j < kind->bad_count;
      size_t at = is_bad ? j : j - kind->bad_count;
      char what[64];
      snprintf(what, sizeof what, "%s value %zu of argument %zu", is_bad ? "bad" : "odd", at + 1, i + 1);
      call this = prepare(row);
      this.given[i] = is_bad ? kind->bad[at] : kind->odd[at];
      run(&this);
      const azt_status refusal = kind->refusal == AZT_STATUS_OK ? AZT_STATUS_INVALID_ARGUMENT : kind->refusal;
      if (is_bad) check_refusal(&this, what, refusal);
      finish_call(&this, what);
    }
  }
}

static bool is_for_token_callbacks(const row *row) { return row->kinds[0] == &kind_token; }

static void misuse(const row *row) {
  call_with_good_arguments(row);
  call_with_one_null(row);
  call_with_all_null(row);
  call_with_bad_and_odd_values(row);
}

/* --- from inside callbacks ---------------------------------------------------------------------------------------- */

static call prepared[ROWS];
static bool was_run[ROWS];
static atomic_size_t next_prepared;

static void prepare_all(void) {
  for (size_t i = 0; i < ROWS; i++) {
    prepared[i] = prepare(&rows[i]);
    was_run[i] = false;
  }
  atomic_store(&next_prepared, 0);
}

static bool run_next(void) {
  size_t i = atomic_fetch_add(&next_prepared, 1);
  if (i >= ROWS) return false;
  if (!is_for_token_callbacks(&rows[i])) {
    run(&prepared[i]);
    was_run[i] = true;
  }
  return true;
}

static void check_all(const char *what, bool in_log) {
  for (size_t i = 0; i < ROWS; i++) {
    call *this = &prepared[i];
    if (is_for_token_callbacks(this->row)) continue;
    check(this, what, was_run[i], "it was not called");
    if (!was_run[i]) continue;
    if (this->row->inside == BLOCKS || (this->row->inside == NOT_IN_LOG && in_log)) {
      check_refusal(this, what, AZT_STATUS_UNSUPPORTED);
    } else if (this->row->inside != MAY_BLOCK || (azt_status)this->result != AZT_STATUS_UNSUPPORTED) {
      check_good(this, what);
    }
    finish_call(this, what);
  }
}

static void call_on_line(void *user_data, azt_log_level level, const char *target, const char *message) {
  static _Thread_local bool inside;
  (void)user_data, (void)level, (void)target, (void)message;
  /* The function that is called here may log a line. */
  if (inside) return;
  inside = true;
  run_next();
  inside = false;
}

/* Makes one call per log line, so that the calls come in many states of the library. */
static void inside_log_callbacks(void) {
  prepare_all();
  OK(azt_log_set_callback, AZT_LOG_LEVEL_TRACE, call_on_line, NULL, NULL);
  while (atomic_load(&next_prepared) < ROWS) {
    const char *const usual[] = {"azt_stream_next", "azt_stream_reset", "azt_dataset_get", "azt_dataset_list",
                                 "azt_blob_open",   "azt_blob_close",   "azt_blob_read_at"};
    for (size_t i = 0; i < ROWS; i++) {
      for (size_t j = 0; j < sizeof usual / sizeof usual[0]; j++) {
        if (strcmp(rows[i].name, usual[j]) == 0) call_with_good_arguments(&rows[i]);
      }
    }
  }
  OK(azt_log_set_callback, AZT_LOG_LEVEL_OFF, NULL, NULL, NULL);
  check_all("a log callback running", true);
}

static void call_all(void *user_data, uint64_t done, uint64_t total) {
  (void)user_data, (void)done, (void)total;
  while (run_next()) continue;
}

/* A server that answers each request after half a second, so that the call waits; the body of a GET comes in two
 * halves. */
static void *serve_slowly(void *argument) {
  int listener = *(int *)argument, connection;
  while ((connection = accept(listener, NULL, NULL)) >= 0) {
    char request[8192] = "";
    size_t length = 0;
    ssize_t more;
    while (strstr(request, "\r\n\r\n") == NULL && length + 1 < sizeof request &&
           (more = read(connection, request + length, sizeof request - 1 - length)) > 0) {
      length += (size_t)more;
    }
    const struct timespec half_a_second = {0, 500000000};
    const bool is_get = strncmp(request, "GET", 3) == 0;
    const char *answer =
        is_get ? "HTTP/1.1 206 Partial Content\r\nETag: \"0x1\"\r\nContent-Range: bytes 0-9/10\r\n"
                 "Content-Length: 10\r\nConnection: close\r\n\r\n01234"
               : "HTTP/1.1 201 Created\r\nETag: \"0x1\"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    if (!is_get) nanosleep(&half_a_second, NULL);
    CHECK(write(connection, answer, strlen(answer)) == (ssize_t)strlen(answer));
    if (is_get) {
      nanosleep(&half_a_second, NULL);
      CHECK(write(connection, "56789", 5) == 5);
    }
    close(connection);
  }
  return NULL;
}

static bool call_all_and_go_on(void *user_data) {
  (void)user_data;
  while (run_next()) continue;
  return false;
}

/* Makes the calls on a blob while a call on the same blob waits. */
static void inside_progress_and_interrupt_callbacks(void) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
  socklen_t length = sizeof address;
  int listener = socket(AF_INET, SOCK_STREAM, 0);
  CHECK(bind(listener, (struct sockaddr *)&address, sizeof address) == 0 && listen(listener, 8) == 0);
  CHECK(getsockname(listener, (struct sockaddr *)&address, &length) == 0);
  pthread_t server;
  CHECK(pthread_create(&server, NULL, serve_slowly, &listener) == 0);
  char slow_url[128];
  snprintf(slow_url, sizeof slow_url, "http://127.0.0.1:%d/account/container/blob", ntohs(address.sin_port));

  azt_client_options *options = azt_client_options_new();
  azt_client *client = NULL;
  azt_blob *slow = NULL, *usual_writer = shared_writer, *usual_reader = shared_reader;
  OK(azt_client_options_set_anonymous, options);
  OK(azt_client_new, options, &client);
  OK(azt_blob_open, client, slow_url, AZT_BLOB_MODE_WRITE, &slow);
  shared_writer = slow;
  prepare_all();
  OK(azt_blob_write, slow, "0123456789", 10);
  OK(azt_blob_set_progress, slow, call_all, NULL, NULL);
  OK(azt_blob_close, slow);
  check_all("a writer's progress callback running", false);
  shared_writer = usual_writer;
  azt_blob_free(slow);

  char buffer[10];
  size_t read = 0;
  OK(azt_blob_open, client, slow_url, AZT_BLOB_MODE_READ, &slow);
  shared_reader = slow;
  prepare_all();
  OK(azt_blob_set_progress, slow, call_all, NULL, NULL);
  OK(azt_blob_read, slow, buffer, sizeof buffer, &read);
  CHECK(read == sizeof buffer && memcmp(buffer, "0123456789", sizeof buffer) == 0);
  check_all("a reader's progress callback running", false);
  shared_reader = usual_reader;
  azt_blob_free(slow);

  OK(azt_blob_open, client, slow_url, AZT_BLOB_MODE_READ, &slow);
  shared_reader = slow;
  prepare_all();
  OK(azt_thread_set_interrupt_callback, call_all_and_go_on, NULL);
  OK(azt_blob_read, slow, buffer, sizeof buffer, &read);
  OK(azt_thread_set_interrupt_callback, NULL, NULL);
  CHECK(read == sizeof buffer && memcmp(buffer, "0123456789", sizeof buffer) == 0);
  check_all("an interrupt callback running", false);
  shared_reader = usual_reader;
  azt_blob_free(slow);

  azt_client_free(client);
  azt_client_options_free(options);
  shutdown(listener, SHUT_RDWR);
  pthread_join(server, NULL);
  close(listener);
}

static azt_status call_for_token(void *user_data, const char *scope, const char *tenant_id, azt_token *out_token) {
  (void)user_data, (void)scope, (void)tenant_id;
  token_of_callback = out_token;
  while (run_next()) continue;
  for (size_t i = 0; i < ROWS; i++) {
    if (is_for_token_callbacks(&rows[i])) misuse(&rows[i]);
  }
  return AZT_STATUS_UNAUTHENTICATED;
}

static void inside_token_callbacks(void) {
  azt_client_options *options = azt_client_options_new();
  azt_client *client = NULL;
  bool exists;
  prepare_all();
  OK(azt_client_options_set_token_callback, options, call_for_token, NULL, NULL);
  OK(azt_client_options_set_max_retries, options, 0);
  OK(azt_client_new, options, &client);
  EXPECT(AZT_STATUS_UNAUTHENTICATED, azt_blob_exists, client, "https://127.0.0.1:9/account/container/blob", &exists);
  check_all("a token callback running", false);
  azt_client_free(client);
  azt_client_options_free(options);
}

/* --- from many threads -------------------------------------------------------------------------------------------- */

static void *call_anything(void *argument) {
  uint64_t state = *(uint64_t *)argument;
  for (int n = 0; n < CALLS_PER_THREAD; n++) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    const row *row = &rows[(state >> 33) % ROWS];
    if (is_for_token_callbacks(row)) continue;
    call this = prepare(row);
    size_t i = this.parameters == 0 ? 0 : (state >> 50) % this.parameters;
    const kind *kind = row->kinds[i];
    if (this.parameters > 0 && (state >> 60) % 2 == 0) {
      if (kind->odd_count > 0) {
        this.given[i] = kind->odd[(state >> 40) % kind->odd_count];
      } else if (kind->pointer != NO_POINTER) {
        this.given[i] = 0;
      }
    }
    run(&this);
    finish_call(&this, "other threads at work");
  }
  return NULL;
}

static void on_many_threads(void) {
  pthread_t threads[THREADS];
  uint64_t seeds[THREADS];
  for (int i = 0; i < THREADS; i++) {
    seeds[i] = 1000 + (uint64_t)i;
    CHECK(pthread_create(&threads[i], NULL, call_anything, &seeds[i]) == 0);
  }
  for (int i = 0; i < THREADS; i++) CHECK(pthread_join(threads[i], NULL) == 0);
}

/* --- setting up and running --------------------------------------------------------------------------------------- */

/* The URL of a blob in the test's container, with its SAS. */
static void name_blob(char *url, const char *name) {
  const char *query = strchr(container_url, '?');
  int path = query == NULL ? (int)strlen(container_url) : (int)(query - container_url);
  snprintf(url, sizeof read_url, "%.*s/%s%s", path, container_url, name, query == NULL ? "" : query);
}

static void set_up(void) {
  snprintf(container_url, sizeof container_url, "%s", environment("AZTORCH_TEST_CONTAINER_URL"));
  name_blob(read_url, "misuse/read");
  name_blob(absent_url, "misuse/absent");
  name_blob(written_url, "misuse/written");
  name_blob(manifest_url, "misuse/manifest");
  memset(long_text, 'a', sizeof long_text - 1);
  shared_options = azt_client_options_new();
  OK(azt_client_new, NULL, &shared_client);
  OK(azt_blob_open, shared_client, read_url, AZT_BLOB_MODE_WRITE, &shared_writer);
  OK(azt_blob_write, shared_writer, "0123456789", 10);
  OK(azt_blob_close, shared_writer);
  azt_blob_free(shared_writer);
  OK(azt_blob_open, shared_client, written_url, AZT_BLOB_MODE_WRITE, &shared_writer);
  OK(azt_blob_open, shared_client, read_url, AZT_BLOB_MODE_READ, &shared_reader);
  shared_dataset = new_dataset();
  OK(azt_dataset_save_manifest, shared_dataset, manifest_url);
  shared_sample = new_sample();
  shared_stream = new_stream();
  shared_error = new_error();
  size_t size = 0;
  OK(azt_stream_cursor, shared_stream, UINT64_MAX, cursor_text, sizeof cursor_text, &size);
  OK(azt_dataset_serialize, shared_dataset, serialized_text, sizeof serialized_text, &size_of_serialized);
}

static void tear_down(void) {
  azt_error_free(shared_error);
  azt_stream_free(shared_stream);
  azt_sample_free(shared_sample);
  azt_dataset_free(shared_dataset);
  azt_blob_free(shared_reader);
  azt_blob_free(shared_writer);
  azt_client_free(shared_client);
  azt_client_options_free(shared_options);
  OK(azt_log_set_callback, AZT_LOG_LEVEL_OFF, NULL, NULL, NULL);
  OK(azt_thread_set_interrupt_callback, NULL, NULL);
}

int main(int count, char **arguments) {
  if (count == 2 && strcmp(arguments[1], "--list") == 0) {
    for (size_t i = 0; i < ROWS; i++) puts(rows[i].name);
    return EXIT_SUCCESS;
  }
  /* Ends the test after a deadlock. */
  alarm(TIMEOUT_SECONDS);
  set_up();
  for (size_t i = 0; i < ROWS; i++) {
    if (!is_for_token_callbacks(&rows[i])) misuse(&rows[i]);
  }
  inside_token_callbacks();
  inside_progress_and_interrupt_callbacks();
  inside_log_callbacks();
  on_many_threads();
  tear_down();
  return finish();
}
