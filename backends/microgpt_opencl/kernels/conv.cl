// Convolution without a copy of the windows ("direct"), and its gradients.
//
// Images lie as (channels, h, w, n), the batch innermost, so that WIDTH of them make a vector and
// every stride, padding and dilation costs the same: a window moves by whole vectors. What is
// added up stays in registers, a tile of OUTS filters by BLOCKS vectors (in conv_weight.cl, of
// filters by places of a filter); each number that is read then serves a whole edge of the tile,
// which is what makes a matrix product quick as well. Named variables, because compilers keep
// arrays in memory.
//
// `correlate` is convolution, and also the gradient of the images: there the roles of filters
// and channels are exchanged, and a window runs backwards through the results (dilation and
// padding negative). A stride of the convolution becomes `qh`, `qw`: only every q-th place then
// holds a result. Where n is small and the stride 1, the host passes whole rows (w · n) as "n".
//
// Source: Georganas et al., Anatomy of High-Performance Deep Learning Convolutions on SIMD
// Architectures (2018), for the register tiles; the layout and the exchange of roles are ours.
//
// After lanes.cl. Macros: REAL, WIDTH, OUTS (4, 1), BLOCKS (4, 2, 1), PLAIN.

#if OUTS == 4
#define EACH_OUT(F) F(0) F(1) F(2) F(3)
#else
#define EACH_OUT(F) F(0)
#endif
#if BLOCKS == 4
#define EACH_BLOCK(F, o) F(o, 0) F(o, 1) F(o, 2) F(o, 3)
#elif BLOCKS == 2
#define EACH_BLOCK(F, o) F(o, 0) F(o, 1)
#else
#define EACH_BLOCK(F, o) F(o, 0)
#endif

#define OFFSET(o) const long at##o = min(o, left - 1) * wo;
#define NAME(o, b) LANES sum##o##_##b;
#define DECLARE(o) EACH_BLOCK(NAME, o)
#define SET(o, b) sum##o##_##b = start;
#define BEGIN(o) { const REAL start = has_bias ? bias[min(o, left - 1)] : 0; EACH_BLOCK(SET, o) }
#define READ(o, b) const LANES seen##b = LOAD(from + b * WIDTH);
#define ADD_BLOCK(o, b) sum##o##_##b += seen##b * factor;
#define ADD(o) { const REAL factor = f[at##o]; EACH_BLOCK(ADD_BLOCK, o) }
#define WRITE_BLOCK(o, b) STORE(sum##o##_##b, to + o * yc + b * WIDTH);
#define WRITE(o) if (o < left) { EACH_BLOCK(WRITE_BLOCK, o) }

// y[o, i, j] = bias[o] + sum over c, u, v of w[o, c, u, v] · x[c, r, s], with
// r = (i·sh - ph + u·dh) / qh and s = (j·sw - pw + v·dw) / qw where these are whole numbers.
//
// Work-items: (1, 1, rows · groups · ceil(outs / OUTS)); with PLAIN (n, cols, the same).
// Strides in elements; xn and yn matter only if WIDTH is 1. n >= WIDTH · BLOCKS. A last block that
// is not full starts earlier and computes some results again.
kernel void correlate(
    global const REAL *restrict x, ulong x_start, long xn, long xc, long xh, long xw,
    global const REAL *restrict w, ulong w_start, long wg, long wo, long wc, long wu, long wv,
    global const REAL *restrict bias, ulong bias_start, int has_bias,
    global REAL *restrict y, ulong y_start, long yn, long yc, long yh, long yw,
    int n, int groups, int ins, int outs, int height, int width, int cols, int kh, int kw,
    int sh, int sw, int ph, int pw, int dh, int dw, int qh, int qw)
{
    const int parts = (outs + OUTS - 1) / OUTS;
    const int group = get_global_id(2) % (groups * parts) / parts;
    const int o0 = get_global_id(2) % parts * OUTS;
    const int i = get_global_id(2) / (groups * parts);
    const int left = outs - o0;
    x += x_start + (long)group * ins * xc;
    y += y_start + (long)(group * outs + o0) * yc + i * yh;
    w += w_start + group * wg + o0 * wo;
    bias += bias_start + group * outs + o0;
    EACH_OUT(OFFSET)
    EACH_OUT(DECLARE)
    EACH(block, 0, (n + WIDTH * BLOCKS - 1) / (WIDTH * BLOCKS)) {
        const int n0 = min(block * WIDTH * BLOCKS, n - WIDTH * BLOCKS);
        EACH(j, 1, cols) {
            EACH_OUT(BEGIN)
            for (int u = 0; u < kh; ++u) {
                int r = i * sh - ph + u * dh;
                if (qh > 1) {
                    if (r % qh) continue;
                    r /= qh;
                }
                if (r < 0 || r >= height) continue;
                for (int v = 0; v < kw; ++v) {
                    int s = j * sw - pw + v * dw;
                    if (qw > 1) {
                        if (s % qw) continue;
                        s /= qw;
                    }
                    if (s < 0 || s >= width) continue;
                    global const REAL *restrict from = x + n0 * xn + r * xh + s * xw;
                    global const REAL *restrict f = w + u * wu + v * wv;
                    for (int c = 0; c < ins; ++c) {
                        EACH_BLOCK(READ, 0)
                        EACH_OUT(ADD)
                        from += xc;
                        f += wc;
                    }
                }
            }
            global REAL *to = y + n0 * yn + j * yw;
            EACH_OUT(WRITE)
        }
    }
}
