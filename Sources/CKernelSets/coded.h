// Products of a few rows of activations with a weight as it is stored: sk_coded.h. Part of body.h.
//
// Some rows of the weight and SK_BLOCK of their columns are a panel. The scales of its codes become floats first, and codes that are
// neither bytes nor nibbles become bytes (4 KiB, in the first-level cache). coded_tiles.h and coded_nibbles.h multiply it.

// ---- what each kind of codes is ----

typedef void (*sk_unpack)(const uint8_t *src, size_t count, uint8_t *codes, float *s, float *l);
typedef void (*sk_few)(const sk_panel *panel, const float *x, size_t ldx, size_t width, float *out);

typedef struct {
  sk_few few[3][3];  // for one, two and four rows of x; of nibbles also for scales that hold for 32 and for 64 columns
  sk_unpack unpack;  // of GGUF's blocks; those whose codes are read in place take no codes apart
  uint16_t columns, bytes; // of a block; of other codes one column and its bits
  uint16_t reads;    // of codes that are read in place: 1, of nibbles 2
} sk_form;

#define SK_FEW(form) {form##_1, form##_2, form##_4}
#define SK_SPANS(form) {SK_FEW(form), SK_FEW(form##_32), SK_FEW(form##_64)}
// Nibbles that are numbers: looked up where a register holds sixteen of them, else as bytes, which vectors of eight are faster with.
#if SK_VL == 16
#define SK_READS_LINEAR 2
#define SK_INT4 SK_SPANS(few_int4)
#define SK_INT4_ZEROED SK_SPANS(few_int4_zeroed)
#define SK_Q4_1 SK_FEW(few_q4_1)
#define SK_Q4_K SK_FEW(few_q4_k)
#else
#define SK_READS_LINEAR 0
#define SK_INT4 {SK_FEW(few_scaled)}
#define SK_INT4_ZEROED {SK_FEW(few_zeroed)}
#define SK_Q4_1 SK_FEW(few_affine)
#define SK_Q4_K SK_FEW(few_affine)
#endif
static const sk_form sk_forms[SK_CODED_COUNT] = {
    [SK_CODED_F32] = {{SK_FEW(few_f32)}, NULL, 1, 32, 1},
    [SK_CODED_F16] = {{SK_FEW(few_f16)}, NULL, 1, 16, 1},
    [SK_CODED_BF16] = {{SK_FEW(few_bf16)}, NULL, 1, 16, 1},
    [SK_CODED_E4M3] = {{SK_FEW(few_e4m3)}, NULL, 1, 8, 1},
    [SK_CODED_E5M2] = {{SK_FEW(few_e5m2)}, NULL, 1, 8, 1},
    [SK_CODED_INT8] = {{SK_FEW(few_scaled)}, NULL, 1, 8, 1},
    [SK_CODED_INT4] = {SK_INT4, NULL, 1, 4, SK_READS_LINEAR},
    [SK_CODED_E2M1] = {SK_SPANS(few_e2m1), NULL, 1, 4, 2},
    [SK_CODED_Q8_0] = {{SK_FEW(few_q8_0)}, unpack_q8_0, 32, 34, 1},
    [SK_CODED_Q8_1] = {{SK_FEW(few_scaled)}, unpack_q8_1, 32, 36, 0},
    [SK_CODED_Q8_K] = {{SK_FEW(few_scaled)}, unpack_q8_k, 256, 292, 0},
    [SK_CODED_Q4_0] = {{SK_FEW(few_q4_0)}, unpack_q4_0, 32, 18, 2},
    [SK_CODED_Q4_1] = {{SK_Q4_1}, unpack_q4_1, 32, 20, SK_READS_LINEAR},
    [SK_CODED_Q5_0] = {{SK_FEW(few_scaled)}, unpack_q5_0, 32, 22, 0},
    [SK_CODED_Q5_1] = {{SK_FEW(few_affine)}, unpack_q5_1, 32, 24, 0},
    [SK_CODED_Q1_0] = {{SK_FEW(few_scaled)}, unpack_q1_0, 128, 18, 0},
    [SK_CODED_Q2_0] = {{SK_FEW(few_scaled)}, unpack_q2_0, 64, 18, 0},
    [SK_CODED_Q2_K] = {{SK_FEW(few_affine)}, unpack_q2_k, 256, 84, 0},
    [SK_CODED_Q3_K] = {{SK_FEW(few_scaled)}, unpack_q3_k, 256, 110, 0},
    [SK_CODED_Q4_K] = {{SK_Q4_K}, unpack_q4_k, 256, 144, SK_READS_LINEAR},
    [SK_CODED_Q5_K] = {{SK_FEW(few_affine)}, unpack_q5_k, 256, 176, 0},
    [SK_CODED_Q6_K] = {{SK_FEW(few_scaled)}, unpack_q6_k, 256, 210, 0},
    [SK_CODED_IQ4_NL] = {{SK_FEW(few_iq4_nl)}, unpack_iq4_nl, 32, 18, 2},
    [SK_CODED_IQ4_XS] = {{SK_FEW(few_iq4_xs)}, unpack_iq4_xs, 256, 136, 2},
    [SK_CODED_TQ1_0] = {{SK_FEW(few_scaled)}, unpack_tq1_0, 256, 54, 0},
    [SK_CODED_TQ2_0] = {{SK_FEW(few_scaled)}, unpack_tq2_0, 256, 66, 0},
    [SK_CODED_MXFP4] = {{SK_FEW(few_mxfp4)}, unpack_mxfp4, 32, 17, 2},
    [SK_CODED_NVFP4] = {{SK_FEW(few_nvfp4)}, unpack_nvfp4, 64, 36, 2},
};
static const sk_few zeroed_int8[3] = SK_FEW(few_zeroed), zeroed_int4[3][3] = SK_INT4_ZEROED;

