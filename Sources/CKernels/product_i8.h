// The matrix product of signed bytes with exact sums: activations and weights that were rounded to whole numbers. Part of body.h.
//
// Both operands lie along k, as in product.h, and a tile has its mr x nr sums of 32 bits in registers; no order of summation
// matters to whole numbers. What one step multiplies, by instruction set (SK_DOT8 of the isa_*.c):
//   VNNI       64 columns: four products of an unsigned and a signed byte join each of 16 sums (vpdpbusd). The rows of w are made
//              unsigned by adding 128 (their upper bit flipped), so that each sum is too large by 128 times the sum of the row of a,
//              which is taken off at the end. Sums wrap around at 2^32 on the way, and the difference is right again.
//   WORDS      32 or 16 columns: bytes widened to words, two products join each sum (vpmaddwd). The instruction that multiplies
//              bytes without VNNI (vpmaddubsw) saturates, so it is not used.
//   NEON_DOT   16 columns: four products of signed bytes join each of 4 sums (sdot)
//   PLAIN      16 columns, by the compiler's own vectors: a product of two bytes fits 16 bits
#define SK_DOT8_PLAIN 0
#define SK_DOT8_WORDS 1
#define SK_DOT8_VNNI 2
#define SK_DOT8_NEON 3

#if SK_DOT8 == SK_DOT8_VNNI
#define SK_SUMS 16
#define SK_COLUMNS8 64
#define SK_OFFSET8 128u
#elif SK_DOT8 == SK_DOT8_WORDS
#define SK_SUMS SK_VL
#define SK_COLUMNS8 (2 * SK_VL)
#define SK_OFFSET8 0u
#elif SK_DOT8 == SK_DOT8_NEON
#define SK_SUMS 4
#define SK_COLUMNS8 16
#define SK_OFFSET8 0u
#else
#define SK_SUMS 16
#define SK_COLUMNS8 16
#define SK_OFFSET8 0u
#endif

typedef uint32_t sums8 __attribute__((ext_vector_type(SK_SUMS)));
typedef uint32_t u32x16 __attribute__((ext_vector_type(16)));

#if SK_DOT8 == SK_DOT8_VNNI
typedef __m512i columns8;
SK_INLINE columns8 columns_of_a(const int8_t *p) { return _mm512_loadu_si512(p); }
SK_INLINE columns8 columns_of_w(const int8_t *p) {
  return _mm512_xor_si512(_mm512_loadu_si512(p), _mm512_set1_epi8((char)0x80));
}
SK_INLINE void dot8(sums8 *sum, columns8 a, columns8 w) { *sum = (sums8)_mm512_dpbusd_epi32((__m512i)*sum, w, a); }
#elif SK_DOT8 == SK_DOT8_WORDS && SK_VL == 16
typedef __m512i columns8;
SK_INLINE columns8 columns_of_a(const int8_t *p) { return _mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i *)p)); }
SK_INLINE columns8 columns_of_w(const int8_t *p) { return columns_of_a(p); }
SK_INLINE void dot8(sums8 *sum, columns8 a, columns8 w) { *sum += (sums8)_mm512_madd_epi16(a, w); }
#elif SK_DOT8 == SK_DOT8_WORDS
typedef __m256i columns8;
SK_INLINE columns8 columns_of_a(const int8_t *p) { return _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)p)); }
SK_INLINE columns8 columns_of_w(const int8_t *p) { return columns_of_a(p); }
SK_INLINE void dot8(sums8 *sum, columns8 a, columns8 w) { *sum += (sums8)_mm256_madd_epi16(a, w); }
#elif SK_DOT8 == SK_DOT8_NEON
typedef int8x16_t columns8;
SK_INLINE columns8 columns_of_a(const int8_t *p) { return vld1q_s8(p); }
SK_INLINE columns8 columns_of_w(const int8_t *p) { return vld1q_s8(p); }
SK_INLINE void dot8(sums8 *sum, columns8 a, columns8 w) { *sum = (sums8)vdotq_s32((int32x4_t)*sum, a, w); }
#else
typedef int8_t columns8 __attribute__((ext_vector_type(16)));
typedef int16_t words8 __attribute__((ext_vector_type(16)));
typedef int32_t wide8 __attribute__((ext_vector_type(16)));
SK_INLINE columns8 columns_of_a(const int8_t *p) {
  columns8 v;
  memcpy(&v, p, sizeof v);
  return v;
}
SK_INLINE columns8 columns_of_w(const int8_t *p) { return columns_of_a(p); }
SK_INLINE void dot8(sums8 *sum, columns8 a, columns8 w) {
  const words8 products = __builtin_convertvector(a, words8) * __builtin_convertvector(w, words8);
  *sum += __builtin_convertvector(__builtin_convertvector(products, wide8), sums8);
}
#endif

