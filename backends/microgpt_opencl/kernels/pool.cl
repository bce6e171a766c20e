// Pools: the largest number or the mean of every window of an image, and their gradients.
//
// The lanes of a vector are images of the batch (all strides of n are 1, unless WIDTH is 1). The
// gradients are gathered: whoever owns a place of the image asks all windows that it is in, so
// nothing is added up by two work-items, and every sum has a fixed order. Windows that do not
// overlap need no asking: `max_gradient_apart` walks over them and writes each place once.
//
// NaN wins against every number. A window with NaN then has no largest element (NaN is not equal
// to itself), and its gradient is g / 0 · 0 = NaN; otherwise equally large elements share g.
//
// After lanes.cl. Macros: REAL, WIDTH, PLAIN.

#if WIDTH == 1
#define WHERE(flags, yes, no) ((flags) ? (yes) : (no))
#else
#define WHERE(flags, yes, no) select(no, yes, flags)
#endif

// The walk that all kernels here share. Work-items: (1, 1, channels · rows) of the result; with
// PLAIN (n, columns, the same). n >= WIDTH: a last vector that is not full starts earlier.
#define VECTORS ((n + WIDTH - 1) / WIDTH)
#define EACH_VECTOR EACH(vector, 0, VECTORS)
#define FIRST min(vector * WIDTH, n - WIDTH)

// How many places of a window lie beyond the edge and count as largest: they are -inf.
#define INSIDE(first, size, end) (min(first + size, end) - max(first, 0))
#define BEYOND(largest) \
    WHERE(largest == -INFINITY, \
          (LANES)(kh * kw - INSIDE(top, kh, height) * INSIDE(left, kw, width)), (LANES)0)

// mean = 0: the largest of the kh · kw numbers of a window, beyond the edge -inf;
// otherwise their sum times `mean`, beyond the edge zeros.
kernel void pool(
    global const REAL *restrict x, ulong x_start, long xn, long xc, long xh, long xw,
    global REAL *restrict y, ulong y_start, long yn, long yc, long yh, long yw,
    int n, int height, int width, int rows, int cols, int kh, int kw, int sh, int sw, int ph, int pw,
    REAL mean)
{
    const int c = get_global_id(2) / rows, i = get_global_id(2) % rows;
    const int top = i * sh - ph;
    x += x_start + c * xc;
    y += y_start + c * yc + i * yh;
    EACH(j, 1, cols) {
        const int left = j * sw - pw;
        EACH_VECTOR {
            LANES all = mean == 0 ? -INFINITY : 0;
            for (int r = max(top, 0); r < min(top + kh, height); ++r)
                for (int s = max(left, 0); s < min(left + kw, width); ++s) {
                    const LANES seen = LOAD(x + r * xh + s * xw + FIRST * xn);
                    if (mean == 0) all = WHERE(seen > all || seen != seen, seen, all);
                    else all += seen;
                }
            STORE(mean == 0 ? all : all * mean, y + j * yw + FIRST * yn);
        }
    }
}

// share = g / (number of elements of the window that are the largest, y)
kernel void max_share(
    global const REAL *restrict x, ulong x_start, long xn, long xc, long xh, long xw,
    global const REAL *restrict y, ulong y_start, long yn, long yc, long yh, long yw,
    global const REAL *restrict g, ulong g_start, long gn, long gc, long gh, long gw,
    global REAL *restrict share, ulong share_start, long tn, long tc, long th, long tw,
    int n, int height, int width, int rows, int cols, int kh, int kw, int sh, int sw, int ph, int pw)
{
    const int c = get_global_id(2) / rows, i = get_global_id(2) % rows;
    const int top = i * sh - ph;
    x += x_start + c * xc;
    y += y_start + c * yc + i * yh;
    g += g_start + c * gc + i * gh;
    share += share_start + c * tc + i * th;
    EACH(j, 1, cols) {
        const int left = j * sw - pw;
        EACH_VECTOR {
            const LANES largest = LOAD(y + j * yw + FIRST * yn);
            LANES count = BEYOND(largest);
            for (int r = max(top, 0); r < min(top + kh, height); ++r)
                for (int s = max(left, 0); s < min(left + kw, width); ++s) {
                    const LANES seen = LOAD(x + r * xh + s * xw + FIRST * xn);
                    count += WHERE(seen == largest, (LANES)1, (LANES)0);
                }
            STORE(LOAD(g + j * gw + FIRST * gn) / count, share + j * tw + FIRST * tn);
        }
    }
}

// The gradient of the image, from what each of its windows has for it: `share` where x is the
// largest, y; or, if mean is not 0, share · mean for all. Rows and columns are those of the image.
kernel void gather(
    global const REAL *restrict x, ulong x_start, long xn, long xc, long xh, long xw,
    global const REAL *restrict y, ulong y_start, long yn, long yc, long yh, long yw,
    global const REAL *restrict share, ulong share_start, long tn, long tc, long th, long tw,
    global REAL *restrict to_x, ulong to_x_start, long dn, long dc, long dh, long dw,
    int n, int height, int width, int rows, int cols, int kh, int kw, int sh, int sw, int ph, int pw,
    REAL mean)
{
    const int c = get_global_id(2) / height, r = get_global_id(2) % height;
    x += x_start + c * xc + r * xh;
    y += y_start + c * yc;
    share += share_start + c * tc;
    to_x += to_x_start + c * dc + r * dh;
    // Window i has the rows i·sh - ph up to kh - 1 more.
    const int i0 = max(r + ph - kh + sh, 0) / sh, i1 = min((r + ph) / sh + 1, rows);
    EACH(s, 1, width) {
        const int j0 = max(s + pw - kw + sw, 0) / sw, j1 = min((s + pw) / sw + 1, cols);
        EACH_VECTOR {
            const LANES seen = mean == 0 ? LOAD(x + s * xw + FIRST * xn) : 0;
            LANES all = 0;
            for (int i = i0; i < i1; ++i)
                for (int j = j0; j < j1; ++j) {
                    const LANES part = LOAD(share + i * th + j * tw + FIRST * tn);
                    if (mean == 0) {
                        const LANES largest = LOAD(y + i * yh + j * yw + FIRST * yn);
                        all += WHERE(seen == largest, part, part * 0);
                    } else {
                        all += part * mean;
                    }
                }
            STORE(all, to_x + s * dw + FIRST * dn);
        }
    }
}

