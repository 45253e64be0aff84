// Rounding one column after another with the error passed on, and the product behind factorizations.

// The number of the grid that is nearest to t, ties to the even code; its code goes to *code.
SK_INLINE float grid_round(float t, int kind, float low, float high, uint8_t *code) {
  if (kind == SK_GRID_E2M1) {
    const uint32_t c = e2m1_of_float(t);
    const float steps[8] = {0, 0.5f, 1, 1.5f, 2, 3, 4, 6};
    *code = (uint8_t)c;
    return c & 8 ? -steps[c & 7] : steps[c & 7];
  }
  if (kind == SK_GRID_E4M3) {
    float value;
    k_encode_e4m3(&t, 1, code, 1);
    k_decode_e4m3(code, 1, &value, 1);
    return value;
  }
  t = t > low ? t : low; // NaN to `low`
  t = t < high ? t : high;
  const float whole = (t + 12582912.0f) - 12582912.0f;
  *code = (uint8_t)(int8_t)whole;
  return whole;
}

// Column after column, since each column's error changes those after it; the loop over j is the wide one. Products round before they
// are subtracted (no contraction), so that every instruction set chooses the same codes. The loss is summed in double, c ascending.
static double k_round_columns(float *restrict w, const float *restrict u, size_t n, size_t from, size_t to, int kind,
                              float low, float high, const float *restrict scales, uint8_t *restrict codes,
                              float *restrict errors) {
  double loss = 0;
  for (size_t c = from; c < to; c++) {
    const float *restrict row = u + c * n;
    const float value = grid_round(w[c] / scales[c], kind, low, high, codes + c) * scales[c];
    const float e = (w[c] - value) / row[c];
    loss += (double)e * (double)e;
    errors[c] = -e;
    w[c] = value;
    for (size_t j = c + 1; j < n; j++) w[j] -= e * row[j];
  }
  return loss;
}

static void k_round_grid(float *restrict w, int kind, float low, float high, float scale, uint8_t *restrict codes,
                         size_t n) {
  for (size_t i = 0; i < n; i++) w[i] = grid_round(w[i] / scale, kind, low, high, codes + i) * scale;
}

SK_INLINE float grid_value(uint8_t code, int kind) {
  if (kind == SK_GRID_E2M1) {
    const float steps[8] = {0, 0.5f, 1, 1.5f, 2, 3, 4, 6};
    return code & 8 ? -steps[code & 7] : steps[code & 7];
  }
  if (kind == SK_GRID_E4M3) {
    float value;
    k_decode_e4m3(&code, 1, &value, 1);
    return value;
  }
  return (float)(int8_t)code;
}

// First the groups' scales, then the codes, each as the least-squares solution with everything else fixed; g = h e is kept up to
// date by one row of h for each change, so that a row costs n^2 and not n^3. The gain of a step is known before it is taken, in
// double, and only a negative one (a smaller error) is taken. Sums run over the columns in order.
static double k_refine_row(float *restrict v, float *restrict g, const float *restrict h, size_t n, size_t group,
                           int kind, float low, float high, int format, float *restrict scales,
                           uint8_t *restrict codes, float *restrict spare) {
  double change = 0;
  for (size_t first = 0; format != SK_SCALE_E8M0 && first < n; first += group) {
    const size_t end = n - first < group ? n : first + group;
    memset(spare, 0, n * sizeof(float)); // h v of the group
    for (size_t c = first; c < end; c++) {
      if (v[c] == 0) continue;
      const float *restrict row = h + c * n;
      for (size_t j = 0; j < n; j++) spare[j] += v[c] * row[j];
    }
    double a = 0, b = 0;
    for (size_t c = first; c < end; c++) {
      a += (double)v[c] * g[c];
      b += (double)v[c] * spare[c];
    }
    if (!(b > 0)) continue;
    const float old = scales[first / group];
    float scale = (float)(old * (1 - a / b));
    if (format == SK_SCALE_BF16) {
      uint8_t bytes[2];
      k_encode_bf16(&scale, bytes, 1);
      k_decode_bf16(bytes, &scale, 1);
    } else if (format == SK_SCALE_F16) {
      scale = float_of_half(half_of_float(scale));
    }
    const float size = scale < 0 ? -scale : scale;
    if (!(size >= 0x1p-126f && size * high < 0x1p127f) || (scale < 0) != (old < 0)) continue;
    const double t = (double)scale / old - 1, gain = 2 * t * a + t * t * b;
    if (!(gain < 0)) continue;
    change += gain;
    scales[first / group] = scale;
    for (size_t c = first; c < end; c++) v[c] = grid_value(codes[c], kind) * scale;
    const float step = (float)t;
    for (size_t j = 0; j < n; j++) g[j] += step * spare[j];
  }
  for (size_t c = 0; c < n; c++) {
    const float *restrict row = h + c * n;
    if (!(row[c] > 0)) continue;
    const float scale = scales[c / group];
    uint8_t code;
    const float value = grid_round((v[c] - g[c] / row[c]) / scale, kind, low, high, &code) * scale;
    const float d = value - v[c];
    if (d == 0) continue;
    const double gain = 2 * (double)d * g[c] + (double)d * d * row[c];
    if (!(gain < 0)) continue;
    change += gain;
    codes[c] = code;
    v[c] = value;
    for (size_t j = 0; j < n; j++) g[j] += d * row[j];
  }
  return change;
}

