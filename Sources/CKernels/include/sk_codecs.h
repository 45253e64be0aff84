// The codes of an ingot's chunks, Formats/codecs.md: bit planes with escapes, pairs of nibbles. What is stored comes from a
// file: a decoder reads nothing beyond `stored_count` bytes, writes exactly its output, and says what is wrong.
//
// SAFETY: `stored` holds stored_count bytes, and every one of them may lie: counts are checked against each other and the length
// before a plane is touched, symbols before they are used. `scratch` has sk_codec_scratch(n) bytes for itself (`CodecWorker`
// allocates them once for the longest chunk), `dst` the n elements or `capacity` bytes. Nothing overlaps.
#ifndef SK_CODECS_H
#define SK_CODECS_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

// What can be wrong with a stored chunk.
enum {
  SK_FAULT_NONE = 0,
  SK_FAULT_LENGTH = 1,  // the parts do not add up to the stored length
  SK_FAULT_STAGES = 2,  // no such list of stages
  SK_FAULT_COUNT = 3,   // an escape count above what can escape, or above zero where no stage is
  SK_FAULT_ESCAPES = 4, // a stage holds more or fewer escapes than its count says
  SK_FAULT_SYMBOL = 5,  // a symbol that its element cannot hold
  SK_FAULT_PADDING = 6, // reserved bytes, unused symbols, bits or nibbles behind the last symbol are not zero
};
#define SK_PLANES_HEADER 36 // bytes before the first plane
#define SK_CODEC_MAX (1u << 20) // elements in a chunk, at most: an escape count has room, scratch memory a bound

// Bytes of scratch memory that coding n elements takes.
size_t sk_codec_scratch(size_t n);

// ---- bit planes. n elements of 16 bits (BF16: 8 bits of exponent behind the sign) or 8 (FP8: 4 bits) ----
// Encoders write at most `capacity` bytes and give how many, or 0 where the code takes more. Decoders give SK_FAULT_...,
// and in *place the byte of `stored` at which it shows. Swift twins: Reference.encodePlanes, decodePlanes.
size_t sk_planes16_encode(const uint8_t *src, size_t n, uint8_t *dst, size_t capacity, uint8_t *scratch);
int sk_planes16_decode(const uint8_t *stored, size_t stored_count, uint8_t *dst, size_t n, uint8_t *scratch, size_t *place);
size_t sk_planes8_encode(const uint8_t *src, size_t n, uint8_t *dst, size_t capacity, uint8_t *scratch);
int sk_planes8_decode(const uint8_t *stored, size_t stored_count, uint8_t *dst, size_t n, uint8_t *scratch, size_t *place);

// ---- nibbles. 64 of them take 32 bytes: nibble j < 32 is the low half of byte j, nibble j + 32 its high half; a last
// group that is not whole is filled with zeros ----
// SAFETY: arrays of nibbles have SK_NIBBLE_BYTES(n) bytes, also where n is not a multiple of 64: whole groups are read and written.
// src, dst, low and escapes have n elements and are left alone beyond.
#define SK_NIBBLE_BYTES(n) (((n) + 63) / 64 * 32)
// Bytes rotated left by one bit (`rotate` 1: FP8) or as they are (0: INT8), high nibbles and low nibbles apart. Joining ignores
// what the last group is filled with. Swift twins: Reference.splitNibbles, joinNibbles.
void sk_split_nibbles(const uint8_t *src, size_t n, int rotate, uint8_t *high, uint8_t *low);
void sk_join_nibbles(const uint8_t *high, const uint8_t *low, size_t n, int rotate, uint8_t *dst);
// BF16: each element rotated left by one bit is an exponent E and a byte of mantissa and sign. The nibble is base - E, or 15
// where that is not in 0...14; such E are appended to `escapes` (room for n). Gives how many.
// Swift twins: Reference.splitPairs, joinPairs.
size_t sk_split_pairs16(const uint8_t *src, size_t n, uint8_t base, uint8_t *nibbles, uint8_t *low, uint8_t *escapes);
// Gives how many escapes the nibbles ask for; above escape_count, the output is not to be used.
size_t sk_join_pairs16(const uint8_t *nibbles, const uint8_t *low, size_t n, uint8_t base, const uint8_t *escapes,
                       size_t escape_count, uint8_t *dst);
// 1 if the last group of n nibbles is filled with zeros.
int sk_nibbles_padded(const uint8_t *nibbles, size_t n);
// The base for which fewest exponents of n BF16 elements escape, the smallest of several.
uint8_t sk_pairs16_base(const uint8_t *src, size_t n);

// SAFETY: src holds n bytes, counts 256 numbers; n is below 2^32, since a byte may be there n times.
// counts[b] = how often byte b is there, of 256. Fast where a few bytes are most of them. Swift twin: a loop.
void sk_count_bytes(const uint8_t *src, size_t n, uint32_t *counts);

// About the fewest bytes that a search for repetitions with a Huffman code behind it makes of n < 2^18 bytes, in elements of `element`
// bytes: the entropy of the bytes, less what repetitions of 6 bytes may cover. In whole numbers, the same on every machine.
// Swift twin: Reference.leastSearched.
size_t sk_least_searched(const uint8_t *src, size_t n, size_t element);

#ifdef __cplusplus
}
#endif
#endif
