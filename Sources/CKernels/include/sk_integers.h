// Products of rounded activations with a weight as it is stored, as whole numbers: GGUF's blocks as engines run them, and signed bytes
// with a scale a row. What a code stands for is in Formats/encodings.md.
#ifndef SK_INTEGERS_H
#define SK_INTEGERS_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

// Rounds n floats, a whole number of blocks, to codes from -127 to 127; sums[i] is the sum of codes 16 i to 16 i + 15.
//   32:  Q8_0's blocks. s = largest magnitude / 127; code = rne(x * (1 / s)), s not rounded yet; scales[b] = s rounded to F16. 1 / s and
//        s * 127 may overflow: a block whose 1 / s is not finite is zeros.
//   256: Q8_K's blocks. m = the number of largest magnitude (of several the first), f = -127 / m; code = rne(x * f), scales[b] = 1 / f.
// A block of zeros has scale 0. The result is 0 where a number or a scale is not finite, or f is not; codes have no meaning then.
// SAFETY: x holds n floats, codes n bytes, sums n / 16 words, scales n / 32 or n / 256 floats.
// Swift twins: Reference.roundBlocks32, Reference.roundBlocks256.
int sk_round_blocks_32(const float *x, size_t n, int8_t *codes, int16_t *sums, float *scales);
int sk_round_blocks_256(const float *x, size_t n, int8_t *codes, int16_t *sums, float *scales);

#define SK_I8_COLUMNS 131072 // the longest row of signed bytes: 127 * 128 * 131,072 is below 2^31

// The codes of a row under one scale, as sk_encode_int8 gives them: `scale`, or where it is 0 the largest magnitude / 127; zeros behind
// them up to a multiple of 64, and the sum of all. The result is the scale; 0 for a row of zeros; NaN where a number is not finite or the
// scale no normal number, and codes have no meaning then.
// SAFETY: x holds n floats, codes n bytes rounded up to a multiple of 64.
float sk_round_row(const float *x, size_t n, float scale, int8_t *codes, int32_t *sum);

// A weight of any number of rows: GGUF's blocks, or signed bytes (SK_CODED_INT8) with a scale a row.
typedef struct {
  const uint8_t *codes;
  size_t row_bytes;    // from one row to the next
  const float *scales; // of SK_CODED_INT8
  int code;            // one of SK_CODED_... for which sk_activation_block is not 0
} sk_integers;

// Rounded activations: m rows of k codes, code_stride apart, and so on.
typedef struct {
  const int8_t *codes;  // from -127 on; code_stride is a multiple of 4, and codes behind k up to one are 0
  const int16_t *sums;  // of each 16 columns; before SK_CODED_INT8 the 32 bits of the sum of a row
  const float *scales;  // of each block; of SK_CODED_INT8 one a row
  size_t code_stride, sum_stride, scale_stride;
} sk_rounded;

// The columns that share a scale of activations before a product with codes of a kind: 32, 256, all of a row (PTRDIFF_MAX), or 0 where
// there is no such product.
size_t sk_activation_block(int code);

// c[t * ldc + j] = product of row t of a and row `row + j` of w, t < m, j < n, of k columns. Sums inside a block of activations are
// exact; block after block, first to last,
//   sum = fma((float)products, d * s, sum), then for types with least numbers sum = fma((float)least, -(l * s), sum)
// where s is the scale of activations and d (and l) the block's own: of blocks of 256 the F16 factors, the whole numbers being the
// products times the scales of their groups, and the sums of codes times the least numbers of their groups; of blocks of 32 d and l
// are the scale and the least number, and `least` is the sum of codes. Of signed bytes the exact sum, rounded to float32, times
// (scale of the row of a * scale of the row of w), rounded.
// SAFETY: as sk_coded.h says; k is a multiple of the type's columns, of SK_CODED_INT8 at most SK_I8_COLUMNS. Nothing is read beyond the
// last code of a row.
// Swift twin: Reference.multiplyBlocks.
void sk_multiply_rounded(const sk_integers *w, size_t row, size_t n, size_t k, const sk_rounded *a, size_t m, float *c,
                         size_t ldc);

#ifdef __cplusplus
}
#endif
#endif
