/* Attention for GPUs: softmax(q·kᵀ·scale)·v and its gradients.

   A work-group has BLOCK queries, one per work-item, and takes KEYS keys and values at a time into
   local memory, where all its work-items read them. Each work-item keeps its row's largest score
   and its sum of exponentials so far, and rescales what it has when a larger score comes ("online
   softmax"), so that the scores of all queries with all keys are never in memory at once.

   Backward computes the weights again from the logarithm of each row's sum. It is two kernels, so
   that nobody adds to what another one writes, and results are the same each time: one with a
   work-item per query, for q; then one with a work-item per key, for k and v.
   Source: Dao et al., FlashAttention, arXiv:2205.14135, algorithms 1 and 4; the two kernels:
   Dao, FlashAttention-2, arXiv:2307.08691, section 3.2.

   Macros: REAL (float, double), HEAD and VHEAD (sizes of a query and of a value), BLOCK (the local
   size), KEYS (rows in local memory at a time). Local memory: KEYS · (HEAD + VHEAD + 2) numbers. */

#ifndef BLOCK
#define BLOCK 64
#endif
#ifndef KEYS
#define KEYS 16
#endif

#define CAUSAL 1
#define MASKED 2
#define SAVING 4

#define AT(batch, head, x) \
  ((ulong)(batch) * x##_batch + (ulong)(head) * x##_head + x##_start)

/* Copy `count` rows of `size` numbers to local memory, with all work-items of the group. */
static void share(global const REAL *from, const ulong stride, const uint count, const uint size,
                  local REAL *to) {
  for (uint i = get_local_id(0); i < count * size; i += BLOCK)
    to[i] = from[i / size * stride + i % size];
}

/* How many keys the queries before `end` see together. */
static uint visible(const int flags, const uint end, const uint n, const uint m) {
  const long keys = flags & CAUSAL ? (long)end + m - n : m;
  return keys < 0 ? 0 : keys < m ? (uint)keys : m;
}

/* Whether query i must not see key j; `mask` is of the batch and the head. */
static bool hidden(const int flags, const uint i, const uint j, const uint n, const uint m,
                   global const uchar *mask, const ulong mask_row, const ulong mask_key) {
  return ((flags & CAUSAL) && (long)j > (long)i + m - n) ||
         ((flags & MASKED) && !mask[i * mask_row + j * mask_key]);
}

/* Global size (n in whole blocks, heads, batch). */
kernel __attribute__((reqd_work_group_size(BLOCK, 1, 1))) void attention(
    global const REAL *q, ulong q_start, ulong q_batch, ulong q_head, ulong q_row,
    global const REAL *k, ulong k_start, ulong k_batch, ulong k_head, ulong k_row,
    global const REAL *v, ulong v_start, ulong v_batch, ulong v_head, ulong v_row,
    global const uchar *mask, ulong mask_start, ulong mask_batch, ulong mask_head, ulong mask_row,
    ulong mask_key,
    global REAL *out, ulong out_start, ulong out_batch, ulong out_head, ulong out_row,
    global REAL *sums, ulong sums_start,
    uint n, uint m, int flags, REAL scale) {
  local REAL keys[KEYS * HEAD], values[KEYS * VHEAD];
  const uint i = get_global_id(0), head = get_global_id(1), batch = get_global_id(2);
  /* Work-items after the last query repeat it, for the barriers, and store nothing. */
  const uint row = i < n ? i : n - 1;
  q += AT(batch, head, q) + row * q_row;
  k += AT(batch, head, k);
  v += AT(batch, head, v);
  if (flags & MASKED) mask += AT(batch, head, mask);

  REAL query[HEAD], y[VHEAD], scores[KEYS];
  for (uint d = 0; d < HEAD; d++) query[d] = q[d] * scale;
  for (uint e = 0; e < VHEAD; e++) y[e] = 0;
  REAL top = -INFINITY, total = 0;
  const uint behind = (get_group_id(0) + 1) * BLOCK;
  const uint end = visible(flags, behind < n ? behind : n, n, m);
  for (uint first = 0; first < end; first += KEYS) {
    const uint count = end - first < KEYS ? end - first : KEYS;
    barrier(CLK_LOCAL_MEM_FENCE);
    share(k + first * k_row, k_row, count, HEAD, keys);
    share(v + first * v_row, v_row, count, VHEAD, values);
    barrier(CLK_LOCAL_MEM_FENCE);
    REAL largest = top;
    for (uint j = 0; j < count; j++) {
      REAL s = 0;
      for (uint d = 0; d < HEAD; d++) s += query[d] * keys[j * HEAD + d];
      if (hidden(flags, row, first + j, n, m, mask, mask_row, mask_key)) s = -INFINITY;
      scores[j] = s;
      largest = s > largest ? s : largest;
    }
    /* While a query has seen nothing, -∞ - -∞ must not make it NaN. */
    const REAL shift = largest == -INFINITY ? 0 : largest;
    const REAL factor = exp(top - shift);
    top = largest;
    total *= factor;
    for (uint e = 0; e < VHEAD; e++) y[e] *= factor;
    for (uint j = 0; j < count; j++) {
      const REAL p = exp(scores[j] - shift);
      total += p;
      for (uint e = 0; e < VHEAD; e++) y[e] += p * values[j * VHEAD + e];
    }
  }
  if (i >= n) return;
  /* A query that sees none of the keys is 0/0 = NaN; without any keys the sum is 0. */
  out += AT(batch, head, out) + row * out_row;
  for (uint e = 0; e < VHEAD; e++) out[e] = m ? y[e] / total : 0;
  if (flags & SAVING)
    sums[sums_start + ((ulong)batch * get_global_size(1) + head) * n + i] = top + log(total);
}

/* The gradient of the queries; also, for the other kernel, `means`: each row's Σ g·y.
   Global size (n in whole blocks, heads, batch). */
kernel __attribute__((reqd_work_group_size(BLOCK, 1, 1))) void attention_vjp_q(
    global const REAL *g, ulong g_start, ulong g_batch, ulong g_head, ulong g_row,
    global const REAL *y, ulong y_start, ulong y_batch, ulong y_head, ulong y_row,
    global const REAL *sums, ulong sums_start,
    global const REAL *q, ulong q_start, ulong q_batch, ulong q_head, ulong q_row,
    global const REAL *k, ulong k_start, ulong k_batch, ulong k_head, ulong k_row,
    global const REAL *v, ulong v_start, ulong v_batch, ulong v_head, ulong v_row,
    global const uchar *mask, ulong mask_start, ulong mask_batch, ulong mask_head, ulong mask_row,
    ulong mask_key,
    global REAL *means, ulong means_start,
    global REAL *to_q, ulong to_q_start, ulong to_q_batch, ulong to_q_head, ulong to_q_row,
    uint n, uint m, int flags, REAL scale) {
  local REAL keys[KEYS * HEAD], values[KEYS * VHEAD];
  const uint i = get_global_id(0), head = get_global_id(1), batch = get_global_id(2);
  const uint row = i < n ? i : n - 1;
  const ulong place = ((ulong)batch * get_global_size(1) + head) * n + row;
  q += AT(batch, head, q) + row * q_row;
  g += AT(batch, head, g) + row * g_row;
  y += AT(batch, head, y) + row * y_row;
  k += AT(batch, head, k);
  v += AT(batch, head, v);
  if (flags & MASKED) mask += AT(batch, head, mask);

  REAL query[HEAD], slope[VHEAD], sum[HEAD];
  REAL mean = 0;
  for (uint d = 0; d < HEAD; d++) query[d] = q[d] * scale;
  for (uint d = 0; d < HEAD; d++) sum[d] = 0;
  for (uint e = 0; e < VHEAD; e++) slope[e] = g[e];
  for (uint e = 0; e < VHEAD; e++) mean += slope[e] * y[e];
  if (i < n) means[means_start + place] = mean;
  const REAL log_sum = sums[sums_start + place];

  /* A query that sees no key at all is NaN. */
  const uint begin = get_group_id(0) * BLOCK, behind = begin + BLOCK;
  const uint end =
      (flags & CAUSAL) && begin + m < n ? m : visible(flags, behind < n ? behind : n, n, m);
  for (uint first = 0; first < end; first += KEYS) {
    const uint count = end - first < KEYS ? end - first : KEYS;
    barrier(CLK_LOCAL_MEM_FENCE);
    share(k + first * k_row, k_row, count, HEAD, keys);
    share(v + first * v_row, v_row, count, VHEAD, values);
    barrier(CLK_LOCAL_MEM_FENCE);
    for (uint j = 0; j < count; j++) {
      REAL s = 0, inner = 0;
      for (uint d = 0; d < HEAD; d++) s += query[d] * keys[j * HEAD + d];
      for (uint e = 0; e < VHEAD; e++) inner += slope[e] * values[j * VHEAD + e];
      if (hidden(flags, row, first + j, n, m, mask, mask_row, mask_key)) s = -INFINITY;
      const REAL change = exp(s - log_sum) * (inner - mean);
      for (uint d = 0; d < HEAD; d++) sum[d] += change * keys[j * HEAD + d];
    }
  }
  if (i >= n) return;
  to_q += AT(batch, head, to_q) + row * to_q_row;
  for (uint d = 0; d < HEAD; d++) to_q[d] = sum[d] * scale;
}

/* The gradients of keys and values, after attention_vjp_q.
   Global size (m in whole blocks, heads, batch). */
kernel __attribute__((reqd_work_group_size(BLOCK, 1, 1))) void attention_vjp_kv(
    global const REAL *g, ulong g_start, ulong g_batch, ulong g_head, ulong g_row,
    global const REAL *sums, ulong sums_start,
    global const REAL *q, ulong q_start, ulong q_batch, ulong q_head, ulong q_row,
    global const REAL *k, ulong k_start, ulong k_batch, ulong k_head, ulong k_row,
    global const REAL *v, ulong v_start, ulong v_batch, ulong v_head, ulong v_row,
    global const uchar *mask, ulong mask_start, ulong mask_batch, ulong mask_head, ulong mask_row,
    ulong mask_key,
    global const REAL *means, ulong means_start,
    global REAL *to_k, ulong to_k_start, ulong to_k_batch, ulong to_k_head, ulong to_k_row,
    global REAL *to_v, ulong to_v_start, ulong to_v_batch, ulong to_v_head, ulong to_v_row,
    uint n, uint m, int flags, REAL scale) {
  local REAL queries[KEYS * HEAD], slopes[KEYS * VHEAD], log_sums[KEYS], shared_means[KEYS];
  const uint j = get_global_id(0), head = get_global_id(1), batch = get_global_id(2);
  const uint row = j < m ? j : m - 1;
  const ulong place = ((ulong)batch * get_global_size(1) + head) * n;
  q += AT(batch, head, q);
  g += AT(batch, head, g);
  k += AT(batch, head, k) + row * k_row;
  v += AT(batch, head, v) + row * v_row;
  sums += sums_start + place;
  means += means_start + place;
  if (flags & MASKED) mask += AT(batch, head, mask);

  REAL key[HEAD], value[VHEAD], sum_k[HEAD], sum_v[VHEAD];
  for (uint d = 0; d < HEAD; d++) key[d] = k[d];
  for (uint e = 0; e < VHEAD; e++) value[e] = v[e];
  for (uint d = 0; d < HEAD; d++) sum_k[d] = 0;
  for (uint e = 0; e < VHEAD; e++) sum_v[e] = 0;

  /* Causal: from the first query that sees the block's first key. Queries that see no key at all
     (n > m) spread NaN to all of them. */
  const uint begin = get_group_id(0) * BLOCK;
  const uint start = (flags & CAUSAL) && n <= m && begin > m - n ? begin - (m - n) : 0;
  for (uint first = start; first < n; first += KEYS) {
    const uint count = n - first < KEYS ? n - first : KEYS;
    barrier(CLK_LOCAL_MEM_FENCE);
    share(q + first * q_row, q_row, count, HEAD, queries);
    share(g + first * g_row, g_row, count, VHEAD, slopes);
    share(sums + first, 1, count, 1, log_sums);
    share(means + first, 1, count, 1, shared_means);
    barrier(CLK_LOCAL_MEM_FENCE);
    for (uint i = 0; i < count; i++) {
      REAL s = 0, inner = 0;
      /* Rounded as in forward: with large scores the last digits decide about the weights. */
      for (uint d = 0; d < HEAD; d++) s += queries[i * HEAD + d] * scale * key[d];
      for (uint e = 0; e < VHEAD; e++) inner += value[e] * slopes[i * VHEAD + e];
      if (hidden(flags, first + i, row, n, m, mask, mask_row, mask_key)) s = -INFINITY;
      const REAL weight = exp(s - log_sums[i]);
      const REAL change = weight * (inner - shared_means[i]);
      for (uint e = 0; e < VHEAD; e++) sum_v[e] += weight * slopes[i * VHEAD + e];
      for (uint d = 0; d < HEAD; d++) sum_k[d] += change * queries[i * HEAD + d];
    }
  }
  if (j >= m) return;
  to_k += AT(batch, head, to_k) + row * to_k_row;
  to_v += AT(batch, head, to_v) + row * to_v_row;
  for (uint d = 0; d < HEAD; d++) to_k[d] = sum_k[d] * scale;
  for (uint e = 0; e < VHEAD; e++) to_v[e] = sum_v[e];
}
