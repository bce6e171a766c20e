// Moving elements: parts side by side (concat), into the middle of something larger (pad, and
// unslice, the adjoint of slicing), and triangles of matrices.
//
// Elements are moved as bit patterns: a WORD is an unsigned integer of their size, so that one
// kernel serves all types of that size and nothing can change on the way.
//
// With WIDTH > 1, for CPUs, a work-item writes whole rows, which are runs of memory, WIDTH words at
// a time; the last vector of a run overlaps the one before. With WIDTH 1 work-items next to each
// other write words next to each other, which is what GPUs are fast at.
//
// Macros: WORD (uchar, ushort, uint, ulong), WIDTH.

#if WIDTH > 1
typedef JOIN(WORD, WIDTH) LANES;
typedef LANES LANES_ANYWHERE __attribute__((aligned(sizeof(WORD))));
#define LOAD(p) (*(const global LANES_ANYWHERE *)(p))
#define STORE(v, p) (*(global LANES_ANYWHERE *)(p) = (v))

// y[0 … n) = x[0, step, 2·step, …]
static inline void copy_run(global WORD *y, const global WORD *x, long step, int n)
{
    if (step != 1 || n < WIDTH) {
        for (int i = 0; i < n; ++i) y[i] = x[i * step];
        return;
    }
    for (int i = 0; i + WIDTH <= n; i += WIDTH) STORE(LOAD(x + i), y + i);
    STORE(LOAD(x + n - WIDTH), y + n - WIDTH);
}

static inline void fill_run(global WORD *y, WORD value, int n)
{
    if (n < WIDTH) {
        for (int i = 0; i < n; ++i) y[i] = value;
        return;
    }
    for (int i = 0; i + WIDTH <= n; i += WIDTH) STORE((LANES)(value), y + i);
    STORE((LANES)(value), y + n - WIDTH);
}
#endif

// The part of x, `rows` rows of n words, that goes to column `at` of the rows of y.
static inline void copy_part(
    global WORD *y, int total, int at, const global WORD *x, int n, long stride, int rows)
{
    y += at;
#if WIDTH > 1
    const int group = get_group_id(0), groups = get_num_groups(0);
    if (rows == 1) {  // one long row: each group copies a piece of it
        const int share = (n + groups - 1) / groups, first = min(group * share, n);
        copy_run(y + first, x + first, 1, min(share, n - first));
        return;
    }
    const int share = (rows + groups - 1) / groups, last = min((group + 1) * share, rows);
    for (int r = group * share; r < last; ++r)
        copy_run(y + (long)r * total, x + r * stride, 1, n);
#else
    const int count = rows * n, step = get_global_size(0);
    for (long i = get_global_id(0); i < count; i += step) {
        const int r = i / n, c = i - (long)r * n;
        y[(long)r * total + c] = x[r * stride + c];
    }
#endif
}

