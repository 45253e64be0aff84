// Attention of a block of query rows over a run of keys, in three steps that lie between packed operands and plain rows of scores:
// products with panels of keys, softmax of whole rows, sums of values. Every number has one order of summation whatever the block:
// a score is sk_dot_f32's (16 lanes and their tree), a softmax is sk_softmax_sink's over the row's own keys, and an output is one
// chain of fused multiply-adds with keys ascending, as sk_axpy_f32 makes it key by key. Swift twins: Reference.attention and what it
// is made of.
//
// A row r sees the keys first[r] ..< end[r] of the run, first[r] <= end[r]; both arrays hold a number for each row.
//
// SAFETY: as CKernels.h says. Packed operands and scores begin at multiples of 4 bytes; at multiples of 64 they are faster. Nothing is
// read beyond the lengths stated here, and `end` is at most the number of keys.
#ifndef SK_ATTENTION_H
#define SK_ATTENTION_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

#define SK_PANEL 32 // keys of a panel

// Columns of a packed row: the width in whole runs of 16.
static inline size_t sk_packed_width(size_t width) { return (width + 15) / 16 * 16; }

// Keys as panels of SK_PANEL: in a panel, column l + 16 t of all its keys lies at l * (packed width / 16) + t, so that the columns of
// one lane of a dot product follow each other. n keys, ldk apart; the last panel is filled up with zeros.
// SAFETY: dst has room for (n + 31) / 32 * 32 * packed width floats.
void sk_pack_keys(const float *k, size_t ldk, size_t n, size_t width, float *dst);

// One row of queries in the same order of columns. SAFETY: dst has room for the packed width.
void sk_pack_query(const float *q, size_t width, float *dst);

// c[r * ldc + j] = dot(row r of q, key j), for the keys of all panels that hold one that the row, or a neighbour in its tile of 8, sees;
// the rest of c is as it was. q: packed rows; panels: whole ones, `keys` a multiple of SK_PANEL. width is at most SK_BLOCK.
// SAFETY: c has rows of `keys` floats, ldc apart.
void sk_scores(const float *q, const float *panels, size_t width, size_t rows, size_t keys, const size_t *first,
               const size_t *end, float *c, size_t ldc);

// In place, each row r: x[first ..< end] = softmax of x * scale with the sink (sk_softmax_sink; sinks null: none), and 0 for the other of
// the n keys. scale is above 0.
void sk_softmax_rows(float *x, size_t ldx, size_t rows, size_t n, float scale, const float *sinks, const size_t *first,
                     const size_t *end);

// The same for the keys of some runs of one row: runs[2 i] ..< runs[2 i + 1] for i < count, ascending, none in two, each beginning at
// a multiple of 16. The others of the row are neither read nor written; the bits are those of a row that holds -INFINITY there.
void sk_softmax_runs(float *x, const size_t *runs, size_t count, float scale, float sink);

// out[r] = the sum over keys j of p[r * ldp + j] * v[j], keys ascending, fused, from 0 on, or from what out holds when accumulate is 1.
// p has to be 0 for keys that a row does not see; whether they take part is open, so that a value that is not finite may make the row
// NaN: callers look. v: n rows of `width` floats, ldv apart; out: rows of `width`, ldo apart.
void sk_weigh_values(const float *p, size_t ldp, const float *v, size_t ldv, size_t rows, size_t n, size_t width,
                     const size_t *first, const size_t *end, int accumulate, float *out, size_t ldo);

// scores[j] += max(dots[h * ldd + j], 0) * weights[h] for h < heads, ascending, product and sum rounded each.
void sk_add_weighted_relu(const float *dots, size_t ldd, const float *weights, size_t heads, float *scores, size_t n);

#ifdef __cplusplus
}
#endif
#endif
