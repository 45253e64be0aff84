// CRC-32C (Castagnoli's polynomial 0x1EDC6F41, reflected: RFC 3720, section 12.1): tables, the instruction of x86-64 and
// arm64 on three strands, and carry-less products of whole registers.
#include "table.h"

#include <string.h>
#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_acle.h>
#if defined(__linux__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif
#endif

#define POLYNOMIAL 0x82f63b78u // bit 0 is x^31
#define STRAND 2048            // bytes of one strand; three run at once

static uint64_t read64(const uint8_t *p) { uint64_t v; memcpy(&v, p, 8); return v; }

// ---- what follows from the polynomial, made when the program is loaded ----

static uint32_t table[8][256];       // [t][b]: the remainder of byte b before t zero bytes
static uint32_t over_strand[4][256]; // [i][b]: the remainder of b, byte i of a remainder, before STRAND zero bytes
static uint64_t fold_by[17][2];      // [l]: what the halves of 16 bytes are multiplied by to move them l times 16 bytes on

static uint32_t times_x(uint32_t c) { return c >> 1 ^ (c & 1 ? POLYNOMIAL : 0); }

static uint32_t over_byte(uint32_t c) { return c >> 8 ^ table[0][c & 0xff]; }

static uint32_t power_of_x(int n) {
  uint32_t c = 0x80000000u;
  while (n-- > 0) c = times_x(c);
  return c;
}

__attribute__((constructor)) static void make_tables(void) {
  for (uint32_t b = 0; b < 256; b++) {
    uint32_t c = b;
    for (int i = 0; i < 8; i++) c = times_x(c);
    table[0][b] = c;
  }
  for (int t = 1; t < 8; t++)
    for (int b = 0; b < 256; b++) table[t][b] = over_byte(table[t - 1][b]);
  // A remainder is linear in its bits: bits first, then sums of them.
  for (int i = 0; i < 4; i++)
    for (uint32_t b = 1; b < 256; b++) {
      const uint32_t rest = b & (b - 1);
      uint32_t c = (b ^ rest) << (8 * i);
      if (rest == 0)
        for (int k = 0; k < STRAND; k++) c = over_byte(c);
      over_strand[i][b] = rest == 0 ? c : over_strand[i][rest] ^ over_strand[i][b ^ rest];
    }
  for (int l = 1; l <= 16; l++) {
    fold_by[l][0] = (uint64_t)power_of_x(128 * l + 32) << 1;
    fold_by[l][1] = (uint64_t)power_of_x(128 * l - 32) << 1;
  }
}

static uint32_t crc_plain(uint32_t c, const uint8_t *p, size_t n) {
  for (; n >= 8; n -= 8, p += 8) {
    const uint64_t v = read64(p) ^ c;
    c = 0;
    for (int i = 0; i < 8; i++) c ^= table[7 - i][v >> (8 * i) & 0xff];
  }
  for (; n > 0; n--, p++) c = over_byte(c ^ *p);
  return c;
}

// ---- the instruction ----

#if defined(__x86_64__) || defined(__aarch64__)
#if defined(__x86_64__)
#define CRC_TARGET __attribute__((target("sse4.2,crc32")))
#define CRC8(c, b) _mm_crc32_u8(c, b)
#define CRC64(c, v) (uint32_t)_mm_crc32_u64(c, v)
static int instruction_available(void) {
  return sk_isa_current() != SK_ISA_BASELINE && __builtin_cpu_supports("sse4.2");
}
#else
#define CRC_TARGET __attribute__((target("crc")))
#define CRC8(c, b) __crc32cb(c, b)
#define CRC64(c, v) __crc32cd(c, v)
static int instruction_available(void) {
#if defined(__linux__)
  return sk_isa_current() != SK_ISA_BASELINE && (getauxval(AT_HWCAP) & HWCAP_CRC32) != 0;
#else
  return sk_isa_current() != SK_ISA_BASELINE;
#endif
}
#endif

static uint32_t move_over_strand(uint32_t c) {
  return over_strand[0][c & 0xff] ^ over_strand[1][c >> 8 & 0xff] ^ over_strand[2][c >> 16 & 0xff] ^ over_strand[3][c >> 24];
}

