// The kernels for every machine: no instruction set beyond the compiler's default. Fused products go through
// fmaf(), slow without hardware and the same bits.
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
