// Attention of a block of query rows. Part of body.h; sk_attention.h says what each step gives.
//
// Scores. The matrix product of product.h holds 16 lanes of each sum in a vector, and pays with shuffles for adding them up: with the
// 128 columns of a head a quarter of its time. Here a vector holds one lane of 16 keys. The tile is 8 rows of queries by two vectors of
// keys (4 by two with AVX2's 16 registers): 16 sums in flight, each vector of keys loaded once for all rows, each query number
// broadcast. Lanes come in bit-reversed order, so that the tree l with l + 8, + 4, + 2, + 1 is a binary counter: the sums of a lane meet
// those of the one before on a stack of four levels. The same additions as in the product, so the same bits. A panel of 32 keys by 128
// columns is 16 KiB and stays in the first-level cache for all rows.
//
// Values. A tile is rows by vectors of columns, one chain a number; few rows take more columns, so that chains hide the latency. 256
// keys of the two columns' vectors (32 KiB) stay in the first-level cache for all rows.
#if SK_VL == 8
#define SK_QUERY_ROWS 4
#define SK_VALUE_VECTORS(rows) ((rows) <= 2 ? 4 : 2)
#else
#define SK_QUERY_ROWS 8
#define SK_VALUE_VECTORS(rows) ((rows) <= 2 ? 8 : (rows) <= 4 ? 4 : 2)
#endif

static void k_pack_keys(const float *k, size_t ldk, size_t n, size_t width, float *dst) {
  const size_t steps = (width + 15) / 16, panel = 16 * steps * SK_PANEL;
  for (size_t start = 0; start < n; start += SK_PANEL, dst += panel) {
    const size_t count = n - start < SK_PANEL ? n - start : SK_PANEL;
    if (count < SK_PANEL || width % 16 != 0) memset(dst, 0, panel * sizeof(float));
    for (size_t j = 0; j < count; j += 16) {
      const float *key = k + (start + j) * ldk;
      const size_t some = count - j < 16 ? count - j : 16;
      for (size_t t = 0; t < steps; t++) { // transposes 16 keys x 16 columns in the L1 cache
        const size_t lanes = width - 16 * t < 16 ? width - 16 * t : 16;
        float square[16][16];
        for (size_t x = 0; x < some; x++) memcpy(square[x], key + x * ldk + 16 * t, lanes * sizeof(float));
        for (size_t l = 0; l < lanes; l++) {
          float *row = dst + (l * steps + t) * SK_PANEL + j;
          for (size_t x = 0; x < some; x++) row[x] = square[x][l];
        }
      }
    }
  }
}

static void k_pack_query(const float *q, size_t width, float *dst) {
  const size_t steps = (width + 15) / 16;
  if (width % 16 != 0) memset(dst, 0, 16 * steps * sizeof(float));
  for (size_t i = 0; i < width; i++) dst[i % 16 * steps + i / 16] = q[i];
}

// mr rows against two vectors of keys of a panel.
SK_INLINE void score_tile(const float *q, const float *panel, size_t steps, float *c, size_t ldc, const int mr) {
  vec stack[4][SK_QUERY_ROWS * 2];
  for (unsigned i = 0; i < 16; i++) {
    vec sum[SK_QUERY_ROWS * 2];
    SK_UNROLL
    for (int x = 0; x < 2 * mr; x++) sum[x] = 0;
    const size_t lane = (i & 1) * 8 + (i >> 1 & 1) * 4 + (i >> 2 & 1) * 2 + (i >> 3);
    const float *keys = panel + lane * steps * SK_PANEL, *query = q + lane * steps;
    for (size_t t = 0; t < steps; t++) {
      vec k0, k1;
      memcpy(&k0, keys + t * SK_PANEL, sizeof(vec));
      memcpy(&k1, keys + t * SK_PANEL + SK_VL, sizeof(vec));
      SK_UNROLL
      for (int r = 0; r < mr; r++) {
        const vec x = query[(size_t)r * 16 * steps + t];
        sum[2 * r] = __builtin_elementwise_fma(x, k0, sum[2 * r]);
        sum[2 * r + 1] = __builtin_elementwise_fma(x, k1, sum[2 * r + 1]);
      }
    }
    int level = 0; // sums of 2^level lanes wait at a level; two of a kind become one of the next
    for (; i >> level & 1; level++) {
      SK_UNROLL
      for (int x = 0; x < 2 * mr; x++) sum[x] = stack[level][x] + sum[x];
    }
    if (level < 4) {
      SK_UNROLL
      for (int x = 0; x < 2 * mr; x++) stack[level][x] = sum[x];
    } else {
      SK_UNROLL
      for (int r = 0; r < mr; r++) {
        memcpy(c + (size_t)r * ldc, &sum[2 * r], sizeof(vec));
        memcpy(c + (size_t)r * ldc + SK_VL, &sum[2 * r + 1], sizeof(vec));
      }
    }
  }
}

