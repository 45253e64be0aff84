// What the instruction sets' codecs share: the header of a chunk in bit planes, read and chosen once. Formats/codecs.md.
#ifndef SK_CODECS_INTERNAL_H
#define SK_CODECS_INTERNAL_H

#include "include/CKernels.h"

#define SK_STAGES_MAX 4
#define SK_SYMBOLS_MAX 16
#define SK_STAGE_LISTS 6
#define SK_COUNT_ALL 16384 // of more symbols the first group of four is counted

// A chunk in bit planes, all of its parts inside the stored bytes or planned.
typedef struct {
  int list, stages;
  int bits[SK_STAGES_MAX];             // of a stage
  size_t counts[SK_STAGES_MAX + 1];    // symbols that come to a stage; behind the last one those stored as they are
  size_t planes[SK_STAGES_MAX + 1];    // where a stage's planes begin, and where the symbols stored as they are do
  size_t low;                          // where the bits that are no exponent begin
  size_t total;                        // stored length
  uint8_t symbols[SK_STAGES_MAX][8];   // of a stage
} sk_planes;

// `low_bytes`: of the bits that are no exponent. `limit`: symbols are below it.
int sk_planes_read(sk_planes *p, const uint8_t *stored, size_t stored_count, size_t n, size_t low_bytes, unsigned limit,
                   size_t *place);
// The list of stages, with their symbols, that n symbols of these counts take the fewest bytes in.
void sk_planes_choose(sk_planes *p, const uint32_t counts[256], size_t n);
// Writes the header, given list, symbols and the counts behind each stage.
void sk_planes_write(const sk_planes *p, uint8_t *dst);
// counts[b] = how often byte b is there, byte by byte: the slow twin of sk_count_bytes.
void sk_count_bytes_each(const uint8_t *src, size_t n, uint32_t counts[256]);
// [m]: byte i is the number of bits of m below bit i where bit i is set, else 0x80: what a byte shuffle spreads by.
extern const uint64_t sk_spread[256];

#endif
