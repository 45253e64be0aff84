// Panels of a weight for products with rounded activations: some rows of 256 columns, four columns of one row in each word and the
// rows side by side in the lanes of a vector. A product of four columns then joins the sum of its row in its own lane, no sum is ever
// added up across lanes, and scales of rows are vectors. Packing costs one shuffle for 16 codes and serves all tokens. Part of body.h.
//
// What one step multiplies, by instruction set (SK_DOT8 of the isa_*.c): four codes of each row with four codes of a token.
//   VNNI    vpdpbusd, an unsigned byte times a signed one. Codes of types that have signed bytes are stored 128 higher (SK_BYTE_BIAS),
//           and 128 times the sum of the token's codes is taken off.
//   WORDS   vpmaddubsw adds two such products in 16 bits and saturates; it cannot where the unsigned byte is at most 128. So signed codes
//           give their sign to the token's codes first; vpmaddwd with ones adds the pairs.
//   NEON    sdot, signed bytes
//   PLAIN   by the compiler's vectors: two products in 16 bits, then widened
#define SK_DOT8_PLAIN 0
#define SK_DOT8_WORDS 1
#define SK_DOT8_VNNI 2
#define SK_DOT8_NEON 3

typedef uint32_t u32v __attribute__((ext_vector_type(SK_VL)));
typedef int32_t i32v __attribute__((ext_vector_type(SK_VL)));
typedef uint16_t u16v __attribute__((ext_vector_type(SK_VL)));

// Vectors side by side, so that a token's codes are loaded once for all of them, and tokens whose sums are in registers together.
#if SK_VL == 16
enum { SK_SIDE = 2, SK_TOKENS8 = 6 };
#elif SK_VL == 8
enum { SK_SIDE = 2, SK_TOKENS8 = 3 };
#else
enum { SK_SIDE = 4, SK_TOKENS8 = 2 };
#endif
enum { SK_PANEL8 = SK_SIDE * SK_VL, SK_PANEL8_COLUMNS = 256 };

typedef struct {
  u32v codes[SK_PANEL8_COLUMNS / 4][SK_SIDE]; // columns 4 i to 4 i + 3
  i32v scale[16][SK_SIDE];                    // of groups of 16 or 32 columns, where blocks have 256
  u32v pairs[8][SK_SIDE];                     // what sums of codes are multiplied by, for each 16 columns: two numbers of 16 bits a word
  vec d[8][SK_SIDE], l[8][SK_SIDE];           // of each 32 columns; where blocks have 256 the first
} sk_panel8;

#if SK_DOT8 == SK_DOT8_VNNI
#define SK_BYTE_BIAS 128
SK_INLINE i32v dot_low(i32v sum, u32v w, u32v a) {
  return (i32v)_mm512_dpbusd_epi32((__m512i)sum, (__m512i)w, (__m512i)a);
}
SK_INLINE i32v dot_byte(i32v sum, u32v w, u32v a) { return dot_low(sum, w, a); }
SK_INLINE i32v dot_pairs(i32v sum, u32v p, u32v b) {
  return (i32v)_mm512_dpwssd_epi32((__m512i)sum, (__m512i)p, (__m512i)b);
}
#elif SK_DOT8 == SK_DOT8_WORDS && SK_VL == 16
#define SK_BYTE_BIAS 0
SK_INLINE i32v dot_low(i32v sum, u32v w, u32v a) {
  const __m512i pairs = _mm512_maddubs_epi16((__m512i)w, (__m512i)a);
  return sum + (i32v)_mm512_madd_epi16(pairs, _mm512_set1_epi16(1));
}
SK_INLINE i32v dot_byte(i32v sum, u32v w, u32v a) {
  const __m512i v = (__m512i)a;
  const __m512i turned = _mm512_mask_sub_epi8(v, _mm512_movepi8_mask((__m512i)w), _mm512_setzero_si512(), v);
  const __m512i pairs = _mm512_maddubs_epi16(_mm512_abs_epi8((__m512i)w), turned);
  return sum + (i32v)_mm512_madd_epi16(pairs, _mm512_set1_epi16(1));
}
SK_INLINE i32v dot_pairs(i32v sum, u32v p, u32v b) {
  return sum + (i32v)_mm512_madd_epi16((__m512i)p, (__m512i)b);
}
#elif SK_DOT8 == SK_DOT8_WORDS
#define SK_BYTE_BIAS 0
SK_INLINE i32v dot_low(i32v sum, u32v w, u32v a) {
  const __m256i pairs = _mm256_maddubs_epi16((__m256i)w, (__m256i)a);
  return sum + (i32v)_mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
}
SK_INLINE i32v dot_byte(i32v sum, u32v w, u32v a) {
  const __m256i turned = _mm256_sign_epi8((__m256i)a, (__m256i)w);
  const __m256i pairs = _mm256_maddubs_epi16(_mm256_abs_epi8((__m256i)w), turned);
  return sum + (i32v)_mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
}
SK_INLINE i32v dot_pairs(i32v sum, u32v p, u32v b) {
  return sum + (i32v)_mm256_madd_epi16((__m256i)p, (__m256i)b);
}
#else
#define SK_BYTE_BIAS 0
#if SK_DOT8 == SK_DOT8_NEON
SK_INLINE i32v dot_byte(i32v sum, u32v w, u32v a) {
  return (i32v)vdotq_s32((int32x4_t)sum, (int8x16_t)w, (int8x16_t)a);
}
#else
SK_INLINE i32v dot_byte(i32v sum, u32v w, u32v a) {
  typedef int16_t i16v __attribute__((ext_vector_type(2 * SK_VL)));
  const i16v x = __builtin_bit_cast(i16v, w), y = __builtin_bit_cast(i16v, a);
  const i16v two = (x << 8 >> 8) * (y << 8 >> 8) + (x >> 8) * (y >> 8);
  const i32v v = __builtin_bit_cast(i32v, two);
  return sum + (v << 16 >> 16) + (v >> 16);
}
#endif
SK_INLINE i32v dot_low(i32v sum, u32v w, u32v a) { return dot_byte(sum, w, a); }
SK_INLINE i32v dot_pairs(i32v sum, u32v p, u32v b) {
  const i32v v = (i32v)p, x = (i32v)b;
  return sum + (v << 16 >> 16) * (x << 16 >> 16) + (v >> 16) * (x >> 16);
}
#endif

