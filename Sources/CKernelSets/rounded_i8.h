// Products of rounded activations with panels of a weight (panel_i8.h), and the rounding of activations to blocks: sk_integers.h. Part
// of body.h.
//
// SK_PANEL8 rows of 256 columns are packed, then meet all tokens, SK_TOKENS8 at a time: SK_TOKENS8 x SK_SIDE sums of a group of columns
// in registers, and as many of a block or in floats. Sums of floats wait in c, the lanes of a vector being neighbours there.

// ---- activations ----

SK_INLINE int round_block(const float *restrict x, const float factor, const size_t n, int8_t *restrict codes,
                          int16_t *restrict sums) {
  for (size_t i = 0; i < n; i++) // below 2^22 what is added leaves the nearest whole number in the lowest bits
    codes[i] = (int8_t)(bits_of(x[i] * factor + 12582912.0f) - 0x4b400000);
  for (size_t g = 0; g < n / 16; g++) {
    i8x16 v;
    memcpy(&v, codes + 16 * g, sizeof v);
    sums[g] = __builtin_reduce_add(__builtin_convertvector(v, i16x16));
  }
  return 1;
}

static int k_round_blocks_32(const float *x, size_t n, int8_t *codes, int16_t *sums, float *scales) {
  for (size_t b = 0; b < n / 32; b++, x += 32, codes += 32, sums += 2) {
    const uint32_t peak = k_peak_f32(x, 32);
    if (peak >= 0x7f800000) return 0;
    const float s = float_of(peak) / 127.0f, factor = 1.0f / s, kept = float_of_half(half_of_float(s));
    if (bits_of(kept) >= 0x7f800000) return 0;
    scales[b] = kept;
    round_block(x, bits_of(factor) < 0x7f800000 ? factor : 0, 32, codes, sums);
  }
  return 1;
}

static int k_round_blocks_256(const float *x, size_t n, int8_t *codes, int16_t *sums, float *scales) {
  for (size_t b = 0; b < n / 256; b++, x += 256, codes += 256, sums += 16) {
    const uint32_t peak = k_peak_f32(x, 256);
    if (peak >= 0x7f800000) return 0;
    float factor = 0;
    scales[b] = 0;
    if (peak > 0) {
      size_t first = 0;
      while ((bits_of(x[first]) & 0x7fffffff) != peak) first++;
      factor = -127.0f / x[first];
      if ((bits_of(factor) & 0x7fffffff) >= 0x7f800000) return 0;
      scales[b] = 1.0f / factor;
    }
    round_block(x, factor, 256, codes, sums);
  }
  return 1;
}

static float k_round_row(const float *x, size_t n, float scale, int8_t *codes, int32_t *sum) {
  *sum = 0;
  const uint32_t peak = k_peak_f32(x, n);
  const float own = scale != 0 ? scale : float_of(peak) / 127.0f;
  memset(codes + n, 0, (64 - n % 64) % 64);
  if (peak >= 0x7f800000 || (own != 0 && !(own >= 0x1p-126f && bits_of(own) < 0x7f800000))) return __builtin_nanf("");
  if (own == 0) {
    memset(codes, 0, n);
    return 0;
  }
  k_encode_int8(x, own, codes, n);
  int32_t total = 0;
  for (size_t i = 0; i < n; i++) total += codes[i];
  *sum = total;
  return own;
}

// ---- tiles ----

// Sums of `steps` words of codes with mr tokens. `codes` is the first token's; `words` are the panel's.
SK_INLINE void add_steps(i32v sum[][SK_SIDE], const u32v words[][SK_SIDE], const int8_t *codes, const size_t stride,
                         const size_t steps, const int mr, const int isByte) {
  for (size_t s = 0; s < steps; s++) {
    SK_UNROLL
    for (int m = 0; m < mr; m++) {
      const u32v a = (u32v)load32((const uint8_t *)codes + m * stride + 4 * s);
      SK_UNROLL
      for (int p = 0; p < SK_SIDE; p++)
        sum[m][p] = isByte ? dot_byte(sum[m][p], words[s][p], a) : dot_low(sum[m][p], words[s][p], a);
    }
  }
}

typedef struct {
  const sk_panel8 *panel;
  const sk_rounded *a;
  const float *scales; // of the panel's rows, signed bytes
  size_t token, start, width;
  int isFirst, isLast;
} sk_turn;

