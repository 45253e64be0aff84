// The kernels for x86-64 with AVX2, FMA and F16C. The target holds for the functions of this file only.
#if defined(__x86_64__)
#define SK_TABLE sk_table_avx2
#define SK_VL 8
#define SK_MR 3
#define SK_NR 2
#define SK_NR1 4
#define SK_STRIP_MAX strip_3
#define SK_CHAINS 10
#define SK_DOT8 SK_DOT8_WORDS
#define SK_HALF 1
#define SK_CODEC SK_CODEC_AVX2
#include <immintrin.h>
#include <string.h>
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c,bmi,bmi2,lzcnt,popcnt"))), apply_to = function)
#include "body.h"
#pragma clang attribute pop
#endif
