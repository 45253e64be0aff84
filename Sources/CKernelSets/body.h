// The element-wise kernels: one plain scalar loop each, compiled once for each instruction set. The including file
// sets SK_TABLE (the table's name), SK_VL (floats in a vector), SK_MR x SK_NR (rows of a and of w in one tile of the
// matrix product; SK_NR1: of w for one row of a; SK_STRIP_MAX: the strip of SK_MR rows), SK_CHAINS (sums in flight of the
// peak loop), SK_HALF (1: _Float16 converts in hardware), SK_CODEC (which groups of symbols: codec_planes.h), SK_DOT8 (which products of
// bytes: panel_i8.h), perhaps SK_CHANGED, and the target attribute around this file.
//
// No expression is contracted here: a product and a sum round twice unless fmaf() is written, so that all
// instruction sets give the same bits.
#include "table.h"
#include <string.h>

#pragma STDC FP_CONTRACT OFF
#pragma clang diagnostic ignored "-Wpass-failed" // a sanitizer's build does not vectorize, and need not

// Always inlined: what is constant at the call (a tile's size, the bits of a stage) is constant inside, and the target attribute
// of the including file holds for it too.
#define SK_INLINE static inline __attribute__((always_inline))
// The arrays of the next loop are the same or do not overlap. SAFETY: a promise to the compiler, which vectorizes without looking;
// CKernels.h passes it on to callers.
#define SK_INDEPENDENT _Pragma("clang loop vectorize(assume_safety)")

SK_INLINE uint32_t bits_of(float x) { return __builtin_bit_cast(uint32_t, x); }
SK_INLINE float float_of(uint32_t b) { return __builtin_bit_cast(float, b); }
// SAFETY: through memcpy, so that any address will do and no type is punned; each becomes one instruction.
SK_INLINE uint16_t load16(const uint8_t *p) { uint16_t v; memcpy(&v, p, 2); return v; }
SK_INLINE uint32_t load32(const uint8_t *p) { uint32_t v; memcpy(&v, p, 4); return v; }
SK_INLINE void store16(uint8_t *p, uint16_t v) { memcpy(p, &v, 2); }
SK_INLINE void store32(uint8_t *p, uint32_t v) { memcpy(p, &v, 4); }

// ---- codes to numbers and back ----

#include "formats.h"

// ---- scans ----

static float k_absmax_f32(const float *restrict src, size_t n) {
  int32_t best = 0; // the order of non-negative floats is the order of their bits
  for (size_t i = 0; i < n; i++) {
    int32_t a = (int32_t)(bits_of(src[i]) & 0x7fffffff);
    a = a > 0x7f800000 ? 0 : a;
    best = a > best ? a : best;
  }
  return float_of((uint32_t)best);
}

// The bits of non-negative floats are in their order, and those of infinity and NaN above all others.
static uint32_t k_peak_f32(const float *restrict src, size_t n) {
  int32_t best = 0;
  for (size_t i = 0; i < n; i++) {
    const int32_t a = (int32_t)(bits_of(src[i]) & 0x7fffffff);
    best = a > best ? a : best;
  }
  return (uint32_t)best;
}

static size_t k_count_different(const float *a, const float *b, size_t n) {
  size_t total = 0;
  for (size_t start = 0; start < n; start += 1 << 16) {
    const size_t end = n - start < 1 << 16 ? n : start + (1 << 16);
    uint32_t count = 0;
    for (size_t i = start; i < end; i++) count += a[i] != b[i];
    total += count;
  }
  return total;
}

// Counted in 32 bits, as wide as a float, so that the loop is as wide as the vector; 65,536 at a time cannot overflow them.
static size_t k_count_nonfinite_f32(const float *restrict src, size_t n) {
  size_t total = 0;
  for (size_t start = 0; start < n; start += 1 << 16) {
    const size_t end = n - start < 1 << 16 ? n : start + (1 << 16);
    uint32_t count = 0;
    for (size_t i = start; i < end; i++) count += (bits_of(src[i]) & 0x7f800000) == 0x7f800000;
    total += count;
  }
  return total;
}

