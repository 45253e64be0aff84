// Sixty-four symbols at a time in four registers of NEON. Part of body.h; what each function does: codec_group_plain.h.
#include <arm_neon.h>

typedef uint8x16x4_t group; // symbols 16i...16i + 15 in val[i]

// Byte i is 0xff where bit i of w's sixteen is set.
SK_INLINE uint8x16_t bytes_of_bits(uint32_t w) {
  const uint8x16_t bit = vreinterpretq_u8_u64(vdupq_n_u64(0x8040201008040201u));
  return vtstq_u8(vcombine_u8(vdup_n_u8((uint8_t)w), vdup_n_u8((uint8_t)(w >> 8))), bit);
}

// Bytes of `next` in order at the bits of `escapes`, read through a table eight at a time. SAFETY: loads 8 bytes from two places,
// up to 16 behind `next`, whatever the bits.
SK_INLINE uint8x16_t spread16(uint32_t escapes, const uint8_t *next) {
  const uint8x8_t low = vtbl1_u8(vld1_u8(next), vcreate_u8(sk_spread[escapes & 0xff]));
  const uint8x8_t high =
      vtbl1_u8(vld1_u8(next + __builtin_popcount(escapes & 0xff)), vcreate_u8(sk_spread[escapes >> 8 & 0xff]));
  return vcombine_u8(low, high);
}

SK_INLINE group group_decode(const uint64_t *planes, const int bits, const uint8_t *symbols, const uint8_t *next,
                             uint64_t *escapes) {
  const uint64_t p0 = planes[0], p1 = bits > 1 ? planes[1] : ~0ull, p2 = bits > 2 ? planes[2] : ~0ull, e = p0 & p1 & p2;
  const uint8x16_t named = vcombine_u8(vld1_u8(symbols), vdup_n_u8(0));
  group g;
  for (int i = 0; i < 4; i++) {
    const uint8x16_t m0 = bytes_of_bits((uint32_t)(p0 >> (16 * i)));
    uint8x16_t escape = m0, sum = vandq_u8(m0, vdupq_n_u8(1));
    if (bits > 1) {
      const uint8x16_t m1 = bytes_of_bits((uint32_t)(p1 >> (16 * i)));
      escape = vandq_u8(escape, m1);
      sum = vorrq_u8(sum, vandq_u8(m1, vdupq_n_u8(2)));
    }
    if (bits > 2) {
      const uint8x16_t m2 = bytes_of_bits((uint32_t)(p2 >> (16 * i)));
      escape = vandq_u8(escape, m2);
      sum = vorrq_u8(sum, vandq_u8(m2, vdupq_n_u8(4)));
    }
    const uint32_t part = (uint32_t)(e >> (16 * i)) & 0xffff;
    g.val[i] = vbslq_u8(escape, spread16(part, next), vqtbl1q_u8(named, sum));
    next += __builtin_popcount(part);
  }
  *escapes = e;
  return g;
}

SK_INLINE void group_store(uint8_t *dst, group g) {
  for (int i = 0; i < 4; i++) vst1q_u8(dst + 16 * i, g.val[i]);
}

// Mantissa and exponent zipped to 16 bits; shift right by one, and insert what fell out on top: a rotation.
SK_INLINE void group_join16(group g, const uint8_t *low, uint8_t *dst) {
  for (int i = 0; i < 4; i++) {
    const uint8x16_t m = vld1q_u8(low + 16 * i);
    const uint16x8_t a = vreinterpretq_u16_u8(vzip1q_u8(m, g.val[i])), b = vreinterpretq_u16_u8(vzip2q_u8(m, g.val[i]));
    vst1q_u8(dst + 32 * i, vreinterpretq_u8_u16(vsliq_n_u16(vshrq_n_u16(a, 1), a, 15)));
    vst1q_u8(dst + 32 * i + 16, vreinterpretq_u8_u16(vsliq_n_u16(vshrq_n_u16(b, 1), b, 15)));
  }
}

SK_INLINE void group_join8(group g, const uint8_t *low, uint8_t *dst) {
  for (int i = 0; i < 2; i++) {
    const uint8x16_t both = vld1q_u8(low + 16 * i), a = vandq_u8(both, vdupq_n_u8(15)), b = vshrq_n_u8(both, 4);
    vst1q_u8(dst + 16 * i, vorrq_u8(g.val[i], vsliq_n_u8(vshrq_n_u8(a, 1), a, 7)));
    vst1q_u8(dst + 16 * i + 32, vorrq_u8(g.val[i + 2], vsliq_n_u8(vshrq_n_u8(b, 1), b, 7)));
  }
}

// One bit of each byte of four masks, lowest byte first.
SK_INLINE uint64_t bits_of_bytes(uint8x16_t a, uint8x16_t b, uint8x16_t c, uint8x16_t d) {
  const uint8x16_t bit = vreinterpretq_u8_u64(vdupq_n_u64(0x8040201008040201u));
  const uint8x16_t ab = vpaddq_u8(vandq_u8(a, bit), vandq_u8(b, bit)), cd = vpaddq_u8(vandq_u8(c, bit), vandq_u8(d, bit));
  const uint8x16_t all = vpaddq_u8(ab, cd);
  return vgetq_lane_u64(vreinterpretq_u64_u8(vpaddq_u8(all, all)), 0);
}

SK_INLINE size_t group_encode(const uint8_t *src, const int bits, const uint8_t *symbols, uint64_t valid, uint64_t *planes,
                              uint8_t *out) {
  const uint8x16_t a = vld1q_u8(src), b = vld1q_u8(src + 16), c = vld1q_u8(src + 32), d = vld1q_u8(src + 48);
  uint64_t left = valid, p[3] = {0};
  for (int code = 0; code < (1 << bits) - 1; code++) {
    const uint8x16_t s = vdupq_n_u8(symbols[code]);
    const uint64_t same = bits_of_bytes(vceqq_u8(a, s), vceqq_u8(b, s), vceqq_u8(c, s), vceqq_u8(d, s)) & left;
    left &= ~same; // the first of two codes with one symbol holds
    for (int j = 0; j < bits; j++) p[j] |= code >> j & 1 ? same : 0;
  }
  for (int j = 0; j < bits; j++) planes[j] = p[j] | left;
  const size_t count = (size_t)__builtin_popcountll(left);
  for (; left != 0; left &= left - 1) *out++ = src[__builtin_ctzll(left)];
  return count;
}