// Both steps at once, for strides of at least the window. The image falls into cells of sh · sw
// places, each with a window in its corner, or part of one, or (at the end) none.
// Rows and columns are those of the cells: ceil((height + ph) / sh), ceil((width + pw) / sw).
kernel void max_gradient_apart(
    global const REAL *restrict x, ulong x_start, long xn, long xc, long xh, long xw,
    global const REAL *restrict y, ulong y_start, long yn, long yc, long yh, long yw,
    global const REAL *restrict g, ulong g_start, long gn, long gc, long gh, long gw,
    global REAL *restrict to_x, ulong to_x_start, long dn, long dc, long dh, long dw,
    int n, int height, int width, int rows, int cols, int kh, int kw, int sh, int sw, int ph, int pw)
{
    const int down = (height + ph + sh - 1) / sh, across = (width + pw + sw - 1) / sw;
    const int c = get_global_id(2) / down, i = get_global_id(2) % down;
    const int top = i * sh - ph;
    x += x_start + c * xc;
    y += y_start + c * yc + i * yh;
    g += g_start + c * gc + i * gh;
    to_x += to_x_start + c * dc;
    EACH(j, 1, across) {
        const int left = j * sw - pw;
        const int there = i < rows && j < cols;
        EACH_VECTOR {
            LANES largest = 0, count = 0, share = 0;
            if (there) {
                largest = LOAD(y + j * yw + FIRST * yn);
                count = BEYOND(largest);
                for (int r = max(top, 0); r < min(top + kh, height); ++r)
                    for (int s = max(left, 0); s < min(left + kw, width); ++s) {
                        const LANES seen = LOAD(x + r * xh + s * xw + FIRST * xn);
                        count += WHERE(seen == largest, (LANES)1, (LANES)0);
                    }
                share = LOAD(g + j * gw + FIRST * gn) / count;
            }
            for (int r = max(top, 0); r < min(top + sh, height); ++r)
                for (int s = max(left, 0); s < min(left + sw, width); ++s) {
                    LANES part = 0;
                    if (there && r < top + kh && s < left + kw) {
                        const LANES seen = LOAD(x + r * xh + s * xw + FIRST * xn);
                        part = WHERE(seen == largest, share, share * 0);
                    }
                    STORE(part, to_x + r * dh + s * dw + FIRST * dn);
                }
        }
    }
}

// The same for windows of 2 · 2 side by side without padding, the usual ones. Memory is what
// takes time here: everything that a window holds is read once, and its largest number, y, is
// found again rather than read.
kernel void max_gradient_fours(
    global const REAL *restrict x, ulong x_start, long xn, long xc, long xh, long xw,
    global const REAL *restrict g, ulong g_start, long gn, long gc, long gh, long gw,
    global REAL *restrict to_x, ulong to_x_start, long dn, long dc, long dh, long dw,
    int n, int height, int width, int rows, int cols)
{
#define LARGER(p, q) WHERE(q > p || q != q, q, p)
#define HIT(seen) WHERE(seen == largest, (LANES)1, (LANES)0)
#define PART(seen) WHERE(seen == largest, share, share * 0)
    const int down = (height + 1) / 2, across = (width + 1) / 2;
    const int c = get_global_id(2) / down, i = get_global_id(2) % down;
    x += x_start + c * xc + 2 * i * xh;
    g += g_start + c * gc + i * gh;
    to_x += to_x_start + c * dc + 2 * i * dh;
    EACH(j, 1, across) {
        EACH_VECTOR {
            global REAL *restrict to = to_x + 2 * j * dw + FIRST * dn;
            if (i < rows && j < cols) {
                global const REAL *restrict from = x + 2 * j * xw + FIRST * xn;
                const LANES a = LOAD(from), b = LOAD(from + xw);
                const LANES d = LOAD(from + xh), e = LOAD(from + xh + xw);
                const LANES above = LARGER(a, b), below = LARGER(d, e);
                const LANES largest = LARGER(above, below);
                const LANES share =
                    LOAD(g + j * gw + FIRST * gn) / (HIT(a) + HIT(b) + HIT(d) + HIT(e));
                STORE(PART(a), to);
                STORE(PART(b), to + dw);
                STORE(PART(d), to + dh);
                STORE(PART(e), to + dh + dw);
            } else {  // the last row or column of an odd number
                STORE((LANES)0, to);
                if (2 * j + 1 < width) STORE((LANES)0, to + dw);
                if (2 * i + 1 < height) STORE((LANES)0, to + dh);
            }
        }
    }
}