// Whole blocks of 256 are tested without a branch, which vectorizes; the block with a find, or the rest, is walked.
#define SK_FIND(condition)                                                                                           \
  size_t i = 0;                                                                                                      \
  for (; n - i >= 256; i += 256) {                                                                                   \
    uint8_t any = 0;                                                                                                 \
    for (size_t j = 0; j < 256; j++) {                                                                               \
      const uint8_t code = src[i + j];                                                                               \
      any |= (condition) ? 1 : 0;                                                                                    \
    }                                                                                                                \
    if (any) break;                                                                                                  \
  }                                                                                                                  \
  for (; i < n; i++) {                                                                                               \
    const uint8_t code = src[i];                                                                                     \
    if (condition) return i;                                                                                         \
  }                                                                                                                  \
  return n;

static size_t k_find_nan_e4m3(const uint8_t *restrict src, size_t n) { SK_FIND((code & 0x7f) == 0x7f) }
static size_t k_find_nan_e5m2(const uint8_t *restrict src, size_t n) { SK_FIND((code & 0x7f) >= 0x7c) }
static size_t k_find_nonfinite16(const uint8_t *restrict src, uint16_t exponent, size_t n) {
  size_t i = 0;
  for (; n - i >= 512; i += 512) { // blocks of one length, so that the loop is wide
    uint16_t words[512], any = 0;
    memcpy(words, src + 2 * i, sizeof words);
    for (size_t j = 0; j < 512; j++) any |= (uint16_t)-((words[j] & exponent) == exponent);
    if (any) break;
  }
  for (; i < n; i++) {
    uint16_t v;
    memcpy(&v, src + 2 * i, 2);
    if ((v & exponent) == exponent) return i;
  }
  return n;
}
static size_t k_find_byte(const uint8_t *restrict src, uint8_t byte, size_t n) { SK_FIND(code == byte) }

static void k_observe(const float *restrict x, float *restrict absmax, double *restrict sumsq, size_t n) {
  for (size_t i = 0; i < n; i++) {
    float a = float_of(bits_of(x[i]) & 0x7fffffff);
    absmax[i] = a > absmax[i] ? a : absmax[i];
    sumsq[i] += (double)x[i] * (double)x[i]; // the product is exact in double
  }
}

// ---- products ----

#include "product.h"

static void k_axpy_f32(float alpha, const float *restrict x, float *restrict y, size_t n) {
  for (size_t i = 0; i < n; i++) y[i] = __builtin_fmaf(alpha, x[i], y[i]);
}

static float k_sum_squares(const float *x, size_t n) { return k_dot_f32(x, x, n); }

typedef double f64x16 __attribute__((ext_vector_type(16)));

// Sum of w[i] * (x[i] - y[i])^2 for n <= SK_BLOCK, in the 16 lanes and the tree of a dot product, in double: the difference of two
// floats is exact there, and w * d is rounded once before it is fused with d. Lanes beyond n count w = 1 times zero.
SK_INLINE double weighted_error(const float *x, const float *w, const float *y, size_t n) {
  f64x16 sum = 0;
  for (size_t i = 0; i < n; i += 16) {
    f32x16 xv = 0, yv = 0, wv = 1;
    if (n - i >= 16) {
      memcpy(&xv, x + i, sizeof xv);
      memcpy(&yv, y + i, sizeof yv);
      if (w) memcpy(&wv, w + i, sizeof wv);
    } else {
      for (size_t l = 0; l < n - i; l++) {
        xv[l] = x[i + l];
        yv[l] = y[i + l];
        if (w) wv[l] = w[i + l];
      }
    }
    f64x16 d = __builtin_convertvector(xv, f64x16) - __builtin_convertvector(yv, f64x16);
    sum = __builtin_elementwise_fma(__builtin_convertvector(wv, f64x16) * d, d, sum);
  }
  double s[16];
  memcpy(s, &sum, sizeof s);
  for (size_t half = 8; half > 0; half /= 2)
    for (size_t l = 0; l < half; l++) s[l] += s[l + half];
  return s[0];
}

// The error of a scale, a block of columns at a time, so that codes and numbers stay in the first-level cache (at most 5 KiB). Block
// totals are added first to last, as in a dot product.
static double k_error_int8(const float *x, const float *w, float scale, size_t n) {
  int8_t codes[SK_BLOCK];
  float y[SK_BLOCK];
  double total = 0;
  for (size_t start = 0; start < n; start += SK_BLOCK) {
    const size_t count = n - start < SK_BLOCK ? n - start : SK_BLOCK;
    k_encode_int8(x + start, scale, codes, count);
    k_decode_int8(codes, scale, y, count);
    total += weighted_error(x + start, w ? w + start : w, y, count);
  }
  return total;
}

