// Panels of nibbles times a few rows of x, as coded_tiles.h says of bytes. Part of body.h.

// How nibbles lie. A step of columns is loaded so that lane l of a vector of words holds all codes of columns 16 j + l.
enum {
  SK_NIBBLES_PAIRS, // column 2j is the low nibble of byte j: 32 bytes are 64 columns
  SK_NIBBLES_NVFP4, // bytes of eight, the low nibbles first: 32 bytes after four scales are 64 columns
  SK_NIBBLES_32,    // bytes of sixteen, the low nibbles first: 16 bytes are 32 columns; after two bytes of 18
  SK_NIBBLES_MXFP4, // the same, after one byte of 17
  SK_NIBBLES_Q4_1,  // the same, after four bytes of 20
  SK_NIBBLES_XS,    // the same, 64 bytes are 128 columns; two times 64 after 8 bytes of 136
  SK_NIBBLES_K,     // bytes of 32, the low nibbles first: 64 bytes are 128 columns; two times 64 after 16 bytes of 144
};

// The columns of a step.
SK_INLINE size_t nibble_columns(const int kind) {
  return kind <= SK_NIBBLES_NVFP4 ? 64 : kind <= SK_NIBBLES_Q4_1 ? 32 : 128;
}

// The byte of a step's first column.
SK_INLINE size_t nibble_place(const int kind, const size_t i) {
  switch (kind) {
  case SK_NIBBLES_PAIRS: return i / 2;
  case SK_NIBBLES_NVFP4: return i / 64 * 36 + 4;
  case SK_NIBBLES_32: return i / 32 * 18 + 2;
  case SK_NIBBLES_MXFP4: return i / 32 * 17 + 1;
  case SK_NIBBLES_Q4_1: return i / 32 * 20 + 4;
  case SK_NIBBLES_XS: return i / 256 * 136 + 8 + i % 256 / 2;
  default: return i / 256 * 144 + 16 + i % 256 / 2;
  }
}

// The words of a step.
SK_INLINE u32x16 nibble_words(const int kind, const uint8_t *p) {
  typedef uint8_t u8x64 __attribute__((ext_vector_type(64)));
  if (kind == SK_NIBBLES_PAIRS || kind == SK_NIBBLES_NVFP4) {
    const u8x32 v = bytes_32(p);
    if (kind == SK_NIBBLES_PAIRS) {
      const u8x64 w = __builtin_shufflevector(
          v, v, 0, 8, 16, 24, 0, 8, 16, 24, 1, 9, 17, 25, 1, 9, 17, 25, 2, 10, 18, 26, 2, 10, 18, 26, 3, 11, 19, 27, 3, 11, 19,
          27, 4, 12, 20, 28, 4, 12, 20, 28, 5, 13, 21, 29, 5, 13, 21, 29, 6, 14, 22, 30, 6, 14, 22, 30, 7, 15, 23, 31, 7, 15, 23, 31);
      const u32x16 odd = {0, 4, 0, 4, 0, 4, 0, 4, 0, 4, 0, 4, 0, 4, 0, 4};
      return __builtin_bit_cast(u32x16, w) >> odd;
    }
    const u8x64 w = __builtin_shufflevector(
        v, v, 0, 8, 16, 24, 1, 9, 17, 25, 2, 10, 18, 26, 3, 11, 19, 27, 4, 12, 20, 28, 5, 13, 21, 29, 6, 14, 22, 30, 7, 15, 23, 31,
        0, 8, 16, 24, 1, 9, 17, 25, 2, 10, 18, 26, 3, 11, 19, 27, 4, 12, 20, 28, 5, 13, 21, 29, 6, 14, 22, 30, 7, 15, 23, 31);
    const u32x16 upper = {0, 0, 0, 0, 0, 0, 0, 0, 4, 4, 4, 4, 4, 4, 4, 4};
    return __builtin_bit_cast(u32x16, w) >> upper;
  }
  if (kind <= SK_NIBBLES_Q4_1) return __builtin_convertvector(bytes_16(p), u32x16);
  u8x64 v;
  memcpy(&v, p, sizeof v);
  return __builtin_bit_cast(
      u32x16, __builtin_shufflevector(v, v, 0, 16, 32, 48, 1, 17, 33, 49, 2, 18, 34, 50, 3, 19, 35, 51, 4, 20, 36, 52, 5, 21, 37,
                                      53, 6, 22, 38, 54, 7, 23, 39, 55, 8, 24, 40, 56, 9, 25, 41, 57, 10, 26, 42, 58, 11, 27, 43,
                                      59, 12, 28, 44, 60, 13, 29, 45, 61, 14, 30, 46, 62, 15, 31, 47, 63));
}

