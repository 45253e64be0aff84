// A chunk of up to SK_CHUNK tokens of the gated delta rule and of the state space, as products. Part of body.h.
//
// In a chunk of n <= 64 tokens with the state S before it, D[i][j] = the product of the factors after token j up to i and
// d[i] = that of all up to i:
//   u = the solution of (1 + A) u = beta (v - d K S), A[i][j] = beta[i] D[i][j] k[i]'k[j] for j < i  (the state space: u = step x)
//   out = d Q S + P u,                               P[i][j] = D[i][j] q[i]'k[j] for j <= i
//   S = d[n-1] S + (D[n-1] K)' u
// which is the WY form of the product of Householder-like factors, solved instead of inverted (Yang et al., "Parallelizing Linear
// Transformers with the Delta Rule over Sequence Length", 2024; Dao and Gu, "Transformers are SSMs", 2024). Factors are only ever
// multiplied, never divided, and are at most 1: nothing overflows, and what falls below 2^-100 is 0, before it is slow.
// With a factor for each channel of a key, the rows of K and Q carry it: in blocks of 16 tokens, products of factors from a
// block's beginning to its tokens go into the left side, from earlier tokens to the block's beginning into the right side; inside a
// block the right side is decayed from token to token (Kimi Team, "Kimi Linear", 2025, section 3).

// out[i][j] = a[i]'b[j] for m tokens, for j up to the end of the block of 16 that i lies in. Tails of rows are zeros.
static void scores(const float *a, const float *b, size_t ld, size_t width, size_t m, float *out) {
  for (size_t i = 0; i < m; i += 16)
    for (size_t p = 0; p < width; p += SK_BLOCK)
      k_gemm_f32(a + i * ld + p, ld, b + p, ld, out + i * SK_SCORE_STRIDE, SK_SCORE_STRIDE, 16, i + 16,
                 width - p < SK_BLOCK ? width - p : SK_BLOCK, p > 0);
}

// One head's A (where kk is given) and P from the products, and the factors from the chunk's beginning to each token and from each
// token to its end.
static void weigh(const float *factors, const float *beta, const float *kk, const float *qk, size_t m, float *a, float *p,
                  float *from_start, float *to_end) {
  float d[SK_CHUNK] = {0}, run = 1;
  for (size_t i = 0; i < m; i++) {
    const size_t row = i * SK_SCORE_STRIDE, width = i / 16 * 16 + 16;
    const float e = factors[i];
    for (size_t j = 0; j < width; j++) d[j] = times(d[j], e);
    d[i] = 1;
    run = times(run, e);
    from_start[i] = run;
    SK_INDEPENDENT
    for (size_t j = 0; j < width; j++) p[row + j] = d[j] == 0 ? 0 : d[j] * qk[row + j];
    if (!kk) continue;
    const float b = beta[i];
    SK_INDEPENDENT
    for (size_t j = 0; j < width; j++) a[row + j] = b * (d[j] * kk[row + j]);
  }
  memcpy(to_end, d, m * sizeof(float));
}

SK_INLINE void scale_row(float *row, float factor, size_t n) {
  for (size_t c = 0; c < n; c++) row[c] = times(row[c], factor);
}

// What all forms end with. sums: d Q S, then the chunk's outputs; updates: u, consumed; keys: rows whose factor to the chunk's end
// is in them, or in to_end.
static void finish_chunk(const sk_layout *l, size_t m, const float *p, const float *keys, const float *to_end, float *sums,
                         float *s) {
  outer_add(p, SK_SCORE_STRIDE, 1, l->updates, l->value_stride, sums, l->value_stride, m, l->values, m, 1);
  if (to_end)
    for (size_t j = 0; j < m; j++) scale_row(l->updates + j * l->value_stride, to_end[j], l->values);
  outer_add(keys, 1, l->key_stride, l->updates, l->value_stride, s, l->value_stride, l->keys, l->values, m, 0);
}

// beta (v - what the state recalls), rows beyond the tokens 0.
static void delta_residuals(const sk_mixing *m, const sk_layout *l, size_t head, size_t t0, size_t n, size_t rows,
                            const float *from_start) {
  for (size_t t = 0; t < n; t++) {
    const float *v = m->values + (t0 + t) * m->value_stride + head * m->value_width;
    const float *y = l->sums + t * l->value_stride;
    float *u = l->updates + t * l->value_stride;
    const float beta = m->beta[(t0 + t) * m->beta_stride + head], d = from_start ? from_start[t] : 1;
    for (size_t c = 0; c < m->value_width; c++) u[c] = beta * (v[c] - d * y[c]);
    for (size_t c = m->value_width; c < l->values; c++) u[c] = 0;
  }
  memset(l->updates + n * l->value_stride, 0, (rows - n) * l->value_stride * sizeof(float));
}

