// Products of a few rows with a weight as it is stored: sk_coded.h. Part of body.h.
//
// Four rows of the weight and SK_BLOCK of their columns are a panel. First its codes are taken apart: where they are no bytes,
// into bytes (at most 4 KiB, in the first-level cache), and the scales into one float for each 16 columns, whatever the groups
// are. Then sixteen columns of a row at a time become numbers in a register and meet the same columns of the rows of x:
//   sum[r][t] = fma(x[t], number(code[r]), sum[r][t]), lane l for column 16 i + l.
// Four rows of w for one of x keep four sums in flight; for more rows of x there are as many sums as registers allow (SK_FEW).
// The sums are added up as in a tile of `sk_gemm_f32`, so that the bits are the same.

enum { SK_PANEL_ROWS = 8, SK_PANEL_STEPS = SK_BLOCK / 16, SK_PANEL_AHEAD = 6144, SK_PANEL_NEAR = 20480 };

// Rows of w whose sums are in flight together, for one, two and four rows of x: as many as hide how long a sum takes, and registers
// allow. One row of x meets all rows of a panel: four, or eight of nibbles where there are registers, so that x is loaded half as often.
#if SK_VL == 16
enum { SK_FEW_2 = 4, SK_FEW_4 = 4, SK_BYTE_ROWS = 4, SK_NIBBLE_ROWS = 8 };
#else
enum { SK_FEW_2 = 2, SK_FEW_4 = 1, SK_BYTE_ROWS = 4, SK_NIBBLE_ROWS = 4 };
#endif

typedef struct {
  const uint8_t *codes[SK_PANEL_ROWS]; // of the panel's first column
  const uint8_t *soon;                 // bytes that are needed soon, as many as the panel has; NULL where they are read in order
  int near;                            // whether those are few enough for the first-level cache
  size_t places; // of scales, less one: all ones, or 0 where one scale holds for all columns
  float scale[SK_PANEL_ROWS][SK_PANEL_STEPS + 16]; // 16 more: stores are as wide as a vector
  float least[SK_PANEL_ROWS][SK_PANEL_STEPS + 16]; // what is taken off: a least number, or a zero point
  float table[16];                            // of codes that are places in a table
  uint8_t bytes[SK_PANEL_ROWS][SK_BLOCK] __attribute__((aligned(64)));
} sk_panel;

// ---- sixteen codes to numbers, each with the roundings of its decoder ----

SK_INLINE f32x16 floats_of_bytes(const uint8_t *p) {
  i8x16 v;
  memcpy(&v, p, sizeof v);
  return __builtin_convertvector(v, f32x16);
}

SK_INLINE f32x16 floats_of_halves(const u16x16 h) {
#if SK_HALF
  typedef _Float16 f16x16 __attribute__((ext_vector_type(16)));
  return __builtin_convertvector(__builtin_bit_cast(f16x16, h), f32x16);
#else
  f32x16 v;
  for (int l = 0; l < 16; l++) v[l] = float_of_half(h[l]);
  return v;
#endif
}

SK_INLINE f32x16 number_f32(const uint8_t *p) {
  f32x16 v;
  memcpy(&v, p, sizeof v);
  return v;
}

SK_INLINE f32x16 number_f16(const uint8_t *p) {
  u16x16 v;
  memcpy(&v, p, sizeof v);
  return floats_of_halves(v);
}

SK_INLINE f32x16 number_bf16(const uint8_t *p) {
  u16x16 v;
  memcpy(&v, p, sizeof v);
  return __builtin_bit_cast(f32x16, __builtin_convertvector(v, u32x16) << 16);
}

// As k_decode_e4m3 and k_decode_e5m2.
SK_INLINE f32x16 number_e4m3(const uint8_t *p, const float s) {
  i8x16 v;
  memcpy(&v, p, sizeof v);
  const u16x16 h = __builtin_bit_cast(u16x16, __builtin_convertvector(v, i16x16) << 7) & 0xbfff;
  return floats_of_halves(h) * 256.0f * s;
}

SK_INLINE f32x16 number_e5m2(const uint8_t *p, const float s) {
  i8x16 v;
  memcpy(&v, p, sizeof v);
  return floats_of_halves(__builtin_bit_cast(u16x16, __builtin_convertvector(v, i16x16) << 8)) * s;
}

