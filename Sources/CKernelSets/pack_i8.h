// GGUF's blocks and signed bytes into panels of panel_i8.h, rows in the lanes: what takes a block apart does so for as many rows as a
// vector has lanes. Formats/encodings.md, sections 9 and 15 to 17. Part of body.h.
//
// Every function takes the addresses of SK_PANEL8 rows at the panel's first column and the columns there are, at most 256; it reads
// whole words inside a row's blocks and none behind them.

#define SK_EACH_SIDE(p) SK_UNROLL for (size_t p = 0; p < SK_SIDE; p++)
#define SK_BYTE_FLIP ((u32v)(SK_BYTE_BIAS ? 0x80808080u : 0u))

// Byte i of each word.
SK_INLINE i32v byte_of(const u32v w, const int i) { return (i32v)(w >> (8 * i) & 255); }
SK_INLINE i32v signed_byte_of(const u32v w, const int i) { return (i32v)w << (24 - 8 * i) >> 24; }
// Twice the same number of 16 bits; and two.
SK_INLINE u32v pair_of(const i32v low, const i32v high) { return ((u32v)low & 0xffff) | (u32v)high << 16; }

// ---- blocks of 256 columns ----

// Bytes of the 6-bit scales of eight groups of 32, then of the least numbers, from the first words of blocks.
SK_INLINE void words_of_six_bits(const u32v *w, u32v *six) {
  six[0] = w[1] & 0x3f3f3f3f;
  six[1] = (w[3] & 0x0f0f0f0f) | (w[1] >> 6 & 0x03030303) << 4;
  six[2] = w[2] & 0x3f3f3f3f;
  six[3] = (w[3] >> 4 & 0x0f0f0f0f) | (w[2] >> 6 & 0x03030303) << 4;
}

// Those, and the factors of both.
SK_INLINE void panel_six_bits(const u32v *w, const size_t p, sk_panel8 *panel) {
  panel->d[0][p] = floats_of_low_halves(w[0]);
  panel->l[0][p] = floats_of_low_halves(w[0] >> 16);
  u32v six[4];
  words_of_six_bits(w, six);
  SK_UNROLL
  for (int g = 0; g < 8; g++) {
    panel->scale[g][p] = byte_of(six[g / 4], g % 4);
    const i32v least = byte_of(six[2 + g / 4], g % 4);
    panel->pairs[g][p] = pair_of(least, least);
  }
}

static void panel_q4_k(const sk_rows *rows, size_t width, sk_panel8 *panel) {
  (void)width;
  SK_EACH_SIDE(p) {
    u32v w[SK_VL];
    words_at(rows, p, 0, w);
    panel_six_bits(w, p, panel);
    SK_UNROLL
    for (size_t i = 0; i < 32; i += SK_VL) {
      words_at(rows, p, 16 + 4 * i, w);
      SK_UNROLL
      for (size_t j = 0; j < SK_VL; j++) { // 8 words: low nibbles for 32 columns, high ones for the next 32
        const size_t place = (i + j) / 8 * 16 + (i + j) % 8;
        panel->codes[place][p] = w[j] & 0x0f0f0f0f;
        panel->codes[place + 8][p] = w[j] >> 4 & 0x0f0f0f0f;
      }
    }
  }
}

static void panel_q5_k(const sk_rows *rows, size_t width, sk_panel8 *panel) {
  (void)width;
  SK_EACH_SIDE(p) {
    u32v w[SK_VL], fifths[SK_VL > 8 ? SK_VL : 8];
    words_at(rows, p, 0, w);
    panel_six_bits(w, p, panel);
    SK_UNROLL
    for (size_t i = 0; i < 8; i += SK_VL) words_at(rows, p, 16 + 4 * i, fifths + i);
    SK_UNROLL
    for (size_t i = 0; i < 32; i += SK_VL) {
      words_at(rows, p, 48 + 4 * i, w);
      SK_UNROLL
      for (size_t j = 0; j < SK_VL; j++) {
        const size_t q = (i + j) / 8, x = (i + j) % 8;
        panel->codes[16 * q + x][p] = (w[j] & 0x0f0f0f0f) | (fifths[x] >> (2 * q) & 0x01010101) << 4;
        panel->codes[16 * q + 8 + x][p] = (w[j] >> 4 & 0x0f0f0f0f) | (fifths[x] >> (2 * q + 1) & 0x01010101) << 4;
      }
    }
  }
}

