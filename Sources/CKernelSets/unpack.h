// GGUF's blocks taken apart for products: codes one a byte (signed), a scale and where the type has one a least number for each 16
// columns. Vectors of bytes in place of loops: the arrays may overlap for all that the compiler knows. Formats/encodings.md,
// sections 15 to 17. Part of body.h.
//
// Every function takes `count` blocks, at most SK_BLOCK columns, and writes one code a column and an entry of s (and l) for 16. Those
// whose codes are also read in place (coded_tiles.h) write no codes where `codes` is NULL.

typedef int8_t i8x16 __attribute__((ext_vector_type(16)));
typedef uint8_t u8x16 __attribute__((ext_vector_type(16)));
typedef uint8_t u8x32 __attribute__((ext_vector_type(32)));
typedef uint16_t u16x16 __attribute__((ext_vector_type(16)));
typedef int16_t i16x16 __attribute__((ext_vector_type(16)));
typedef uint32_t u32x16 __attribute__((ext_vector_type(16)));

SK_INLINE u8x16 bytes_16(const uint8_t *p) { u8x16 v; memcpy(&v, p, sizeof v); return v; }
SK_INLINE u8x32 bytes_32(const uint8_t *p) { u8x32 v; memcpy(&v, p, sizeof v); return v; }
SK_INLINE void put_16(uint8_t *p, const u8x16 v) { memcpy(p, &v, sizeof v); }
SK_INLINE void put_32(uint8_t *p, const u8x32 v) { memcpy(p, &v, sizeof v); }
SK_INLINE void put_floats(float *p, const f32x16 v) { memcpy(p, &v, sizeof v); }

// Bytes moved up by so many bits, or down where that is below zero; a neighbour's bits come in, which the caller masks off. Vector units
// have no shifts of bytes.
SK_INLINE u8x32 moved(const u8x32 v, const int up) {
  const u16x16 w = __builtin_bit_cast(u16x16, v);
  return __builtin_bit_cast(u8x32, up >= 0 ? w << (uint16_t)up : w >> (uint16_t)-up);
}

// The F16 numbers of up to eight blocks, times a sign, `repeat` times each (2, 4 or 8). Halves are put together in a register: written
// one by one and read as a vector they would wait for the stores. `count` is a constant where it is 8, and nothing is asked then.
SK_INLINE void halves_8(const uint8_t *src, const size_t stride, const size_t count, const size_t repeat, const float sign,
                        float *out) {
  typedef uint16_t u16x8 __attribute__((ext_vector_type(8)));
  u16x8 bits = 0;
  SK_UNROLL
  for (size_t i = 0; i < 8; i++)
    if (i < count) bits[i] = load16(src + stride * i);
  f32x8 v;
  SK_UNROLL
  for (size_t i = 0; i < 8; i++) v[i] = float_of_half(bits[i]);
  v *= sign;
  if (repeat == 2)
    put_floats(out, __builtin_shufflevector(v, v, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7));
  else
    for (size_t i = 0; i < count; i++)
      for (size_t j = 0; j < repeat; j++) out[repeat * i + j] = v[i];
}

// The same of any number of blocks; up to 16 entries more are written.
SK_INLINE void halves_of(const uint8_t *src, const size_t stride, const size_t count, const size_t repeat, const float sign,
                         float *out) {
  size_t b = 0;
  for (; b + 8 <= count; b += 8) halves_8(src + stride * b, stride, 8, repeat, sign, out + repeat * b);
  if (b < count) halves_8(src + stride * b, stride, count - b, repeat, sign, out + repeat * b);
}

// Signed bytes, `width` a block, from `at` on.
SK_INLINE void unpack_bytes(const uint8_t *src, const size_t stride, const size_t at, const size_t width, size_t count,
                            uint8_t *codes) {
  for (size_t b = 0; b < count; b++) memcpy(codes + width * b, src + stride * b + at, width);
}

static void unpack_q8_0(const uint8_t *src, size_t count, uint8_t *codes, float *s, float *l) {
  (void)l;
  if (codes) unpack_bytes(src, 34, 2, 32, count, codes);
  halves_of(src, 34, count, 2, 1, s);
}

static void unpack_q8_1(const uint8_t *src, size_t count, uint8_t *codes, float *s, float *l) {
  (void)l;
  unpack_bytes(src, 36, 4, 32, count, codes);
  halves_of(src, 36, count, 2, 1, s);
}