// The totals of four sums. Each step halves the lanes of a sum and puts two sums side by side, as in reduce16.
SK_INLINE void totals_of_four(const sums8 *s, uint32_t *out) {
#if SK_SUMS == 16
  u32x16 h[2];
  SK_UNROLL
  for (int i = 0; i < 2; i++)
    h[i] = __builtin_shufflevector(s[2 * i], s[2 * i + 1], 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23) +
           __builtin_shufflevector(s[2 * i], s[2 * i + 1], 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31);
  const u32x16 q = // four lanes of each sum
      __builtin_shufflevector(h[0], h[1], 0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27) +
      __builtin_shufflevector(h[0], h[1], 4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31);
  const u32x16 t = q + __builtin_shufflevector(q, q, 2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13);
  for (int i = 0; i < 4; i++) out[i] = t[4 * i] + t[4 * i + 1];
#else
  for (int i = 0; i < 4; i++) out[i] = (uint32_t)__builtin_reduce_add(s[i]);
#endif
}

// out[r * nr + j] = the sum of row r of a times row j of w, too large by SK_OFFSET8 times the sum of row r of a.
// SAFETY: reads k bytes of each row and none behind: the last k % SK_COLUMNS8 go through `at` and `wt`. Behind their end `at` holds
// zeros, so that it does not matter what `wt` holds there.
SK_INLINE void tile8(const int8_t *a, size_t lda, const int8_t *w, size_t ldw, size_t k, const int mr, const int nr,
                     uint32_t *out) {
  sums8 sum[SK_TILE];
  SK_UNROLL
  for (int i = 0; i < SK_TILE; i++) sum[i] = 0;
#define SK_STEP8(A, LDA, W, LDW)                                                                                     \
  columns8 wv[SK_TILE];                                                                                              \
  SK_UNROLL                                                                                                          \
  for (int j = 0; j < nr; j++) wv[j] = columns_of_w((W) + (size_t)j * (LDW));                                        \
  SK_UNROLL                                                                                                          \
  for (int r = 0; r < mr; r++) {                                                                                     \
    const columns8 av = columns_of_a((A) + (size_t)r * (LDA));                                                       \
    SK_UNROLL                                                                                                        \
    for (int j = 0; j < nr; j++) dot8(&sum[r * nr + j], av, wv[j]);                                                  \
  }
  size_t i = 0;
  for (; i + SK_COLUMNS8 <= k; i += SK_COLUMNS8) { SK_STEP8(a + i, lda, w + i, ldw) }
  if (i < k) {
    int8_t at[SK_MR * SK_COLUMNS8] = {0}, wt[SK_TILE * SK_COLUMNS8] = {0};
    for (int r = 0; r < mr; r++) memcpy(at + r * SK_COLUMNS8, a + (size_t)r * lda + i, k - i);
    for (int j = 0; j < nr; j++) memcpy(wt + j * SK_COLUMNS8, w + (size_t)j * ldw + i, k - i);
    SK_STEP8(at, SK_COLUMNS8, wt, SK_COLUMNS8)
  }
  SK_UNROLL
  for (int t = 0; t < SK_TILE; t += 4) {
    if (t < mr * nr) totals_of_four(sum + t, out + t);
  }
}

// SK_OFFSET8 times the sum of a row of a, modulo 2^32: a product with ones.
SK_INLINE uint32_t offset8(const int8_t *a, size_t k) {
#if SK_DOT8 == SK_DOT8_VNNI
  const __m512i ones = _mm512_set1_epi8(1);
  __m512i sum = _mm512_setzero_si512(), more = _mm512_setzero_si512();
  size_t i = 0;
  for (; i + 128 <= k; i += 128) {
    sum = _mm512_dpbusd_epi32(sum, ones, columns_of_a(a + i));
    more = _mm512_dpbusd_epi32(more, ones, columns_of_a(a + i + 64));
  }
  uint32_t total = (uint32_t)_mm512_reduce_add_epi32(_mm512_add_epi32(sum, more));
  for (; i < k; i++) total += (uint32_t)(int32_t)a[i];
  return SK_OFFSET8 * total;
#else
  (void)a, (void)k;
  return 0;
#endif
}

