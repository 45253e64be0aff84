// GGUF's blocks with one scale, as ggml's reference writes them, bit for bit: Formats/encodings.md, section 20. Part of
// body.h. The searches for better scales are in search.h and superblocks.h.
//
// Every encoder takes n floats (finite, n a whole number of blocks), weights of the columns or NULL, and gives how many
// values are stored as another number, or -1 - b when block b holds a value whose scale is beyond F16.

#define SK_HALF_LIMIT 65520.0f // the least magnitude that F16 rounds to infinity

SK_INLINE float magnitude(float x) { return float_of(bits_of(x) & 0x7fffffff); }
SK_INLINE int fits_half(float x) { return magnitude(x) < SK_HALF_LIMIT; }
SK_INLINE float inverse_of(float x) { // 0 for 0: every code then means zero
  const float inverse = 1.0f / x;
  return magnitude(inverse) < __builtin_inff() ? inverse : 0.0f;
}

SK_INLINE float block_absmax(const float *x, const size_t n) {
  int32_t best = 0; // the order of non-negative floats is the order of their bits
  for (size_t j = 0; j < n; j++) {
    const int32_t a = (int32_t)(bits_of(x[j]) & 0x7fffffff);
    best = a > best ? a : best;
  }
  return float_of((uint32_t)best);
}

// The first value of the largest magnitude.
SK_INLINE float block_peak(const float *x, const size_t n) {
  const float a = block_absmax(x, n);
  int32_t first = (int32_t)n;
  for (int32_t j = 0; j < (int32_t)n; j++) {
    const int32_t place = magnitude(x[j]) == a ? j : (int32_t)n;
    first = place < first ? place : first;
  }
  return a > 0 ? x[first] : 0;
}

SK_INLINE int64_t count_block(const float *x, const float *y, const size_t n) {
  int32_t count = 0;
  for (size_t j = 0; j < n; j++) count += x[j] != y[j];
  return count;
}

// The nearest integer, halves away from zero, for |x| < 2^22: what is added is the largest float below a half, so that x just below
// a half stays there, and a half itself rounds up in the sum.
SK_INLINE int32_t round_away(float x) { return (int32_t)(x + float_of((bits_of(x) & 0x80000000) | 0x3effffff)); }

// Four low bits of codes j and j + half in byte j.
SK_INLINE void pack_nibbles_32(const uint8_t *codes, uint8_t *dst) {
  for (size_t j = 0; j < 16; j++) dst[j] = (uint8_t)((codes[j] & 15) | codes[j + 16] << 4);
}

SK_INLINE void pack_fifth_32(const uint8_t *codes, uint8_t *dst) {
  uint32_t fifth = 0;
  for (uint32_t j = 0; j < 32; j++) fifth |= (uint32_t)(codes[j] >> 4 & 1) << j;
  store32(dst, fifth);
}

// Sixteen blocks at a time, so that their scales are one vector's work; the values that changed are counted in lanes, which are
// added up once. A reciprocal that is infinite or a scale beyond F16 spoils its own block only.
static int64_t k_encode_q8_0(const float *restrict src, const float *w, uint8_t *restrict dst, size_t n) {
  (void)w;
  int64_t inexact = 0;
  float reciprocals[16], scales[16];
  uint16_t halves[16];
  for (size_t first = 0; first < n / 32; first += 16) {
    const size_t count = n / 32 - first < 16 ? n / 32 - first : 16;
    float largest[16] = {0};
    for (size_t b = 0; b < count; b++) largest[b] = block_absmax(src + 32 * (first + b), 32);
    for (size_t b = 0; b < 16; b++) {
      const float d = largest[b] / 127.0f;
      largest[b] = d;
      reciprocals[b] = inverse_of(d);
      halves[b] = half_of_float(d);
    }
    for (size_t b = 0; b < 16; b++) scales[b] = float_of_half(halves[b]);
    int32_t different[32] = {0};
    for (size_t b = 0; b < count; b++) {
      const float *x = src + 32 * (first + b);
      uint8_t *out = dst + 34 * (first + b);
      const float inverse = reciprocals[b], scale = scales[b];
      if (!fits_half(largest[b])) return -1 - (int64_t)(first + b);
      store16(out, halves[b]);
      for (size_t j = 0; j < 32; j++) {
        const int32_t code = round_away(x[j] * inverse);
        different[j] += (float)code * scale != x[j];
        out[2 + j] = (uint8_t)code;
      }
    }
    int32_t sum = 0;
    for (size_t j = 0; j < 32; j++) sum += different[j];
    inexact += sum;
  }
  return inexact;
}

// Codes 0...2N - 1 for -N...N - 1 times a scale; the value of the largest magnitude gets code 0, exactly.
SK_INLINE int64_t encode_symmetric_32(const float *x, uint8_t *out, const int32_t N, uint8_t *codes) {
  const float d = block_peak(x, 32) / (float)-N, inverse = inverse_of(d);
  if (!fits_half(d)) return -1;
  const uint16_t half = half_of_float(d);
  const float scale = float_of_half(half);
  store16(out, half);
  int32_t count = 0;
  for (size_t j = 0; j < 32; j++) {
    int32_t code = (int32_t)(x[j] * inverse + ((float)N + 0.5f));
    code = code > 2 * N - 1 ? 2 * N - 1 : code;
    codes[j] = (uint8_t)code;
    count += (float)(code - N) * scale != x[j];
  }
  return count;
}

