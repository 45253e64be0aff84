// Searches for the scales of a group of columns: sixteen candidates side by side, one in each lane, the columns in
// order. A lane's sums are those of the plain loop over the columns, so that the bytes are the same on every machine.
// What is made small is the sum over the columns of w * (x - y)^2, y the number that the codes are read as.

#pragma clang diagnostic ignored "-Wpsabi" // vectors are passed to functions that are always inlined

#define SK_SEARCH_LIMIT 0x1p30f // beyond what any block can hold; squares of what is below do not overflow
#define SK_ROUNDS 2             // times that codes and scale are chosen in turn

static const float sk_nonlinear[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};

SK_INLINE f32x16 lanes(float x) { return (f32x16)x; }
SK_INLINE f32x16 larger(f32x16 a, f32x16 b) { return a > b ? a : b; }
SK_INLINE f32x16 smaller(f32x16 a, f32x16 b) { return a < b ? a : b; }
SK_INLINE f32x16 clamped(f32x16 v, float low, float high) { // NaN, which 0 times an infinite inverse is, to `low`
  return smaller(larger(v, lanes(low)), lanes(high));
}
SK_INLINE f32x16 nearest(f32x16 v) { return (v + 12582912.0f) - 12582912.0f; } // ties to even; |v| <= 2^22
SK_INLINE f32x16 inverses(f32x16 v) { // 0 for 0
  const f32x16 inverse = lanes(1.0f) / v;
  return v == lanes(0.0f) ? lanes(0.0f) : inverse;
}
SK_INLINE f32x16 numbers(float first, float step) { // first, first + step ...
  const f32x16 k = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  return k * step + first;
}
SK_INLINE f32x16 halves(f32x16 v) { // each rounded to F16 and back
  float f[16];
  memcpy(f, &v, sizeof f);
  for (size_t l = 0; l < 16; l++) f[l] = float_of_half(half_of_float(f[l]));
  memcpy(&v, f, sizeof f);
  return v;
}

// The lane of the least number, the first of equals.
SK_INLINE int least_lane(f32x16 v) {
  float f[16];
  memcpy(f, &v, sizeof f);
  int best = 0;
  for (int l = 1; l < 16; l++) best = f[l] < f[best] ? l : best;
  return best;
}

// The number of the table that is nearest to v; of two the greater.
SK_INLINE f32x16 nonlinear(f32x16 v) {
  f32x16 y = lanes(sk_nonlinear[0]);
  SK_UNROLL
  for (int k = 1; k < 16; k++) {
    const float between = (sk_nonlinear[k - 1] + sk_nonlinear[k]) * 0.5f;
    y = v >= lanes(between) ? lanes(sk_nonlinear[k]) : y;
  }
  return y;
}

SK_INLINE uint8_t nonlinear_code(float v) {
  int code = 0;
  for (int k = 1; k < 16; k++) code += v >= (sk_nonlinear[k - 1] + sk_nonlinear[k]) * 0.5f;
  return (uint8_t)code;
}

// What codes stand for: the integers from low to high, or the table.
typedef struct { int table; float low, high; } code_range;

SK_INLINE f32x16 quantized(f32x16 v, const code_range r) {
  return r.table ? nonlinear(v) : nearest(clamped(v, r.low, r.high));
}

// The error of each lane's scale: a column is broadcast to the sixteen candidates, so that no sum crosses lanes.
SK_INLINE f32x16 errors_of(const float *x, const float *w, const size_t n, f32x16 scale, const code_range r) {
  const f32x16 inverse = inverses(scale);
  f32x16 sum = lanes(0);
  for (size_t i = 0; i < n; i++) {
    const f32x16 d = quantized(x[i] * inverse, r) * scale - x[i];
    sum += w[i] * (d * d);
  }
  return sum;
}

// Each lane's codes under 1 / inverse, and the scale that is best for these codes.
SK_INLINE f32x16 fitted(const float *x, const float *w, const size_t n, f32x16 inverse, const code_range r) {
  f32x16 product = lanes(0), square = lanes(0);
  for (size_t i = 0; i < n; i++) {
    const f32x16 q = quantized(x[i] * inverse, r), wq = w[i] * q;
    product += wq * x[i];
    square += wq * q;
  }
  return square > lanes(0) ? product / square : lanes(0);
}

