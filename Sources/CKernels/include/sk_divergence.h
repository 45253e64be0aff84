// How far apart rows of numbers are: sums of exponentials over a vocabulary in double precision, and distances.
//
// SAFETY: as CKernels.h says; x, y, a and b hold n floats, any bits, and are only read; out what each text says.
//
// All sums run in the lanes and the tree of a dot product (`sk_dot_f32`), in double: element i in lane i mod 16.
#ifndef SK_DIVERGENCE_H
#define SK_DIVERGENCE_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

// out[0] = m, the largest of x; out[1] = sum of e^(x[i] - m): ln sum e^x = m + ln out[1]. The exponential is within 1 unit in the
// last place of a double, and 0 below e^-708. A NaN in x makes the sum one. n > 0. Twin: Reference.exponentialSum.
void sk_exp_sum(const float *x, size_t n, double *out);

// out[0], out[1] of x and out[2], out[3] of y as sk_exp_sum gives them, and out[4] = sum of e^(x[i] - m) ((x[i] - m) - (y[i] - m')),
// m and m' the largest of x and y, so that with p and q the softmaxes of x and y
//   sum of p (ln p - ln q) = out[4] / out[1] - ln out[1] + ln out[3]. Twin: Reference.divergence.
void sk_divergence(const float *x, const float *y, size_t n, double *out);

// out[0] = sum of (a - b)^2, out[1] = sum of a^2, out[2] = sum of b^2, out[3] = sum of a b, out[4] = the largest |a - b|, NaN if any
// is one. Twin: Reference.distance.
void sk_distance(const float *a, const float *b, size_t n, double *out);

// Index of the first element greater than `bound`, or n. Twin: Reference.firstAbove.
size_t sk_find_above(const float *x, size_t n, float bound);

#ifdef __cplusplus
}
#endif
#endif