// The instruction takes three cycles and starts each cycle, so three strands run side by side.
CRC_TARGET static uint32_t crc_instruction(uint32_t c, const uint8_t *p, size_t n) {
  for (; n >= 3 * STRAND; n -= 3 * STRAND, p += 3 * STRAND) {
    uint32_t a = c, b = 0, d = 0;
    for (size_t i = 0; i < STRAND; i += 8) {
      a = CRC64(a, read64(p + i));
      b = CRC64(b, read64(p + STRAND + i));
      d = CRC64(d, read64(p + 2 * STRAND + i));
    }
    c = move_over_strand(move_over_strand(a) ^ b) ^ d;
  }
  for (; n >= 8; n -= 8, p += 8) c = CRC64(c, read64(p));
  for (; n > 0; n--, p++) c = CRC8(c, *p);
  return c;
}
#endif

// ---- carry-less products: Intel's "Fast CRC computation for generic polynomials using PCLMULQDQ", four registers wide ----

#if defined(__x86_64__)
#define FOLD_TARGET __attribute__((target("avx512f,avx512vl,vpclmulqdq,pclmul,sse4.2,crc32")))

static int products_available(void) {
  const int isa = sk_isa_current();
  return isa != SK_ISA_BASELINE && isa != SK_ISA_AVX2 && __builtin_cpu_supports("vpclmulqdq") &&
         __builtin_cpu_supports("pclmul") && __builtin_cpu_supports("sse4.2");
}

FOLD_TARGET static __m512i by(int lanes) {
  return _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)fold_by[lanes]));
}

FOLD_TARGET static __m512i fold(__m512i x, __m512i k, __m512i next) {
  return _mm512_ternarylogic_epi64(_mm512_clmulepi64_epi128(x, k, 0x00), _mm512_clmulepi64_epi128(x, k, 0x11), next, 0x96);
}

// n is at least 256.
FOLD_TARGET static uint32_t crc_products(uint32_t c, const uint8_t *p, size_t n) {
  __m512i x0 = _mm512_loadu_si512(p), x1 = _mm512_loadu_si512(p + 64), x2 = _mm512_loadu_si512(p + 128),
          x3 = _mm512_loadu_si512(p + 192);
  x0 = _mm512_xor_si512(x0, _mm512_zextsi128_si512(_mm_cvtsi32_si128((int)c)));
  const __m512i k = by(16);
  for (p += 256, n -= 256; n >= 256; p += 256, n -= 256) {
    x0 = fold(x0, k, _mm512_loadu_si512(p));
    x1 = fold(x1, k, _mm512_loadu_si512(p + 64));
    x2 = fold(x2, k, _mm512_loadu_si512(p + 128));
    x3 = fold(x3, k, _mm512_loadu_si512(p + 192));
  }
  x3 = fold(x0, by(12), fold(x1, by(8), fold(x2, by(4), x3)));
  // Each lane of 16 bytes moves to the place of the last one, which stays.
  uint64_t lanes[8];
  _mm512_storeu_si512(lanes, x3);
  __m128i sum = _mm_loadu_si128((const __m128i *)(lanes + 6));
  for (int i = 0; i < 3; i++) {
    const __m128i x = _mm_loadu_si128((const __m128i *)(lanes + 2 * i));
    const __m128i move = _mm_loadu_si128((const __m128i *)fold_by[3 - i]);
    sum = _mm_xor_si128(sum, _mm_xor_si128(_mm_clmulepi64_si128(x, move, 0x00), _mm_clmulepi64_si128(x, move, 0x11)));
  }
  c = CRC64(0, (uint64_t)_mm_extract_epi64(sum, 0));
  c = CRC64(c, (uint64_t)_mm_extract_epi64(sum, 1));
  return crc_instruction(c, p, n);
}
#endif

uint32_t sk_crc32c(uint32_t crc, const void *data, size_t length) {
  const uint8_t *p = data;
  if (length == 0) return crc;
#if defined(__x86_64__)
  if (length >= 256 && products_available()) return ~crc_products(~crc, p, length);
#endif
#if defined(__x86_64__) || defined(__aarch64__)
  if (instruction_available()) return ~crc_instruction(~crc, p, length);
#endif
  return ~crc_plain(~crc, p, length);
}
