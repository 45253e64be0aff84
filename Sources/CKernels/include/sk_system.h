// System calls whose names Swift does not see.
//
// SAFETY: paths end with a zero byte and are read during the call only. A descriptor that is not open gives an error, which the
// callers of the two without a result need not know: they are hints. sk_bypass_cache changes the flags of the open file, so that
// one thread at a time may write through it (`WriteBehind` has one), from memory and to offsets that are multiples of the block
// size. sk_report_out_of_memory installs handlers that touch static memory only. Both ranges of sk_move_pages are whole pages of private
// mappings that the caller owns, do not overlap, and are touched by no other thread meanwhile.
#ifndef SK_SYSTEM_H
#define SK_SYSTEM_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

// Returns what the allocator keeps free to the system.
void sk_give_back_free_memory(void);
// Catches the signals that end a program whose memory has run out: one line for a person and exit status 74 then; any other end
// is left to whoever caught it before.
void sk_report_out_of_memory(void);
// Starts writing dirty pages of a range to the disk, and returns at once. Does nothing where the system has no such call.
void sk_start_writeback(int descriptor, int64_t offset, int64_t length);
// Waits until a range is on the disk, then lets its pages go. Does nothing where the system has no such call.
void sk_drop_written(int descriptor, int64_t offset, int64_t length);
// Lets writes go past the page cache, or through it again: whole blocks from aligned memory then, on Linux. Returns -1 where the
// system or the file's own has no such way.
int sk_bypass_cache(int descriptor, int bypass);
// 1 if the process ignores the signal.
int sk_is_ignored(int signal_number);
// Renames unless the new name is taken. Returns -1 with errno; ENOSYS, EINVAL or ENOTSUP where the system or the file's own cannot.
int sk_rename_new(const char *from, const char *to);
// Lets two names of one disk change places in one step. Returns as sk_rename_new.
int sk_exchange_names(const char *a, const char *b);
// 1 if the system says that something is mounted at the path; 0 also where it cannot say.
int sk_is_mount_point(const char *path);

// Moves the memory behind a range of addresses to another one, whose own is given up. The old addresses stay mapped, with nothing behind
// them. Returns -1 where the system cannot (macOS, Linux before 5.7); without memory of its own it may have given up what was mapped at
// `to`, and nothing else.
int sk_move_pages(void *from, void *to, size_t count);

// Tells the core that this thread waits in a loop.
static inline void sk_pause(void) {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

#ifdef __cplusplus
}
#endif
#endif