// Codes are 32 higher than what they stand for.
static void panel_q6_k(const sk_rows *rows, size_t width, sk_panel8 *panel) {
  (void)width;
  SK_EACH_SIDE(p) {
    u32v w[SK_VL], high[16];
    words_at(rows, p, 208 - 4 * SK_VL, w); // ends behind the scales
    panel->d[0][p] = halves_at(rows, p, 208);
    SK_UNROLL
    for (int g = 0; g < 16; g++) panel->scale[g][p] = signed_byte_of(w[SK_VL - 4 + g / 4], g % 4);
    SK_UNROLL
    for (int g = 0; g < 8; g++) panel->pairs[g][p] = pair_of(-32 * panel->scale[2 * g][p], -32 * panel->scale[2 * g + 1][p]);
    SK_UNROLL
    for (size_t i = 0; i < 16; i += SK_VL) words_at(rows, p, 128 + 4 * i, high + i);
    SK_UNROLL
    for (size_t i = 0; i < 32; i += SK_VL) {
      words_at(rows, p, 4 * i, w);
      SK_UNROLL
      for (size_t j = 0; j < SK_VL; j++) { // of each half 16 words: columns 0...63 in low nibbles, 64...127 in high ones
        const size_t half = (i + j) / 16, q = (i + j) % 16 / 8, x = (i + j) % 8;
        const u32v h = high[8 * half + x];
        panel->codes[32 * half + 8 * q + x][p] = (w[j] & 0x0f0f0f0f) | (h >> (2 * q) & 0x03030303) << 4;
        panel->codes[32 * half + 8 * q + 16 + x][p] = (w[j] >> 4 & 0x0f0f0f0f) | (h >> (2 * q + 4) & 0x03030303) << 4;
      }
    }
  }
}

static void panel_q2_k(const sk_rows *rows, size_t width, sk_panel8 *panel) {
  (void)width;
  SK_EACH_SIDE(p) {
    u32v w[SK_VL];
    words_at(rows, p, 0, w);
    SK_UNROLL
    for (int g = 0; g < 16; g++) panel->scale[g][p] = byte_of(w[g / 4], g % 4) & 15;
    SK_UNROLL
    for (int g = 0; g < 8; g++)
      panel->pairs[g][p] = pair_of(byte_of(w[g / 2], g % 2 * 2) >> 4, byte_of(w[g / 2], g % 2 * 2 + 1) >> 4);
    panel->d[0][p] = halves_at(rows, p, 80);
    panel->l[0][p] = halves_at(rows, p, 82);
    SK_UNROLL
    for (size_t i = 0; i < 16; i += SK_VL) {
      words_at(rows, p, 16 + 4 * i, w);
      SK_UNROLL
      for (size_t j = 0; j < SK_VL; j++) {
        SK_UNROLL
        for (size_t q = 0; q < 4; q++) panel->codes[(i + j) / 8 * 32 + 8 * q + (i + j) % 8][p] = w[j] >> (2 * q) & 0x03030303;
      }
    }
  }
}

