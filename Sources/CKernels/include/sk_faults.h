// Pages of mapped files that cannot be read: the file was cut short while it was mapped, or the disk failed. The system tells by a
// signal, and the process ends with an error like any other.
#ifndef SK_FAULTS_H
#define SK_FAULTS_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct sk_mapping sk_mapping;

// SAFETY: what the handler reads must be whole at any instant, since a signal comes between any two instructions. Notes lie in
// blocks that are never freed and are published by one atomic store; the handler takes no lock, allocates nothing and calls only
// what POSIX lists as async-signal-safe. `start...length` must be mapped as long as the note is there (`MappedFile` removes the
// note first, then the mapping), and the thread that faults holds the mapping, so its note cannot go while it is read.

// Notes a mapped file; null when there is no memory. `shown` is the path as it may be printed; `size`, `modified` (nanoseconds),
// `device` and `inode` are what the file was when it was mapped. From any thread.
sk_mapping *sk_mapping_add(const void *start, size_t length, const char *path, const char *shown, int64_t size,
                           int64_t modified, uint64_t device, uint64_t inode);
// Forgets a mapping; it must still be there. Null is allowed.
void sk_mapping_remove(sk_mapping *mapping);

// Catches SIGBUS from now on: where the address lies in a noted file, the error and its file are written to stderr and the process
// ends, with status 2 when the file is no longer what it was, else 74. Elsewhere the signal has the effect it had before.
void sk_fault_install(void);
// What is written before the error: a string that clears the line of a progress bar. SAFETY: it must live as long as the
// process (a literal does), since the handler reads it at any time.
void sk_fault_clear_line(const char *text);
// Counts, up and down, the journals that another run could resume from: the error offers it then.
void sk_fault_count_journals(int change);

#ifdef __cplusplus
}
#endif
#endif
