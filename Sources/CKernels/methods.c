// The pieces of a factorization that are not products: a panel's Cholesky factor and a small triangle's inverse, in double, k
// ascending and not fused. Panels are narrow (`InverseFactor.width`); the products around them do the work.
#include "sk_methods.h"

#include <math.h>

#pragma STDC FP_CONTRACT OFF

// Row by row, so that what is read of `other` was finished by an earlier row. Not positive also where the pivot is NaN.
int sk_cholesky_panel(double *a, size_t lda, size_t rows, size_t width) {
  for (size_t i = 0; i < rows; i++) {
    double *row = a + i * lda;
    for (size_t j = 0; j < width && j <= i; j++) {
      const double *other = a + j * lda;
      double sum = row[j];
      for (size_t p = 0; p < j; p++) sum -= row[p] * other[p];
      if (i == j) {
        if (!(sum > 0)) return -1;
        row[j] = sqrt(sum);
      } else {
        row[j] = sum / other[j];
      }
    }
  }
  return 0;
}

// Column after column in place: column j reads the columns right of it before they are inverted, and its own upper part after.
void sk_invert_lower(double *a, size_t lda, size_t n) {
  for (size_t j = 0; j < n; j++) {
    a[j * lda + j] = 1 / a[j * lda + j];
    for (size_t i = j + 1; i < n; i++) {
      double sum = 0;
      for (size_t p = j; p < i; p++) sum -= a[i * lda + p] * a[p * lda + j];
      a[i * lda + j] = sum / a[i * lda + i];
    }
  }
}
