// The header of a chunk in bit planes, Formats/codecs.md, section 4: read with suspicion, chosen from counts.
#include "codecs.h"

#include <string.h>

static const struct { int stages, bits[SK_STAGES_MAX]; } lists[SK_STAGE_LISTS] = {
    {3, {2, 2, 3}}, {2, {2, 3}}, {1, {3}}, {2, {3, 3}}, {4, {1, 2, 2, 3}}, {4, {2, 2, 2, 3}},
};

// The table is made by the preprocessor: constant data, no start-up, 2 KiB.
#define RANK(m, i) ((uint64_t)((m) >> (i) & 1 ? __builtin_popcount((m) & ((1 << (i)) - 1)) : 0x80) << (8 * (i)))
#define SPREAD(m) RANK(m, 0) | RANK(m, 1) | RANK(m, 2) | RANK(m, 3) | RANK(m, 4) | RANK(m, 5) | RANK(m, 6) | RANK(m, 7)
#define SPREAD4(m) SPREAD(m), SPREAD((m) + 1), SPREAD((m) + 2), SPREAD((m) + 3)
#define SPREAD16(m) SPREAD4(m), SPREAD4((m) + 4), SPREAD4((m) + 8), SPREAD4((m) + 12)
#define SPREAD64(m) SPREAD16(m), SPREAD16((m) + 16), SPREAD16((m) + 32), SPREAD16((m) + 48)
const uint64_t sk_spread[256] = {SPREAD64(0), SPREAD64(64), SPREAD64(128), SPREAD64(192)};

static uint32_t get32(const uint8_t *p) { return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24; }

static size_t plane_bytes(size_t count, int bits) { return (count + 63) / 64 * 8 * (size_t)bits; }

// Two halves that stages decode into in turn, each with room for a whole group and a vector beyond n.
size_t sk_codec_scratch(size_t n) { return 2 * (n + 256); }

// Places follow from counts.
static void lay_out(sk_planes *p, size_t low_bytes) {
  size_t at = SK_PLANES_HEADER;
  p->low = at;
  at += low_bytes;
  for (int s = 0; s < p->stages; s++) {
    p->planes[s] = at;
    at += plane_bytes(p->counts[s], p->bits[s]);
  }
  p->planes[p->stages] = at;
  p->total = at + p->counts[p->stages];
}

static void take_list(sk_planes *p, int list) {
  p->list = list;
  p->stages = lists[list].stages;
  memcpy(p->bits, lists[list].bits, sizeof p->bits);
}

// SAFETY: reads nothing behind the header, and gives SK_FAULT_NONE only where counts do not grow from stage to stage, none is above
// n <= SK_CODEC_MAX, and all parts laid out end to end are stored_count bytes: then every place it gives lies inside. Sums do
// not overflow: at most five parts of less than 2^22 bytes.
int sk_planes_read(sk_planes *p, const uint8_t *stored, size_t stored_count, size_t n, size_t low_bytes, unsigned limit,
                   size_t *place) {
  *place = 0;
  if (stored_count < SK_PLANES_HEADER || n > SK_CODEC_MAX) return SK_FAULT_LENGTH;
  if (stored[0] >= SK_STAGE_LISTS) return SK_FAULT_STAGES;
  take_list(p, stored[0]);
  for (*place = 1; *place < 4; ++*place)
    if (stored[*place] != 0) return SK_FAULT_PADDING;
  p->counts[0] = n;
  for (int s = 0; s < SK_STAGES_MAX; s++) {
    *place = 4 + 4 * (size_t)s;
    const uint32_t count = get32(stored + *place);
    if (count > (s < p->stages ? p->counts[s] : 0)) return SK_FAULT_COUNT;
    if (s < p->stages) p->counts[s + 1] = count;
  }
  const uint8_t *symbols = stored + 20;
  int used = 0;
  for (int s = 0; s < p->stages; s++)
    for (int c = 0; c < (1 << p->bits[s]) - 1; c++, used++) {
      *place = 20 + (size_t)used;
      if (symbols[used] >= limit) return SK_FAULT_SYMBOL;
      p->symbols[s][c] = symbols[used];
    }
  for (; used < SK_SYMBOLS_MAX; used++) {
    *place = 20 + (size_t)used;
    if (symbols[used] != 0) return SK_FAULT_PADDING;
  }
  lay_out(p, low_bytes);
  *place = stored_count;
  return p->total == stored_count ? SK_FAULT_NONE : SK_FAULT_LENGTH;
}