SK_INLINE vec kept(const sk_turn *t, const float *c) {
  vec v = 0;
  if (!t->isFirst) memcpy(&v, c, sizeof v);
  return v;
}

// Blocks of 256 columns: products of groups of `unit` columns times the groups' scales, and sums of codes times `pairs`, which join the
// products or, of types with least numbers, have a factor of their own.
SK_INLINE void tile_256(const sk_turn *t, float *c, const size_t ldc, const int mr, const size_t unit, const int isByte,
                        const int hasLeast) {
  const sk_panel8 *panel = t->panel;
  const sk_rounded *a = t->a;
  const int8_t *codes = a->codes + t->token * a->code_stride + t->start;
  const int16_t *sums = a->sums + t->token * a->sum_stride + t->start / 16;
  const float *scales = a->scales + t->token * a->scale_stride + t->start / 256;
  i32v whole[SK_TOKENS8][SK_SIDE] = {0};
  for (size_t u = 0; u < 256 / unit; u++) {
    i32v sum[SK_TOKENS8][SK_SIDE] = {0};
    add_steps(sum, panel->codes + u * unit / 4, codes + u * unit, a->code_stride, unit / 4, mr, isByte);
    SK_UNROLL
    for (int m = 0; m < mr; m++) {
      SK_EACH_SIDE(p) whole[m][p] += sum[m][p] * panel->scale[u][p];
    }
  }
#define SK_ADD_PAIRS(target)                                                                                         \
  for (size_t q = 0; q < 8; q++) {                                                                                   \
    SK_UNROLL                                                                                                        \
    for (int m = 0; m < mr; m++) {                                                                                   \
      const u32v b = (u32v)load32((const uint8_t *)(sums + m * a->sum_stride + 2 * q));                               \
      SK_EACH_SIDE(p) target[m][p] = dot_pairs(target[m][p], panel->pairs[q][p], b);                                 \
    }                                                                                                                \
  }
  if (!hasLeast) { SK_ADD_PAIRS(whole) }
  vec total[SK_TOKENS8][SK_SIDE];
  SK_UNROLL
  for (int m = 0; m < mr; m++) {
    SK_EACH_SIDE(p) {
      const vec v = __builtin_convertvector(whole[m][p], vec), d = panel->d[0][p] * scales[m * a->scale_stride];
      total[m][p] = __builtin_elementwise_fma(v, d, kept(t, c + m * ldc + p * SK_VL));
    }
  }
  if (hasLeast) {
    i32v least[SK_TOKENS8][SK_SIDE] = {0};
    SK_ADD_PAIRS(least)
    SK_UNROLL
    for (int m = 0; m < mr; m++) {
      SK_EACH_SIDE(p) {
        const vec v = __builtin_convertvector(least[m][p], vec), l = panel->l[0][p] * scales[m * a->scale_stride];
        total[m][p] = __builtin_elementwise_fma(v, -l, total[m][p]);
      }
    }
  }
  SK_UNROLL
  for (int m = 0; m < mr; m++) {
    SK_EACH_SIDE(p) memcpy(c + m * ldc + p * SK_VL, &total[m][p], sizeof(vec));
  }
}

// Blocks of 32 columns.
SK_INLINE void tile_32(const sk_turn *t, float *c, const size_t ldc, const int mr, const int isByte, const int hasLeast) {
  const sk_panel8 *panel = t->panel;
  const sk_rounded *a = t->a;
  const int8_t *codes = a->codes + t->token * a->code_stride + t->start;
  const int16_t *sums = a->sums + t->token * a->sum_stride + t->start / 16;
  const float *scales = a->scales + t->token * a->scale_stride + t->start / 32;
  vec total[SK_TOKENS8][SK_SIDE];
  SK_UNROLL
  for (int m = 0; m < mr; m++) {
    SK_EACH_SIDE(p) total[m][p] = kept(t, c + m * ldc + p * SK_VL);
  }
  for (size_t b = 0; b < t->width / 32; b++) {
    i32v sum[SK_TOKENS8][SK_SIDE];
    int32_t of_codes[SK_TOKENS8];
    SK_UNROLL
    for (int m = 0; m < mr; m++) {
      const int16_t *two = sums + m * a->sum_stride + 2 * b;
      of_codes[m] = two[0] + two[1];
      SK_EACH_SIDE(p) sum[m][p] = isByte ? -SK_BYTE_BIAS * of_codes[m] : 0;
    }
    add_steps(sum, panel->codes + 8 * b, codes + 32 * b, a->code_stride, 8, mr, isByte);
    SK_UNROLL
    for (int m = 0; m < mr; m++) {
      const float s = scales[m * a->scale_stride + b];
      SK_EACH_SIDE(p) {
        const vec v = __builtin_convertvector(sum[m][p], vec);
        total[m][p] = __builtin_elementwise_fma(v, panel->d[b][p] * s, total[m][p]);
        if (hasLeast) total[m][p] = __builtin_elementwise_fma((vec)(float)of_codes[m], -(panel->l[b][p] * s), total[m][p]);
      }
    }
  }
  SK_UNROLL
  for (int m = 0; m < mr; m++) {
    SK_EACH_SIDE(p) memcpy(c + m * ldc + p * SK_VL, &total[m][p], sizeof(vec));
  }
}

