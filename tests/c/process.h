/* What a process has: threads, open files, memory; and programs that are run as other processes. */
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

static inline size_t entries_of(const char *directory) {
  size_t count = 0;
  DIR *open = opendir(directory);
  if (open == NULL) abort();
  for (struct dirent *entry; (entry = readdir(open)) != NULL;) {
    if (entry->d_name[0] != '.') count++;
  }
  closedir(open);
  return count;
}

static inline size_t threads(void) { return entries_of("/proc/self/task"); }
/* Without the one that reads the directory. */
static inline size_t open_files(void) { return entries_of("/proc/self/fd") - 1; }

static inline size_t resident_bytes(void) {
  unsigned long all = 0, resident = 0;
  FILE *file = fopen("/proc/self/statm", "r");
  if (file == NULL || fscanf(file, "%lu %lu", &all, &resident) != 2) abort();
  fclose(file);
  return resident * (size_t)sysconf(_SC_PAGESIZE);
}

static inline void pause_shortly(void) { nanosleep(&(struct timespec){0, 20000000}, NULL); }

/* Waits until `count` gives at most `most`, for some seconds; what it gave last. */
static inline size_t settled(size_t (*count)(void), size_t most) {
  size_t now = count();
  for (int i = 0; i < 500 && now > most; i++) {
    pause_shortly();
    now = count();
  }
  return now;
}

/* What `count` gives once it has given the same for half a second. */
static inline size_t steady(size_t (*count)(void)) {
  size_t now = count();
  for (int same = 0; same < 25; same++) {
    pause_shortly();
    size_t next = count();
    if (next != now) same = 0;
    now = next;
  }
  return now;
}

/* How a child ended, in words of the test: its exit status, or minus the signal that ended it. */
static inline int ended(pid_t child) {
  int status = 0;
  if (waitpid(child, &status, 0) != child) abort();
  return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

#endif