// Keys that at least one of some rows sees.
SK_INLINE void range_of(const size_t *first, const size_t *end, size_t rows, size_t *from, size_t *to) {
  *from = first[0];
  *to = end[0];
  for (size_t r = 1; r < rows; r++) {
    *from = first[r] < *from ? first[r] : *from;
    *to = end[r] > *to ? end[r] : *to;
  }
}

// A case for each number of rows up to the tile's.
#if SK_QUERY_ROWS == 8
#define SK_EACH_ROWS(X) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8)
#else
#define SK_EACH_ROWS(X) X(1) X(2) X(3) X(4)
#endif

static void k_scores(const float *q, const float *panels, size_t width, size_t rows, size_t keys, const size_t *first,
                     const size_t *end, float *c, size_t ldc) {
  const size_t steps = (width + 15) / 16;
  size_t lowest, highest;
  if (rows == 0) return;
  range_of(first, end, rows, &lowest, &highest);
  for (size_t key = lowest / SK_PANEL * SK_PANEL; key < highest && key < keys; key += SK_PANEL) {
    const float *panel = panels + key * 16 * steps;
    for (size_t r = 0; r < rows; r += SK_QUERY_ROWS) {
      const size_t count = rows - r < SK_QUERY_ROWS ? rows - r : SK_QUERY_ROWS;
      size_t from, to;
      range_of(first + r, end + r, count, &from, &to);
      if (key >= to || key + SK_PANEL <= from) continue;
      for (size_t j = 0; j < SK_PANEL; j += 2 * SK_VL) {
        float *place = c + r * ldc + key + j;
        switch (count) {
#define SK_CASE(n) case n: score_tile(q + r * 16 * steps, panel + j, steps, place, ldc, n); break;
          SK_EACH_ROWS(SK_CASE)
#undef SK_CASE
        }
      }
    }
  }
}

typedef int32_t i32x16 __attribute__((ext_vector_type(16)));

// exponential() of 16 numbers that are not above 0, in place: the same operations in the same order.
SK_INLINE void exponentials(f32x16 *numbers) {
  const f32x16 x = *numbers;
  const f32x16 magic = 12582912.0f;
  const f32x16 shifted = __builtin_elementwise_fma(x, (f32x16)0x1.715476p+0f, magic);
  const i32x16 n = (i32x16)shifted - 0x4b400000;
  const f32x16 whole = shifted - magic;
  f32x16 r = __builtin_elementwise_fma(whole, (f32x16)-0x1.62e43p-1f, x);
  r = __builtin_elementwise_fma(whole, (f32x16)0x1.05c61p-29f, r);
  f32x16 q = 0x1.6a4d14p-10f;
  q = __builtin_elementwise_fma(q, r, (f32x16)0x1.12398ap-7f);
  q = __builtin_elementwise_fma(q, r, (f32x16)0x1.5558bp-5f);
  q = __builtin_elementwise_fma(q, r, (f32x16)0x1.555492p-3f);
  q = __builtin_elementwise_fma(q, r, (f32x16)0x1.fffffcp-2f);
  const f32x16 p = __builtin_elementwise_fma(q, r * r, r) + 1.0f;
  const i32x16 half = n >> 1;
  const f32x16 y = p * (f32x16)((half + 127) << 23) * (f32x16)((n - half + 127) << 23);
  *numbers = x < -104.0f ? (f32x16)0.0f : y;
}

