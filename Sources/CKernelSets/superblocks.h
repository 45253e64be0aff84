// GGUF's blocks of 256 columns whose groups have integer scales, and iq4_nl: encoders that search. Part of body.h.
// First each group's scale (and least value) on its own, then the block's scale, then for each group the integers
// around: of sixteen the one with the least error of the numbers as they will be read. Formats/encodings.md, section 21.

// The weights of a group: where importances are all zero, ones; NULL, all alike, without any.
SK_INLINE const float *group_weights(const float *w, float *out, const size_t n) {
  if (!w) return NULL;
  int32_t any = 0;
  for (size_t i = 0; i < n; i++) any |= w[i] > 0 ? 1 : 0;
  for (size_t i = 0; i < n; i++) out[i] = any ? w[i] : 1.0f;
  return out;
}

typedef struct {
  uint16_t d, m;                 // the block's scales, F16
  int16_t scale[16], least[16];  // the groups' integers
  uint8_t codes[256];            // from 0 on
} sk_block;

// y = d * scale * code - m * least, integers 0...most, codes 0...top. `w` is a constant NULL, or never NULL: two searches.
SK_INLINE int64_t search_affine_by(const float *x, const float *w, const size_t groups, const size_t width, const float top,
                                const float most, const float from, const float step, sk_block *out) {
  if (block_absmax(x, 256) > SK_SEARCH_LIMIT) return -1;
  float weights[256], s[16], m[16], largest = 0, deepest = 0;
  for (size_t g = 0; g < groups; g++) {
    const float *wg = group_weights(w ? w + g * width : NULL, weights + g * width, width);
    const affine_fit fit = fit_above(x + g * width, wg, width, top, 0, from, step);
    s[g] = fit.scale;
    m[g] = fit.least;
    largest = s[g] > largest ? s[g] : largest;
    deepest = m[g] > deepest ? m[g] : deepest;
  }
  const float d = half_not_below(largest / most), dm = half_not_below(deepest / most);
  if (!fits_half(d) || !fits_half(dm)) return -1;
  out->d = half_of_float(d);
  out->m = half_of_float(dm);
  const float per_d = inverse_of(d), per_dm = inverse_of(dm);
  int64_t inexact = 0;
  for (size_t g = 0; g < groups; g++) {
    const float *xg = x + g * width;
    const f32x16 four = {0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3};
    const f32x16 fours = {0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3};
    const float s0 = (float)(int32_t)(s[g] * per_d) - 1.0f, m0 = (float)(int32_t)(m[g] * per_dm) - 1.0f;
    const f32x16 is = clamped(four + s0, 0, most), im = clamped(fours + m0, 0, most);
    const f32x16 scale = is * d, least = im * dm;
    const int best = least_lane(errors_above(xg, w ? weights + g * width : NULL, width, scale, least, top));
    out->scale[g] = (int16_t)is[best];
    out->least[g] = (int16_t)im[best];
    const float F = scale[best], M = least[best], inverse = F == 0 ? 0 : 1.0f / F;
    int32_t count = 0;
    for (size_t i = 0; i < width; i++) {
      const float q = nearest_product_1(xg[i] + M, inverse, 0, top);
      out->codes[g * width + i] = (uint8_t)(int32_t)q;
      count += F * q - M != xg[i];
    }
    inexact += count;
  }
  return inexact;
}

// y = d * scale * code, integers -most...most - 1.
SK_INLINE int64_t search_symmetric_by(const float *x, const float *w, const size_t groups, const size_t width,
                                   const code_range r, const float most, sk_block *out) {
  if (block_absmax(x, 256) > SK_SEARCH_LIMIT) return -1;
  float weights[256], s[16], largest = 0;
  for (size_t g = 0; g < groups; g++) {
    const float *wg = group_weights(w ? w + g * width : NULL, weights + g * width, width);
    s[g] = best_scale(x + g * width, wg, width, r, 0);
    largest = magnitude(s[g]) > magnitude(largest) ? s[g] : largest;
  }
  const float d = largest == 0 ? 0 : half_not_below(largest / -most);
  if (!fits_half(d)) return -1;
  out->d = half_of_float(d);
  const float per_d = inverse_of(d);
  int64_t inexact = 0;
  for (size_t g = 0; g < groups; g++) {
    const float *xg = x + g * width;
    const f32x16 base = nearest(lanes(s[g] * per_d)) - 8.0f;
    const f32x16 integers = clamped(numbers(0, 1) + base, -most, most - 1);
    const f32x16 scale = integers * d;
    const int best = least_lane(errors_of(xg, w ? weights + g * width : NULL, width, scale, r));
    out->scale[g] = (int16_t)integers[best];
    const float F = scale[best], inverse = F == 0 ? 0 : 1.0f / F;
    int32_t count = 0;
    for (size_t i = 0; i < width; i++) {
      float q;
      if (r.table) {
        const uint8_t code = nonlinear_code(xg[i] * inverse);
        out->codes[g * width + i] = code;
        q = sk_nonlinear[code];
      } else {
        q = nearest_product_1(xg[i], inverse, r.low, r.high);
        out->codes[g * width + i] = (uint8_t)(int32_t)(q - r.low);
      }
      count += F * q != xg[i];
    }
    inexact += count;
  }
  return inexact;
}

