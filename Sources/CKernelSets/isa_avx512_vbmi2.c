// What AVX-512 with VNNI does otherwise with the byte shuffles of VBMI and VBMI2: bit planes, and products with codes of four bits, which
// the compiler takes apart in fewer steps. The target holds for the functions of this file only.
#if defined(__x86_64__)
#define SK_TABLE sk_table_avx512_vbmi2
#define SK_DOT8 SK_DOT8_VNNI
#define SK_CODEC SK_CODEC_VBMI2
#define SK_CHANGED(X) X(multiply_coded) X(planes16_encode) X(planes16_decode) X(planes8_encode) X(planes8_decode)
#include "shape_avx512.h"
#pragma clang attribute push(                                                                                       \
    __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512cd,avx512vbmi,avx512vbmi2,avx512vnni,avx2,fma,f16c,bmi,bmi2,lzcnt,popcnt"))),     \
    apply_to = function)
#include "body.h"
#pragma clang attribute pop
#endif
