// Reductions: sums, products, extremes, sums of squares and of exponentials along one axis.
//
// An array is seen as (outer, n, inner); outer is up to three axes with strides of their own. One
// launch puts together elements along n, in parts of `part` elements: the result is
// (outer, parts, inner), and a second launch reduces its parts, unless there is only one. How an
// axis is cut depends on its length only, so a sum has the same bits whatever shares the work.
//
// Rounding errors: adding one by one is off by up to n·u·Σ|x|; summing blocks and then the sums of
// the blocks, each with several independent accumulators, keeps chains short (N. J. Higham, "The
// accuracy of floating point summation", SIAM J. Sci. Comput. 14, 1993).
//
// For a CPU (WIDTH > 1) loops over vectors: `rows` where n lies contiguous (inner = 1), `columns`
// where inner does. WIDTH does not follow the device, again for the sake of equal bits. For a GPU
// `rows_gpu`, a work-group per result, and `columns_gpu`, a work-item per result.
//
// Macros: OP; IN, the type of x; ACC, that of results; SIGNED, a signed integer as wide as ACC;
// START, the value with which combining changes nothing; WIDEN if IN and ACC differ; WIDTH; LOCAL.

#define SUM 0
#define PROD 1
#define MAX 2
#define MIN 3
#define SQUARES 4  // Σ (x - c)²
#define EXPS 5     // Σ exp(x - c)

#define ID ((ACC)(START))

#if OP == PROD
#define COMBINE(a, b) ((a) * (b))
#elif OP == MAX  // NaN wins: it is not below a, and stays
#define COMBINE(a, b) (((a) >= (b)) | ((a) != (a)) ? (a) : (b))
#elif OP == MIN
#define COMBINE(a, b) (((a) <= (b)) | ((a) != (a)) ? (a) : (b))
#else
#define COMBINE(a, b) ((a) + (b))
#endif

#if OP == SQUARES
#define MAP(x, c) (((x) - (c)) * ((x) - (c)))
#elif OP == EXPS
#define MAP(x, c) exp((x) - (c))
#else
#define MAP(x, c) (x)
#endif

#if OP == SQUARES || OP == EXPS
#define CENTRE(p) (*(p))
#define CENTRES(p) LOAD_ACC(p)
#else
#define CENTRE(p) ((ACC)0)
#define CENTRES(p) ((LANES)0)
#endif

#define MULTIPLY 1
#define DIVIDE 2
#define FINISHED(a) (finish == MULTIPLY ? (a) * factor : finish == DIVIDE ? (a) / factor : (a))

static inline long place(int o, int len1, int len2, long s0, long s1, long s2)
{
    const int rest = o / len2;
    return (rest / len1) * s0 + (rest % len1) * s1 + (o % len2) * s2;
}

#if WIDTH > 1
// Loads through types with the alignment of one element stay in registers; vload may be a call.
typedef JOIN(IN, WIDTH) IN_LANES;
typedef IN_LANES IN_ANYWHERE __attribute__((aligned(sizeof(IN))));
typedef JOIN(ACC, WIDTH) LANES;
typedef LANES ACC_ANYWHERE __attribute__((aligned(sizeof(ACC))));
typedef JOIN(SIGNED, WIDTH) MASK;
#define LOAD_ACC(p) (*(const global ACC_ANYWHERE *)(p))
#define STORE(v, p) (*(global ACC_ANYWHERE *)(p) = (v))
#ifdef WIDEN
#define LOAD(p) JOIN(JOIN(convert_, ACC), WIDTH)(*(const global IN_ANYWHERE *)(p))
#else
#define LOAD(p) (*(const global IN_ANYWHERE *)(p))
#endif

#if WIDTH == 16
#define NUMBERS (MASK)(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15)
#else
#define NUMBERS (MASK)(0, 1, 2, 3, 4, 5, 6, 7)
#endif

#define BLOCK 8192

// All lanes put together, halves at a time.
static inline ACC across(LANES v)
{
#if WIDTH == 16
    const JOIN(ACC, 8) a = v.lo, b = v.hi, eight = COMBINE(a, b);
#else
    const JOIN(ACC, 8) eight = v;
#endif
    const JOIN(ACC, 4) c = eight.lo, d = eight.hi, four = COMBINE(c, d);
    const JOIN(ACC, 2) e = four.lo, f = four.hi, two = COMBINE(e, f);
    return COMBINE(two.lo, two.hi);
}

