// Grouped codes and reordering. Plain C for every machine: each is bound by memory, or small beside the product that follows.
#include "sk_groups.h"

#include <string.h>

#pragma STDC FP_CONTRACT OFF

// Sixteen numbers for the sixteen codes, made once for a group: a look-up for each value, and the rounding is that of
// (code - zero) * scale whatever the path.
void sk_decode_int4(const uint8_t *src, float zero, float scale, float *dst, size_t n) {
  float table[16];
  for (int code = 0; code < 16; code++) table[code] = ((float)code - zero) * scale;
  for (size_t j = 0; j < n / 2; j++) {
    dst[2 * j] = table[src[j] & 15];
    dst[2 * j + 1] = table[src[j] >> 4];
  }
  if (n & 1) dst[n - 1] = table[src[n / 2] & 15];
}

void sk_decode_int8_zero(const int8_t *src, float zero, float scale, float *dst, size_t n) {
  for (size_t i = 0; i < n; i++) dst[i] = ((float)src[i] - zero) * scale;
}

void sk_decode_e2m1(const uint8_t *src, float scale, float *dst, size_t n) {
  static const float values[16] = {0.0f,  0.5f,  1.0f,  1.5f,  2.0f,  3.0f,  4.0f,  6.0f,
                                   -0.0f, -0.5f, -1.0f, -1.5f, -2.0f, -3.0f, -4.0f, -6.0f};
  float table[16];
  for (int code = 0; code < 16; code++) table[code] = values[code] * scale;
  for (size_t j = 0; j < n / 2; j++) {
    dst[2 * j] = table[src[j] & 15];
    dst[2 * j + 1] = table[src[j] >> 4];
  }
  if (n & 1) dst[n - 1] = table[src[n / 2] & 15];
}

enum { TILE = 32 }; // elements a side: both sides of a tile stay in the first-level cache

#define GATHER(type)                                                                                                  \
  for (size_t r0 = 0; r0 < rows; r0 += TILE)                                                                          \
    for (size_t c0 = 0; c0 < columns; c0 += TILE) {                                                                   \
      size_t r1 = r0 + TILE < rows ? r0 + TILE : rows, c1 = c0 + TILE < columns ? c0 + TILE : columns;                \
      for (size_t r = r0; r < r1; r++)                                                                                \
        for (size_t c = c0; c < c1; c++) {                                                                            \
          type value; /* neither side need be aligned */                                                              \
          memcpy(&value, src + (r * row_step + c * column_step) * sizeof(type), sizeof(type));                        \
          memcpy(dst + (r * columns + c) * sizeof(type), &value, sizeof(type));                                       \
        }                                                                                                             \
    }

void sk_gather(const uint8_t *src, size_t size, size_t rows, size_t columns, size_t row_step, size_t column_step,
               uint8_t *dst) {
  if (column_step == 1) { // rows stay rows: copied whole
    for (size_t r = 0; r < rows; r++) memcpy(dst + r * columns * size, src + r * row_step * size, columns * size);
    return;
  }
  switch (size) {
  case 1: GATHER(uint8_t) break;
  case 2: GATHER(uint16_t) break;
  case 4: GATHER(uint32_t) break;
  case 8: GATHER(uint64_t) break;
  }
}

void sk_unpack_awq(const uint8_t *src, size_t words, uint8_t *dst) {
  for (size_t w = 0; w < words; w++) {
    const uint8_t *s = src + 4 * w;
    uint8_t *d = dst + 8 * w;
    // Bytes hold outputs (0, 2), (4, 6), (1, 3), (5, 7), the first of each pair in the low nibble.
    d[0] = s[0] & 15, d[2] = s[0] >> 4, d[4] = s[1] & 15, d[6] = s[1] >> 4;
    d[1] = s[2] & 15, d[3] = s[2] >> 4, d[5] = s[3] & 15, d[7] = s[3] >> 4;
  }
}

void sk_pack_nibbles(const uint8_t *src, uint8_t *dst, size_t n) {
  for (size_t j = 0; j < n / 2; j++) dst[j] = (uint8_t)(src[2 * j] | src[2 * j + 1] << 4);
  if (n & 1) dst[n / 2] = src[n - 1];
}

void sk_flip_top_bit(const uint8_t *src, uint8_t *dst, size_t n) {
  for (size_t i = 0; i < n; i++) dst[i] = src[i] ^ 0x80;
}

void sk_mxfp4_to_gguf(const uint8_t *codes, const uint8_t *scales, uint8_t *blocks, size_t groups) {
  for (size_t g = 0; g < groups; g++) {
    const uint8_t *s = codes + 16 * g;
    uint8_t *d = blocks + 17 * g;
    d[0] = scales[g];
    for (size_t j = 0; j < 8; j++) { // columns 2j, 2j + 1 and 16 more
      d[1 + 2 * j] = (uint8_t)((s[j] & 15) | s[j + 8] << 4);
      d[2 + 2 * j] = (uint8_t)(s[j] >> 4 | (s[j + 8] & 0xf0));
    }
  }
}

void sk_mxfp4_from_gguf(const uint8_t *blocks, uint8_t *codes, uint8_t *scales, size_t groups) {
  for (size_t g = 0; g < groups; g++) {
    const uint8_t *s = blocks + 17 * g;
    uint8_t *d = codes + 16 * g;
    scales[g] = s[0];
    for (size_t j = 0; j < 8; j++) {
      d[j] = (uint8_t)((s[1 + 2 * j] & 15) | s[2 + 2 * j] << 4);
      d[j + 8] = (uint8_t)(s[1 + 2 * j] >> 4 | (s[2 + 2 * j] & 0xf0));
    }
  }
}