static double k_error_e4m3(const float *x, const float *w, float scale, size_t n) {
  uint8_t codes[SK_BLOCK];
  float y[SK_BLOCK];
  double total = 0;
  for (size_t start = 0; start < n; start += SK_BLOCK) {
    const size_t count = n - start < SK_BLOCK ? n - start : SK_BLOCK;
    k_encode_e4m3(x + start, scale, codes, count);
    k_decode_e4m3(codes, scale, y, count);
    total += weighted_error(x + start, w ? w + start : w, y, count);
  }
  return total;
}

static double k_error_int4(const float *x, const float *w, float scale, float gain, size_t n) {
  float y[SK_BLOCK];
  double total = 0;
  for (size_t start = 0; start < n; start += SK_BLOCK) {
    const size_t count = n - start < SK_BLOCK ? n - start : SK_BLOCK;
    SK_INDEPENDENT
    for (size_t i = 0; i < count; i++) {
      float t = x[start + i] / scale;
      t = t > 7 ? 7 : t;
      t = t < -8 ? -8 : t;
      y[i] = ((t + 12582912.0f) - 12582912.0f) * scale - gain * x[start + i];
    }
    total += weighted_error(x + start, w ? w + start : w, y, count);
  }
  return total;
}

static double k_error_e2m1(const float *x, const float *w, float scale, float gain, size_t n) {
  float y[SK_BLOCK];
  double total = 0;
  for (size_t start = 0; start < n; start += SK_BLOCK) {
    const size_t count = n - start < SK_BLOCK ? n - start : SK_BLOCK;
    SK_INDEPENDENT
    for (size_t i = 0; i < count; i++) {
      const uint32_t code = e2m1_of_float(x[start + i] / scale), a = code & 7;
      // 1.m times 2^(e-1); below one, half of m.
      const float normal = float_of(((a >> 1) + 126) << 23 | (a & 1) << 22), small = (float)(int32_t)a * 0.5f;
      y[i] = float_of(bits_of(a < 2 ? small : normal) | (code & 8) << 28) * scale - gain * x[start + i];
    }
    total += weighted_error(x + start, w ? w + start : w, y, count);
  }
  return total;
}

// ---- pieces of a forward pass ----

// One pass for the sum, one for the scaling; x is in the cache by then. A square root and a division, both rounded to nearest,
// in place of the machine's estimate: the same bits everywhere.
static void k_rms_norm(const float *x, const float *w, float eps, float *dst, size_t n) {
  const float r = 1.0f / __builtin_sqrtf(k_sum_squares(x, n) / (float)n + eps);
  if (w) {
    SK_INDEPENDENT
    for (size_t i = 0; i < n; i++) dst[i] = x[i] * r * w[i];
  } else {
    SK_INDEPENDENT
    for (size_t i = 0; i < n; i++) dst[i] = x[i] * r;
  }
}

// e^x = 2^n e^r with n = rne(x / ln 2), |r| <= ln 2 / 2 (Cody and Waite's two-part ln 2); e^r = 1 + r + r^2 q(r), q the
// minimax polynomial for the relative error, 2^-28. 2^n goes in as two factors: subnormal results round once.
SK_INLINE float exponential(float x) {
  const float shifted = __builtin_fmaf(x, 0x1.715476p+0f, 12582912.0f);
  const int32_t n = (int32_t)(bits_of(shifted) - 0x4b400000);
  const float whole = shifted - 12582912.0f;
  float r = __builtin_fmaf(whole, -0x1.62e43p-1f, x); // exact
  r = __builtin_fmaf(whole, 0x1.05c61p-29f, r);
  float q = 0x1.6a4d14p-10f;
  q = __builtin_fmaf(q, r, 0x1.12398ap-7f);
  q = __builtin_fmaf(q, r, 0x1.5558bp-5f);
  q = __builtin_fmaf(q, r, 0x1.555492p-3f);
  q = __builtin_fmaf(q, r, 0x1.fffffcp-2f);
  const float p = __builtin_fmaf(q, r * r, r) + 1.0f;
  const int32_t half = n >> 1;
  float y = p * float_of((uint32_t)(half + 127) << 23) * float_of((uint32_t)(n - half + 127) << 23);
  y = x > 88.8f ? __builtin_inff() : y;
  return x < -104.0f ? 0.0f : y;
}

static void k_exp(const float *x, float *dst, size_t n) {
  SK_INDEPENDENT
  for (size_t i = 0; i < n; i++) dst[i] = exponential(x[i]);
}