// The bit at which the codes of columns 16 j... begin.
SK_INLINE uint32_t nibble_bit(const int kind, const size_t j) {
  static const uint8_t of_k[8] = {0, 8, 4, 12, 16, 24, 20, 28};
  return kind == SK_NIBBLES_K ? of_k[j] : kind <= SK_NIBBLES_NVFP4 ? 8 * (uint32_t)j : 4 * (uint32_t)j;
}

// What the 16 codes stand for.
enum {
  SK_CODES_TABLE,  // the panel's table times the scale
  SK_CODES_SIGNED, // q - 8 times the scale
  SK_CODES_AFFINE, // q times the scale less the least number
  SK_CODES_ZEROED, // q less a zero point, times the scale
};

// The numbers of all 16 codes.
SK_INLINE f32x16 sixteen_numbers(const int codes, const f32x16 table, const float s, const float l) {
  const f32x16 q = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  switch (codes) {
  case SK_CODES_TABLE: return table * s;
  case SK_CODES_SIGNED: return (q - 8) * s;
  case SK_CODES_AFFINE: return affine(q, s, l);
  default: return (q - l) * s;
  }
}

// The numbers of 16 codes, which are the low nibbles of words. Where a register holds all numbers a code stands for, one instruction
// looks them up; else codes that are numbers are computed with.
SK_INLINE f32x16 nibble_numbers(const int codes, const f32x16 numbers, const u32x16 words, const float s, const float l) {
#if SK_VL == 16
  (void)codes, (void)s, (void)l;
  return __builtin_bit_cast(
      f32x16, _mm512_permutexvar_ps(__builtin_bit_cast(__m512i, words), __builtin_bit_cast(__m512, numbers)));
#else
  if (codes == SK_CODES_TABLE) {
    f32x16 out;
#if SK_VL == 8
    SK_UNROLL
    for (int half = 0; half < 2; half++) {
      __m256i places;
      memcpy(&places, (const uint32_t *)&words + 8 * half, sizeof places);
      __m256 low, high;
      memcpy(&low, &numbers, sizeof low);
      memcpy(&high, (const float *)&numbers + 8, sizeof high);
      const __m256 upper = _mm256_castsi256_ps(_mm256_slli_epi32(places, 28)); // bit 3 of the place where the sign is
      const __m256 v = _mm256_blendv_ps(_mm256_permutevar8x32_ps(low, places), _mm256_permutevar8x32_ps(high, places), upper);
      memcpy((float *)&out + 8 * half, &v, sizeof v);
    }
#else
    for (int lane = 0; lane < 16; lane++) out[lane] = numbers[words[lane] & 15];
#endif
    return out;
  }
  typedef int32_t i32x16 __attribute__((ext_vector_type(16)));
  const f32x16 q = __builtin_convertvector(__builtin_bit_cast(i32x16, words & 15), f32x16);
  return codes == SK_CODES_SIGNED ? (q - 8) * s : codes == SK_CODES_AFFINE ? affine(q, s, l) : (q - l) * s;
#endif
}

// The first `count` columns of a step: all of them where `isWhole`. Lane l of words[r] is row r's; what is beyond the width is zero in x.
SK_INLINE void nibble_step(const sk_panel *panel, const int first, const size_t i, const u32x16 *words, const float *x,
                           const size_t ldx, const int R, const int M, f32x16 *sum, const int kind, const int codes,
                           const size_t span, const int isWhole, const size_t count) {
  f32x16 table = 0, numbers[SK_PANEL_ROWS];
  if (codes == SK_CODES_TABLE) memcpy(&table, panel->table, sizeof table);
  SK_UNROLL
  for (size_t j = 0; j < nibble_columns(kind); j += 16) {
    if (!isWhole && j >= count) break;
    SK_UNROLL
    for (int r = 0; r < R; r++) {
      const size_t place = (i + j) / 16 & panel->places;
      const float s = panel->scale[first + r][place], l = panel->least[first + r][place];
      if (j % span == 0) numbers[r] = sixteen_numbers(codes, table, s, l);
      f32x16 w = nibble_numbers(codes, numbers[r], words[r] >> nibble_bit(kind, j / 16), s, l);
      if (!isWhole && j + 16 > count)
        for (size_t lane = count - j; lane < 16; lane++) w[lane] = 0;
      SK_UNROLL
      for (int t = 0; t < M; t++) {
        f32x16 xv;
        memcpy(&xv, x + (size_t)t * ldx + j, sizeof xv);
        sum[r * M + t] = __builtin_elementwise_fma(xv, w, sum[r * M + t]);
      }
    }
  }
}

