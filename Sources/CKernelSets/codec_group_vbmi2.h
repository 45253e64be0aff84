// Sixty-four symbols at a time in one register, with the byte expansion of AVX-512 VBMI2. Part of body.h; what each function
// does: codec_group_plain.h.
#include <immintrin.h>

typedef __m512i group; // symbol i in byte i; a word of a plane is a mask register as it is

SK_INLINE group group_decode(const uint64_t *planes, const int bits, const uint8_t *symbols, const uint8_t *next,
                             uint64_t *escapes) {
  const __mmask64 p0 = planes[0], p1 = bits > 1 ? planes[1] : ~0ull, p2 = bits > 2 ? planes[2] : ~0ull, e = p0 & p1 & p2;
  __m512i g; // the named symbols: by masked moves for up to three of them, by a shuffle for seven
  if (bits < 3) {
    g = _mm512_set1_epi8((char)symbols[0]);
    if (bits == 2) {
      g = _mm512_mask_mov_epi8(g, p0, _mm512_set1_epi8((char)symbols[1]));
      g = _mm512_mask_mov_epi8(g, p1, _mm512_set1_epi8((char)symbols[2]));
    }
  } else {
    __m512i sum = _mm512_maskz_mov_epi8(p0, _mm512_set1_epi8(1));
    sum = _mm512_mask_add_epi8(sum, p1, sum, _mm512_set1_epi8(2));
    sum = _mm512_mask_add_epi8(sum, p2, sum, _mm512_set1_epi8(4));
    g = _mm512_shuffle_epi8(_mm512_broadcast_i32x4(_mm_loadl_epi64((const __m128i *)symbols)), sum);
  }
  *escapes = e;
  // The next popcount(e) bytes go, in order, to the places that escape. SAFETY: loads 64 bytes of `next`.
  return _mm512_mask_expand_epi8(g, e, _mm512_loadu_si512(next));
}

SK_INLINE void group_store(uint8_t *dst, group g) { _mm512_storeu_si512(dst, g); }

SK_INLINE void group_join16(group g, const uint8_t *low, uint8_t *dst) {
  // Unpacking works in lanes of 16 bytes, so that the quarters are put in place before.
  const __m512i order = _mm512_setr_epi64(0, 4, 1, 5, 2, 6, 3, 7);
  const __m512i e = _mm512_permutexvar_epi64(order, g);
  const __m512i m = _mm512_permutexvar_epi64(order, _mm512_loadu_si512(low));
  const __m512i a = _mm512_unpacklo_epi8(m, e), b = _mm512_unpackhi_epi8(m, e);
  _mm512_storeu_si512(dst, _mm512_shrdi_epi16(a, a, 1));
  _mm512_storeu_si512(dst + 64, _mm512_shrdi_epi16(b, b, 1));
}

SK_INLINE void group_join8(group g, const uint8_t *low, uint8_t *dst) {
  // [m]: m rotated right by one bit in a byte
  const __m512i rotated = _mm512_broadcast_i32x4(
      _mm_setr_epi8(0, -128, 1, -127, 2, -126, 3, -125, 4, -124, 5, -123, 6, -122, 7, -121));
  __m512i nibbles = _mm512_broadcast_i64x4(_mm256_loadu_si256((const __m256i *)low));
  nibbles = _mm512_mask_srli_epi16(nibbles, 0xffff0000u, nibbles, 4);
  nibbles = _mm512_and_si512(nibbles, _mm512_set1_epi8(15));
  _mm512_storeu_si512(dst, _mm512_or_si512(g, _mm512_shuffle_epi8(rotated, nibbles)));
}

SK_INLINE size_t group_encode(const uint8_t *src, const int bits, const uint8_t *symbols, uint64_t valid, uint64_t *planes,
                              uint8_t *out) {
  const __m512i g = _mm512_loadu_si512(src);
  uint64_t left = valid, p[3] = {0};
  for (int c = 0; c < (1 << bits) - 1; c++) {
    const uint64_t same = _mm512_cmpeq_epi8_mask(g, _mm512_set1_epi8((char)symbols[c])) & left;
    left &= ~same; // the first of two codes with one symbol holds
    for (int j = 0; j < bits; j++) p[j] |= c >> j & 1 ? same : 0;
  }
  for (int j = 0; j < bits; j++) planes[j] = p[j] | left;
  // Behind the escapes nothing is written that is still to be read: `out` is not behind `src`.
  _mm512_storeu_si512(out, _mm512_maskz_compress_epi8(left, g));
  return (size_t)__builtin_popcountll(left);
}
