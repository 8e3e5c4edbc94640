/* The contract of credentials, settings, log, statistics and progress as C sees it: NULL, bad values, what the outputs
 * hold, who calls what when. Needs AZTORCH_TEST_CONTAINER_URL for the calls that succeed. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "check.h"

static const char URL[] = "https://127.0.0.1:9/account/container/blob";

static atomic_uint finalized, called;

static void finalizer(void *user_data) {
  CHECK(user_data == &called);
  finalized++;
}

static azt_status refuse(void *user_data, const char *scope, const char *tenant_id, azt_token *out_token) {
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

static azt_status say_nothing(void *user_data, const char *scope, const char *tenant_id, azt_token *out_token) {
  (void)user_data, (void)scope, (void)tenant_id, (void)out_token;
  return AZT_STATUS_OK;
}

static azt_status expired_long_ago(void *user_data, const char *scope, const char *tenant_id, azt_token *out_token) {
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
  REFUSED(azt_client_options_set_token_callback, NULL, refuse, &called, finalizer);
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

static void callbacks_and_their_ends(void) {
  azt_client_options *options = azt_client_options_new();
  azt_client *client = NULL;
  azt_error *error = NULL;
  bool exists = false;
  OK(azt_client_options_set_token_callback, options, refuse, &called, finalizer);
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
  OK(azt_client_options_set_token_callback, options, refuse, &called, finalizer);
  OK(azt_client_options_set_token_callback, options, say_nothing, NULL, NULL);
  CHECK(finalized == 2);
  OK(azt_client_new, options, &client);
  EXPECT(AZT_STATUS_UNAUTHENTICATED, azt_blob_exists, client, URL, &exists);
  azt_client_free(client);
  OK(azt_client_options_set_token_callback, options, expired_long_ago, NULL, NULL);
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

static void on_line(void *user_data, azt_log_level level, const char *target, const char *message) {
  CHECK(user_data == &called && level >= AZT_LOG_LEVEL_ERROR && level <= AZT_LOG_LEVEL_TRACE);
  CHECK(strncmp(target, "az", 2) == 0 && strpbrk(message, "\r\n") == NULL && strstr(message, "sig=") == NULL);
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
  /* A caller who knows less gets less, and one who knows more gets zeros. */
  struct { azt_stats known; uint64_t unknown; } larger;
  memset(&larger, 0xff, sizeof larger);
  OK(azt_client_stats, client, &larger.known, sizeof larger);
  CHECK(larger.known.requests == 1 && larger.unknown == 0);
  memset(&larger, 0xff, sizeof larger);
  OK(azt_client_stats, client, &larger.known, sizeof larger.known.requests);
  CHECK(larger.known.requests == 1 && larger.known.retries == UINT64_MAX);
  OK(azt_client_stats, NULL, &stats, sizeof stats);
  azt_client_free(client);
  CHECK(lines > 0);
  OK(azt_log_set_callback, AZT_LOG_LEVEL_OFF, NULL, NULL, NULL);
  CHECK(finalized == before + 1);
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
  callbacks_and_their_ends();
  log_and_statistics(container);
  progress(container);
  return finish();
}
