/* The contract of credentials, settings, log, statistics and progress: NULL, bad values, outputs, and when callbacks
 * are called. Needs AZTORCH_TEST_CONTAINER_URL for the calls that succeed. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <unistd.h>

#include "check.h"

static const char URL[] = "https://127.0.0.1:9/account/container/blob";
/* An account key: "planted" in base64. */
#define PLANTED "cGxhbnRlZA=="

static atomic_uint finalized, called;

static void finalizer(void *user_data) {
  CHECK(user_data == &called);
  finalized++;
}

static azt_status fail_with_secret_in_message(void *user_data, const char *scope, const char *tenant_id,
                                              azt_token *out_token) {
  CHECK(user_data == &called);
  CHECK(strcmp(scope, "https://storage.azure.com/.default") == 0 && strcmp(tenant_id, "") == 0);
  CHECK(azt_token_set(NULL, "token", 0) == AZT_STATUS_INVALID_ARGUMENT);
  CHECK(azt_token_set(out_token, NULL, 0) == AZT_STATUS_INVALID_ARGUMENT);
  CHECK(azt_token_set(out_token, "", 0) == AZT_STATUS_INVALID_ARGUMENT);
  CHECK(azt_token_set(out_token, "two words", 0) == AZT_STATUS_INVALID_ARGUMENT);
  CHECK(azt_token_set_error(NULL, "why") == AZT_STATUS_INVALID_ARGUMENT);
  CHECK(azt_token_set_error(out_token, NULL) == AZT_STATUS_INVALID_ARGUMENT);
  CHECK(azt_token_set_error(out_token, "the vault is shut: ?sig=planted") == AZT_STATUS_OK);
  bool exists = false;
  CHECK(azt_blob_exists(NULL, URL, &exists, NULL) == AZT_STATUS_UNSUPPORTED);
  called++;
  return AZT_STATUS_PERMISSION_DENIED;
}

static azt_status return_ok_without_token(void *user_data, const char *scope, const char *tenant_id,
                                          azt_token *out_token) {
  (void)user_data, (void)scope, (void)tenant_id, (void)out_token;
  return AZT_STATUS_OK;
}

static azt_status fail_with_token_in_message(void *user_data, const char *scope, const char *tenant_id,
                                             azt_token *out_token) {
  (void)user_data, (void)scope, (void)tenant_id;
  CHECK(azt_token_set(out_token, "planted-token", 4070908800) == AZT_STATUS_OK);
  CHECK(azt_token_set_error(out_token, "the vault gave planted-token, which is no good") == AZT_STATUS_OK);
  return AZT_STATUS_PERMISSION_DENIED;
}

static azt_status return_expired_token(void *user_data, const char *scope, const char *tenant_id,
                                       azt_token *out_token) {
  (void)user_data, (void)scope, (void)tenant_id;
  CHECK(azt_token_set(out_token, "planted-token", INT64_MIN) == AZT_STATUS_OK);
  CHECK(azt_token_set(out_token, "planted-token", -1) == AZT_STATUS_OK);
  return azt_token_set(out_token, "planted-token", 1);
}