static void unpack_q8_k(const uint8_t *src, size_t count, uint8_t *codes, float *s, float *l) {
  (void)l;
  unpack_bytes(src, 292, 4, 256, count, codes);
  for (size_t b = 0; b < count; b++)
    for (size_t i = 0; i < 16; i++) s[16 * b + i] = float_of(load32(src + 292 * b));
}

// Byte j of 16 holds columns j (low nibble) and j + 16. What stands above a nibble stays there: `entries` does not see it.
SK_INLINE void unpack_places_32(const uint8_t *src, uint8_t *codes) {
  typedef uint16_t u16x8 __attribute__((ext_vector_type(8)));
  const u8x16 v = bytes_16(src);
  put_16(codes, v);
  put_16(codes + 16, __builtin_bit_cast(u8x16, __builtin_bit_cast(u16x8, v) >> 4));
}

// The same, the nibbles alone.
SK_INLINE void unpack_nibbles_32(const uint8_t *src, uint8_t *codes) {
  const u8x16 v = bytes_16(src);
  put_16(codes, v & 15);
  put_16(codes + 16, v >> 4);
}

static void unpack_q4_0(const uint8_t *src, size_t count, uint8_t *codes, float *s, float *l) {
  (void)l;
  for (size_t b = 0; codes && b < count; b++) unpack_places_32(src + 18 * b + 2, codes + 32 * b);
  halves_of(src, 18, count, 2, 1, s);
}

static void unpack_iq4_nl(const uint8_t *src, size_t count, uint8_t *codes, float *s, float *l) {
  (void)l;
  for (size_t b = 0; codes && b < count; b++) unpack_places_32(src + 18 * b + 2, codes + 32 * b);
  halves_of(src, 18, count, 2, 1, s);
}

static void unpack_q4_1(const uint8_t *src, size_t count, uint8_t *codes, float *s, float *l) {
  for (size_t b = 0; codes && b < count; b++) unpack_nibbles_32(src + 20 * b + 4, codes + 32 * b);
  halves_of(src, 20, count, 2, 1, s);
  halves_of(src + 2, 20, count, 2, -1, l);
}

// All bits of byte j are bit j of a word: the word's bytes eight times each, and of each the one bit that counts.
SK_INLINE u8x32 bits_32(const uint32_t word) {
  typedef uint32_t u32x4 __attribute__((ext_vector_type(4)));
  const u8x16 w = __builtin_bit_cast(u8x16, (u32x4)word);
  const u8x32 spread = __builtin_shufflevector(w, w, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 3, 3,
                                               3, 3, 3, 3, 3, 3);
  const u8x32 bit = {1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128,
                     1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128};
  return __builtin_bit_cast(u8x32, (spread & bit) == bit);
}

// The fifth bits lie in a word, column j's in bit j.
SK_INLINE void unpack_fifths_32(const uint8_t *src, const uint32_t fifths, const int low, uint8_t *codes) {
  const u8x16 v = bytes_16(src);
  const u8x32 codes_4 = __builtin_shufflevector(v & 15, v >> 4, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18,
                                                19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31);
  put_32(codes, (codes_4 | (bits_32(fifths) & 16)) - (uint8_t)low);
}

static void unpack_q5_0(const uint8_t *src, size_t count, uint8_t *codes, float *s, float *l) {
  (void)l;
  for (size_t b = 0; b < count; b++)
    unpack_fifths_32(src + 22 * b + 6, load32(src + 22 * b + 2), 16, codes + 32 * b);
  halves_of(src, 22, count, 2, 1, s);
}

static void unpack_q5_1(const uint8_t *src, size_t count, uint8_t *codes, float *s, float *l) {
  for (size_t b = 0; b < count; b++)
    unpack_fifths_32(src + 24 * b + 8, load32(src + 24 * b + 4), 0, codes + 32 * b);
  halves_of(src, 24, count, 2, 1, s);
  halves_of(src + 2, 24, count, 2, -1, l);
}

