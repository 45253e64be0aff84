// Checksums of bytes: XXH64 (the public specification of xxHash, 64-bit) and SHA-256 (FIPS 180-4), whole and in pieces.
#include "table.h"

#include <string.h>
#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__ARM_FEATURE_SHA2)
#include <arm_neon.h>
#endif

// ---- XXH64 ----

static const uint64_t P1 = 0x9e3779b185ebca87u, P2 = 0xc2b2ae3d27d4eb4fu, P3 = 0x165667b19e3779f9u,
                      P4 = 0x85ebca77c2b2ae63u, P5 = 0x27d4eb2f165667c5u;

static uint64_t rotate64(uint64_t x, int r) { return x << r | x >> (64 - r); }
static uint64_t read64(const uint8_t *p) { uint64_t v; memcpy(&v, p, 8); return v; }
static uint32_t read32(const uint8_t *p) { uint32_t v; memcpy(&v, p, 4); return v; }
static uint64_t xxh64_round(uint64_t acc, uint64_t input) { return rotate64(acc + input * P2, 31) * P1; }
static uint64_t xxh64_merge(uint64_t hash, uint64_t v) { return (hash ^ xxh64_round(0, v)) * P1 + P4; }

// Takes whole stripes of 32 bytes.
static void xxh64_stripes(uint64_t v[4], const uint8_t *p, size_t count) {
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

// ---- SHA-256 ----

static const uint32_t K[64] __attribute__((aligned(16))) = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

static uint32_t rotate32(uint32_t x, int r) { return x >> r | x << (32 - r); }

static void sha256_blocks_plain(uint32_t h[8], const uint8_t *p, size_t count) {
  for (; count > 0; count--, p += 64) {
    uint32_t w[64], s[8];
    for (int i = 0; i < 16; i++) w[i] = __builtin_bswap32(read32(p + 4 * i));
    for (int i = 16; i < 64; i++) {
      const uint32_t a = w[i - 15], b = w[i - 2];
      const uint32_t s0 = rotate32(a, 7) ^ rotate32(a, 18) ^ a >> 3, s1 = rotate32(b, 17) ^ rotate32(b, 19) ^ b >> 10;
      w[i] = w[i - 16] + s0 + w[i - 7] + s1;
    }
    memcpy(s, h, sizeof s);
    for (int i = 0; i < 64; i++) {
      const uint32_t a = s[0], e = s[4];
      const uint32_t choice = (e & s[5]) ^ (~e & s[6]), majority = (a & s[1]) ^ (a & s[2]) ^ (s[1] & s[2]);
      const uint32_t t1 = s[7] + (rotate32(e, 6) ^ rotate32(e, 11) ^ rotate32(e, 25)) + choice + K[i] + w[i];
      const uint32_t t2 = (rotate32(a, 2) ^ rotate32(a, 13) ^ rotate32(a, 22)) + majority;
      memmove(s + 1, s, 7 * sizeof *s);
      s[4] += t1;
      s[0] = t1 + t2;
    }
    for (int i = 0; i < 8; i++) h[i] += s[i];
  }
}

#if defined(__x86_64__)
// The SHA instructions keep the state as (a b e f) and (c d g h); each sha256rnds2 does two rounds, the schedule grows
// by four words at a time.
__attribute__((target("sha,sse4.1,ssse3"))) static void sha256_blocks_fast(uint32_t h[8], const uint8_t *p, size_t count) {
  const __m128i swap = _mm_set_epi64x(0x0c0d0e0f08090a0bll, 0x0405060700010203ll);
  const __m128i low = _mm_shuffle_epi32(_mm_loadu_si128((const __m128i *)h), 0xb1);        // c d a b
  const __m128i high = _mm_shuffle_epi32(_mm_loadu_si128((const __m128i *)(h + 4)), 0x1b); // e f g h
  __m128i abef = _mm_alignr_epi8(low, high, 8), cdgh = _mm_blend_epi16(high, low, 0xf0);
  for (; count > 0; count--, p += 64) {
    const __m128i abef0 = abef, cdgh0 = cdgh;
    __m128i w[4];
#pragma clang loop unroll(full)
    for (int i = 0; i < 4; i++) w[i] = _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)(p + 16 * i)), swap);
