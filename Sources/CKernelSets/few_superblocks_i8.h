// Blocks of 256 columns, whose groups have scales of 6 or 8 bits, with a few tokens (few_i8.h). Part of body.h.
#ifdef SK_HAS_FEW8

// SK_VL rows of one block.
typedef struct {
  vec d, l;
  u32v pairs[8];              // least numbers, as in a panel
  uint32_t scales[2 * SK_VL]; // eight bytes a row (`six_bit_place`)
} sk_heads8;

// Six-bit scales and least numbers.
SK_INLINE void heads_six_bits(const uint8_t *const *rows, sk_heads8 *h) {
  u32v w[4], six[4];
  four_words(rows, 0, w);
  h->d = floats_of_low_halves(w[0]);
  h->l = floats_of_low_halves(w[0] >> 16);
  words_of_six_bits(w, six);
  SK_UNROLL
  for (int g = 0; g < 8; g++) {
    const i32v least = byte_of(six[2 + g / 4], g % 4);
    h->pairs[g] = pair_of(least, least);
  }
  const u32v low = __builtin_shufflevector(six[0], six[1], SK_EVENS), high = __builtin_shufflevector(six[0], six[1], SK_ODDS);
  memcpy(h->scales, &low, sizeof low);
  memcpy(h->scales + SK_VL, &high, sizeof high);
}

// Where the eight scales of row r lie: rows 4 q and 4 q + 1 beside each other, then those of the next four; behind them all rows 4 q + 2
// and 4 q + 3.
SK_INLINE const uint32_t *six_bit_place(const sk_heads8 *h, const size_t r) {
  return h->scales + r % 4 / 2 * SK_VL + r / 4 * 4 + r % 2 * 2;
}

// Places among eight bytes of scales, and 128 for a byte of zeros.
#define SK_TIMES_8(...) __VA_ARGS__, __VA_ARGS__, __VA_ARGS__, __VA_ARGS__, __VA_ARGS__, __VA_ARGS__, __VA_ARGS__, __VA_ARGS__
#if SK_DOT8 == SK_DOT8_VNNI
// Sums of four products of codes below 64 have 16 bits. Those of two vectors, `low` and `high`, become words of two sums, and a word of
// `scales` has the two scales: half the work that a scale for each two columns is. `up` brings the higher sums, which may be a multiple of
// what they should be, to the upper 16 bits.
SK_INLINE i32v two_scaled(const i32v sum, const i32v low, const i32v high, const int up, const u32v scales) {
  return dot_pairs(sum, ((u32v)low & 0xffff) | (u32v)high << up, scales);
}
static const uint8_t places_six_bits[SK_STEPS8 / 2][SK_STEP8] = {
    {SK_TIMES_8(0, 128, 1, 128), SK_TIMES_8(2, 128, 3, 128)},
    {SK_TIMES_8(4, 128, 5, 128), SK_TIMES_8(6, 128, 7, 128)},
};
#else
// The scale of a group in every word of the columns that it holds for. The first vector of codes is low nibbles, the next one the high ones.
#define SK_PLACES_16(g) SK_TIMES_8(g, 128, g, 128)
static const uint8_t places_six_bits[SK_STEPS8][SK_STEP8] = {
#if SK_VL == 16
    {SK_PLACES_16(0), SK_PLACES_16(2)}, {SK_PLACES_16(1), SK_PLACES_16(3)},
    {SK_PLACES_16(4), SK_PLACES_16(6)}, {SK_PLACES_16(5), SK_PLACES_16(7)},
#else
    {SK_PLACES_16(0)}, {SK_PLACES_16(1)}, {SK_PLACES_16(2)}, {SK_PLACES_16(3)},
    {SK_PLACES_16(4)}, {SK_PLACES_16(5)}, {SK_PLACES_16(6)}, {SK_PLACES_16(7)},
#endif
};
#endif

