// The matrix product's micro-kernel and the sums that share its order (CKernels.h states it), for each instruction
// set. A tile keeps mr x nr sums of 16 lanes in registers; both operands lie along k, as in a checkpoint, so nothing is
// transposed or packed. Vector types of clang, no intrinsics: one source for all.
//
// Why the tile has the size it has (the isa_*.c say it): a fused multiply-add takes four cycles and two start in each, so eight
// independent sums are the least that keeps the units busy; each load should serve as many of them as there are registers for.
//                registers      sums           loads for 16 columns              multiply-adds
//   AVX-512      32 of 16       6 x 4 = 24     6 of a + 4 of w = 10              24
//   AVX2         16 of 8        3 x 2, in 2 = 12   (3 + 2) * 2 = 10              12
//   NEON         32 of 4        3 x 2, in 4 = 24   (3 + 2) * 4 = 20              24
//   baseline     16 of 4        2 x 2, in 4 = 16   (2 + 2) * 4 = 16              16, lane by lane through fmaf()
// The rest of the registers hold the columns of w (loaded once for a step, for all rows of a) and one row of a. One row of a
// alone (a token that is generated) takes SK_NR1 = 4 decoded rows of w; of codes see coded_rows.h and coded_tiles.h.
typedef float vec __attribute__((ext_vector_type(SK_VL)));
typedef float f32x16 __attribute__((ext_vector_type(16)));
typedef float f32x8 __attribute__((ext_vector_type(8)));
#define SK_PARTS (16 / SK_VL)
// Places for a tile's sums: SK_MR x SK_NR, rounded up for the reductions.
#define SK_TILE ((SK_MR * SK_NR + 7) / 8 * 8)
#define SK_UNROLL _Pragma("clang loop unroll(full)")

// The tree of 16 sums at once: out[i] = total of the lanes of s[i], each as (l with l+8), +4, +2, +1. Each step halves the lanes
// of a sum and puts two sums side by side, so that every addition works on 16 lanes that all count: 15 vector additions in place
// of 16 * 15 scalar ones. The shuffles decide which sums share a vector, never which lanes are added: the order of the tree is
// the same as in reduce8 and in the Swift twin, and with it the bits.
SK_INLINE void reduce16(const f32x16 *s, float *out) {
  f32x16 h[8], q[4];
  SK_UNROLL
  for (int i = 0; i < 8; i++) { // h[4r/2 + j] holds rows r, r+1 of column j, 8 lanes each
    const f32x16 x = s[i / 4 * 8 + i % 4], y = s[i / 4 * 8 + i % 4 + 4];
    h[i] = __builtin_shufflevector(x, y, 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23) +
           __builtin_shufflevector(x, y, 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31);
  }
  SK_UNROLL
  for (int j = 0; j < 4; j++) // q[j] holds rows 0...3 of column j, 4 lanes each
    q[j] = __builtin_shufflevector(h[j], h[j + 4], 0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27) +
           __builtin_shufflevector(h[j], h[j + 4], 4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31);
  f32x16 t[2];
  SK_UNROLL
  for (int j = 0; j < 2; j++) // t[j] holds rows 0...3 of columns 2j and 2j + 1, 2 lanes each
    t[j] = __builtin_shufflevector(q[2 * j], q[2 * j + 1], 0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, 12, 28, 13, 29) +
           __builtin_shufflevector(q[2 * j], q[2 * j + 1], 2, 18, 3, 19, 6, 22, 7, 23, 10, 26, 11, 27, 14, 30, 15, 31);
  const f32x16 total = // lane 4r + j: row r of column j, which is s[4r + j]
      __builtin_shufflevector(t[0], t[1], 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29) +
      __builtin_shufflevector(t[0], t[1], 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31);
  memcpy(out, &total, sizeof total);
}

