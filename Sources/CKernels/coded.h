// Products of a few rows with a weight as it is stored: sk_coded.h. Part of body.h.
//
// Four rows of the weight and SK_BLOCK of their columns are a panel. First its codes are taken apart: where they are no bytes,
// into bytes (at most 4 KiB, in the first-level cache), and the scales into one float for each 16 columns, whatever the groups
// are. Then sixteen columns of a row at a time become numbers in a register and meet the same columns of the rows of x:
//   sum[r][t] = fma(x[t], number(code[r]), sum[r][t]), lane l for column 16 i + l.
// Four rows of w for one of x keep four sums in flight; for more rows of x there are as many sums as registers allow (SK_FEW).
// The sums are added up as in a tile of `sk_gemm_f32`, so that the bits are the same.

enum { SK_PANEL_ROWS = 4, SK_PANEL_STEPS = SK_BLOCK / 16 };

// Rows of w whose sums are in flight together, for two and for four rows of x.
#if SK_VL == 16
#define SK_FEW_2 4
#define SK_FEW_4 4
#else
#define SK_FEW_2 2
#define SK_FEW_4 1
#endif

typedef struct {
  const uint8_t *codes[SK_PANEL_ROWS]; // of the panel's first column
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
SK_INLINE f32x16 number_e4m3(const uint8_t *p, float s) {
  i8x16 v;
  memcpy(&v, p, sizeof v);
  const u16x16 h = __builtin_bit_cast(u16x16, __builtin_convertvector(v, i16x16) << 7) & 0xbfff;
  return floats_of_halves(h) * 256.0f * s;
}

SK_INLINE f32x16 number_e5m2(const uint8_t *p, float s) {
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

// 4-bit codes from -8 on. A look-up is one instruction where a register holds the table, else arithmetic is cheaper.
SK_INLINE f32x16 number_int4(const float *table, const uint8_t *p) {
#if SK_VL == 16
  return entries(table, p);
#else
  (void)table;
  u8x16 v;
  memcpy(&v, p, sizeof v);
  return __builtin_convertvector(__builtin_bit_cast(i8x16, (u8x16)((v & 15) - 8)), f32x16);
#endif
}

// ---- a panel times a few rows of x ----

// out[r * M + t] = the product of row `first + r` of the panel and row t of x, r < R, t < M. NUMBER gives 16 numbers from the
// codes at p, the scale s and the least number l. SAFETY: the last width % 16 codes go through `codes`, those of x through `at`:
// nothing behind a row is read. Numbers beyond the width count as zeros.
#define SK_CODED_TILE(form, bits, NUMBER)                                                                            \
  SK_INLINE void form##_tile(const sk_panel *panel, const int first, const float *x, size_t ldx, size_t width,       \
                             const int R, const int M, float *out) {                                                 \
    f32x16 sum[16];                                                                                                  \
    SK_UNROLL                                                                                                        \
    for (int i = 0; i < 16; i++) sum[i] = 0;                                                                         \
    size_t i = 0;                                                                                                    \
    for (; i + 16 <= width; i += 16) {                                                                               \
      SK_UNROLL                                                                                                      \
      for (int r = 0; r < R; r++) {                                                                                  \
        const uint8_t *p = panel->codes[first + r] + i * bits / 8;                                                   \
        const float s = panel->scale[first + r][i / 16], l = panel->least[first + r][i / 16];                        \
        (void)s, (void)l;                                                                                            \
        const f32x16 w = NUMBER;                                                                                     \
        SK_UNROLL                                                                                                    \
        for (int t = 0; t < M; t++) {                                                                                \
          f32x16 xv;                                                                                                 \
          memcpy(&xv, x + (size_t)t * ldx + i, sizeof xv);                                                           \
          sum[r * M + t] = __builtin_elementwise_fma(xv, w, sum[r * M + t]);                                         \
        }                                                                                                            \
      }                                                                                                              \
    }                                                                                                                \
    if (i < width) {                                                                                                 \
      const size_t rest = width - i;                                                                                 \
      float at[4 * 16] = {0};                                                                                        \
      for (int t = 0; t < M; t++) memcpy(at + 16 * t, x + (size_t)t * ldx + i, rest * sizeof(float));                \
      for (int r = 0; r < R; r++) {                                                                                  \
        uint8_t codes[64] = {0};                                                                                     \
        const uint8_t *p = codes;                                                                                    \
        memcpy(codes, panel->codes[first + r] + i * bits / 8, rest * bits / 8);                                      \
        const float s = panel->scale[first + r][i / 16], l = panel->least[first + r][i / 16];                        \
        (void)s, (void)l;                                                                                            \
        f32x16 w = NUMBER;                                                                                           \
        for (size_t lane = rest; lane < 16; lane++) w[lane] = 0;                                                     \
        for (int t = 0; t < M; t++) {                                                                                \
          f32x16 xv;                                                                                                 \
          memcpy(&xv, at + 16 * t, sizeof xv);                                                                       \
          sum[r * M + t] = __builtin_elementwise_fma(xv, w, sum[r * M + t]);                                         \
        }                                                                                                            \
      }                                                                                                              \
    }                                                                                                                \
    if (R * M > 8)                                                                                                   \
      reduce16(sum, out);                                                                                            \
    else                                                                                                             \
      reduce8(sum, out);                                                                                             \
  }                                                                                                                  \
  static void form##_1(const sk_panel *panel, const float *x, size_t ldx, size_t width, float *out) {                \
    form##_tile(panel, 0, x, ldx, width, 4, 1, out);                                                                 \
  }                                                                                                                  \
  static void form##_2(const sk_panel *panel, const float *x, size_t ldx, size_t width, float *out) {                \
    for (int r = 0; r < 4; r += SK_FEW_2) form##_tile(panel, r, x, ldx, width, SK_FEW_2, 2, out + 2 * r);            \
  }                                                                                                                  \
  static void form##_4(const sk_panel *panel, const float *x, size_t ldx, size_t width, float *out) {                \
    for (int r = 0; r < 4; r += SK_FEW_4) form##_tile(panel, r, x, ldx, width, SK_FEW_4, 4, out + 4 * r);            \
  }

