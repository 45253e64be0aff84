// The hot loops of Smelt, in C, dispatched at run time (baseline, AVX2+FMA, AVX-512; NEON on arm64).
//
// Sums keep one order on every machine with fused multiply-add, whatever its vector width, the number of threads
// or the number of rows handled together. The order of a dot product of length k (`sk_dot_f32` defines it):
//   columns are cut into blocks of SK_BLOCK; in a block, 16 partial sums, sum[l] = fma(a[16i+l], b[16i+l], sum[l]),
//   columns beyond k counting as zeros up to the next multiple of 16;
//   the 16 are added as a tree (l with l+8, then +4, +2, +1); block totals are added in order, first to last.
// Every kernel has a slow Swift twin in Tests/SmeltTestSupport/Twins/Reference*.swift, which tests hold it against.
//
// SAFETY: for all kernels of all headers here, unless a function's own note says more or less.
//   Length: a pointer is good for as many elements as the text beside it says; `n`, `m`, `k` and strides count elements, not
//   bytes. No kernel checks them. With a length of 0 nothing is read or written, and any pointer may be null.
//   Alignment: `float *` and `double *` may have any address that their type allows (4, 8); `uint8_t *`, `int8_t *` any at
//   all, whatever they hold. Vector code loads and stores unaligned.
//   Overlap: what is written overlaps nothing that is read, unless "in place" or "may be" is said.
//   Lifetime and threads: a kernel keeps no pointer, allocates nothing and has no state of its own but the table of kernels, so
//   that threads may run it at once on memory that none of them writes to for another.
// Who guarantees it: the Swift caller named in the note beside the call; sizes follow from `Weight`, which was checked when it
// was made.
#ifndef CKERNELS_H
#define CKERNELS_H

#include <stddef.h>
#include <stdint.h>

#include "sk_attention.h"
#include "sk_blocks.h"
#include "sk_codecs.h"
#include "sk_coded.h"
#include "sk_divergence.h"
#include "sk_faults.h"
#include "sk_forward.h"
#include "sk_groups.h"
#include "sk_integers.h"
#include "sk_methods.h"
#include "sk_quantize.h"
#include "sk_sequence.h"
#include "sk_system.h"