// The largest of n numbers times scale and of `least`.
SK_INLINE float largest_scaled(const float *x, size_t n, float scale, float least) {
  f32x16 best[4] = {least, least, least, least};
  size_t i = 0;
  for (; i + 64 <= n; i += 64) {
    SK_UNROLL
    for (int b = 0; b < 4; b++) {
      f32x16 v;
      memcpy(&v, x + i + 16 * b, sizeof v);
      v *= scale;
      best[b] = v > best[b] ? v : best[b];
    }
  }
  for (; i < n; i++) best[0][0] = x[i] * scale > best[0][0] ? x[i] * scale : best[0][0];
  best[0] = best[1] > best[0] ? best[1] : best[0];
  best[2] = best[3] > best[2] ? best[3] : best[2];
  best[0] = best[2] > best[0] ? best[2] : best[0];
  float m = best[0][0];
  for (int l = 1; l < 16; l++) m = best[0][l] > m ? best[0][l] : m;
  return m;
}

// x = exp(x * scale - m) for `count` numbers, the first of which joins lane 0 of the sums.
SK_INLINE void exponentials_with_sum(float *x, size_t count, float scale, float m, f32x16 *sums) {
  f32x16 sum = *sums, last = 0;
  size_t i = 0;
  for (; i + 16 <= count; i += 16) {
    f32x16 v;
    memcpy(&v, x + i, sizeof v);
    v = v * scale - m;
    exponentials(&v);
    memcpy(x + i, &v, sizeof v);
    sum += v;
  }
  for (size_t l = 0; i + l < count; l++) last[l] = x[i + l] = exponential(x[i + l] * scale - m);
  *sums = sum + last;
}

// Three passes over the runs of a row: the largest, exponentials with their sum, divisions. The sum has 16 lanes in blocks of SK_BLOCK,
// as sum_of's; what lies in no run would add zeros.
static void k_softmax_runs(float *x, const size_t *runs, size_t count, float scale, float sink) {
  float m = sink, total = 0, out[8];
  for (size_t r = 0; r < count; r++) m = largest_scaled(x + runs[2 * r], runs[2 * r + 1] - runs[2 * r], scale, m);
  if (m == -__builtin_inff()) { // nothing to choose from
    for (size_t r = 0; r < count; r++) memset(x + runs[2 * r], 0, (runs[2 * r + 1] - runs[2 * r]) * sizeof(float));
    return;
  }
  size_t r = 0, from = count > 0 ? runs[0] : 0;
  while (r < count) {
    const size_t stop = (from / SK_BLOCK + 1) * SK_BLOCK;
    f32x16 sum[8] = {0};
    while (r < count && from < stop) {
      const size_t to = runs[2 * r + 1], end = to < stop ? to : stop;
      exponentials_with_sum(x + from, end - from, scale, m, sum);
      from = stop; // where the run goes on in the next block
      if (to <= stop && ++r < count) from = runs[2 * r];
    }
    reduce8(sum, out);
    total += out[0];
  }
  total = exponential(sink - m) + total;
  for (r = 0; r < count; r++)
    for (size_t i = runs[2 * r]; i < runs[2 * r + 1]; i++) x[i] = x[i] / total;
}

static void k_softmax_rows(float *x, size_t ldx, size_t rows, size_t n, float scale, const float *sinks, const size_t *first,
                           const size_t *end) {
  for (size_t r = 0; r < rows; r++) {
    float *row = x + r * ldx;
    memset(row, 0, first[r] * sizeof(float));
    const size_t run[2] = {0, end[r] - first[r]};
    k_softmax_runs(row + first[r], run, 1, scale, sinks ? sinks[r] : -__builtin_inff());
    memset(row + end[r], 0, (n - end[r]) * sizeof(float));
  }
}

