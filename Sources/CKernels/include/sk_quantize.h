// What quantization needs beside the dispatched kernels.
#ifndef SK_QUANTIZE_H
#define SK_QUANTIZE_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

// How many a[i] differ from b[i] as numbers: -0 equals +0, NaN differs from everything.
size_t sk_count_different(const float *a, const float *b, size_t n);

#ifdef __cplusplus
}
#endif
#endif
