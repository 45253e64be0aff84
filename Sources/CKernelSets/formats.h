// Codes to numbers and back: half precision, FP8, INT8, FP4, BF16. Part of body.h.

// ---- half precision, the step between the small formats and float32 ----

#if SK_HALF
SK_INLINE float float_of_half(uint16_t h) { return (float)__builtin_bit_cast(_Float16, h); }
SK_INLINE uint16_t half_of_float(float x) { return __builtin_bit_cast(uint16_t, (_Float16)x); }
#else
// Without hardware, and bit for bit as with it. Widening moves exponent and mantissa 13 bits up and the bias from 15 to 127
// (0x38000000); a subnormal is made normal by putting 2^-14 (0x38800000) in front and subtracting it again, exactly.
SK_INLINE float float_of_half(uint16_t h) {
  uint32_t sign = (uint32_t)(h & 0x8000) << 16, a = (uint32_t)(h & 0x7fff) << 13;
  uint32_t normal = a + 0x38000000;
  uint32_t subnormal = bits_of(float_of(a + 0x38800000) - 0x1p-14f);
  uint32_t special = (a + 0x70000000) | (a > 0x0f800000 ? 0x00400000 : 0); // a NaN becomes quiet
  uint32_t b = a < 0x00800000 ? subnormal : normal;
  return float_of(sign | (a >= 0x0f800000 ? special : b));
}
// Narrowing: normal numbers round by adding just under half a last place, and the kept bit for ties, to the integer; the carry
// moves the exponent. Subnormals round by the addition of 0.5, whose last place is 2^-24, F16's least step.
SK_INLINE uint16_t half_of_float(float x) {
  uint32_t b = bits_of(x), sign = (b >> 16) & 0x8000, a = b & 0x7fffffff;
  uint32_t normal = ((a + 0xfff + ((a >> 13) & 1)) >> 13) - 0x1c000;
  uint32_t subnormal = bits_of(float_of(a) + 0.5f) - 0x3f000000;
  uint32_t h = a < 0x38800000 ? subnormal : normal;
  h = a >= 0x47800000 ? 0x7c00 : h;
  h = a > 0x7f800000 ? (0x7e00 | ((a >> 13) & 0x3ff)) : h;
  return (uint16_t)(sign | h);
}
#endif

// ---- decode ----

// Each loop reads src once and writes dst once, front to back, and becomes vector code of the width of the file; no element
// depends on another. What bounds them is memory.

static void k_decode_bf16(const uint8_t *restrict src, float *restrict dst, size_t n) {
  for (size_t i = 0; i < n; i++) dst[i] = float_of((uint32_t)load16(src + 2 * i) << 16);
}

static void k_decode_f16(const uint8_t *restrict src, float *restrict dst, size_t n) {
  for (size_t i = 0; i < n; i++) dst[i] = float_of_half(load16(src + 2 * i));
}

// The code's fields, moved to where half precision has them, read 256 times too small: E4M3's bias is 7, F16's 15. The sign is
// extended, so that bits 14 and 15 both hold it, and the mask clears bit 14. Times 256 is exact, subnormals included;
// only the product with the scale rounds. No table: a gather is slower than this arithmetic.
static void k_decode_e4m3(const uint8_t *restrict src, float scale, float *restrict dst, size_t n) {
  for (size_t i = 0; i < n; i++) {
    uint16_t half = (uint16_t)((uint32_t)(int32_t)(int8_t)src[i] << 7) & 0xbfff;
    dst[i] = float_of_half(half) * 256.0f * scale;
  }
}

// E5M2 is the upper byte of F16: nothing to correct.
static void k_decode_e5m2(const uint8_t *restrict src, float scale, float *restrict dst, size_t n) {
  for (size_t i = 0; i < n; i++) dst[i] = float_of_half((uint16_t)(src[i] << 8)) * scale;
}