#pragma clang loop unroll(full)
    for (int i = 0; i < 16; i++) {
      __m128i wk = _mm_add_epi32(w[i % 4], _mm_load_si128((const __m128i *)(K + 4 * i)));
      cdgh = _mm_sha256rnds2_epu32(cdgh, abef, wk);
      abef = _mm_sha256rnds2_epu32(abef, cdgh, _mm_shuffle_epi32(wk, 0x0e));
      if (i < 12) { // the words four steps ahead
        const __m128i w1 = w[(i + 1) % 4], w2 = w[(i + 2) % 4], w3 = w[(i + 3) % 4];
        const __m128i partial = _mm_add_epi32(_mm_sha256msg1_epu32(w[i % 4], w1), _mm_alignr_epi8(w3, w2, 4));
        w[i % 4] = _mm_sha256msg2_epu32(partial, w3);
      }
    }
    abef = _mm_add_epi32(abef, abef0);
    cdgh = _mm_add_epi32(cdgh, cdgh0);
  }
  const __m128i feba = _mm_shuffle_epi32(abef, 0x1b), dchg = _mm_shuffle_epi32(cdgh, 0xb1);
  _mm_storeu_si128((__m128i *)h, _mm_blend_epi16(feba, dchg, 0xf0));
  _mm_storeu_si128((__m128i *)(h + 4), _mm_alignr_epi8(dchg, feba, 8));
}

static int sha256_fast_available(void) {
  return sk_isa_current() != SK_ISA_BASELINE && __builtin_cpu_supports("sha");
}
#elif defined(__ARM_FEATURE_SHA2)
static void sha256_blocks_fast(uint32_t h[8], const uint8_t *p, size_t count) {
  uint32x4_t abcd = vld1q_u32(h), efgh = vld1q_u32(h + 4);
  for (; count > 0; count--, p += 64) {
    const uint32x4_t abcd0 = abcd, efgh0 = efgh;
    uint32x4_t w[4];
#pragma clang loop unroll(full)
    for (int i = 0; i < 4; i++) w[i] = vreinterpretq_u32_u8(vrev32q_u8(vld1q_u8(p + 16 * i)));
#pragma clang loop unroll(full)
    for (int i = 0; i < 16; i++) {
      const uint32x4_t wk = vaddq_u32(w[i % 4], vld1q_u32(K + 4 * i)), before = abcd;
      abcd = vsha256hq_u32(abcd, efgh, wk);
      efgh = vsha256h2q_u32(efgh, before, wk);
      if (i < 12) // the words four steps ahead
        w[i % 4] = vsha256su1q_u32(vsha256su0q_u32(w[i % 4], w[(i + 1) % 4]), w[(i + 2) % 4], w[(i + 3) % 4]);
    }
    abcd = vaddq_u32(abcd, abcd0);
    efgh = vaddq_u32(efgh, efgh0);
  }
  vst1q_u32(h, abcd);
  vst1q_u32(h + 4, efgh);
}

static int sha256_fast_available(void) { return sk_isa_current() != SK_ISA_BASELINE; }
#else
#define sha256_blocks_fast sha256_blocks_plain
static int sha256_fast_available(void) { return 0; }
#endif

static void sha256_blocks(uint32_t h[8], const uint8_t *p, size_t count) {
  if (count == 0) return;
  if (sha256_fast_available()) {
    sha256_blocks_fast(h, p, count);
  } else {
    sha256_blocks_plain(h, p, count);
  }
}

void sk_sha256_init(sk_sha256_state *s) {
  static const uint32_t start[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                    0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  memset(s, 0, sizeof *s);
  memcpy(s->h, start, sizeof start);
}

void sk_sha256_update(sk_sha256_state *s, const void *data, size_t length) {
  const uint8_t *p = data;
  if (length == 0) return;
  s->total += length;
  if (s->filled > 0) {
    const size_t take = length < 64 - s->filled ? length : 64 - s->filled;
    memcpy(s->buffer + s->filled, p, take);
    s->filled += (uint32_t)take;
    p += take;
    length -= take;
    if (s->filled < 64) return;
    sha256_blocks(s->h, s->buffer, 1);
    s->filled = 0;
  }
  sha256_blocks(s->h, p, length / 64);
  p += length / 64 * 64;
  s->filled = (uint32_t)(length % 64);
  if (s->filled > 0) memcpy(s->buffer, p, s->filled);
}

void sk_sha256_final(sk_sha256_state *s, uint8_t digest[32]) {
  const uint64_t bit_count = __builtin_bswap64(s->total * 8);
  uint8_t padding[128] = {0x80};
  const size_t zeros = (s->filled < 56 ? 56 : 120) - s->filled;
  memcpy(padding + zeros, &bit_count, 8);
  sk_sha256_update(s, padding, zeros + 8);
  for (int i = 0; i < 8; i++) {
    const uint32_t word = __builtin_bswap32(s->h[i]);
    memcpy(digest + 4 * i, &word, 4);
  }
}
