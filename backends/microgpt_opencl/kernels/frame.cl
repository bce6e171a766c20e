// Images in any order (n, channels, h, w) → (channels, h + 2·ph, w + 2·pw, n): the batch innermost,
// with an edge of zeros.
//
// A transposition, in portions of PORTION columns by PORTION images, so that what is read and what
// is written both stay in cache. Within a portion writing goes straight on: a line of cache that is
// written in pieces costs more than one that is read in pieces.
//
// After lanes.cl. Macros: REAL, WIDTH (tells only whether PLAIN), PLAIN.

#define PORTION 16

// Work-items: (1, 1, channels · (h + 2·ph)); with PLAIN (n, w + 2·pw, the same).
kernel void frame(
    global const REAL *restrict x, ulong x_start, long xn, long xc, long xh, long xw,
    global REAL *restrict y, ulong y_start, int n, int height, int width, int ph, int pw)
{
    const int tall = height + 2 * ph, wide = width + 2 * pw;
    const int c = get_global_id(2) / tall, r = (int)get_global_id(2) % tall - ph;
    const int outside = r < 0 || r >= height;
    x += x_start + c * xc + r * xh;
    y += y_start + get_global_id(2) * (ulong)wide * n;
#ifdef PLAIN
    const int s = (int)get_global_id(1) - pw, image = get_global_id(0);
    y[get_global_id(1) * n + image] =
        outside || s < 0 || s >= width ? 0 : x[image * xn + s * xw];
#else
    if (outside) {
        for (int k = 0; k < wide * n; ++k) y[k] = 0;
        return;
    }
    for (int k = 0; k < pw * n; ++k) y[k] = 0;
    for (int k = (pw + width) * n; k < wide * n; ++k) y[k] = 0;
    y += pw * n;
    if (xn == 1) {
        for (int s = 0; s < width; ++s)
            for (int k = 0; k < n; ++k) y[s * n + k] = x[s * xw + k];
        return;
    }
    for (int s0 = 0; s0 < width; s0 += PORTION)
        for (int k0 = 0; k0 < n; k0 += PORTION)
            for (int s = s0; s < min(s0 + PORTION, width); ++s)
                for (int k = k0; k < min(k0 + PORTION, n); ++k) y[s * n + k] = x[k * xn + s * xw];
#endif
}
