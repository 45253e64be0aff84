// A library that is loaded before the system's own and lets one call fail: the Nth of an operation, or all from there on. What
// `.ci/faults` runs the command under.
//
//   FAULT=OPERATION:N:ERRNO[:short][:on][:kill]   fails the Nth call with that error number; `short`: takes half of the bytes
//                                                 instead; `on`: and all calls after it; `kill`: kills the process at it
//   FAULT_COUNT=FILE                       writes how often each operation was called, at the end
//
// Calls on the standard streams are neither counted nor failed: what a message is written to is no file.
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define OPERATIONS(X)                                                                                                  \
  X(write) X(pwrite) X(fsync) X(fdatasync) X(rename) X(mmap) X(open) X(openat) X(ftruncate) X(mkdir) X(unlink) X(rmdir) \
  X(read) X(pread) X(fstat) X(stat) X(close) X(opendir) X(flock) X(link)

#define ENUM(name) op_##name,
#define TEXT(name) #name,
enum { OPERATIONS(ENUM) op_count };
static const char *const names[] = {OPERATIONS(TEXT)};
static _Atomic int calls[op_count];

static struct {
  int operation, number, error, is_short, goes_on, kills;
} fault = {-1, 0, EIO, 0, 0, 0};

__attribute__((constructor)) static void begin(void) {
  const char *text = getenv("FAULT");
  char copy[128], *rest = NULL, *word;
  if (!text || strlen(text) >= sizeof copy) return;
  strcpy(copy, text);
  for (int field = 0; (word = strtok_r(field ? NULL : copy, ":", &rest)); field++) {
    if (field == 0) {
      for (int at = 0; at < op_count; at++) if (!strcmp(word, names[at])) fault.operation = at;
    } else if (field == 1) {
      fault.number = atoi(word);
    } else if (field == 2) {
      fault.error = atoi(word);
    } else if (!strcmp(word, "short")) {
      fault.is_short = 1;
    } else if (!strcmp(word, "on")) {
      fault.goes_on = 1;
    } else if (!strcmp(word, "kill")) {
      fault.kills = 1;
    }
  }
}

// Whether this call is the one.
static int fails(int operation) {
  int number = atomic_fetch_add(&calls[operation], 1) + 1;
  if (operation != fault.operation || number < fault.number) return 0;
  if (number != fault.number && !fault.goes_on) return 0;
  if (fault.kills) raise(SIGKILL);
  return 1;
}

static int refuse(void) {
  errno = fault.error;
  return -1;
}

