// System calls by their names for Linux and macOS, each with what to do where it is missing.
#define _GNU_SOURCE
#include "sk_system.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#if defined(__linux__)
#include <sys/syscall.h>
#endif
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#if defined(__GLIBC__)
#include <malloc.h>
#elif defined(__APPLE__)
#include <malloc/malloc.h>
#endif

void sk_give_back_free_memory(void) {
#if defined(__GLIBC__)
  malloc_trim(0);
#elif defined(__APPLE__)
  malloc_zone_pressure_relief(0, 0);
#endif
}

#if defined(__linux__) && defined(SYS_renameat2)

int sk_rename_new(const char *from, const char *to) {
  return (int)syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 1u); // RENAME_NOREPLACE
}

int sk_exchange_names(const char *a, const char *b) {
  return (int)syscall(SYS_renameat2, AT_FDCWD, a, AT_FDCWD, b, 2u); // RENAME_EXCHANGE
}

#elif defined(__APPLE__)

int sk_rename_new(const char *from, const char *to) { return renamex_np(from, to, RENAME_EXCL); }
int sk_exchange_names(const char *a, const char *b) { return renamex_np(a, b, RENAME_SWAP); }

#else

int sk_rename_new(const char *from, const char *to) {
  (void)from, (void)to;
  errno = ENOSYS;
  return -1;
}

int sk_exchange_names(const char *a, const char *b) { return sk_rename_new(a, b); }

#endif

int sk_is_mount_point(const char *path) {
#if defined(__linux__) && defined(STATX_ATTR_MOUNT_ROOT)
  struct statx status;
  return statx(AT_FDCWD, path, AT_SYMLINK_NOFOLLOW, STATX_TYPE, &status) == 0 &&
         (status.stx_attributes_mask & STATX_ATTR_MOUNT_ROOT) && (status.stx_attributes & STATX_ATTR_MOUNT_ROOT);
#else
  (void)path;
  return 0;
#endif
}

int sk_is_ignored(int signal_number) {
  struct sigaction action;
  return sigaction(signal_number, NULL, &action) == 0 && action.sa_handler == SIG_IGN;
}

// What an allocation that fails ends in: the language's own trap or abort, or a fault of a library that did not look.
static const int fatal_signals[] = {SIGABRT, SIGILL, SIGTRAP, SIGSEGV};
enum { fatal_count = sizeof fatal_signals / sizeof fatal_signals[0] };
static struct sigaction fatal_before[fatal_count];

// Whether memory has run out: the thread's last failed call says so, or a modest mapping is refused.
static int is_out_of_memory(void) {
  const size_t modest = 8 << 20;
  if (errno == ENOMEM) return 1;
  void *probe = mmap(NULL, modest, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANON, -1, 0);
  if (probe == MAP_FAILED) return 1;
  munmap(probe, modest);
  return 0;
}

// SAFETY: runs as a signal handler: touches static memory only, reads `errno` before anything changes it, and calls write, _exit,
// sigaction and raise, which POSIX lists as async-signal-safe, and mmap and munmap, which are plain system calls.
static void fatal(int number, siginfo_t *info, void *context) {
  (void)context;
  static const char text[] =
      "error[io]: out of memory\n"
      "  help: give the program more memory (ulimit -v), or pass fewer --threads or a smaller --max-memory\n";
  if (is_out_of_memory()) {
    ssize_t ignored = write(2, text, sizeof text - 1);
    (void)ignored;
    _exit(74);
  }
  // Comes again, from the same place, to whoever was there before.
  for (int place = 0; place < fatal_count; place++) {
    if (fatal_signals[place] == number) sigaction(number, &fatal_before[place], NULL);
  }
  if (number == SIGABRT || info->si_code <= 0) raise(number);
}

void sk_report_out_of_memory(void) {
  struct sigaction action;
  memset(&action, 0, sizeof action);
  action.sa_sigaction = fatal;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
  sigemptyset(&action.sa_mask);
  for (int place = 0; place < fatal_count; place++) {
    sigaction(fatal_signals[place], &action, &fatal_before[place]);
  }
}

int sk_move_pages(void *from, void *to, size_t count) {
#if defined(__linux__)
  // Under a limit the system may take away what is mapped at `to` and fail then, and another thread's mapping may come there.
  struct rlimit limit;
  if (getrlimit(RLIMIT_AS, &limit) != 0 || limit.rlim_cur != RLIM_INFINITY) return -1;
  if (getrlimit(RLIMIT_DATA, &limit) != 0 || limit.rlim_cur != RLIM_INFINITY) return -1;
  const int flags = 1 | 2 | 4; // MREMAP_MAYMOVE, MREMAP_FIXED, MREMAP_DONTUNMAP, which older headers lack
  return mremap(from, count, count, flags, to) == MAP_FAILED ? -1 : 0;
#else
  (void)from, (void)to, (void)count;
  return -1;
#endif
}

#if defined(__linux__)

void sk_start_writeback(int descriptor, int64_t offset, int64_t length) {
  sync_file_range(descriptor, offset, length, SYNC_FILE_RANGE_WRITE);
}

void sk_drop_written(int descriptor, int64_t offset, int64_t length) {
  sync_file_range(descriptor, offset, length,
                  SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER);
  posix_fadvise(descriptor, offset, length, POSIX_FADV_DONTNEED);
}

int sk_bypass_cache(int descriptor, int bypass) {
  int flags = fcntl(descriptor, F_GETFL);
  return flags < 0 ? -1 : fcntl(descriptor, F_SETFL, bypass ? flags | O_DIRECT : flags & ~O_DIRECT);
}

#else

void sk_start_writeback(int descriptor, int64_t offset, int64_t length) {
  (void)descriptor, (void)offset, (void)length;
}

void sk_drop_written(int descriptor, int64_t offset, int64_t length) {
  (void)descriptor, (void)offset, (void)length;
}

int sk_bypass_cache(int descriptor, int bypass) {
#if defined(F_NOCACHE)
  return fcntl(descriptor, F_NOCACHE, bypass);
#else
  (void)descriptor, (void)bypass;
  return -1;
#endif
}

#endif
