// Blocks of 32 columns and rows of signed bytes with a few tokens (few_i8.h), and which types have such products. Part of body.h.
#ifdef SK_HAS_FEW8

// ---- blocks of 32 columns ----

static const uint8_t no_codes[32];

SK_INLINE void few_32(const sk_few8 *f, const int kind, const size_t bytes, const int M, vec *total) {
  const sk_rounded *a = f->a;
  const int isByte = kind == SK_CODED_Q8_0, bias = isByte ? SK_BYTE_BIAS : 8;
  const size_t blocks = f->k / 32;
  const uint8_t *soon = f->soon;
  for (size_t block = 0; block < blocks; block += SK_HALVES8) {
    const int isPair = SK_HALVES8 == 2 && block + 1 < blocks;
    const size_t next = isPair ? bytes : 0; // the last block by itself is there twice, and meets zeros the second time
    u32v x[SK_FEW_TOKENS8], sums[SK_FEW_TOKENS8][SK_VL];
    uint32_t d[SK_HALVES8][SK_VL];
    SK_UNROLL
    for (int t = 0; t < M; t++) {
      const uint8_t *codes = (const uint8_t *)a->codes + (size_t)t * a->code_stride + 32 * block;
      x[t] = thirty_twos(codes, isPair ? codes + 32 : no_codes);
    }
    for (size_t r = 0; r < SK_VL; r++) {
      const uint8_t *p = f->rows[r] + block * bytes;
      soon = read_soon(soon, SK_HALVES8 * bytes, 0);
      d[0][r] = load16(p);
      if (SK_HALVES8 == 2) d[SK_HALVES8 - 1][r] = load16(p + next);
      const u32v w = isByte ? thirty_twos(p + 2, p + next + 2) ^ SK_BYTE_FLIP : thirty_two_nibbles(p + 2, p + next + 2);
      SK_UNROLL
      for (int t = 0; t < M; t++) sums[t][r] = (u32v)(isByte ? dot_byte((i32v)0, w, x[t]) : dot_low((i32v)0, w, x[t]));
    }
    SK_UNROLL
    for (int t = 0; t < M; t++) {
      i32v whole[SK_HALVES8];
      row_sums_32(sums[t], whole);
      const int16_t *of_token = a->sums + (size_t)t * a->sum_stride + 2 * block;
      const float *s = a->scales + (size_t)t * a->scale_stride + block;
      for (size_t b = 0; b < (isPair ? 2 : 1); b++) {
        const i32v v = whole[b] - bias * (of_token[2 * b] + of_token[2 * b + 1]);
        const vec factor = floats_of_low_halves(vector_at(d[b])) * s[b];
        total[t] = __builtin_elementwise_fma(__builtin_convertvector(v, vec), factor, total[t]);
      }
    }
  }
}

// ---- rows of signed bytes ----

// A vector of what is left of a row: zeros behind it.
SK_INLINE u32v rest_at(const uint8_t *p, const size_t count) {
  uint8_t bytes[SK_STEP8] = {0};
  memcpy(bytes, p, count);
  return vector_at(bytes);
}

// Four sums of a token are in flight: those of one row, which is read in the order of addresses, or for more tokens those of as many rows,
// so that the tokens' codes are loaded less often.
SK_INLINE void few_rows(const sk_few8 *f, const int M, vec *total) {
  enum { SUMS = 4 };
  const int rows = M == 1 ? 1 : M == 2 ? 2 : SUMS, chains = SUMS / rows;
  const sk_rounded *a = f->a;
  const uint8_t *x = (const uint8_t *)a->codes, *soon = f->soon;
  const size_t step = (size_t)chains * SK_STEP8;
  u32v sums[SK_FEW_TOKENS8][SK_VL];
  for (size_t first = 0; first < SK_VL; first += (size_t)rows) {
    i32v sum[SK_FEW_TOKENS8][SUMS];
    SK_UNROLL
    for (int t = 0; t < M; t++) {
      SK_UNROLL
      for (int j = 0; j < SUMS; j++) sum[t][j] = 0;
    }
    size_t i = 0;
    for (; i + step <= f->k; i += step) {
      if (rows > 1) soon = read_soon(soon, SUMS * SK_STEP8, 0);
      SK_UNROLL
      for (int j = 0; j < SUMS; j++) {
        const size_t place = i + (size_t)(j / rows) * SK_STEP8;
        const u32v w = vector_at(f->rows[first + (size_t)(j % rows)] + place) ^ SK_BYTE_FLIP;
        SK_UNROLL
        for (int t = 0; t < M; t++) sum[t][j] = dot_byte(sum[t][j], w, vector_at(x + (size_t)t * a->code_stride + place));
      }
    }
    for (; i < f->k; i += SK_STEP8) {
      const size_t left = f->k - i < SK_STEP8 ? f->k - i : SK_STEP8;
      SK_UNROLL
      for (int j = 0; j < rows; j++) {
        const u32v w = rest_at(f->rows[first + (size_t)j] + i, left) ^ SK_BYTE_FLIP;
        SK_UNROLL
        for (int t = 0; t < M; t++) sum[t][j] = dot_byte(sum[t][j], w, rest_at(x + (size_t)t * a->code_stride + i, left));
      }
    }
    SK_UNROLL
    for (int t = 0; t < M; t++) {
      SK_UNROLL
      for (int j = rows; j < SUMS; j++) sum[t][j % rows] += sum[t][j];
      SK_UNROLL
      for (int j = 0; j < rows; j++) sums[t][first + (size_t)j] = (u32v)sum[t][j];
    }
  }
  const vec scales = (vec)vector_at(f->scales);
  SK_UNROLL
  for (int t = 0; t < M; t++) {
    const uint32_t of_codes = load32((const uint8_t *)(a->sums + (size_t)t * a->sum_stride));
    const i32v v = (i32v)((u32v)row_sums(sums[t]) - SK_BYTE_BIAS * of_codes);
    total[t] = __builtin_convertvector(v, vec) * (a->scales[(size_t)t * a->scale_stride] * scales);
  }
}

