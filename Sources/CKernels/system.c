#define _GNU_SOURCE
#include "sk_system.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

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
