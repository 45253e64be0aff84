#define _GNU_SOURCE
#include "sk_system.h"

#include <fcntl.h>

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
