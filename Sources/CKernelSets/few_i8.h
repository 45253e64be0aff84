// Products of rounded activations of a few tokens with the types that are met most (sk_integers.h). Packing a panel (pack_i8.h) costs as
// much as several tokens' products; here codes stay in the order of their row: a vector of them meets the same columns of each token, and
// the sums of SK_VL rows, a vector each, are added across lanes together, so that from there on a lane is a row, as in a panel. Whole
// numbers are exact in any order and floats keep the order of rounded_i8.h: both ways give the same bits. Part of body.h.
//
// x86-64 alone: pairs of products in 16 bits, times scales of 16 bits, are instructions there.
#if SK_DOT8 == SK_DOT8_VNNI || SK_DOT8 == SK_DOT8_WORDS
#define SK_HAS_FEW8 1

enum {
  SK_STEP8 = 4 * SK_VL,       // columns of a vector
  SK_STEPS8 = 256 / SK_STEP8, // vectors of a block of 256
  SK_HALVES8 = SK_STEP8 / 32, // blocks of 32 in a vector
  SK_FEW_TOKENS8 = 4,         // tokens, at most
  SK_FEW_AHEAD8 = 16384,      // bytes that are asked for ahead, at least
};

// ---- sums over lanes ----

// The vectors of sums 2 i and 2 i + 1 with half the lanes each, then of 4 i to 4 i + 3 with a fourth: lane r of each four is sum r's.
SK_INLINE u32v four_sums(const u32v a, const u32v b, const u32v c, const u32v d) {
#if SK_VL == 16
#define SK_EVENS 0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, 12, 28, 13, 29
#define SK_ODDS 2, 18, 3, 19, 6, 22, 7, 23, 10, 26, 11, 27, 14, 30, 15, 31
#define SK_FIRST_TWO 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29
#define SK_LAST_TWO 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31
#else
#define SK_EVENS 0, 8, 1, 9, 4, 12, 5, 13
#define SK_ODDS 2, 10, 3, 11, 6, 14, 7, 15
#define SK_FIRST_TWO 0, 1, 8, 9, 4, 5, 12, 13
#define SK_LAST_TWO 2, 3, 10, 11, 6, 7, 14, 15
#endif
  const u32v ab = __builtin_shufflevector(a, b, SK_EVENS) + __builtin_shufflevector(a, b, SK_ODDS);
  const u32v cd = __builtin_shufflevector(c, d, SK_EVENS) + __builtin_shufflevector(c, d, SK_ODDS);
  return __builtin_shufflevector(ab, cd, SK_FIRST_TWO) + __builtin_shufflevector(ab, cd, SK_LAST_TWO);
}

// Vectors of four lanes from two, the even and the odd ones.
#if SK_VL == 16
#define SK_EVEN_FOURS 0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27
#define SK_ODD_FOURS 4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31
#else
#define SK_EVEN_FOURS 0, 1, 2, 3, 8, 9, 10, 11
#define SK_ODD_FOURS 4, 5, 6, 7, 12, 13, 14, 15
#endif
SK_INLINE u32v added_fours(const u32v a, const u32v b) {
  return __builtin_shufflevector(a, b, SK_EVEN_FOURS) + __builtin_shufflevector(a, b, SK_ODD_FOURS);
}

// Lane r: all lanes of sums[r].
SK_INLINE i32v row_sums(const u32v *sums) {
  u32v fours[SK_VL / 4];
  SK_UNROLL
  for (int i = 0; i < SK_VL / 4; i++)
    fours[i] = four_sums(sums[4 * i], sums[4 * i + 1], sums[4 * i + 2], sums[4 * i + 3]);
#if SK_VL == 16
  return (i32v)added_fours(added_fours(fours[0], fours[1]), added_fours(fours[2], fours[3]));
#else
  return (i32v)added_fours(fours[0], fours[1]);
#endif
}

// The same of each half of the vectors, eight lanes; of vectors of eight there is one.
SK_INLINE void row_sums_32(const u32v *sums, i32v *out) {
#if SK_VL == 16
  u32v fours[4];
  SK_UNROLL
  for (int i = 0; i < 4; i++) fours[i] = four_sums(sums[4 * i], sums[4 * i + 1], sums[4 * i + 2], sums[4 * i + 3]);
  const u32v low = added_fours(fours[0], fours[1]), high = added_fours(fours[2], fours[3]);
  out[0] = (i32v)__builtin_shufflevector(low, high, SK_EVEN_FOURS);
  out[1] = (i32v)__builtin_shufflevector(low, high, SK_ODD_FOURS);
#else
  out[0] = row_sums(sums);
#endif
}

// ---- pieces of vectors ----

