// Bit planes with escapes and pairs of nibbles, Formats/codecs.md, on the groups of codec_group_*.h. Part of body.h.
#include "codecs.h"

#define SK_CODEC_PLAIN 0
#define SK_CODEC_AVX2 1
#define SK_CODEC_VBMI2 2
#define SK_CODEC_NEON 3
#if SK_CODEC == SK_CODEC_VBMI2
#include "codec_group_vbmi2.h"
#elif SK_CODEC == SK_CODEC_AVX2
#include "codec_group_avx2.h"
#elif SK_CODEC == SK_CODEC_NEON
#include "codec_group_neon.h"
#else
#include "codec_group_plain.h"
#endif

// How a chunk in bit planes is read. A stage gives each symbol that comes to it a code of 1 to 3 bits: all bits set means "not
// one of mine", an escape, which the next stage codes; what escapes the last stage is stored as a byte. Bit j of symbols 64i...
// 64i + 63 is word `bits * i + j` of the stage. So the last stage is decoded first, and each stage merges what the one behind it
// gave into the places that escape: a vector operation for 64 symbols, no branch on data. On AVX-512 a stage is a mask
// expansion; elsewhere a table of byte shuffles (sk_spread) does eight symbols at a time.

// What becomes of a group's symbols.
enum { TO_SYMBOLS, TO_BF16, TO_FP8 };

// One stage: its planes, and where its escapes come from. Whole groups go straight to dst; what is left goes through `last`.
// SAFETY: `planes` has whole groups (sk_planes_read laid them out inside the stored bytes). `next` may be read 64 bytes beyond
// next_count, where scratch memory has room: a group is decoded before its escapes are counted, and refused when they are too
// many, so `taken` never passes next_count. With TO_SYMBOLS, dst may be written up to a whole group; else it is written n
// elements exactly, and `low` is read to its n elements, or to the whole last group of nibbles.
SK_INLINE int decode_stage(const uint8_t *planes, const size_t n, const int bits, const uint8_t *symbols, const uint8_t *next,
                           const size_t next_count, const int to, const uint8_t *low, uint8_t *dst) {
  uint64_t words[3], escapes;
  size_t taken = 0, i = 0;
  for (; i + 64 <= n; i += 64, planes += 8 * bits) {
    memcpy(words, planes, 8 * (size_t)bits);
    const group g = group_decode(words, bits, symbols, next + taken, &escapes);
    taken += (size_t)__builtin_popcountll(escapes);
    if (taken > next_count) return SK_FAULT_ESCAPES;
    if (to == TO_SYMBOLS) group_store(dst + i, g);
    if (to == TO_BF16) group_join16(g, low + i, dst + 2 * i);
    if (to == TO_FP8) group_join8(g, low + i / 2, dst + i);
  }
  const size_t rest = n - i;
  if (rest > 0) {
    uint8_t last_low[64] = {0}, last[128];
    memcpy(words, planes, 8 * (size_t)bits);
    for (int j = 0; j < bits; j++)
      if (words[j] >> rest != 0) return SK_FAULT_PADDING;
    const group g = group_decode(words, bits, symbols, next + taken, &escapes);
    taken += (size_t)__builtin_popcountll(escapes);
    if (taken > next_count) return SK_FAULT_ESCAPES;
    if (to == TO_SYMBOLS) group_store(dst + i, g);
    if (to == TO_BF16) {
      memcpy(last_low, low + i, rest);
      group_join16(g, last_low, last);
      memcpy(dst + 2 * i, last, 2 * rest);
    }
    if (to == TO_FP8) {
      group_join8(g, low + i / 2, last);
      memcpy(dst + i, last, rest);
    }
  }
  return taken == next_count ? SK_FAULT_NONE : SK_FAULT_ESCAPES;
}

// `bits` becomes a constant of the loop: three loops for each purpose.
#define SK_STAGE(name, to)                                                                                           \
  static int name(const uint8_t *planes, size_t n, int bits, const uint8_t *symbols, const uint8_t *next,             \
                  size_t next_count, const uint8_t *low, uint8_t *dst) {                                             \
    return bits == 1   ? decode_stage(planes, n, 1, symbols, next, next_count, to, low, dst)                         \
           : bits == 2 ? decode_stage(planes, n, 2, symbols, next, next_count, to, low, dst)                         \
                       : decode_stage(planes, n, 3, symbols, next, next_count, to, low, dst);                        \
  }
SK_STAGE(decode_stage_symbols, TO_SYMBOLS)
SK_STAGE(decode_stage_bf16, TO_BF16)
SK_STAGE(decode_stage_fp8, TO_FP8)