// One bit a column, for -1 and 1.
static void unpack_q1_0(const uint8_t *src, size_t count, uint8_t *codes, float *s, float *l) {
  (void)l;
  for (size_t b = 0; b < count; b++)
    for (size_t i = 0; i < 4; i++) {
      // All ones where the bit is set: 1 from 0xff & 2, less 1.
      put_32(codes + 128 * b + 32 * i, (bits_32(load32(src + 18 * b + 2 + 4 * i)) & 2) - 1);
    }
  halves_of(src, 18, count, 8, 1, s);
}

static void unpack_q2_0(const uint8_t *src, size_t count, uint8_t *codes, float *s, float *l) {
  (void)l;
  for (size_t b = 0; b < count; b++)
    for (size_t j = 0; j < 16; j++) {
      const uint32_t c = src[18 * b + 2 + j]; // four codes, spread over the bytes of a word
      const uint32_t word = (c | c << 6 | c << 12 | c << 18) & 0x03030303;
      store32(codes + 64 * b + 4 * j, ((word | 0x80808080) - 0x01010101) ^ 0x80808080);
    }
  halves_of(src, 18, count, 4, 1, s);
}

// ---- blocks of 256 columns ----

static void unpack_q2_k(const uint8_t *src, size_t count, uint8_t *codes, float *s, float *l) {
  for (size_t b = 0; b < count; b++, src += 84, codes += 256, s += 16, l += 16) {
    const float d = float_of_half(load16(src + 80)), least = float_of_half(load16(src + 82));
    const u8x16 both = bytes_16(src);
    put_floats(s, d * __builtin_convertvector(both & 15, f32x16));
    put_floats(l, least * __builtin_convertvector(both >> 4, f32x16));
    for (size_t half = 0; half < 2; half++) {
      const u8x32 v = bytes_32(src + 16 + 32 * half);
      SK_UNROLL
      for (int q = 0; q < 4; q++) put_32(codes + 128 * half + 32 * q, moved(v, -2 * q) & 3);
    }
  }
}

static void unpack_q3_k(const uint8_t *src, size_t count, uint8_t *codes, float *s, float *l) {
  (void)l;
  for (size_t b = 0; b < count; b++, src += 110, codes += 256, s += 16) {
    const float d = float_of_half(load16(src + 108));
    const uint8_t *packed = src + 96;
    // Words of four groups: low nibbles of groups 0...7, high nibbles for 8...15; the upper two bits in the third word.
    const uint32_t w0 = load32(packed), w1 = load32(packed + 4), w2 = load32(packed + 8);
    const uint32_t six[4] = {(w0 & 0x0f0f0f0f) | (w2 & 0x03030303) << 4, (w1 & 0x0f0f0f0f) | (w2 >> 2 & 0x03030303) << 4,
                             (w0 >> 4 & 0x0f0f0f0f) | (w2 >> 4 & 0x03030303) << 4,
                             (w1 >> 4 & 0x0f0f0f0f) | (w2 >> 6 & 0x03030303) << 4};
    i8x16 scales;
    memcpy(&scales, six, sizeof scales);
    put_floats(s, d * __builtin_convertvector(scales - 32, f32x16));
    const u8x32 thirds = bytes_32(src);
    SK_UNROLL
    for (int half = 0; half < 2; half++) {
      const u8x32 v = bytes_32(src + 32 + 32 * half);
      SK_UNROLL
      for (int q = 0; q < 4; q++) { // the third bit stands for 4, and all codes are from -4 on
        put_32(codes + 128 * half + 32 * q, ((moved(v, -2 * q) & 3) | (moved(thirds, 2 - 4 * half - q) & 4)) - 4);
      }
    }
  }
}

