// Small matrix products whose right side lies along the columns of the result: c = a b, one row of b at a time. Part of body.h.
//
// Each number of c is one chain of fused multiply-adds, k ascending, so that neither the width of a vector nor the size of a tile
// changes a bit. A tile is SK_OUTER_ROWS rows of two vectors: 16 sums in flight (8 with AVX2, whose registers are half as many),
// each vector of b loaded once for all rows, each number of a broadcast. The callers' rows are padded with zeros, so that there is
// no rest: m is a multiple of 8, n of 16.
#if SK_VL == 8
#define SK_OUTER_ROWS 4
#else
#define SK_OUTER_ROWS 8
#endif

enum { OUTER_SET, OUTER_ADD, OUTER_SUBTRACT };

// a[r * row + p * step]. SAFETY: reads k numbers of each row of a, k rows of nv vectors of b.
SK_INLINE void outer_tile(const float *a, size_t row, size_t step, const float *b, size_t ldb, float *c, size_t ldc, size_t k,
                          const int nv, const int mode) {
  vec sum[SK_OUTER_ROWS][2];
  SK_UNROLL
  for (int r = 0; r < SK_OUTER_ROWS; r++) {
    SK_UNROLL
    for (int v = 0; v < nv; v++) {
      sum[r][v] = 0;
      if (mode != OUTER_SET) memcpy(&sum[r][v], c + (size_t)r * ldc + v * SK_VL, sizeof(vec));
    }
  }
  for (size_t p = 0; p < k; p++) {
    vec bv[2];
    SK_UNROLL
    for (int v = 0; v < nv; v++) memcpy(&bv[v], b + p * ldb + v * SK_VL, sizeof(vec));
    SK_UNROLL
    for (int r = 0; r < SK_OUTER_ROWS; r++) {
      const float x = a[(size_t)r * row + p * step];
      const vec av = mode == OUTER_SUBTRACT ? -x : x;
      SK_UNROLL
      for (int v = 0; v < nv; v++) sum[r][v] = __builtin_elementwise_fma(av, bv[v], sum[r][v]);
    }
  }
  SK_UNROLL
  for (int r = 0; r < SK_OUTER_ROWS; r++) {
    SK_UNROLL
    for (int v = 0; v < nv; v++) memcpy(c + (size_t)r * ldc + v * SK_VL, &sum[r][v], sizeof(vec));
  }
}

// Columns outside, so that the k rows of a tile's columns of b stay in the first-level cache for all rows of a. `lower`: a is a lower
// triangle with zeros above it, of which row i's eight are read up to their last column only.
SK_INLINE void outer_all(const float *a, size_t row, size_t step, const float *b, size_t ldb, float *c, size_t ldc, size_t m,
                         size_t n, size_t k, int lower, const int mode) {
  for (size_t j = 0; j < n; j += 2 * SK_VL) {
    for (size_t i = 0; i < m; i += SK_OUTER_ROWS) {
      const size_t end = i / 8 * 8 + 8, depth = lower && end < k ? end : k;
      if (n - j >= 2 * SK_VL)
        outer_tile(a + i * row, row, step, b + j, ldb, c + i * ldc + j, ldc, depth, 2, mode);
      else
        outer_tile(a + i * row, row, step, b + j, ldb, c + i * ldc + j, ldc, depth, 1, mode);
    }
  }
}

static void outer_set(const float *a, size_t row, size_t step, const float *b, size_t ldb, float *c, size_t ldc, size_t m,
                      size_t n, size_t k) {
  outer_all(a, row, step, b, ldb, c, ldc, m, n, k, 0, OUTER_SET);
}
static void outer_add(const float *a, size_t row, size_t step, const float *b, size_t ldb, float *c, size_t ldc, size_t m,
                      size_t n, size_t k, int lower) {
  outer_all(a, row, step, b, ldb, c, ldc, m, n, k, lower, OUTER_ADD);
}
static void outer_subtract(const float *a, size_t row, size_t step, const float *b, size_t ldb, float *c, size_t ldc, size_t m,
                           size_t n, size_t k) {
  outer_all(a, row, step, b, ldb, c, ldc, m, n, k, 0, OUTER_SUBTRACT);
}

// Sixteen rows of x with the strict lower triangle of a: x[i] -= the sum over j < i of a[i][j] x[j], i and j ascending: what is left
// of (1 + a) y = x. A vector of columns at a time, its sixteen rows in registers.
static void solve_sixteen(const float *a, size_t lda, float *x, size_t ldx, size_t n) {
  for (size_t c = 0; c < n; c += SK_VL) {
    vec rows[16];
    SK_UNROLL
    for (int i = 0; i < 16; i++) {
      memcpy(&rows[i], x + (size_t)i * ldx + c, sizeof(vec));
      SK_UNROLL
      for (int j = 0; j < i; j++) {
        const vec factor = -a[(size_t)i * lda + (size_t)j];
        rows[i] = __builtin_elementwise_fma(factor, rows[j], rows[i]);
      }
      memcpy(x + (size_t)i * ldx + c, &rows[i], sizeof(vec));
    }
  }
}

// Replaces x [m, n] by the y with (1 + a) y = x, a strictly lower, m a multiple of 16.
static void solve_lower(const float *a, size_t lda, float *x, size_t ldx, size_t m, size_t n) {
  for (size_t i = 0; i < m; i += 16) {
    outer_subtract(a + i * lda, lda, 1, x, ldx, x + i * ldx, ldx, 16, n, i);
    solve_sixteen(a + i * lda + i, lda, x + i * ldx, ldx, n);
  }
}