// Every scale is tried on a copy of the group: codes are chosen again, column after column, from what the others have left. The old codes
// under a new scale are no state of the grid, so that the first sweep moves every column and only the sum of all steps decides.
static double k_descend_group(float *restrict v, float *restrict g, const float *restrict h, size_t n, size_t first,
                              size_t count, int kind, float low, float high, const float *restrict candidates,
                              size_t candidate_count, size_t sweeps, float *restrict scale, uint8_t *restrict codes,
                              float *restrict spare, uint8_t *restrict spare_codes) {
  float *restrict values = spare, *restrict slopes = spare + count, *restrict best = spare + 2 * count;
  uint8_t *restrict best_codes = spare_codes + count;
  double least = 0;
  float chosen = 0;
  for (size_t k = 0; k < candidate_count; k++) {
    memcpy(values, v + first, count * sizeof(float));
    memcpy(slopes, g + first, count * sizeof(float));
    memcpy(spare_codes, codes + first, count);
    double change = 0;
    for (size_t sweep = 0; sweep < sweeps; sweep++) {
      int moved = 0;
      for (size_t c = 0; c < count; c++) {
        const float *restrict row = h + (first + c) * n + first;
        if (!(row[c] > 0)) {
          // Nothing comes in here: the nearest code to what it was.
          values[c] = grid_round(v[first + c] / candidates[k], kind, low, high, spare_codes + c) * candidates[k];
          continue;
        }
        uint8_t code;
        const float best_number = values[c] - slopes[c] / row[c];
        const float value = grid_round(best_number / candidates[k], kind, low, high, &code) * candidates[k];
        const float d = value - values[c];
        spare_codes[c] = code;
        if (d == 0) continue;
        moved = 1;
        change += 2 * (double)d * slopes[c] + (double)d * d * row[c];
        values[c] = value;
        for (size_t j = 0; j < count; j++) slopes[j] += d * row[j];
      }
      if (!moved) break;
    }
    if (!(change < least)) continue;
    least = change;
    chosen = candidates[k];
    memcpy(best, values, count * sizeof(float));
    memcpy(best_codes, spare_codes, count);
  }
  if (!(least < 0)) return 0;
  *scale = chosen;
  memcpy(codes + first, best_codes, count);
  for (size_t c = 0; c < count; c++) {
    const float d = best[c] - v[first + c];
    v[first + c] = best[c];
    if (d == 0) continue;
    const float *restrict row = h + (first + c) * n;
    for (size_t j = 0; j < n; j++) g[j] += d * row[j];
  }
  return least;
}

// Eight lanes, column i in lane i mod 8; then 0+4, 2+6, 1+5, 3+7 and their sums: the tree that the Swift twin has.
static double k_grid_error(const float *x, const float *weight, float scale, int kind, float low, float high, size_t n) {
  double lanes[8] = {0};
  for (size_t i = 0; i < n; i++) {
    uint8_t code;
    const float d = x[i] - grid_round(x[i] / scale, kind, low, high, &code) * scale;
    lanes[i % 8] += (weight ? (double)weight[i] : 1) * ((double)d * (double)d);
  }
  return ((lanes[0] + lanes[4]) + (lanes[2] + lanes[6])) + ((lanes[1] + lanes[5]) + (lanes[3] + lanes[7]));
}

// Four rows of b for one pass over a row of c: c is loaded and stored a quarter as often. k ascends within the expression, so the
// sums are those of the plain loop.
static void k_subtract_product(double *restrict c, size_t ldc, const double *restrict a, size_t lda,
                               const double *restrict b, size_t ldb, size_t m, size_t k, size_t n) {
  for (size_t i = 0; i < m; i++) {
    double *restrict sum = c + i * ldc;
    const double *restrict x = a + i * lda;
    size_t p = 0;
    for (; p + 4 <= k; p += 4) {
      const double x0 = x[p], x1 = x[p + 1], x2 = x[p + 2], x3 = x[p + 3];
      const double *restrict b0 = b + p * ldb, *restrict b1 = b0 + ldb, *restrict b2 = b1 + ldb, *restrict b3 = b2 + ldb;
      for (size_t j = 0; j < n; j++) sum[j] = (((sum[j] - x0 * b0[j]) - x1 * b1[j]) - x2 * b2[j]) - x3 * b3[j];
    }
    for (; p < k; p++)
      for (size_t j = 0; j < n; j++) sum[j] -= x[p] * b[p * ldb + j];
  }
}
