/* A program that loads the library with dlopen and closes it, unused and with requests in flight. The library stays
 * loaded, open blobs keep working, and the process ends with exit status 0. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "aztorch.h"
#include "process.h"

/* The first part is more than a block of 8 MiB, so that a request is in flight. */
enum { SIZE = 16 << 20, FIRST = 12 << 20, TIMEOUT_SECONDS = 60 };

static void *library;

static void fail(const char *what) {
  fprintf(stderr, "%s\n", what);
  exit(EXIT_FAILURE);
}

/* Declares `name_`, a pointer to a function of the library with the type in the header. */
#define LOAD(name)                             \
  __typeof__(name) *name##_;                   \
  *(void **)&name##_ = dlsym(library, #name);  \
  if (name##_ == NULL) fail("no " #name)

int main(void) {
  static unsigned char bytes[SIZE], again[SIZE];
  const char *container = getenv("AZTORCH_TEST_CONTAINER_URL");
  azt_blob *writer = NULL, *reader = NULL;
  size_t read = 0;
  if (container == NULL) fail("AZTORCH_TEST_CONTAINER_URL is not set");
  alarm(TIMEOUT_SECONDS);
  for (size_t i = 0; i < SIZE; i++) bytes[i] = (unsigned char)(i * 2654435761u >> 13);

  if (dlopen("libaztorch.so.0", RTLD_NOW | RTLD_NOLOAD) != NULL) fail("the library is loaded before dlopen");
  library = dlopen("libaztorch.so.0", RTLD_NOW | RTLD_LOCAL);
  if (library == NULL) fail(dlerror());
  if (threads() != 1) fail("loading the library has started a thread");
  /* Once the library has started a thread, glibc keeps it loaded; before that, only its NODELETE flag does. */
  if (dlclose(library) != 0) fail(dlerror());
  library = dlopen("libaztorch.so.0", RTLD_NOW | RTLD_LOCAL | RTLD_NOLOAD);
  if (library == NULL) fail("dlclose has unloaded the library");
  LOAD(azt_blob_open_in);
  LOAD(azt_blob_write);
  LOAD(azt_blob_close);
  LOAD(azt_blob_read);
  if (azt_blob_open_in_(NULL, container, "dlclose", AZT_BLOB_MODE_WRITE, &writer, NULL) != AZT_STATUS_OK) fail("open");
  if (azt_blob_write_(writer, bytes, FIRST, NULL) != AZT_STATUS_OK) fail("write");

  if (dlclose(library) != 0) fail(dlerror());
  if (threads() == 1) fail("dlclose has ended the library's threads");
  if (azt_blob_write_(writer, bytes + FIRST, SIZE - FIRST, NULL) != AZT_STATUS_OK) fail("write after dlclose");
  if (azt_blob_close_(writer, NULL) != AZT_STATUS_OK) fail("close after dlclose");

  library = dlopen("libaztorch.so.0", RTLD_NOW);
  if (library == NULL) fail(dlerror());
  if (azt_blob_open_in_(NULL, container, "dlclose", AZT_BLOB_MODE_READ, &reader, NULL) != AZT_STATUS_OK) {
    fail("open again");
  }
  if (azt_blob_read_(reader, again, SIZE, &read, NULL) != AZT_STATUS_OK || read != SIZE) fail("read");
  if (memcmp(bytes, again, SIZE) != 0) fail("the bytes read differ from the bytes written");
  if (dlclose(library) != 0) fail(dlerror());
  /* Ends with both handles open. */
  puts("1 passed, 0 failed");
  return EXIT_SUCCESS;
}
