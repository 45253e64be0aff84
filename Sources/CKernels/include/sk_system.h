// System calls whose names Swift does not see.
#ifndef SK_SYSTEM_H
#define SK_SYSTEM_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

// Returns what the allocator keeps free to the system.
void sk_give_back_free_memory(void);
// Starts writing dirty pages of a range to the disk, and returns at once. Does nothing where the system has no such call.
void sk_start_writeback(int descriptor, int64_t offset, int64_t length);
// Waits until a range is on the disk, then lets its pages go. Does nothing where the system has no such call.
void sk_drop_written(int descriptor, int64_t offset, int64_t length);
// Lets writes go past the page cache, or through it again: whole blocks from aligned memory then, on Linux. Returns -1 where the
// system or the file's own has no such way.
int sk_bypass_cache(int descriptor, int bypass);

#ifdef __cplusplus
}
#endif
#endif
