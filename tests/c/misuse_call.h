/* Calls any function of aztorch.h with any arguments, for misuse_test.c: the table of all functions, how a call is
 * made, and checks that hold for every call. */
#ifndef AZTORCH_TESTS_MISUSE_CALL_H
#define AZTORCH_TESTS_MISUSE_CALL_H

#include <pthread.h>

#include "misuse_kinds.h"

enum { MOST_PARAMETERS = 8 };
/* The behaviour of a function inside a callback: it works, is refused, is refused when it would block, or is refused inside
 * a log callback. */
enum inside { ALLOWED, BLOCKS, MAY_BLOCK, NOT_IN_LOG };
enum result { STATUS, TEXT_RESULT, NUMBER_RESULT, NO_RESULT, BARE_RESULT };

typedef struct row {
  const char *name;
  uintptr_t (*call)(const uintptr_t *arguments);
  enum result result;
  /* The result of a call with good arguments; for an accessor, its result for NULL. */
  uintptr_t expected;
  enum inside inside;
  void (*release)(uintptr_t result);
  const kind *kinds[MOST_PARAMETERS];
} row;

static void keep(uintptr_t value) { (void)value; }

/* Each row becomes a function that takes its arguments as numbers. So the compiler checks the types against the
 * header. */
#define PICK(_1, _2, _3, _4, _5, _6, _7, _8, name, ...) name
#define EACH(one, ...) PICK(__VA_ARGS__, E8, E7, E6, E5, E4, E3, E2, E1, 0)(one, __VA_ARGS__)
#define E1(one, a) one(a, 0)
#define E2(one, a, b) one(a, 0), one(b, 1)
#define E3(one, a, b, c) E2(one, a, b), one(c, 2)
#define E4(one, a, b, c, d) E3(one, a, b, c), one(d, 3)
#define E5(one, a, b, c, d, e) E4(one, a, b, c, d), one(e, 4)
#define E6(one, a, b, c, d, e, f) E5(one, a, b, c, d, e), one(f, 5)
#define E7(one, a, b, c, d, e, f, g) E6(one, a, b, c, d, e, f), one(g, 6)
#define E8(one, a, b, c, d, e, f, g, h) E7(one, a, b, c, d, e, f, g), one(h, 7)
#define ARGUMENT(kind, i) (type_##kind)a[i]
#define KIND_OF(kind, i) &kind_##kind

#define THUNK(name, ...) \
  static uintptr_t call_##name(const uintptr_t *a) { return (uintptr_t)name(EACH(ARGUMENT, __VA_ARGS__)); }
#define CALL(name, good, inside, ...) THUNK(name, __VA_ARGS__, error)
#define ANSWER(name, ...) THUNK(name, __VA_ARGS__)
#define TEXT_ROW(name, none, ...) THUNK(name, __VA_ARGS__)
#define NUMBER_ROW(name, none, ...) THUNK(name, __VA_ARGS__)
#define FREE_ROW(name, ...) \
  static uintptr_t call_##name(const uintptr_t *a) { return name(EACH(ARGUMENT, __VA_ARGS__)), 0; }
#define BARE(name, release) \
  static uintptr_t call_##name(const uintptr_t *a) { return (void)a, (uintptr_t)name(); }
#include "misuse_rows.h"
#undef CALL
#undef ANSWER
#undef TEXT_ROW
#undef NUMBER_ROW
#undef FREE_ROW
#undef BARE

