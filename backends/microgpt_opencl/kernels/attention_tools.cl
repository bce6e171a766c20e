/* Attention for processors with vector units: softmax(q·kᵀ·scale)·v and its gradients.

   The scores of all queries with all keys are never in memory at once: a work-item takes ROWS
   queries and goes through the keys in blocks of KEYS. It keeps each row's largest score and its
   sum of exponentials so far, and rescales what it has when a larger score comes ("online softmax").
   For backward the logarithm of each row's sum is saved; weights are computed again from it.
   Source: Dao et al., FlashAttention, arXiv:2205.14135, algorithms 1 and 4.

   Scores are stored with queries side by side: scores[key][query]. So the lanes of a vector are
   ROWS queries, maxima and sums over keys need no steps across lanes, and of all matrices only
   the block's queries (backward: and the gradients of its outputs) are transposed, once.

   Every product is made of tiles of TILE × 2 vectors that are summed in registers.

   Macros: REAL (float, double), WIDTH (lanes of a vector: 2, 4, 8, 16), TILE (4 or 8 rows of a tile;
   4 for processors with 16 vector registers), HEAD and VHEAD (sizes of a query and of a value). */

#pragma OPENCL FP_CONTRACT ON

#ifndef TILE
#define TILE 8
#endif
#ifndef KEYS
#define KEYS 64
#endif

#define VECTOR JOIN(REAL, WIDTH)
#define LEAST(a, b) ((a) < (b) ? (a) : (b))

/* Vectors anywhere in memory. (vload and vstore, min and clamp are calls in some compilers, which
   keep the accumulators around them out of the registers.) */
#define PART static inline __attribute__((always_inline))
typedef VECTOR LOOSE __attribute__((aligned(sizeof(REAL))));
PART __attribute__((overloadable)) VECTOR load(global const REAL *p) {
  return *(global const LOOSE *)p;
}
PART __attribute__((overloadable)) VECTOR load(private const REAL *p) {
  return *(private const LOOSE *)p;
}
PART __attribute__((overloadable)) void store(VECTOR x, global REAL *p) {
  *(global LOOSE *)p = x;
}
PART __attribute__((overloadable)) void store(VECTOR x, private REAL *p) {
  *(private LOOSE *)p = x;
}

#define ROWS (2 * WIDTH)
#define PADDED(size) (((size) + WIDTH - 1) / WIDTH * WIDTH)

#define CAUSAL 1
#define MASKED 2
#define SAVING 4

#if WIDTH == 16
#define LANES (VECTOR)(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15)
#elif WIDTH == 8
#define LANES (VECTOR)(0, 1, 2, 3, 4, 5, 6, 7)
#elif WIDTH == 4
#define LANES (VECTOR)(0, 1, 2, 3)
#else
#define LANES (VECTOR)(0, 1)
#endif

/* eˣ for x ≤ 0, which is all that a softmax needs: 2ⁿ·eʳ with x = n·ln 2 + r and |r| ≤ ln(2)/2.

   Adding 1.5·2²³ rounds to a whole number, which then is in the lowest bits. Results below 4·10⁻³⁸
   become 0. NaN stays NaN. Polynomial: least squares on Chebyshev nodes, relative error 4·10⁻⁹. */
#define IS_float 1
#if JOIN(IS_, REAL)
PART VECTOR exponential(const VECTOR x) {
  const VECTOR least = (VECTOR)(-86), magic = (VECTOR)(12582912);
  const VECTOR bounded = x < least ? least : x;
  const VECTOR shifted = bounded * (VECTOR)(1.44269504f) + magic;
  const VECTOR n = shifted - magic;
  const VECTOR r = (bounded - n * (VECTOR)(0.693359375f)) - n * (VECTOR)(-2.12194440e-4f);
  VECTOR p = (VECTOR)(1.375115027e-03f);
  p = p * r + (VECTOR)(8.368987231e-03f);
  p = p * r + (VECTOR)(4.166954428e-02f);
  p = p * r + (VECTOR)(1.666651787e-01f);
  p = p * r + (VECTOR)(4.999998853e-01f);
  p = p * r + (VECTOR)(1);
  p = p * r + (VECTOR)(1);
  const JOIN(int, WIDTH) power = JOIN(as_int, WIDTH)(shifted) << 23;
  const VECTOR y = JOIN(as_float, WIDTH)(JOIN(as_int, WIDTH)(p) + power);
  return x < least ? (VECTOR)(0) : y;
}
#else
#define exponential exp
#endif

/* ---- products ------------------------------------------------------------------------------- */

#if TILE == 8
#define EACH(F) F(0) F(1) F(2) F(3) F(4) F(5) F(6) F(7)
#else
#define EACH(F) F(0) F(1) F(2) F(3)
#endif

/* c[r] (+)= Σ a[r·a_row + s·a_step] · b[s] over `count` steps s, for TILE rows r of c.

   Rows after `last` repeat row `last`, so that a tile at the edge reads and writes nothing else.
   Accumulators have names because compilers keep arrays of vectors in memory. */
