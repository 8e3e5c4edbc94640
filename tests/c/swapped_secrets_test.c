/* Passes secrets in place of other values to every setter and call that takes a text. No error and no log line may
 * contain them. Nothing listens at the address of the requests. */
#define _GNU_SOURCE
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

#include "check.h"

static const char URL[] = "https://127.0.0.1:9/account/container/blob";
static atomic_uint lines;

/* Secrets in the formats of Azure, and texts that contain one. */
#define KEY "ASZLcJW63wQpTnOYveIHLFF2m8DlCi9UeZ7D6A0yV3yhxusQNVp/pMnuEzhdgqfM8RY7YIWqz/QZPmOIrdL3HA=="
#define SIGNATURE "Zx3Q%2Bk8vW2mN7pLr5tYb9uHs1cJd4fGe6aXiOzKqTwE%3D"
#define SECRET "Abc8Q~d0EfGh1IjKl2MnOp3QrStUv4WxYz5aBcDe"
#define BEARER "eyJhbGciOiJSUzI1NiJ9.eyJhdWQiOiJzdG9yYWdlIn0.c2lnbmF0dXJlLW9mLXRoZS10b2tlbg"
#define PASSWORD "Pa5sW0rd/of-The.Proxy"

static const char *const SECRETS[] = {KEY, SIGNATURE, SECRET, BEARER, PASSWORD};
static const char *const SWAPPED[] = {
    KEY,
    "AccountKey=" KEY,
    "AccountKey:" KEY,
    "AccountName=" KEY ";AccountKey=YWNj",
    "DefaultEndpointsProtocol=" KEY ";AccountName=a;AccountKey=YWNj",
    "DefaultEndpointsProtocol=https;AccountName=acc;AccountKey=" KEY,
    "https://" KEY ".blob.core.windows.net/container/blob",
    "https://" KEY "@127.0.0.1:9/account/container/blob",
    "sv=1&se=2030-01-01&sig=" SIGNATURE,
    "?sv=1&se=2030-01-01&sig=" SIGNATURE,
    "https://127.0.0.1:9/account/container/blob?sv=1&sig=" SIGNATURE,
    "https://127.0.0.1:9/account/container/blob%3Fsv%3D1%26sig%3D" SIGNATURE,
    SECRET,
    SECRET ".onmicrosoft.com",
    BEARER,
    "Bearer " BEARER,
    "http://user:" PASSWORD "@127.0.0.1:9",
    "https://user:" PASSWORD "@127.0.0.1:9",
    "-----BEGIN PRIVATE KEY-----\n" KEY "\n-----END PRIVATE KEY-----\n"};

/* Whether the text contains eight consecutive characters of a secret, in any case: hosts are shown in lower case. */
static bool contains_secret(const char *text) {
  for (size_t i = 0; i < sizeof SECRETS / sizeof *SECRETS; i++) {
    for (const char *piece = SECRETS[i]; strlen(piece) >= 8; piece++) {
      char eight[9] = {0};
      memcpy(eight, piece, 8);
      if (strcasestr(text, eight) != NULL) return true;
    }
  }
  return false;
}

static void check_no_secret(const char *setter, const char *value, azt_error *error) {
  if (contains_secret(azt_error_message(error))) {
    failed++;
    fprintf(stderr, "the error of %s(%s) contains a secret: %s\n", setter, value, azt_error_message(error));
  }
  azt_error_free(error);
}

static void on_any_line(void *user_data, azt_log_level level, const char *target, const char *message) {
  (void)user_data, (void)level, (void)target;
  if (contains_secret(message)) {
    failed++;
    fprintf(stderr, "a log line contains a secret: %s\n", message);
  }
  lines++;
}

static azt_status set_swapped(size_t setter, azt_client_options *options, const char *value, azt_error **error) {
  static const char id[] = "11111111-2222-3333-4444-555555555555";
  switch (setter) {
    case 0: return azt_client_options_set_sas_token(options, value, error);
    case 1: return azt_client_options_set_connection_string(options, value, error);
    case 2: return azt_client_options_set_account_key(options, value, "YWNj", error);
    case 3: return azt_client_options_set_account_key(options, "account", value, error);
    case 4: return azt_client_options_set_client_secret(options, value, id, "secret", error);
    case 5: return azt_client_options_set_client_secret(options, id, value, "secret", error);
    case 6: return azt_client_options_set_client_secret(options, id, id, value, error);
    case 7: return azt_client_options_set_managed_identity(options, value, error);
    case 8: return azt_client_options_set_proxy(options, value, error);
    case 9: return azt_client_options_set_ca_file(options, value, error);
    default: return azt_client_options_set_user_agent(options, value, error);
  }
}

int main(void) {
  static const char *const setters[] = {"sas_token", "connection_string", "account", "key", "tenant_id", "client_id",
                                        "secret", "managed_identity", "proxy", "ca_file", "user_agent"};
  CHECK(setenv("AZURE_AUTHORITY_HOST", "127.0.0.1:9", 1) == 0);
  OK(azt_log_set_callback, AZT_LOG_LEVEL_TRACE, on_any_line, NULL, NULL);
  for (size_t i = 0; i < sizeof SWAPPED / sizeof *SWAPPED; i++) {
    for (size_t setter = 0; setter < sizeof setters / sizeof *setters; setter++) {
      azt_client_options *options = azt_client_options_new();
      azt_client *client = NULL;
      azt_error *error = NULL;
      bool exists = false;
      /* Not with a managed identity: waiting for a metadata service that does not exist is slow. */
      const bool accepted = set_swapped(setter, options, SWAPPED[i], &error) == AZT_STATUS_OK && setter != 7;
      check_no_secret(setters[setter], SWAPPED[i], error);
      if (accepted) {
        OK(azt_client_options_set_max_retries, options, 0);
        OK(azt_client_options_set_timeout_ms, options, 2000);
        OK(azt_client_new, options, &client);
        CHECK(azt_blob_exists(client, URL, &exists, &error) != AZT_STATUS_OK);
        check_no_secret(setters[setter], SWAPPED[i], error);
        azt_client_free(client);
      }
      azt_client_options_free(options);
    }
    /* In place of a URL, a path and an ETag. */
    azt_client_options *options = azt_client_options_new();
    azt_client *client = NULL;
    azt_blob *blob = NULL;
    azt_error *error = NULL;
    OK(azt_client_options_set_anonymous, options);
    OK(azt_client_options_set_max_retries, options, 0);
    OK(azt_client_new, options, &client);
    azt_blob_open(client, SWAPPED[i], AZT_BLOB_MODE_READ, &blob, &error);
    check_no_secret("open", SWAPPED[i], error);
    azt_blob_open_in(client, SWAPPED[i], "blob", AZT_BLOB_MODE_READ, &blob, &error);
    check_no_secret("open_in", SWAPPED[i], error);
    azt_blob_upload(client, SWAPPED[i], URL, AZT_BLOB_MODE_WRITE, &error);
    check_no_secret("upload", SWAPPED[i], error);
    azt_blob_download(client, SWAPPED[i], "/no/such/folder/file", &error);
    check_no_secret("download", SWAPPED[i], error);
    OK(azt_blob_open, client, URL, AZT_BLOB_MODE_WRITE, &blob);
    azt_blob_set_if_match(blob, SWAPPED[i], &error);
    check_no_secret("set_if_match", SWAPPED[i], error);
    azt_blob_free(blob);
    azt_client_free(client);
    azt_client_options_free(options);
  }
  CHECK(lines > 0);
  OK(azt_log_set_callback, AZT_LOG_LEVEL_OFF, NULL, NULL, NULL);
  return finish();
}
