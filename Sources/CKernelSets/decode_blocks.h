// GGUF's blocks to floats: what unpack.h takes apart, multiplied sixteen columns at a time with the numbers of coded.h, so that decoded
// tiles and products on the codes share one reading of each format. The formulas of Formats/encodings.md, sections 15 to 17, each
// operation rounded to float32 in the order given there. Part of body.h.

// Whole blocks, SK_BLOCK columns at a time: codes (at most 1 KiB) and a scale for each 16 columns stay in the L1 cache. `unpack`,
// `columns`, `bytes`, `table` and `isAffine` are constants where it is inlined.
// SAFETY: `src` holds n / columns blocks, n a multiple of `columns`, which divides SK_BLOCK; stores of unpack.h may reach 16 entries
// past the last scale.
SK_INLINE void decode_unpacked(const sk_unpack unpack, const size_t columns, const size_t bytes, const float *table,
                               const int isAffine, const uint8_t *src, float *dst, size_t n) {
  uint8_t codes[SK_BLOCK] __attribute__((aligned(64)));
  float s[SK_PANEL_STEPS + 16], l[SK_PANEL_STEPS + 16];
  for (size_t start = 0; start < n; start += SK_BLOCK) {
    const size_t width = n - start < SK_BLOCK ? n - start : SK_BLOCK;
    unpack(src + start / columns * bytes, width / columns, codes, s, l);
    for (size_t i = 0; i < width; i += 16) {
      f32x16 v = table ? entries(table, codes + i) : floats_of_bytes(codes + i);
      v = isAffine ? v * s[i / 16] - l[i / 16] : v * s[i / 16];
      put_floats(dst + start + i, v);
    }
  }
}

#define SK_DECODE_BLOCKS(type, unpack, columns, bytes, table, isAffine)                                              \
  static void k_decode_##type(const uint8_t *src, float *dst, size_t n) {                                            \
    decode_unpacked(unpack, columns, bytes, table, isAffine, src, dst, n / columns * columns);                       \
  }

SK_DECODE_BLOCKS(q8_0, unpack_q8_0, 32, 34, NULL, 0)
SK_DECODE_BLOCKS(q8_1, unpack_q8_1, 32, 36, NULL, 0)
SK_DECODE_BLOCKS(q8_k, unpack_q8_k, 256, 292, NULL, 0)
SK_DECODE_BLOCKS(q4_0, unpack_q4_0, 32, 18, table_int4, 0)
SK_DECODE_BLOCKS(q4_1, unpack_q4_1, 32, 20, NULL, 1)
SK_DECODE_BLOCKS(q5_0, unpack_q5_0, 32, 22, NULL, 0)
SK_DECODE_BLOCKS(q5_1, unpack_q5_1, 32, 24, NULL, 1)
SK_DECODE_BLOCKS(q1_0, unpack_q1_0, 128, 18, NULL, 0)
SK_DECODE_BLOCKS(q2_0, unpack_q2_0, 64, 18, NULL, 0)
SK_DECODE_BLOCKS(iq4_nl, unpack_iq4_nl, 32, 18, table_iq4, 0)
SK_DECODE_BLOCKS(mxfp4_gguf, unpack_mxfp4, 32, 17, doubled_e2m1, 0)
SK_DECODE_BLOCKS(nvfp4_gguf, unpack_nvfp4, 64, 36, doubled_e2m1, 0)
SK_DECODE_BLOCKS(q2_k, unpack_q2_k, 256, 84, NULL, 1)
SK_DECODE_BLOCKS(q3_k, unpack_q3_k, 256, 110, NULL, 0)
SK_DECODE_BLOCKS(q4_k, unpack_q4_k, 256, 144, NULL, 1)
SK_DECODE_BLOCKS(q5_k, unpack_q5_k, 256, 176, NULL, 1)
SK_DECODE_BLOCKS(q6_k, unpack_q6_k, 256, 210, NULL, 0)
SK_DECODE_BLOCKS(iq4_xs, unpack_iq4_xs, 256, 136, table_iq4, 0)
SK_DECODE_BLOCKS(tq1_0, unpack_tq1_0, 256, 54, NULL, 0)
SK_DECODE_BLOCKS(tq2_0, unpack_tq2_0, 256, 66, NULL, 0)