SK_INLINE int64_t search_affine(const float *x, const float *w, const size_t groups, const size_t width, const float top,
                                const float most, const float from, const float step, sk_block *out) {
  return w ? search_affine_by(x, w, groups, width, top, most, from, step, out)
           : search_affine_by(x, NULL, groups, width, top, most, from, step, out);
}

SK_INLINE int64_t search_symmetric(const float *x, const float *w, const size_t groups, const size_t width,
                                   const code_range r, const float most, sk_block *out) {
  return w ? search_symmetric_by(x, w, groups, width, r, most, out)
           : search_symmetric_by(x, NULL, groups, width, r, most, out);
}

// Bits 0 and 1 of the codes: byte j of a half of 128 columns holds columns j, j + 32, j + 64, j + 96.
SK_INLINE void pack_pairs(const uint8_t *codes, const int shift, uint8_t *dst) {
  for (size_t h = 0; h < 2; h++)
    for (size_t j = 0; j < 32; j++) {
      const uint8_t *c = codes + 128 * h + j;
      dst[32 * h + j] = (uint8_t)((c[0] >> shift & 3) | (c[32] >> shift & 3) << 2 | (c[64] >> shift & 3) << 4 |
                                  (c[96] >> shift & 3) << 6);
    }
}

// The 8 scales and least values of q4_k and q5_k: 6 bits each in 12 bytes.
SK_INLINE void pack_six_bits(const sk_block *b, uint8_t *dst) {
  for (size_t g = 0; g < 4; g++) {
    const int s0 = b->scale[g], m0 = b->least[g], s1 = b->scale[g + 4], m1 = b->least[g + 4];
    dst[g] = (uint8_t)(s0 | (s1 >> 4) << 6);
    dst[g + 4] = (uint8_t)(m0 | (m1 >> 4) << 6);
    dst[g + 8] = (uint8_t)((s1 & 15) | (m1 & 15) << 4);
  }
}

#define SK_EACH_BLOCK(bytes, search)                                                                                 \
  int64_t inexact = 0;                                                                                               \
  for (size_t b = 0; b < n / 256; b++) {                                                                             \
    const float *x = src + 256 * b, *weights = w ? w + 256 * b : NULL;                                               \
    uint8_t *out = dst + (bytes) * b;                                                                                \
    sk_block block;                                                                                                  \
    const int64_t count = search;                                                                                    \
    if (count < 0) return -1 - (int64_t)b;                                                                           \
    inexact += count;

#define SK_EACH_BLOCK_END                                                                                            \
  }                                                                                                                  \
  return inexact;

// What each writes, in order. 16 bytes of scale and minimum, 4 bits each; 64 of codes by pack_pairs; d; m.
static int64_t k_encode_q2_k(const float *src, const float *w, uint8_t *restrict dst, size_t n) {
  SK_EACH_BLOCK(84, search_affine(x, weights, 16, 16, 3, 15, -0.7f, 0.12f, &block))
  for (size_t g = 0; g < 16; g++) out[g] = (uint8_t)(block.scale[g] | block.least[g] << 4);
  pack_pairs(block.codes, 0, out + 16);
  store16(out + 80, block.d);
  store16(out + 82, block.m);
  SK_EACH_BLOCK_END
}