static void setters(void) {
  azt_client_options *options = azt_client_options_new();
  REFUSED(azt_client_options_set_default_credential, NULL);
  REFUSED(azt_client_options_set_client_secret, NULL, "tenant", "client", "secret");
  REFUSED(azt_client_options_set_managed_identity, NULL, NULL);
  REFUSED(azt_client_options_set_workload_identity, NULL);
  REFUSED(azt_client_options_set_azure_cli, NULL);
  REFUSED(azt_client_options_set_token_callback, NULL, fail_with_secret_in_message, &called, finalizer);
  REFUSED(azt_client_options_set_token_callback, options, NULL, &called, finalizer);
  REFUSED(azt_client_options_set_proxy, NULL, "http://proxy:1");
  REFUSED(azt_client_options_set_ca_file, NULL, "/etc/hosts");
  REFUSED(azt_client_options_set_user_agent, NULL, "trainer/1.2");
  const char *bad[] = {NULL, "", "\xff\xfe"};
  for (size_t i = 0; i < 3; i++) {
    REFUSED(azt_client_options_set_client_secret, options, bad[i], "client", "secret");
    REFUSED(azt_client_options_set_client_secret, options, "tenant", bad[i], "secret");
    REFUSED(azt_client_options_set_client_secret, options, "tenant", "client", bad[i]);
    REFUSED(azt_client_options_set_proxy, options, bad[i]);
    REFUSED(azt_client_options_set_user_agent, options, bad[i]);
    if (bad[i] != NULL) REFUSED(azt_client_options_set_managed_identity, options, bad[i]);
  }
  REFUSED(azt_client_options_set_ca_file, options, NULL);
  REFUSED(azt_client_options_set_ca_file, options, "\xff\xfe");
  EXPECT(AZT_STATUS_LOCAL_IO, azt_client_options_set_ca_file, options, "/no/such/file");
  REFUSED(azt_client_options_set_ca_file, options, "/etc/hosts");
  REFUSED(azt_client_options_set_proxy, options, "socks5://proxy:1");
  CHECK(finalized == 0);

  OK(azt_client_options_set_default_credential, options);
  OK(azt_client_options_set_client_secret, options, "tenant", "client", "secret");
  OK(azt_client_options_set_managed_identity, options, NULL);
  OK(azt_client_options_set_managed_identity, options, "client");
  OK(azt_client_options_set_workload_identity, options);
  OK(azt_client_options_set_azure_cli, options);
  OK(azt_client_options_set_proxy, options, "http://user:password@proxy:1");
  OK(azt_client_options_set_user_agent, options, "trainer/1.2");
  azt_client *client = NULL;
  OK(azt_client_new, options, &client);
  azt_client_free(client);
  azt_client_options_free(options);
}

static void token_callbacks_and_finalizers(void) {
  azt_client_options *options = azt_client_options_new();
  azt_client *client = NULL;
  azt_error *error = NULL;
  bool exists = false;
  OK(azt_client_options_set_token_callback, options, fail_with_secret_in_message, &called, finalizer);
  OK(azt_client_new, options, &client);
  azt_client_options_free(options);
  CHECK(finalized == 0);
  CHECK(azt_blob_exists(client, URL, &exists, &error) == AZT_STATUS_PERMISSION_DENIED);
  CHECK(strstr(azt_error_message(error), "the vault is shut") != NULL);
  CHECK(strstr(azt_error_message(error), "planted") == NULL);
  azt_error_free(error);
  CHECK(called == 1);
  azt_client_free(client);
  CHECK(finalized == 1);

  options = azt_client_options_new();
  OK(azt_client_options_set_token_callback, options, fail_with_secret_in_message, &called, finalizer);
  OK(azt_client_options_set_token_callback, options, return_ok_without_token, NULL, NULL);
  CHECK(finalized == 2);
  OK(azt_client_new, options, &client);
  EXPECT(AZT_STATUS_UNAUTHENTICATED, azt_blob_exists, client, URL, &exists);
  azt_client_free(client);
  OK(azt_client_options_set_token_callback, options, fail_with_token_in_message, NULL, NULL);
  OK(azt_client_new, options, &client);
  CHECK(azt_blob_exists(client, URL, &exists, &error) == AZT_STATUS_PERMISSION_DENIED);
  CHECK(strstr(azt_error_message(error), "the vault gave") != NULL);
  CHECK(strstr(azt_error_message(error), "planted") == NULL);
  azt_error_free(error);
  azt_client_free(client);
  OK(azt_client_options_set_token_callback, options, return_expired_token, NULL, NULL);
  OK(azt_client_options_set_max_retries, options, 0);
  OK(azt_client_new, options, &client);
  CHECK(azt_blob_exists(client, URL, &exists, &error) == AZT_STATUS_UNAVAILABLE);
  CHECK(strstr(azt_error_message(error), "planted") == NULL);
  azt_error_free(error);
  EXPECT(AZT_STATUS_INVALID_ARGUMENT, azt_blob_exists, client, "http://127.0.0.1:9/account/container/blob", &exists);
  azt_client_free(client);
  azt_client_options_free(options);
}

static atomic_uint lines;
static azt_log_level finest = AZT_LOG_LEVEL_TRACE;