// Tries all lists of stages on the counts alone: what each stage holds and leaves over follows from how often its symbols occur.
void sk_planes_choose(sk_planes *p, const uint32_t counts[256], size_t n) {
  // The most frequent symbols in order; of two as frequent, the smaller first. What never occurs is code 0 of its place.
  uint8_t order[SK_SYMBOLS_MAX] = {0};
  uint32_t often[SK_SYMBOLS_MAX] = {0};
  for (int b = 0; b < 256; b++) {
    int i = SK_SYMBOLS_MAX;
    while (i > 0 && often[i - 1] < counts[b]) i--;
    if (i == SK_SYMBOLS_MAX) continue;
    memmove(often + i + 1, often + i, (size_t)(SK_SYMBOLS_MAX - 1 - i) * sizeof *often);
    memmove(order + i + 1, order + i, (size_t)(SK_SYMBOLS_MAX - 1 - i));
    often[i] = counts[b];
    order[i] = (uint8_t)b;
  }
  sk_planes best = {0};
  for (int list = 0; list < SK_STAGE_LISTS; list++) {
    sk_planes trial = {0};
    take_list(&trial, list);
    trial.counts[0] = n;
    int used = 0;
    for (int s = 0; s < trial.stages; s++) {
      trial.counts[s + 1] = trial.counts[s];
      for (int c = 0; c < (1 << trial.bits[s]) - 1; c++, used++) {
        trial.counts[s + 1] -= often[used];
        trial.symbols[s][c] = order[used];
      }
    }
    lay_out(&trial, 0);
    if (list == 0 || trial.total < best.total) best = trial;
  }
  *p = best;
}

void sk_planes_write(const sk_planes *p, uint8_t *dst) {
  memset(dst, 0, SK_PLANES_HEADER);
  dst[0] = (uint8_t)p->list;
  uint8_t *symbols = dst + 20;
  for (int s = 0; s < p->stages; s++) {
    for (int i = 0; i < 4; i++) dst[4 + 4 * s + i] = (uint8_t)(p->counts[s + 1] >> (8 * i));
    for (int c = 0; c < (1 << p->bits[s]) - 1; c++) *symbols++ = p->symbols[s][c];
  }
}

int sk_nibbles_padded(const uint8_t *nibbles, size_t n) {
  const size_t rest = n % 64;
  if (rest == 0) return 1;
  const uint8_t *last = nibbles + n / 64 * 32;
  int found = 0;
  for (size_t j = 0; j < 32; j++) found |= (j >= rest ? last[j] & 0x0f : 0) | (j + 32 >= rest ? last[j] & 0xf0 : 0);
  return found == 0;
}

void sk_count_bytes_each(const uint8_t *src, size_t n, uint32_t counts[256]) {
  uint32_t part[8][256] = {{0}}; // runs of one byte would wait for each other
  size_t i = 0;
  for (; i + 8 <= n; i += 8) {
    uint64_t v;
    memcpy(&v, src + i, 8);
    part[0][v & 255]++;
    part[1][v >> 8 & 255]++;
    part[2][v >> 16 & 255]++;
    part[3][v >> 24 & 255]++;
    part[4][v >> 32 & 255]++;
    part[5][v >> 40 & 255]++;
    part[6][v >> 48 & 255]++;
    part[7][v >> 56]++;
  }
  for (; i < n; i++) part[0][src[i]]++;
  for (int b = 0; b < 256; b++)
    counts[b] = part[0][b] + part[1][b] + part[2][b] + part[3][b] + part[4][b] + part[5][b] + part[6][b] + part[7][b];
}