// The scales and least numbers of eight groups of 32: two halves, then twelve bytes of 6-bit factors. Bytes 0...3 and 4...7 hold the
// factors of groups 0...3, those of groups 4...7 have their lower bits in the nibbles of bytes 8...11, and the upper two above
// the first ones. All 16 factors are taken apart side by side: those of the scales, then the others.
SK_INLINE void six_bits(const uint8_t *src, float *s, float *l) {
  typedef uint16_t u16x8 __attribute__((ext_vector_type(8)));
  const u8x16 v = bytes_16(src);
  const u8x16 low = __builtin_shufflevector(v, v, 4, 5, 6, 7, 12, 13, 14, 15, 8, 9, 10, 11, 12, 13, 14, 15);
  const u8x16 high = __builtin_shufflevector(v, v, 4, 5, 6, 7, 4, 5, 6, 7, 8, 9, 10, 11, 8, 9, 10, 11);
  const u8x16 upper = __builtin_bit_cast(u8x16, __builtin_bit_cast(u16x8, low) >> 4); // the bits of a neighbour are masked off
  const u8x16 two = __builtin_bit_cast(u8x16, __builtin_bit_cast(u16x8, high) >> 2);
  const u8x16 of_low = {63, 63, 63, 63, 15, 15, 15, 15, 63, 63, 63, 63, 0, 0, 0, 0};
  const u8x16 of_upper = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 15, 15, 15, 15};
  const u8x16 of_two = {0, 0, 0, 0, 48, 48, 48, 48, 0, 0, 0, 0, 48, 48, 48, 48};
  const i8x16 bytes = __builtin_bit_cast(i8x16, (low & of_low) | (upper & of_upper) | (two & of_two));
  const float d = float_of_half(load16(src)), least = float_of_half(load16(src + 2));
  const f32x16 factor = {d, d, d, d, d, d, d, d, least, least, least, least, least, least, least, least};
  const f32x16 both = factor * __builtin_convertvector(bytes, f32x16);
  put_floats(s, __builtin_shufflevector(both, both, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7));
  put_floats(l, __builtin_shufflevector(both, both, 8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13, 14, 14, 15, 15));
}

static void unpack_q4_k(const uint8_t *src, size_t count, uint8_t *codes, float *s, float *l) {
  for (size_t b = 0; b < count; b++, src += 144, s += 16, l += 16) {
    six_bits(src, s, l);
    for (size_t q = 0; codes && q < 4; q++) {
      const u8x32 v = bytes_32(src + 16 + 32 * q);
      put_32(codes + 256 * b + 64 * q, v & 15);
      put_32(codes + 256 * b + 64 * q + 32, v >> 4);
    }
  }
}

static void unpack_q5_k(const uint8_t *src, size_t count, uint8_t *codes, float *s, float *l) {
  for (size_t b = 0; b < count; b++, src += 176, codes += 256, s += 16, l += 16) {
    six_bits(src, s, l);
    const u8x32 fifths = bytes_32(src + 16);
    SK_UNROLL
    for (int q = 0; q < 4; q++) {
      const u8x32 v = bytes_32(src + 48 + 32 * q);
      put_32(codes + 64 * q, (v & 15) | (moved(fifths, 4 - 2 * q) & 16));
      put_32(codes + 64 * q + 32, (moved(v, -4) & 15) | (moved(fifths, 3 - 2 * q) & 16));
    }
  }
}

static void unpack_q6_k(const uint8_t *src, size_t count, uint8_t *codes, float *s, float *l) {
  (void)l;
  for (size_t b = 0; b < count; b++, src += 210, codes += 256, s += 16) {
    const float d = float_of_half(load16(src + 208));
    i8x16 scales;
    memcpy(&scales, src + 192, sizeof scales);
    put_floats(s, d * __builtin_convertvector(scales, f32x16));
    for (size_t half = 0; half < 2; half++) {
      const u8x32 high = bytes_32(src + 128 + 32 * half);
      SK_UNROLL
      for (int q = 0; q < 4; q++) {
        const u8x32 low = moved(bytes_32(src + 64 * half + q % 2 * 32), q / 2 * -4);
        put_32(codes + 128 * half + 32 * q, ((low & 15) | (moved(high, 4 - 2 * q) & 48)) - 32);
      }
    }
  }
}

static void unpack_iq4_xs(const uint8_t *src, size_t count, uint8_t *codes, float *s, float *l) {
  (void)l;
  for (size_t b = 0; b < count; b++, src += 136, s += 16) {
    const float d = float_of_half(load16(src));
    const uint32_t high = load16(src + 2);
    for (uint32_t g = 0; g < 8; g++) {
      const int scale = (src[4 + g / 2] >> g % 2 * 4 & 15) | (int)(high >> 2 * g & 3) << 4;
      s[2 * g] = s[2 * g + 1] = d * (float)(scale - 32);
      if (codes) unpack_places_32(src + 8 + 16 * g, codes + 256 * b + 32 * g);
    }
  }
}