static void on_line(void *user_data, azt_log_level level, const char *target, const char *message) {
  CHECK(user_data == &called && level >= AZT_LOG_LEVEL_ERROR && level <= finest);
  CHECK(strncmp(target, "az", 2) == 0 && strpbrk(message, "\r\n") == NULL && strstr(message, "sig=") == NULL);
  CHECK(strstr(message, "planted") == NULL && strstr(message, PLANTED) == NULL);
  CHECK(azt_log_set_callback(AZT_LOG_LEVEL_OFF, NULL, NULL, NULL, NULL) == AZT_STATUS_UNSUPPORTED);
  lines++;
}

static void log_and_statistics(const char *container) {
  const unsigned before = finalized;
  REFUSED(azt_log_set_callback, 6, on_line, &called, finalizer);
  REFUSED(azt_log_set_callback, -1, on_line, &called, finalizer);
  OK(azt_log_set_callback, AZT_LOG_LEVEL_OFF, NULL, NULL, NULL);
  CHECK(finalized == before);
  OK(azt_log_set_callback, AZT_LOG_LEVEL_TRACE, on_line, &called, finalizer);
  azt_client *client = NULL;
  azt_blob *blob = NULL;
  OK(azt_client_new, NULL, &client);
  azt_stats stats = {0};
  REFUSED(azt_client_stats, client, NULL, sizeof stats);
  REFUSED(azt_client_stats, client, &stats, 0);
  REFUSED(azt_client_stats, client, &stats, 7);
  REFUSED(azt_client_stats, client, &stats, SIZE_MAX);
  OK(azt_blob_open_in, client, container, "statistics", AZT_BLOB_MODE_WRITE, &blob);
  OK(azt_blob_write, blob, "0123456789", 10);
  OK(azt_blob_close, blob);
  azt_blob_free(blob);
  OK(azt_client_stats, client, &stats, sizeof stats);
  CHECK(stats.requests == 1 && stats.bytes_sent == 10 && stats.connections_opened == 1 && stats.retries == 0);
  CHECK(stats.caller_wait_microseconds > 0 && stats.token_requests == 0);
  /* A smaller struct is filled up to its size; a larger one gets zeros at its end. */
  struct { azt_stats known; uint64_t unknown; } larger;
  memset(&larger, 0xff, sizeof larger);
  OK(azt_client_stats, client, &larger.known, sizeof larger);
  CHECK(larger.known.requests == 1 && larger.unknown == 0);
  memset(&larger, 0xff, sizeof larger);
  OK(azt_client_stats, client, &larger.known, sizeof larger.known.requests);
  CHECK(larger.known.requests == 1 && larger.known.retries == UINT64_MAX);
  OK(azt_client_stats, NULL, &stats, sizeof stats);
  CHECK(lines > 0);
  /* A request is logged at DEBUG, so not up to WARN. */
  finest = AZT_LOG_LEVEL_WARN;
  OK(azt_log_set_callback, finest, on_line, &called, finalizer);
  CHECK(finalized == before + 1);
  lines = 0;
  OK(azt_blob_open_in, client, container, "statistics", AZT_BLOB_MODE_READ, &blob);
  azt_blob_free(blob);
  CHECK(lines == 0);
  azt_client_free(client);
  OK(azt_log_set_callback, AZT_LOG_LEVEL_OFF, NULL, NULL, NULL);
  CHECK(finalized == before + 2);
}

static azt_status (*const SETTERS_OF_ONE[])(azt_client_options *, const char *, azt_error **) = {
    azt_client_options_set_sas_token, azt_client_options_set_connection_string, azt_client_options_set_proxy};

static void check_no_secret(azt_status status, azt_error **out_error) {
  azt_error *error = *out_error;
  const char *message = azt_error_message(error);
  CHECK(status != AZT_STATUS_OK && message[0] != '\0');
  if (strstr(message, "planted") != NULL || strstr(message, PLANTED) != NULL) {
    failed++;
    fprintf(stderr, "an error contains a secret: %s\n", message);
  }
  azt_error_free(error);
}

