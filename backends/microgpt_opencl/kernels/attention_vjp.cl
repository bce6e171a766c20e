/* The backward pass of attention; attention_tools.cl comes before it. `sums` is (batch, heads, n). */

/* factors[query] = Σ g·y over the row. */
static inline void row_products(private const REAL *g, global const REAL *y, const ulong stride,
                                const uint rows, private REAL *to, private REAL *room) {
  for (uint r = 0; r < ROWS; r++, y += stride, g += PADDED(VHEAD)) {
    VECTOR sum = 0;
    uint e = 0;
    if (r < rows)
      for (; e + WIDTH <= VHEAD; e += WIDTH) sum += load(g + e) * load(y + e);
    store(sum, room + r * WIDTH);
    if (r < rows)
      for (; e < VHEAD; e++) room[r * WIDTH + e % WIDTH] += g[e] * y[e];
  }
  for (uint r = 0; r < ROWS; r += WIDTH) {
    REAL square[WIDTH * WIDTH];
    transpose_square(room + r * WIDTH, WIDTH, square, WIDTH);
    VECTOR sum = load(square);
    for (uint i = 1; i < WIDTH; i++) sum += load(square + i * WIDTH);
    store(sum, to + r);
  }
}

/* One work-item per (batch, head); global size (1, heads, batch). It goes through the queries from
   the last block, which sees all keys and so writes the gradients to which the others add. */
kernel void attention_vjp(
    global const REAL *g, ulong g_start, ulong g_batch, ulong g_head, ulong g_row,
    global const REAL *y, ulong y_start, ulong y_batch, ulong y_head, ulong y_row,
    global const REAL *sums, ulong sums_start,
    global const REAL *q, ulong q_start, ulong q_batch, ulong q_head, ulong q_row,
    global const REAL *k, ulong k_start, ulong k_batch, ulong k_head, ulong k_row,
    global const REAL *v, ulong v_start, ulong v_batch, ulong v_head, ulong v_row,
    global const uchar *mask, ulong mask_start, ulong mask_batch, ulong mask_head, ulong mask_row,
    ulong mask_key,
    global REAL *to_q, ulong to_q_start, ulong to_q_batch, ulong to_q_head, ulong to_q_row,
    global REAL *to_k, ulong to_k_start, ulong to_k_batch, ulong to_k_head, ulong to_k_row,
    global REAL *to_v, ulong to_v_start, ulong to_v_batch, ulong to_v_head, ulong to_v_row,
    uint n, uint m, int flags, REAL scale) {
  const uint head = get_global_id(1), heads = get_global_size(1), batch = get_global_id(2);
  g += g_start + batch * g_batch + head * g_head;
  y += y_start + batch * y_batch + head * y_head;
  sums += sums_start + ((ulong)batch * heads + head) * n;
  q += q_start + batch * q_batch + head * q_head;
  k += k_start + batch * k_batch + head * k_head;
  v += v_start + batch * v_batch + head * v_head;
  if (flags & MASKED) mask += mask_start + batch * mask_batch + head * mask_head;
  to_q += to_q_start + batch * to_q_batch + head * to_q_head;
  to_k += to_k_start + batch * to_k_batch + head * to_k_head;
  to_v += to_v_start + batch * to_v_batch + head * to_v_head;

  VECTOR aligned_q[2 * PADDED(HEAD)], aligned_q_across[2 * PADDED(HEAD)];
  VECTOR aligned_g[2 * PADDED(VHEAD)], aligned_g_across[2 * PADDED(VHEAD)];
  VECTOR aligned_weights[2 * KEYS], aligned_inner[2 * KEYS], aligned_to_q[2 * PADDED(HEAD)];
  VECTOR aligned_room[KEYS * PADDED(HEAD) / WIDTH + ROWS], aligned_factors[2];
  private REAL *rows_q = (private REAL *)aligned_q, *rows_g = (private REAL *)aligned_g;
  private REAL *q_across = (private REAL *)aligned_q_across;
  private REAL *g_across = (private REAL *)aligned_g_across;
  private REAL *weights = (private REAL *)aligned_weights;
  private REAL *inner = (private REAL *)aligned_inner;
  private REAL *sum_q = (private REAL *)aligned_to_q, *room = (private REAL *)aligned_room;
  private REAL *factors = (private REAL *)aligned_factors;

  for (uint block = (n + ROWS - 1) / ROWS; block-- > 0;) {
    const uint begin = block * ROWS, rows = LEAST(n - begin, (uint)ROWS);
    const bool add = begin + ROWS < n;
    Sight sight = {flags, (long)begin + m - n, mask, mask_row, mask_key, rows};
    sight.mask += begin * mask_row;

    pack(q + begin * q_row, q_row, rows, ROWS, HEAD, scale, rows_q);
    transpose(rows_q, HEAD, q_across);
    pack(g + begin * g_row, g_row, rows, ROWS, VHEAD, 1, rows_g);
    transpose(rows_g, VHEAD, g_across);
    row_products(rows_g, y + begin * y_row, y_row, rows, factors, room);
    const VECTOR mean_a = load(factors), mean_b = load(factors + WIDTH);
    for (uint r = 0; r < ROWS; r++) factors[r] = r < rows ? sums[begin + r] : 0;
    const VECTOR sum_a = load(factors), sum_b = load(factors + WIDTH);
    for (uint i = 0; i < ROWS * PADDED(HEAD); i += WIDTH) store((VECTOR)(0), sum_q + i);

    /* A query that sees no key at all spreads NaN to all of them. */
    const uint end = begin + m < n ? m : visible(flags, begin + rows, n, m);
    const bool skippable = (flags & CAUSAL) && sight.future >= 0;
    for (uint first = 0; first < end; first += KEYS) {
      const uint count = LEAST(end - first, (uint)KEYS);
      const long future = skippable ? sight.future - first : (long)m;
      score_block(k + first * k_row, k_row, count, q_across, HEAD, weights, future);
      score_block(v + first * v_row, v_row, count, g_across, VHEAD, inner, future);
      for (uint j = 0; j < count; j++) {
        private REAL *w = weights + j * ROWS, *p = inner + j * ROWS;
        const VECTOR a = exponential(hide(load(w), sight, 0, first + j) - sum_a);
        const VECTOR b = exponential(hide(load(w + WIDTH), sight, WIDTH, first + j) - sum_b);
        store(a, w);
        store(b, w + WIDTH);
        store(a * (load(p) - mean_a), p);
        store(b * (load(p + WIDTH) - mean_b), p + WIDTH);
      }
      weigh_back(weights, rows_g, rows, count, VHEAD, to_v + first * to_v_row, to_v_row, add,
                 future);
      weigh_back(inner, rows_q, rows, count, HEAD, to_k + first * to_k_row, to_k_row, add,
                 future);
      weigh(inner, k + first * k_row, k_row, count, HEAD, sum_q, room, future);
    }
    for (uint r = 0; r < ROWS; r++) factors[r] = scale;
    unpack(sum_q, factors, rows, HEAD, to_q + begin * to_q_row, to_q_row);
  }
}
