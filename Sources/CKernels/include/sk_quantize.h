// What quantization needs beside the dispatched kernels.
//
// SAFETY: a and b hold n floats, any bits, table `count`; they are only read. `CodeGrid.check` passes the run's own count.
#ifndef SK_QUANTIZE_H
#define SK_QUANTIZE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

// The first of `count` blocks of so many bytes whose F16 at `place` is infinite or NaN, or count. SAFETY: reads two bytes of each block.
size_t sk_find_nonfinite_scale(const uint8_t *blocks, size_t count, size_t bytes, size_t place);

// What rounding may cost, times this: x / scale is itself rounded to float32 before it is rounded to a code.
#define SK_ROUNDING_SLACK 1.000244140625f

// Numbers a beside what was stored for them, b. A NaN is beyond.
typedef struct {
  size_t beyond;   // further from a than the nearest number that the codes can stand for
  size_t clipped;  // a lies outside the range of the codes by more than rounding
  float furthest;  // the furthest outside the range of the codes
} sk_rounding;

// Codes for numbers 2 x half apart from low to high. `slack` is allowed besides. Twin: Reference.checkEven.
sk_rounding sk_check_even(const float *a, const float *b, float half, float low, float high, float slack, size_t n);

// Codes for binary floats times scale: so many mantissa bits, normal numbers from least, largest magnitude most.
// scale > 0. Twin: Reference.checkBinary.
sk_rounding sk_check_binary(const float *a, const float *b, float scale, int mantissa, float least, float most, float slack,
                            size_t n);

// Codes for the numbers of a table times scale. Twin: Reference.checkTable.
sk_rounding sk_check_table(const float *a, const float *b, const float *table, size_t count, float scale, float slack,
                           size_t n);

#ifdef __cplusplus
}
#endif
#endif
