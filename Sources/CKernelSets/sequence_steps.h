// The gated delta rule and the state space one token after another, and the short convolution. Part of body.h.

// A strip of the state's columns, nv vectors wide: it is read from memory once, and a second time from the first-level cache.
// factors: one a row of the state with `each` = 1, else one. SAFETY: s, v and out have nv vectors from where they point.
SK_INLINE void delta_strip(const float *k, const float *q, const float *v, const float *factors, size_t each, float beta,
                           size_t width, float *s, size_t ld, float *out, const int nv) {
  vec recalled[4], sum[4];
  SK_UNROLL
  for (int c = 0; c < nv; c++) recalled[c] = sum[c] = 0;
  for (size_t i = 0; i < width; i++) {
    const vec x = k[i] * factors[i * each];
    SK_UNROLL
    for (int c = 0; c < nv; c++) {
      vec row;
      memcpy(&row, s + i * ld + c * SK_VL, sizeof row);
      recalled[c] = __builtin_elementwise_fma(x, row, recalled[c]);
    }
  }
  SK_UNROLL
  for (int c = 0; c < nv; c++) {
    vec value;
    memcpy(&value, v + c * SK_VL, sizeof value);
    recalled[c] = beta * (value - recalled[c]);
  }
  for (size_t i = 0; i < width; i++) {
    const vec x = k[i], y = q[i];
    const float e = factors[i * each];
    SK_UNROLL
    for (int c = 0; c < nv; c++) {
      vec row;
      memcpy(&row, s + i * ld + c * SK_VL, sizeof row);
      row = __builtin_elementwise_fma(x, recalled[c], row * e);
      memcpy(s + i * ld + c * SK_VL, &row, sizeof row);
      sum[c] = __builtin_elementwise_fma(y, row, sum[c]);
    }
  }
  SK_UNROLL
  for (int c = 0; c < nv; c++) memcpy(out + c * SK_VL, &sum[c], sizeof(vec));
}

SK_INLINE void space_strip(const float *b, const float *c, const float *x, float factor, float step, float skip, size_t width,
                           float *s, size_t ld, float *out, const int nv) {
  vec input[4], value[4], sum[4];
  SK_UNROLL
  for (int j = 0; j < nv; j++) {
    memcpy(&value[j], x + j * SK_VL, sizeof(vec));
    input[j] = step * value[j];
    sum[j] = 0;
  }
  for (size_t i = 0; i < width; i++) {
    const vec p = b[i], q = c[i];
    SK_UNROLL
    for (int j = 0; j < nv; j++) {
      vec row;
      memcpy(&row, s + i * ld + j * SK_VL, sizeof row);
      row = __builtin_elementwise_fma(p, input[j], row * factor);
      memcpy(s + i * ld + j * SK_VL, &row, sizeof row);
      sum[j] = __builtin_elementwise_fma(q, row, sum[j]);
    }
  }
  SK_UNROLL
  for (int j = 0; j < nv; j++) {
    const vec y = skip;
    sum[j] = __builtin_elementwise_fma(y, value[j], sum[j]);
    memcpy(out + j * SK_VL, &sum[j], sizeof(vec));
  }
}

// Strips over all columns; those that do not fill a vector go through a copy.
#define SK_STRIPS(n, ld, rows, CALL)                                                                                 \
  size_t j = 0;                                                                                                      \
  for (; j + 4 * SK_VL <= (n); j += 4 * SK_VL) { CALL(s + j, ld, v + j, out + j, 4); }                               \
  for (; j + SK_VL <= (n); j += SK_VL) { CALL(s + j, ld, v + j, out + j, 1); }                                       \
  if (j < (n)) {                                                                                                     \
    float *spare = l->spare;                                                                                         \
    const size_t left = (n) - j;                                                                                     \
    float vt[SK_VL] = {0}, ot[SK_VL];                                                                                \
    memcpy(vt, v + j, left * sizeof(float));                                                                         \
    for (size_t i = 0; i < (rows); i++) {                                                                            \
      memset(spare + i * SK_VL, 0, SK_VL * sizeof(float));                                                           \
      memcpy(spare + i * SK_VL, s + i * (ld) + j, left * sizeof(float));                                             \
    }                                                                                                                \
    CALL(spare, SK_VL, vt, ot, 1);                                                                                   \
    for (size_t i = 0; i < (rows); i++) memcpy(s + i * (ld) + j, spare + i * SK_VL, left * sizeof(float));            \
    memcpy(out + j, ot, left * sizeof(float));                                                                       \
  }