SK_INLINE u32v vector_at(const void *p) {
  u32v v;
  memcpy(&v, p, sizeof v);
  return v;
}

// A vector of 32 bytes, or of those and 32 others.
SK_INLINE u32v joined(const u8x32 a, const u8x32 b) {
#if SK_VL == 16
  return (u32v)_mm512_inserti64x4(_mm512_castsi256_si512((__m256i)a), (__m256i)b, 1);
#else
  (void)b;
  return __builtin_bit_cast(u32v, a);
#endif
}
// The second is read only where a vector holds both: of the last block it would lie behind the codes.
SK_INLINE u32v thirty_twos(const uint8_t *p, const uint8_t *q) {
#if SK_VL == 16
  return joined(bytes_32(p), bytes_32(q));
#else
  (void)q;
  return __builtin_bit_cast(u32v, bytes_32(p));
#endif
}

// Four words at byte `at` of each row: lane r of out[i] is word i of row r.
SK_INLINE void four_words(const uint8_t *const *rows, const size_t at, u32v *out) {
  u32v v[4];
  SK_UNROLL
  for (int i = 0; i < 4; i++) {
    typedef uint32_t u32x4 __attribute__((ext_vector_type(4)));
    typedef uint32_t u32x8 __attribute__((ext_vector_type(8)));
    u32x4 w[SK_VL / 4];
    SK_UNROLL
    for (int q = 0; q < SK_VL / 4; q++) memcpy(&w[q], rows[4 * q + i] + at, sizeof w[q]);
    const u32x8 low = __builtin_shufflevector(w[0], w[1], 0, 1, 2, 3, 4, 5, 6, 7);
#if SK_VL == 16
    const u32x8 high = __builtin_shufflevector(w[2], w[3], 0, 1, 2, 3, 4, 5, 6, 7);
    v[i] = __builtin_shufflevector(low, high, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
#else
    v[i] = low;
#endif
  }
  const u32v low_a = __builtin_shufflevector(v[0], v[1], SK_EVENS), low_b = __builtin_shufflevector(v[2], v[3], SK_EVENS);
  const u32v high_a = __builtin_shufflevector(v[0], v[1], SK_ODDS), high_b = __builtin_shufflevector(v[2], v[3], SK_ODDS);
  out[0] = __builtin_shufflevector(low_a, low_b, SK_FIRST_TWO);
  out[1] = __builtin_shufflevector(low_a, low_b, SK_LAST_TWO);
  out[2] = __builtin_shufflevector(high_a, high_b, SK_FIRST_TWO);
  out[3] = __builtin_shufflevector(high_a, high_b, SK_LAST_TWO);
}

// The F16 number at byte `at` of each row.
SK_INLINE vec factors_at(const uint8_t *const *rows, const size_t at) {
  uint32_t w[SK_VL];
  SK_UNROLL
  for (int r = 0; r < SK_VL; r++) w[r] = load16(rows[r] + at);
  return floats_of_low_halves(vector_at(w));
}

// Bytes of each four words by places among them.
SK_INLINE u32v looked_up(const u32v v, const u32v places) {
#if SK_VL == 16
  return (u32v)_mm512_shuffle_epi8((__m512i)v, (__m512i)places);
#else
  return (u32v)_mm256_shuffle_epi8((__m256i)v, (__m256i)places);
#endif
}

// Two neighbouring products of an unsigned byte, at most 128, with a signed one, added: a word for each two.
SK_INLINE u32v two_products(const u32v w, const u32v x) {
#if SK_VL == 16
  return (u32v)_mm512_maddubs_epi16((__m512i)w, (__m512i)x);
#else
  return (u32v)_mm256_maddubs_epi16((__m256i)w, (__m256i)x);
#endif
}

// Sixteen bytes for each block of a vector as 32 nibbles: the low ones, then the high ones.
SK_INLINE u32v thirty_two_nibbles(const uint8_t *p, const uint8_t *q) {
  const u8x16 a = bytes_16(p), b = bytes_16(q);
  const u8x32 v = __builtin_shufflevector(a, a >> 4, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22,
                                          23, 24, 25, 26, 27, 28, 29, 30, 31);
  const u8x32 w = __builtin_shufflevector(b, b >> 4, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22,
                                          23, 24, 25, 26, 27, 28, 29, 30, 31);
  return joined(v, w) & 0x0f0f0f0f;
}

// What the rows of one call are, and where the tokens.
typedef struct {
  const uint8_t *rows[SK_VL]; // at their first column; those that are not there are the last one again
  const sk_rounded *a;
  const float *scales; // of the rows, signed bytes
  size_t k;
  const uint8_t *soon; // bytes that are needed soon, as many as the rows have
} sk_few8;
#endif