// The same for 8 sums.
SK_INLINE void reduce8(const f32x16 *s, float *out) {
  f32x16 h[4], q[2];
  SK_UNROLL
  for (int i = 0; i < 4; i++) // h[i] holds sums i and i + 4, 8 lanes each
    h[i] = __builtin_shufflevector(s[i], s[i + 4], 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23) +
           __builtin_shufflevector(s[i], s[i + 4], 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31);
  SK_UNROLL
  for (int i = 0; i < 2; i++) // 4 lanes of sums 0, 4, 1, 5 and of 2, 6, 3, 7
    q[i] = __builtin_shufflevector(h[2 * i], h[2 * i + 1], 0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27) +
           __builtin_shufflevector(h[2 * i], h[2 * i + 1], 4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31);
  const f32x16 t =
      __builtin_shufflevector(q[0], q[1], 0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, 12, 28, 13, 29) +
      __builtin_shufflevector(q[0], q[1], 2, 18, 3, 19, 6, 22, 7, 23, 10, 26, 11, 27, 14, 30, 15, 31);
  const f32x8 total = __builtin_shufflevector(t, t, 0, 8, 1, 9, 4, 12, 5, 13) +
                      __builtin_shufflevector(t, t, 2, 10, 3, 11, 6, 14, 7, 15);
  memcpy(out, &total, sizeof total);
}

// out[r * nr + j] = dot product of row r of a and row j of w, k <= SK_BLOCK. mr and nr are constants where it is inlined, so that
// all loops over them are unrolled and `sum` is registers: sum[r * nr + j][p] holds lanes p * SK_VL... of the 16 partial sums of
// one product. Sums beyond mr * nr are zeros that nothing touches; the compiler drops them.
// SAFETY: reads k floats of each row and none behind: the last k % 16 go through `at` and `wt`, which are 16 wide. `out` has
// SK_TILE floats, since the reductions write 8, 16 or 24 of them.
SK_INLINE void tile(const float *a, size_t lda, const float *w, size_t ldw, size_t k, const int mr, const int nr,
                    float *out) {
  vec sum[SK_TILE][SK_PARTS];
  SK_UNROLL
  for (int i = 0; i < SK_TILE; i++) {
    SK_UNROLL
    for (int p = 0; p < SK_PARTS; p++) sum[i][p] = 0;
  }
// Sixteen columns: lane l of every product takes column l. wv: the rows of w, av: one row of a, which meets all of them.
#define SK_STEP(A, LDA, W, LDW)                                                                                      \
  SK_UNROLL                                                                                                          \
  for (int p = 0; p < SK_PARTS; p++) {                                                                               \
    vec wv[SK_TILE];                                                                                                 \
    SK_UNROLL                                                                                                        \
    for (int j = 0; j < nr; j++) memcpy(&wv[j], (W) + (size_t)j * (LDW) + p * SK_VL, sizeof(vec));                   \
    SK_UNROLL                                                                                                        \
    for (int r = 0; r < mr; r++) {                                                                                   \
      vec av;                                                                                                        \
      memcpy(&av, (A) + (size_t)r * (LDA) + p * SK_VL, sizeof(vec));                                                 \
      SK_UNROLL                                                                                                      \
      for (int j = 0; j < nr; j++) sum[r * nr + j][p] = __builtin_elementwise_fma(av, wv[j], sum[r * nr + j][p]);    \
    }                                                                                                                \
  }
  size_t i = 0;
  for (; i + 16 <= k; i += 16) { SK_STEP(a + i, lda, w + i, ldw) }
  if (i < k) { // the last columns, with zeros up to 16
    float at[SK_TILE * 16] = {0}, wt[SK_TILE * 16] = {0};
    for (int r = 0; r < mr; r++)
      for (size_t l = 0; l < k - i; l++) at[r * 16 + (int)l] = a[(size_t)r * lda + i + l];
    for (int j = 0; j < nr; j++)
      for (size_t l = 0; l < k - i; l++) wt[j * 16 + (int)l] = w[(size_t)j * ldw + i + l];
    SK_STEP(at, 16, wt, 16)
  }
  f32x16 lanes[SK_TILE]; // the parts of each sum side by side again: 16 lanes, whatever the width of a vector
  SK_UNROLL
  for (int t = 0; t < SK_TILE; t++) memcpy(&lanes[t], sum[t], sizeof(f32x16));
  if (mr * nr > 16) {
    reduce16(lanes, out);
    reduce8(lanes + 16, out + 16);
  } else if (mr * nr > 8) {
    reduce16(lanes, out);
  } else {
    reduce8(lanes, out);
  }
}