// Rows of signed bytes: sums of whole numbers wait in c as they are.
SK_INLINE void tile_rows(const sk_turn *t, float *c, const size_t ldc, const int mr) {
  const sk_rounded *a = t->a;
  const int8_t *codes = a->codes + t->token * a->code_stride + t->start;
  i32v sum[SK_TOKENS8][SK_SIDE];
  SK_UNROLL
  for (int m = 0; m < mr; m++) {
    if (t->isFirst) {
      const uint32_t of_codes = load32((const uint8_t *)(a->sums + (t->token + m) * a->sum_stride));
      SK_EACH_SIDE(p) sum[m][p] = (i32v)(u32v)(0u - SK_BYTE_BIAS * of_codes);
    } else {
      SK_EACH_SIDE(p) memcpy(&sum[m][p], c + m * ldc + p * SK_VL, sizeof(i32v));
    }
  }
  add_steps(sum, t->panel->codes, codes, a->code_stride, (t->width + 3) / 4, mr, 1);
  SK_UNROLL
  for (int m = 0; m < mr; m++) {
    const float s = a->scales[(t->token + m) * a->scale_stride];
    SK_EACH_SIDE(p) {
      vec v = (vec)sum[m][p];
      if (t->isLast) {
        vec w;
        memcpy(&w, t->scales + p * SK_VL, sizeof w);
        v = __builtin_convertvector(sum[m][p], vec) * (s * w);
      }
      memcpy(c + m * ldc + p * SK_VL, &v, sizeof v);
    }
  }
}

// A tile of each height.
#if SK_VL == 16
#define SK_HEIGHTS(X) X(1) X(2) X(3) X(4) X(5) X(6)
#elif SK_VL == 8
#define SK_HEIGHTS(X) X(1) X(2) X(3)
#else
#define SK_HEIGHTS(X) X(1) X(2)
#endif
#define SK_TILES8(name, call)                                                                                        \
  static void name(const sk_turn *t, float *c, size_t ldc, size_t mr) {                                              \
    switch (mr) {                                                                                                    \
      SK_HEIGHTS(call)                                                                                               \
    }                                                                                                                \
  }
#define SK_CALL(mr) case mr: tile_256(t, c, ldc, mr, 16, 0, 1); break;
SK_TILES8(turn_least_16, SK_CALL)
#undef SK_CALL
#define SK_CALL(mr) case mr: tile_256(t, c, ldc, mr, 16, 0, 0); break;
SK_TILES8(turn_low_16, SK_CALL)
#undef SK_CALL
#define SK_CALL(mr) case mr: tile_256(t, c, ldc, mr, 32, 0, 1); break;
SK_TILES8(turn_least_32, SK_CALL)
#undef SK_CALL
#define SK_CALL(mr) case mr: tile_256(t, c, ldc, mr, 32, 1, 0); break;
SK_TILES8(turn_byte_32, SK_CALL)
#undef SK_CALL
#define SK_CALL(mr) case mr: tile_32(t, c, ldc, mr, 1, 0); break;
SK_TILES8(turn_bytes, SK_CALL)
#undef SK_CALL
#define SK_CALL(mr) case mr: tile_32(t, c, ldc, mr, 0, 1); break;
SK_TILES8(turn_least, SK_CALL)
#undef SK_CALL
#define SK_CALL(mr) case mr: tile_rows(t, c, ldc, mr); break;
SK_TILES8(turn_rows, SK_CALL)
#undef SK_CALL

typedef struct {
  void (*pack)(const sk_rows *rows, size_t width, sk_panel8 *panel);
  void (*turn)(const sk_turn *t, float *c, size_t ldc, size_t mr);
  size_t bytes; // of 256 columns
} sk_integer_form;

