/* The forward pass of attention; attention_tools.cl comes before it. `sums` is (batch, heads, n). */

/* One work-item per (batch, head, block of ROWS queries); global size (blocks, heads, batch). */
kernel void attention(
    global const REAL *q, ulong q_start, ulong q_batch, ulong q_head, ulong q_row,
    global const REAL *k, ulong k_start, ulong k_batch, ulong k_head, ulong k_row,
    global const REAL *v, ulong v_start, ulong v_batch, ulong v_head, ulong v_row,
    global const uchar *mask, ulong mask_start, ulong mask_batch, ulong mask_head, ulong mask_row,
    ulong mask_key,
    global REAL *out, ulong out_start, ulong out_batch, ulong out_head, ulong out_row,
    global REAL *sums, ulong sums_start,
    uint n, uint m, int flags, REAL scale) {
  const uint head = get_global_id(1), heads = get_global_size(1), batch = get_global_id(2);
  const uint begin = get_global_id(0) * ROWS, rows = LEAST(n - begin, (uint)ROWS);
  q += q_start + batch * q_batch + head * q_head + begin * q_row;
  k += k_start + batch * k_batch + head * k_head;
  v += v_start + batch * v_batch + head * v_head;
  out += out_start + batch * out_batch + head * out_head + begin * out_row;
  Sight sight = {flags, (long)begin + m - n, mask, mask_row, mask_key, rows};
  if (flags & MASKED)
    sight.mask += mask_start + batch * mask_batch + head * mask_head + begin * mask_row;

  VECTOR aligned_q[2 * PADDED(HEAD)], aligned_scores[2 * KEYS], aligned_y[2 * PADDED(VHEAD)];
  VECTOR aligned_room[KEYS * PADDED(VHEAD) / WIDTH + 2 * PADDED(HEAD)], aligned_factors[2];
  private REAL *across = (private REAL *)aligned_q, *scores = (private REAL *)aligned_scores;
  private REAL *y = (private REAL *)aligned_y, *room = (private REAL *)aligned_room;
  private REAL *factors = (private REAL *)aligned_factors;

  pack(q, q_row, rows, ROWS, HEAD, scale, room);
  transpose(room, HEAD, across);
  for (uint i = 0; i < ROWS * PADDED(VHEAD); i += WIDTH) store((VECTOR)(0), y + i);

  VECTOR top_a = -INFINITY, top_b = -INFINITY, total_a = 0, total_b = 0;
  const uint end = visible(flags, begin + rows, n, m);
  const bool skippable = (flags & CAUSAL) && sight.future >= 0;
  for (uint first = 0; first < end; first += KEYS) {
    const uint count = LEAST(end - first, (uint)KEYS);
    const long future = skippable ? sight.future - first : (long)m;
    score_block(k + first * k_row, k_row, count, across, HEAD, scores, future);
    VECTOR new_a = top_a, new_b = top_b;
    for (uint j = 0; j < count; j++) {
      private REAL *row = scores + j * ROWS;
      const VECTOR a = hide(load(row), sight, 0, first + j);
      const VECTOR b = hide(load(row + WIDTH), sight, WIDTH, first + j);
      store(a, row);
      store(b, row + WIDTH);
      new_a = a > new_a ? a : new_a;
      new_b = b > new_b ? b : new_b;
    }
    /* While a query has seen nothing, -∞ - -∞ must not make it NaN. */
    const VECTOR shift_a = new_a == (VECTOR)(-INFINITY) ? (VECTOR)(0) : new_a;
    const VECTOR shift_b = new_b == (VECTOR)(-INFINITY) ? (VECTOR)(0) : new_b;
    if (first) {
      const VECTOR factor_a = exponential(top_a - shift_a);
      const VECTOR factor_b = exponential(top_b - shift_b);
      total_a *= factor_a;
      total_b *= factor_b;
      store(factor_a, factors);
      store(factor_b, factors + WIDTH);
      for (uint r = 0; r < ROWS; r++)
        for (uint e = 0; e < PADDED(VHEAD); e += WIDTH) {
          private REAL *p = y + r * PADDED(VHEAD) + e;
          store(load(p) * factors[r], p);
        }
    }
    top_a = new_a;
    top_b = new_b;
    for (uint j = 0; j < count; j++) {
      private REAL *row = scores + j * ROWS;
      const VECTOR a = exponential(load(row) - shift_a);
      const VECTOR b = exponential(load(row + WIDTH) - shift_b);
      total_a += a;
      total_b += b;
      store(a, row);
      store(b, row + WIDTH);
    }
    weigh(scores, v + first * v_row, v_row, count, VHEAD, y, room, future);
  }

  /* A query that sees none of the keys is 0/0 = NaN; without any keys the sum is 0. */
  store(m ? 1 / total_a : (VECTOR)(1), factors);
  store(m ? 1 / total_b : (VECTOR)(1), factors + WIDTH);
  unpack(y, factors, rows, VHEAD, out, out_row);
  if (flags & SAVING) {
    store(top_a + log(total_a), factors);
    store(top_b + log(total_b), factors + WIDTH);
    sums += sums_start + ((ulong)batch * heads + head) * n + begin;
    for (uint r = 0; r < rows; r++) sums[r] = factors[r];
  }
}