SK_CODED_TILE(few_f32, 32, number_f32(p))
SK_CODED_TILE(few_f16, 16, number_f16(p))
SK_CODED_TILE(few_bf16, 16, number_bf16(p))
SK_CODED_TILE(few_e4m3, 8, number_e4m3(p, s))
SK_CODED_TILE(few_e5m2, 8, number_e5m2(p, s))
SK_CODED_TILE(few_scaled, 8, floats_of_bytes(p) * s)
SK_CODED_TILE(few_affine, 8, floats_of_bytes(p) * s - l)
SK_CODED_TILE(few_zeroed, 8, (floats_of_bytes(p) - l) * s)
SK_CODED_TILE(few_table, 8, entries(panel->table, p) * s)
SK_CODED_TILE(few_int4, 8, number_int4(panel->table, p) * s)

// ---- what each kind of codes is ----

typedef void (*sk_unpack)(const uint8_t *src, size_t count, uint8_t *codes, float *s, float *l);
typedef void (*sk_few)(const sk_panel *panel, const float *x, size_t ldx, size_t width, float *out);

typedef struct {
  sk_few few[3];    // for one, two and four rows of x
  sk_unpack unpack; // of GGUF's blocks
  uint16_t columns, bytes; // of a block; of other codes one column and its bits
} sk_form;

#define SK_FEW(form) {form##_1, form##_2, form##_4}
static const sk_form sk_forms[SK_CODED_COUNT] = {
    [SK_CODED_F32] = {SK_FEW(few_f32), NULL, 1, 32},
    [SK_CODED_F16] = {SK_FEW(few_f16), NULL, 1, 16},
    [SK_CODED_BF16] = {SK_FEW(few_bf16), NULL, 1, 16},
    [SK_CODED_E4M3] = {SK_FEW(few_e4m3), NULL, 1, 8},
    [SK_CODED_E5M2] = {SK_FEW(few_e5m2), NULL, 1, 8},
    [SK_CODED_INT8] = {SK_FEW(few_scaled), NULL, 1, 8},
    [SK_CODED_INT4] = {SK_FEW(few_int4), NULL, 1, 4},
    [SK_CODED_E2M1] = {SK_FEW(few_table), NULL, 1, 4},
    [SK_CODED_Q8_0] = {SK_FEW(few_scaled), unpack_q8_0, 32, 34},
    [SK_CODED_Q8_1] = {SK_FEW(few_scaled), unpack_q8_1, 32, 36},
    [SK_CODED_Q8_K] = {SK_FEW(few_scaled), unpack_q8_k, 256, 292},
    [SK_CODED_Q4_0] = {SK_FEW(few_int4), unpack_q4_0, 32, 18},
    [SK_CODED_Q4_1] = {SK_FEW(few_affine), unpack_q4_1, 32, 20},
    [SK_CODED_Q5_0] = {SK_FEW(few_scaled), unpack_q5_0, 32, 22},
    [SK_CODED_Q5_1] = {SK_FEW(few_affine), unpack_q5_1, 32, 24},
    [SK_CODED_Q1_0] = {SK_FEW(few_scaled), unpack_q1_0, 128, 18},
    [SK_CODED_Q2_0] = {SK_FEW(few_scaled), unpack_q2_0, 64, 18},
    [SK_CODED_Q2_K] = {SK_FEW(few_affine), unpack_q2_k, 256, 84},
    [SK_CODED_Q3_K] = {SK_FEW(few_scaled), unpack_q3_k, 256, 110},
    [SK_CODED_Q4_K] = {SK_FEW(few_affine), unpack_q4_k, 256, 144},
    [SK_CODED_Q5_K] = {SK_FEW(few_affine), unpack_q5_k, 256, 176},
    [SK_CODED_Q6_K] = {SK_FEW(few_scaled), unpack_q6_k, 256, 210},
    [SK_CODED_IQ4_NL] = {SK_FEW(few_table), unpack_iq4_nl, 32, 18},
    [SK_CODED_IQ4_XS] = {SK_FEW(few_table), unpack_iq4_xs, 256, 136},
    [SK_CODED_TQ1_0] = {SK_FEW(few_scaled), unpack_tq1_0, 256, 54},
    [SK_CODED_TQ2_0] = {SK_FEW(few_scaled), unpack_tq2_0, 256, 66},
    [SK_CODED_MXFP4] = {SK_FEW(few_table), unpack_mxfp4, 32, 17},
    [SK_CODED_NVFP4] = {SK_FEW(few_table), unpack_nvfp4, 64, 36},
};
static const sk_few zeroed[3] = SK_FEW(few_zeroed);