// What the state gives for `count` rows that begin at `rows`; zeros where the state is known to be.
static void ask_state(const sk_layout *l, const float *rows, size_t count, const float *s, int empty, float *sums) {
  if (empty)
    memset(sums, 0, count * l->value_stride * sizeof(float));
  else
    outer_set(rows, l->key_stride, 1, s, l->value_stride, sums, l->value_stride, count, l->values, l->keys);
}

static void store_rows(const sk_mixing *m, const sk_layout *l, size_t head, size_t t0, size_t n, const float *sums) {
  for (size_t t = 0; t < n; t++)
    memcpy(m->out + (t0 + t) * m->value_stride + head * m->value_width, sums + t * l->value_stride,
           m->value_width * sizeof(float));
}

// One factor a head and token. `both` holds the rows' keys and queries, `raw` their products.
static void delta_chunk(const sk_mixing *m, const sk_layout *l, size_t head, size_t t0, size_t n, size_t rows, float *s,
                        int empty) {
  float factors[SK_CHUNK], beta[SK_CHUNK], from_start[SK_CHUNK], to_end[SK_CHUNK];
  const size_t half = l->chunk * SK_SCORE_STRIDE;
  float *queries = l->sums + l->chunk * l->value_stride;
  for (size_t t = 0; t < rows; t++) {
    factors[t] = t < n ? m->decay[(t0 + t) * m->decay_stride + head] : 0;
    beta[t] = t < n ? m->beta[(t0 + t) * m->beta_stride + head] : 0;
  }
  k_exp(factors, factors, rows);
  weigh(factors, beta, l->raw, l->raw + half, rows, l->weighed, l->weighed + half, from_start, to_end);
  ask_state(l, l->both, rows, s, empty, l->sums);
  ask_state(l, l->both + l->chunk * l->key_stride, rows, s, empty, queries);
  delta_residuals(m, l, head, t0, n, rows, from_start);
  solve_lower(l->weighed, SK_SCORE_STRIDE, l->updates, l->value_stride, rows, l->values);
  for (size_t t = 0; t < rows; t++) scale_row(queries + t * l->value_stride, from_start[t], l->values);
  if (!empty)
    for (size_t i = 0; i < l->keys; i++) scale_row(s + i * l->value_stride, from_start[rows - 1], l->values);
  finish_chunk(l, rows, l->weighed + half, l->both, to_end, queries, s);
  store_rows(m, l, head, t0, n, queries);
}

