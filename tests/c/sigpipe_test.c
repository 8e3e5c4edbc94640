/* A C program has the default disposition of SIGPIPE: a write to a connection that the peer has reset would end it.
 * This test writes a large blob to a server that resets every connection, and expects a status. */
#define _GNU_SOURCE
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"

enum { BLOCK = 1 << 20, BLOCKS = 64 };

static in_port_t port;

/* Accepts connections, receives some bytes, and resets them. */
static void *serve(void *argument) {
  int listener = *(int *)argument;
  static char sink[256 << 10];
  for (unsigned count = 0;; count++) {
    int connection = accept(listener, NULL, NULL);
    if (connection < 0) {
      return NULL;
    }
    /* Alternately in the middle of the request and near its start. */
    ssize_t taken = read(connection, sink, count % 2 == 0 ? sizeof sink : 1);
    (void)taken;
    struct linger at_once = {.l_onoff = 1, .l_linger = 0};
    setsockopt(connection, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    close(connection);
  }
}

/* Runs `work` in a child with the default disposition. Returns the status of waitpid. */
static int in_child(int (*work)(void)) {
  fflush(NULL);
  pid_t child = fork();
  if (child == 0) {
    signal(SIGPIPE, SIG_DFL);
    int code = work();
    fflush(NULL);
    _exit(code);
  }
  int status = 0;
  CHECK(child > 0 && waitpid(child, &status, 0) == child);
  return status;
}

/* Writes with plain sockets, which SIGPIPE ends: this proves that the server provokes the signal. */
static int write_with_sockets(void) {
  static char body[BLOCK];
  for (int i = 0; i < 200; i++) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = port, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    int connection = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(connection, (struct sockaddr *)&address, sizeof address) == 0) {
      for (int j = 0; j < 10; j++) {
        ssize_t written = write(connection, body, sizeof body);
        (void)written;
      }
    }
    close(connection);
  }
  return EXIT_SUCCESS;
}

static int write_with_aztorch(void) {
  static char block[BLOCK];
  char url[128];
  snprintf(url, sizeof url, "http://127.0.0.1:%d/account/container/blob", ntohs(port));
  azt_client_options *options = azt_client_options_new();
  azt_client *client = NULL;
  azt_blob *blob = NULL;
  OK(azt_client_options_set_block_size, options, BLOCK);
  OK(azt_client_options_set_max_retries, options, 3);
  OK(azt_client_new, options, &client);
  OK(azt_blob_open, client, url, AZT_BLOB_MODE_WRITE, &blob);
  azt_status status = AZT_STATUS_OK;
  for (int i = 0; i < BLOCKS && status == AZT_STATUS_OK; i++) {
    status = azt_blob_write(blob, block, sizeof block, NULL);
  }
  EXPECT(AZT_STATUS_UNAVAILABLE, azt_blob_close, blob);
  CHECK(status == AZT_STATUS_OK || status == AZT_STATUS_UNAVAILABLE);
  azt_blob_free(blob);

  /* A write that is much larger than a block is sent from the caller's memory. */
  char *huge = calloc(BLOCKS, BLOCK);
  OK(azt_blob_open, client, url, AZT_BLOB_MODE_WRITE, &blob);
  CHECK(azt_blob_write(blob, huge, (size_t)BLOCKS * BLOCK, NULL) == AZT_STATUS_UNAVAILABLE ||
        azt_blob_flush(blob, NULL) == AZT_STATUS_UNAVAILABLE);
  EXPECT(AZT_STATUS_UNAVAILABLE, azt_blob_close, blob);
  azt_blob_free(blob);
  free(huge);

  struct sigaction now;
  CHECK(sigaction(SIGPIPE, NULL, &now) == 0 && now.sa_handler == SIG_DFL);
  azt_client_free(client);
  azt_client_options_free(options);
  return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

int main(void) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
  socklen_t length = sizeof address;
  int listener = socket(AF_INET, SOCK_STREAM, 0);
  CHECK(bind(listener, (struct sockaddr *)&address, sizeof address) == 0);
  CHECK(listen(listener, 64) == 0);
  CHECK(getsockname(listener, (struct sockaddr *)&address, &length) == 0);
  port = address.sin_port;
  pthread_t server;
  CHECK(pthread_create(&server, NULL, serve, &listener) == 0);

  int plain = in_child(write_with_sockets);
  CHECK(WIFSIGNALED(plain) && WTERMSIG(plain) == SIGPIPE);
  int protected = in_child(write_with_aztorch);
  if (WIFSIGNALED(protected)) {
    fprintf(stderr, "ended by signal %d\n", WTERMSIG(protected));
  }
  CHECK(WIFEXITED(protected) && WEXITSTATUS(protected) == EXIT_SUCCESS);
  return finish();
}