#define REAL(type, name, ...)                                     \
  static type (*real)(__VA_ARGS__);                               \
  if (!real) *(void **)&real = dlsym(RTLD_NEXT, #name)

__attribute__((destructor)) static void end(void) {
  const char *path = getenv("FAULT_COUNT");
  if (!path) return;
  fault.operation = -1;
  FILE *file = fopen(path, "w");
  if (!file) return;
  for (int at = 0; at < op_count; at++) fprintf(file, "%s %d\n", names[at], calls[at]);
  fclose(file);
}

ssize_t write(int file, const void *bytes, size_t count) {
  REAL(ssize_t, write, int, const void *, size_t);
  if (file < 3 || !fails(op_write)) return real(file, bytes, count);
  return fault.is_short && count > 1 ? real(file, bytes, count / 2) : refuse();
}

ssize_t read(int file, void *bytes, size_t count) {
  REAL(ssize_t, read, int, void *, size_t);
  if (file < 3 || !fails(op_read)) return real(file, bytes, count);
  return fault.is_short && count > 1 ? real(file, bytes, count / 2) : refuse();
}

#define AT(name, operation, bytes_type, offset_type)                                        \
  ssize_t name(int file, bytes_type bytes, size_t count, offset_type at) {                  \
    REAL(ssize_t, name, int, bytes_type, size_t, offset_type);                              \
    if (!fails(operation)) return real(file, bytes, count, at);                             \
    return fault.is_short && count > 1 ? real(file, bytes, count / 2, at) : refuse();       \
  }
AT(pwrite, op_pwrite, const void *, off_t)
AT(pwrite64, op_pwrite, const void *, off64_t)
AT(pread, op_pread, void *, off_t)
AT(pread64, op_pread, void *, off64_t)

#define ONE(name, operation, type, argument)                          \
  int name(type argument) {                                           \
    REAL(int, name, type);                                            \
    return fails(operation) ? refuse() : real(argument);              \
  }
ONE(fsync, op_fsync, int, file)
ONE(fdatasync, op_fdatasync, int, file)
ONE(unlink, op_unlink, const char *, path)
ONE(rmdir, op_rmdir, const char *, path)

#define TWO(name, operation, type, first, other, second)              \
  int name(type first, other second) {                                \
    REAL(int, name, type, other);                                     \
    return fails(operation) ? refuse() : real(first, second);         \
  }
TWO(rename, op_rename, const char *, from, const char *, to)
TWO(link, op_link, const char *, from, const char *, to)
TWO(ftruncate, op_ftruncate, int, file, off_t, count)
TWO(ftruncate64, op_ftruncate, int, file, off64_t, count)
TWO(mkdir, op_mkdir, const char *, path, mode_t, mode)
TWO(fstat, op_fstat, int, file, struct stat *, status)
TWO(fstat64, op_fstat, int, file, struct stat64 *, status)
TWO(stat, op_stat, const char *, path, struct stat *, status)
TWO(stat64, op_stat, const char *, path, struct stat64 *, status)
TWO(lstat, op_stat, const char *, path, struct stat *, status)
TWO(lstat64, op_stat, const char *, path, struct stat64 *, status)
TWO(flock, op_flock, int, file, int, operation)

int renameat2(int from, const char *a, int to, const char *b, unsigned flags) {
  REAL(int, renameat2, int, const char *, int, const char *, unsigned);
  return fails(op_rename) ? refuse() : real(from, a, to, b, flags);
}

// A new name that must be free is asked for by number.
long syscall(long number, ...) {
  REAL(long, syscall, long, ...);
  va_list rest;
  va_start(rest, number);
  long word[6];
  for (int at = 0; at < 6; at++) word[at] = va_arg(rest, long);
  va_end(rest);
  if (number == SYS_renameat2 && fails(op_rename)) return refuse();
  return real(number, word[0], word[1], word[2], word[3], word[4], word[5]);
}

int renameat(int from, const char *a, int to, const char *b) {
  REAL(int, renameat, int, const char *, int, const char *);
  return fails(op_rename) ? refuse() : real(from, a, to, b);
}

int unlinkat(int folder, const char *path, int flags) {
  REAL(int, unlinkat, int, const char *, int);
  return fails(op_unlink) ? refuse() : real(folder, path, flags);
}

// The file is closed all the same, as the system does it.
int close(int file) {
  REAL(int, close, int);
  if (file < 3 || !fails(op_close)) return real(file);
  real(file);
  return refuse();
}

DIR *opendir(const char *path) {
  REAL(DIR *, opendir, const char *);
  if (!fails(op_opendir)) return real(path);
  refuse();
  return NULL;
}

#define MAP(name, offset_type)                                                          \
  void *name(void *at, size_t count, int access, int flags, int file, offset_type from) { \
    REAL(void *, name, void *, size_t, int, int, int, offset_type);                     \
    if (file < 0 || !fails(op_mmap)) return real(at, count, access, flags, file, from); \
    refuse();                                                                           \
    return MAP_FAILED;                                                                  \
  }
MAP(mmap, off_t)
MAP(mmap64, off64_t)

// The mode is there only where a file may be made.
#define OPEN(name)                                                    \
  int name(const char *path, int flags, ...) {                        \
    REAL(int, name, const char *, int, ...);                          \
    va_list rest;                                                     \
    va_start(rest, flags);                                            \
    mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0; \
    va_end(rest);                                                     \
    return fails(op_open) ? refuse() : real(path, flags, mode);       \
  }
OPEN(open)
OPEN(open64)

#define OPENAT(name)                                                  \
  int name(int folder, const char *path, int flags, ...) {            \
    REAL(int, name, int, const char *, int, ...);                     \
    va_list rest;                                                     \
    va_start(rest, flags);                                            \
    mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0; \
    va_end(rest);                                                     \
    return fails(op_openat) ? refuse() : real(folder, path, flags, mode); \
  }
OPENAT(openat)
OPENAT(openat64)