#define DECLARE(r)                                            \
  A_SPACE const REAL *a##r = a + LEAST((uint)r, last) * a_row;  \
  C_SPACE REAL *c##r = c + LEAST((uint)r, last) * c_row;
#define START2(r)                                             \
  VECTOR x##r = add ? load(c##r) : (VECTOR)(0);               \
  VECTOR y##r = add ? load(c##r + WIDTH) : (VECTOR)(0);
#define STEP2(r)                                              \
  {                                                           \
    const VECTOR t = (VECTOR)(a##r[s * a_step]);              \
    x##r += t * left;                                         \
    y##r += t * right;                                        \
  }
#define FINISH2(r)                                            \
  store(x##r, c##r);                                          \
  store(y##r, c##r + WIDTH);
#define START1(r) VECTOR x##r = add ? load(c##r) : (VECTOR)(0);
#define STEP1(r) x##r += (VECTOR)(a##r[s * a_step]) * left;
#define FINISH1(r) store(x##r, c##r);

#define PARAMETERS                                                                               \
  A_SPACE const REAL *a, const size_t a_row, const size_t a_step, const uint last,               \
      B_SPACE const REAL *b, const size_t b_row, const uint count, C_SPACE REAL *c,              \
      const size_t c_row, const bool add

#define DEFINE_PRODUCT(NAME)                                  \
  static inline void NAME##_2(PARAMETERS) {                   \
    EACH(DECLARE)                                             \
    EACH(START2)                                              \
    for (uint s = 0; s < count; s++) {                        \
      const VECTOR left = load(b + s * b_row);                \
      const VECTOR right = load(b + s * b_row + WIDTH);       \
      EACH(STEP2)                                             \
    }                                                         \
    EACH(FINISH2)                                             \
  }                                                           \
  static inline void NAME##_1(PARAMETERS) {                   \
    EACH(DECLARE)                                             \
    EACH(START1)                                              \
    for (uint s = 0; s < count; s++) {                        \
      const VECTOR left = load(b + s * b_row);                \
      EACH(STEP1)                                             \
    }                                                         \
    EACH(FINISH1)                                             \
  }                                                           \
  /* The same for all `width` columns, a multiple of WIDTH. */\
  static inline void NAME(PARAMETERS, const uint width) {     \
    uint i = 0;                                               \
    for (; i + 2 * WIDTH <= width; i += 2 * WIDTH)            \
      NAME##_2(a, a_row, a_step, last, b + i, b_row, count, c + i, c_row, add); \
    if (i < width)                                            \
      NAME##_1(a, a_row, a_step, last, b + i, b_row, count, c + i, c_row, add); \
  }

#define A_SPACE global
#define B_SPACE private
#define C_SPACE private
DEFINE_PRODUCT(score)
#undef A_SPACE
#define A_SPACE private
DEFINE_PRODUCT(product)
#undef B_SPACE
#define B_SPACE global
DEFINE_PRODUCT(product_from_global)
#undef B_SPACE
#undef C_SPACE
#define B_SPACE private
#define C_SPACE global
DEFINE_PRODUCT(product_to_global)

/* ---- blocks --------------------------------------------------------------------------------- */

/* Copy `count` rows, times `scale`, to rows of PADDED(size) numbers; what is missing becomes 0. */
static inline void pack(global const REAL *from, const ulong stride, const uint count,
                        const uint rows, const uint size, const REAL scale, private REAL *to) {
  for (uint r = 0; r < rows; r++, from += stride, to += PADDED(size)) {
    if (r >= count) {
      for (uint d = 0; d < PADDED(size); d += WIDTH) store((VECTOR)(0), to + d);
      continue;
    }
    uint d = 0;
    for (; d + WIDTH <= size; d += WIDTH) store(load(from + d) * scale, to + d);
    for (; d < size; d++) to[d] = from[d] * scale;
    for (; d < PADDED(size); d++) to[d] = 0;
  }
}

/* Transpose WIDTH × WIDTH numbers by perfect shuffles: log₂(WIDTH) times the first half of the rows
   is interleaved with the second. */
static inline void transpose_square(private const REAL *from, const uint from_row,
                                    private REAL *to, const uint to_row) {
  VECTOR one[WIDTH], two[WIDTH];
  private VECTOR *x = one, *y = two;
  for (uint r = 0; r < WIDTH; r++) x[r] = load(from + r * from_row);
  for (uint step = 1; step < WIDTH; step *= 2) {
    for (uint r = 0; r < WIDTH / 2; r++) {
      const VECTOR a = x[r], b = x[r + WIDTH / 2];
      VECTOR low, high;
      low.even = a.lo;
      low.odd = b.lo;
      high.even = a.hi;
      high.odd = b.hi;
      y[2 * r] = low;
      y[2 * r + 1] = high;
    }
    private VECTOR *swap = x;
    x = y;
    y = swap;
  }
  for (uint r = 0; r < WIDTH; r++) store(x[r], to + r * to_row);
}

/* ROWS rows of PADDED(size) numbers become PADDED(size) rows of ROWS numbers. */
static inline void transpose(private const REAL *from, const uint size, private REAL *to) {
  for (uint d = 0; d < PADDED(size); d += WIDTH)
    for (uint r = 0; r < ROWS; r += WIDTH)
      transpose_square(from + r * PADDED(size) + d, PADDED(size), to + d * ROWS + r, ROWS);
}

/* Which keys the block's queries may see. */
typedef struct {
  int flags;
  long future; /* key j is hidden from query r of the block if j > r + future */
  global const uchar *mask; /* of the block's first query and key 0 */
  ulong mask_row, mask_key;
  uint rows;
} Sight;

/* x, the scores of key j with queries `first` and later of the block, -∞ where j is hidden. */
static inline VECTOR hide(VECTOR x, const Sight sight, const uint first, const uint j) {
  const long hidden = (long)j - sight.future - first;
  if ((sight.flags & CAUSAL) && hidden > 0)
    x = LANES < (VECTOR)(hidden) ? (VECTOR)(-INFINITY) : x;
  if (sight.flags & MASKED) {
    REAL seen[WIDTH];
    for (uint r = 0; r < WIDTH; r++)
      seen[r] = first + r >= sight.rows ||
                sight.mask[(first + r) * sight.mask_row + j * sight.mask_key];
    x = load(seen) == (VECTOR)(0) ? (VECTOR)(-INFINITY) : x;
  }
  return x;
}

/* How many keys the queries before `end` see together. */
static inline uint visible(const int flags, const uint end, const uint n, const uint m) {
  const long keys = flags & CAUSAL ? (long)end + m - n : m;
  return keys < 0 ? 0 : (uint)LEAST(keys, (long)m);
}

/* How many of the block's first queries do not see key j, where it is causality that hides it. */
static inline uint blind(const long future, const uint j) {
  return (long)j > future ? (uint)(j - future) : 0;
}

/* scores[j] for `count` keys, and anything else that is keys or values times transposed rows. */
static inline void score_block(global const REAL *k, const ulong stride, const uint count,
                               private const REAL *across, const uint size,
                               private REAL *scores, const long future) {
  for (uint j = 0; j < count; j += TILE) {
    const uint last = LEAST(count - j, (uint)TILE) - 1;
    if (blind(future, j) < WIDTH)
      score_2(k + j * stride, stride, 1, last, across, ROWS, size, scores + j * ROWS, ROWS, false);
    else
      score_1(k + j * stride, stride, 1, last, across + WIDTH, ROWS, size,
              scores + j * ROWS + WIDTH, ROWS, false);
  }
}

/* sum[query] += Σ weights[key][query] · x[key] over `count` keys, for rows x of `size` numbers.

   `room` is used where rows are no whole number of vectors. */
static inline void weigh(private const REAL *weights, global const REAL *x, const ulong stride,
                         const uint count, const uint size, private REAL *sum,
                         private REAL *room, const long future) {
  const uint width = PADDED(size);
  if (size % WIDTH) pack(x, stride, count, count, size, 1, room);
  for (uint r = 0; r < ROWS; r += TILE) {
    const long sighted = (long)r + TILE + future;
    const uint seen = sighted < 0 ? 0 : (uint)LEAST((long)count, sighted);
    if (size % WIDTH)
      product(weights + r, 1, ROWS, TILE - 1, room, width, seen, sum + r * width, width, true,
              width);
    else
      product_from_global(weights + r, 1, ROWS, TILE - 1, x, stride, seen, sum + r * width,
                          width, true, width);
  }
}

/* to[key] (+)= Σ weights[key][query] · x[query] over `rows` queries. */
static inline void weigh_back(private const REAL *weights, private const REAL *x, const uint rows,
                              const uint count, const uint size, global REAL *to,
                              const ulong stride, const bool add, const long future) {
  const uint width = PADDED(size);
  for (uint j = 0; j < count; j += TILE) {
    const uint last = LEAST(count - j, (uint)TILE) - 1;
    const uint skip = LEAST(blind(future, j), rows);
    private const REAL *w = weights + j * ROWS + skip, *seeing = x + skip * width;
    if (size % WIDTH) {
      REAL tile[TILE * PADDED(HEAD > VHEAD ? HEAD : VHEAD)];
      product(w, ROWS, 1, last, seeing, width, rows - skip, tile, width, false, width);
      for (uint r = 0; r <= last; r++)
        for (uint d = 0; d < size; d++) {
          global REAL *target = to + (j + r) * stride + d;
          *target = add ? *target + tile[r * width + d] : tile[r * width + d];
        }
    } else {
      product_to_global(w, ROWS, 1, last, seeing, width, rows - skip, to + j * stride, stride,
                        add, width);
    }
  }
}

/* Store `count` rows of `size` numbers, each times its factor. */
static inline void unpack(private const REAL *from, private const REAL *factors, const uint count,
                          const uint size, global REAL *to, const ulong stride) {
  for (uint r = 0; r < count; r++, from += PADDED(size), to += stride) {
    uint d = 0;
    for (; d + WIDTH <= size; d += WIDTH) store(load(from + d) * factors[r], to + d);
    for (; d < size; d++) to[d] = from[d] * factors[r];
  }
}

