// What AVX-512 does otherwise with VNNI: products of bytes. The target holds for the functions of this file only.
#if defined(__x86_64__)
#define SK_TABLE sk_table_avx512_vnni
#define SK_DOT8 SK_DOT8_VNNI
#define SK_CODEC SK_CODEC_AVX2
#define SK_CHANGED(X) X(multiply_rounded) X(peak8)
#include "shape_avx512.h"
#pragma clang attribute push(                                                                                       \
    __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512cd,avx512vnni,avx2,fma,f16c,bmi,bmi2,lzcnt,popcnt"))),         \
    apply_to = function)
#include "body.h"
#pragma clang attribute pop
#endif
