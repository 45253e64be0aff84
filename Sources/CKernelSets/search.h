// Searches for the scales of a group of columns: sixteen candidates side by side, one in each lane, the columns in
// order. A lane's sums are those of the plain loop over the columns, even and odd columns apart (two chains, so that none waits
// for the one before it), so that the bytes are the same on every machine.
// What is made small is the sum over the columns of w * (x - y)^2, y the number that the codes are read as. Products are fused into
// the sums that follow them: seven operations a column and sixteen candidates. `w` is NULL where all columns count alike, and the
// compiler leaves the products by 1 out.

#pragma clang diagnostic ignored "-Wpsabi" // vectors are passed to functions that are always inlined

#define SK_SEARCH_LIMIT 0x1p30f // beyond what any block can hold; squares of what is below do not overflow
#define SK_ROUNDS 2             // times that codes and scale are chosen in turn
#define SK_WHOLE 12582912.0f    // 1.5 * 2^23: what is added to it is rounded to an integer, ties to even, up to 2^22

// Columns in pairs: `i`, p its place in the pair.
#define SK_EACH_PAIR(n)                                                                                              \
  for (size_t first = 0; first < (n); first += 2)                                                                    \
    SK_UNROLL                                                                                                        \
  for (size_t p = 0, i = first; p < 2; p++, i++)

static const float sk_nonlinear[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};

SK_INLINE f32x16 lanes(float x) { return (f32x16)x; }
SK_INLINE f32x16 larger(f32x16 a, f32x16 b) { return a > b ? a : b; }
SK_INLINE f32x16 smaller(f32x16 a, f32x16 b) { return a < b ? a : b; }
SK_INLINE f32x16 clamped(f32x16 v, float low, float high) { // NaN, which 0 times an infinite inverse is, to `low`
  return smaller(larger(v, lanes(low)), lanes(high));
}
SK_INLINE f32x16 nearest(f32x16 v) { return (v + SK_WHOLE) - SK_WHOLE; }
// The integer nearest to the product (which is not rounded before), from low to high: clamped while it is a sum with SK_WHOLE, whose
// order is that of the integers also where these are too large for it.
SK_INLINE f32x16 nearest_product(f32x16 a, f32x16 b, float low, float high) {
  return clamped(__builtin_elementwise_fma(a, b, lanes(SK_WHOLE)), SK_WHOLE + low, SK_WHOLE + high) - SK_WHOLE;
}
SK_INLINE float nearest_product_1(float a, float b, float low, float high) {
  float v = __builtin_fmaf(a, b, SK_WHOLE);
  v = v > SK_WHOLE + low ? v : SK_WHOLE + low;
  v = v < SK_WHOLE + high ? v : SK_WHOLE + high;
  return v - SK_WHOLE;
}
// w[i] * v, w NULL for ones.
SK_INLINE f32x16 weighted(const float *w, size_t i, f32x16 v) { return w ? w[i] * v : v; }
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

// Halves of a vector are joined until one number is left: lane l with l + 8, + 4, + 2, + 1.
#define SK_FOLD(v, join, out)                                                                                        \
  do {                                                                                                               \
    const __typeof__((v).lo) eight = join((v).lo, (v).hi);                                                           \
    const __typeof__(eight.lo) four = join(eight.lo, eight.hi);                                                      \
    const __typeof__(four.lo) two = join(four.lo, four.hi);                                                          \
    out = join(two.lo, two.hi);                                                                                      \
  } while (0)
#define SK_SUM(a, b) ((a) + (b))
#define SK_LEAST(a, b) ((a) < (b) ? (a) : (b))
#define SK_MOST(a, b) ((a) > (b) ? (a) : (b))

