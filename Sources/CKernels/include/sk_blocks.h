// Encoders and decoders of GGUF's blocks, dispatched at run time.
//
// Each encoder takes n finite floats, n a whole number of blocks, and `w`, how much each column's square error counts (not
// negative, at most about 1, or NULL: all alike), and writes n / columns-of-a-block blocks. The result is how many values
// are stored as another number (-0 equals +0), or -1 - b when a scale of block b is beyond F16; nothing from there on
// is written then. Swift twins: Reference.encodeBlocks.
//
// SAFETY: src and w hold n floats, dst has room for n / columns-of-a-block whole blocks. n must be a whole number of blocks
// (`GGUFBlock.encode` checks it): of a block that is cut short the rest would be read and written. Floats that are not finite
// cost the answer its meaning, not its bounds: codes are clamped before they are packed.
#ifndef SK_BLOCKS_H
#define SK_BLOCKS_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define SK_ENCODER(type) int64_t sk_encode_##type(const float *src, const float *w, uint8_t *dst, size_t n);
SK_ENCODER(q8_0)
SK_ENCODER(q4_0)
SK_ENCODER(q4_1)
SK_ENCODER(q5_0)
SK_ENCODER(q5_1)
SK_ENCODER(q2_k)
SK_ENCODER(q3_k)
SK_ENCODER(q4_k)
SK_ENCODER(q5_k)
SK_ENCODER(q6_k)
SK_ENCODER(iq4_nl)
SK_ENCODER(iq4_xs)
SK_ENCODER(mxfp4_gguf)
SK_ENCODER(nvfp4_gguf)
SK_ENCODER(q1_0)
SK_ENCODER(q2_0)
SK_ENCODER(tq1_0)
SK_ENCODER(tq2_0)

#undef SK_ENCODER

// n floats of whole blocks: the formulas of Formats/encodings.md, sections 15 to 17, each operation rounded to float32.
// Swift twin: Reference.decodeBlock.
// SAFETY: src holds the blocks of n columns, dst has room for n floats; of a block that is cut short nothing is read. Any bytes may be
// decoded without harm.
#define SK_DECODER(type) void sk_decode_##type(const uint8_t *src, float *dst, size_t n);
SK_DECODER(q8_0)
SK_DECODER(q8_1)
SK_DECODER(q8_k)
SK_DECODER(q4_0)
SK_DECODER(q4_1)
SK_DECODER(q5_0)
SK_DECODER(q5_1)
SK_DECODER(q1_0)
SK_DECODER(q2_0)
SK_DECODER(iq4_nl)
SK_DECODER(mxfp4_gguf)
SK_DECODER(nvfp4_gguf)
SK_DECODER(q2_k)
SK_DECODER(q3_k)
SK_DECODER(q4_k)
SK_DECODER(q5_k)
SK_DECODER(q6_k)
SK_DECODER(iq4_xs)
SK_DECODER(tq1_0)
SK_DECODER(tq2_0)
#undef SK_DECODER

#ifdef __cplusplus
}
#endif
#endif