#ifdef __cplusplus
extern "C" {
#endif

#define SK_BLOCK 1024 // columns whose products are summed before the sum joins the total

// Instruction sets, in ascending order. sk_isa_best() is what this machine has.
enum {
  SK_ISA_BASELINE = 0,
  SK_ISA_AVX2 = 1,
  SK_ISA_AVX512 = 2,
  SK_ISA_AVX512_VNNI = 3,
  SK_ISA_AVX512_VBMI2 = 4,
  SK_ISA_NEON = 5
};
int sk_isa_best(void);
int sk_isa_available(int isa); // 1 if the machine can run it
int sk_isa_current(void);
// For tests and `bench`; ignored when the machine does not have it.
// SAFETY: the table is one atomic pointer, so a kernel that runs meanwhile is whole; which of two sets it ran with is open.
void sk_isa_force(int isa);
const char *sk_isa_name(int isa);
const char *sk_isa_word(int isa); // how SMELT_ISA spells it; null beyond the last one
// What the environment variable SMELT_ISA asks for: an instruction set, SK_ISA_ANY when it is not set or empty, SK_ISA_UNKNOWN for
// another word. The kernels run with it where the machine can, else with the best; the command refuses the rest.
enum { SK_ISA_ANY = -1, SK_ISA_UNKNOWN = -2 };
int sk_isa_asked(void);
int sk_isa_chosen(void); // what runs unless another is forced

// ---- decode: n codes to float32, each multiplied by scale (one rounding: code*scale) ----
// SAFETY: src holds n codes (2n bytes where a code has 16 bits, n/2 where it has 4), dst has room for n floats. Any code may be
// decoded without harm; those that are not numbers give the wrong ones, so `Encoding.validate` refuses them before.
void sk_decode_bf16(const uint8_t *src, float *dst, size_t n); // src may be unaligned; little-endian
void sk_decode_f16(const uint8_t *src, float *dst, size_t n);
void sk_decode_e4m3(const uint8_t *src, float scale, float *dst, size_t n); // no NaN codes inside (they would read as +-480)
void sk_decode_e5m2(const uint8_t *src, float scale, float *dst, size_t n); // no NaN/Inf codes inside
void sk_decode_int8(const int8_t *src, float scale, float *dst, size_t n);
// FP4 E2M1, hub nibble order: value 2j is the low nibble of byte j. n is even.
// One E8M0 scale byte for each 32 values: scales[i/32]. SAFETY: scales holds (n + 31) / 32 bytes.
void sk_decode_mxfp4(const uint8_t *src, const uint8_t *scales, float *dst, size_t n);
float sk_e8m0(uint8_t code); // 2^(code-127); 0 gives 2^-127; 255 gives NaN

// ---- encode: round to nearest, ties to even; saturate ----
// SAFETY: src holds n floats, any bits; dst has room for n codes (2n bytes for 16 bits, n/2 for E2M1). A scale of 0, infinity or
// NaN gives codes without meaning and nothing worse.
void sk_encode_bf16(const float *src, uint8_t *dst, size_t n);
void sk_encode_f16(const float *src, uint8_t *dst, size_t n); // overflow becomes infinity, as IEEE
// code = rne(x / scale), a true division (not a product with the reciprocal). NaN gives 0x7f (E4M3, E5M2), 0 (INT8), 7 (E2M1).
void sk_encode_e4m3(const float *src, float scale, uint8_t *dst, size_t n); // saturates to +-448
void sk_encode_e5m2(const float *src, float scale, uint8_t *dst, size_t n); // saturates to +-57344
void sk_encode_int8(const float *src, float scale, int8_t *dst, size_t n);  // saturates to +-127
void sk_encode_e2m1(const float *src, float scale, uint8_t *dst, size_t n); // packs 2 a byte, low nibble first; n even; +-6
// The same codes, and how many stand for another number than src has, as sk_count_different counts what they decode to. A scale
// is above zero here.
size_t sk_encode_counted_e4m3(const float *src, float scale, uint8_t *dst, size_t n);
size_t sk_encode_counted_int8(const float *src, float scale, uint8_t *dst, size_t n);

// ---- scans ----
// SAFETY: src holds n elements and is read once, front to back, at most to its end; so do x, w, absmax and sumsq.
float sk_largest_f32(const float *x, size_t n, float least); // the largest of x and least; NaN is ignored
float sk_absmax_f32(const float *src, size_t n);           // NaN is ignored, infinity is not; sk_count_nonfinite_f32 tells
uint32_t sk_peak_f32(const float *src, size_t n);          // bits of the largest magnitude; from 0x7f800000 on: not all are finite
// How many a[i] differ from b[i] as numbers: -0 equals +0, NaN differs from everything.
size_t sk_count_different(const float *a, const float *b, size_t n);
size_t sk_count_nonfinite_f32(const float *src, size_t n); // how many are NaN or infinite
// Index of the first code equal to a NaN (E4M3: 0x7f, 0xff; E5M2: 0x7c..0x7f, 0xfc..0xff; E8M0: 0xff), or n.
size_t sk_find_nan_e4m3(const uint8_t *src, size_t n);
size_t sk_find_nan_e5m2(const uint8_t *src, size_t n);
// Index of the first 2-byte little-endian float whose exponent bits (BF16: 0x7f80, F16: 0x7c00) are all set, or n.
size_t sk_find_nonfinite16(const uint8_t *src, uint16_t exponent, size_t n);
size_t sk_find_byte(const uint8_t *src, uint8_t byte, size_t n);
// sum over i of w[i] * (x[i] - scale*code(x[i]/scale))^2 in double, in the order of a dot product, each term
// fma(w*d, d, lane); w may be NULL (all 1).
double sk_error_int8(const float *x, const float *w, float scale, size_t n);
double sk_error_e4m3(const float *x, const float *w, float scale, size_t n);
// Of these two y is first lessened by gain * x, which is rounded by itself: the error of y as a likeness of (1 + gain) * x.
double sk_error_int4(const float *x, const float *w, float scale, float gain, size_t n); // codes -8...7
double sk_error_e2m1(const float *x, const float *w, float scale, float gain, size_t n);
// absmax[i] = max(absmax[i], |x[i]|); sumsq[i] += x[i]^2 (double)
void sk_observe(const float *x, float *absmax, double *sumsq, size_t n);

// ---- products ----
// SAFETY: a holds m rows of k floats, lda apart, w n rows, ldw apart, and c m rows of n, ldc apart; what lies between the end of
// one row and the next is neither read nor written. k is at most SK_BLOCK in sk_gemm_f32 (a longer one would be summed in
// another order, not out of bounds), any length in sk_dot_f32. c overlaps neither a nor w.
float sk_dot_f32(const float *a, const float *b, size_t k);
// c[i*ldc + j] = dot(a + i*lda, w + j*ldw) for i < m, j < n, k <= SK_BLOCK. When accumulate is 1, c += that total.
// Same order of summation as sk_dot_f32. Rows of a and w that begin at multiples of 64 bytes are a sixth faster.
void sk_gemm_f32(const float *a, size_t lda, const float *w, size_t ldw, float *c, size_t ldc, size_t m, size_t n,
                 size_t k, int accumulate);
// Bytes that will be needed next: `rows` of `bytes` each, `stride` apart.
// SAFETY: a hint; nothing is read, and any address will do.
typedef struct { const uint8_t *first; size_t rows, stride, bytes; } sk_ahead;
// The same, while the processor reads `next` (NULL: nothing) into its second-level cache, a few lines for each tile of products.
void sk_gemm_ahead_f32(const float *a, size_t lda, const float *w, size_t ldw, float *c, size_t ldc, size_t m, size_t n,
                       size_t k, int accumulate, const sk_ahead *next);
void sk_axpy_f32(float alpha, const float *x, float *y, size_t n); // y += alpha * x, fused

// ---- element-wise pieces of a forward pass ----
// SAFETY: every array has n floats (cosines and sines n/2; x of sk_mix_streams streams * n, c streams). Only what is said to be
// may be the same array; arrays that overlap in part never work.
float sk_sum_squares(const float *x, size_t n); // order of sk_dot_f32(x, x)
// dst[i] = x[i] * r * w[i], r = 1 / sqrtf(sum_squares(x)/n + eps), rounded as (x*r)*w; w may be NULL. dst may be x.
void sk_rms_norm(const float *x, const float *w, float eps, float *dst, size_t n);
// e^x within 2 units in the last place over float32's range; 0 below -104, +inf above 88.8; fixed polynomial with fma.
void sk_exp(const float *x, float *dst, size_t n);
// In place: x[i] = exp(x[i]-m)/(exp(sink-m)+sum), m = max(sink, x). sink = -INFINITY: plain softmax. -INFINITY entries give 0,
// also where all are -INFINITY.
void sk_softmax_sink(float *x, size_t n, float sink);
// dst[i] = silu(min(gate[i], limit)) * clamp(up[i], -limit, limit); limit = INFINITY: no clamp. dst may be gate.
void sk_swiglu(const float *gate, const float *up, float limit, float *dst, size_t n);
// dst[i] = gelu(gate[i]) * up[i], gelu(x) = x / (1 + e^(-2t)), t = sqrt(2/pi) (x + 0.044715 x^3): the approximation of the Gaussian
// error linear unit by tanh t. dst may be gate.
void sk_geglu(const float *gate, const float *up, float *dst, size_t n);
// Interleaved pairs (2i, 2i+1) of x[0..n): rotate by cos[i], sin[i]; sign = -1 undoes it.
void sk_rope_interleaved(float *x, const float *cosines, const float *sines, float sign, size_t n);
// Mixes the streams of a hyper-connection: x is [streams, n], out[t] = sum_j c[j]*x[j*n+t], j ascending, fused from j = 1 on.
void sk_mix_streams(const float *x, const float *c, size_t streams, float *out, size_t n);

// ---- byte planes (reversible; n in elements) ----
// SAFETY: src and dst have n elements of 2 or 4 bytes each and do not overlap: a plane is written before all of src is read.
void sk_split16_rotate(const uint8_t *src, uint8_t *dst, size_t n); // x=rol16(v,1): n high bytes (exponents), then n low bytes
void sk_join16_rotate(const uint8_t *src, uint8_t *dst, size_t n);
void sk_split16(const uint8_t *src, uint8_t *dst, size_t n); // n high bytes, then n low bytes (F16)
void sk_join16(const uint8_t *src, uint8_t *dst, size_t n);
void sk_split32_rotate(const uint8_t *src, uint8_t *dst, size_t n); // rol32 by 1, then four planes, highest byte first
void sk_join32_rotate(const uint8_t *src, uint8_t *dst, size_t n);

// ---- checksums ----
// SAFETY: data holds `length` bytes. Mapped files may be passed; whoever cuts one short while it is read ends the process
// (sk_faults.h). A state belongs to one thread at a time and is a plain value, which may be copied.
// CRC-32C of `crc`'s bytes followed by these; 0 is the sum of no bytes. Swift twin: Reference.crc32c.
uint32_t sk_crc32c(uint32_t crc, const void *data, size_t length);
uint64_t sk_xxh64(const void *data, size_t length, uint64_t seed);
typedef struct { uint64_t v[4]; uint64_t total; uint8_t buffer[32]; uint32_t filled; uint64_t seed; } sk_xxh64_state;
void sk_xxh64_init(sk_xxh64_state *s, uint64_t seed);
void sk_xxh64_update(sk_xxh64_state *s, const void *data, size_t length);
// As sk_xxh64_update, and gives the hash of these bytes alone, seed 0.
uint64_t sk_xxh64_update_twice(sk_xxh64_state *s, const void *data, size_t length);
uint64_t sk_xxh64_final(const sk_xxh64_state *s);

// ---- peaks for `smelt bench` ----
double sk_peak_f32_gflops(double seconds); // register-only fused multiply-adds, one core, current instruction set
double sk_peak_i8_gops(double seconds);    // the same for products of signed bytes: multiplications and additions

#ifdef __cplusplus
}
#endif
#endif
