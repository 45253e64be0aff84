// GGUF's blocks to floats: the formulas of Formats/encodings.md, sections 15 to 17, each operation rounded to float32 in the order
// given there. Part of body.h. Loops of a constant length over bytes, which become vector code: what was read one code at a time
// was two thirds of a product with q4_k.

typedef int8_t i8x16 __attribute__((ext_vector_type(16)));

// Sixteen codes under one scale, and less one number.
SK_INLINE void decode_sixteen(const int8_t *codes, const float scale, float *out) {
  i8x16 c;
  memcpy(&c, codes, sizeof c);
  const f32x16 v = __builtin_convertvector(c, f32x16) * scale;
  memcpy(out, &v, sizeof v);
}
SK_INLINE void decode_sixteen_above(const int8_t *codes, const float scale, const float least, float *out) {
  i8x16 c;
  memcpy(&c, codes, sizeof c);
  const f32x16 v = __builtin_convertvector(c, f32x16) * scale - least;
  memcpy(out, &v, sizeof v);
}

// Sixteen bytes: the low nibbles are columns 0...15, the high ones 16...31.
SK_INLINE void nibbles_of(const uint8_t *src, const int low, int8_t *codes) {
  for (size_t j = 0; j < 16; j++) codes[j] = (int8_t)((src[j] & 15) - low);
  for (size_t j = 0; j < 16; j++) codes[16 + j] = (int8_t)((src[j] >> 4) - low);
}

// Places 0...15 of a table of 16 signed bytes, for 16 codes; one instruction where there is a shuffle of bytes.
SK_INLINE void sixteen_places(const int8_t *table, const int8_t *codes, int8_t *out) {
#if defined(__x86_64__) && SK_VL >= 8
  const __m128i places = _mm_loadu_si128((const __m128i *)codes);
  _mm_storeu_si128((__m128i *)out, _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)table), places));
#elif defined(__aarch64__)
  vst1q_s8(out, vqtbl1q_s8(vld1q_s8(table), vld1q_u8((const uint8_t *)codes)));
#else
  for (size_t j = 0; j < 16; j++) out[j] = table[codes[j]];
#endif
}