// Five digits to the base 3 a byte, the first the highest; times 3 the next one stands above the point.
static void unpack_tq1_0(const uint8_t *src, size_t count, uint8_t *codes, float *s, float *l) {
  (void)l;
  static const uint8_t powers[5] = {1, 3, 9, 27, 81}, starts[3] = {0, 32, 48}, counts[3] = {32, 16, 4}, digits[3] = {5, 5, 4};
  for (size_t b = 0; b < count; b++, src += 54, s += 16) {
    for (size_t g = 0; g < 16; g++) s[g] = float_of_half(load16(src + 52));
    for (size_t part = 0; part < 3; part++)
      for (size_t digit = 0; digit < digits[part]; digit++)
        for (size_t j = 0; j < counts[part]; j += counts[part] < 16 ? 4 : 16, codes += counts[part] < 16 ? 4 : 16) {
          u8x16 v = 0;
          memcpy(&v, src + starts[part] + j, counts[part] < 16 ? 4 : 16);
          const u16x16 moved = __builtin_convertvector(v * powers[digit], u16x16);
          v = __builtin_convertvector(moved * 3 >> 8, u8x16) - 1;
          memcpy(codes, &v, counts[part] < 16 ? 4 : 16);
        }
  }
}

static void unpack_tq2_0(const uint8_t *src, size_t count, uint8_t *codes, float *s, float *l) {
  (void)l;
  for (size_t b = 0; b < count; b++, src += 66, codes += 256, s += 16) {
    for (size_t g = 0; g < 16; g++) s[g] = float_of_half(load16(src + 64));
    for (size_t half = 0; half < 2; half++) {
      const u8x32 v = bytes_32(src + 32 * half);
      SK_UNROLL
      for (int q = 0; q < 4; q++) put_32(codes + 128 * half + 32 * q, (v >> (uint8_t)(2 * q) & 3) - 1);
    }
  }
}

// ---- 4-bit floats: the codes are places in a table of doubled numbers, the scale is half of the block's ----

static void unpack_mxfp4(const uint8_t *src, size_t count, uint8_t *codes, float *s, float *l) {
  (void)l;
  typedef uint32_t u32x8 __attribute__((ext_vector_type(8)));
  for (size_t b = 0; b < count; b += 8) { // half_of_e8m0 for eight blocks
    u32x8 e = 0;
    SK_UNROLL
    for (size_t i = 0; i < 8; i++)
      if (b + i < count) e[i] = src[17 * (b + i)];
    const u32x8 bits = e < 2 ? (u32x8)0x00200000 << (e & 1) : (e - 1) << 23;
    const f32x8 v = __builtin_bit_cast(f32x8, bits);
    put_floats(s + 2 * b, __builtin_shufflevector(v, v, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7));
  }
  for (size_t b = 0; codes && b < count; b++) unpack_places_32(src + 17 * b + 1, codes + 32 * b);
}

static void unpack_nvfp4(const uint8_t *src, size_t count, uint8_t *codes, float *s, float *l) {
  (void)l;
  typedef uint8_t u8x4 __attribute__((ext_vector_type(4)));
  typedef uint32_t u32x4 __attribute__((ext_vector_type(4)));
  typedef float f32x4 __attribute__((ext_vector_type(4)));
  typedef uint64_t u64x4 __attribute__((ext_vector_type(4)));
  for (size_t b = 0; b < count; b++, src += 36, s += 4) {
    u8x4 bytes; // half_of_ue4m3 for four groups
    memcpy(&bytes, src, sizeof bytes);
    const u32x4 e = __builtin_convertvector(bytes, u32x4) & 127;
    const f32x4 small = __builtin_convertvector(e, f32x4) * 0x1p-10f;
    const f32x4 scales = __builtin_bit_cast(f32x4, e < 8 ? __builtin_bit_cast(u32x4, small) : (e + 952) << 20);
    memcpy(s, &scales, sizeof scales);
    if (!codes) continue;
    u64x4 v; // columns j (low nibble) and j + 8 in byte j of a group's eight
    memcpy(&v, src + 4, sizeof v);
    const u64x4 high = v >> 4;
    typedef uint64_t u64x8 __attribute__((ext_vector_type(8)));
    const u64x8 both = __builtin_shufflevector(v, high, 0, 4, 1, 5, 2, 6, 3, 7);
    memcpy(codes + 64 * b, &both, sizeof both);
  }
}