static const float table_e2m1[16] = {0.0f,  0.5f,  1.0f,  1.5f,  2.0f,  3.0f,  4.0f,  6.0f,
                                     -0.0f, -0.5f, -1.0f, -1.5f, -2.0f, -3.0f, -4.0f, -6.0f};
static const float table_int4[16] = {-8, -7, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7};
static const float table_iq4[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};

SK_INLINE const float *table_of_code(const int code) {
  switch (code) {
  case SK_CODED_E2M1: return table_e2m1;
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
  if (start + width <= w->scale_columns) { // one group, whose scale is read for all steps: `places` is 0
    if (w->scale == SK_SCALED_F32)
      *scale = float_of(load32(w->scales + 4 * base));
    else
      scales_of(w, base, 1, scale);
    if (w->zeros) *least = w->code == SK_CODED_INT8 ? (float)(int8_t)w->zeros[base] : (float)w->zeros[base];
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

// Column 2j is the low nibble of byte j; both become the bytes of a word, less `zero`.
SK_INLINE void unpack_pairs(const uint8_t *src, uint8_t *codes, size_t n, const uint8_t zero) {
  typedef uint16_t u16x32 __attribute__((ext_vector_type(32)));
  typedef uint8_t u8x64 __attribute__((ext_vector_type(64)));
  size_t i = 0;
  for (; i + 64 <= n; i += 64) {
    const u16x32 b = __builtin_convertvector(bytes_32(src + i / 2), u16x32), both = (b | b << 4) & 0x0f0f;
    const u8x64 v = __builtin_bit_cast(u8x64, both) - zero;
    memcpy(codes + i, &v, sizeof v);
  }
  for (; i < n; i++) codes[i] = (uint8_t)((src[i / 2] >> i % 2 * 4 & 15) - zero);
}

static void prepare(const sk_coded *w, const sk_form *form, size_t row, int place, size_t start, size_t width,
                    sk_panel *panel) {
  const uint8_t *codes = w->codes + row * w->row_bytes;
  float *scale = panel->scale[place], *least = panel->least[place];
  panel->codes[place] = panel->bytes[place];
  if (form->unpack) {
    const uint8_t *blocks = codes + start / form->columns * form->bytes;
    if (form->reads) panel->codes[place] = blocks;
    form->unpack(blocks, width / form->columns, form->reads ? NULL : panel->bytes[place], scale, least);
    return;
  }
  if (form->reads)
    panel->codes[place] = codes + start * form->bytes / 8;
  else
    unpack_pairs(codes + start / 2, panel->bytes[place], width, w->zeros ? 0 : 8);
  if (w->scale != SK_SCALED_NOT) panel_scales(w, row, start, width, scale, least);
}

// The codes that are needed soon while columns from `start` on of the rows from row `row` on are multiplied: a share of those `distance` rows
// on. Behind the last row other codes lie, the next weight's or the next part of this one, or nothing.
SK_INLINE const uint8_t *soon_of(const sk_coded *w, const sk_form *form, const size_t row, const size_t most, const size_t distance,
                                 const size_t start) {
  const size_t before = form->unpack ? start / SK_BLOCK * (SK_BLOCK / form->columns * form->bytes) : start * form->bytes / 8;
  return w->codes + (row + distance) * w->row_bytes + most * before;
}

// As read_soon, of any number of bytes. Codes that are taken apart first, a block of columns of one row after another, are asked for too
// where rows have several blocks: what the processor reads ahead by itself is the rest of a row then, which is not next.
SK_INLINE const uint8_t *read_soon_of(const uint8_t *p, const size_t bytes) {
  for (size_t i = 0; i < bytes; i += 64) __builtin_prefetch(p + i, 0, 2);
  return p + bytes;
}

static void k_multiply_coded(const sk_coded *w, size_t row, size_t n, size_t k, const float *x, size_t ldx, size_t m,
                             float *c, size_t ldc) {
#if SK_VL >= 8
  if (m == 1 && multiply_one(w, row, n, k, x, c)) return;
#endif
  const sk_form *form = &sk_forms[w->code];
  int span = 0;
  if (form->few[2][0]) span = w->scale_columns >= k || w->scale_columns % 64 == 0 ? 2 : w->scale_columns % 32 == 0;
  const sk_few *few = !w->zeros ? form->few[span] : w->code == SK_CODED_INT8 ? zeroed_int8 : zeroed_int4[span];
  const float *table = table_of_code(w->code);
  // Whole panels, of at least SK_PANEL_AHEAD bytes.
  const size_t most = form->reads == 2 ? SK_NIBBLE_ROWS : SK_BYTE_ROWS, group = most * w->row_bytes;
  const size_t distance = (group < SK_PANEL_AHEAD ? 1 + SK_PANEL_AHEAD / group : 1) * most;
  sk_panel panel;
  // Blocks take longer than memory: their codes need not be nearer than the second level.
  panel.near = !form->unpack && distance * w->row_bytes + 4 * m * (k < SK_BLOCK ? k : SK_BLOCK) <= SK_PANEL_NEAR;
  if (table) memcpy(panel.table, table, sizeof panel.table);
  for (size_t j = 0; j < n; j += most) {
    const size_t rows = n - j < most ? n - j : most;
    for (size_t start = 0; start < k; start += SK_BLOCK) {
      const size_t width = k - start < SK_BLOCK ? k - start : SK_BLOCK;
      panel.places = form->unpack || start + width > w->scale_columns ? ~(size_t)0 : 0;
      const uint8_t *soon = soon_of(w, form, row + j, most, distance, start);
      panel.soon = form->reads ? soon : NULL;
      for (size_t r = 0; r < rows; r++) {
        if (!form->reads && k > SK_BLOCK) soon = read_soon_of(soon, width / form->columns * form->bytes);
        prepare(w, form, row + j + r, (int)r, start, width, &panel);
      }
      for (size_t r = rows; r < most; r++) { // rows that are not there are the first one again, and not stored
        panel.codes[r] = panel.codes[0];
        panel.scale[r][0] = panel.least[r][0] = 0;
      }
      for (size_t t = 0; t < m;) {
        const size_t count = m - t >= 4 ? 4 : m - t >= 2 ? 2 : 1;
        float out[4 * SK_PANEL_ROWS + 8];
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