/* Makes calls that fail with these options, because nothing listens at that address, and checks the errors. */
static void make_failing_calls(azt_client_options *options) {
  static const char *const urls[] = {URL, "https://127.0.0.1:9/account/container/blob?sv=1&sig=planted%2F",
                                     "http://127.0.0.1:9/account/container/blob?sv=1&sig=planted%2F"};
  azt_client *client = NULL;
  OK(azt_client_options_set_max_retries, options, 0);
  OK(azt_client_new, options, &client);
  for (size_t i = 0; i < 3; i++) {
    azt_error *error = NULL;
    azt_blob *blob = NULL;
    bool exists = false;
    check_no_secret(azt_blob_exists(client, urls[i], &exists, &error), &error);
    check_no_secret(azt_blob_open(client, urls[i], AZT_BLOB_MODE_READ, &blob, &error), &error);
    check_no_secret(azt_blob_delete(client, urls[i], &error), &error);
    OK(azt_blob_open, client, urls[i], AZT_BLOB_MODE_WRITE, &blob);
    CHECK(strstr(azt_blob_url(blob), "planted") == NULL);
    OK(azt_blob_write, blob, "x", 1);
    check_no_secret(azt_blob_close(blob, &error), &error);
    azt_blob_free(blob);
  }
  azt_client_free(client);
}

/* Sets secrets with every setter that takes one. Neither errors nor log lines, which on_line checks, contain them. */
static void no_error_or_log_line_contains_a_secret(void) {
  finest = AZT_LOG_LEVEL_TRACE;
  lines = 0;
  OK(azt_log_set_callback, AZT_LOG_LEVEL_TRACE, on_line, &called, NULL);
  for (int i = 0; i < 6; i++) {
    azt_client_options *options = azt_client_options_new();
    if (i == 0) OK(azt_client_options_set_account_key, options, "account", PLANTED);
    if (i == 1) OK(azt_client_options_set_sas_token, options, "sv=1&sig=planted");
    if (i == 2) OK(azt_client_options_set_connection_string, options, "AccountName=account;AccountKey=" PLANTED);
    if (i == 3) OK(azt_client_options_set_client_secret, options, "tenant", "client", "planted");
    if (i == 4) OK(azt_client_options_set_token_callback, options, return_expired_token, NULL, NULL);
    if (i < 4 || i == 5) OK(azt_client_options_set_proxy, options, "http://user:planted@127.0.0.1:9");
    if (i == 5) OK(azt_client_options_set_anonymous, options);
    make_failing_calls(options);
    azt_client_options_free(options);
  }
  azt_client_options *options = azt_client_options_new();
  azt_error *error = NULL;
  for (size_t i = 0; i < 3; i++) {
    static const char *const bad[] = {"planted", "sv=1&sig=planted planted", "AccountKey=planted;AccountName=a",
                                      "AccountName=a;AccountKey=planted!;", "https://user:planted@proxy:1",
                                      "http://user:planted@"};
    for (size_t j = 0; j < sizeof bad / sizeof *bad; j++) {
      check_no_secret(SETTERS_OF_ONE[i](options, bad[j], &error), &error);
    }
  }
  check_no_secret(azt_client_options_set_account_key(options, "account", "planted!", &error), &error);
  check_no_secret(azt_client_options_set_client_secret(options, "no tenant", "client", "planted", &error), &error);
  azt_client_options_free(options);
  CHECK(lines > 0);
  OK(azt_log_set_callback, AZT_LOG_LEVEL_OFF, NULL, NULL, NULL);
}

enum { CLIENTS = 8, THREADS = 32 };

static void *send_request(void *client) {
  bool exists = false;
  /* The token is available, the service is not. */
  EXPECT(AZT_STATUS_UNAVAILABLE, azt_blob_exists, client, URL, &exists);
  return NULL;
}

/* Many clients with the same identity, used by many threads at once, share one token: `az`, which is slow, runs
 * once. */