// Transposes SK_VL vectors of SK_VL words: afterwards lane r of v[i] is what lane i of v[r] was. Each round interleaves the lower halves of
// v[i] and v[i + SK_VL / 2] into one vector and the upper halves into the next, which rotates the bits of the index (vector, lane) by one;
// after log2(SK_VL) rounds the two halves of the index are exchanged.
SK_INLINE void transpose_words(u32v *v) {
#if SK_VL == 16
#define SK_LOW_LANES 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23
#define SK_HIGH_LANES 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31
#elif SK_VL == 8
#define SK_LOW_LANES 0, 8, 1, 9, 2, 10, 3, 11
#define SK_HIGH_LANES 4, 12, 5, 13, 6, 14, 7, 15
#else
#define SK_LOW_LANES 0, 4, 1, 5
#define SK_HIGH_LANES 2, 6, 3, 7
#endif
  SK_UNROLL
  for (int width = 1; width < SK_VL; width *= 2) {
    u32v next[SK_VL];
    SK_UNROLL
    for (int i = 0; i < SK_VL / 2; i++) {
      next[2 * i] = __builtin_shufflevector(v[i], v[i + SK_VL / 2], SK_LOW_LANES);
      next[2 * i + 1] = __builtin_shufflevector(v[i], v[i + SK_VL / 2], SK_HIGH_LANES);
    }
    SK_UNROLL
    for (int i = 0; i < SK_VL; i++) v[i] = next[i];
  }
}

// The rows of a panel, at its first column, and how far from there the rows of the next panel are: those are asked for as these are read.
// SAFETY: asking for an address that is not there does nothing.
typedef struct {
  const uint8_t *at[SK_PANEL8];
  size_t next;
} sk_rows;

// SK_VL words of the rows of vector p, from byte `at` of each: lane r of out[i] is word i of row r.
SK_INLINE void words_at(const sk_rows *rows, const size_t p, const size_t at, u32v *out) {
  SK_UNROLL
  for (int r = 0; r < SK_VL; r++) {
    const uint8_t *place = rows->at[p * SK_VL + r] + at;
    __builtin_prefetch(place + rows->next, 0, 2);
    memcpy(&out[r], place, sizeof(u32v));
  }
  transpose_words(out);
}

// The F16 number in the lower half of each word.
SK_INLINE vec floats_of_low_halves(const u32v w) {
  const u16v h = __builtin_convertvector(w, u16v);
#if SK_HALF
  typedef _Float16 f16v __attribute__((ext_vector_type(SK_VL)));
  return __builtin_convertvector(__builtin_bit_cast(f16v, h), vec);
#else
  vec v;
  for (int l = 0; l < SK_VL; l++) v[l] = float_of_half(h[l]);
  return v;
#endif
}

// The F16 number at byte `at` of each row.
SK_INLINE vec halves_at(const sk_rows *rows, const size_t p, const size_t at) {
  u32v w;
  SK_UNROLL
  for (int r = 0; r < SK_VL; r++) w[r] = load16(rows->at[p * SK_VL + r] + at);
  return floats_of_low_halves(w);
}

// The entry of a table of 16 for each byte, which is below 16.
SK_INLINE u32v entries_of_bytes(const int8_t *table, const u32v places) {
#if SK_VL == 16
  const __m128i entries = _mm_loadu_si128((const __m128i *)(const void *)table);
  return (u32v)_mm512_shuffle_epi8(_mm512_broadcast_i32x4(entries), (__m512i)places);
#elif SK_VL == 8
  const __m128i entries = _mm_loadu_si128((const __m128i *)(const void *)table);
  return (u32v)_mm256_shuffle_epi8(_mm256_broadcastsi128_si256(entries), (__m256i)places);
#elif defined(__aarch64__)
  return (u32v)vqtbl1q_s8(vld1q_s8(table), (uint8x16_t)places);
#else
  u8x16 v = __builtin_bit_cast(u8x16, places);
  for (int l = 0; l < 16; l++) v[l] = (uint8_t)table[v[l] & 15];
  return __builtin_bit_cast(u32v, v);
#endif
}

// Products of bytes that touch no memory, as k_peak: SK_CHAINS sums in flight. Each sum is its own codes of the next round, so that no
// product is computed once for all.
static double k_peak8(size_t rounds, int8_t *sink) {
  i32v sum[SK_CHAINS];
  const u32v a = (u32v)(0x01010101u * (uint8_t)*sink);
  SK_UNROLL
  for (int i = 0; i < SK_CHAINS; i++) sum[i] = i;
  for (size_t round = 0; round < rounds; round++) {
    SK_UNROLL
    for (int i = 0; i < SK_CHAINS; i++) sum[i] = dot_low(sum[i], (u32v)sum[i], a);
  }
  SK_UNROLL
  for (int i = 1; i < SK_CHAINS; i++) sum[0] += sum[i];
  *sink = (int8_t)sum[0][0];
  return 2.0 * 4 * SK_VL * SK_CHAINS * (double)rounds;
}