static const int8_t nonlinear_bytes[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
static const int8_t doubled_e2m1_bytes[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

// Signed bytes under one scale, a multiple of 16 of them.
SK_INLINE void decode_bytes(const uint8_t *codes, const float scale, const size_t n, float *out) {
  for (size_t j = 0; j < n; j += 16) decode_sixteen((const int8_t *)codes + j, scale, out + j);
}

// Sixteen bytes whose low nibbles are columns 0...15 and high ones 16...31, places in a table.
SK_INLINE void decode_places(const uint8_t *src, const int8_t *table, const float scale, float *out) {
  int8_t codes[32];
  int8_t numbers[32];
  nibbles_of(src, 0, codes);
  for (size_t part = 0; part < 32; part += 16) {
    sixteen_places(table, codes + part, numbers + part);
    decode_sixteen(numbers + part, scale, out + part);
  }
}

#define SK_DECODE_BLOCKS(type, bytes, columns, body)                                                                 \
  static void k_decode_##type(const uint8_t *restrict src, float *restrict dst, size_t n) {                          \
    for (; n >= columns; n -= columns, src += bytes, dst += columns) { body }                                        \
  }

SK_DECODE_BLOCKS(q8_0, 34, 32, decode_bytes(src + 2, float_of_half(load16(src)), 32, dst);)
SK_DECODE_BLOCKS(q8_1, 36, 32, decode_bytes(src + 4, float_of_half(load16(src)), 32, dst);)
SK_DECODE_BLOCKS(q8_k, 292, 256, decode_bytes(src + 4, float_of(load32(src)), 256, dst);)

SK_DECODE_BLOCKS(q4_0, 18, 32, {
  const float scale = float_of_half(load16(src));
  int8_t codes[32];
  nibbles_of(src + 2, 8, codes);
  for (size_t part = 0; part < 32; part += 16) decode_sixteen(codes + part, scale, dst + part);
})

SK_DECODE_BLOCKS(q4_1, 20, 32, {
  const float scale = float_of_half(load16(src));
  const float least = float_of_half(load16(src + 2));
  int8_t codes[32];
  nibbles_of(src + 4, 0, codes);
  for (size_t part = 0; part < 32; part += 16) decode_sixteen_above(codes + part, scale, -least, dst + part);
})

// The fifth bits of 32 codes: bit j of a word is column j's.
SK_INLINE void fifth_bits(const uint8_t *src, int32_t *fifths) {
  const uint32_t word = load32(src);
  for (uint32_t j = 0; j < 32; j++) fifths[j] = (int32_t)((word >> j & 1) << 4);
}

SK_DECODE_BLOCKS(q5_0, 22, 32, {
  const float scale = float_of_half(load16(src));
  int32_t fifths[32];
  fifth_bits(src + 2, fifths);
  for (size_t j = 0; j < 16; j++) dst[j] = (float)(((src[6 + j] & 15) | fifths[j]) - 16) * scale;
  for (size_t j = 0; j < 16; j++) dst[16 + j] = (float)(((src[6 + j] >> 4) | fifths[16 + j]) - 16) * scale;
})

SK_DECODE_BLOCKS(q5_1, 24, 32, {
  const float scale = float_of_half(load16(src));
  const float least = float_of_half(load16(src + 2));
  int32_t fifths[32];
  fifth_bits(src + 4, fifths);
  for (size_t j = 0; j < 16; j++) dst[j] = (float)((src[8 + j] & 15) | fifths[j]) * scale + least;
  for (size_t j = 0; j < 16; j++) dst[16 + j] = (float)((src[8 + j] >> 4) | fifths[16 + j]) * scale + least;
})

// One bit a column: the scale, or without the bit its negative.
SK_DECODE_BLOCKS(q1_0, 18, 128, {
  const uint32_t scale = bits_of(float_of_half(load16(src)));
  for (size_t part = 0; part < 4; part++) {
    const uint32_t word = load32(src + 2 + 4 * part);
    for (uint32_t j = 0; j < 32; j++) dst[32 * part + j] = float_of(scale ^ (~word >> j & 1) << 31);
  }
})

SK_DECODE_BLOCKS(q2_0, 18, 64, {
  const float scale = float_of_half(load16(src));
  int8_t codes[64];
  for (size_t j = 0; j < 16; j++) { // the four codes of a byte, spread over the bytes of a word
    const uint32_t c = src[2 + j];
    store32((uint8_t *)codes + 4 * j, (c | c << 6 | c << 12 | c << 18) & 0x03030303);
  }
  for (size_t j = 0; j < 64; j++) dst[j] = (float)(codes[j] - 1) * scale;
})

SK_DECODE_BLOCKS(iq4_nl, 18, 32, decode_places(src + 2, nonlinear_bytes, float_of_half(load16(src)), dst);)
// The codes of both are doubled, so half of the scale multiplies them: the smallest, 2^-128, is a float32 too.
SK_DECODE_BLOCKS(mxfp4_gguf, 17, 32, decode_places(src + 1, doubled_e2m1_bytes, half_of_e8m0(src[0]), dst);)

SK_DECODE_BLOCKS(nvfp4_gguf, 36, 64, {
  for (size_t group = 0; group < 4; group++) {
    const float scale = half_of_ue4m3(src[group] & 127);
    int8_t codes[16];
    int8_t numbers[16];
    for (size_t j = 0; j < 8; j++) codes[j] = src[4 + 8 * group + j] & 15;
    for (size_t j = 0; j < 8; j++) codes[8 + j] = (int8_t)(src[4 + 8 * group + j] >> 4);
    sixteen_places(doubled_e2m1_bytes, codes, numbers);
    decode_sixteen(numbers, scale, dst + 16 * group);
  }
})

// ---- blocks of 256 columns ----

// Each byte of 32 holds four codes of 2 bits, of columns j, j + 32, j + 64, j + 96.
SK_INLINE void pairs_of(const uint8_t *src, uint8_t *codes) {
  for (size_t part = 0; part < 8; part++)
    for (size_t j = 0; j < 32; j++) codes[32 * part + j] = src[part / 4 * 32 + j] >> part % 4 * 2 & 3;
}

SK_DECODE_BLOCKS(q2_k, 84, 256, {
  const float d = float_of_half(load16(src + 80));
  const float m = float_of_half(load16(src + 82));
  uint8_t codes[256];
  pairs_of(src + 16, codes);
  for (size_t group = 0; group < 16; group++) {
    const float scale = d * (float)(src[group] & 15);
    const float least = m * (float)(src[group] >> 4);
    decode_sixteen_above((const int8_t *)codes + 16 * group, scale, least, dst + 16 * group);
  }
})

// The third bit stands for 4, and codes are from -4 on.
SK_DECODE_BLOCKS(q3_k, 110, 256, {
  const float d = float_of_half(load16(src + 108));
  const uint8_t *packed = src + 96;
  uint8_t codes[256];
  pairs_of(src + 32, codes);
  for (size_t part = 0; part < 8; part++)
    for (size_t j = 0; j < 32; j++)
      codes[32 * part + j] = (uint8_t)((codes[32 * part + j] | (src[j] >> part & 1) << 2) - 4);
  for (size_t group = 0; group < 16; group++) {
    const int low = packed[group % 8] >> (group / 8 * 4) & 15;
    const int high = packed[8 + group % 4] >> (group / 4 * 2) & 3;
    const float scale = d * (float)((low | high << 4) - 32);
    decode_sixteen((const int8_t *)codes + 16 * group, scale, dst + 16 * group);
  }
})

// The 6-bit scale and least number of group 0...7, packed in twelve bytes.
SK_INLINE void six_bits_of(const uint8_t *packed, const size_t group, float *scale, float *least) {
  if (group < 4) {
    *scale = (float)(packed[group] & 63);
    *least = (float)(packed[group + 4] & 63);
  } else {
    *scale = (float)((packed[group + 4] & 15) | packed[group - 4] >> 6 << 4);
    *least = (float)(packed[group + 4] >> 4 | packed[group] >> 6 << 4);
  }
}

SK_DECODE_BLOCKS(q4_k, 144, 256, {
  const float d = float_of_half(load16(src));
  const float m = float_of_half(load16(src + 2));
  for (size_t group = 0; group < 8; group++) {
    float scale;
    float least;
    six_bits_of(src + 4, group, &scale, &least);
    scale = d * scale;
    least = m * least;
    const uint8_t *codes = src + 16 + group / 2 * 32;
    const int shift = (int)(group % 2 * 4);
    for (size_t j = 0; j < 32; j++) dst[32 * group + j] = scale * (float)(codes[j] >> shift & 15) - least;
  }
})

SK_DECODE_BLOCKS(q5_k, 176, 256, {
  const float d = float_of_half(load16(src));
  const float m = float_of_half(load16(src + 2));
  for (size_t group = 0; group < 8; group++) {
    float scale;
    float least;
    six_bits_of(src + 4, group, &scale, &least);
    scale = d * scale;
    least = m * least;
    const uint8_t *codes = src + 48 + group / 2 * 32;
    const uint8_t *fifths = src + 16;
    const int shift = (int)(group % 2 * 4);
    for (size_t j = 0; j < 32; j++)
      dst[32 * group + j] = scale * (float)((codes[j] >> shift & 15) | (fifths[j] >> group & 1) << 4) - least;
  }
})

// Low nibbles of columns j and j + 64 in a byte, the upper two bits as in q2_k; codes from -32 on.
SK_DECODE_BLOCKS(q6_k, 210, 256, {
  const float d = float_of_half(load16(src + 208));
  uint8_t codes[256];
  pairs_of(src + 128, codes);
  for (size_t part = 0; part < 8; part++) {
    const uint8_t *low = src + part / 4 * 64 + part % 2 * 32;
    for (size_t j = 0; j < 32; j++)
      codes[32 * part + j] = (uint8_t)(((low[j] >> part % 4 / 2 * 4 & 15) | codes[32 * part + j] << 4) - 32);
  }
  for (size_t group = 0; group < 16; group++)
    decode_sixteen((const int8_t *)codes + 16 * group, d * (float)(int8_t)src[192 + group], dst + 16 * group);
})

SK_DECODE_BLOCKS(iq4_xs, 136, 256, {
  const float d = float_of_half(load16(src));
  const uint32_t high = load16(src + 2);
  for (uint32_t group = 0; group < 8; group++) {
    const int scale = (src[4 + group / 2] >> group % 2 * 4 & 15) | (int)(high >> 2 * group & 3) << 4;
    decode_places(src + 8 + 16 * group, nonlinear_bytes, d * (float)(scale - 32), dst + 32 * group);
  }
})

// Five digits to the base 3 a byte, the number 0.digits times 256, rounded up: times 3 the next digit stands above the point.
SK_INLINE float *decode_digits(const uint8_t *src, const size_t count, const int digits, const float scale, float *out) {
  uint8_t power = 1;
  for (int digit = 0; digit < digits; digit++, power = (uint8_t)(power * 3), out += count)
    for (size_t j = 0; j < count; j++) out[j] = scale * (float)(((uint8_t)(src[j] * power) * 3 >> 8) - 1);
  return out;
}

SK_DECODE_BLOCKS(tq1_0, 54, 256, {
  const float scale = float_of_half(load16(src + 52));
  float *out = decode_digits(src, 32, 5, scale, dst);
  out = decode_digits(src + 32, 16, 5, scale, out);
  decode_digits(src + 48, 4, 4, scale, out);
})

SK_DECODE_BLOCKS(tq2_0, 66, 256, {
  const float scale = float_of_half(load16(src + 64));
  for (size_t part = 0; part < 8; part++) {
    const uint8_t *codes = src + part / 4 * 32;
    const int shift = (int)(part % 4 * 2);
    for (size_t j = 0; j < 32; j++) dst[32 * part + j] = scale * (float)((codes[j] >> shift & 3) - 1);
  }
})