// Codes 0...top times a scale above the least value.
SK_INLINE int64_t encode_affine_32(const float *x, uint8_t *out, const int32_t top, uint8_t *codes) {
  float least = x[0], largest = x[0];
  for (size_t j = 1; j < 32; j++) {
    least = x[j] < least ? x[j] : least;
    largest = x[j] > largest ? x[j] : largest;
  }
  for (size_t j = 32; least == 0 && j > 0; j--) // of both zeros the first
    if (x[j - 1] == 0) least = x[j - 1];
  const float d = (largest - least) / (float)top, inverse = inverse_of(d);
  if (!fits_half(d) || !fits_half(least)) return -1;
  const uint16_t half = half_of_float(d), least_half = half_of_float(least);
  const float scale = float_of_half(half), offset = float_of_half(least_half);
  store16(out, half);
  store16(out + 2, least_half);
  int32_t count = 0;
  for (size_t j = 0; j < 32; j++) {
    int32_t code = (int32_t)((x[j] - least) * inverse + 0.5f);
    code = code > top ? top : code;
    codes[j] = (uint8_t)code;
    count += (float)code * scale + offset != x[j];
  }
  return count;
}

// The largest power of two not above the block's largest magnitude, which then has a code from 4 to 7.99. ggml takes the
// logarithm in float32: from |k| = 2 on, magnitudes a few units below 2^k come out as k.
SK_INLINE uint8_t exponent_of_mxfp4(float absmax) {
  if (absmax < 0x1p-125f) return 0;
  const uint32_t bits = bits_of(absmax);
  int32_t exponent = (int32_t)(bits >> 23) - 127;
  const int32_t k = exponent + 1, size = k < 0 ? -k : k;
  const float units = (float)(0x800000 - (bits & 0x7fffff)); // below 2^k, each 2^-24 of it
  const int32_t ulps = (int32_t)(bits_of((float)size) >> 23) - 127 - (k > 0 && (k & (k - 1)) == 0);
  if (size > 1 && units * 1.442695f < (float)(1 << ulps)) exponent = k;
  return (uint8_t)(exponent + 125);
}

// The nearest of 0, 1, 2, 3, 4, 6, 8, 12 times a scale of few bits; of two the smaller. Zero has no sign.
SK_INLINE uint8_t code_of_doubled_e2m1(float x, float scale) {
  const float a = magnitude(x);
  int32_t code = (a > 0.5f * scale) + (a > 1.5f * scale) + (a > 2.5f * scale) + (a > 3.5f * scale) +
                 (a > 5.0f * scale) + (a > 7.0f * scale) + (a > 10.0f * scale);
  code = scale > 0 ? code : 0;
  return (uint8_t)(code + (code > 0 && x < 0 ? 8 : 0));
}

