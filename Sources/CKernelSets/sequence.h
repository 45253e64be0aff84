// The gated delta rule and Mamba-2's state space for some heads of one sequence. Part of body.h; sk_sequence.h says what they give,
// sequence_chunks.h how.

#include "sequence_layout.h"

#define SK_NOTHING 0x1p-100f

// What has decayed to less than anything is 0, before it is subnormal and slow.
SK_INLINE float times(float x, float factor) {
  const float y = x * factor;
  return y < SK_NOTHING && y > -SK_NOTHING ? 0.0f : y;
}

// n rows of `width` floats into rows of whole vectors: zeros behind them, and up to row m.
static void load_rows(const float *x, size_t stride, size_t width, size_t n, size_t m, float *dst, size_t ld) {
  for (size_t t = 0; t < n; t++) {
    memcpy(dst + t * ld, x + t * stride, width * sizeof(float));
    for (size_t i = width; i < ld; i++) dst[t * ld + i] = 0;
  }
  memset(dst + n * ld, 0, (m - n) * ld * sizeof(float));
}

static void make_units(float *x, size_t ld, size_t width, size_t n, float eps, float scale) {
  for (size_t t = 0; t < n; t++) {
    float *row = x + t * ld;
    const float r = 1.0f / __builtin_sqrtf(k_sum_squares(row, width) + eps);
    for (size_t i = 0; i < width; i++) row[i] = row[i] * r * scale;
  }
}

#include "sequence_steps.h"
#include "sequence_chunks.h"

// The states of all heads in rows of whole vectors, and back.
static void load_states(const sk_mixing *m, const sk_layout *l) {
  for (size_t head = 0; head < m->heads; head++) {
    float *s = l->state + head * l->keys * l->value_stride;
    if (m->state)
      load_rows(m->state + head * m->key_width * m->value_width, m->value_width, m->value_width, m->key_width, l->keys, s,
                l->value_stride);
    else
      memset(s, 0, l->keys * l->value_stride * sizeof(float));
  }
}

static void store_states(const sk_mixing *m, const sk_layout *l) {
  for (size_t row = 0; m->state && row < m->heads * m->key_width; row++)
    memcpy(m->state + row * m->value_width,
           l->state + (row / m->key_width * l->keys + row % m->key_width) * l->value_stride,
           m->value_width * sizeof(float));
}

static void load_keys(const sk_mixing *m, const sk_layout *l, size_t t, size_t n, size_t rows) {
  load_rows(m->keys + t * m->key_stride, m->key_stride, m->key_width, n, rows, l->both, l->key_stride);
  load_rows(m->queries + t * m->key_stride, m->key_stride, m->key_width, n, rows, l->both + l->chunk * l->key_stride,
            l->key_stride);
}

static void k_delta_rule(const sk_mixing *m, float eps) {
  const sk_layout l = layout_of(m, m->scratch);
  float *keys = l.both, *queries = l.both + l.chunk * l.key_stride;
  const int in_place = m->tokens < SK_FEW_TOKENS && m->state != NULL; // then the state is not worth a copy
  const size_t ld = in_place ? m->value_width : l.value_stride;
  const size_t states = in_place ? m->key_width * ld : l.keys * ld;
  float *state = in_place ? m->state : l.state;
  if (!in_place) load_states(m, &l);
  for (size_t t = 0; t < m->tokens; t += SK_CHUNK) {
    const size_t n = m->tokens - t < SK_CHUNK ? m->tokens - t : SK_CHUNK, rows = (n + 15) / 16 * 16;
    load_keys(m, &l, t, n, rows);
    make_units(keys, l.key_stride, m->key_width, n, eps, 1);
    make_units(queries, l.key_stride, m->key_width, n, eps, 1.0f / __builtin_sqrtf((float)m->key_width));
    const int few = n < SK_FEW_TOKENS;
    if (!few && !m->each_channel) {
      scores(keys, keys, l.key_stride, l.keys, rows, l.raw);
      scores(queries, keys, l.key_stride, l.keys, rows, l.raw + l.chunk * SK_SCORE_STRIDE);
    }
    for (size_t head = 0; head < m->heads; head++) {
      float *s = state + head * states;
      const int empty = t == 0 && !m->state;
      if (few) {
        const size_t count = m->each_channel ? m->key_width : 1;
        for (size_t i = 0; i < n; i++) {
          k_exp(m->decay + (t + i) * m->decay_stride + head * count, l.factors, count);
          delta_token(m, &l, head, t + i, keys + i * l.key_stride, queries + i * l.key_stride, l.factors, s, ld);
        }
      } else if (m->each_channel) {
        delta_chunk_channels(m, &l, head, t, n, rows, s, empty);
      } else {
        delta_chunk(m, &l, head, t, n, rows, s, empty);
      }
    }
  }
  if (!in_place) store_states(m, &l);
}

static void k_state_space(const sk_mixing *m) {
  const sk_layout l = layout_of(m, m->scratch);
  const int in_place = m->tokens < SK_FEW_TOKENS && m->state != NULL;
  const size_t ld = in_place ? m->value_width : l.value_stride;
  const size_t states = in_place ? m->key_width * ld : l.keys * ld;
  float *state = in_place ? m->state : l.state;
  if (!in_place) load_states(m, &l);
  for (size_t t = 0; t < m->tokens; t += SK_CHUNK) {
    const size_t n = m->tokens - t < SK_CHUNK ? m->tokens - t : SK_CHUNK, rows = (n + 15) / 16 * 16;
    const int few = n < SK_FEW_TOKENS;
    if (!few) {
      load_keys(m, &l, t, n, rows);
      scores(l.both + l.chunk * l.key_stride, l.both, l.key_stride, l.keys, rows, l.raw + l.chunk * SK_SCORE_STRIDE);
    }
    for (size_t head = 0; head < m->heads; head++) {
      float *s = state + head * states;
      if (few)
        for (size_t i = 0; i < n; i++) space_token(m, &l, head, t + i, s, ld);
      else
        space_chunk(m, &l, head, t, n, rows, s, t == 0 && !m->state);
    }
  }
  if (!in_place) store_states(m, &l);
}
