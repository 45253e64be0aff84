// The bytes of 16- and 32-bit words as planes, most significant first, and back: what compresses better apart. Part of
// body.h.

// Rotating left by one bit brings the exponent's eight bits together in the high byte and the sign behind the mantissa.
static void k_split16_rotate(const uint8_t *restrict src, uint8_t *restrict dst, size_t n) {
  uint8_t *restrict low = dst + n;
  for (size_t i = 0; i < n; i++) {
    uint32_t v = load16(src + 2 * i);
    dst[i] = (uint8_t)(v >> 7);
    low[i] = (uint8_t)(v << 1 | v >> 15);
  }
}

static void k_join16_rotate(const uint8_t *restrict src, uint8_t *restrict dst, size_t n) {
  const uint8_t *restrict low = src + n;
  for (size_t i = 0; i < n; i++) {
    uint32_t v = (uint32_t)src[i] << 8 | low[i];
    store16(dst + 2 * i, (uint16_t)(v >> 1 | v << 15));
  }
}

static void k_split16(const uint8_t *restrict src, uint8_t *restrict dst, size_t n) {
  uint8_t *restrict low = dst + n;
  for (size_t i = 0; i < n; i++) {
    uint32_t v = load16(src + 2 * i);
    dst[i] = (uint8_t)(v >> 8);
    low[i] = (uint8_t)v;
  }
}

static void k_join16(const uint8_t *restrict src, uint8_t *restrict dst, size_t n) {
  const uint8_t *restrict low = src + n;
  for (size_t i = 0; i < n; i++) store16(dst + 2 * i, (uint16_t)((uint32_t)src[i] << 8 | low[i]));
}

static void k_split32_rotate(const uint8_t *restrict src, uint8_t *restrict dst, size_t n) {
  uint8_t *restrict p1 = dst + n, *restrict p2 = dst + 2 * n, *restrict p3 = dst + 3 * n;
  for (size_t i = 0; i < n; i++) {
    uint32_t v = load32(src + 4 * i);
    v = v << 1 | v >> 31;
    dst[i] = (uint8_t)(v >> 24);
    p1[i] = (uint8_t)(v >> 16);
    p2[i] = (uint8_t)(v >> 8);
    p3[i] = (uint8_t)v;
  }
}

static void k_join32_rotate(const uint8_t *restrict src, uint8_t *restrict dst, size_t n) {
  const uint8_t *restrict p1 = src + n, *restrict p2 = src + 2 * n, *restrict p3 = src + 3 * n;
  for (size_t i = 0; i < n; i++) {
    uint32_t v = (uint32_t)src[i] << 24 | (uint32_t)p1[i] << 16 | (uint32_t)p2[i] << 8 | p3[i];
    store32(dst + 4 * i, v >> 1 | v << 31);
  }
}
