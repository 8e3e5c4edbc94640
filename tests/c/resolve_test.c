/* A host whose address changes: each new connection resolves the name again, so that a long-lived client follows its
 * account to another address. The library uses this program's getaddrinfo. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netdb.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <unistd.h>

#include "check.h"

#define NAME "storage.example"

/* The name resolves to 127.0.0.`address_number`. `lookups` counts the calls of getaddrinfo. */
static atomic_int address_number = 1;
static atomic_uint lookups;

int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **result) {
  (void)service;
  if (node == NULL || strcmp(node, NAME) != 0) return EAI_NONAME;
  struct answer {
    struct addrinfo info;
    struct sockaddr_in address;
  } *answer = calloc(1, sizeof *answer);
  if (answer == NULL) return EAI_MEMORY;
  const in_addr_t address = INADDR_LOOPBACK - 1 + (unsigned)address_number;
  answer->address = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(address)};
  answer->info = (struct addrinfo){
      .ai_family = AF_INET,
      .ai_socktype = hints == NULL ? SOCK_STREAM : hints->ai_socktype,
      .ai_addrlen = sizeof answer->address,
      .ai_addr = (struct sockaddr *)&answer->address,
  };
  lookups++;
  *result = &answer->info;
  return 0;
}

void freeaddrinfo(struct addrinfo *result) { free(result); }

/* A server that has every blob, or none: so its answer tells which server got the request. */
struct server {
  const char *answer;
  int listener;
  atomic_int connection;
  atomic_uint connections;
};

#define HAS_IT "HTTP/1.1 200 OK\r\nETag: \"1\"\r\nContent-Length: 1\r\n\r\n"
#define HAS_NOT "HTTP/1.1 404 Not Found\r\nx-ms-error-code: BlobNotFound\r\nContent-Length: 0\r\n\r\n"

/* Serves one connection after the other, which is enough for one call after the other. */
static void *serve(void *argument) {
  struct server *server = argument;
  char request[16384];
  for (int connection; (connection = accept(server->listener, NULL, NULL)) >= 0; close(connection)) {
    server->connections++;
    server->connection = connection;
    /* The requests have no body, and each arrives in one segment. */
    while (recv(connection, request, sizeof request, 0) > 0 &&
           send(connection, server->answer, strlen(server->answer), MSG_NOSIGNAL) > 0) {
    }
  }
  return NULL;
}

/* Starts a server at 127.0.0.`number`, on port `*port`, or on a free port when that is 0. */
static bool start(struct server *server, unsigned number, in_port_t *port) {
  struct sockaddr_in address = {
      .sin_family = AF_INET, .sin_port = *port, .sin_addr.s_addr = htonl(INADDR_LOOPBACK - 1 + number)};
  socklen_t length = sizeof address;
  pthread_t thread;
  server->listener = socket(AF_INET, SOCK_STREAM, 0);
  if (setsockopt(server->listener, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int)) != 0 ||
      bind(server->listener, (struct sockaddr *)&address, length) != 0 || listen(server->listener, 8) != 0 ||
      getsockname(server->listener, (struct sockaddr *)&address, &length) != 0 ||
      pthread_create(&thread, NULL, serve, server) != 0) {
    return false;
  }
  pthread_detach(thread);
  *port = address.sin_port;
  return true;
}

static bool exists(const azt_client *client, const char *url) {
  bool found = false;
  OK(azt_blob_exists, client, url, &found);
  return found;
}

int main(void) {
  static struct server first = {.answer = HAS_IT}, second = {.answer = HAS_NOT};
  in_port_t port = 0;
  if (!start(&first, 1, &port) || !start(&second, 2, &port)) {
    perror("two loopback servers on one port");
    return 2;
  }
  char url[200];
  snprintf(url, sizeof url, "http://" NAME ":%d/account/container/blob?sv=2021-12-02&sig=x", ntohs(port));
  azt_client_options *options = azt_client_options_new();
  azt_client *client = NULL;
  /* One retry, for a connection that the client has not noticed to be closed. */
  OK(azt_client_options_set_max_retries, options, 1);
  OK(azt_client_new, options, &client);
  azt_client_options_free(options);

  CHECK(exists(client, url) && exists(client, url));
  CHECK(first.connections == 1 && lookups == 1);

  /* The name now resolves to the second server. The first one still listens, and only closes its connection. */
  address_number = 2;
  shutdown(first.connection, SHUT_RDWR);
  CHECK(!exists(client, url));
  CHECK(first.connections == 1 && second.connections == 1 && lookups == 2);

  /* The name resolves to the first server again. The second server does not listen any more. */
  address_number = 1;
  shutdown(second.listener, SHUT_RDWR);
  shutdown(second.connection, SHUT_RDWR);
  CHECK(exists(client, url) && exists(client, url));
  CHECK(first.connections == 2 && second.connections == 1 && lookups == 3);
  azt_client_free(client);
  return finish();
}