// Decodes the stages from the last to the second into the halves of `scratch` in turn; gives where the escapes of the first
// lie. `shift`: how far left symbols stand in an element; done here to the symbols, once, and not to every element.
// SAFETY: a half has n + 256 bytes: the most that escape, n, and the 64 that a last group may read or write beyond.
static int decode_later_stages(sk_planes *p, const uint8_t *stored, int shift, unsigned limit, uint8_t *scratch, size_t n,
                               const uint8_t **escapes, size_t *place) {
  uint8_t *halves[2] = {scratch, scratch + n + 256};
  int half = 0;
  for (int s = 0; s < p->stages; s++)
    for (int c = 0; c < 8; c++) p->symbols[s][c] = (uint8_t)(p->symbols[s][c] << shift);
  const uint8_t *rest = stored + p->planes[p->stages];
  for (size_t i = 0; i < p->counts[p->stages]; i++) {
    *place = p->planes[p->stages] + i;
    if (rest[i] >= limit) return SK_FAULT_SYMBOL;
    halves[0][i] = (uint8_t)(rest[i] << shift);
  }
  for (int s = p->stages - 1; s > 0; s--) {
    *place = p->planes[s];
    const int fault = decode_stage_symbols(stored + p->planes[s], p->counts[s], p->bits[s], p->symbols[s], halves[half],
                                           p->counts[s + 1], NULL, halves[1 - half]);
    if (fault != SK_FAULT_NONE) return fault;
    half = 1 - half;
  }
  *escapes = halves[half];
  *place = p->planes[0];
  return SK_FAULT_NONE;
}

static int k_planes16_decode(const uint8_t *stored, size_t stored_count, uint8_t *dst, size_t n, uint8_t *scratch,
                             size_t *place) {
  sk_planes p = {0};
  const uint8_t *escapes = NULL;
  int fault = sk_planes_read(&p, stored, stored_count, n, n, 256, place);
  if (fault == SK_FAULT_NONE) fault = decode_later_stages(&p, stored, 0, 256, scratch, n, &escapes, place);
  if (fault != SK_FAULT_NONE) return fault;
  return decode_stage_bf16(stored + p.planes[0], n, p.bits[0], p.symbols[0], escapes, p.counts[1], stored + p.low, dst);
}

static int k_planes8_decode(const uint8_t *stored, size_t stored_count, uint8_t *dst, size_t n, uint8_t *scratch,
                            size_t *place) {
  sk_planes p = {0};
  const uint8_t *escapes = NULL;
  int fault = sk_planes_read(&p, stored, stored_count, n, SK_NIBBLE_BYTES(n), 16, place);
  if (fault == SK_FAULT_NONE) fault = decode_later_stages(&p, stored, 3, 16, scratch, n, &escapes, place);
  if (fault != SK_FAULT_NONE) return fault;
  if (!sk_nibbles_padded(stored + p.low, n)) {
    *place = p.low + n / 64 * 32;
    return SK_FAULT_PADDING;
  }
  return decode_stage_fp8(stored + p.planes[0], n, p.bits[0], p.symbols[0], escapes, p.counts[1], stored + p.low, dst);
}

// One stage of n symbols. `out` may be `src`: at most as many escapes are written as symbols were read.
// SAFETY: whole groups are read, so 63 bytes behind the n-th belong to src; `valid` keeps them from counting.
SK_INLINE size_t encode_stage_bits(const uint8_t *src, size_t n, const int bits, const uint8_t *symbols, uint8_t *planes,
                                   uint8_t *out) {
  uint64_t words[3];
  size_t count = 0;
  for (size_t i = 0; i < n; i += 64, planes += 8 * bits) {
    const uint64_t valid = n - i < 64 ? (1ull << (n - i)) - 1 : ~0ull;
    count += group_encode(src + i, bits, symbols, valid, words, out + count);
    memcpy(planes, words, 8 * (size_t)bits);
  }
  return count;
}