// The entries of a table of 16 at the places that the low nibbles of 16 bytes name.
SK_INLINE f32x16 entries(const float *table, const uint8_t *p) {
#if SK_VL == 16
  const __m512i places = _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(const void *)p));
  return __builtin_bit_cast(f32x16, _mm512_permutexvar_ps(places, _mm512_loadu_ps(table)));
#elif SK_VL == 8
  const __m256 low = _mm256_loadu_ps(table), high = _mm256_loadu_ps(table + 8);
  f32x16 out;
  SK_UNROLL
  for (int half = 0; half < 2; half++) {
    const __m256i places = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)(p + 8 * half)));
    const __m256 upper = _mm256_castsi256_ps(_mm256_slli_epi32(places, 28)); // bit 3 of the place where the sign is
    const __m256 v = _mm256_blendv_ps(_mm256_permutevar8x32_ps(low, places), _mm256_permutevar8x32_ps(high, places), upper);
    memcpy((float *)&out + 8 * half, &v, sizeof v);
  }
  return out;
#else
  f32x16 out;
  for (int l = 0; l < 16; l++) out[l] = table[p[l] & 15];
  return out;
#endif
}

// ---- a panel times a few rows of x ----

// out[r * M + t] = the product of row `first + r` of the panel and row t of x, r < R, t < M, of `width` columns. A step is the columns
// whose codes fill a cache line, and asks for as many bytes that are needed soon.
// AT gives the byte of a column, NUMBER 16 numbers from the codes at p, the scale s and the least number l.
// SAFETY: the last width % 16 codes go through `codes`, those of x through `at`: nothing behind a row is read. Numbers beyond the
// width count as zeros. Asking for an address that is not there does nothing.
// Asks for `bytes` that are needed soon, line by line; gives where they end. In the order of addresses, so that the second-level cache
// sees a stream and reads on by itself: the few misses that the first level may have open are not enough for the memory's rate. What is
// `near` is wanted in the first level, which has room for it until it is multiplied.
// SAFETY: asking for an address that is not there does nothing.
SK_INLINE const uint8_t *read_soon(const uint8_t *p, const size_t bytes, const int near) {
  if (near) {
    SK_UNROLL
    for (size_t i = 0; i < bytes; i += 64) __builtin_prefetch(p + i, 0, 3);
  } else {
    SK_UNROLL
    for (size_t i = 0; i < bytes; i += 64) __builtin_prefetch(p + i, 0, 2);
  }
  return p + bytes;
}

#define SK_CODED_STEP(AT, NUMBER, I, J)                                                                        \
  SK_UNROLL                                                                                                          \
  for (int r = 0; r < R; r++) {                                                                                      \
    const uint8_t *p = panel->codes[first + r] + AT(I + J);                                                          \
    const float s = panel->scale[first + r][(I + J) / 16 & panel->places];                                          \
    const float l = panel->least[first + r][(I + J) / 16 & panel->places];                                          \
    (void)s, (void)l;                                                                                                \
    const f32x16 w = NUMBER;                                                                                         \
    SK_UNROLL                                                                                                        \
    for (int t = 0; t < M; t++) {                                                                                    \
      f32x16 xv;                                                                                                     \
      memcpy(&xv, x + (size_t)t * ldx + I + J, sizeof xv);                                                           \
      sum[r * M + t] = __builtin_elementwise_fma(xv, w, sum[r * M + t]);                                             \
    }                                                                                                                \
  }
