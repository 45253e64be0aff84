// One token with numbers of 16 or 32 bits that need no scale: sk_coded.h. Part of body.h.
//
// A row at a time, and nothing is asked for ahead: what a token waits for is memory, and a processor that sees one stream of addresses reads
// ahead better than it is told to. Four rows side by side (coded_tiles.h), each with its own stream, and hints between them get a quarter
// less. A row has one chain of sums, four cycles for each step of 16 columns, which is 30 GB a second for numbers of 16 bits; what is narrower
// would wait for its sums and stays with panels. The lanes of 16 rows are added up together. The order of every sum is that of a panel.
#if SK_VL >= 8

enum { SK_ROW_BLOCKS = 8 }; // blocks of columns of a row whose sums wait for those of the other rows

#define SK_LINE(bytes) (64 / bytes)
#define SK_ROW_STEP(codes, bytes, NUMBER, column)                                                                    \
  {                                                                                                                  \
    const uint8_t *p = codes + (column) * bytes;                                                                     \
    f32x16 xv;                                                                                                       \
    memcpy(&xv, x + (column), sizeof xv);                                                                            \
    sum = __builtin_elementwise_fma(xv, NUMBER, sum);                                                                \
  }

// c[j] = row `row + j` times x, j < n, of k columns, a multiple of 16. NUMBER gives 16 numbers at p.
#define SK_ONE_TOKEN(name, bytes, NUMBER)                                                                            \
  static void name(const sk_coded *w, const size_t row, const size_t n, const size_t k, const float *x, float *c) {  \
    for (size_t j = 0; j < n; j += 16) {                                                                             \
      const size_t rows = n - j < 16 ? n - j : 16;                                                                   \
      for (size_t first = 0; first < k; first += SK_ROW_BLOCKS * SK_BLOCK) {                                         \
        const size_t end = k - first < SK_ROW_BLOCKS * SK_BLOCK ? k : first + SK_ROW_BLOCKS * SK_BLOCK;              \
        f32x16 sums[SK_ROW_BLOCKS][16];                                                                              \
        for (size_t r = 0; r < rows; r++) {                                                                          \
          const uint8_t *codes = w->codes + (row + j + r) * w->row_bytes;                                            \
          for (size_t start = first; start < end; start += SK_BLOCK) {                                               \
            const size_t stop = end - start < SK_BLOCK ? end : start + SK_BLOCK;                                     \
            size_t i = start;                                                                                        \
            f32x16 sum = 0;                                                                                          \
            for (; i + SK_LINE(bytes) <= stop; i += SK_LINE(bytes)) { /* a cache line of codes */                    \
              SK_UNROLL                                                                                              \
              for (size_t l = 0; l < SK_LINE(bytes); l += 16) SK_ROW_STEP(codes, bytes, NUMBER, i + l)               \
            }                                                                                                        \
            for (; i < stop; i += 16) SK_ROW_STEP(codes, bytes, NUMBER, i)                                           \
            sums[(start - first) / SK_BLOCK][r] = sum;                                                               \
          }                                                                                                          \
        }                                                                                                            \
        for (size_t start = first; start < end; start += SK_BLOCK) {                                                 \
          f32x16 *of_block = sums[(start - first) / SK_BLOCK];                                                       \
          for (size_t r = rows; r < 16; r++) of_block[r] = 0;                                                        \
          float out[16];                                                                                             \
          reduce16(of_block, out);                                                                                   \
          for (size_t r = 0; r < rows; r++) c[j + r] = start > 0 ? c[j + r] + out[r] : out[r];                       \
        }                                                                                                            \
      }                                                                                                              \
    }                                                                                                                \
  }
SK_ONE_TOKEN(one_f32, 4, number_f32(p))
SK_ONE_TOKEN(one_f16, 2, number_f16(p))
SK_ONE_TOKEN(one_bf16, 2, number_bf16(p))

// Whether a row at a time is the way for one token; then c is written.
SK_INLINE int multiply_one(const sk_coded *w, const size_t row, const size_t n, const size_t k, const float *x, float *c) {
  if (k % 16 != 0) return 0;
  switch (w->code) {
  case SK_CODED_F32: one_f32(w, row, n, k, x, c); return 1;
  case SK_CODED_F16: one_f16(w, row, n, k, x, c); return 1;
  case SK_CODED_BF16: one_bf16(w, row, n, k, x, c); return 1;
  default: return 0;
  }
}
#endif