static const float doubled_e2m1[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

SK_INLINE float half_of_e8m0(uint8_t e) { return float_of(e < 2 ? 0x00200000u << e : (uint32_t)(e - 1) << 23); }

static int64_t k_encode_mxfp4_gguf(const float *restrict src, const float *w, uint8_t *restrict dst, size_t n) {
  (void)w;
  int64_t inexact = 0;
  for (size_t b = 0; b < n / 32; b++) {
    const float *x = src + 32 * b;
    uint8_t *out = dst + 17 * b, codes[32];
    const uint8_t e = exponent_of_mxfp4(block_absmax(x, 32));
    const float scale = half_of_e8m0(e);
    out[0] = e;
    for (size_t j = 0; j < 32; j++) {
      codes[j] = code_of_doubled_e2m1(x[j], scale);
      inexact += doubled_e2m1[codes[j]] * scale != x[j];
    }
    pack_nibbles_32(codes, out + 1);
  }
  return inexact;
}

// E4M3 without a sign; halves of the last place go up.
SK_INLINE uint8_t ue4m3_of_float(float x) {
  if (!(x > 0)) return 0;
  if (x < 0x1p-6f) {
    const int32_t m = (int32_t)(x * 512.0f + 0.5f);
    return (uint8_t)(m > 7 ? 7 : m);
  }
  const uint32_t code = ((bits_of(x) + 0x80000) >> 20) - 960;
  return (uint8_t)(code > 0x77 ? 0x7e : code); // ggml leaves the top binade but its largest number out
}

SK_INLINE float half_of_ue4m3(uint8_t code) {
  return code < 8 ? (float)code * 0x1p-10f : float_of(((uint32_t)code + 952) << 20);
}

static int64_t k_encode_nvfp4_gguf(const float *restrict src, const float *w, uint8_t *restrict dst, size_t n) {
  (void)w;
  int64_t inexact = 0;
  for (size_t g = 0; g < n / 16; g++) {
    const float *x = src + 16 * g;
    uint8_t *out = dst + 36 * (g / 4), *packed = out + 4 + 8 * (g % 4), codes[16];
    const float wanted = block_absmax(x, 16) / 6.0f;
    if (wanted > 464.0f) return -1 - (int64_t)(g / 4);
    const uint8_t e = ue4m3_of_float(wanted);
    const float scale = half_of_ue4m3(e);
    out[g % 4] = e;
    for (size_t j = 0; j < 16; j++) {
      codes[j] = code_of_doubled_e2m1(x[j], scale);
      inexact += doubled_e2m1[codes[j]] * scale != x[j];
    }
    for (size_t j = 0; j < 8; j++) packed[j] = (uint8_t)(codes[j] | codes[j + 8] << 4);
  }
  return inexact;
}

// ---- one, two and log2(3) bits a column ----

static int64_t k_encode_q1_0(const float *restrict src, const float *w, uint8_t *restrict dst, size_t n) {
  (void)w;
  int64_t inexact = 0;
  for (size_t b = 0; b < n / 128; b++) {
    const float *x = src + 128 * b;
    uint8_t *out = dst + 18 * b;
    float sum = 0;
    for (size_t j = 0; j < 128; j++) sum += magnitude(x[j]);
    const float d = sum / 128.0f;
    if (!fits_half(d)) return -1 - (int64_t)b;
    const uint16_t half = half_of_float(d);
    const float scale = float_of_half(half);
    store16(out, half);
    memset(out + 2, 0, 16);
    for (size_t j = 0; j < 128; j++) {
      if (x[j] >= 0) out[2 + j / 8] |= (uint8_t)(1 << j % 8);
      inexact += (x[j] >= 0 ? scale : -scale) != x[j];
    }
  }
  return inexact;
}

// Codes x / absmax, halves away from zero, from -1 on.
SK_INLINE int64_t encode_ternary(const float *x, const size_t n, uint8_t *place, uint8_t *codes) {
  const float d = block_absmax(x, n), inverse = inverse_of(d);
  if (!fits_half(d)) return -1;
  const uint16_t half = half_of_float(d);
  const float scale = float_of_half(half);
  int32_t count = 0;
  store16(place, half);
  for (size_t j = 0; j < n; j++) {
    const int32_t code = round_away(x[j] * inverse);
    codes[j] = (uint8_t)(code + 1);
    count += (float)code * scale != x[j];
  }
  return count;
}

static int64_t k_encode_q2_0(const float *restrict src, const float *w, uint8_t *restrict dst, size_t n) {
  (void)w;
  int64_t inexact = 0;
  for (size_t b = 0; b < n / 64; b++) {
    uint8_t *out = dst + 18 * b, codes[64];
    const int64_t count = encode_ternary(src + 64 * b, 64, out, codes);
    if (count < 0) return -1 - (int64_t)b;
    inexact += count;
    for (size_t j = 0; j < 16; j++) {
      const uint8_t *c = codes + 4 * j;
      out[2 + j] = (uint8_t)(c[0] | c[1] << 2 | c[2] << 4 | c[3] << 6);
    }
  }
  return inexact;
}

static int64_t k_encode_tq2_0(const float *restrict src, const float *w, uint8_t *restrict dst, size_t n) {
  (void)w;
  int64_t inexact = 0;
  for (size_t b = 0; b < n / 256; b++) {
    uint8_t *out = dst + 66 * b, codes[256];
    const int64_t count = encode_ternary(src + 256 * b, 256, out + 64, codes);
    if (count < 0) return -1 - (int64_t)b;
    inexact += count;
    for (size_t j = 0; j < 64; j++) {
      const uint8_t *c = codes + j / 32 * 128 + j % 32;
      out[j] = (uint8_t)(c[0] | c[32] << 2 | c[64] << 4 | c[96] << 6);
    }
  }
  return inexact;
}

// `digits` digits to the base 3, the first the highest of five, as a fraction of 256, rounded up.
SK_INLINE void pack_digits(const uint8_t *codes, const size_t count, const int digits, uint8_t *dst) {
  for (size_t j = 0; j < count; j++) {
    uint32_t q = 0;
    for (int k = 0; k < 5; k++) q = q * 3 + (k < digits ? codes[j + (size_t)k * count] : 0);
    dst[j] = (uint8_t)((q * 256 + 242) / 243);
  }
}

static int64_t k_encode_tq1_0(const float *restrict src, const float *w, uint8_t *restrict dst, size_t n) {
  (void)w;
  int64_t inexact = 0;
  for (size_t b = 0; b < n / 256; b++) {
    uint8_t *out = dst + 54 * b, codes[256];
    const int64_t count = encode_ternary(src + 256 * b, 256, out + 52, codes);
    if (count < 0) return -1 - (int64_t)b;
    inexact += count;
    pack_digits(codes, 32, 5, out);
    pack_digits(codes + 160, 16, 5, out + 32);
    pack_digits(codes + 240, 4, 4, out + 48);
  }
  return inexact;
}
