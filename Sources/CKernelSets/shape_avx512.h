// The kernels' shape with AVX-512, whatever is there beside it: sixteen lanes, 32 registers.
#define SK_VL 16
#define SK_MR 6
#define SK_NR 4
#define SK_NR1 4
#define SK_STRIP_MAX strip_6
#define SK_CHAINS 24
#define SK_HALF 1
#include <immintrin.h>
#include <string.h>
