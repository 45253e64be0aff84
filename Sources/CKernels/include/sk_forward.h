// Small pieces of forward passes that are hot enough for C but need no instruction-set variants of their own.
//
// SAFETY: as CKernels.h says. `c` holds m * m floats and is changed in place, m > 0 and iterations > 0; `k` and `g` hold `slots`
// pointers, at least one, each to n floats; `out` has n floats and overlaps none of them; x has n, cosines and sines n / 2.
#ifndef SK_FORWARD_H
#define SK_FORWARD_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

// Sinkhorn of one m×m matrix of logits, in place: softmax of each row, + eps on every entry, columns divided by
// (their sum + eps); then iterations-1 times rows and columns alike. Swift twin: Reference.sinkhorn.
void sk_sinkhorn(float *c, size_t m, int iterations, float eps);

// out[d] = sum_s softmax_s(g[s][d]) * k[s][d] for d < n: a softmax over slots for each channel on its own.
// Swift twin: Reference.poolSlots.
void sk_pool_slots(const float *const *k, const float *const *g, size_t slots, float *out, size_t n);

// Pairs (i, i + n/2) of x[0..n): rotate by cos[i], sin[i]; sign = -1 undoes it. Swift twin: Reference.ropeHalves.
void sk_rope_halves(float *x, const float *cosines, const float *sines, float sign, size_t n);

#ifdef __cplusplus
}
#endif
#endif
