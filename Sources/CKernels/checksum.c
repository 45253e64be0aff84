// XXH64 of bytes (the public specification of xxHash, 64-bit), whole and in pieces.
#include "table.h"

#include <string.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

// ---- XXH64 ----

static const uint64_t P1 = 0x9e3779b185ebca87u, P2 = 0xc2b2ae3d27d4eb4fu, P3 = 0x165667b19e3779f9u,
                      P4 = 0x85ebca77c2b2ae63u, P5 = 0x27d4eb2f165667c5u;

static uint64_t rotate64(uint64_t x, int r) { return x << r | x >> (64 - r); }
static uint64_t read64(const uint8_t *p) { uint64_t v; memcpy(&v, p, 8); return v; }
static uint32_t read32(const uint8_t *p) { uint32_t v; memcpy(&v, p, 4); return v; }
// A round whose product with P2 is known.
static uint64_t xxh64_added(uint64_t acc, uint64_t product) { return rotate64(acc + product, 31) * P1; }
static uint64_t xxh64_round(uint64_t acc, uint64_t input) { return xxh64_added(acc, input * P2); }
static uint64_t xxh64_merge(uint64_t hash, uint64_t v) { return (hash ^ xxh64_round(0, v)) * P1 + P4; }

#if defined(__x86_64__)
// Half of the multiplications are of the data alone, and a core has one multiplier for numbers of 64 bits: with AVX-512 they are made eight
// at a time, half a KiB ahead of the sums. The sums are the same bits.
#define STRIPES_AHEAD 16
#define PRODUCTS_TARGET __attribute__((target("avx512f,avx512dq,avx512vl")))

static int products_available(void) { return sk_isa_current() >= SK_ISA_AVX512 && sk_isa_current() != SK_ISA_NEON; }

PRODUCTS_TARGET static inline void products_ahead(const uint8_t *p, uint64_t *products) {
  for (size_t i = 0; i < 4 * STRIPES_AHEAD; i += 8)
    _mm512_store_si512(products + i, _mm512_mullo_epi64(_mm512_loadu_si512(p + 8 * i), _mm512_set1_epi64((long long)P2)));
}

// Gives how many stripes were taken.
PRODUCTS_TARGET static size_t xxh64_stripes_ahead(uint64_t v[4], const uint8_t *p, size_t count) {
  uint64_t a = v[0], b = v[1], c = v[2], d = v[3], k[4 * STRIPES_AHEAD] __attribute__((aligned(64)));
  const size_t whole = count / STRIPES_AHEAD * STRIPES_AHEAD;
  for (const uint8_t *end = p + 32 * whole; p < end; p += 32 * STRIPES_AHEAD) {
    products_ahead(p, k);
    for (int i = 0; i < 4 * STRIPES_AHEAD; i += 4) {
      a = xxh64_added(a, k[i]), b = xxh64_added(b, k[i + 1]);
      c = xxh64_added(c, k[i + 2]), d = xxh64_added(d, k[i + 3]);
    }
  }
  v[0] = a, v[1] = b, v[2] = c, v[3] = d;
  return whole;
}

// The same of two states over the same data.
PRODUCTS_TARGET static size_t xxh64_two_ahead(uint64_t v[4], uint64_t w[4], const uint8_t *p, size_t count) {
  uint64_t a = v[0], b = v[1], c = v[2], d = v[3], e = w[0], f = w[1], g = w[2], h = w[3];
  uint64_t k[4 * STRIPES_AHEAD] __attribute__((aligned(64)));
  const size_t whole = count / STRIPES_AHEAD * STRIPES_AHEAD;
  for (const uint8_t *end = p + 32 * whole; p < end; p += 32 * STRIPES_AHEAD) {
    products_ahead(p, k);
    for (int i = 0; i < 4 * STRIPES_AHEAD; i += 4) {
      a = xxh64_added(a, k[i]), e = xxh64_added(e, k[i]);
      b = xxh64_added(b, k[i + 1]), f = xxh64_added(f, k[i + 1]);
      c = xxh64_added(c, k[i + 2]), g = xxh64_added(g, k[i + 2]);
      d = xxh64_added(d, k[i + 3]), h = xxh64_added(h, k[i + 3]);
    }
  }
  v[0] = a, v[1] = b, v[2] = c, v[3] = d;
  w[0] = e, w[1] = f, w[2] = g, w[3] = h;
  return whole;
}
#endif

