// Sixty-four symbols at a time in two registers of AVX2. Part of body.h; what each function does: codec_group_plain.h.
#include <immintrin.h>

typedef struct { __m256i a, b; } group; // symbols 0...31, 32...63

// Byte i is 0xff where bit i of w is set: w in all lanes, byte i / 8 of it to byte i, then bit i % 8 of that tested.
SK_INLINE __m256i bytes_of_bits(uint32_t w) {
  const __m256i which = _mm256_setr_epi64x(0, 0x0101010101010101, 0x0202020202020202, 0x0303030303030303);
  const __m256i bit = _mm256_set1_epi64x((long long)0x8040201008040201u);
  return _mm256_cmpeq_epi8(_mm256_and_si256(_mm256_shuffle_epi8(_mm256_set1_epi32((int)w), which), bit), bit);
}

// Bytes of `next` in order at the bits of `escapes`, read through a table eight at a time. The second eight begin where the first
// have taken popcount bytes. SAFETY: loads 8 bytes from each, so up to 16 behind `next`, whatever the bits.
SK_INLINE __m128i spread16(uint32_t escapes, const uint8_t *next) {
  const __m128i low = _mm_shuffle_epi8(_mm_loadl_epi64((const __m128i *)next),
                                       _mm_loadl_epi64((const __m128i *)(sk_spread + (escapes & 0xff))));
  const __m128i high = _mm_shuffle_epi8(_mm_loadl_epi64((const __m128i *)(next + __builtin_popcount(escapes & 0xff))),
                                        _mm_loadl_epi64((const __m128i *)(sk_spread + (escapes >> 8))));
  return _mm_unpacklo_epi64(low, high);
}

// 32 symbols. sum: the code of each, bits weighted 1, 2, 4; named: the symbol of the code, by a shuffle of the stage's eight;
// escape: the bytes whose bits are all set, which take the next escape in place of it.
SK_INLINE __m256i decode32(uint32_t p0, uint32_t p1, uint32_t p2, const int bits, const uint8_t *symbols, const uint8_t *next,
                           uint32_t escapes) {
  const __m256i m0 = bytes_of_bits(p0);
  __m256i escape = m0, sum = _mm256_and_si256(m0, _mm256_set1_epi8(1));
  if (bits > 1) {
    const __m256i m1 = bytes_of_bits(p1);
    escape = _mm256_and_si256(escape, m1);
    sum = _mm256_or_si256(sum, _mm256_and_si256(m1, _mm256_set1_epi8(2)));
  }
  if (bits > 2) {
    const __m256i m2 = bytes_of_bits(p2);
    escape = _mm256_and_si256(escape, m2);
    sum = _mm256_or_si256(sum, _mm256_and_si256(m2, _mm256_set1_epi8(4)));
  }
  const __m256i named = _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(_mm_loadl_epi64((const __m128i *)symbols)), sum);
  const __m128i low = spread16(escapes & 0xffff, next);
  const __m128i high = spread16(escapes >> 16, next + __builtin_popcount(escapes & 0xffff));
  return _mm256_blendv_epi8(named, _mm256_set_m128i(high, low), escape);
}

SK_INLINE group group_decode(const uint64_t *planes, const int bits, const uint8_t *symbols, const uint8_t *next,
                             uint64_t *escapes) {
  const uint64_t p0 = planes[0], p1 = bits > 1 ? planes[1] : ~0ull, p2 = bits > 2 ? planes[2] : ~0ull, e = p0 & p1 & p2;
  group g;
  g.a = decode32((uint32_t)p0, (uint32_t)p1, (uint32_t)p2, bits, symbols, next, (uint32_t)e);
  g.b = decode32((uint32_t)(p0 >> 32), (uint32_t)(p1 >> 32), (uint32_t)(p2 >> 32), bits, symbols,
                 next + __builtin_popcount((uint32_t)e), (uint32_t)(e >> 32));
  *escapes = e;
  return g;
}

SK_INLINE void group_store(uint8_t *dst, group g) {
  _mm256_storeu_si256((__m256i *)dst, g.a);
  _mm256_storeu_si256((__m256i *)(dst + 32), g.b);
}

// 32 elements of 16 bits: unpacking puts mantissa m and exponent e side by side (m low) within 16-byte lanes, the rotation right by
// one bit brings the sign back on top, and the two permutations put the lanes in the order of the elements.
SK_INLINE void join16_32(__m256i e, const uint8_t *low, uint8_t *dst) {
  const __m256i m = _mm256_loadu_si256((const __m256i *)low);
  __m256i a = _mm256_unpacklo_epi8(m, e), b = _mm256_unpackhi_epi8(m, e);
  a = _mm256_or_si256(_mm256_srli_epi16(a, 1), _mm256_slli_epi16(a, 15));
  b = _mm256_or_si256(_mm256_srli_epi16(b, 1), _mm256_slli_epi16(b, 15));
  _mm256_storeu_si256((__m256i *)dst, _mm256_permute2x128_si256(a, b, 0x20));
  _mm256_storeu_si256((__m256i *)(dst + 32), _mm256_permute2x128_si256(a, b, 0x31));
}

SK_INLINE void group_join16(group g, const uint8_t *low, uint8_t *dst) {
  join16_32(g.a, low, dst);
  join16_32(g.b, low + 32, dst + 64);
}

SK_INLINE void group_join8(group g, const uint8_t *low, uint8_t *dst) {
  // [m]: m rotated right by one bit in a byte
  const __m256i rotated = _mm256_broadcastsi128_si256(
      _mm_setr_epi8(0, -128, 1, -127, 2, -126, 3, -125, 4, -124, 5, -123, 6, -122, 7, -121));
  const __m256i nibble = _mm256_set1_epi8(15), both = _mm256_loadu_si256((const __m256i *)low);
  const __m256i a = _mm256_shuffle_epi8(rotated, _mm256_and_si256(both, nibble));
  const __m256i b = _mm256_shuffle_epi8(rotated, _mm256_and_si256(_mm256_srli_epi16(both, 4), nibble));
  _mm256_storeu_si256((__m256i *)dst, _mm256_or_si256(g.a, a));
  _mm256_storeu_si256((__m256i *)(dst + 32), _mm256_or_si256(g.b, b));
}

// Compares all 64 with one symbol after another; a code's set bits collect the matches. What is left at the end escapes: all bits
// of its code are set.
SK_INLINE size_t group_encode(const uint8_t *src, const int bits, const uint8_t *symbols, uint64_t valid, uint64_t *planes,
                              uint8_t *out) {
  const __m256i a = _mm256_loadu_si256((const __m256i *)src), b = _mm256_loadu_si256((const __m256i *)(src + 32));
  uint64_t left = valid, p[3] = {0};
  for (int c = 0; c < (1 << bits) - 1; c++) {
    const __m256i symbol = _mm256_set1_epi8((char)symbols[c]);
    uint64_t same = (uint32_t)_mm256_movemask_epi8(_mm256_cmpeq_epi8(a, symbol));
    same |= (uint64_t)(uint32_t)_mm256_movemask_epi8(_mm256_cmpeq_epi8(b, symbol)) << 32;
    same &= left; // the first of two codes with one symbol holds
    left &= ~same;
    for (int j = 0; j < bits; j++) p[j] |= c >> j & 1 ? same : 0;
  }
  for (int j = 0; j < bits; j++) planes[j] = p[j] | left;
  const size_t count = (size_t)__builtin_popcountll(left);
  for (; left != 0; left &= left - 1) *out++ = src[__builtin_ctzll(left)];
  return count;
}