static const float table_e2m1[16] = {0.0f,  0.5f,  1.0f,  1.5f,  2.0f,  3.0f,  4.0f,  6.0f,
                                     -0.0f, -0.5f, -1.0f, -1.5f, -2.0f, -3.0f, -4.0f, -6.0f};
static const float table_int4[16] = {-8, -7, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7};
static const float table_iq4[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};

SK_INLINE const float *table_of_code(const int code) {
  switch (code) {
  case SK_CODED_E2M1: return table_e2m1;
  case SK_CODED_INT4:
  case SK_CODED_Q4_0: return table_int4;
  case SK_CODED_IQ4_NL:
  case SK_CODED_IQ4_XS: return table_iq4;
  case SK_CODED_MXFP4:
  case SK_CODED_NVFP4: return doubled_e2m1;
  default: return NULL;
  }
}

// ---- scales and zero points beside the codes ----

SK_INLINE void decode_e8m0(const uint8_t *restrict src, float *restrict dst, size_t n) {
  for (size_t i = 0; i < n; i++) dst[i] = scale_of_e8m0(src[i]);
}

// `count` scales from place `first` on, at most SK_PANEL_STEPS.
static void scales_of(const sk_coded *w, size_t first, size_t count, float *out) {
  switch (w->scale) {
  case SK_SCALED_F32: memcpy(out, w->scales + 4 * first, 4 * count); break;
  case SK_SCALED_F16: k_decode_f16(w->scales + 2 * first, out, count); break;
  case SK_SCALED_BF16: k_decode_bf16(w->scales + 2 * first, out, count); break;
  case SK_SCALED_E8M0:
    decode_e8m0(w->scales + first, out, count);
    break;
  default: {
    const float global = w->global;
    k_decode_e4m3(w->scales + first, 1, out, count);
    if (w->scale == SK_SCALED_E4M3_TIMES)
      for (size_t i = 0; i < count; i++) out[i] *= global;
    else
      for (size_t i = 0; i < count; i++) out[i] /= global;
  }
  }
}

// The same entry for `steps` times 16 columns; up to 16 entries more are written, which the next ones cover.
SK_INLINE void fill(float *out, const float value, const size_t steps) {
  for (size_t i = 0; i < steps; i += 16) put_floats(out + i, value);
}

// An entry for each 16 columns from one for each group.
static void spread(const float *groups, size_t count, size_t start, size_t columns, size_t steps, float *out) {
  if (columns == 16) {
    memcpy(out, groups, count * sizeof(float));
    return;
  }
  if (columns == 32 && start % 32 == 0) {
    for (size_t g = 0; g < count; g += 8) { // up to 16 entries more, as in `fill`
      f32x8 v;
      memcpy(&v, groups + g, sizeof v);
      put_floats(out + 2 * g, __builtin_shufflevector(v, v, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7));
    }
    return;
  }
  const size_t into = start % columns; // columns of the first group that are left of the panel
  size_t i = 0;
  for (size_t g = 0; g < count; g++) {
    const size_t ends = ((g + 1) * columns - into) / 16, end = ends < steps ? ends : steps;
    fill(out + i, groups[g], end - i);
    i = end;
  }
}

