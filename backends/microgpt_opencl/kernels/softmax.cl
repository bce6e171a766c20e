// Softmax, its logarithm, and their gradients.
//
// The largest number m of a row is taken out, so that nothing overflows: eˣ / Σ eˣ = eˣ⁻ᵐ / Σ eˣ⁻ᵐ.
// NaN never is the largest here, but it is in the sum, and so reaches the whole row.
// Along the last axis a row lies in one piece: kernels after rows.cl. Along another axis the
// elements of a row are `inner` apart, and the lanes of a vector are neighbouring rows ("across"):
// nothing has to be added up across lanes.

// y = softmax(x), or its logarithm
kernel WIDE void softmax(
    global const REAL *restrict x, ulong x_start, global REAL *restrict y, ulong y_start,
    int rows, int n, int share, int logarithm)
{
    TEAM
    x += x_start;
    y += y_start;
    EACH_ROW {
        const global REAL *from = x + START_OF(row);
        global REAL *to = y + START_OF(row);
        LANES largest = (LANES)(-INFINITY);
        ALONG(i) {
            const LANES seen = TAKE(from, i, -INFINITY);
            largest = LARGER(seen, largest);
        }
        const REAL m = MAXIMUM(largest);
        LANES sum = (LANES)(0);
        if (logarithm) {
            ALONG(i) sum += exponential(TAKE(from, i, -INFINITY) - m);
            const REAL shift = log(SUM(sum));
            ALONG(i) PUT((LOAD(from + i) - m) - shift, to, i);
        } else {
            ALONG(i) {
                const LANES e = exponential(TAKE(from, i, -INFINITY) - m);
                PUT(e, to, i);
                sum += e;
            }
            const REAL factor = 1 / SUM(sum);
            ALONG(i) PUT(LOAD(to + i) * factor, to, i);
        }
    }
}

// to_x = y·(g - Σ g·y); for the logarithm g - eʸ·Σ g
kernel WIDE void softmax_gradient(
    global const REAL *restrict g, ulong g_start, global const REAL *restrict y, ulong y_start,
    global REAL *restrict to_x, ulong to_x_start, int rows, int n, int share, int logarithm)
{
    TEAM
    g += g_start;
    y += y_start;
    to_x += to_x_start;
    EACH_ROW {
        const global REAL *upper = g + START_OF(row), *value = y + START_OF(row);
        global REAL *to = to_x + START_OF(row);
        LANES sum = (LANES)(0);
        if (logarithm) {
            ALONG(i) sum += TAKE(upper, i, 0);
            const REAL all = SUM(sum);
            ALONG(i) PUT(LOAD(upper + i) - exponential(LOAD(value + i)) * all, to, i);
        } else {
            ALONG(i) sum += INSIDE(LOAD(upper + i) * LOAD(value + i), i, 0);
            const REAL all = SUM(sum);
            ALONG(i) PUT((LOAD(upper + i) - all) * LOAD(value + i), to, i);
        }
    }
}

// ---- along another axis ---------------------------------------------------------------------

// Each unit is WIDTH neighbouring rows; there are `units` of them, `across` for each outer index.
#define EACH_UNIT                                                                              \
    for (int unit = get_global_id(0) * share,                                                  \
             last = unit + share < units ? unit + share : units;                               \
         unit < last; ++unit)
#define CORNER ((long)(unit / across) * n * inner + (unit % across) * WIDTH)
#define ROOM (inner - (unit % across) * WIDTH)
#define DOWN(i) for (long i = 0; i < (long)n * inner; i += inner)
#if WIDTH > 1
#define SET(v, p) put(v, p, ROOM)
#else
#define SET(v, p) (*(p) = (v))
#endif

kernel WIDE void softmax_across(
    global const REAL *restrict x, ulong x_start, global REAL *restrict y, ulong y_start,
    int n, int inner, int across, int units, int share, int logarithm)
{
    x += x_start;
    y += y_start;
    EACH_UNIT {
        const global REAL *from = x + CORNER;
        global REAL *to = y + CORNER;
        LANES m = (LANES)(-INFINITY);
        DOWN(i) {
            const LANES seen = LOAD(from + i);
            m = LARGER(seen, m);
        }
        LANES sum = (LANES)(0);
        if (logarithm) {
            DOWN(i) sum += exponential(LOAD(from + i) - m);
            const LANES shift = log(sum);
            DOWN(i) SET((LOAD(from + i) - m) - shift, to + i);
        } else {
            DOWN(i) sum += exponential(LOAD(from + i) - m);
            const LANES factor = (LANES)(1) / sum;
            DOWN(i) SET(exponential(LOAD(from + i) - m) * factor, to + i);
        }
    }
}

kernel WIDE void softmax_gradient_across(
    global const REAL *restrict g, ulong g_start, global const REAL *restrict y, ulong y_start,
    global REAL *restrict to_x, ulong to_x_start,
    int n, int inner, int across, int units, int share, int logarithm)
{
    g += g_start;
    y += y_start;
    to_x += to_x_start;
    EACH_UNIT {
        const global REAL *upper = g + CORNER, *value = y + CORNER;
        global REAL *to = to_x + CORNER;
        LANES sum = (LANES)(0);
        if (logarithm) {
            DOWN(i) sum += LOAD(upper + i);
            DOWN(i) SET(LOAD(upper + i) - exponential(LOAD(value + i)) * sum, to + i);
        } else {
            DOWN(i) sum += LOAD(upper + i) * LOAD(value + i);
            DOWN(i) SET((LOAD(upper + i) - sum) * LOAD(value + i), to + i);
        }
    }
}
