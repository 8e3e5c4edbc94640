/* Checks that count and print failures, and do not end the test. */
#ifndef AZTORCH_TESTS_CHECK_H
#define AZTORCH_TESTS_CHECK_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "aztorch.h"

static unsigned passed, failed;

#define CHECK(condition)                                                                  \
  do {                                                                                    \
    if (condition) {                                                                      \
      passed++;                                                                           \
    } else {                                                                              \
      failed++;                                                                           \
      fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);                     \
    }                                                                                     \
  } while (0)

/* Checks the status and the error of a call, and that they agree. Frees the error. */
static inline void check_status(azt_status actual, azt_status expected, azt_error *error, const char *file, int line) {
  const char *message = azt_error_message(error);
  if (actual != expected) {
    failed++;
    fprintf(stderr, "%s:%d: %s instead of %s: %s\n", file, line, azt_status_name(actual), azt_status_name(expected),
            message);
  } else {
    passed++;
  }
  CHECK((error == NULL) == (actual == AZT_STATUS_OK));
  CHECK(azt_error_status(error) == actual);
  CHECK((message[0] == '\0') == (actual == AZT_STATUS_OK));
  CHECK(strpbrk(message, "\r\n") == NULL);
  azt_error_free(error);
}

/* Calls a function, with the error as last argument added, and checks its status. The error pointer is invalid
 * before the call: the library must not read it. */
#define EXPECT(expected, function, ...)                                                   \
  do {                                                                                    \
    azt_error *error_ = (azt_error *)(uintptr_t)0x5a5a;                                   \
    azt_status status_ = function(__VA_ARGS__, &error_);                                  \
    check_status(status_, expected, error_, __FILE__, __LINE__);                          \
  } while (0)

/* Calls a function twice, with and without an error as last argument, and checks that it returns INVALID_ARGUMENT. */
#define REFUSED(function, ...)                                                            \
  do {                                                                                    \
    EXPECT(AZT_STATUS_INVALID_ARGUMENT, function, __VA_ARGS__);                           \
    CHECK(function(__VA_ARGS__, NULL) == AZT_STATUS_INVALID_ARGUMENT);                    \
  } while (0)

#define OK(function, ...) EXPECT(AZT_STATUS_OK, function, __VA_ARGS__)

/* The value of an environment variable; ends the program when it is not set. */
static inline const char *environment(const char *name) {
  const char *value = getenv(name);
  if (value == NULL || value[0] == '\0') {
    fprintf(stderr, "%s is not set\n", name);
    exit(2);
  }
  return value;
}

/* Prints the numbers of checks, and returns the exit status of the program. */
static inline int finish(void) {
  printf("%u passed, %u failed\n", passed, failed);
  return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

#endif