static void k_decode_int8(const int8_t *restrict src, float scale, float *restrict dst, size_t n) {
  for (size_t i = 0; i < n; i++) dst[i] = (float)src[i] * scale;
}

SK_INLINE float scale_of_e8m0(uint8_t code) {
  return code == 0 ? 0x1p-127f : code == 255 ? __builtin_nanf("") : float_of((uint32_t)code << 23);
}

// The nibbles' fields, moved to where half precision has them, read 2^14 times too small (bias 1 against 15). The two halves of a
// byte lie side by side in one word, low nibble first: sign to bits 15 and 31, exponent and mantissa to 9...11 and 25...27.
// SAFETY: reads `pairs` bytes, at most 16, and writes 2 * pairs floats; the rest of words and halves is copied but not used.
SK_INLINE void decode_mxfp4_group(const uint8_t *restrict src, float scale, float *restrict dst, const size_t pairs) {
  uint32_t words[16];
  uint16_t halves[32];
  for (size_t j = 0; j < pairs; j++) {
    const uint32_t b = src[j];
    words[j] = (b & 0x08) << 12 | (b & 0x07) << 9 | (b & 0x80) << 24 | (b & 0x70) << 21;
  }
  memcpy(halves, words, sizeof halves);
  for (size_t i = 0; i < 2 * pairs; i++) dst[i] = float_of_half(halves[i]) * 16384.0f * scale;
}

static void k_decode_mxfp4(const uint8_t *restrict src, const uint8_t *restrict scales, float *restrict dst, size_t n) {
  size_t i = 0;
  for (; i + 32 <= n; i += 32) decode_mxfp4_group(src + i / 2, scale_of_e8m0(scales[i / 32]), dst + i, 16);
  if (i < n) decode_mxfp4_group(src + i / 2, scale_of_e8m0(scales[i / 32]), dst + i, (n - i) / 2);
}

// ---- encode: to nearest, ties to even. Adding a power of two whose last place is the quantum rounds subnormals ----
//
// All small formats alike: `normal` adds just under half of the last kept place, and one where that place is odd, to the float's
// bits, shifts the rest away and takes off the difference of the biases; a carry moves into the exponent, as it should. Below
// the least normal number the codes are evenly spaced, and the addition of 2^k, whose last place is that step, rounds there by
// the machine's own rule; what the sum's bits say beyond 2^k's is the code. Both are computed and one is chosen, so that there is
// no branch. Saturation is a minimum over codes: they ascend with magnitude. The division is a true one, which rounds once.

static void k_encode_bf16(const float *restrict src, uint8_t *restrict dst, size_t n) {
  for (size_t i = 0; i < n; i++) {
    uint32_t b = bits_of(src[i]);
    uint32_t rounded = (b + 0x7fff + ((b >> 16) & 1)) >> 16, quiet = (b >> 16) | 0x40;
    store16(dst + 2 * i, (uint16_t)((b & 0x7fffffff) > 0x7f800000 ? quiet : rounded));
  }
}

static void k_encode_f16(const float *restrict src, uint8_t *restrict dst, size_t n) {
  for (size_t i = 0; i < n; i++) store16(dst + 2 * i, half_of_float(src[i]));
}

// A number rounded to a small float: `step_of` is the power of two whose last place in float32 is the step between codes at |t|, 2^20
// times t's own for three bits of mantissa, and at least that of the subnormal codes; the sum of both rounds |t| to the step by the
// machine's own rule. What the sum's bits say beyond the power's is how many steps |t| is above zero, and their difference is
// the rounded number. Each exponent above the least adds 2^mantissa codes.
typedef struct { uint32_t code; float value; } small_float;