static void panel_scales(const sk_coded *w, size_t row, size_t start, size_t width, float *scale, float *least) {
  const size_t base = w->scale_rows == 1 ? row * w->scales_a_row : row / w->scale_rows * w->scales_a_row;
  const size_t steps = (width + 15) / 16;
  float groups[SK_PANEL_STEPS + 8];
  if (start + width <= w->scale_columns) { // one group
    scales_of(w, base, 1, groups);
    fill(scale, groups[0], steps);
    if (!w->zeros) return;
    const float zero = w->code == SK_CODED_INT8 ? (float)(int8_t)w->zeros[base] : (float)w->zeros[base];
    fill(least, zero, steps);
    return;
  }
  const size_t first = start / w->scale_columns, count = (start + width - 1) / w->scale_columns + 1 - first;
  scales_of(w, base + first, count, groups);
  spread(groups, count, start, w->scale_columns, steps, scale);
  if (!w->zeros) return;
  const uint8_t *zeros = w->zeros + base + first;
  for (size_t g = 0; g < count; g++) groups[g] = w->code == SK_CODED_INT8 ? (float)(int8_t)zeros[g] : (float)zeros[g];
  spread(groups, count, start, w->scale_columns, steps, least);
}

// Column 2j is the low nibble of byte j; both become the bytes of a word.
SK_INLINE void unpack_pairs(const uint8_t *src, uint8_t *codes, size_t n) {
  typedef uint16_t u16x32 __attribute__((ext_vector_type(32)));
  size_t i = 0;
  for (; i + 64 <= n; i += 64) {
    const u16x32 b = __builtin_convertvector(bytes_32(src + i / 2), u16x32), both = (b | b << 4) & 0x0f0f;
    memcpy(codes + i, &both, sizeof both);
  }
  for (; i + 2 <= n; i += 2) {
    codes[i] = src[i / 2] & 15;
    codes[i + 1] = src[i / 2] >> 4;
  }
}

static void prepare(const sk_coded *w, const sk_form *form, size_t row, int place, size_t start, size_t width,
                    sk_panel *panel) {
  const uint8_t *codes = w->codes + row * w->row_bytes;
  float *scale = panel->scale[place], *least = panel->least[place];
  panel->codes[place] = panel->bytes[place];
  if (form->unpack) {
    form->unpack(codes + start / form->columns * form->bytes, width / form->columns, panel->bytes[place], scale, least);
    return;
  }
  if (form->bytes == 4) {
    unpack_pairs(codes + start / 2, panel->bytes[place], width);
  } else {
    panel->codes[place] = codes + start * form->bytes / 8;
    // Four rows read in turns look like no stream to the core; the same place of the rows after these is asked for now. Codes that
    // are unpacked are read row by row, and need no such help. SAFETY: asking for an address that is not there does nothing.
    const uint8_t *ahead = panel->codes[place] + SK_PANEL_ROWS * w->row_bytes;
    for (size_t i = 0; i < width * form->bytes / 8; i += 64) __builtin_prefetch(ahead + i, 0, 2);
  }
  if (w->scale != SK_SCALED_NOT) panel_scales(w, row, start, width, scale, least);
}

static void k_multiply_coded(const sk_coded *w, size_t row, size_t n, size_t k, const float *x, size_t ldx, size_t m,
                             float *c, size_t ldc) {
  const sk_form *form = &sk_forms[w->code];
  const sk_few *few = w->zeros ? zeroed : form->few;
  const float *table = table_of_code(w->code);
  sk_panel panel;
  if (table) memcpy(panel.table, table, sizeof panel.table);
  for (size_t j = 0; j < n; j += SK_PANEL_ROWS) {
    const size_t rows = n - j < SK_PANEL_ROWS ? n - j : SK_PANEL_ROWS;
    for (size_t start = 0; start < k; start += SK_BLOCK) {
      const size_t width = k - start < SK_BLOCK ? k - start : SK_BLOCK;
      for (size_t r = 0; r < SK_PANEL_ROWS; r++) // rows that are not there are the last one again, and not stored
        prepare(w, form, row + j + (r < rows ? r : rows - 1), (int)r, start, width, &panel);
      for (size_t t = 0; t < m;) {
        const size_t count = m - t >= 4 ? 4 : m - t >= 2 ? 2 : 1;
        float out[24]; // the sums of a tile come eight or sixteen at a time
        few[count / 2](&panel, x + t * ldx + start, ldx, width, out);
        for (size_t r = 0; r < rows; r++)
          for (size_t i = 0; i < count; i++) {
            float *place = c + (t + i) * ldc + j + r;
            *place = start > 0 ? *place + out[r * count + i] : out[r * count + i];
          }
        t += count;
      }
    }
  }
}
