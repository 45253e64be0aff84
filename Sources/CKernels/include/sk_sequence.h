// Layers that mix tokens through a state of fixed size: the gated delta rule, Mamba-2's state space, and the short convolution
// before both. Many tokens run in chunks of SK_CHUNK as small matrix products, few of them one after another.
//
// Every sum is one chain of fused multiply-adds in a stated order, so that the bits are the same on every instruction set. They
// depend on how the tokens of a sequence are cut into calls, by rounding only.
#ifndef SK_SEQUENCE_H
#define SK_SEQUENCE_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

#define SK_CHUNK 64     // tokens that are run together
#define SK_FEW_TOKENS 8 // fewer than so many are run one after another

// The next tokens of one sequence, for consecutive heads that have queries and keys in common.
//
// SAFETY: all arrays are apart. Row t of a matrix begins its stride times t after the pointer; a row of queries and keys has
// key_width floats, of values and out heads * value_width, of decay heads (times key_width where each_channel is 1), of beta heads.
// rates and skip hold `heads` floats, state heads * key_width * value_width, scratch what sk_mixing_floats says, at a multiple of
// 64 bytes. Widths are above 0, except for tokens = 0.
typedef struct {
  size_t tokens, heads, key_width, value_width;
  const float *queries, *keys;
  size_t key_stride;
  const float *values;
  float *out;
  size_t value_stride; // of out as well
  const float *decay;  // the delta rule's: the logarithm of the factor
  size_t decay_stride;
  int each_channel; // the delta rule's: 1 where decay has a number for each channel of a key
  const float *beta; // the state space's steps
  size_t beta_stride;
  const float *rates, *skip; // the state space's: A and D
  float *state;              // [heads, key_width, value_width], changed in place; null for zeros that nobody needs later
  float *scratch;
} sk_mixing;

// How many floats of scratch a call needs.
size_t sk_mixing_floats(const sk_mixing *m);

// The gated delta rule. k and q of a token are divided by the root of (their sum of squares + eps), and q then by the root of
// key_width. For each token and head: S = exp(g) S, S += k (beta (v - S'k))', out = S'q. Swift twin: Reference.deltaRule.
void sk_delta_rule(const sk_mixing *m, float eps);

// Mamba-2. keys are B, queries C, values x: S = exp(step rate) S + B (step x)', out = S'C + skip x. Swift twin:
// Reference.stateSpace.
void sk_state_space(const sk_mixing *m);

// Filters the tokens from...to of a sequence, each of n channels on its own: out[t][c] = bias[c] + the sum over j < kernel of
// w[j][c] * x[t - (kernel - 1) + j][c], j ascending, fused; rows of x before the first are those of `before`. bias may be null.
// silu = 1: then y / (1 + exp(-y)). Swift twin: Reference.convolve.
// SAFETY: x and out begin at the sequence's first token and have `to` rows of n floats, before has kernel - 1, w kernel; kernel > 0.
void sk_convolve(const float *x, const float *before, const float *w, const float *bias, size_t kernel, size_t from, size_t to,
                 size_t n, int silu, float *out);

#ifdef __cplusplus
}
#endif
#endif
