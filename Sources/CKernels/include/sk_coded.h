// The product of a few rows of activations with a weight as it is stored: codes and scales are read once and multiplied in
// registers, and no decoded row is written to memory. What a code stands for is in Formats/encodings.md; the sums have the one
// order of CKernels.h, and each number of the weight the same bits as its decoder gives, so that the products equal those of
// `sk_gemm_f32` with the decoded rows, bit for bit.
#ifndef SK_CODED_H
#define SK_CODED_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

// How codes are stored. Those from SK_CODED_Q8_0 on are GGUF's blocks, with the scales among the codes.
enum {
  SK_CODED_F32,
  SK_CODED_F16,
  SK_CODED_BF16,
  SK_CODED_E4M3,
  SK_CODED_E5M2,
  SK_CODED_INT8,
  SK_CODED_INT4, // column 2j the low nibble of byte j, as in E2M1
  SK_CODED_E2M1,
  SK_CODED_Q8_0,
  SK_CODED_Q8_1,
  SK_CODED_Q8_K,
  SK_CODED_Q4_0,
  SK_CODED_Q4_1,
  SK_CODED_Q5_0,
  SK_CODED_Q5_1,
  SK_CODED_Q1_0,
  SK_CODED_Q2_0,
  SK_CODED_Q2_K,
  SK_CODED_Q3_K,
  SK_CODED_Q4_K,
  SK_CODED_Q5_K,
  SK_CODED_Q6_K,
  SK_CODED_IQ4_NL,
  SK_CODED_IQ4_XS,
  SK_CODED_TQ1_0,
  SK_CODED_TQ2_0,
  SK_CODED_MXFP4,
  SK_CODED_NVFP4,
  SK_CODED_COUNT
};

// How scales beside the codes are stored: floats, powers of two (E8M0), or E4M3 that one float multiplies or divides.
enum {
  SK_SCALED_NOT,
  SK_SCALED_F32,
  SK_SCALED_F16,
  SK_SCALED_BF16,
  SK_SCALED_E8M0,
  SK_SCALED_E4M3_TIMES,
  SK_SCALED_E4M3_BY
};

// A weight of any number of rows. The scale of row r, column c is scales[r / scale_rows * scales_a_row + c / scale_columns], and
// its zero point is the byte of that index: signed for INT8, a nibble for INT4; without zero points INT4's codes are from -8 on.
typedef struct {
  const uint8_t *codes;
  size_t row_bytes; // from one row of codes to the next
  const uint8_t *scales;
  const uint8_t *zeros; // NULL without zero points
  size_t scale_rows;
  size_t scale_columns; // a multiple of 16, or at least k
  size_t scales_a_row;
  float global; // of SK_SCALED_E4M3_*
  int code;
  int scale;
} sk_coded;

// c[t * ldc + j] = dot product of row t of x and row `row + j` of w, t < m, j < n, of k columns (k > 0), in the order of
// `sk_dot_f32`, any k. GGUF's blocks are whole: k is a multiple of their columns.
// SAFETY: as CKernels.h says; x holds m rows of k floats, ldx apart, c m rows of n, ldc apart; rows row...row + n of w are there
// with their scales and zero points. Nothing is read beyond the last code of a row. m may be any number; the weight is unpacked
// once for all of them.
// Swift twin: Reference.gemm of the decoded rows.
void sk_multiply_coded(const sk_coded *w, size_t row, size_t n, size_t k, const float *x, size_t ldx, size_t m, float *c,
                       size_t ldc);

#ifdef __cplusplus
}
#endif
#endif