// ---- by type and number of tokens ----

#define SK_FEW_HEIGHTS(name, call)                                                                                   \
  static void name(const sk_few8 *f, const size_t tokens, vec *total) {                                              \
    switch (tokens) {                                                                                                \
    case 1: call(1); break;                                                                                          \
    case 2: call(2); break;                                                                                          \
    case 3: call(3); break;                                                                                          \
    default: call(4); break;                                                                                         \
    }                                                                                                                \
  }
#define SK_CALL(M) few_256(f, SK_CODED_Q4_K, 144, M, total)
SK_FEW_HEIGHTS(few8_q4_k, SK_CALL)
#undef SK_CALL
#define SK_CALL(M) few_256(f, SK_CODED_Q5_K, 176, M, total)
SK_FEW_HEIGHTS(few8_q5_k, SK_CALL)
#undef SK_CALL
#define SK_CALL(M) few_256(f, SK_CODED_Q6_K, 210, M, total)
SK_FEW_HEIGHTS(few8_q6_k, SK_CALL)
#undef SK_CALL
#define SK_CALL(M) few_32(f, SK_CODED_Q8_0, 34, M, total)
SK_FEW_HEIGHTS(few8_q8_0, SK_CALL)
#undef SK_CALL
#define SK_CALL(M) few_32(f, SK_CODED_Q4_0, 18, M, total)
SK_FEW_HEIGHTS(few8_q4_0, SK_CALL)
#undef SK_CALL
#define SK_CALL(M) few_rows(f, M, total)
SK_FEW_HEIGHTS(few8_int8, SK_CALL)
#undef SK_CALL

// More tokens than `most` are faster with panels.
typedef struct {
  void (*multiply)(const sk_few8 *f, size_t tokens, vec *total);
  size_t most;
} sk_few_form;

static const sk_few_form sk_few_forms[SK_CODED_COUNT] = {
    [SK_CODED_INT8] = {few8_int8, 4}, [SK_CODED_Q8_0] = {few8_q8_0, 2}, [SK_CODED_Q4_0] = {few8_q4_0, 2},
    [SK_CODED_Q4_K] = {few8_q4_k, 2}, [SK_CODED_Q5_K] = {few8_q5_k, 3}, [SK_CODED_Q6_K] = {few8_q6_k, 4},
};

static void multiply_few(const sk_integers *w, size_t row, size_t n, size_t k, const sk_rounded *a, size_t m, float *c, size_t ldc) {
  const size_t group = SK_VL * w->row_bytes, ahead = (group < SK_FEW_AHEAD8 ? 1 + SK_FEW_AHEAD8 / group : 1) * SK_VL;
  float scales[SK_VL] = {0};
  sk_few8 f = {.a = a, .scales = scales, .k = k};
  for (size_t j = 0; j < n; j += SK_VL) {
    const size_t count = n - j < SK_VL ? n - j : SK_VL;
    for (size_t r = 0; r < SK_VL; r++) {
      const size_t place = row + j + (r < count ? r : count - 1);
      f.rows[r] = w->codes + place * w->row_bytes;
      if (w->scales) scales[r] = w->scales[place];
    }
    f.soon = f.rows[0] + ahead * w->row_bytes; // behind the last row other bytes, or none
    vec total[SK_FEW_TOKENS8] = {0};
    sk_few_forms[w->code].multiply(&f, m, total);
    for (size_t t = 0; t < m; t++) memcpy(c + t * ldc + j, &total[t], count * sizeof(float));
  }
}
#endif