#define SK_CODED_TILE(form, bits, AT, NUMBER)                                                                  \
  SK_INLINE void form##_tile(const sk_panel *panel, const int first, const float *x, size_t ldx, size_t width,       \
                             const int R, const int M, float *out) {                                                 \
    enum { columns = 64 * 8 / bits };                                                                                \
    f32x16 sum[16];                                                                                                  \
    SK_UNROLL                                                                                                        \
    for (int i = 0; i < 16; i++) sum[i] = 0;                                                                         \
    const uint8_t *soon = panel->soon ? panel->soon + (size_t)first * AT(width) : NULL;                              \
    size_t i = 0;                                                                                                    \
    for (; i + columns <= width; i += columns) {                                                                     \
      if (panel->soon) soon = read_soon(soon, (size_t)R * (AT(columns) - AT(0)), panel->near);                       \
      SK_UNROLL                                                                                                      \
      for (size_t j = 0; j < columns; j += 16) { SK_CODED_STEP(AT, NUMBER, i, j) }                             \
    }                                                                                                                \
    for (; i + 16 <= width; i += 16) { SK_CODED_STEP(AT, NUMBER, i, (size_t)0) }                               \
    if (i < width) {                                                                                                 \
      const size_t rest = width - i;                                                                                 \
      float at[4 * 16] = {0};                                                                                        \
      for (int t = 0; t < M; t++) memcpy(at + 16 * t, x + (size_t)t * ldx + i, rest * sizeof(float));                \
      SK_UNROLL /* a sum whose place is not constant would be in memory, in the loop above too */                    \
      for (int r = 0; r < R; r++) {                                                                                  \
        uint8_t codes[64] = {0};                                                                                     \
        const uint8_t *p = codes;                                                                                    \
        memcpy(codes, panel->codes[first + r] + AT(i), rest * bits / 8);                                             \
        const float s = panel->scale[first + r][i / 16 & panel->places];                                            \
        const float l = panel->least[first + r][i / 16 & panel->places];                                            \
        (void)s, (void)l;                                                                                            \
        f32x16 w = NUMBER;                                                                                           \
        for (size_t lane = rest; lane < 16; lane++) w[lane] = 0;                                                     \
        SK_UNROLL                                                                                                    \
        for (int t = 0; t < M; t++) {                                                                                \
          f32x16 xv;                                                                                                 \
          memcpy(&xv, at + 16 * t, sizeof xv);                                                                       \
          sum[r * M + t] = __builtin_elementwise_fma(xv, w, sum[r * M + t]);                                         \
        }                                                                                                            \
      }                                                                                                              \
    }                                                                                                                \
    add_up(sum, R * M, out);                                                                                         \
  }                                                                                                                  \
  SK_CODED_PANELS(form, SK_BYTE_ROWS)

SK_INLINE void add_up(const f32x16 *sum, const int count, float *out) {
  if (count > 8)
    reduce16(sum, out);
  else
    reduce8(sum, out);
}

// The rows of a panel against one, two and four rows of x. `out` has 8 floats more than the products: the tree writes 8 or 16.
#define SK_CODED_PANELS(form, rows)                                                                                  \
  static void form##_1(const sk_panel *panel, const float *x, size_t ldx, size_t width, float *out) {                \
    form##_tile(panel, 0, x, ldx, width, rows, 1, out);                                                              \
  }                                                                                                                  \
  static void form##_2(const sk_panel *panel, const float *x, size_t ldx, size_t width, float *out) {                \
    for (int r = 0; r < rows; r += SK_FEW_2) form##_tile(panel, r, x, ldx, width, SK_FEW_2, 2, out + 2 * r); \
  }                                                                                                                  \
  static void form##_4(const sk_panel *panel, const float *x, size_t ldx, size_t width, float *out) {                \
    for (int r = 0; r < rows; r += SK_FEW_4) form##_tile(panel, r, x, ldx, width, SK_FEW_4, 4, out + 4 * r); \
  }

SK_INLINE f32x16 affine(const f32x16 q, const float s, const float l) { return q * s - l; }

#define SK_AT_32(i) ((i) * 4)
#define SK_AT_16(i) ((i) * 2)
#define SK_AT_8(i) (i)
#define SK_AT_Q8_0(i) ((i) / 32 * 34 + 2 + (i) % 32)
SK_CODED_TILE(few_f32, 32, SK_AT_32, number_f32(p))
SK_CODED_TILE(few_f16, 16, SK_AT_16, number_f16(p))
SK_CODED_TILE(few_bf16, 16, SK_AT_16, number_bf16(p))
SK_CODED_TILE(few_q8_0, 8, SK_AT_Q8_0, floats_of_bytes(p) * s)
SK_CODED_TILE(few_e4m3, 8, SK_AT_8, number_e4m3(p, s))
SK_CODED_TILE(few_e5m2, 8, SK_AT_8, number_e5m2(p, s))
SK_CODED_TILE(few_scaled, 8, SK_AT_8, floats_of_bytes(p) * s)
SK_CODED_TILE(few_affine, 8, SK_AT_8, affine(floats_of_bytes(p), s, l))
SK_CODED_TILE(few_zeroed, 8, SK_AT_8, (floats_of_bytes(p) - l) * s)