#define PART(k)                                                                                    \
    if (part == k) copy_part(y, total, at, x##k + x##k##_start, n##k, s##k, rows);                 \
    at += n##k;

// Up to 8 parts side by side: y[r, first + n0 + … + n(k-1) + c] = xk[r, c].
// total: length of a row of y; sk: steps from one row of xk to the next.
// Work-items: axis 1 has the parts, axis 0 shares the work of each.
kernel void concat(
    global WORD *y, ulong y_start, int total, int rows, int first,
    global const WORD *x0, ulong x0_start, int n0, long s0,
    global const WORD *x1, ulong x1_start, int n1, long s1,
    global const WORD *x2, ulong x2_start, int n2, long s2,
    global const WORD *x3, ulong x3_start, int n3, long s3,
    global const WORD *x4, ulong x4_start, int n4, long s4,
    global const WORD *x5, ulong x5_start, int n5, long s5,
    global const WORD *x6, ulong x6_start, int n6, long s6,
    global const WORD *x7, ulong x7_start, int n7, long s7)
{
    const int part = get_group_id(1);
    int at = first;
    y += y_start;
    PART(0) PART(1) PART(2) PART(3) PART(4) PART(5) PART(6) PART(7)
}

// Two parts: fewer arguments to hand over, for what is done in every step of a generation.
kernel void concat_two(
    global WORD *y, ulong y_start, int total, int rows, int first,
    global const WORD *x0, ulong x0_start, int n0, long s0,
    global const WORD *x1, ulong x1_start, int n1, long s1)
{
    const int part = get_group_id(1);
    int at = first;
    y += y_start;
    PART(0) PART(1)
}

#define OUTER(k)                                                                                   \
    if (n##k > 1 || m##k != 1) {                                                                   \
        const int q = rest % n##k - low##k, i = step##k == 1 ? q : q / step##k;                    \
        rest /= n##k;                                                                              \
        inside = inside && q >= 0 && i < m##k && i * step##k == q;                                 \
        from += i * s##k;                                                                          \
    }

// Element i of an axis of x lies at low + i · step of that axis of y, and all else is `value`.
// Axes 0 to 3 are the outer ones, "a" is the innermost: n is the length in y, m that in x, and s
// the step in memory from one element of x to the next. rows = n0 · n1 · n2 · n3.
kernel void pad(
    global WORD *y, ulong y_start, global const WORD *x, ulong x_start, WORD value, int rows,
    int n0, int low0, int step0, int m0, long s0,
    int n1, int low1, int step1, int m1, long s1,
    int n2, int low2, int step2, int m2, long s2,
    int n3, int low3, int step3, int m3, long s3,
    int na, int lowa, int stepa, int ma, long sa)
{
    y += y_start;
    x += x_start;
#if WIDTH > 1
    const int share = (rows + get_num_groups(0) - 1) / get_num_groups(0);
    const int last = min(((int)get_group_id(0) + 1) * share, rows);
    for (int row = get_group_id(0) * share; row < last; ++row) {
        int rest = row, inside = 1;
        long from = 0;
        OUTER(3) OUTER(2) OUTER(1) OUTER(0)
        global WORD *to = y + (long)row * na;
        if (inside && stepa == 1) {
            fill_run(to, value, lowa);
            copy_run(to + lowa, x + from, sa, ma);
            fill_run(to + lowa + ma, value, na - lowa - ma);
        } else {
            fill_run(to, value, na);
            for (int i = 0; inside && i < ma; ++i) to[lowa + i * stepa] = x[from + i * sa];
        }
    }
#else
    const long count = (long)rows * na;
    for (long k = get_global_id(0); k < count; k += get_global_size(0)) {
        int rest = k / na, inside = 1;
        const int q = k - (long)rest * na - lowa, i = q / stepa;
        inside = q >= 0 && i < ma && i * stepa == q;
        long from = i * sa;
        OUTER(3) OUTER(2) OUTER(1) OUTER(0)
        y[k] = inside ? x[from] : value;
    }
#endif
}

// Matrices of `height` rows and `width` columns, with 0 in place of elements above (upper == 0) or
// below (upper == 1) diagonal k, that is where column - row > k or < k. rows = matrices · height;
// sm, sr, sc: steps of x from one matrix, row and column to the next.
kernel void triangle(
    global WORD *y, ulong y_start, global const WORD *x, ulong x_start,
    int rows, int height, int width, long sm, long sr, long sc, int k, int upper)
{
    y += y_start;
    x += x_start;
#if WIDTH > 1
    const int share = (rows + get_num_groups(0) - 1) / get_num_groups(0);
    const int last = min(((int)get_group_id(0) + 1) * share, rows);
    for (int row = get_group_id(0) * share; row < last; ++row) {
        const int matrix = row / height, r = row - matrix * height;
        const int edge = upper ? clamp(r + k, 0, width) : clamp(r + k + 1, 0, width);
        const global WORD *from = x + matrix * sm + r * sr;
        global WORD *to = y + (long)row * width;
        if (upper) {
            fill_run(to, 0, edge);
            copy_run(to + edge, from + edge * sc, sc, width - edge);
        } else {
            copy_run(to, from, sc, edge);
            fill_run(to + edge, 0, width - edge);
        }
    }
#else
    const long count = (long)rows * width;
    for (long at = get_global_id(0); at < count; at += get_global_size(0)) {
        const int row = at / width, c = at - (long)row * width;
        const int matrix = row / height, r = row - matrix * height;
        const int kept = upper ? c - r >= k : c - r <= k;
        y[at] = kept ? x[matrix * sm + r * sr + c * sc] : 0;
    }
#endif
}