// 32 bytes of high bits (bit k of byte j: column 32k + j); 64 of low ones by pack_pairs; scales + 32 in 6 bits: 8 bytes of their low
// nibbles, 4 of their high pairs; d.
static int64_t k_encode_q3_k(const float *src, const float *w, uint8_t *restrict dst, size_t n) {
  const code_range r = {0, -4, 3};
  SK_EACH_BLOCK(110, search_symmetric(x, weights, 16, 16, r, 32, &block))
  for (size_t j = 0; j < 32; j++) {
    uint8_t high = 0;
    for (size_t k = 0; k < 8; k++) high |= (uint8_t)((block.codes[32 * k + j] >> 2) << k);
    out[j] = high;
  }
  pack_pairs(block.codes, 0, out + 32);
  for (size_t g = 0; g < 8; g++)
    out[96 + g] = (uint8_t)(((block.scale[g] + 32) & 15) | ((block.scale[g + 8] + 32) & 15) << 4);
  for (size_t g = 0; g < 4; g++) {
    uint8_t high = 0;
    for (size_t k = 0; k < 4; k++) high |= (uint8_t)(((block.scale[g + 4 * k] + 32) >> 4) << 2 * k);
    out[104 + g] = high;
  }
  store16(out + 108, block.d);
  SK_EACH_BLOCK_END
}

// d; m; 12 bytes of 6-bit scales and minima; for each 64 columns 32 bytes, column j low and j + 32 high.
static int64_t k_encode_q4_k(const float *src, const float *w, uint8_t *restrict dst, size_t n) {
  SK_EACH_BLOCK(144, search_affine(x, weights, 8, 32, 15, 63, -1.5f, 0.2f, &block))
  store16(out, block.d);
  store16(out + 2, block.m);
  pack_six_bits(&block, out + 4);
  for (size_t p = 0; p < 4; p++)
    for (size_t j = 0; j < 32; j++)
      out[16 + 32 * p + j] = (uint8_t)(block.codes[64 * p + j] | block.codes[64 * p + 32 + j] << 4);
  SK_EACH_BLOCK_END
}

// As q4_k, with 32 bytes of fifth bits before the nibbles: bit k of byte j is column 32k + j's.
static int64_t k_encode_q5_k(const float *src, const float *w, uint8_t *restrict dst, size_t n) {
  SK_EACH_BLOCK(176, search_affine(x, weights, 8, 32, 31, 63, -2.0f, 0.25f, &block))
  store16(out, block.d);
  store16(out + 2, block.m);
  pack_six_bits(&block, out + 4);
  for (size_t j = 0; j < 32; j++) {
    uint8_t high = 0;
    for (size_t k = 0; k < 8; k++) high |= (uint8_t)((block.codes[32 * k + j] >> 4) << k);
    out[16 + j] = high;
  }
  for (size_t p = 0; p < 4; p++)
    for (size_t j = 0; j < 32; j++)
      out[48 + 32 * p + j] = (uint8_t)((block.codes[64 * p + j] & 15) | block.codes[64 * p + 32 + j] << 4);
  SK_EACH_BLOCK_END
}

// Low nibbles, for each 128 columns 64 bytes, column j low and j + 64 high; 64 bytes of bits 4 and 5; 16 signed scales; d.
static int64_t k_encode_q6_k(const float *src, const float *w, uint8_t *restrict dst, size_t n) {
  const code_range r = {0, -32, 31};
  SK_EACH_BLOCK(210, search_symmetric(x, weights, 16, 16, r, 128, &block))
  for (size_t h = 0; h < 2; h++)
    for (size_t j = 0; j < 64; j++) {
      const uint8_t *c = block.codes + 128 * h + j;
      out[64 * h + j] = (uint8_t)((c[0] & 15) | c[64] << 4);
    }
  pack_pairs(block.codes, 4, out + 128);
  for (size_t g = 0; g < 16; g++) out[192 + g] = (uint8_t)block.scale[g];
  store16(out + 208, block.d);
  SK_EACH_BLOCK_END
}

// d; the high pairs of the 8 scales + 32 in a word; 4 bytes of their low nibbles; 16 bytes of codes for each 32 columns.
static int64_t k_encode_iq4_xs(const float *src, const float *w, uint8_t *restrict dst, size_t n) {
  const code_range r = {1, -127, 113};
  SK_EACH_BLOCK(136, search_symmetric(x, weights, 8, 32, r, 32, &block))
  store16(out, block.d);
  uint16_t high = 0;
  for (size_t g = 0; g < 8; g++) high |= (uint16_t)((block.scale[g] + 32) >> 4 << 2 * g);
  store16(out + 2, high);
  for (size_t g = 0; g < 4; g++)
    out[4 + g] = (uint8_t)(((block.scale[2 * g] + 32) & 15) | ((block.scale[2 * g + 1] + 32) & 15) << 4);
  for (size_t g = 0; g < 8; g++) pack_nibbles_32(block.codes + 32 * g, out + 8 + 16 * g);
  SK_EACH_BLOCK_END
}

