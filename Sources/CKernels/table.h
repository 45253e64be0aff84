// The list of dispatched kernels, once: it makes the struct of function pointers, each instruction set's table
// (the last lines of body.h) and the public functions (dispatch.c). Names and signatures are those of CKernels.h
// without `sk_`.
#ifndef SK_TABLE_H
#define SK_TABLE_H

#include "include/CKernels.h"

#define SK_BLOCK_KERNEL(X, type)                                                                                     \
  X(int64_t, encode_##type, (const float *src, const float *w, uint8_t *dst, size_t n), (src, w, dst, n))

#define SK_BLOCK_DECODER(X, type)                                                                                    \
  X(void, decode_##type, (const uint8_t *src, float *dst, size_t n), (src, dst, n))

// X(result, name, parameters, arguments)
#define SK_KERNELS(X)                                                                                                \
  X(void, decode_bf16, (const uint8_t *src, float *dst, size_t n), (src, dst, n))                                    \
  X(void, decode_f16, (const uint8_t *src, float *dst, size_t n), (src, dst, n))                                     \
  X(void, decode_e4m3, (const uint8_t *src, float scale, float *dst, size_t n), (src, scale, dst, n))                \
  X(void, decode_e5m2, (const uint8_t *src, float scale, float *dst, size_t n), (src, scale, dst, n))                \
  X(void, decode_int8, (const int8_t *src, float scale, float *dst, size_t n), (src, scale, dst, n))                 \
  X(void, decode_mxfp4, (const uint8_t *src, const uint8_t *scales, float *dst, size_t n), (src, scales, dst, n))    \
  X(void, encode_bf16, (const float *src, uint8_t *dst, size_t n), (src, dst, n))                                    \
  X(void, encode_f16, (const float *src, uint8_t *dst, size_t n), (src, dst, n))                                     \
  X(void, encode_e4m3, (const float *src, float scale, uint8_t *dst, size_t n), (src, scale, dst, n))                \
  X(void, encode_e5m2, (const float *src, float scale, uint8_t *dst, size_t n), (src, scale, dst, n))                \
  X(void, encode_int8, (const float *src, float scale, int8_t *dst, size_t n), (src, scale, dst, n))                 \
  X(void, encode_e2m1, (const float *src, float scale, uint8_t *dst, size_t n), (src, scale, dst, n))                \
  X(size_t, encode_counted_e4m3, (const float *src, float scale, uint8_t *dst, size_t n), (src, scale, dst, n))      \
  X(size_t, encode_counted_int8, (const float *src, float scale, uint8_t *dst, size_t n), (src, scale, dst, n))      \
  X(uint32_t, peak_f32, (const float *src, size_t n), (src, n))                                                      \
  X(size_t, count_different, (const float *a, const float *b, size_t n), (a, b, n))                                  \
  X(float, absmax_f32, (const float *src, size_t n), (src, n))                                                       \
  X(size_t, count_nonfinite_f32, (const float *src, size_t n), (src, n))                                             \
  X(size_t, find_nan_e4m3, (const uint8_t *src, size_t n), (src, n))                                                 \
  X(size_t, find_nan_e5m2, (const uint8_t *src, size_t n), (src, n))                                                 \
  X(size_t, find_nonfinite16, (const uint8_t *src, uint16_t exponent, size_t n), (src, exponent, n))                 \
  X(size_t, find_byte, (const uint8_t *src, uint8_t byte, size_t n), (src, byte, n))                                 \
  X(double, error_int8, (const float *x, const float *w, float scale, size_t n), (x, w, scale, n))                   \
  X(double, error_e4m3, (const float *x, const float *w, float scale, size_t n), (x, w, scale, n))                   \
  X(double, error_int4, (const float *x, const float *w, float scale, float gain, size_t n), (x, w, scale, gain, n)) \
  X(double, error_e2m1, (const float *x, const float *w, float scale, float gain, size_t n), (x, w, scale, gain, n)) \
  X(void, observe, (const float *x, float *absmax, double *sumsq, size_t n), (x, absmax, sumsq, n))                  \
  X(float, dot_f32, (const float *a, const float *b, size_t k), (a, b, k))                                           \
  X(void, gemm_f32,                                                                                                  \
    (const float *a, size_t lda, const float *w, size_t ldw, float *c, size_t ldc, size_t m, size_t n, size_t k,     \
     int accumulate),                                                                                                \
    (a, lda, w, ldw, c, ldc, m, n, k, accumulate))                                                                   \
  X(float, largest_f32, (const float *x, size_t n, float least), (x, n, least))                                      \
  X(void, gemm_ahead_f32,                                                                                            \
    (const float *a, size_t lda, const float *w, size_t ldw, float *c, size_t ldc, size_t m, size_t n, size_t k,     \
     int accumulate, const sk_ahead *next),                                                                          \
    (a, lda, w, ldw, c, ldc, m, n, k, accumulate, next))                                                             \
  X(void, multiply_coded,                                                                                            \
    (const sk_coded *w, size_t row, size_t n, size_t k, const float *x, size_t ldx, size_t m, float *c, size_t ldc), \
    (w, row, n, k, x, ldx, m, c, ldc))                                                                               \
  X(float, round_row, (const float *x, size_t n, float scale, int8_t *codes, int32_t *sum), (x, n, scale, codes, sum)) \
  X(int, round_blocks_32, (const float *x, size_t n, int8_t *codes, int16_t *sums, float *scales),                    \
    (x, n, codes, sums, scales))                                                                                     \
  X(int, round_blocks_256, (const float *x, size_t n, int8_t *codes, int16_t *sums, float *scales),                   \
    (x, n, codes, sums, scales))                                                                                     \
  X(void, multiply_rounded,                                                                                          \
    (const sk_integers *w, size_t row, size_t n, size_t k, const sk_rounded *a, size_t m, float *c, size_t ldc),     \
    (w, row, n, k, a, m, c, ldc))                                                                                    \
  X(void, axpy_f32, (float alpha, const float *x, float *y, size_t n), (alpha, x, y, n))                             \
  X(float, sum_squares, (const float *x, size_t n), (x, n))                                                          \
  X(void, rms_norm, (const float *x, const float *w, float eps, float *dst, size_t n), (x, w, eps, dst, n))          \
  X(void, exp, (const float *x, float *dst, size_t n), (x, dst, n))                                                  \
  X(void, softmax_sink, (float *x, size_t n, float sink), (x, n, sink))                                              \
  X(void, swiglu, (const float *gate, const float *up, float limit, float *dst, size_t n), (gate, up, limit, dst, n)) \
  X(void, geglu, (const float *gate, const float *up, float *dst, size_t n), (gate, up, dst, n))                       \
  X(void, rope_interleaved, (float *x, const float *cosines, const float *sines, float sign, size_t n),              \
    (x, cosines, sines, sign, n))                                                                                    \
  X(void, mix_streams, (const float *x, const float *c, size_t streams, float *out, size_t n),                       \
    (x, c, streams, out, n))                                                                                         \
  X(void, split16_rotate, (const uint8_t *src, uint8_t *dst, size_t n), (src, dst, n))                               \
  X(void, join16_rotate, (const uint8_t *src, uint8_t *dst, size_t n), (src, dst, n))                                \
  X(void, split16, (const uint8_t *src, uint8_t *dst, size_t n), (src, dst, n))                                      \
  X(void, join16, (const uint8_t *src, uint8_t *dst, size_t n), (src, dst, n))                                       \
  X(void, split32_rotate, (const uint8_t *src, uint8_t *dst, size_t n), (src, dst, n))                               \
  X(void, join32_rotate, (const uint8_t *src, uint8_t *dst, size_t n), (src, dst, n))                                 \
  X(size_t, planes16_encode,                                                                                         \
    (const uint8_t *src, size_t n, uint8_t *dst, size_t capacity, uint8_t *scratch), (src, n, dst, capacity, scratch)) \
  X(int, planes16_decode,                                                                                            \
    (const uint8_t *stored, size_t stored_count, uint8_t *dst, size_t n, uint8_t *scratch, size_t *place),           \
    (stored, stored_count, dst, n, scratch, place))                                                                  \
  X(size_t, planes8_encode,                                                                                          \
    (const uint8_t *src, size_t n, uint8_t *dst, size_t capacity, uint8_t *scratch), (src, n, dst, capacity, scratch)) \
  X(int, planes8_decode,                                                                                             \
    (const uint8_t *stored, size_t stored_count, uint8_t *dst, size_t n, uint8_t *scratch, size_t *place),           \
    (stored, stored_count, dst, n, scratch, place))                                                                  \
  X(void, count_bytes, (const uint8_t *src, size_t n, uint32_t *counts), (src, n, counts))                             \
  X(void, split_nibbles, (const uint8_t *src, size_t n, int rotate, uint8_t *high, uint8_t *low),                    \
    (src, n, rotate, high, low))                                                                                     \
  X(void, join_nibbles, (const uint8_t *high, const uint8_t *low, size_t n, int rotate, uint8_t *dst),               \
    (high, low, n, rotate, dst))                                                                                     \
  X(size_t, split_pairs16,                                                                                           \
    (const uint8_t *src, size_t n, uint8_t base, uint8_t *nibbles, uint8_t *low, uint8_t *escapes),                  \
    (src, n, base, nibbles, low, escapes))                                                                           \
  X(size_t, join_pairs16,                                                                                            \
    (const uint8_t *nibbles, const uint8_t *low, size_t n, uint8_t base, const uint8_t *escapes, size_t escape_count, \
     uint8_t *dst),                                                                                                  \
    (nibbles, low, n, base, escapes, escape_count, dst))                                                             \
  X(double, round_columns,                                                                                           \
    (float *w, const float *u, size_t n, size_t from, size_t to, int kind, float low, float high,                    \
     const float *scales, uint8_t *codes, float *errors),                                                            \
    (w, u, n, from, to, kind, low, high, scales, codes, errors))                                                     \
  X(void, round_grid,                                                                                                \
    (float *w, int kind, float low, float high, float scale, uint8_t *codes, size_t n),                              \
    (w, kind, low, high, scale, codes, n))                                                                           \
  X(double, refine_row,                                                                                              \
    (float *v, float *g, const float *h, size_t n, size_t group, int kind, float low, float high, int format,        \
     float *scales, uint8_t *codes, float *spare),                                                                   \
    (v, g, h, n, group, kind, low, high, format, scales, codes, spare))                                              \
  X(double, descend_group,                                                                                           \
    (float *v, float *g, const float *h, size_t n, size_t first, size_t count, int kind, float low, float high,      \
     const float *candidates, size_t candidate_count, size_t sweeps, float *scale, uint8_t *codes, float *spare,     \
     uint8_t *spare_codes),                                                                                          \
    (v, g, h, n, first, count, kind, low, high, candidates, candidate_count, sweeps, scale, codes, spare,            \
     spare_codes))                                                                                                   \
  X(double, grid_error,                                                                                              \
    (const float *x, const float *weight, float scale, int kind, float low, float high, size_t n),                   \
    (x, weight, scale, kind, low, high, n))                                                                          \
  X(void, subtract_product,                                                                                          \
    (double *c, size_t ldc, const double *a, size_t lda, const double *b, size_t ldb, size_t m, size_t k, size_t n), \
    (c, ldc, a, lda, b, ldb, m, k, n))                                                                               \
  X(void, convolve,                                                                                                  \
    (const float *x, const float *before, const float *w, const float *bias, size_t kernel, size_t from, size_t to,  \
     size_t n, int silu, float *out),                                                                                \
    (x, before, w, bias, kernel, from, to, n, silu, out))                                                            \
  X(void, exp_sum, (const float *x, size_t n, double *out), (x, n, out))                                             \
  X(void, divergence, (const float *x, const float *y, size_t n, double *out), (x, y, n, out))                       \
  X(void, distance, (const float *a, const float *b, size_t n, double *out), (a, b, n, out))                         \
  X(size_t, find_above, (const float *x, size_t n, float bound), (x, n, bound))                                      \
  X(void, pack_keys, (const float *k, size_t ldk, size_t n, size_t width, float *dst), (k, ldk, n, width, dst))       \
  X(void, pack_query, (const float *q, size_t width, float *dst), (q, width, dst))                                   \
  X(void, scores,                                                                                                    \
    (const float *q, const float *panels, size_t width, size_t rows, size_t keys, const size_t *first,               \
     const size_t *end, float *c, size_t ldc),                                                                       \
    (q, panels, width, rows, keys, first, end, c, ldc))                                                              \
  X(void, softmax_runs, (float *x, const size_t *runs, size_t count, float scale, float sink),                       \
    (x, runs, count, scale, sink))                                                                                   \
  X(void, softmax_rows,                                                                                              \
    (float *x, size_t ldx, size_t rows, size_t n, float scale, const float *sinks, const size_t *first,              \
     const size_t *end),                                                                                             \
    (x, ldx, rows, n, scale, sinks, first, end))                                                                     \
  X(void, weigh_values,                                                                                              \
    (const float *p, size_t ldp, const float *v, size_t ldv, size_t rows, size_t n, size_t width,                    \
     const size_t *first, const size_t *end, int accumulate, float *out, size_t ldo),                                \
    (p, ldp, v, ldv, rows, n, width, first, end, accumulate, out, ldo))                                              \
  X(void, add_weighted_relu,                                                                                         \
    (const float *dots, size_t ldd, const float *weights, size_t heads, float *scores, size_t n),                    \
    (dots, ldd, weights, heads, scores, n))                                                                          \
  X(void, delta_rule, (const sk_mixing *m, float eps), (m, eps))                                                     \
  X(void, state_space, (const sk_mixing *m), (m))                                                                    \
  SK_BLOCK_KERNEL(X, q8_0)                                                                                           \
  SK_BLOCK_KERNEL(X, q4_0)                                                                                           \
  SK_BLOCK_KERNEL(X, q4_1)                                                                                           \
  SK_BLOCK_KERNEL(X, q5_0)                                                                                           \
  SK_BLOCK_KERNEL(X, q5_1)                                                                                           \
  SK_BLOCK_KERNEL(X, q2_k)                                                                                           \
  SK_BLOCK_KERNEL(X, q3_k)                                                                                           \
  SK_BLOCK_KERNEL(X, q4_k)                                                                                           \
  SK_BLOCK_KERNEL(X, q5_k)                                                                                           \
  SK_BLOCK_KERNEL(X, q6_k)                                                                                           \
  SK_BLOCK_KERNEL(X, iq4_nl)                                                                                         \
  SK_BLOCK_KERNEL(X, iq4_xs)                                                                                         \
  SK_BLOCK_KERNEL(X, mxfp4_gguf)                                                                                     \
  SK_BLOCK_KERNEL(X, nvfp4_gguf)                                                                                     \
  SK_BLOCK_KERNEL(X, q1_0)                                                                                           \
  SK_BLOCK_KERNEL(X, q2_0)                                                                                           \
  SK_BLOCK_KERNEL(X, tq1_0)                                                                                          \
  SK_BLOCK_KERNEL(X, tq2_0)                                                                                          \
  SK_BLOCK_DECODER(X, q8_0)                                                                                          \
  SK_BLOCK_DECODER(X, q8_1)                                                                                          \
  SK_BLOCK_DECODER(X, q8_k)                                                                                          \
  SK_BLOCK_DECODER(X, q4_0)                                                                                          \
  SK_BLOCK_DECODER(X, q4_1)                                                                                          \
  SK_BLOCK_DECODER(X, q5_0)                                                                                          \
  SK_BLOCK_DECODER(X, q5_1)                                                                                          \
  SK_BLOCK_DECODER(X, q1_0)                                                                                          \
  SK_BLOCK_DECODER(X, q2_0)                                                                                          \
  SK_BLOCK_DECODER(X, iq4_nl)                                                                                        \
  SK_BLOCK_DECODER(X, mxfp4_gguf)                                                                                    \
  SK_BLOCK_DECODER(X, nvfp4_gguf)                                                                                    \
  SK_BLOCK_DECODER(X, q2_k)                                                                                          \
  SK_BLOCK_DECODER(X, q3_k)                                                                                          \
  SK_BLOCK_DECODER(X, q4_k)                                                                                          \
  SK_BLOCK_DECODER(X, q5_k)                                                                                          \
  SK_BLOCK_DECODER(X, q6_k)                                                                                          \
  SK_BLOCK_DECODER(X, iq4_xs)                                                                                        \
  SK_BLOCK_DECODER(X, tq1_0)                                                                                         \
  SK_BLOCK_DECODER(X, tq2_0)

typedef struct {
#define SK_FIELD(result, name, parameters, arguments) result(*name) parameters;
  SK_KERNELS(SK_FIELD)
#undef SK_FIELD
  double (*peak)(size_t rounds, float *sink); // runs fused multiply-adds in registers; gives how many operations
  double (*peak8)(size_t rounds, int8_t *sink); // the same with products of bytes
} sk_table;

extern const sk_table sk_table_baseline;
#if defined(__x86_64__)
extern const sk_table sk_table_avx2, sk_table_avx512;
extern const sk_table sk_table_avx512_vnni, sk_table_avx512_vbmi2; // what they change of another: dispatch.c
#elif defined(__aarch64__)
extern const sk_table sk_table_neon;
#endif

const sk_table *sk_current_table(void);

#endif