// Scores with a factor for each channel, and with them `decayed`, keys with their factors to the chunk's end, `from_start`, keys
// and queries with those from its beginning, and `total`, the whole chunk's.
static void weigh_channels(const sk_mixing *m, const sk_layout *l, size_t head, size_t t0, size_t n, size_t rows) {
  const size_t ld = l->key_stride, side = l->chunk * ld, half = l->chunk * SK_SCORE_STRIDE, width = l->keys;
  for (size_t i = 0; i < width; i++) l->total[i] = 1;
  for (size_t first = 0; first < rows; first += 16) {
    float *block = l->decayed + first * ld;
    for (size_t i = 0; i < width; i++) l->run[i] = 1;
    memset(block, 0, 16 * ld * sizeof(float));
    for (size_t t = first; t < first + 16; t++) {
      for (size_t i = 0; i < width; i++) l->factors[i] = 1;
      if (t < n) k_exp(m->decay + (t0 + t) * m->decay_stride + head * m->key_width, l->factors, m->key_width);
      for (size_t j = first; j < t; j++) {
        float *row = l->decayed + j * ld;
        SK_INDEPENDENT
        for (size_t i = 0; i < width; i++) row[i] = times(row[i], l->factors[i]);
      }
      const float *k = l->both + t * ld, *q = k + side;
      float *left = l->from_start + t * ld;
      memcpy(l->decayed + t * ld, k, width * sizeof(float));
      SK_INDEPENDENT
      for (size_t i = 0; i < width; i++) {
        const float run = times(l->run[i], l->factors[i]);
        l->run[i] = run;
        left[i] = k[i] * run;
        left[side + i] = q[i] * run;
      }
      // Both products of the token with the block's keys up to it, and with some of the zeros behind them: fours are fast.
      for (size_t p = 0; p < width; p += SK_BLOCK)
        k_gemm_f32(k + p, side, block + p, ld, l->weighed + t * SK_SCORE_STRIDE + first, half, 2, (t - first) / 4 * 4 + 4,
                   width - p < SK_BLOCK ? width - p : SK_BLOCK, p > 0);
      for (size_t j = t + 1; j < first + 16; j++) l->weighed[half + t * SK_SCORE_STRIDE + j] = 0;
    }
    if (first > 0) {
      for (size_t x = 0; x < 2; x++)
        for (size_t p = 0; p < width; p += SK_BLOCK)
          k_gemm_f32(l->from_start + x * side + first * ld + p, ld, l->decayed + p, ld,
                     l->weighed + x * half + first * SK_SCORE_STRIDE, SK_SCORE_STRIDE, 16, first,
                     width - p < SK_BLOCK ? width - p : SK_BLOCK, p > 0);
      for (size_t j = 0; j < first; j++) {
        float *row = l->decayed + j * ld;
        SK_INDEPENDENT
        for (size_t i = 0; i < width; i++) row[i] = times(row[i], l->run[i]);
      }
      for (size_t t = first; t < first + 16; t++) {
        float *left = l->from_start + t * ld;
        SK_INDEPENDENT
        for (size_t i = 0; i < width; i++) {
          left[i] = times(left[i], l->total[i]);
          left[side + i] = times(left[side + i], l->total[i]);
        }
      }
    }
    SK_INDEPENDENT
    for (size_t i = 0; i < width; i++) l->total[i] = times(l->total[i], l->run[i]);
  }
  for (size_t t = 0; t < n; t++) {
    const float beta = m->beta[(t0 + t) * m->beta_stride + head];
    for (size_t j = 0; j < t; j++) l->weighed[t * SK_SCORE_STRIDE + j] *= beta;
  }
}

static void delta_chunk_channels(const sk_mixing *m, const sk_layout *l, size_t head, size_t t0, size_t n, size_t rows, float *s,
                                 int empty) {
  float *queries = l->sums + l->chunk * l->value_stride;
  weigh_channels(m, l, head, t0, n, rows);
  ask_state(l, l->from_start, rows, s, empty, l->sums);
  ask_state(l, l->from_start + l->chunk * l->key_stride, rows, s, empty, queries);
  delta_residuals(m, l, head, t0, n, rows, NULL);
  solve_lower(l->weighed, SK_SCORE_STRIDE, l->updates, l->value_stride, rows, l->values);
  if (!empty)
    for (size_t i = 0; i < l->keys; i++) scale_row(s + i * l->value_stride, l->total[i], l->values);
  finish_chunk(l, rows, l->weighed + l->chunk * SK_SCORE_STRIDE, l->decayed, NULL, queries, s);
  store_rows(m, l, head, t0, n, queries);
}

static void space_chunk(const sk_mixing *m, const sk_layout *l, size_t head, size_t t0, size_t n, size_t rows, float *s,
                        int empty) {
  float factors[SK_CHUNK], from_start[SK_CHUNK], to_end[SK_CHUNK];
  const size_t half = l->chunk * SK_SCORE_STRIDE, ld = l->value_stride;
  for (size_t t = 0; t < rows; t++) factors[t] = t < n ? m->beta[(t0 + t) * m->beta_stride + head] * m->rates[head] : 0;
  k_exp(factors, factors, rows);
  weigh(factors, NULL, NULL, l->raw + half, rows, NULL, l->weighed + half, from_start, to_end);
  ask_state(l, l->both + l->chunk * l->key_stride, rows, s, empty, l->sums);
  load_rows(m->values + t0 * m->value_stride + head * m->value_width, m->value_stride, m->value_width, n, rows, l->updates, ld);
  const float skip = m->skip[head];
  for (size_t t = 0; t < rows; t++) {
    const float step = t < n ? m->beta[(t0 + t) * m->beta_stride + head] : 0, d = from_start[t];
    float *x = l->updates + t * ld, *y = l->sums + t * ld;
    SK_INDEPENDENT
    for (size_t c = 0; c < l->values; c++) {
      y[c] = __builtin_fmaf(skip, x[c], d * y[c]);
      x[c] = step * x[c];
    }
  }
  if (!empty)
    for (size_t i = 0; i < l->keys; i++) scale_row(s + i * ld, from_start[rows - 1], l->values);
  finish_chunk(l, rows, l->weighed + half, l->both, to_end, l->sums, s);
  store_rows(m, l, head, t0, n, l->sums);
}

