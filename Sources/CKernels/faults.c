#define _GNU_SOURCE
#include "sk_faults.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

// ---- the mappings: blocks that are added and never freed, so that the handler reads them without a lock ----

enum { FREE, CHANGING, USED };

struct sk_mapping {
  _Atomic int state;
  uintptr_t start;
  size_t length;
  char *path, *shown;
  int64_t size, modified;
  uint64_t device, inode;
};

#define BLOCK 64

typedef struct block {
  sk_mapping mappings[BLOCK];
  struct block *_Atomic next;
} block;

static block first_block;

sk_mapping *sk_mapping_add(const void *start, size_t length, const char *path, const char *shown, int64_t size,
                           int64_t modified, uint64_t device, uint64_t inode) {
  char *own_path = strdup(path), *own_shown = strdup(shown);
  if (!own_path || !own_shown) {
    free(own_path), free(own_shown);
    return NULL;
  }
  for (block *b = &first_block;;) {
    for (int i = 0; i < BLOCK; i++) {
      sk_mapping *m = &b->mappings[i];
      int expected = FREE;
      if (!atomic_compare_exchange_strong_explicit(&m->state, &expected, CHANGING, memory_order_acquire,
                                                   memory_order_relaxed))
        continue;
      m->start = (uintptr_t)start;
      m->length = length;
      m->path = own_path, m->shown = own_shown;
      m->size = size, m->modified = modified;
      m->device = device, m->inode = inode;
      atomic_store_explicit(&m->state, USED, memory_order_release);
      return m;
    }
    block *next = atomic_load_explicit(&b->next, memory_order_acquire);
    if (!next) {
      block *fresh = calloc(1, sizeof *fresh);
      if (!fresh) {
        free(own_path), free(own_shown);
        return NULL;
      }
      if (atomic_compare_exchange_strong_explicit(&b->next, &next, fresh, memory_order_acq_rel, memory_order_acquire))
        next = fresh;
      else
        free(fresh);
    }
    b = next;
  }
}

// SAFETY: CHANGING first, so that a handler on another thread does not read a path that is being freed.
void sk_mapping_remove(sk_mapping *m) {
  if (!m) return;
  atomic_store_explicit(&m->state, CHANGING, memory_order_release);
  free(m->path), free(m->shown);
  m->path = m->shown = NULL;
  m->start = 0, m->length = 0;
  atomic_store_explicit(&m->state, FREE, memory_order_release);
}

// The mapping that holds an address. A thread that reads it keeps the mapping, and with it what is noted of it, alive.
static const sk_mapping *find(uintptr_t address) {
  for (block *b = &first_block; b; b = atomic_load_explicit(&b->next, memory_order_acquire))
    for (int i = 0; i < BLOCK; i++) {
      const sk_mapping *m = &b->mappings[i];
      if (atomic_load_explicit(&m->state, memory_order_acquire) == USED && address >= m->start &&
          address - m->start < m->length)
        return m;
    }
  return NULL;
}

// ---- the handler: nothing but calls that POSIX allows in one ----

static struct sigaction before;
static const char *_Atomic clear_line;
static _Atomic int journals;
static _Atomic int is_ending;
static char text[16384];
static size_t used;

// The message is put together in static memory: no allocation, and only one thread gets past is_ending.
static void put(const char *s) {
  while (*s && used < sizeof text) text[used++] = *s++;
}

static void put_number(int64_t n) {
  char digits[24];
  int i = sizeof digits - 1;
  uint64_t left = n < 0 ? 0 : (uint64_t)n;
  digits[i] = 0;
  do digits[--i] = (char)('0' + left % 10);
  while (left /= 10);
  put(digits + i);
}

static int64_t modified_of(const struct stat *s) {
#if defined(__APPLE__)
  return (int64_t)s->st_mtimespec.tv_sec * 1000000000 + s->st_mtimespec.tv_nsec;
#else
  return (int64_t)s->st_mtim.tv_sec * 1000000000 + s->st_mtim.tv_nsec;
#endif
}

static void finish(const sk_mapping *m, uintptr_t address) {
  struct stat s;
  const int is_gone = stat(m->path, &s) != 0;
  const int is_other =
      is_gone || (uint64_t)s.st_dev != m->device || (uint64_t)s.st_ino != m->inode;
  const int is_changed = is_other || s.st_size != m->size || modified_of(&s) != m->modified;
  const int can_resume = atomic_load_explicit(&journals, memory_order_relaxed) > 0;
  const char *clear = atomic_load_explicit(&clear_line, memory_order_relaxed);
  if (clear) put(clear);
  if (is_changed) {
    put("error[SRC_CHANGED]: ");
    if (is_gone)
      put("the file is gone; it was there when the work began");
    else if (is_other)
      put("another file has its name now");
    else {
      put("found ");
      put_number(s.st_size);
      put(" bytes, expected ");
      put_number(m->size);
      put(" with the time of the start");
    }
    put("\n  in ");
    put(m->shown);
    put(", byte ");
    put_number((int64_t)(address - m->start));
    put(can_resume ? "\n  help: what is done is kept; put the file back with its old size and time, and give the same command "
                     "with --resume\n"
                   : "\n  help: wait until nothing writes to the source\n");
  } else {
    put("error[io]: cannot read '");
    put(m->shown);
    put("' at byte ");
    put_number((int64_t)(address - m->start));
    put(": the disk failed");
    put(can_resume ? "\n  help: what is done is kept; give the same command with --resume to go on\n"
                   : "\n  help: check the disk, or copy the file elsewhere\n");
  }
  for (size_t done = 0; done < used;) {
    const ssize_t step = write(2, text + done, used - done);
    if (step < 0 && errno == EINTR) continue;
    if (step <= 0) break;
    done += (size_t)step;
  }
  _exit(is_changed ? 2 : 74);
}

static void fault(int number, siginfo_t *info, void *context) {
  (void)context;
  int is_sent = 0;
#if defined(__linux__)
  is_sent = info->si_code <= 0;
#endif
  const uintptr_t address = (uintptr_t)info->si_addr;
  const sk_mapping *m = is_sent ? NULL : find(address);
  if (!m) {
    // The instruction faults again when this returns; a signal that somebody sent has to be sent again.
    const int code = errno;
    sigaction(number, &before, NULL);
    if (is_sent) raise(number);
    errno = code;
    return;
  }
  if (atomic_exchange(&is_ending, 1))
    for (;;) pause();
  finish(m, address);
}

void sk_fault_install(void) {
  struct sigaction action;
  memset(&action, 0, sizeof action);
  action.sa_sigaction = fault;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  sigemptyset(&action.sa_mask);
  sigaction(SIGBUS, &action, &before);
}

void sk_fault_clear_line(const char *line) { atomic_store_explicit(&clear_line, line, memory_order_relaxed); }

void sk_fault_count_journals(int change) { atomic_fetch_add_explicit(&journals, change, memory_order_relaxed); }
