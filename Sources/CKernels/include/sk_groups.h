// Integer and FP4 codes under one scale and one zero point, and the reordering of codes that published layouts need.
//
// SAFETY: as CKernels.h says, with these lengths: 4-bit codes (n + 1) / 2 bytes; sk_gather reads the element
// (rows - 1) * row_step + (columns - 1) * column_step as its last one and writes rows * columns, and does nothing for another
// `size` than 1, 2, 4 or 8 unless column_step is 1; AWQ's words 4 bytes in and 8 out; MXFP4 16 bytes of codes, 1 of scale and 17
// of block for each group. Callers take all of these from a `Weight` or a checked tensor's shape.
#ifndef SK_GROUPS_H
#define SK_GROUPS_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

// dst[i] = (code[i] - zero) * scale, code[2j] the low nibble of byte j. n may be odd. zero is a whole number.
// Swift twin: Reference.decodeInt4.
void sk_decode_int4(const uint8_t *src, float zero, float scale, float *dst, size_t n);
// dst[i] = (code[i] - zero) * scale for signed bytes. Swift twin: Reference.decodeInt8.
void sk_decode_int8_zero(const int8_t *src, float zero, float scale, float *dst, size_t n);
// dst[i] = E2M1 code[i] * scale, code[2j] the low nibble of byte j. n may be odd. Swift twin: Reference.decodeE2M1.
void sk_decode_e2m1(const uint8_t *src, float scale, float *dst, size_t n);

// Copies a matrix of elements of `size` bytes (1, 2, 4 or 8): dst[r][c] without gaps from src[r * row_step + c * column_step],
// steps in elements. Walks tiles, so that a transposed source is read line by line.
// Swift twin: Reference.gather.
void sk_gather(const uint8_t *src, size_t size, size_t rows, size_t columns, size_t row_step, size_t column_step,
               uint8_t *dst);
// AWQ's nibbles: src is `inputs` rows of `outputs / 8` little-endian words; in a word, nibble p is output order[p] of the
// word's eight, order = 0 2 4 6 1 3 5 7. dst gets one nibble a byte, [inputs, outputs]. Swift twin: Reference.unpackAWQ.
void sk_unpack_awq(const uint8_t *src, size_t words, uint8_t *dst);
// dst[j] = src[2j] | src[2j + 1] << 4 for n nibbles, one a byte; an odd last one is alone in its byte.
// Swift twin: Reference.packNibbles.
void sk_pack_nibbles(const uint8_t *src, uint8_t *dst, size_t n);
// dst[i] = src[i] ^ 0x80: bytes offset by 128 to two's complement. Swift twin: Reference.flipTopBit.
void sk_flip_top_bit(const uint8_t *src, uint8_t *dst, size_t n);
// MXFP4 between the hub's order (codes of columns 2j, 2j + 1 in byte j; scales apart) and GGUF's blocks (scale, then
// columns j and j + 16 in byte j), 32 columns a group. Swift twin: Reference.repackMXFP4.
void sk_mxfp4_to_gguf(const uint8_t *codes, const uint8_t *scales, uint8_t *blocks, size_t groups);
void sk_mxfp4_from_gguf(const uint8_t *blocks, uint8_t *codes, uint8_t *scales, size_t groups);

#ifdef __cplusplus
}
#endif
#endif
