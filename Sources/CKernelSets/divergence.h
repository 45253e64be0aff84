// Sums of exponentials over a vocabulary, and distances, in double precision.

typedef long long i64x16 __attribute__((ext_vector_type(16)));

// e^x for x <= 0, NaN for NaN: e^x = 2^n e^r with n = rne(x / ln 2), |r| <= ln 2 / 2 (ln 2 in two parts, of which the first times n
// is exact), e^r by its Taylor polynomial of degree 13, whose remainder is 2^-57. 0 below -708: normal numbers only.
SK_INLINE f64x16 exponential_f64(f64x16 x) {
  // Near 1.5 * 2^52 the last place is 1, so that rounding a sum is rounding to an integer.
  const f64x16 shifter = 0x1.8p52, over_ln2 = 0x1.71547652b82fep+0, high = -0x1.62e42fefa38p-1, low = -0x1.ef35793c7673p-45;
  const f64x16 shifted = __builtin_elementwise_fma(x, over_ln2, shifter);
  const f64x16 whole = shifted - shifter;
  f64x16 r = __builtin_elementwise_fma(whole, high, x);
  r = __builtin_elementwise_fma(whole, low, r);
  // 1/13!, 1/12! ... 1/2!, 1, 1
  const double terms[13] = {0x1.1eed8eff8d898p-29, 0x1.ae64567f544e4p-26, 0x1.27e4fb7789f5cp-22, 0x1.71de3a556c734p-19,
                            0x1.a01a01a01a01ap-16, 0x1.a01a01a01a01ap-13, 0x1.6c16c16c16c17p-10, 0x1.1111111111111p-7,
                            0x1.5555555555555p-5,  0x1.5555555555555p-3,  0.5,                   1,
                            1};
  f64x16 p = 0x1.6124613a86d09p-33;
  for (int k = 0; k < 13; k++) p = __builtin_elementwise_fma(p, r, (f64x16)terms[k]);
  const i64x16 n = __builtin_bit_cast(i64x16, shifted) - __builtin_bit_cast(i64x16, shifter);
  const f64x16 y = p * __builtin_bit_cast(f64x16, (n + 1023) << 52);
  return x < -708.0 ? (f64x16)0.0 : y;
}

// 16 numbers less the largest; beyond the end -1000, whose exponential is 0.
SK_INLINE f64x16 below_largest(const float *x, size_t left, double top) {
  f32x16 v;
  if (left >= 16) {
    memcpy(&v, x, sizeof v);
    return __builtin_convertvector(v, f64x16) - top;
  }
  f64x16 rest = -1000;
  for (size_t l = 0; l < left; l++) rest[l] = (double)x[l] - top;
  return rest;
}

SK_INLINE double tree_f64(f64x16 sum) {
  double s[16];
  memcpy(s, &sum, sizeof s);
  for (size_t half = 8; half > 0; half /= 2)
    for (size_t l = 0; l < half; l++) s[l] += s[l + half];
  return s[0];
}

static void k_exp_sum(const float *x, size_t n, double *out) {
  const double top = (double)largest(x, n, -__builtin_inff());
  f64x16 sum = 0;
  for (size_t i = 0; i < n; i += 16) sum += exponential_f64(below_largest(x + i, n - i, top));
  out[0] = top;
  out[1] = tree_f64(sum);
}

static void k_divergence(const float *x, const float *y, size_t n, double *out) {
  const double xt = (double)largest(x, n, -__builtin_inff()), yt = (double)largest(y, n, -__builtin_inff());
  f64x16 xs = 0, ys = 0, t = 0;
  for (size_t i = 0; i < n; i += 16) {
    const f64x16 a = below_largest(x + i, n - i, xt), b = below_largest(y + i, n - i, yt), e = exponential_f64(a);
    xs += e;
    ys += exponential_f64(b);
    t = __builtin_elementwise_fma(e, a - b, t);
  }
  out[0] = xt;
  out[1] = tree_f64(xs);
  out[2] = yt;
  out[3] = tree_f64(ys);
  out[4] = tree_f64(t);
}

static void k_distance(const float *a, const float *b, size_t n, double *out) {
  f64x16 squares = 0, source = 0, result = 0, product = 0, most = 0;
  i64x16 strange = 0;
  for (size_t i = 0; i < n; i += 16) {
    f32x16 av = 0, bv = 0;
    if (n - i >= 16) {
      memcpy(&av, a + i, sizeof av);
      memcpy(&bv, b + i, sizeof bv);
    } else {
      for (size_t l = 0; l < n - i; l++) {
        av[l] = a[i + l];
        bv[l] = b[i + l];
      }
    }
    const f64x16 x = __builtin_convertvector(av, f64x16), y = __builtin_convertvector(bv, f64x16), d = x - y;
    squares = __builtin_elementwise_fma(d, d, squares);
    source = __builtin_elementwise_fma(x, x, source);
    result = __builtin_elementwise_fma(y, y, result);
    product = __builtin_elementwise_fma(x, y, product);
    const f64x16 size = __builtin_elementwise_abs(d);
    most = size > most ? size : most;
    strange |= size != size;
  }
  double top = most[0];
  long long any = strange[0];
  for (int l = 1; l < 16; l++) {
    top = most[l] > top ? most[l] : top;
    any |= strange[l];
  }
  out[0] = tree_f64(squares);
  out[1] = tree_f64(source);
  out[2] = tree_f64(result);
  out[3] = tree_f64(product);
  out[4] = any ? __builtin_nan("") : top;
}

// Blocks are tested without a branch, as in SK_FIND.
static size_t k_find_above(const float *x, size_t n, float bound) {
  size_t i = 0;
  for (; n - i >= 256; i += 256) {
    int32_t any = 0;
    for (size_t j = 0; j < 256; j++) any |= x[i + j] > bound ? 1 : 0;
    if (any) break;
  }
  for (; i < n; i++)
    if (x[i] > bound) return i;
  return n;
}