static void clients_share_one_token(void) {
  static const char script[] =
      "#!/bin/sh\n"
      "echo called >> \"$AZTORCH_TEST_CALLS\"\n"
      "sleep 0.3\n"
      "echo '{\"accessToken\":\"planted\",\"expiresOn\":\"2099-01-01 00:00:00.000000\",\"expires_on\":4070908800,"
      "\"subscription\":\"s\",\"tenant\":\"t\",\"tokenType\":\"Bearer\"}'\n";
  char directory[] = "/tmp/aztorch-az-XXXXXX", path[64], calls[64], search[256];
  CHECK(mkdtemp(directory) != NULL);
  snprintf(path, sizeof path, "%s/az", directory);
  snprintf(calls, sizeof calls, "%s/calls", directory);
  snprintf(search, sizeof search, "%s:/usr/bin:/bin", directory);
  FILE *file = fopen(path, "w");
  CHECK(file != NULL && fputs(script, file) >= 0 && fclose(file) == 0 && chmod(path, 0755) == 0);
  setenv("PATH", search, 1);
  setenv("AZTORCH_TEST_CALLS", calls, 1);

  azt_client_options *options = azt_client_options_new();
  OK(azt_client_options_set_azure_cli, options);
  OK(azt_client_options_set_max_retries, options, 0);
  azt_client *clients[CLIENTS];
  pthread_t threads[THREADS];
  for (size_t i = 0; i < CLIENTS; i++) OK(azt_client_new, options, &clients[i]);
  azt_client_options_free(options);
  for (size_t i = 0; i < THREADS; i++) {
    CHECK(pthread_create(&threads[i], NULL, send_request, clients[i % CLIENTS]) == 0);
  }
  for (size_t i = 0; i < THREADS; i++) CHECK(pthread_join(threads[i], NULL) == 0);
  uint64_t token_requests = 0;
  for (size_t i = 0; i < CLIENTS; i++) {
    azt_stats stats = {0};
    OK(azt_client_stats, clients[i], &stats, sizeof stats);
    token_requests += stats.token_requests;
    azt_client_free(clients[i]);
  }
  CHECK(token_requests == 1);
  struct stat written;
  CHECK(stat(calls, &written) == 0 && written.st_size == (off_t)strlen("called\n"));
  CHECK(unlink(path) == 0 && unlink(calls) == 0 && rmdir(directory) == 0);
}

static pthread_t caller;
static uint64_t last_done, last_total;

static void on_progress(void *user_data, uint64_t done, uint64_t total) {
  CHECK(user_data == &called && pthread_equal(pthread_self(), caller));
  CHECK(done >= last_done);
  last_done = done;
  last_total = total;
}

static void progress(const char *container) {
  const unsigned before = finalized;
  static char bytes[3 << 20];
  size_t read = 0;
  azt_blob *blob = NULL;
  caller = pthread_self();
  REFUSED(azt_blob_set_progress, NULL, on_progress, &called, finalizer);
  OK(azt_blob_open_in, NULL, container, "progress", AZT_BLOB_MODE_WRITE, &blob);
  OK(azt_blob_set_progress, blob, on_progress, &called, finalizer);
  OK(azt_blob_write, blob, bytes, sizeof bytes);
  OK(azt_blob_flush, blob);
  CHECK(last_done == sizeof bytes && last_total == UINT64_MAX);
  OK(azt_blob_close, blob);
  CHECK(last_done == sizeof bytes && last_total == sizeof bytes);
  CHECK(finalized == before);
  azt_blob_free(blob);
  CHECK(finalized == before + 1);

  last_done = 0;
  OK(azt_blob_open_in, NULL, container, "progress", AZT_BLOB_MODE_READ, &blob);
  OK(azt_blob_set_progress, blob, on_progress, &called, finalizer);
  OK(azt_blob_read, blob, bytes, 1000, &read);
  CHECK(last_done == 1000 && last_total == sizeof bytes);
  OK(azt_blob_set_progress, blob, NULL, NULL, NULL);
  CHECK(finalized == before + 2);
  OK(azt_blob_read, blob, bytes, 1000, &read);
  CHECK(last_done == 1000);
  azt_blob_free(blob);
}

int main(void) {
  const char *container = environment("AZTORCH_TEST_CONTAINER_URL");
  setters();
  token_callbacks_and_finalizers();
  log_and_statistics(container);
  progress(container);
  no_error_or_log_line_contains_a_secret();
  clients_share_one_token();
  return finish();
}