// Codes are 4 higher than what they stand for.
static void panel_q3_k(const sk_rows *rows, size_t width, sk_panel8 *panel) {
  (void)width;
  SK_EACH_SIDE(p) {
    u32v w[SK_VL], thirds[SK_VL > 8 ? SK_VL : 8];
    words_at(rows, p, 108 - 4 * SK_VL, w); // ends behind the scales
    const u32v w0 = w[SK_VL - 3], w1 = w[SK_VL - 2], w2 = w[SK_VL - 1];
    const u32v six[4] = {(w0 & 0x0f0f0f0f) | (w2 & 0x03030303) << 4, (w1 & 0x0f0f0f0f) | (w2 >> 2 & 0x03030303) << 4,
                         (w0 >> 4 & 0x0f0f0f0f) | (w2 >> 4 & 0x03030303) << 4,
                         (w1 >> 4 & 0x0f0f0f0f) | (w2 >> 6 & 0x03030303) << 4};
    SK_UNROLL
    for (int g = 0; g < 16; g++) panel->scale[g][p] = byte_of(six[g / 4], g % 4) - 32;
    SK_UNROLL
    for (int g = 0; g < 8; g++) panel->pairs[g][p] = pair_of(-4 * panel->scale[2 * g][p], -4 * panel->scale[2 * g + 1][p]);
    panel->d[0][p] = halves_at(rows, p, 108);
    SK_UNROLL
    for (size_t i = 0; i < 8; i += SK_VL) words_at(rows, p, 4 * i, thirds + i);
    SK_UNROLL
    for (size_t i = 0; i < 16; i += SK_VL) {
      words_at(rows, p, 32 + 4 * i, w);
      SK_UNROLL
      for (size_t j = 0; j < SK_VL; j++) {
        const size_t half = (i + j) / 8, x = (i + j) % 8;
        SK_UNROLL
        for (size_t q = 0; q < 4; q++)
          panel->codes[32 * half + 8 * q + x][p] =
              (w[j] >> (2 * q) & 0x03030303) | (thirds[x] >> (4 * half + q) & 0x01010101) << 2;
      }
    }
  }
}

