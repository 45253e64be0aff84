// Where the kernels of sequence.h keep what they work on: one list that gives both the places and their sum.
#ifndef SK_SEQUENCE_LAYOUT_H
#define SK_SEQUENCE_LAYOUT_H

#include "include/sk_sequence.h"

#define SK_SCORE_STRIDE 80 // floats from one row of scores to the next: SK_CHUNK, and 16 that keep rows off one set of the cache

// Rows are whole vectors of 16 floats, zeros beyond the width, and begin at multiples of 64 bytes.
typedef struct {
  size_t keys, values;              // widths, rounded up to 16
  size_t key_stride, value_stride;  // from row to row
  size_t chunk;                     // tokens that are run together, rounded up to 16
  float *both;                      // [2 chunks, keys]: keys, then queries
  float *decayed, *from_start;      // [chunk, keys] and [2 chunks, keys], for a decay by channel
  float *factors, *run, *total;     // [keys] each, for a decay by channel
  float *spare;                     // [keys, 16]: columns that do not fill a vector
  float *raw;                       // [2 chunks, SK_SCORE_STRIDE]: keys by keys, then queries by keys
  float *weighed;                   // the same for one head
  float *sums;                      // [2 chunks, values]: what the state gives for keys and for queries
  float *updates;                   // [chunk, values]
  float *state;                     // [heads, keys, values]
  size_t floats;
} sk_layout;

static inline sk_layout layout_of(const sk_mixing *m, float *scratch) {
  sk_layout l = {.keys = (m->key_width + 15) / 16 * 16, .values = (m->value_width + 15) / 16 * 16};
  l.key_stride = l.keys + 16;
  l.value_stride = l.values + 16;
  l.chunk = m->tokens < SK_CHUNK ? (m->tokens + 15) / 16 * 16 : SK_CHUNK;
  const int few = m->tokens < SK_FEW_TOKENS, channels = m->each_channel && !few;
  size_t place = 0;
#define SK_PLACE(name, count)                                                                                        \
  l.name = scratch ? scratch + place : NULL;                                                                         \
  place += (count);
  SK_PLACE(both, 2 * l.chunk * l.key_stride)
  SK_PLACE(decayed, channels ? l.chunk * l.key_stride : 0)
  SK_PLACE(from_start, channels ? 2 * l.chunk * l.key_stride : 0)
  SK_PLACE(factors, l.key_stride)
  SK_PLACE(run, l.key_stride)
  SK_PLACE(total, l.key_stride)
  SK_PLACE(spare, 16 * l.keys)
  SK_PLACE(raw, few ? 0 : 2 * l.chunk * SK_SCORE_STRIDE)
  SK_PLACE(weighed, few ? 0 : 2 * l.chunk * SK_SCORE_STRIDE)
  SK_PLACE(sums, few ? 0 : 2 * l.chunk * l.value_stride)
  SK_PLACE(updates, few ? 0 : l.chunk * l.value_stride)
  SK_PLACE(state, few && m->state ? 0 : m->heads * l.keys * l.value_stride)
#undef SK_PLACE
  l.floats = place;
  return l;
}

#endif