#define SK_STRIP8(mr, wide)                                                                                          \
  static void strip8_##mr(const int8_t *a, size_t lda, const float *sa, const int8_t *w, size_t ldw, const float *sw,\
                          float *c, size_t ldc, size_t n, size_t k, sk_reader *ahead) {                              \
    uint32_t out[SK_TILE], offset[mr];                                                                               \
    size_t j = 0;                                                                                                    \
    for (size_t r = 0; r < mr; r++) offset[r] = offset8(a + r * lda, k);                                             \
    for (; j + wide <= n; j += wide) {                                                                               \
      read_ahead(ahead);                                                                                             \
      tile8(a, lda, w + j * ldw, ldw, k, mr, wide, out);                                                             \
      SK_UNROLL                                                                                                      \
      for (size_t r = 0; r < mr; r++) {                                                                              \
        SK_UNROLL                                                                                                    \
        for (size_t x = 0; x < wide; x++)                                                                            \
          c[r * ldc + j + x] = (float)(int32_t)(out[r * wide + x] - offset[r]) * (sa[r] * sw[j + x]);                \
      }                                                                                                              \
    }                                                                                                                \
    for (; j < n; j++) {                                                                                             \
      tile8(a, lda, w + j * ldw, ldw, k, mr, 1, out);                                                                \
      for (size_t r = 0; r < mr; r++)                                                                                \
        c[r * ldc + j] = (float)(int32_t)(out[r] - offset[r]) * (sa[r] * sw[j]);                                     \
    }                                                                                                                \
  }
SK_STRIP8(1, SK_NR1)
SK_STRIP8(2, SK_NR)
#if SK_MR >= 3
SK_STRIP8(3, SK_NR)
#endif
#if SK_MR >= 4
SK_STRIP8(4, SK_NR)
SK_STRIP8(5, SK_NR)
SK_STRIP8(6, SK_NR)
#endif

static void k_gemm_i8(const int8_t *a, size_t lda, const float *sa, const int8_t *w, size_t ldw, const float *sw, float *c,
                      size_t ldc, size_t m, size_t n, size_t k, const sk_ahead *next) {
  if (m == 0 || n == 0) return;
  const size_t strips = (m + SK_MR - 1) / SK_MR, height = m / strips, taller = m % strips;
  sk_reader reader = reader_of(next, strips * ((n + SK_NR - 1) / SK_NR));
  for (size_t i = 0; i < strips; i++) {
    const size_t rows = height + (i < taller);
    switch (rows) {
    case 1: strip8_1(a, lda, sa, w, ldw, sw, c, ldc, n, k, &reader); break;
    case 2: strip8_2(a, lda, sa, w, ldw, sw, c, ldc, n, k, &reader); break;
#if SK_MR >= 3
    case 3: strip8_3(a, lda, sa, w, ldw, sw, c, ldc, n, k, &reader); break;
#endif
#if SK_MR >= 4
    case 4: strip8_4(a, lda, sa, w, ldw, sw, c, ldc, n, k, &reader); break;
    case 5: strip8_5(a, lda, sa, w, ldw, sw, c, ldc, n, k, &reader); break;
    default: strip8_6(a, lda, sa, w, ldw, sw, c, ldc, n, k, &reader); break;
#endif
    }
    a += rows * lda;
    sa += rows;
    c += rows * ldc;
  }
}

// Products of bytes that touch no memory, as k_peak: SK_CHAINS sums in flight. Each sum is its own row of a, so that no product is
// computed once for all.
static double k_peak8(size_t rounds, int8_t *sink) {
  sums8 sum[SK_CHAINS];
  int8_t bytes[SK_COLUMNS8];
  memset(bytes, *sink, sizeof bytes);
  const columns8 w = columns_of_w(bytes);
  SK_UNROLL
  for (int i = 0; i < SK_CHAINS; i++) sum[i] = (uint32_t)i;
  for (size_t round = 0; round < rounds; round++) {
    SK_UNROLL
    for (int i = 0; i < SK_CHAINS; i++) {
      columns8 a;
      memcpy(&a, &sum[i], sizeof a);
      dot8(&sum[i], a, w);
    }
  }
  SK_UNROLL
  for (int i = 1; i < SK_CHAINS; i++) sum[0] += sum[i];
  *sink = (int8_t)sum[0][0];
  return 2.0 * SK_COLUMNS8 * SK_CHAINS * (double)rounds;
}