// Adds `keys` keys to mr rows by nv vectors of columns.
SK_INLINE void value_tile(const float *p, size_t ldp, const float *v, size_t ldv, size_t keys, float *out, size_t ldo,
                          const int mr, const int nv) {
  vec sum[16];
  SK_UNROLL
  for (int r = 0; r < mr; r++) {
    SK_UNROLL
    for (int x = 0; x < nv; x++) memcpy(&sum[r * nv + x], out + (size_t)r * ldo + x * SK_VL, sizeof(vec));
  }
  for (size_t j = 0; j < keys; j++) {
    vec value[8];
    SK_UNROLL
    for (int x = 0; x < nv; x++) memcpy(&value[x], v + j * ldv + x * SK_VL, sizeof(vec));
    SK_UNROLL
    for (int r = 0; r < mr; r++) {
      const vec weight = p[(size_t)r * ldp + j];
      SK_UNROLL
      for (int x = 0; x < nv; x++) sum[r * nv + x] = __builtin_elementwise_fma(weight, value[x], sum[r * nv + x]);
    }
  }
  SK_UNROLL
  for (int r = 0; r < mr; r++) {
    SK_UNROLL
    for (int x = 0; x < nv; x++) memcpy(out + (size_t)r * ldo + x * SK_VL, &sum[r * nv + x], sizeof(vec));
  }
}

// All columns of mr rows: as many vectors at a time as there are registers for, then one, then single columns.
SK_INLINE void value_strip(const float *p, size_t ldp, const float *v, size_t ldv, size_t keys, size_t width, float *out,
                           size_t ldo, const int mr) {
  const size_t wide = SK_VALUE_VECTORS(mr) * SK_VL;
  size_t c = 0;
  for (; c + wide <= width; c += wide) value_tile(p, ldp, v + c, ldv, keys, out + c, ldo, mr, SK_VALUE_VECTORS(mr));
  for (; c + SK_VL <= width; c += SK_VL) value_tile(p, ldp, v + c, ldv, keys, out + c, ldo, mr, 1);
  for (; c < width; c++)
    for (size_t r = 0; r < (size_t)mr; r++) {
      float sum = out[r * ldo + c];
      for (size_t j = 0; j < keys; j++) sum = __builtin_fmaf(p[r * ldp + j], v[j * ldv + c], sum);
      out[r * ldo + c] = sum;
    }
}

static void k_weigh_values(const float *p, size_t ldp, const float *v, size_t ldv, size_t rows, size_t n, size_t width,
                           const size_t *first, const size_t *end, int accumulate, float *out, size_t ldo) {
  const size_t block = 256, columns = 2 * SK_VL;
  for (size_t r = 0; !accumulate && r < rows; r++) memset(out + r * ldo, 0, width * sizeof(float));
  for (size_t j = 0; j < n; j += block) {
    // With many rows, the columns that a tile takes pass all rows before the next come; few rows take them all.
    const size_t step = rows <= SK_QUERY_ROWS ? width : columns;
    for (size_t c = 0; c < width; c += step) {
      const size_t some = width - c < step ? width - c : step;
      for (size_t r = 0; r < rows; r += SK_QUERY_ROWS) {
        const size_t count = rows - r < SK_QUERY_ROWS ? rows - r : SK_QUERY_ROWS;
        size_t from, to;
        range_of(first + r, end + r, count, &from, &to);
        from = from < j ? j : from;
        to = to < j + block ? to : j + block;
        if (from >= to) continue;
        const float *weights = p + r * ldp + from, *values = v + from * ldv + c;
        float *place = out + r * ldo + c;
        switch (count) {
#define SK_CASE(m) case m: value_strip(weights, ldp, values, ldv, to - from, some, place, ldo, m); break;
          SK_EACH_ROWS(SK_CASE)
#undef SK_CASE
        }
      }
    }
  }
}

static void k_add_weighted_relu(const float *dots, size_t ldd, const float *weights, size_t heads, float *restrict scores,
                                size_t n) {
  for (size_t h = 0; h < heads; h++) {
    const float *row = dots + h * ldd, weight = weights[h];
    SK_INDEPENDENT
    for (size_t j = 0; j < n; j++) scores[j] += (row[j] <= 0 ? 0 : row[j]) * weight;
  }
}