static const int8_t bytes_int4[16] = {-8, -7, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7};
static const int8_t bytes_iq4[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
static const int8_t bytes_e2m1[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

static void panel_iq4_xs(const sk_rows *rows, size_t width, sk_panel8 *panel) {
  (void)width;
  SK_EACH_SIDE(p) {
    u32v w[SK_VL];
    words_at(rows, p, 0, w);
    panel->d[0][p] = floats_of_low_halves(w[0]);
    SK_UNROLL
    for (int g = 0; g < 8; g++) {
      const i32v low = (i32v)(w[1] >> (4 * g) & 15), scale = (low | (i32v)(w[0] >> (16 + 2 * g) & 3) << 4) - 32;
      panel->scale[g][p] = scale;
      panel->pairs[g][p] = pair_of(-SK_BYTE_BIAS * scale, -SK_BYTE_BIAS * scale);
    }
    SK_UNROLL
    for (size_t i = 0; i < 32; i += SK_VL) {
      words_at(rows, p, 8 + 4 * i, w);
      SK_UNROLL
      for (size_t j = 0; j < SK_VL; j++) {
        const size_t place = (i + j) / 4 * 8 + (i + j) % 4;
        panel->codes[place][p] = entries_of_bytes(bytes_iq4, w[j] & 0x0f0f0f0f) ^ SK_BYTE_FLIP;
        panel->codes[place + 4][p] = entries_of_bytes(bytes_iq4, w[j] >> 4 & 0x0f0f0f0f) ^ SK_BYTE_FLIP;
      }
    }
  }
}

// Blocks that are taken apart row by row: signed codes one a byte, and a factor for each 16 columns, of which two share one at least.
SK_INLINE void panel_unpacked(const sk_unpack unpack, const size_t columns, const size_t bytes, const sk_rows *rows,
                              size_t width, sk_panel8 *panel) {
  uint8_t codes[SK_PANEL8][SK_PANEL8_COLUMNS] __attribute__((aligned(64)));
  float s[SK_PANEL8][32], l[32];
  sk_rows code_rows = {.next = 0}, scale_rows = {.next = 0};
  for (size_t r = 0; r < SK_PANEL8; r++) {
    for (size_t i = 0; i < bytes; i += 64) __builtin_prefetch(rows->at[r] + rows->next + i, 0, 2);
    unpack(rows->at[r], width / columns, codes[r], s[r], l);
    code_rows.at[r] = codes[r];
    scale_rows.at[r] = (const uint8_t *)s[r];
  }
  SK_EACH_SIDE(p) {
    u32v w[SK_VL];
    for (size_t i = 0; i < width / 4; i += SK_VL) {
      words_at(&code_rows, p, 4 * i, w);
      SK_UNROLL
      for (size_t j = 0; j < SK_VL; j++) panel->codes[i + j][p] = w[j] ^ SK_BYTE_FLIP;
    }
    SK_UNROLL
    for (size_t i = 0; i < 16; i += SK_VL) { // entries behind the width are not looked at
      words_at(&scale_rows, p, 4 * i, w);
      SK_UNROLL
      for (size_t j = 0; j < SK_VL; j += 2) panel->d[(i + j) / 2][p] = (vec)w[j];
    }
  }
}

static void panel_q1_0(const sk_rows *rows, size_t width, sk_panel8 *panel) {
  panel_unpacked(unpack_q1_0, 128, 2 * 18, rows, width, panel);
}
static void panel_q2_0(const sk_rows *rows, size_t width, sk_panel8 *panel) {
  panel_unpacked(unpack_q2_0, 64, 4 * 18, rows, width, panel);
}

// Digits of -1, 0 and 1 under one factor: blocks of 256 whose groups all have the scale 1.
SK_INLINE void panel_ternary(const sk_unpack unpack, const size_t bytes, const sk_rows *rows, size_t width, sk_panel8 *panel) {
  panel_unpacked(unpack, 256, bytes, rows, width, panel);
  SK_EACH_SIDE(p) {
    SK_UNROLL
    for (int g = 0; g < 8; g++) {
      panel->scale[g][p] = 1;
      panel->pairs[g][p] = pair_of((i32v)-SK_BYTE_BIAS, (i32v)-SK_BYTE_BIAS);
    }
  }
}
static void panel_tq1_0(const sk_rows *rows, size_t width, sk_panel8 *panel) {
  panel_ternary(unpack_tq1_0, 54, rows, width, panel);
}
static void panel_tq2_0(const sk_rows *rows, size_t width, sk_panel8 *panel) {
  panel_ternary(unpack_tq2_0, 66, rows, width, panel);
}

// ---- blocks of 32 columns ----

// `bytes` of codes of several blocks of each row, one block after another, as words: SK_VL of them, from block b on. Blocks that are not
// there are the last one again.
SK_INLINE void block_words(const sk_rows *rows, const size_t p, const size_t b, const size_t blocks, const size_t stride,
                           const size_t at, const size_t bytes, u32v *out) {
  SK_UNROLL
  for (size_t r = 0; r < SK_VL; r++) {
    const uint8_t *row = rows->at[p * SK_VL + r] + at;
    SK_UNROLL
    for (size_t j = 0; j < 4 * SK_VL / bytes; j++)
      memcpy((uint8_t *)&out[r] + j * bytes, row + (b + j < blocks ? b + j : blocks - 1) * stride, bytes);
    __builtin_prefetch(row + b * stride + rows->next, 0, 2);
  }
  transpose_words(out);
}

static void panel_q8_0(const sk_rows *rows, size_t width, sk_panel8 *panel) {
  enum { BYTES = SK_VL < 8 ? 4 * SK_VL : 32, AT_ONCE = 4 * SK_VL / BYTES };
  const size_t blocks = width / 32;
  SK_EACH_SIDE(p) {
    for (size_t b = 0; b < blocks; b++) panel->d[b][p] = halves_at(rows, p, 34 * b);
    for (size_t b = 0; b < blocks; b += AT_ONCE) {
      SK_UNROLL
      for (size_t part = 0; part < 32; part += BYTES) {
        u32v w[SK_VL];
        block_words(rows, p, b, blocks, 34, 2 + part, BYTES, w);
        SK_UNROLL
        for (size_t j = 0; j < SK_VL; j++) panel->codes[8 * b + part / 4 + j][p] = w[j] ^ SK_BYTE_FLIP;
      }
    }
  }
}

// Nibbles, column j in the lower half of byte j and column j + 16 in the upper one: places in a table, or with `fifths`, where the words
// of fifth bits stand, numbers of five bits from `low` on.
SK_INLINE void panel_nibbles(const size_t stride, const size_t at, const int8_t *table, const size_t fifths, const int low,
                             const int isByte, const sk_rows *rows, size_t width, sk_panel8 *panel) {
  enum { AT_ONCE = SK_VL / 4 };
  const size_t blocks = width / 32;
  const u32v flip = isByte ? SK_BYTE_FLIP : (u32v)0;
  SK_EACH_SIDE(p) {
    for (size_t b = 0; b < blocks; b += AT_ONCE) {
      u32v w[SK_VL];
      block_words(rows, p, b, blocks, stride, at, 16, w);
      SK_UNROLL
      for (size_t j = 0; j < AT_ONCE; j++) {
        u32v fifth = 0;
        if (fifths) {
          const size_t block = b + j < blocks ? b + j : blocks - 1;
          SK_UNROLL
          for (int r = 0; r < SK_VL; r++) fifth[r] = load32(rows->at[p * SK_VL + r] + block * stride + fifths);
        }
        SK_UNROLL
        for (size_t x = 0; x < 8; x++) {
          u32v codes = (x < 4 ? w[4 * j + x] : w[4 * j + x - 4] >> 4) & 0x0f0f0f0f;
          if (table) codes = entries_of_bytes(table, codes);
          if (fifths) { // the product spreads four bits over four bytes
            codes |= ((fifth >> (4 * x) & 15) * 0x00204081 & 0x01010101) << 4;
            codes = ((codes | 0x80808080) - 0x01010101u * (uint32_t)low) ^ 0x80808080;
          }
          panel->codes[8 * (b + j) + x][p] = codes ^ flip;
        }
      }
    }
  }
}

#define SK_PANEL_NIBBLES(type, stride, at, table, fifths, low, isByte)                                               \
  static void panel_##type(const sk_rows *rows, size_t width, sk_panel8 *panel) {                                    \
    panel_nibbles(stride, at, table, fifths, low, isByte, rows, width, panel);                                       \
    SK_EACH_SIDE(p) {                                                                                                \
      for (size_t b = 0; b < width / 32; b++) {                                                                      \
        panel->d[b][p] = halves_at(rows, p, (stride) * b);                                                           \
        if (!(isByte)) panel->l[b][p] = -halves_at(rows, p, (stride) * b + 2);                                       \
      }                                                                                                              \
    }                                                                                                                \
  }
SK_PANEL_NIBBLES(q4_0, 18, 2, bytes_int4, 0, 0, 1)
SK_PANEL_NIBBLES(iq4_nl, 18, 2, bytes_iq4, 0, 0, 1)
SK_PANEL_NIBBLES(q4_1, 20, 4, NULL, 0, 0, 0)
SK_PANEL_NIBBLES(q5_0, 22, 6, NULL, 2, 16, 1)
SK_PANEL_NIBBLES(q5_1, 24, 8, NULL, 4, 0, 0)

// Doubled numbers under half of a power of two.
static void panel_mxfp4(const sk_rows *rows, size_t width, sk_panel8 *panel) {
  panel_nibbles(17, 1, bytes_e2m1, 0, 0, 1, rows, width, panel);
  SK_EACH_SIDE(p) {
    for (size_t b = 0; b < width / 32; b++) {
      u32v e;
      SK_UNROLL
      for (int r = 0; r < SK_VL; r++) e[r] = rows->at[p * SK_VL + r][17 * b];
      panel->d[b][p] = (vec)(e < 2 ? (u32v)0x00200000 << (e & 1) : (e - 1) << 23);
    }
  }
}

// ---- rows of signed bytes ----

static void panel_int8(const sk_rows *rows, size_t width, sk_panel8 *panel) {
  uint8_t spare[SK_PANEL8][SK_PANEL8_COLUMNS] __attribute__((aligned(64)));
  sk_rows places;
  if (width < SK_PANEL8_COLUMNS) { // the end of a row: what is behind it meets zeros
    for (size_t r = 0; r < SK_PANEL8; r++) {
      memset(spare[r], 0, sizeof spare[r]);
      memcpy(spare[r], rows->at[r], width);
      places.at[r] = spare[r];
    }
    places.next = 0;
    rows = &places;
  }
  SK_EACH_SIDE(p) {
    for (size_t i = 0; i < (width + 3) / 4; i += SK_VL) {
      u32v w[SK_VL];
      words_at(rows, p, 4 * i, w);
      SK_UNROLL
      for (size_t j = 0; j < SK_VL; j++) panel->codes[i + j][p] = w[j] ^ SK_BYTE_FLIP;
    }
  }
}