// Bytes that are needed next, asked for a few cache lines at a time while the units multiply: a decoder that meets them in the
// second-level cache does not wait for memory. The hardware's own reading ahead stops at a page and starts anew with each row.
typedef struct {
  const uint8_t *row;        // the row that is being asked for
  size_t rows, stride, bytes; // rows that are left, from one to the next, bytes of each
  size_t at, step;           // bytes of this row that were asked for; lines a call
} sk_reader;

SK_INLINE sk_reader reader_of(const sk_ahead *next, size_t calls) {
  sk_reader r = {0};
  if (!next || next->bytes == 0 || calls == 0) return r;
  const size_t lines = next->rows * ((next->bytes + 63) / 64 + 1);
  r.row = next->first;
  r.rows = next->rows;
  r.stride = next->stride;
  r.bytes = next->bytes;
  r.step = (lines + calls - 1) / calls;
  return r;
}

SK_INLINE void read_ahead(sk_reader *r) {
  for (size_t i = 0; i < r->step && r->rows > 0; i++) {
    __builtin_prefetch(r->row + r->at, 0, 2);
    r->at += 64;
    if (r->at >= r->bytes) {
      r->at = 0;
      r->row += r->stride;
      r->rows--;
    }
  }
}

// A strip: mr rows of a against n rows of w, `wide` of them at a time, and what is left of them one by one. The totals are added
// to c after the tree: c's order over blocks of k is the caller's, first to last. Before each tile a share of what comes next is
// asked for (`ahead`).
#define SK_STRIP(mr, wide)                                                                                           \
  static void strip_##mr(const float *a, size_t lda, const float *w, size_t ldw, float *c, size_t ldc, size_t n,     \
                         size_t k, int accumulate, sk_reader *ahead) {                                               \
    float out[SK_TILE];                                                                                              \
    size_t j = 0;                                                                                                    \
    for (; j + wide <= n; j += wide) {                                                                               \
      read_ahead(ahead);                                                                                             \
      tile(a, lda, w + j * ldw, ldw, k, mr, wide, out);                                                              \
      for (size_t r = 0; r < mr; r++)                                                                                \
        for (size_t x = 0; x < wide; x++) {                                                                          \
          float *place = c + r * ldc + j + x;                                                                        \
          *place = accumulate ? *place + out[r * wide + x] : out[r * wide + x];                                      \
        }                                                                                                            \
    }                                                                                                                \
    for (; j < n; j++) {                                                                                             \
      tile(a, lda, w + j * ldw, ldw, k, mr, 1, out);                                                                 \
      for (size_t r = 0; r < mr; r++) {                                                                              \
        float *place = c + r * ldc + j;                                                                              \
        *place = accumulate ? *place + out[r] : out[r];                                                              \
      }                                                                                                              \
    }                                                                                                                \
  }
SK_STRIP(1, SK_NR1)
SK_STRIP(2, SK_NR)
#if SK_MR >= 3
SK_STRIP(3, SK_NR)
#endif
#if SK_MR >= 4
SK_STRIP(4, SK_NR)
SK_STRIP(5, SK_NR)
SK_STRIP(6, SK_NR)
#endif

static void k_gemm_ahead_f32(const float *a, size_t lda, const float *w, size_t ldw, float *c, size_t ldc, size_t m,
                             size_t n, size_t k, int accumulate, const sk_ahead *next) {
  if (m == 0 || n == 0) return;
  // As many rows of w as stay in a core's second-level cache (256 KiB: 65,536 floats) meet all rows of a before the next ones
  // come; a's rows come again for every such block, w's come from memory once. A multiple of SK_NR1, so that only the last block
  // has a rest; at least 64 for k <= SK_BLOCK.
  const size_t block = 65536 / (k < 64 ? 64 : k) / SK_NR1 * SK_NR1;
  // Strips of heights that differ by one at most: 64 rows are nine of 6 and two of 5, not ten of 6 and a 4.
  const size_t strips = (m + SK_MR - 1) / SK_MR, height = m / strips, taller = m % strips;
  sk_reader reader = reader_of(next, strips * ((n + SK_NR - 1) / SK_NR));
  for (size_t j = 0; j < n; j += block) {
    const size_t count = n - j < block ? n - j : block;
    const float *wj = w + j * ldw, *ai = a;
    float *ci = c + j;
    for (size_t i = 0; i < strips; i++) {
      const size_t rows = height + (i < taller);
      switch (rows) {
      case 1: strip_1(ai, lda, wj, ldw, ci, ldc, count, k, accumulate, &reader); break;
#if SK_MR >= 3
      case 2: strip_2(ai, lda, wj, ldw, ci, ldc, count, k, accumulate, &reader); break;
#endif
#if SK_MR >= 4
      case 3: strip_3(ai, lda, wj, ldw, ci, ldc, count, k, accumulate, &reader); break;
      case 4: strip_4(ai, lda, wj, ldw, ci, ldc, count, k, accumulate, &reader); break;
      case 5: strip_5(ai, lda, wj, ldw, ci, ldc, count, k, accumulate, &reader); break;
#endif
      default: SK_STRIP_MAX(ai, lda, wj, ldw, ci, ldc, count, k, accumulate, &reader); break;
      }
      ai += rows * lda;
      ci += rows * ldc;
    }
  }
}

