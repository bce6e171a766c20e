// How the kernels that work row by row go along a row of n numbers, and add it up.
//
// On a processor one work-item goes along a row in vectors of WIDTH numbers. With WIDTH 1, for a
// graphics card, a work-group shares a row: its work-items take numbers in turn, and reduce in
// local memory. Kernels are written once for both:
//
//     EACH_ROW {              all rows of this work-group: `share` consecutive ones of `rows`
//         LANES sum = 0;
//         ALONG(i) sum += TAKE(x + START_OF(row), i, 0);      beyond the end of the row: zeros
//         const REAL mean = SUM(sum) / n;                     known to all work-items
//         ALONG(i) PUT(TAKE(…) - mean, y + START_OF(row), i);
//     }
//
// A row need not be a whole number of vectors. What is read beyond its end is replaced; what is
// written there is overwritten by the next row of the same work-item, and only in the last row of
// a work-item single numbers are written. Blocks have room behind their last element.
//
// Macros: REAL (float, double), WIDTH (1, 4, 8, 16). Comes before the file with the kernels.

#define IS_float 1
#define INLINE static inline __attribute__((always_inline))

#if JOIN(IS_, REAL)
typedef int BITS;
#define BITS_NAME int
#else
typedef long BITS;
#define BITS_NAME long
#endif

#define START_OF(row) ((long)(row) * n)
#define FIRST_ROW (get_group_id(0) * share)
#define LAST_ROW (FIRST_ROW + share < rows ? FIRST_ROW + share : rows)
#define EACH_ROW \
    for (int row = FIRST_ROW, last_row = LAST_ROW; row < last_row; ++row)

#if WIDTH > 1  // ---- a processor ----------------------------------------------------------------

typedef JOIN(REAL, WIDTH) LANES;
typedef JOIN(BITS_NAME, WIDTH) FLAGS;  // what comparisons of LANES give
// Loads and stores through a type that may lie anywhere: vload and vstore are calls in some drivers.
typedef LANES LANES_ANYWHERE __attribute__((aligned(sizeof(REAL))));
#define LOAD(p) (*(const global LANES_ANYWHERE *)(p))
#define STORE(v, p) (*(global LANES_ANYWHERE *)(p) = (v))

#if WIDTH == 16
#define NUMBERS (FLAGS)(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15)
#elif WIDTH == 8
#define NUMBERS (FLAGS)(0, 1, 2, 3, 4, 5, 6, 7)
#else
#define NUMBERS (FLAGS)(0, 1, 2, 3)
#endif

#define ALONG(i) for (int i = 0; i < n; i += WIDTH)
#define WHERE(flags, yes, no) ((flags) ? (yes) : (no))
#define TAKE(p, i, other) whole((p) + (i), n - (i), other)
#define INSIDE(v, i, other) within(v, n - (i), other)
#define PUT(v, p, i) put(v, (p) + (i), (last_row - row) * n - (i))
#define TEAM
#define SUM(v) sum_of(v)
#define MAXIMUM(v) maximum_of(v)
#define FIRST_OF_TEAM 1

INLINE LANES within(const LANES v, const int left, const REAL other) {
    return left >= WIDTH ? v : NUMBERS < (FLAGS)(left) ? v : (LANES)(other);
}

INLINE LANES whole(const global REAL *p, const int left, const REAL other) {
    return within(LOAD(p), left, other);
}

// Write the first `room` numbers of v, or more if there are more.
INLINE void put(const LANES v, global REAL *p, const int room) {
    if (room >= WIDTH) {
        STORE(v, p);
    } else {
        union { LANES all; REAL each[WIDTH]; } numbers = {v};
        for (int k = 0; k < room; ++k) p[k] = numbers.each[k];
    }
}

// Halves are combined until one number is left.
#define HALVES(FROM, TO, SIZE, COMBINE) const JOIN(REAL, SIZE) TO = COMBINE(FROM.lo, FROM.hi);
#if WIDTH == 16
#define HALVE(COMBINE) HALVES(v, eight, 8, COMBINE) HALVES(eight, four, 4, COMBINE)
#elif WIDTH == 8
#define HALVE(COMBINE) HALVES(v, four, 4, COMBINE)
#else
#define HALVE(COMBINE) const LANES four = v;
#endif
#define PLUS(a, b) ((a) + (b))
#define LARGER(a, b) ((a) > (b) ? (a) : (b))

