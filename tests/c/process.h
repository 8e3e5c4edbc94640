/* The threads, open files and memory of this process, and the exit status of a child. */
#ifndef AZTORCH_TESTS_PROCESS_H
#define AZTORCH_TESTS_PROCESS_H

#include <dirent.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static inline size_t count_entries(const char *directory) {
  size_t count = 0;
  DIR *open = opendir(directory);
  if (open == NULL) abort();
  for (struct dirent *entry; (entry = readdir(open)) != NULL;) {
    if (entry->d_name[0] != '.') count++;
  }
  closedir(open);
  return count;
}

static inline size_t threads(void) { return count_entries("/proc/self/task"); }
/* The number of open files, without the descriptor that reads the directory. */
static inline size_t open_files(void) { return count_entries("/proc/self/fd") - 1; }

static inline size_t resident_bytes(void) {
  unsigned long all = 0, resident = 0;
  FILE *file = fopen("/proc/self/statm", "r");
  if (file == NULL || fscanf(file, "%lu %lu", &all, &resident) != 2) abort();
  fclose(file);
  return resident * (size_t)sysconf(_SC_PAGESIZE);
}

static inline void pause_shortly(void) { nanosleep(&(struct timespec){0, 20000000}, NULL); }

/* Waits, for ten seconds at most, until `count` returns `limit` or less. Returns its last value. */
static inline size_t wait_until_at_most(size_t (*count)(void), size_t limit) {
  size_t now = count();
  for (int i = 0; i < 500 && now > limit; i++) {
    pause_shortly();
    now = count();
  }
  return now;
}

/* Waits until `count` has returned the same value for half a second, and returns that value. */
static inline size_t wait_until_steady(size_t (*count)(void)) {
  size_t now = count();
  for (int same = 0; same < 25; same++) {
    pause_shortly();
    size_t next = count();
    if (next != now) same = 0;
    now = next;
  }
  return now;
}

/* Waits for a child. Returns its exit status, or minus the number of the signal that ended it. */
static inline int wait_for_exit(pid_t child) {
  int status = 0;
  if (waitpid(child, &status, 0) != child) abort();
  return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

#endif