// One block of a row of nibbles, whose scales are the bytes of `eight`, with M tokens: sums of products times scales, in some lanes.
SK_INLINE void row_of_nibbles(const uint8_t *p, const int hasFifths, const uint64_t eight, const u32v x[][SK_STEPS8], const int M,
                              u32v *out) {
  typedef uint64_t u64v __attribute__((ext_vector_type(SK_VL / 2)));
  const u32v all = __builtin_bit_cast(u32v, (u64v)eight);
  const u32v fifths = hasFifths ? thirty_twos(p + 16, p + 16) : (u32v)0;
  i32v sum[SK_FEW_TOKENS8];
  SK_UNROLL
  for (int t = 0; t < M; t++) sum[t] = 0;
  SK_UNROLL
  for (uint32_t i = 0; i < SK_STEPS8; i += 2) {
    const u32v v = vector_at(p + (hasFifths ? 48 : 16) + i / 2 * SK_STEP8);
    u32v low = v & 0x0f0f0f0f, high = v >> 4 & 0x0f0f0f0f;
    if (hasFifths) { // bit g of byte c: column c of group g
#if SK_VL == 16
      const u32v upper = {0, 0, 0, 0, 0, 0, 0, 0, 2, 2, 2, 2, 2, 2, 2, 2}, f = fifths >> (upper + 2 * i);
#else
      const u32v f = fifths >> i;
#endif
      low |= f << 4 & 0x10101010;
      high |= f << 3 & 0x10101010;
    }
#if SK_DOT8 == SK_DOT8_VNNI
    if (!hasFifths) high = v & 0xf0f0f0f0; // sixteen times the code: moved up less
    const u32v scales = looked_up(all, vector_at(places_six_bits[i / 2]));
    SK_UNROLL
    for (int t = 0; t < M; t++)
      sum[t] = two_scaled(sum[t], dot_low((i32v)0, low, x[t][i]), dot_low((i32v)0, high, x[t][i + 1]), hasFifths ? 16 : 12, scales);
#else
    const u32v of_low = looked_up(all, vector_at(places_six_bits[i])), of_high = looked_up(all, vector_at(places_six_bits[i + 1]));
    SK_UNROLL
    for (int t = 0; t < M; t++) {
      sum[t] = dot_pairs(sum[t], two_products(low, x[t][i]), of_low);
      sum[t] = dot_pairs(sum[t], two_products(high, x[t][i + 1]), of_high);
    }
#endif
  }
  SK_UNROLL
  for (int t = 0; t < M; t++) out[t * SK_VL] = (u32v)sum[t];
}

// What codes of Q6_K are too high by: 32 times the scales of groups times the sums of a token's codes, in some lanes.
SK_INLINE i32v excess_q6_k(const uint8_t *p, const int16_t *sums) {
  const __m256i words = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(const void *)(p + 192)));
  const __m256i v = _mm256_slli_epi32(_mm256_madd_epi16(words, _mm256_loadu_si256((const __m256i *)(const void *)sums)), 5);
#if SK_VL == 16
  return (i32v)_mm512_zextsi256_si512(v);
#else
  return (i32v)v;
#endif
}

// The same of Q6_K: of each half of 128 columns 64 bytes of low and high nibbles, and 32 bytes of two bits for each of four columns; scales
// are signed bytes of 16 columns.
SK_INLINE void row_q6_k(const uint8_t *p, const int16_t *sums, const size_t sum_stride, const u32v x[][SK_STEPS8], const int M, u32v *out) {
  u32v codes[SK_STEPS8];
  SK_UNROLL
  for (int half = 0; half < 2; half++) {
    const uint8_t *low = p + 64 * half, *high = p + 128 + 32 * half;
#if SK_VL == 16
    const u32v by = {0, 0, 0, 0, 0, 0, 0, 0, 2, 2, 2, 2, 2, 2, 2, 2};
    const u32v v = vector_at(low), t = thirty_twos(high, high);
    codes[2 * half] = (v & 0x0f0f0f0f) | (t << (4 - by) & 0x30303030);
    codes[2 * half + 1] = (v >> 4 & 0x0f0f0f0f) | (t >> by & 0x30303030);
#else
    const u32v v = vector_at(low), w = vector_at(low + 32), t = vector_at(high);
    codes[4 * half] = (v & 0x0f0f0f0f) | (t << 4 & 0x30303030);
    codes[4 * half + 1] = (w & 0x0f0f0f0f) | (t << 2 & 0x30303030);
    codes[4 * half + 2] = (v >> 4 & 0x0f0f0f0f) | (t & 0x30303030);
    codes[4 * half + 3] = (w >> 4 & 0x0f0f0f0f) | (t >> 2 & 0x30303030);
#endif
  }
  i32v sum[SK_FEW_TOKENS8];
  SK_UNROLL
  for (int t = 0; t < M; t++) sum[t] = -excess_q6_k(p, sums + (size_t)t * sum_stride);
  const __m128i sixteen = _mm_loadu_si128((const __m128i *)(const void *)(p + 192));
#if SK_DOT8 == SK_DOT8_VNNI
  const __m512i words = _mm512_castsi256_si512(_mm256_cvtepi8_epi16(sixteen));
  const u32v at = {0x40000, 0x40000, 0x40000, 0x40000, 0x50001, 0x50001, 0x50001, 0x50001,
                   0x60002, 0x60002, 0x60002, 0x60002, 0x70003, 0x70003, 0x70003, 0x70003};
  SK_UNROLL
  for (uint32_t i = 0; i < SK_STEPS8; i += 2) {
    const u32v scales = (u32v)_mm512_permutexvar_epi16((__m512i)(at + 0x40004 * i), words);
    SK_UNROLL
    for (int t = 0; t < M; t++)
      sum[t] = two_scaled(sum[t], dot_low((i32v)0, codes[i], x[t][i]), dot_low((i32v)0, codes[i + 1], x[t][i + 1]), 16, scales);
  }
#else
#if SK_VL == 16
  const __m512i words = _mm512_castsi256_si512(_mm256_cvtepi8_epi16(sixteen));
  const u32v at = {0,       0,       0,       0,       0x10001, 0x10001, 0x10001, 0x10001,
                   0x20002, 0x20002, 0x20002, 0x20002, 0x30003, 0x30003, 0x30003, 0x30003};
#else
  const u32v all = (u32v)_mm256_broadcastsi128_si256(sixteen); // a scale becomes the upper byte of a word and moves down with its sign
  const u32v at = {0x00800080, 0x00800080, 0x00800080, 0x00800080, 0x01800180, 0x01800180, 0x01800180, 0x01800180};
#endif
  SK_UNROLL
  for (uint32_t i = 0; i < SK_STEPS8; i++) {
#if SK_VL == 16
    const u32v scales = (u32v)_mm512_permutexvar_epi16((__m512i)(at + 0x40004 * i), words);
#else
    const u32v scales = (u32v)_mm256_srai_epi16((__m256i)looked_up(all, at + 0x02000200 * i), 8);
#endif
    SK_UNROLL
    for (int t = 0; t < M; t++) sum[t] = dot_pairs(sum[t], two_products(codes[i], x[t][i]), scales);
  }
#endif
  SK_UNROLL
  for (int t = 0; t < M; t++) out[t * SK_VL] = (u32v)sum[t];
}

