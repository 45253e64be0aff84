// The kernels for arm64: NEON, half precision conversion and fused products belong to the base instruction set.
#if defined(__aarch64__)
#define SK_TABLE sk_table_neon
#define SK_VL 4
#define SK_MR 3
#define SK_NR 2
#define SK_NR1 4
#define SK_STRIP_MAX strip_3
#define SK_CHAINS 24
#if defined(__ARM_FEATURE_DOTPROD) // in the base set of newer architectures and of Apple's
#define SK_DOT8 SK_DOT8_NEON
#else
#define SK_DOT8 SK_DOT8_PLAIN
#endif
#define SK_HALF 1
#define SK_CODEC SK_CODEC_NEON
#include <arm_neon.h>
#include "body.h"
#endif