// Writes all stages of n symbols behind low bits that end at `at`, and the header. `symbols` loses them on the way; room for 64 more is
// behind it. Gives how many bytes the chunk has, or 0 where it has more than `capacity`.
static size_t encode_stages(sk_planes *p, uint8_t *symbols, size_t n, uint8_t *dst, size_t at, size_t capacity) {
  for (int s = 0; s < p->stages; s++) {
    const size_t bytes = (n + 63) / 64 * 8 * (size_t)p->bits[s];
    const uint8_t *codes = p->symbols[s];
    uint8_t *planes = dst + at;
    if (bytes > capacity - at) return 0;
    n = p->bits[s] == 1   ? encode_stage_bits(symbols, n, 1, codes, planes, symbols)
        : p->bits[s] == 2 ? encode_stage_bits(symbols, n, 2, codes, planes, symbols)
                          : encode_stage_bits(symbols, n, 3, codes, planes, symbols);
    p->counts[s + 1] = n;
    at += bytes;
  }
  if (n > capacity - at) return 0;
  memcpy(dst + at, symbols, n);
  sk_planes_write(p, dst);
  return at + n;
}

// The parts of BF16 numbers.
SK_INLINE void split16_parts(const uint8_t *restrict src, size_t n, uint8_t *restrict exponents, uint8_t *restrict low) {
  for (size_t i = 0; i < n; i++) {
    const uint32_t v = load16(src + 2 * i);
    exponents[i] = (uint8_t)(v >> 7);
    low[i] = (uint8_t)(v << 1 | v >> 15);
  }
}

#define COUNT_LANES 64
#define COUNT_RUN 4096 // a lane of a byte counts at most 255
#define COUNT_HEAD 1024 // what the window is chosen from
#define COUNT_WINDOW 16

// How often each of four bytes from `first` is there in whole lanes, at most 255 of them.
SK_INLINE void count_four(const uint8_t *restrict src, size_t n, const uint8_t first, uint32_t *restrict found) {
  uint8_t lanes[4][COUNT_LANES] = {{0}};
  for (size_t i = 0; i < n; i += COUNT_LANES)
    for (int s = 0; s < 4; s++)
      for (int j = 0; j < COUNT_LANES; j++) lanes[s][j] += src[i + (size_t)j] == (uint8_t)(first + s);
  for (int s = 0; s < 4; s++) {
    uint32_t sum = 0;
    for (int j = 0; j < COUNT_LANES; j++) sum += lanes[s][j];
    found[s] = sum;
  }
}

// Exponents lie side by side: the sixteen that the start has most of are counted many at once, and others one by one.
static void k_count_bytes(const uint8_t *src, size_t n, uint32_t *counts) {
  const size_t head = n < COUNT_HEAD ? n : COUNT_HEAD;
  sk_count_bytes_each(src, head, counts);
  uint32_t inside = 0, most = 0;
  int first = 0;
  for (int b = 0; b < 256; b++) {
    inside += counts[b];
    if (b >= COUNT_WINDOW) inside -= counts[b - COUNT_WINDOW];
    if (b < COUNT_WINDOW - 1 || inside <= most) continue;
    most = inside;
    first = b - (COUNT_WINDOW - 1);
  }
  for (size_t i = head; i < n;) {
    const size_t run = n - i < COUNT_RUN ? n - i : COUNT_RUN;
    if (run % COUNT_LANES == 0) {
      uint32_t found[COUNT_WINDOW], sum = 0;
      for (int s = 0; s < COUNT_WINDOW; s += 4) count_four(src + i, run, (uint8_t)(first + s), found + s);
      for (int s = 0; s < COUNT_WINDOW; s++) counts[first + s] += found[s], sum += found[s];
      for (size_t j = i; sum < run && j < i + run; j += COUNT_LANES) { // those outside the window, few or none
        uint8_t outside = 0;
        for (size_t k = j; k < j + COUNT_LANES; k++) outside |= (uint8_t)(src[k] - first) >= COUNT_WINDOW;
        if (!outside) continue;
        for (size_t k = j; k < j + COUNT_LANES; k++)
          if ((uint8_t)(src[k] - first) >= COUNT_WINDOW) counts[src[k]]++, sum++;
      }
    } else {
      uint32_t each[256];
      sk_count_bytes_each(src + i, run, each);
      for (int b = 0; b < 256; b++) counts[b] += each[b];
    }
    i += run;
  }
}

// What a chunk's stages are chosen by, Formats/codecs.md, section 4: all of its n symbols, of many the first group of four. Gives the list
// of stages with their symbols. `spare` has room for n.
static void choose_stages(sk_planes *p, const uint8_t *symbols, size_t n, uint8_t *spare) {
  uint32_t counts[256];
  size_t counted = n;
  if (n > SK_COUNT_ALL) {
    counted = 0;
    for (size_t i = 0; i + 64 <= n; i += 4 * 64, counted += 64) memcpy(spare + counted, symbols + i, 64);
    symbols = spare;
  }
  k_count_bytes(symbols, counted, counts);
  sk_planes_choose(p, counts, counted);
}