// The codes of a token's block in the order of a row's.
SK_INLINE void codes_of_token(const uint8_t *codes, const int hasNibbles, u32v *out) {
  SK_UNROLL
  for (int i = 0; i < SK_STEPS8; i++) {
    const uint8_t *at = codes + (hasNibbles ? i / 2 * 2 * SK_STEP8 + i % 2 * 32 : i * SK_STEP8);
    out[i] = hasNibbles ? thirty_twos(at, at + 64) : vector_at(at);
  }
}

// SK_VL rows with M tokens. A row's sums of a block are a vector for each token until all rows have theirs.
SK_INLINE void few_256(const sk_few8 *f, const int kind, const size_t bytes, const int M, vec *total) {
  const sk_rounded *a = f->a;
  const int hasLeast = kind != SK_CODED_Q6_K;
  const uint8_t *soon = f->soon;
  for (size_t block = 0; block < f->k / 256; block++) {
    const uint8_t *rows[SK_VL];
    SK_UNROLL
    for (int r = 0; r < SK_VL; r++) rows[r] = f->rows[r] + block * bytes;
    const int8_t *codes = a->codes + 256 * block;
    const int16_t *sums = a->sums + 16 * block;
    sk_heads8 heads;
    if (hasLeast)
      heads_six_bits(rows, &heads);
    else
      heads.d = factors_at(rows, 208);
    u32v x[SK_FEW_TOKENS8][SK_STEPS8], whole[SK_FEW_TOKENS8][SK_VL];
    SK_UNROLL
    for (int t = 0; t < M; t++) codes_of_token((const uint8_t *)codes + (size_t)t * a->code_stride, hasLeast, x[t]);
    for (size_t r = 0; r < SK_VL; r++) {
      soon = read_soon(soon, bytes, 0);
      if (hasLeast) {
        uint64_t eight;
        memcpy(&eight, six_bit_place(&heads, r), sizeof eight);
        row_of_nibbles(rows[r], kind == SK_CODED_Q5_K, eight, x, M, &whole[0][r]);
      } else
        row_q6_k(rows[r], sums, a->sum_stride, x, M, &whole[0][r]);
    }
    SK_UNROLL
    for (int t = 0; t < M; t++) {
      const float s = a->scales[(size_t)t * a->scale_stride + block];
      total[t] = __builtin_elementwise_fma(__builtin_convertvector(row_sums(whole[t]), vec), heads.d * s, total[t]);
      if (!hasLeast) continue;
      i32v least = 0;
      SK_UNROLL
      for (int q = 0; q < 8; q++)
        least = dot_pairs(least, heads.pairs[q], (u32v)load32((const uint8_t *)(sums + (size_t)t * a->sum_stride + 2 * q)));
      total[t] = __builtin_elementwise_fma(__builtin_convertvector(least, vec), -(heads.l * s), total[t]);
    }
  }
}
#endif
