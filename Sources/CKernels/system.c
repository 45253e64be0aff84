#define _GNU_SOURCE
#include "sk_system.h"

#include <fcntl.h>

#if defined(__linux__)

void sk_start_writeback(int descriptor, int64_t offset, int64_t length) {
  sync_file_range(descriptor, offset, length, SYNC_FILE_RANGE_WRITE);
}

void sk_drop_written(int descriptor, int64_t offset, int64_t length) {
  sync_file_range(descriptor, offset, length,
                  SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER);
  posix_fadvise(descriptor, offset, length, POSIX_FADV_DONTNEED);
}

#else

void sk_start_writeback(int descriptor, int64_t offset, int64_t length) {
  (void)descriptor, (void)offset, (void)length;
}

void sk_drop_written(int descriptor, int64_t offset, int64_t length) {
  (void)descriptor, (void)offset, (void)length;
}

#endif