static void k_gemm_f32(const float *a, size_t lda, const float *w, size_t ldw, float *c, size_t ldc, size_t m, size_t n,
                       size_t k, int accumulate) {
  k_gemm_ahead_f32(a, lda, w, ldw, c, ldc, m, n, k, accumulate, NULL);
}

// A tile of one, block after block: the same code as the matrix product, so that both give the same bits. Of no columns it is the
// tile's zero.
static float k_dot_f32(const float *a, const float *b, size_t k) {
  float out[SK_TILE], total = 0;
  for (size_t start = 0; start == 0 || start < k; start += SK_BLOCK) {
    tile(a + start, 0, b + start, 0, k - start < SK_BLOCK ? k - start : SK_BLOCK, 1, 1, out);
    total = start == 0 ? out[0] : total + out[0];
  }
  return total;
}

// The sum of x in the order of a dot product with ones (x * 1 is exact, so nothing is lost by leaving the product out). One of
// reduce8's eight sums is used.
static float sum_of(const float *x, size_t n) {
  float out[8], total = 0;
  for (size_t start = 0; start == 0 || start < n; start += SK_BLOCK) {
    const size_t end = n - start < SK_BLOCK ? n : start + SK_BLOCK;
    f32x16 sum[8] = {0}, last = 0;
    size_t i = start;
    for (; i + 16 <= end; i += 16) {
      f32x16 v;
      memcpy(&v, x + i, sizeof v);
      sum[0] += v;
    }
    for (size_t l = 0; i + l < end; l++) last[l] = x[i + l];
    sum[0] += last;
    reduce8(sum, out);
    total = start == 0 ? out[0] : total + out[0];
  }
  return total;
}

// The largest of x and `least`; NaN is ignored, since it compares false. The order does not matter to a maximum, but which of two
// zeros comes out does: only exp(x - m) sees it, which is the same for both.
static float largest(const float *x, size_t n, float least) {
  f32x16 best = least;
  size_t i = 0;
  for (; i + 16 <= n; i += 16) {
    f32x16 v;
    memcpy(&v, x + i, sizeof v);
    best = v > best ? v : best;
  }
  for (; i < n; i++) best[0] = x[i] > best[0] ? x[i] : best[0];
  float result = best[0];
  for (int l = 1; l < 16; l++) result = best[l] > result ? best[l] : result;
  return result;
}

static float k_largest_f32(const float *x, size_t n, float least) { return largest(x, n, least); }

// Fused multiply-adds that touch no memory: SK_CHAINS sums in flight, one step of each a round. Enough chains to hide the latency
// of a step, few enough to stay in registers beside x and y. `sink` keeps the compiler from knowing the numbers.
static double k_peak(size_t rounds, float *sink) {
  vec sum[SK_CHAINS], x = *sink, y = 1.0f - *sink;
  SK_UNROLL
  for (int i = 0; i < SK_CHAINS; i++) sum[i] = (float)i;
  for (size_t round = 0; round < rounds; round++) {
    SK_UNROLL
    for (int i = 0; i < SK_CHAINS; i++) sum[i] = __builtin_elementwise_fma(sum[i], y, x);
  }
  SK_UNROLL
  for (int i = 1; i < SK_CHAINS; i++) sum[0] += sum[i];
  *sink = sum[0][0];
  return 2.0 * SK_VL * SK_CHAINS * (double)rounds;
}