// The lane of the least number, the first of equals; NaN counts as infinite.
SK_INLINE int least_lane(f32x16 v) {
  const i32x16 places = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  float least;
  int32_t first;
  v = smaller(v, lanes(__builtin_inff()));
  SK_FOLD(v, SK_LEAST, least);
  const i32x16 found = v == lanes(least) ? places : (i32x16)16;
  SK_FOLD(found, SK_LEAST, first);
  return first;
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

SK_INLINE f32x16 load_lanes(const float *x) {
  f32x16 v;
  memcpy(&v, x, sizeof v);
  return v;
}

// What codes stand for: the integers from low to high, or the table.
typedef struct { int table; float low, high; } code_range;

// The numbers that t * inverse is coded as.
SK_INLINE f32x16 quantized(f32x16 t, f32x16 inverse, const code_range r) {
  return r.table ? nonlinear(t * inverse) : nearest_product(t, inverse, r.low, r.high);
}

// The error of each lane's scale: a column is broadcast to the sixteen candidates, so that no sum crosses lanes.
SK_INLINE f32x16 errors_of(const float *x, const float *w, const size_t n, f32x16 scale, const code_range r) {
  const f32x16 inverse = inverses(scale);
  f32x16 sum[2] = {lanes(0), lanes(0)};
  SK_EACH_PAIR(n) {
    const f32x16 d = __builtin_elementwise_fma(quantized(lanes(x[i]), inverse, r), scale, lanes(-x[i]));
    sum[p] = __builtin_elementwise_fma(weighted(w, i, d), d, sum[p]);
  }
  return sum[0] + sum[1];
}

// Each lane's codes under 1 / inverse, and the scale that is best for these codes.
SK_INLINE f32x16 fitted(const float *x, const float *w, const size_t n, f32x16 inverse, const code_range r) {
  f32x16 product[2] = {lanes(0), lanes(0)}, square[2] = {lanes(0), lanes(0)};
  SK_EACH_PAIR(n) {
    const f32x16 q = quantized(lanes(x[i]), inverse, r), wq = weighted(w, i, q);
    product[p] = __builtin_elementwise_fma(wq, lanes(x[i]), product[p]);
    square[p] = __builtin_elementwise_fma(wq, q, square[p]);
  }
  const f32x16 squares = square[0] + square[1];
  return squares > lanes(0) ? (product[0] + product[1]) / squares : lanes(0);
}

// The error of each lane's scale and least value: y = scale * code - least.
SK_INLINE f32x16 errors_above(const float *x, const float *w, const size_t n, f32x16 scale, f32x16 least,
                              const float top) {
  const f32x16 inverse = inverses(scale);
  f32x16 sum[2] = {lanes(0), lanes(0)};
  SK_EACH_PAIR(n) {
    const f32x16 t = x[i] + least, q = nearest_product(t, inverse, 0, top);
    const f32x16 d = __builtin_elementwise_fma(q, scale, -t);
    sum[p] = __builtin_elementwise_fma(weighted(w, i, d), d, sum[p]);
  }
  return sum[0] + sum[1];
}

// Scale and least value of a group of 16 or 32 columns, each lane from another first guess. `free`: of any sign and F16, else >= 0.
typedef struct { float scale, least; } affine_fit;

SK_INLINE affine_fit fit_above(const float *x, const float *w, const size_t n, const float top, const int free,
                               const float from, const float step) {
  f32x16 own = load_lanes(x), most = own, count = w ? load_lanes(w) : lanes(1), share = lanes(0) + own;
  if (w) share = __builtin_elementwise_fma(count, own, lanes(0));
  if (n > 16) {
    const f32x16 next = load_lanes(x + 16), ones = w ? load_lanes(w + 16) : lanes(1);
    share = w ? __builtin_elementwise_fma(ones, next, share) : share + next;
    own = smaller(own, next);
    most = larger(most, next);
    count += ones;
  }
  float low, high, sw, swx;
  SK_FOLD(own, SK_LEAST, low);
  SK_FOLD(most, SK_MOST, high);
  SK_FOLD(count, SK_SUM, sw);
  SK_FOLD(share, SK_SUM, swx);
  low += 0.0f; // no -0
  if (!free && low > 0) low = 0;
  if (!(high > low)) return (affine_fit){0, -low};
  f32x16 inverse = numbers(top + from, step) / lanes(high - low), least = lanes(-low), scale = inverses(inverse);
  float above[32]; // what all lanes begin with
  for (size_t i = 0; i < n; i++) above[i] = x[i] - low;
  SK_UNROLL
  for (int round = 0; round < SK_ROUNDS; round++) {
    f32x16 sums[2][3] = {{lanes(0), lanes(0), lanes(0)}, {lanes(0), lanes(0), lanes(0)}};
    SK_EACH_PAIR(n) {
      const f32x16 t = round == 0 ? lanes(above[i]) : x[i] + least;
      const f32x16 q = nearest_product(t, inverse, 0, top), wq = weighted(w, i, q);
      f32x16 *s = sums[p];
      s[0] += wq;
      s[1] = __builtin_elementwise_fma(wq, q, s[1]);
      s[2] = __builtin_elementwise_fma(wq, lanes(x[i]), s[2]);
    }
    const f32x16 sq = sums[0][0] + sums[1][0], sqq = sums[0][1] + sums[1][1], sqx = sums[0][2] + sums[1][2];
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