static void delta_token(const sk_mixing *m, const sk_layout *l, size_t head, size_t t, const float *k, const float *q,
                        const float *factors, float *s, size_t ld) {
  const float *v = m->values + t * m->value_stride + head * m->value_width;
  float *out = m->out + t * m->value_stride + head * m->value_width;
  const float beta = m->beta[t * m->beta_stride + head];
  const size_t each = m->each_channel ? 1 : 0;
#define SK_CALL(S, LD, V, OUT, NV) delta_strip(k, q, V, factors, each, beta, m->key_width, S, LD, OUT, NV)
  SK_STRIPS(m->value_width, ld, m->key_width, SK_CALL)
#undef SK_CALL
}

static void space_token(const sk_mixing *m, const sk_layout *l, size_t head, size_t t, float *s, size_t ld) {
  const float *v = m->values + t * m->value_stride + head * m->value_width;
  float *out = m->out + t * m->value_stride + head * m->value_width;
  const float *b = m->keys + t * m->key_stride, *c = m->queries + t * m->key_stride;
  const float step = m->beta[t * m->beta_stride + head], skip = m->skip[head];
  const float factor = exponential(step * m->rates[head]);
#define SK_CALL(S, LD, V, OUT, NV) space_strip(b, c, V, factor, step, skip, m->key_width, S, LD, OUT, NV)
  SK_STRIPS(m->value_width, ld, m->key_width, SK_CALL)
#undef SK_CALL
}

// The row that tap j of token t meets.
SK_INLINE const float *tap_row(const float *x, const float *before, size_t kernel, size_t t, size_t j, size_t n) {
  return t + j + 1 >= kernel ? x + (t + j + 1 - kernel) * n : before + (t + j) * n;
}

// Sums are kept apart from the rows and written once: rows often are a multiple of 4 KiB apart, where a store holds up later loads.
static void k_convolve(const float *x, const float *before, const float *w, const float *bias, size_t kernel, size_t from,
                       size_t to, size_t n, int silu, float *out) {
  enum { WIDTH = 256 };
  float sum[WIDTH];
  for (size_t t = from; t < to; t++) {
    for (size_t c0 = 0; c0 < n; c0 += WIDTH) {
      const size_t count = n - c0 < WIDTH ? n - c0 : WIDTH;
      if (bias)
        memcpy(sum, bias + c0, count * sizeof(float));
      else
        memset(sum, 0, count * sizeof(float));
      size_t j = 0;
      for (; j + 4 <= kernel; j += 4) { // the usual number of taps, in one pass
        const float *restrict w0 = w + j * n + c0;
        const float *restrict r0 = tap_row(x, before, kernel, t, j, n) + c0;
        const float *restrict r1 = tap_row(x, before, kernel, t, j + 1, n) + c0;
        const float *restrict r2 = tap_row(x, before, kernel, t, j + 2, n) + c0;
        const float *restrict r3 = tap_row(x, before, kernel, t, j + 3, n) + c0;
        for (size_t c = 0; c < count; c++) {
          float y = __builtin_fmaf(w0[c], r0[c], sum[c]);
          y = __builtin_fmaf(w0[n + c], r1[c], y);
          y = __builtin_fmaf(w0[2 * n + c], r2[c], y);
          sum[c] = __builtin_fmaf(w0[3 * n + c], r3[c], y);
        }
      }
      for (; j < kernel; j++) {
        const float *restrict w0 = w + j * n + c0;
        const float *restrict r0 = tap_row(x, before, kernel, t, j, n) + c0;
        for (size_t c = 0; c < count; c++) sum[c] = __builtin_fmaf(w0[c], r0[c], sum[c]);
      }
      if (silu)
        for (size_t c = 0; c < count; c++) sum[c] = sum[c] / (1.0f + exponential(-sum[c]));
      memcpy(out + t * n + c0, sum, count * sizeof(float));
    }
  }
}