// d; 16 bytes of codes, column j low and j + 16 high.
static int64_t k_encode_iq4_nl(const float *src, const float *w, uint8_t *restrict dst, size_t n) {
  const code_range r = {1, -127, 113};
  int64_t inexact = 0;
  for (size_t b = 0; b < n / 32; b++) {
    const float *x = src + 32 * b;
    uint8_t *out = dst + 18 * b, codes[32];
    float weights[32];
    const float *own = group_weights(w ? w + 32 * b : NULL, weights, 32);
    const float d = own ? best_scale(x, own, 32, r, 1) : best_scale(x, NULL, 32, r, 1), inverse = inverse_of(d);
    if (!fits_half(d)) return -1 - (int64_t)b;
    store16(out, half_of_float(d));
    int32_t count = 0;
    for (size_t j = 0; j < 32; j++) {
      codes[j] = nonlinear_code(x[j] * inverse);
      count += d * sk_nonlinear[codes[j]] != x[j];
    }
    pack_nibbles_32(codes, out + 2);
    inexact += count;
  }
  return inexact;
}

// ---- blocks of 32 with a scale: the reference's bytes, or the best scale where importances say what is best ----

SK_INLINE int64_t symmetric_32(const float *x, const float *w, uint8_t *out, const int32_t N, uint8_t *codes) {
  if (!w) return encode_symmetric_32(x, out, N, codes);
  const code_range r = {0, (float)-N, (float)(N - 1)};
  float weights[32];
  group_weights(w, weights, 32);
  const float d = best_scale(x, weights, 32, r, 1), inverse = inverse_of(d);
  if (!fits_half(d)) return -1;
  store16(out, half_of_float(d));
  int32_t count = 0;
  for (size_t j = 0; j < 32; j++) {
    const float q = nearest_product_1(x[j], inverse, r.low, r.high);
    codes[j] = (uint8_t)((int32_t)q + N);
    count += q * d != x[j];
  }
  return count;
}

SK_INLINE int64_t affine_32(const float *x, const float *w, uint8_t *out, const int32_t top, uint8_t *codes) {
  if (!w) return encode_affine_32(x, out, top, codes);
  if (block_absmax(x, 32) > SK_SEARCH_LIMIT) return -1;
  float weights[32];
  group_weights(w, weights, 32);
  const affine_fit fit = fit_above(x, weights, 32, (float)top, 1, top == 15 ? -1.5f : -2.0f, top == 15 ? 0.2f : 0.25f);
  const uint16_t half = half_of_float(fit.scale), least = half_of_float(-fit.least);
  if (!fits_half(fit.scale) || !fits_half(fit.least)) return -1;
  const float d = float_of_half(half), m = float_of_half(least), inverse = inverse_of(d);
  store16(out, half);
  store16(out + 2, least);
  int32_t count = 0;
  for (size_t j = 0; j < 32; j++) {
    const float q = nearest_product_1(x[j] - m, inverse, 0, (float)top);
    codes[j] = (uint8_t)(int32_t)q;
    count += q * d + m != x[j];
  }
  return count;
}

#define SK_SMALL_BLOCKS(name, bytes, encode, pack)                                                                   \
  static int64_t k_encode_##name(const float *src, const float *w, uint8_t *restrict dst, size_t n) {                \
    int64_t inexact = 0;                                                                                             \
    for (size_t b = 0; b < n / 32; b++) {                                                                            \
      const float *x = src + 32 * b, *weights = w ? w + 32 * b : NULL;                                               \
      uint8_t *out = dst + (bytes) * b, codes[32];                                                                   \
      const int64_t count = encode;                                                                                  \
      if (count < 0) return -1 - (int64_t)b;                                                                         \
      inexact += count;                                                                                              \
      pack;                                                                                                          \
    }                                                                                                                \
    return inexact;                                                                                                  \
  }

SK_SMALL_BLOCKS(q4_0, 18, symmetric_32(x, weights, out, 8, codes), pack_nibbles_32(codes, out + 2))
SK_SMALL_BLOCKS(q4_1, 20, affine_32(x, weights, out, 15, codes), pack_nibbles_32(codes, out + 4))
SK_SMALL_BLOCKS(q5_0, 22, symmetric_32(x, weights, out, 16, codes),
                (pack_fifth_32(codes, out + 2), pack_nibbles_32(codes, out + 6)))
SK_SMALL_BLOCKS(q5_1, 24, affine_32(x, weights, out, 31, codes),
                (pack_fifth_32(codes, out + 4), pack_nibbles_32(codes, out + 8)))