// The mantissas go to their place in dst at once, the exponents to scratch, where the stages eat them up.
static size_t k_planes16_encode(const uint8_t *src, size_t n, uint8_t *dst, size_t capacity, uint8_t *scratch) {
  if (n > SK_CODEC_MAX || capacity < SK_PLANES_HEADER + n) return 0;
  sk_planes p;
  split16_parts(src, n, scratch, dst + SK_PLANES_HEADER);
  choose_stages(&p, scratch, n, scratch + n + 256);
  return encode_stages(&p, scratch, n, dst, SK_PLANES_HEADER + n, capacity);
}

// ---- nibbles ----

SK_INLINE uint32_t rotate_left(uint32_t b, int rotate) { return rotate ? (b << 1 | b >> 7) & 0xff : b; }
SK_INLINE uint32_t rotate_right(uint32_t b, int rotate) { return rotate ? (b >> 1 | b << 7) & 0xff : b; }

// Nibble j < 32 is the low half of byte j, nibble j + 32 its high half: halves of a vector, so that no byte crosses a lane.
SK_INLINE void split_nibbles_64(const uint8_t *restrict src, const int rotate, uint8_t *restrict high, uint8_t *restrict low) {
  for (size_t j = 0; j < 32; j++) {
    const uint32_t a = rotate_left(src[j], rotate), b = rotate_left(src[j + 32], rotate);
    high[j] = (uint8_t)(a >> 4 | (b & 0xf0));
    low[j] = (uint8_t)((a & 15) | b << 4);
  }
}

SK_INLINE void split_nibbles(const uint8_t *src, size_t n, const int rotate, uint8_t *high, uint8_t *low) {
  size_t i = 0;
  for (; i + 64 <= n; i += 64) split_nibbles_64(src + i, rotate, high + i / 2, low + i / 2);
  if (i == n) return;
  uint8_t last[64] = {0};
  memcpy(last, src + i, n - i);
  split_nibbles_64(last, rotate, high + i / 2, low + i / 2);
}

static void k_split_nibbles(const uint8_t *src, size_t n, int rotate, uint8_t *high, uint8_t *low) {
  if (rotate) split_nibbles(src, n, 1, high, low);
  else split_nibbles(src, n, 0, high, low);
}

SK_INLINE void join_nibbles_64(const uint8_t *restrict high, const uint8_t *restrict low, const int rotate,
                               uint8_t *restrict dst) {
  for (size_t j = 0; j < 32; j++) {
    const uint32_t h = high[j], l = low[j];
    dst[j] = (uint8_t)rotate_right((h & 15) << 4 | (l & 15), rotate);
    dst[j + 32] = (uint8_t)rotate_right((h & 0xf0) | l >> 4, rotate);
  }
}

SK_INLINE void join_nibbles(const uint8_t *high, const uint8_t *low, size_t n, const int rotate, uint8_t *dst) {
  size_t i = 0;
  for (; i + 64 <= n; i += 64) join_nibbles_64(high + i / 2, low + i / 2, rotate, dst + i);
  if (i == n) return;
  uint8_t last[64];
  join_nibbles_64(high + i / 2, low + i / 2, rotate, last);
  memcpy(dst + i, last, n - i);
}

static void k_join_nibbles(const uint8_t *high, const uint8_t *low, size_t n, int rotate, uint8_t *dst) {
  if (rotate) join_nibbles(high, low, n, 1, dst);
  else join_nibbles(high, low, n, 0, dst);
}

static size_t k_planes8_encode(const uint8_t *src, size_t n, uint8_t *dst, size_t capacity, uint8_t *scratch) {
  if (n > SK_CODEC_MAX || capacity < SK_PLANES_HEADER + SK_NIBBLE_BYTES(n)) return 0;
  sk_planes p;
  uint8_t *low = dst + SK_PLANES_HEADER;
  split_nibbles(src, n, 1, scratch, low); // the high nibbles are made again below, one a byte
  for (size_t i = 0; i < n; i++) scratch[i] = src[i] >> 3 & 15;
  choose_stages(&p, scratch, n, scratch + n + 256);
  return encode_stages(&p, scratch, n, dst, SK_PLANES_HEADER + SK_NIBBLE_BYTES(n), capacity);
}

// ---- pairs of BF16 exponents ----

SK_INLINE uint32_t pair_nibble(uint32_t exponent, uint32_t base) {
  const uint32_t d = base - exponent; // huge for exponents above the base
  return d < 15 ? d : 15;
}

