// Comparing what was stored with what it stands for. One pass over a and b without branches; comparisons are counted as 0 or 1, so
// that a NaN, for which no comparison holds, counts where `!(… <= …)` stands.
#include "sk_quantize.h"

#include <math.h>
#include <stdint.h>
#include <string.h>

size_t sk_find_nonfinite_scale(const uint8_t *blocks, size_t count, size_t bytes, size_t place) {
  size_t i = 0;
  for (const uint8_t *p = blocks + place; i < count; i++, p += bytes) {
    uint16_t half;
    memcpy(&half, p, 2);
    if ((half & 0x7c00) == 0x7c00) return i;
  }
  return count;
}

// Rows longer than this are counted in pieces, so that 32-bit counters hold.
#define SK_PIECE ((size_t)1 << 20)

// Adds one piece's counts.
static void add(sk_rounding *sum, uint32_t beyond, uint32_t clipped, float furthest) {
  sum->beyond += beyond;
  sum->clipped += clipped;
  if (furthest > sum->furthest) sum->furthest = furthest;
}

sk_rounding sk_check_even(const float *a, const float *b, float half, float low, float high, float slack, size_t n) {
  sk_rounding sum = {0, 0, 0};
  for (size_t start = 0; start < n; start += SK_PIECE) {
    const size_t end = n - start < SK_PIECE ? n : start + SK_PIECE;
    uint32_t beyond = 0, clipped = 0;
    float furthest = 0;
    for (size_t i = start; i < end; i++) {
      const float over = a[i] - high, under = low - a[i];
      const float out = over > under ? over : under;
      const float allowed = (out > half ? out : half) * SK_ROUNDING_SLACK + slack;
      beyond += !(fabsf(a[i] - b[i]) <= allowed);
      clipped += out > half * SK_ROUNDING_SLACK + slack;
      furthest = out > furthest ? out : furthest;
    }
    add(&sum, beyond, clipped, furthest);
  }
  return sum;
}

// Half a step at a[i]: the power of two at or below |a| / scale (its exponent bits alone) times `share`.
sk_rounding sk_check_binary(const float *a, const float *b, float scale, int mantissa, float least, float most, float slack,
                            size_t n) {
  sk_rounding sum = {0, 0, 0};
  const float inverse = 1 / scale, end_value = most * scale;
  float share = scale;  // half a step of the binade from 1 on
  for (int i = 0; i <= mantissa; i++) share /= 2;
  for (size_t start = 0; start < n; start += SK_PIECE) {
    const size_t end = n - start < SK_PIECE ? n : start + SK_PIECE;
    uint32_t beyond = 0, clipped = 0;
    float furthest = 0;
    for (size_t i = start; i < end; i++) {
      float t = fabsf(a[i]) * inverse;
      t = t < least ? least : t > most ? most : t;
      uint32_t bits;
      memcpy(&bits, &t, 4);
      bits &= 0x7f800000;
      memcpy(&t, &bits, 4);
      const float half = t * share, out = fabsf(a[i]) - end_value;
      const float allowed = (out > half ? out : half) * SK_ROUNDING_SLACK + slack;
      beyond += !(fabsf(a[i] - b[i]) <= allowed);
      clipped += out > half * SK_ROUNDING_SLACK + slack;
      furthest = out > furthest ? out : furthest;
    }
    add(&sum, beyond, clipped, furthest);
  }
  return sum;
}

sk_rounding sk_check_table(const float *a, const float *b, const float *table, size_t count, float scale, float slack,
                           size_t n) {
  sk_rounding sum = {0, 0, 0};
  for (size_t i = 0; i < n; i++) {
    float nearest = INFINITY, low = INFINITY, high = -INFINITY;
    for (size_t k = 0; k < count; k++) {
      const float value = table[k] * scale, distance = fabsf(a[i] - value);
      nearest = distance < nearest ? distance : nearest;
      low = value < low ? value : low;
      high = value > high ? value : high;
    }
    const float out = a[i] > high ? a[i] - high : low - a[i];
    add(&sum, !(fabsf(a[i] - b[i]) <= nearest * SK_ROUNDING_SLACK + slack), out > slack, out);
  }
  return sum;
}
