// What methods that look at whole rows need: a grid's rounding with the error passed on, and a factorization.
//
// SAFETY: as CKernels.h says, with these lengths: matrices [n, n] and rows as each text says; `scales` of sk_round_columns one
// for each of the n columns, of sk_refine_row one for each started group; `codes` and `errors` n; group > 0. All arrays of a call
// are apart: loops are vectorized on that promise (`restrict`). Factors that are 0 or NaN give codes without meaning, clamped
// to the grid; `GPTQ` and `Refinement` check that H has the weight's columns.
#ifndef SK_METHODS_H
#define SK_METHODS_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

// The numbers that a code may be: whole numbers low...high (codes in two's complement), E2M1 (low nibble), E4M3. NaN has
// the code low, 7 or 0x7f, and that code's value (0x7f reads as 480).
#define SK_GRID_WHOLE 0
#define SK_GRID_E2M1 1
#define SK_GRID_E4M3 2

// Rounds the columns from...to of one row in a block of n columns: code = nearest(w[c] / scales[c]), ties to even; then
// e = (w[c] - value) / u[c][c] is passed on, w[j] -= e * u[c][j] for the block's j > c. w[c] becomes the value, errors[c]
// is -e. u is [n, n], upper. The result is the sum of e^2. Swift twin: Reference.roundColumns.
double sk_round_columns(float *w, const float *u, size_t n, size_t from, size_t to, int kind, float low, float high,
                        const float *scales, uint8_t *codes, float *errors);
// One round of making e h e^T smaller, e what rounding changed in one row of n columns, g = h e, h [n, n] symmetric, v the
// rounded values: each group's scale becomes the best for its codes, as its format holds it (kept where that is E8M0, of
// the other sign or not normal), then each code the nearest to the best number for its column. spare is n floats. The
// result is the change of e h e^T. Swift twin: Reference.refineRow.
#define SK_SCALE_F32 0
#define SK_SCALE_BF16 1
#define SK_SCALE_F16 2
#define SK_SCALE_E8M0 3
double sk_refine_row(float *v, float *g, const float *h, size_t n, size_t group, int kind, float low, float high,
                     int format, float *scales, uint8_t *codes, float *spare);
// Columns first...first + count of one row, v, g, h and n as in sk_refine_row, which share a scale: for each candidate the codes
// are chosen again in at most `sweeps` rounds, each the nearest to the best number for its column; the candidate with the
// smallest e h e^T, the first of equals, is taken where that is below what it was. *scale, v, codes and g follow. spare is
// 3 count floats, spare_codes 2 count bytes. The result is the change of e h e^T. Swift twin: Reference.descendGroup.
double sk_descend_group(float *v, float *g, const float *h, size_t n, size_t first, size_t count, int kind, float low,
                        float high, const float *candidates, size_t candidate_count, size_t sweeps, float *scale,
                        uint8_t *codes, float *spare, uint8_t *spare_codes);
// code[i] = nearest(w[i] / scale), w[i] becomes the code's value. Swift twin: Reference.roundGrid.
void sk_round_grid(float *w, int kind, float low, float high, float scale, uint8_t *codes, size_t n);
// sum over i of weight[i] * (x[i] - value(x[i] / scale))^2 in double, i ascending in 8 lanes; weight may be NULL. Swift
// twin: Reference.gridError.
double sk_grid_error(const float *x, const float *weight, float scale, int kind, float low, float high, size_t n);
// c -= a * b; a is [m, k], b [k, n], rows lda, ldb and ldc doubles apart; for each sum k ascending, not fused. Swift twin:
// Reference.subtractProduct.
void sk_subtract_product(double *c, size_t ldc, const double *a, size_t lda, const double *b, size_t ldb, size_t m,
                         size_t k, size_t n);
// The first `width` columns of a [rows, *] become those of its lower Cholesky factor. 0, or -1 where a pivot is not
// positive. Swift twin: Reference.choleskyPanel.
int sk_cholesky_panel(double *a, size_t lda, size_t rows, size_t width);
// The inverse of a lower triangle [n, n], in place. Swift twin: Reference.invertLower.
void sk_invert_lower(double *a, size_t lda, size_t n);

#ifdef __cplusplus
}
#endif
#endif
