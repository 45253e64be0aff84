// Hyper-connections' Sinkhorn, the compressor's pooling and rotations by halves. Sums run from the first entry to the last, products
// round before they are added, and exponentials are sk_exp's: the same bits on every machine.
#include "sk_forward.h"

#include "CKernels.h"

#pragma STDC FP_CONTRACT OFF

enum { CHANNELS = 256 }; // channels pooled together, so that scratch stays on the stack

static void divide_columns(float *c, size_t m, float eps) {
  for (size_t b = 0; b < m; b++) {
    float sum = 0;
    for (size_t a = 0; a < m; a++) sum += c[a * m + b];
    sum += eps;
    for (size_t a = 0; a < m; a++) c[a * m + b] /= sum;
  }
}

static void divide_rows(float *c, size_t m, float eps) {
  for (size_t a = 0; a < m; a++) {
    float sum = 0;
    for (size_t b = 0; b < m; b++) sum += c[a * m + b];
    sum += eps;
    for (size_t b = 0; b < m; b++) c[a * m + b] /= sum;
  }
}

// m is 4 as a rule: no loop here is worth a vector; the exponentials of a row are one call.
void sk_sinkhorn(float *c, size_t m, int iterations, float eps) {
  for (size_t a = 0; a < m; a++) {
    float *row = c + a * m, top = row[0], sum = 0;
    for (size_t b = 1; b < m; b++) top = row[b] > top ? row[b] : top;
    for (size_t b = 0; b < m; b++) row[b] -= top;
    sk_exp(row, row, m);
    for (size_t b = 0; b < m; b++) sum += row[b];
    for (size_t b = 0; b < m; b++) row[b] = row[b] / sum + eps;
  }
  divide_columns(c, m, eps);
  for (int i = 1; i < iterations; i++) {
    divide_rows(c, m, eps);
    divide_columns(c, m, eps);
  }
}

// Channels in runs of 256, slots inside: three arrays of a run stay in the first-level cache while the slots pass by.
void sk_pool_slots(const float *const *k, const float *const *g, size_t slots, float *out, size_t n) {
  float top[CHANNELS], sum[CHANNELS], e[CHANNELS];
  for (size_t d0 = 0; d0 < n; d0 += CHANNELS) {
    size_t w = n - d0 < CHANNELS ? n - d0 : CHANNELS;
    for (size_t d = 0; d < w; d++) top[d] = g[0][d0 + d];
    for (size_t s = 1; s < slots; s++)
      for (size_t d = 0; d < w; d++) top[d] = g[s][d0 + d] > top[d] ? g[s][d0 + d] : top[d];
    for (size_t d = 0; d < w; d++) sum[d] = out[d0 + d] = 0;
    for (size_t s = 0; s < slots; s++) {
      for (size_t d = 0; d < w; d++) e[d] = g[s][d0 + d] - top[d];
      sk_exp(e, e, w);
      for (size_t d = 0; d < w; d++) {
        sum[d] += e[d];
        out[d0 + d] += e[d] * k[s][d0 + d];
      }
    }
    for (size_t d = 0; d < w; d++) out[d0 + d] /= sum[d];
  }
}

void sk_rope_halves(float *x, const float *cosines, const float *sines, float sign, size_t n) {
  size_t half = n / 2;
  for (size_t i = 0; i < half; i++) {
    float a = x[i], b = x[i + half], c = cosines[i], s = sign * sines[i];
    x[i] = a * c - b * s;
    x[i + half] = b * c + a * s;
  }
}