// At most BLOCK elements that lie side by side. Lanes behind the end are read, and replaced.
static inline ACC block(const global IN *x, int count, ACC c)
{
    LANES a = ID, b = ID, d = ID, e = ID;
    int i = 0;
    for (; i + 4 * WIDTH <= count; i += 4 * WIDTH) {
        const LANES p = MAP(LOAD(x + i), c), q = MAP(LOAD(x + i + WIDTH), c);
        const LANES r = MAP(LOAD(x + i + 2 * WIDTH), c), s = MAP(LOAD(x + i + 3 * WIDTH), c);
        a = COMBINE(a, p);
        b = COMBINE(b, q);
        d = COMBINE(d, r);
        e = COMBINE(e, s);
    }
    for (; i < count; i += WIDTH) {
        const LANES p = MAP(LOAD(x + i), c);
        const MASK left = (SIGNED)min(count - i, WIDTH);
        const LANES q = NUMBERS < left ? p : (LANES)ID;
        a = COMBINE(a, q);
    }
    a = COMBINE(a, b);
    d = COMBINE(d, e);
    return across(COMBINE(a, d));
}

// y[o, p] = the elements p·part … of row o of x. Work-groups: `share` results each, of `total`.
WIDE kernel void rows(
    global const IN *x, ulong x_start, global ACC *y, ulong y_start,
    global const ACC *c, ulong c_start, int len1, int len2, long s0, long s1, long s2,
    int n, int part, int parts, int total, int share, int finish, ACC factor)
{
    const int first = get_group_id(0) * share, last = min(first + share, total);
    for (int at = first; at < last; ++at) {
        const int o = at / parts, p = at % parts, count = min(part, n - p * part);
        const global IN *row = x + x_start + place(o, len1, len2, s0, s1, s2) + (long)p * part;
        const ACC centre = CENTRE(c + c_start + o);
        ACC all = block(row, min(count, BLOCK), centre);
        for (int i = BLOCK; i < count; i += BLOCK) {
            const ACC more = block(row + i, min(count - i, BLOCK), centre);
            all = COMBINE(all, more);
        }
        y[y_start + at] = FINISHED(all);
    }
}

#define PAIR(a, r) MAP(LOAD(x + i + (r) * step), a)

// y[o, p, i] = the rows p·part … of matrix o of x, added up column by column. Eight rows at a time
// are read side by side, which memory likes better than one column block after the other; sums of
// eight go to y. Work-groups: `share` tiles each, of `total`; a tile is `tile` columns.
WIDE kernel void columns(
    global const IN *all_x, ulong x_start, global ACC *all_y, ulong y_start,
    global const ACC *all_c, ulong c_start, int len1, int len2, long s0, long s1, long s2,
    int n, long step, int part, int parts, int inner, int tile, int tiles,
    int total, int share, int finish, ACC factor)
{
    const int first = get_group_id(0) * share, last = min(first + share, total);
    for (int at = first; at < last; ++at) {
        const int q = at / tiles, o = q / parts, p = q % parts;
        const int left = at % tiles * tile, right = min(left + tile, inner);
        const int whole = left + (right - left) / WIDTH * WIDTH;
        const int count = min(part, n - p * part);
        const global IN *x = all_x + x_start + place(o, len1, len2, s0, s1, s2)
                             + (long)p * part * step;
        global ACC *y = all_y + y_start + (long)q * inner;
        const global ACC *c = all_c + c_start + (long)o * inner;
        int r = 0;
        for (; r + 8 <= count; r += 8, x += 8 * step)
            for (int i = left; i < whole; i += WIDTH) {
                const LANES m = CENTRES(c + i);
                const LANES x0 = PAIR(m, 0), x1 = PAIR(m, 1), x2 = PAIR(m, 2), x3 = PAIR(m, 3);
                const LANES x4 = PAIR(m, 4), x5 = PAIR(m, 5), x6 = PAIR(m, 6), x7 = PAIR(m, 7);
                const LANES a = COMBINE(x0, x1), b = COMBINE(x2, x3), d = COMBINE(x4, x5);
                const LANES e = COMBINE(x6, x7), f = COMBINE(a, b), g = COMBINE(d, e);
                LANES sum = COMBINE(f, g);
                if (r > 0) {
                    const LANES before = LOAD_ACC(y + i);
                    sum = COMBINE(before, sum);
                }
                STORE(sum, y + i);
            }
        for (; r < count; ++r, x += step)
            for (int i = left; i < whole; i += WIDTH) {
                const LANES m = CENTRES(c + i), one = PAIR(m, 0);
                const LANES before = r > 0 ? LOAD_ACC(y + i) : (LANES)ID;
                STORE(COMBINE(before, one), y + i);
            }
        if (finish)
            for (int i = left; i < whole; i += WIDTH) {
                const LANES sum = LOAD_ACC(y + i);
                STORE(FINISHED(sum), y + i);
            }
        x -= (long)count * step;
        for (int i = whole; i < right; ++i) {
            const ACC m = CENTRE(c + i);
            ACC sum = ID;
            for (r = 0; r < count; r += 8) {
                ACC eight = ID;
                for (int k = r; k < min(r + 8, count); ++k) {
                    const ACC one = MAP((ACC)x[i + k * step], m);
                    eight = COMBINE(eight, one);
                }
                sum = COMBINE(sum, eight);
            }
            y[i] = FINISHED(sum);
        }
    }
}
#else

