// All windows of an image as columns, and the adjoint: columns added back to where they came from.
//
// One work-item per number of the result. `fold` gathers: a place of the image looks for all
// places of a window that can have met it, in a fixed order, and adds up what their columns hold.
//
// Macros: REAL, any type of numbers; LOGICAL for truth values, where adding means "or".

#ifdef LOGICAL
#define ADD |=
#else
#define ADD +=
#endif

// y[n, (c·kh + u)·kw + v, i·cols + j] = x[n, c, i·sh - ph + u·dh, j·sw - pw + v·dw], 0 outside.
// Work-items: (cols, rows, n · channels · kh · kw); y lies row by row.
kernel void unfold(
    global const REAL *restrict x, ulong x_start, long xn, long xc, long xh, long xw,
    global REAL *restrict y, ulong y_start,
    int channels, int height, int width, int kh, int kw,
    int sh, int sw, int ph, int pw, int dh, int dw)
{
    const int j = get_global_id(0), i = get_global_id(1), line = get_global_id(2);
    const int v = line % kw, u = line / kw % kh;
    const int c = line / (kw * kh) % channels, image = line / (kw * kh) / channels;
    const int r = i * sh - ph + u * dh, s = j * sw - pw + v * dw;
    const int inside = r >= 0 && r < height && s >= 0 && s < width;
    const ulong at = (line * get_global_size(1) + i) * get_global_size(0) + j;
    y[y_start + at] = inside ? x[x_start + image * xn + c * xc + r * xh + s * xw] : 0;
}

// y[n, c, r, s] = sum over u, v of x[n, (c·kh + u)·kw + v, i·cols + j], where i, j is the window
// that has its place u, v there, if there is one.
// Work-items: (width, height, n · channels); xn, xq, xp: strides of x; y lies row by row.
kernel void fold(
    global const REAL *restrict x, ulong x_start, long xn, long xq, long xp,
    global REAL *restrict y, ulong y_start,
    int channels, int rows, int cols, int kh, int kw,
    int sh, int sw, int ph, int pw, int dh, int dw)
{
    const int s = get_global_id(0), r = get_global_id(1), line = get_global_id(2);
    const int c = line % channels, image = line / channels;
    x += x_start + image * xn + (long)c * kh * kw * xq;
    REAL sum = 0;
    for (int u = 0; u < kh; ++u) {
        const int down = r + ph - u * dh, i = down / sh;
        if (down < 0 || down % sh || i >= rows) continue;
        for (int v = 0; v < kw; ++v) {
            const int right = s + pw - v * dw, j = right / sw;
            if (right < 0 || right % sw || j >= cols) continue;
            sum ADD x[(u * kw + v) * xq + (i * cols + j) * xp];
        }
    }
    y[y_start + (line * get_global_size(1) + r) * get_global_size(0) + s] = sum;
}