// A window of fifteen exponents that moves over the counts: base - 14...base, which nibbles 14...0 stand for. The first of the
// fullest. Exponents are gathered 4096 at a time, so that they stay on the stack.
uint8_t sk_pairs16_base(const uint8_t *src, size_t n) {
  uint32_t counts[256] = {0}, more[256];
  for (size_t i = 0; i < n; i += 4096) {
    const size_t m = n - i < 4096 ? n - i : 4096;
    uint8_t exponents[4096];
    for (size_t j = 0; j < m; j++) {
      uint16_t v;
      memcpy(&v, src + 2 * (i + j), 2);
      exponents[j] = (uint8_t)(v >> 7);
    }
    sk_count_bytes(exponents, m, more);
    for (int b = 0; b < 256; b++) counts[b] += more[b];
  }
  uint64_t inside = 0, most = 0;
  int base = 14;
  for (int b = 0; b < 256; b++) {
    inside += counts[b];
    if (b >= 15) inside -= counts[b - 15];
    if (b >= 14 && inside > most) {
      most = inside;
      base = b;
    }
  }
  return (uint8_t)base;
}

// The logarithm to base 2 with 8 bits behind the point, by squaring: each square that is 2 or more is a bit.
static uint32_t log2_fixed(uint32_t x) {
  const int whole = 31 - __builtin_clz(x);
  uint64_t m = (uint64_t)x << (31 - whole);
  uint32_t result = (uint32_t)whole << 8;
  for (int bit = 7; bit >= 0; bit--) {
    m = m * m >> 31;
    if (m >> 32 == 0) continue;
    result |= 1u << bit;
    m >>= 1;
  }
  return result;
}

#define SEEN_BITS 13
#define PICKED_SHIFT 61 // one run in eight
#define RUNS 1024       // that are picked from at a time

// Runs of 6 bytes that were there before are found by their hash, one in eight of them: which ones follows from the bytes alone, so that a
// repetition is noticed at any distance. A run of 6 bytes covers 6 where it stands alone, and one where it is part of a longer one.
size_t sk_least_searched(const uint8_t *src, size_t n, size_t element) {
  uint32_t counts[256], seen[1 << SEEN_BITS] = {0};
  if (n == 0) return 0;
  sk_count_bytes_each(src, n, counts);
  const uint32_t all = log2_fixed((uint32_t)n);
  uint64_t bits = 0; // of all bytes, with 8 bits behind the point
  for (int b = 0; b < 256; b++)
    if (counts[b] > 0) bits += (uint64_t)counts[b] * (all - log2_fixed(counts[b]));
  uint64_t looked = 0, found = 0;
  for (size_t i = 0; i + 8 <= n;) {
    uint64_t picked[RUNS]; // without a branch, which no processor could foresee
    size_t count = 0;
    for (size_t runs = 0; runs < RUNS && i + 8 <= n; runs++, i += element) {
      uint64_t v;
      memcpy(&v, src + i, 8);
      const uint64_t hash = (v << 16) * 0x9e3779b97f4a7c15u;
      picked[count] = hash;
      count += hash >> PICKED_SHIFT == 0;
    }
    for (size_t k = 0; k < count; k++) {
      const uint32_t tag = (uint32_t)(picked[k] >> 16) | 1;
      uint32_t *const place = seen + (picked[k] >> (PICKED_SHIFT - SEEN_BITS));
      found += *place == tag;
      *place = tag;
    }
    looked += count;
  }
  const uint64_t all_runs = n < 8 ? 0 : (n - 8) / element + 1;
  const uint64_t bytes = bits >> 11;
  // Where far fewer than one in eight were picked, there are few different ones: a short period.
  if (16 * looked < all_runs || (found > 0 && 6 * found >= looked)) return 0;
  return looked == 0 ? bytes : bytes - bytes * 6 * found / looked;
}
