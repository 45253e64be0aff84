// Sixty-four symbols at a time, for every machine. Part of body.h. The definition of what the other codec_group_*.h do.
//
// SAFETY, of all of them: `planes` holds `bits` words, `symbols` 8 bytes, `next` 64 that may be read; group_store and group_join8
// write 64 bytes, group_join16 128, from 64 bytes of `low` (32 for nibbles); group_encode reads 64 bytes of src and writes up to
// 64 of `out`, which may be src, since they are read before.

typedef struct { uint8_t v[64]; } group;

// The symbols that `bits` planes name; those that escape are the next ones of `next`. *escapes has their bits.
SK_INLINE group group_decode(const uint64_t *planes, const int bits, const uint8_t *symbols, const uint8_t *next,
                             uint64_t *escapes) {
  group g;
  const uint32_t escape = (1u << bits) - 1;
  const uint64_t p0 = planes[0], p1 = bits > 1 ? planes[1] : 0, p2 = bits > 2 ? planes[2] : 0;
  for (int i = 0; i < 64; i++) {
    const uint32_t code = (uint32_t)((p0 >> i & 1) | (p1 >> i & 1) << 1 | (p2 >> i & 1) << 2);
    g.v[i] = code == escape ? *next : symbols[code];
    next += code == escape;
  }
  *escapes = p0 & (bits > 1 ? p1 : ~0ull) & (bits > 2 ? p2 : ~0ull);
  return g;
}

SK_INLINE void group_store(uint8_t *dst, group g) { memcpy(dst, g.v, 64); }

// g are exponents, `low` mantissas with their signs: 64 BF16 numbers.
SK_INLINE void group_join16(group g, const uint8_t *low, uint8_t *dst) {
  for (int i = 0; i < 64; i++) {
    const uint32_t v = (uint32_t)g.v[i] << 8 | low[i];
    store16(dst + 2 * i, (uint16_t)(v >> 1 | v << 15));
  }
}

// g are exponents moved to bits 3 to 6, `low` 64 nibbles of mantissa and sign: 64 FP8 numbers.
SK_INLINE void group_join8(group g, const uint8_t *low, uint8_t *dst) {
  for (int i = 0; i < 32; i++) {
    const uint32_t a = low[i] & 15, b = low[i] >> 4;
    dst[i] = (uint8_t)(g.v[i] | a >> 1 | a << 7);
    dst[i + 32] = (uint8_t)(g.v[i + 32] | b >> 1 | b << 7);
  }
}

// The planes of 64 symbols; those that escape go to `out`, which may be `src`. `valid` has the bits of symbols that are
// there. Gives how many escaped.
SK_INLINE size_t group_encode(const uint8_t *src, const int bits, const uint8_t *symbols, uint64_t valid, uint64_t *planes,
                              uint8_t *out) {
  const uint8_t escape = (uint8_t)((1 << bits) - 1);
  uint8_t codes[64];
  for (int i = 0; i < 64; i++) codes[i] = escape;
  for (int c = escape - 1; c >= 0; c--) // backwards: the first of two codes with one symbol holds
    for (int i = 0; i < 64; i++) codes[i] = src[i] == symbols[c] ? (uint8_t)c : codes[i];
  uint64_t left = valid;
  for (int j = 0; j < bits; j++) {
    planes[j] = 0;
    for (int i = 0; i < 64; i += 8) {
      uint64_t v = 0;
      for (int k = 0; k < 8; k++) v |= (uint64_t)(codes[i + k] >> j & 1) << k;
      planes[j] |= v << i;
    }
    planes[j] &= valid;
    left &= planes[j];
  }
  const size_t count = (size_t)__builtin_popcountll(left);
  for (; left != 0; left &= left - 1) *out++ = src[__builtin_ctzll(left)];
  return count;
}