// One group of 64; gives how many escaped.
SK_INLINE size_t split_pairs_64(const uint8_t *restrict src, const uint32_t base, uint8_t *restrict nibbles,
                                uint8_t *restrict low, uint8_t *restrict escapes) {
  uint8_t e[64], d[64];
  uint8_t *const start = escapes;
  split16_parts(src, 64, e, low);
  for (size_t j = 0; j < 64; j++) d[j] = (uint8_t)pair_nibble(e[j], base);
  for (size_t j = 0; j < 32; j++) nibbles[j] = (uint8_t)(d[j] | d[j + 32] << 4);
  for (size_t j = 0; j < 64; j += 8) { // bit 4 of a byte is set by adding 1 to 15 only
    uint64_t eight;
    memcpy(&eight, d + j, 8);
    if (((eight + 0x0101010101010101u) & 0x1010101010101010u) == 0) continue;
    for (size_t k = j; k < j + 8; k++)
      if (d[k] == 15) *escapes++ = e[k];
  }
  return (size_t)(escapes - start);
}

static size_t k_split_pairs16(const uint8_t *src, size_t n, uint8_t base, uint8_t *nibbles, uint8_t *low,
                              uint8_t *escapes) {
  size_t count = 0, i = 0;
  for (; i + 64 <= n; i += 64) count += split_pairs_64(src + 2 * i, base, nibbles + i / 2, low + i, escapes + count);
  if (i == n) return count;
  // The rest, filled up with numbers whose nibble is 0.
  uint8_t last[128], last_low[64], last_escapes[64];
  for (size_t j = 0; j < 64; j++) store16(last + 2 * j, (uint16_t)(base << 7));
  memcpy(last, src + 2 * i, 2 * (n - i));
  const size_t more = split_pairs_64(last, base, nibbles + i / 2, last_low, last_escapes);
  memcpy(low + i, last_low, n - i);
  memcpy(escapes + count, last_escapes, more);
  return count + more;
}

// One group as if nothing escaped, and whether something did: escapes are rare, and place_escapes puts them in afterwards.
SK_INLINE uint32_t join_pairs_64(const uint8_t *restrict nibbles, const uint8_t *restrict low, const uint32_t base,
                                 uint8_t *restrict dst) {
  uint8_t e[64];
  uint32_t any = 0;
  for (size_t j = 0; j < 32; j++) {
    const uint32_t a = nibbles[j] & 15, b = nibbles[j] >> 4;
    any |= (uint32_t)(a == 15) | (uint32_t)(b == 15);
    e[j] = (uint8_t)(base - a);
    e[j + 32] = (uint8_t)(base - b);
  }
  for (size_t j = 0; j < 64; j++) {
    const uint32_t v = (uint32_t)e[j] << 8 | low[j];
    store16(dst + 2 * j, (uint16_t)(v >> 1 | v << 15));
  }
  return any;
}

// Puts the escapes of one group in their places; `m` numbers are there. SAFETY: counts on past escape_count without reading, so
// that the caller sees how many were asked for.
static size_t place_escapes(const uint8_t *nibbles, const uint8_t *low, size_t m, const uint8_t *escapes, size_t taken,
                            size_t escape_count, uint8_t *dst) {
  for (size_t j = 0; j < m; j++) {
    if ((j < 32 ? nibbles[j] & 15 : nibbles[j - 32] >> 4) != 15) continue;
    if (taken < escape_count) {
      const uint32_t v = (uint32_t)escapes[taken] << 8 | low[j];
      store16(dst + 2 * j, (uint16_t)(v >> 1 | v << 15));
    }
    taken++;
  }
  return taken;
}

static size_t k_join_pairs16(const uint8_t *nibbles, const uint8_t *low, size_t n, uint8_t base, const uint8_t *escapes,
                             size_t escape_count, uint8_t *dst) {
  size_t taken = 0, i = 0;
  for (; i + 64 <= n; i += 64)
    if (join_pairs_64(nibbles + i / 2, low + i, base, dst + 2 * i))
      taken = place_escapes(nibbles + i / 2, low + i, 64, escapes, taken, escape_count, dst + 2 * i);
  if (i < n) {
    uint8_t last_low[64] = {0}, last[128];
    memcpy(last_low, low + i, n - i);
    join_pairs_64(nibbles + i / 2, last_low, base, last);
    memcpy(dst + 2 * i, last, 2 * (n - i));
    taken = place_escapes(nibbles + i / 2, low + i, n - i, escapes, taken, escape_count, dst + 2 * i);
  }
  return taken;
}