// Takes whole stripes of 32 bytes: four sums that do not wait for each other, in registers for the whole run.
static void xxh64_stripes(uint64_t v[4], const uint8_t *p, size_t count) {
#if defined(__x86_64__)
  if (count >= STRIPES_AHEAD && products_available()) {
    const size_t done = xxh64_stripes_ahead(v, p, count);
    count -= done;
    p += 32 * done;
  }
#endif
  uint64_t a = v[0], b = v[1], c = v[2], d = v[3];
  for (; count > 0; count--, p += 32) {
    a = xxh64_round(a, read64(p));
    b = xxh64_round(b, read64(p + 8));
    c = xxh64_round(c, read64(p + 16));
    d = xxh64_round(d, read64(p + 24));
  }
  v[0] = a, v[1] = b, v[2] = c, v[3] = d;
}

void sk_xxh64_init(sk_xxh64_state *s, uint64_t seed) {
  memset(s, 0, sizeof *s);
  s->seed = seed;
  s->v[0] = seed + P1 + P2;
  s->v[1] = seed + P2;
  s->v[2] = seed;
  s->v[3] = seed - P1;
}

// Fills the buffer first, then takes stripes straight from the data, and keeps the rest. The hash does not depend on how the bytes
// were cut.
void sk_xxh64_update(sk_xxh64_state *s, const void *data, size_t length) {
  const uint8_t *p = data;
  if (length == 0) return;
  s->total += length;
  if (s->filled > 0) {
    const size_t take = length < 32 - s->filled ? length : 32 - s->filled;
    memcpy(s->buffer + s->filled, p, take);
    s->filled += (uint32_t)take;
    p += take;
    length -= take;
    if (s->filled < 32) return;
    xxh64_stripes(s->v, s->buffer, 1);
    s->filled = 0;
  }
  xxh64_stripes(s->v, p, length / 32);
  p += length / 32 * 32;
  s->filled = (uint32_t)(length % 32);
  if (s->filled > 0) memcpy(s->buffer, p, s->filled);
}

// Two times four sums side by side: either alone waits for its multiplications most of the time, and the product of the data with P2
// is the same for both.
uint64_t sk_xxh64_update_twice(sk_xxh64_state *s, const void *data, size_t length) {
  sk_xxh64_state own;
  sk_xxh64_init(&own, 0);
  const uint8_t *p = data;
#if defined(__x86_64__)
  if (s->filled == 0 && length >= 32 * STRIPES_AHEAD && products_available()) {
    const size_t done = 32 * xxh64_two_ahead(s->v, own.v, p, length / 32);
    s->total += done, own.total += done;
    p += done;
    length -= done;
  }
#endif
  if (s->filled == 0 && length >= 32) {
    uint64_t a = s->v[0], b = s->v[1], c = s->v[2], d = s->v[3];
    uint64_t e = own.v[0], f = own.v[1], g = own.v[2], h = own.v[3];
    const size_t whole = length / 32 * 32;
    for (const uint8_t *end = p + whole; p < end; p += 32) {
      const uint64_t k = read64(p) * P2, l = read64(p + 8) * P2, m = read64(p + 16) * P2, n = read64(p + 24) * P2;
      a = xxh64_added(a, k), e = xxh64_added(e, k);
      b = xxh64_added(b, l), f = xxh64_added(f, l);
      c = xxh64_added(c, m), g = xxh64_added(g, m);
      d = xxh64_added(d, n), h = xxh64_added(h, n);
    }
    s->v[0] = a, s->v[1] = b, s->v[2] = c, s->v[3] = d;
    own.v[0] = e, own.v[1] = f, own.v[2] = g, own.v[3] = h;
    s->total += whole, own.total += whole;
    length -= whole;
  }
  sk_xxh64_update(s, p, length);
  sk_xxh64_update(&own, p, length);
  return sk_xxh64_final(&own);
}

uint64_t sk_xxh64_final(const sk_xxh64_state *s) {
  uint64_t h = s->seed + P5;
  if (s->total >= 32) {
    h = rotate64(s->v[0], 1) + rotate64(s->v[1], 7) + rotate64(s->v[2], 12) + rotate64(s->v[3], 18);
    for (int i = 0; i < 4; i++) h = xxh64_merge(h, s->v[i]);
  }
  h += s->total;
  const uint8_t *p = s->buffer, *end = p + s->filled;
  for (; end - p >= 8; p += 8) h = rotate64(h ^ xxh64_round(0, read64(p)), 27) * P1 + P4;
  if (end - p >= 4) {
    h = rotate64(h ^ read32(p) * P1, 23) * P2 + P3;
    p += 4;
  }
  for (; p < end; p++) h = rotate64(h ^ *p * P5, 11) * P1;
  h = (h ^ h >> 33) * P2;
  h = (h ^ h >> 29) * P3;
  return h ^ h >> 32;
}

uint64_t sk_xxh64(const void *data, size_t length, uint64_t seed) {
  sk_xxh64_state s;
  sk_xxh64_init(&s, seed);
  sk_xxh64_update(&s, data, length);
  return sk_xxh64_final(&s);
}
