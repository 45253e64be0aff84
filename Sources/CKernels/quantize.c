#include "sk_quantize.h"

#include <stdint.h>

size_t sk_count_different(const float *a, const float *b, size_t n) {
  size_t total = 0;
  for (size_t start = 0; start < n; start += 1 << 16) {
    const size_t end = n - start < 1 << 16 ? n : start + (1 << 16);
    uint32_t count = 0; // as wide as a float, so that the loop becomes vector code
    for (size_t i = start; i < end; i++) count += a[i] != b[i];
    total += count;
  }
  return total;
}