// y[o, p] = the elements p·part … of row o of x. A work-group per result: each work-item takes
// every LOCAL-th element, then they meet in local memory, halves at a time.
kernel void rows_gpu(
    global const IN *x, ulong x_start, global ACC *y, ulong y_start,
    global const ACC *c, ulong c_start, int len1, int len2, long s0, long s1, long s2,
    int n, int part, int parts, int finish, ACC factor)
{
    local ACC sums[LOCAL];
    const int at = get_group_id(0), me = get_local_id(0);
    const int o = at / parts, p = at % parts, count = min(part, n - p * part);
    const global IN *row = x + x_start + place(o, len1, len2, s0, s1, s2) + (long)p * part;
    const ACC centre = CENTRE(c + c_start + o);
    ACC sum = ID;
    for (int i = me; i < count; i += LOCAL) {
        const ACC one = MAP((ACC)row[i], centre);
        sum = COMBINE(sum, one);
    }
    sums[me] = sum;
    for (int reach = LOCAL / 2; reach > 0; reach /= 2) {
        barrier(CLK_LOCAL_MEM_FENCE);
        if (me < reach) sums[me] = COMBINE(sums[me], sums[me + reach]);
    }
    if (me == 0) y[y_start + at] = FINISHED(sums[0]);
}

// y[o, p, i] = the rows p·part … of matrix o of x, column i. A work-item per result; columns are
// `along` apart, so it serves short rows too.
kernel void columns_gpu(
    global const IN *x, ulong x_start, global ACC *y, ulong y_start,
    global const ACC *c, ulong c_start, int len1, int len2, long s0, long s1, long s2,
    int n, long step, int part, int parts, int inner, long along, int total, int finish, ACC factor)
{
    const int at = get_global_id(0);
    if (at >= total) return;
    const int q = at / inner, i = at % inner, o = q / parts, p = q % parts;
    const int count = min(part, n - p * part);
    const ACC centre = CENTRE(c + c_start + (long)o * inner + i);
    x += x_start + place(o, len1, len2, s0, s1, s2) + (long)p * part * step + i * along;
    ACC a = ID, b = ID;
    int r = 0;
    for (; r + 2 <= count; r += 2) {
        const ACC even = MAP((ACC)x[r * step], centre), odd = MAP((ACC)x[(r + 1) * step], centre);
        a = COMBINE(a, even);
        b = COMBINE(b, odd);
    }
    if (r < count) {
        const ACC one = MAP((ACC)x[r * step], centre);
        a = COMBINE(a, one);
    }
    a = COMBINE(a, b);
    y[y_start + at] = FINISHED(a);
}
#endif