SK_INLINE small_float small_of_float(float t, const uint32_t bits, const uint32_t least, const float largest, const uint32_t nan) {
  const uint32_t b = bits_of(t), sign = b & 0x80000000;
  float a = float_of(b ^ sign);
  a = a > largest ? largest : a; // a NaN stays one
  const uint32_t exponent = bits_of(a) & 0x7f800000, above = exponent > least ? exponent : least;
  const uint32_t step_of = above + ((23 - bits) << 23);
  const float sum = a + float_of(step_of);
  const uint32_t code = bits_of(sum) - step_of + ((above - least) >> (23 - bits));
  return (small_float){a == a ? code | sign >> 24 : nan, sum - float_of(step_of)};
}

// 12582912 = 1.5 * 2^23: near it floats are 1 apart, so that the sum's rounding is the rounding to a whole number, and its low
// byte the code in two's complement. Clamped before, since beyond 2^22 the sum would lose the number.
SK_INLINE small_float int8_of_float(float t) {
  t = t > 127.0f ? 127.0f : t;
  t = t < -127.0f ? -127.0f : t;
  const float sum = t + 12582912.0f;
  return (small_float){t == t ? bits_of(sum) & 0xff : 0, sum - 12582912.0f};
}

#define E4M3_OF(t) small_of_float(t, 3, 0x3c800000, 448.0f, 0x7f)
#define E5M2_OF(t) small_of_float(t, 2, 0x38800000, 57344.0f, 0x7f)

static void k_encode_e4m3(const float *restrict src, float scale, uint8_t *restrict dst, size_t n) {
  for (size_t i = 0; i < n; i++) dst[i] = (uint8_t)E4M3_OF(src[i] / scale).code;
}

static void k_encode_e5m2(const float *restrict src, float scale, uint8_t *restrict dst, size_t n) {
  for (size_t i = 0; i < n; i++) dst[i] = (uint8_t)E5M2_OF(src[i] / scale).code;
}

static void k_encode_int8(const float *restrict src, float scale, int8_t *restrict dst, size_t n) {
  for (size_t i = 0; i < n; i++) dst[i] = (int8_t)(uint8_t)int8_of_float(src[i] / scale).code;
}

// Counted in 32 bits, as wide as a float, 65,536 at a time.
static size_t k_encode_counted_e4m3(const float *restrict src, float scale, uint8_t *restrict dst, size_t n) {
  size_t total = 0;
  for (size_t start = 0; start < n; start += 1 << 16) {
    const size_t end = n - start < 1 << 16 ? n : start + (1 << 16);
    uint32_t changed = 0;
    for (size_t i = start; i < end; i++) {
      const small_float rounded = E4M3_OF(src[i] / scale);
      dst[i] = (uint8_t)rounded.code;
      changed += rounded.value * scale != float_of(bits_of(src[i]) & 0x7fffffff); // a scale is above zero
    }
    total += changed;
  }
  return total;
}

static size_t k_encode_counted_int8(const float *restrict src, float scale, uint8_t *restrict dst, size_t n) {
  size_t total = 0;
  for (size_t start = 0; start < n; start += 1 << 16) {
    const size_t end = n - start < 1 << 16 ? n : start + (1 << 16);
    uint32_t changed = 0;
    for (size_t i = start; i < end; i++) {
      const small_float rounded = int8_of_float(src[i] / scale);
      dst[i] = (uint8_t)rounded.code;
      changed += rounded.value * scale != src[i];
    }
    total += changed;
  }
  return total;
}

SK_INLINE uint32_t e2m1_of_float(float x) {
  const uint32_t code = small_of_float(x, 1, 0x3f800000, 6.0f, 7).code;
  return (code & 7) | (code >> 4 & 8); // the sign stands in bit 7 there
}

static void k_encode_e2m1(const float *restrict src, float scale, uint8_t *restrict dst, size_t n) {
  for (size_t j = 0; j < n / 2; j++) {
    uint32_t low = e2m1_of_float(src[2 * j] / scale), high = e2m1_of_float(src[2 * j + 1] / scale);
    dst[j] = (uint8_t)(low | high << 4);
  }
}