// As SK_CODED_TILE's. `kind`, `codes` and `span` (the columns that a scale holds for: 16, 32 or a step) are constants where it is
// inlined. Only pairs may end within a step: their last codes go through `last`, with zeros behind, those of x through `at`.
SK_INLINE void nibble_tile(const sk_panel *panel, const int first, const float *x, size_t ldx, const size_t width, const int R,
                           const int M, float *out, const int kind, const int codes, const size_t span) {
  const size_t columns = nibble_columns(kind);
  f32x16 sum[16];
  u32x16 words[SK_PANEL_ROWS];
  SK_UNROLL
  for (int i = 0; i < 16; i++) sum[i] = 0;
  // Blocks of 256 columns are two steps.
  const size_t step_columns = columns > 64 ? 256 : columns;
  const size_t step_bytes = nibble_place(kind, step_columns) - nibble_place(kind, 0);
  const uint8_t *soon = panel->soon + (size_t)first * (width * step_bytes / step_columns);
  size_t i = 0;
  for (; i + columns <= width; i += columns) {
    SK_UNROLL
    for (int r = 0; r < R; r++) words[r] = nibble_words(kind, panel->codes[first + r] + nibble_place(kind, i));
    soon = read_soon(soon, (size_t)R * columns * step_bytes / step_columns, panel->near);
    nibble_step(panel, first, i, words, x + i, ldx, R, M, sum, kind, codes, span, 1, columns);
  }
  if (kind == SK_NIBBLES_PAIRS && i < width) {
    const size_t rest = width - i;
    float at[4 * 64] = {0};
    for (int r = 0; r < R; r++) {
      uint8_t last[32] = {0};
      memcpy(last, panel->codes[first + r] + i / 2, (rest + 1) / 2);
      words[r] = nibble_words(kind, last);
    }
    for (int t = 0; t < M; t++) memcpy(at + 64 * t, x + (size_t)t * ldx + i, rest * sizeof(float));
    nibble_step(panel, first, i, words, at, 64, R, M, sum, kind, codes, span, 0, rest);
  }
  add_up(sum, R * M, out);
}

#define SK_NIBBLE_TILE(form, kind, codes, span)                                                                      \
  SK_INLINE void form##_tile(const sk_panel *panel, const int first, const float *x, size_t ldx, size_t width,       \
                             const int R, const int M, float *out) {                                                 \
    nibble_tile(panel, first, x, ldx, width, R, M, out, kind, codes, span);                                          \
  }                                                                                                                  \
  SK_CODED_PANELS(form, SK_NIBBLE_ROWS)
#define SK_NIBBLE_SPANS(form, codes)                                                                                 \
  SK_NIBBLE_TILE(form, SK_NIBBLES_PAIRS, codes, 16)                                                                  \
  SK_NIBBLE_TILE(form##_32, SK_NIBBLES_PAIRS, codes, 32)                                                             \
  SK_NIBBLE_TILE(form##_64, SK_NIBBLES_PAIRS, codes, 64)
#if SK_VL == 16
SK_NIBBLE_SPANS(few_int4, SK_CODES_SIGNED)
SK_NIBBLE_SPANS(few_int4_zeroed, SK_CODES_ZEROED)
SK_NIBBLE_TILE(few_q4_1, SK_NIBBLES_Q4_1, SK_CODES_AFFINE, 32)
SK_NIBBLE_TILE(few_q4_k, SK_NIBBLES_K, SK_CODES_AFFINE, 32)
#endif
SK_NIBBLE_SPANS(few_e2m1, SK_CODES_TABLE)
SK_NIBBLE_TILE(few_nvfp4, SK_NIBBLES_NVFP4, SK_CODES_TABLE, 16)
SK_NIBBLE_TILE(few_q4_0, SK_NIBBLES_32, SK_CODES_SIGNED, 32)
SK_NIBBLE_TILE(few_iq4_nl, SK_NIBBLES_32, SK_CODES_TABLE, 32)
SK_NIBBLE_TILE(few_mxfp4, SK_NIBBLES_MXFP4, SK_CODES_TABLE, 32)
SK_NIBBLE_TILE(few_iq4_xs, SK_NIBBLES_XS, SK_CODES_TABLE, 32)