#define ROW(name, result, expected, inside, release, ...) \
  {#name, call_##name, result, expected, inside, release, {__VA_ARGS__}},
#define CALL(name, good, inside, ...) \
  ROW(name, STATUS, AZT_STATUS_##good, inside, keep, EACH(KIND_OF, __VA_ARGS__, error))
#define ANSWER(name, ...) ROW(name, STATUS, AZT_STATUS_OK, ALLOWED, keep, EACH(KIND_OF, __VA_ARGS__))
#define TEXT_ROW(name, none, ...) ROW(name, TEXT_RESULT, (uintptr_t)none, ALLOWED, keep, EACH(KIND_OF, __VA_ARGS__))
#define NUMBER_ROW(name, none, ...) ROW(name, NUMBER_RESULT, none, ALLOWED, keep, EACH(KIND_OF, __VA_ARGS__))
#define FREE_ROW(name, ...) ROW(name, NO_RESULT, 0, ALLOWED, keep, EACH(KIND_OF, __VA_ARGS__))
#define BARE(name, release) ROW(name, BARE_RESULT, 0, ALLOWED, release, NULL)
static const row rows[] = {
#include "misuse_rows.h"
};
enum { ROWS = sizeof rows / sizeof rows[0] };

/* --- one call ----------------------------------------------------------------------------------------------------- */

typedef struct call {
  const row *row;
  size_t parameters;
  /* The values that were made for the call, and the arguments: those values, or others in their place. */
  uintptr_t made[MOST_PARAMETERS], given[MOST_PARAMETERS];
  uintptr_t result;
} call;

static call prepare(const row *row) {
  call this = {.row = row};
  while (this.parameters < MOST_PARAMETERS && row->kinds[this.parameters] != NULL) {
    const kind *kind = row->kinds[this.parameters];
    this.given[this.parameters] = this.made[this.parameters] = kind->make();
    this.parameters++;
  }
  return this;
}

static void run(call *this) { this->result = this->row->call(this->given); }

/* Protects the counters: several threads check. */
static pthread_mutex_t counting = PTHREAD_MUTEX_INITIALIZER;

static void check(const call *this, const char *what, bool good, const char *why) {
  pthread_mutex_lock(&counting);
  if (good) {
    passed++;
  } else {
    failed++;
    fprintf(stderr, "%s with %s: %s\n", this->row->name, what, why);
  }
  pthread_mutex_unlock(&counting);
}

static azt_error *error_of(const call *this) {
  for (size_t i = 0; i < this->parameters; i++) {
    if (this->row->kinds[i] == &kind_error && this->given[i] != 0) return *(azt_error **)this->given[i];
  }
  return NULL;
}

/* Makes the checks that hold for every call, and releases the values that were made for it. */
static void finish_call(call *this, const char *what) {
  const row *row = this->row;
  azt_status status = row->result == STATUS ? (azt_status)this->result : AZT_STATUS_OK;
  azt_error *error = error_of(this);
  const char *message = azt_error_message(error);
  check(this, what, strcmp(azt_status_name(status), "AZT_STATUS_UNKNOWN") != 0, "an unknown status");
  check(this, what, status != AZT_STATUS_INTERNAL, message);
  check(this, what, error == NULL || azt_error_status(error) == status, "the error has another status");
  check(this, what, error == NULL || message[0] != '\0', "an error without a message");
  check(this, what, strpbrk(message, "\r\n") == NULL, "a message with a line break");
  bool frees = row->result == NO_RESULT;
  for (size_t i = 0; i < this->parameters; i++) {
    const kind *kind = row->kinds[i];
    if (kind == &kind_error && this->given[i] != 0) {
      bool agree = (*(azt_error **)this->given[i] == NULL) == (status == AZT_STATUS_OK);
      check(this, what, agree, "the error and the status differ");
    }
    if (kind->output != NO_OUTPUT && this->given[i] != 0 && status == AZT_STATUS_INVALID_ARGUMENT) {
      uintptr_t left = *(uintptr_t *)this->given[i];
      bool good = kind->output == OUT_VALUE ? left == STALE : left == 0 || left == STALE;
      check(this, what, good, "an output was written although the call failed");
    }
    /* A function that frees was called with another value: free the one that was made. */
    if (frees && this->given[i] != this->made[i]) row->call(&this->made[i]);
    if (kind->release != NULL) kind->release(this->made[i]);
  }
  row->release(this->result);
}

static void check_refusal(const call *this, const char *what, azt_status refusal) {
  const row *row = this->row;
  char why[512];
  switch (row->result) {
    case STATUS:
      snprintf(why, sizeof why, "%s instead of %s: %s", azt_status_name((azt_status)this->result),
               azt_status_name(refusal), azt_error_message(error_of(this)));
      check(this, what, (azt_status)this->result == refusal, why);
      break;
    case TEXT_RESULT:
      check(this, what, strcmp((const char *)this->result, (const char *)row->expected) == 0, "the text differs");
      break;
    case NUMBER_RESULT:
      check(this, what, this->result == row->expected, "the value differs");
      break;
    case NO_RESULT:
    case BARE_RESULT:
      break;
  }
}

static void check_good(const call *this, const char *what) {
  if (this->row->result == STATUS) {
    check_refusal(this, what, (azt_status)this->row->expected);
  } else if (this->row->result != NO_RESULT && this->row->result != NUMBER_RESULT) {
    check(this, what, this->result != 0, "the result is NULL");
  }
}

#endif