// The error of each lane's scale and least value: y = scale * code - least.
SK_INLINE f32x16 errors_above(const float *x, const float *w, const size_t n, f32x16 scale, f32x16 least,
                              const float top) {
  const f32x16 inverse = inverses(scale);
  f32x16 sum = lanes(0);
  for (size_t i = 0; i < n; i++) {
    const f32x16 q = nearest(clamped((x[i] + least) * inverse, 0, top));
    const f32x16 d = (scale * q - least) - x[i];
    sum += w[i] * (d * d);
  }
  return sum;
}

// Scale and least value of a group, each lane from another first guess. `free`: of any sign and F16, else >= 0.
typedef struct { float scale, least; } affine_fit;

SK_INLINE affine_fit fit_above(const float *x, const float *w, const size_t n, const float top, const int free,
                               const float from, const float step) {
  float low = x[0], high = x[0], sw = 0, swx = 0;
  for (size_t i = 0; i < n; i++) {
    low = x[i] < low ? x[i] : low;
    high = x[i] > high ? x[i] : high;
    sw += w[i];
    swx += w[i] * x[i];
  }
  if (!free && low > 0) low = 0;
  if (!(high > low)) return (affine_fit){0, -low};
  f32x16 inverse = numbers(top + from, step) / lanes(high - low), least = lanes(-low), scale = inverses(inverse);
  for (int round = 0; round < SK_ROUNDS; round++) {
    f32x16 sq = lanes(0), sqq = lanes(0), sqx = lanes(0);
    for (size_t i = 0; i < n; i++) {
      const f32x16 q = nearest(clamped((x[i] + least) * inverse, 0, top)), wq = w[i] * q;
      sq += wq;
      sqq += wq * q;
      sqx += wq * x[i];
    }
    const f32x16 determinant = sw * sqq - sq * sq;
    f32x16 s = (sw * sqx - swx * sq) / determinant, m = (sq * sqx - sqq * swx) / determinant;
    if (!free) {
      s = m < lanes(0) ? sqx / sqq : s;
      m = larger(m, lanes(0));
    }
    const __typeof__(s > s) fits = (determinant > lanes(0)) & (s > lanes(0));
    scale = fits ? s : scale;
    least = fits ? m : least;
    inverse = inverses(scale);
  }
  if (free) scale = halves(scale), least = halves(least); // as they will be stored
  const int best = least_lane(errors_above(x, w, n, scale, least, top));
  return (affine_fit){scale[best], least[best]};
}

// The scale as F16 holds it, but not much below `wanted`: among F16's subnormals rounding down would clip every group.
SK_INLINE float half_not_below(float wanted) {
  const uint16_t half = half_of_float(wanted);
  const float rounded = float_of_half(half);
  return magnitude(rounded) < 0.999f * magnitude(wanted) ? float_of_half((uint16_t)(half + 1)) : rounded;
}

// The best scale for codes of a range, rounded to F16 if `half`; both signs are tried, since the range is not
// symmetric. Infinite when no F16 is large enough.
SK_INLINE float best_scale(const float *x, const float *w, const size_t n, const code_range r, const int half) {
  const float peak = block_peak(x, n);
  if (magnitude(peak) < 1e-15f) return 0;
  if (half && !fits_half(peak / r.low)) return __builtin_inff();
  f32x16 best_scale = lanes(0), best_error = lanes(__builtin_inff());
  SK_UNROLL
  for (int sign = 0; sign < 2; sign++) {
    // The peak has the code at the low end, or at the high end; a bit inside or outside of it.
    const float end = sign ? r.high : r.low;
    const f32x16 first = numbers(end * 0.86f, end * 0.02f) / lanes(peak);
    const f32x16 fit = fitted(x, w, n, first, r), scale = half ? halves(fit) : fit;
    const f32x16 error = errors_of(x, w, n, scale, r);
    best_scale = error < best_error ? scale : best_scale;
    best_error = smaller(error, best_error);
  }
  return best_scale[least_lane(best_error)];
}
