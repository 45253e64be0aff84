// The kernels for every machine: no instruction set beyond the compiler's default. Fused products go through
// fmaf(), slow without hardware and the same bits.
#if defined(__x86_64__) && !defined(__FMA__)
#include <stddef.h>

// A fused product without the instruction is a call of fmaf() for each number. Written out at every place, with the moves around each call,
// they made this set more than twice as large as any other: here a whole vector is one call.
static __attribute__((noinline)) void fuse_f32(float *c, const float *a, const float *b, size_t n) {
  for (size_t i = 0; i < n; i++) c[i] = __builtin_fmaf(a[i], b[i], c[i]);
}

static __attribute__((noinline)) void fuse_f64(double *c, const double *a, const double *b, size_t n) {
  for (size_t i = 0; i < n; i++) c[i] = __builtin_fma(a[i], b[i], c[i]);
}

#define __builtin_elementwise_fma(a, b, c)                                                             \
  ({                                                                                                   \
    __auto_type fused_c = (c);                                                                         \
    const __typeof__(fused_c) fused_a = (a), fused_b = (b);                                            \
    if (sizeof(fused_c[0]) == sizeof(double)) {                                                        \
      fuse_f64((double *)&fused_c, (const double *)&fused_a, (const double *)&fused_b,                 \
               sizeof(fused_c) / sizeof(double));                                                      \
    } else {                                                                                           \
      fuse_f32((float *)&fused_c, (const float *)&fused_a, (const float *)&fused_b,                    \
               sizeof(fused_c) / sizeof(float));                                                       \
    }                                                                                                  \
    fused_c;                                                                                           \
  })
#endif

#define SK_TABLE sk_table_baseline
#define SK_VL 4
#define SK_MR 2
#define SK_NR 2
#define SK_NR1 4
#define SK_STRIP_MAX strip_2
#define SK_CHAINS 8
#define SK_DOT8 SK_DOT8_PLAIN
#define SK_HALF 0
#define SK_CODEC SK_CODEC_PLAIN
#include "body.h"