// Three passes over x, in place: the largest, the exponentials, the division by their sum. The sum runs in the order of a dot
// product; the sink is added to it last. Division and not a product with the inverse: one rounding.
static void k_softmax_sink(float *x, size_t n, float sink) {
  const float m = largest(x, n, sink);
  if (m == -__builtin_inff()) { // nothing to choose from
    for (size_t i = 0; i < n; i++) x[i] = 0;
    return;
  }
  for (size_t i = 0; i < n; i++) x[i] = exponential(x[i] - m);
  const float total = exponential(sink - m) + sum_of(x, n);
  for (size_t i = 0; i < n; i++) x[i] = x[i] / total;
}

static void k_swiglu(const float *gate, const float *up, float limit, float *dst, size_t n) {
  SK_INDEPENDENT
  for (size_t i = 0; i < n; i++) {
    float g = gate[i], u = up[i];
    g = g > limit ? limit : g;
    u = u > limit ? limit : u;
    u = u < -limit ? -limit : u;
    dst[i] = g / (1.0f + exponential(-g)) * u;
  }
}

// 0.5 (1 + tanh t) is 1 / (1 + e^(-2t)); beyond the range of the exponential the quotient is 0 or 1 by itself.
static void k_geglu(const float *gate, const float *up, float *dst, size_t n) {
  SK_INDEPENDENT
  for (size_t i = 0; i < n; i++) {
    const float g = gate[i];
    const float t = 0.7978845608f * (g + 0.044715f * (g * g * g));
    dst[i] = g / (1.0f + exponential(-2.0f * t)) * up[i];
  }
}

// Products round before they are added (no contraction), as in the reference that the golden models come from.
static void k_rope_interleaved(float *restrict x, const float *restrict cosines, const float *restrict sines, float sign,
                               size_t n) {
  for (size_t i = 0; i < n / 2; i++) {
    const float a = x[2 * i], b = x[2 * i + 1], c = cosines[i], s = sines[i] * sign;
    x[2 * i] = a * c - b * s;
    x[2 * i + 1] = a * s + b * c;
  }
}

static void k_mix_streams(const float *restrict x, const float *restrict c, size_t streams, float *restrict out, size_t n) {
  if (streams == 4) { // the usual number, in one pass
    const float c0 = c[0], c1 = c[1], c2 = c[2], c3 = c[3];
    for (size_t t = 0; t < n; t++) {
      float s = __builtin_fmaf(c1, x[n + t], c0 * x[t]);
      s = __builtin_fmaf(c2, x[2 * n + t], s);
      out[t] = __builtin_fmaf(c3, x[3 * n + t], s);
    }
    return;
  }
  for (size_t t = 0; t < n; t++) out[t] = streams == 0 ? 0 : c[0] * x[t];
  for (size_t j = 1; j < streams; j++)
    for (size_t t = 0; t < n; t++) out[t] = __builtin_fmaf(c[j], x[j * n + t], out[t]);
}

// ---- attention ----

#include "attention.h"

// ---- layers with a state ----

#include "outer.h"
#include "sequence.h"

// ---- byte planes ----

#include "planes.h"
#include "codec_planes.h"

// ---- GGUF's blocks ----

#include "blocks.h"
#include "search.h"
#include "superblocks.h"

// ---- products with codes ----

#include "unpack.h"
#include "coded_tiles.h"
#include "coded_nibbles.h"
#include "coded_rows.h"
#include "coded.h"
#include "decode_blocks.h"
#include "panel_i8.h"
#include "pack_i8.h"
#include "few_i8.h"
#include "few_superblocks_i8.h"
#include "few_blocks_i8.h"
#include "rounded_i8.h"

// ---- methods ----

#include "methods.h"

// ---- how far apart numbers are ----

#include "divergence.h"

// This instruction set's kernels by name, in the order of table.h. A set with SK_CHANGED has those alone that it does otherwise than the
// set it adds to (dispatch.c): the compiler drops the rest of this file there.
const sk_table SK_TABLE = {
#ifdef SK_CHANGED
#define SK_ENTRY(name) .name = k_##name,
    SK_CHANGED(SK_ENTRY)
#else
#define SK_ENTRY(result, name, parameters, arguments) .name = k_##name,
    SK_KERNELS(SK_ENTRY)
    .peak = k_peak,
    .peak8 = k_peak8,
#endif
#undef SK_ENTRY
};