static const sk_integer_form sk_integer_forms[SK_CODED_COUNT] = {
    [SK_CODED_INT8] = {panel_int8, turn_rows, 256},
    [SK_CODED_Q8_0] = {panel_q8_0, turn_bytes, 8 * 34},
    [SK_CODED_Q4_0] = {panel_q4_0, turn_bytes, 8 * 18},
    [SK_CODED_Q4_1] = {panel_q4_1, turn_least, 8 * 20},
    [SK_CODED_Q5_0] = {panel_q5_0, turn_bytes, 8 * 22},
    [SK_CODED_Q5_1] = {panel_q5_1, turn_least, 8 * 24},
    [SK_CODED_Q1_0] = {panel_q1_0, turn_bytes, 2 * 18},
    [SK_CODED_Q2_0] = {panel_q2_0, turn_bytes, 4 * 18},
    [SK_CODED_IQ4_NL] = {panel_iq4_nl, turn_bytes, 8 * 18},
    [SK_CODED_MXFP4] = {panel_mxfp4, turn_bytes, 8 * 17},
    [SK_CODED_Q2_K] = {panel_q2_k, turn_least_16, 84},
    [SK_CODED_Q3_K] = {panel_q3_k, turn_low_16, 110},
    [SK_CODED_Q4_K] = {panel_q4_k, turn_least_32, 144},
    [SK_CODED_Q5_K] = {panel_q5_k, turn_least_32, 176},
    [SK_CODED_Q6_K] = {panel_q6_k, turn_low_16, 210},
    [SK_CODED_IQ4_XS] = {panel_iq4_xs, turn_byte_32, 136},
    [SK_CODED_TQ1_0] = {panel_tq1_0, turn_byte_32, 54},
    [SK_CODED_TQ2_0] = {panel_tq2_0, turn_byte_32, 66},
};

static void k_multiply_rounded(const sk_integers *w, size_t row, size_t n, size_t k, const sk_rounded *a, size_t m, float *c,
                               size_t ldc) {
#ifdef SK_HAS_FEW8
  if (m > 0 && m <= sk_few_forms[w->code].most) return multiply_few(w, row, n, k, a, m, c, ldc);
#endif
  const sk_integer_form *form = &sk_integer_forms[w->code];
  const size_t turns = (m + SK_TOKENS8 - 1) / SK_TOKENS8, panels = (k + SK_PANEL8_COLUMNS - 1) / SK_PANEL8_COLUMNS;
  sk_panel8 panel;
  for (size_t j = 0; j < n; j += SK_PANEL8) {
    const size_t count = n - j < SK_PANEL8 ? n - j : SK_PANEL8;
    const uint8_t *first = w->codes + (row + j) * w->row_bytes;
    float scales[SK_PANEL8];
    for (size_t r = 0; r < SK_PANEL8 && w->scales; r++) scales[r] = w->scales[row + j + (r < count ? r : count - 1)];
    for (size_t place = 0; place < panels; place++) {
      const size_t start = place * SK_PANEL8_COLUMNS;
      sk_rows rows = {.next = SK_PANEL8 * w->row_bytes}; // rows that are not there are the last one again, and not stored
      for (size_t r = 0; r < SK_PANEL8; r++)
        rows.at[r] = first + (r < count ? r : count - 1) * w->row_bytes + place * form->bytes;
      sk_turn turn = {&panel, a, scales, 0, start, k - start < SK_PANEL8_COLUMNS ? k - start : SK_PANEL8_COLUMNS, place == 0,
                      place + 1 == panels};
      form->pack(&rows, turn.width, &panel);
      for (size_t i = 0; i < turns; i++) { // turns of heights that differ by one at most
        const size_t height = m / turns + (i < m % turns);
        if (count == SK_PANEL8) {
          form->turn(&turn, c + turn.token * ldc + j, ldc, height);
        } else {
          float spare[SK_TOKENS8][SK_PANEL8];
          for (size_t t = 0; t < height && place > 0; t++)
            memcpy(spare[t], c + (turn.token + t) * ldc + j, count * sizeof(float));
          form->turn(&turn, spare[0], SK_PANEL8, height);
          for (size_t t = 0; t < height; t++)
            memcpy(c + (turn.token + t) * ldc + j, spare[t], count * sizeof(float));
        }
        turn.token += height;
      }
    }
  }
}