INLINE REAL sum_of(const LANES v) {
    HALVE(PLUS)
    const JOIN(REAL, 2) two = PLUS(four.lo, four.hi);
    return PLUS(two.lo, two.hi);
}

INLINE REAL maximum_of(const LANES v) {
    HALVE(LARGER)
    const JOIN(REAL, 2) two = LARGER(four.lo, four.hi);
    return LARGER(two.lo, two.hi);
}

#if JOIN(IS_, REAL)
// eˣ = 2ᵏ·eʳ with x = k·ln 2 + r, |r| ≤ ln(2)/2, for x ≤ 88; below -87.3, where numbers lose digits, 0.
//
// Adding 1.5·2²³ + 127 rounds to a whole number, which then, with the 127 that exponents have on
// top, is in the lowest bits. ln 2 is taken in two parts, the first of which has few digits (Cody and
// Waite, Software Manual for the Elementary Functions, 1980). The polynomial is 1 + r + r²·q(r), q
// fitted to the least relative squares on Chebyshev nodes; it is off by at most 4·10⁻⁹.
INLINE LANES exponential(const LANES x) {
    const LANES least = (LANES)(-87.3f), magic = (LANES)(12583039);
    const LANES bounded = x < least ? least : x;
    const LANES shifted = bounded * (LANES)(1.44269504f) + magic;
    const LANES k = shifted - magic;
    const LANES r = (bounded - k * (LANES)(0.693359375f)) - k * (LANES)(-2.12194440e-4f);
    LANES p = (LANES)(1.375115027e-03f);
    p = p * r + (LANES)(8.368987231e-03f);
    p = p * r + (LANES)(4.166954428e-02f);
    p = p * r + (LANES)(1.666651787e-01f);
    p = p * r + (LANES)(4.999998853e-01f);
    p = p * r + (LANES)(1);
    p = p * r + (LANES)(1);
    const LANES power = JOIN(as_float, WIDTH)(JOIN(as_int, WIDTH)(shifted) << 23);
    return x < least ? (LANES)(0) : p * power;
}
#else
#define exponential exp
#endif

#else  // ---- a graphics card -------------------------------------------------------------------

typedef REAL LANES;
typedef BITS FLAGS;
#define LOAD(p) (*(p))
#define STORE(v, p) (*(p) = (v))
#define NUMBERS 0
// All work-items go round as often, and each asks at every turn whether there is a number for it.
// With `i < n` as the condition of the loop, work-items wrote beyond the row in PoCL 3.0 (float64,
// 65 numbers, 128 work-items): probably the question was moved past the barriers of EACH_ROW.
#define ALONG(i)                                                                        \
    for (int turn = 0, i = get_local_id(0); turn < n;                                   \
         turn += get_local_size(0), i += get_local_size(0))                             \
        if (i < n)
#define WHERE(flags, yes, no) ((flags) ? (yes) : (no))
#define TAKE(p, i, other) (p)[i]
#define INSIDE(v, i, other) (v)
#define PUT(v, p, i) ((p)[i] = (v))
#define LARGER(a, b) ((a) > (b) ? (a) : (b))
#define TEAM local REAL team[256];
#define SUM(v) sum_of(v, team)
#define MAXIMUM(v) maximum_of(v, team)
#define FIRST_OF_TEAM (get_local_id(0) == 0)
#define exponential exp

// The number of work-items is a power of two.
INLINE REAL sum_of(const REAL v, local REAL *team) {
    const int me = get_local_id(0);
    team[me] = v;
    barrier(CLK_LOCAL_MEM_FENCE);
    for (int step = get_local_size(0) / 2; step > 0; step /= 2) {
        if (me < step) team[me] += team[me + step];
        barrier(CLK_LOCAL_MEM_FENCE);
    }
    const REAL sum = team[0];
    barrier(CLK_LOCAL_MEM_FENCE);
    return sum;
}

INLINE REAL maximum_of(const REAL v, local REAL *team) {
    const int me = get_local_id(0);
    team[me] = v;
    barrier(CLK_LOCAL_MEM_FENCE);
    for (int step = get_local_size(0) / 2; step > 0; step /= 2) {
        if (me < step) team[me] = LARGER(team[me], team[me + step]);
        barrier(CLK_LOCAL_MEM_FENCE);
    }
    const REAL largest = team[0];
    barrier(CLK_LOCAL_MEM_FENCE);
    return largest;
}

#endif
