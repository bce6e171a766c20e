// The gradient of the filters of a convolution, and of its bias: sums over all images and places.
//
// to_w[o, c, u, v] = sum over n, i, j of g[n, o, i, j] · x[n, c, i·sh - ph + u·dh, j·sw - pw + v·dw]
//
// A tile of OUTS filters by TAPS places of a filter is added up in registers, WIDTH images at
// once; the lanes of a vector are added only at the end. Some rows (`chunk`) that fit into the
// cache next to the processor go through all tiles before the next rows come; between them the
// sums of a tile wait in `partial`. Every sum is made in one order that depends on nothing but
// the shapes and `slabs`, so the result is the same in every run.
//
// After lanes.cl. Macros: REAL, WIDTH, TAPS (4 or 2); with PLAIN only `weight_gradient_plain`.

#define OUTS 4
#define EACH_OUT(F) F(0) F(1) F(2) F(3)
#if TAPS == 4
#define EACH_TAP(F, o) F(o, 0) F(o, 1) F(o, 2) F(o, 3)
#else
#define EACH_TAP(F, o) F(o, 0) F(o, 1)
#endif

#ifdef PLAIN

// One work-item per number of a filter and slab: (kh · kw, ins, groups · outs · slabs). A slab is
// every `slabs`-th row of the results; the host adds up the slabs. The bias is left to the host.
kernel void weight_gradient_plain(
    global const REAL *restrict x, ulong x_start, long xn, long xc, long xh, long xw,
    global const REAL *restrict g, ulong g_start, long gn, long gc, long gh, long gw,
    global REAL *restrict to_w, ulong to_w_start,
    int n, int groups, int ins, int outs, int height, int width, int rows, int cols, int kh, int kw,
    int sh, int sw, int ph, int pw, int dh, int dw, int slabs)
{
    const int u = get_global_id(0) / kw, v = get_global_id(0) % kw, c = get_global_id(1);
    const int o = get_global_id(2) % (groups * outs), slab = get_global_id(2) / (groups * outs);
    x += x_start + (o / outs * ins + c) * xc;
    g += g_start + o * gc;
    REAL sum = 0;
    for (int i = slab; i < rows; i += slabs) {
        const int r = i * sh - ph + u * dh;
        if (r < 0 || r >= height) continue;
        for (int j = 0; j < cols; ++j) {
            const int s = j * sw - pw + v * dw;
            if (s < 0 || s >= width) continue;
            for (int k = 0; k < n; ++k)
                sum += x[r * xh + s * xw + k * xn] * g[i * gh + j * gw + k * gn];
        }
    }
    to_w[to_w_start + (get_global_id(2) * (ulong)ins + c) * kh * kw + get_global_id(0)] = sum;
}

#else

// The sum of all lanes.
static inline REAL total(LANES v)
{
#if WIDTH == 16
    const JOIN(REAL, 8) e = v.lo + v.hi;
    const JOIN(REAL, 4) q = e.lo + e.hi;
#elif WIDTH == 8
    const JOIN(REAL, 4) q = v.lo + v.hi;
#elif WIDTH == 4
    const JOIN(REAL, 4) q = v;
#endif
#if WIDTH == 2
    const LANES p = v;
#else
    const JOIN(REAL, 2) p = q.lo + q.hi;
#endif
    return p.x + p.y;
}

// The first `count` numbers, then zeros. It may read WIDTH - 1 numbers behind the end of an array:
// blocks of memory have room for that.
static inline LANES load_few(global const REAL *p, int count)
{
    const REAL number[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    return select((LANES)0, LOAD(p), *(const LANES_ANYWHERE *)number < (LANES)count);
}

#define LOAD_FEW(p) load_few(p, count - k)
#define G_START(o) global const REAL *restrict g##o = line + min(o, left - 1) * gc;
#define X_START(o, t) global const REAL *restrict x##t = corner + tap##t;
#define NAME(o, t) LANES sum##o##_##t = 0;
#define DECLARE(o) EACH_TAP(NAME, o)
#define READ_G(o) const LANES given##o = GET(g##o + k);
#define READ_X(o, t) const LANES seen##t = GET(x##t + k);
#define ADD_TAP(o, t) sum##o##_##t += given##o * seen##t;
#define ADD(o) EACH_TAP(ADD_TAP, o)
#define KEEP_TAP(o, t) \
    STORE(fresh ? sum##o##_##t : sum##o##_##t + LOAD(kept + (o * TAPS + t) * WIDTH), \
          kept + (o * TAPS + t) * WIDTH);
#define KEEP(o) EACH_TAP(KEEP_TAP, o)
#define TAP_OFFSET(o, t) const long tap##t = tap_offset(TAP(t), by_channel, ins, kw, xc, xh * dh, xw * dw);
#define SUM_BIAS(o) LANES all##o = 0;
#define ADD_BIAS(o) all##o += GET(g##o + k);
#define KEEP_BIAS(o) STORE(fresh ? all##o : all##o + LOAD(mine + o * WIDTH), mine + o * WIDTH);

// A tap is a place (c, u, v) of a filter; its number counts v, then c, then u, from the fastest
// to the slowest, or, by channel, first the TAPS channels of a tile. Returned as c, u, v.
static inline int3 place(int tap, int by_channel, int ins, int kw)
{
    if (by_channel) {
        const int tile = tap / TAPS, across = ins / TAPS;
        return (int3)(tile / kw % across * TAPS + tap % TAPS, tile / kw / across, tile % kw);
    }
    return (int3)(tap / kw % ins, tap / kw / ins, tap % kw);
}

static inline long tap_offset(int tap, int by_channel, int ins, int kw, long xc, long down, long right)
{
    const int3 at = place(tap, by_channel, ins, kw);
    return at.x * xc + at.y * down + at.z * right;
}

// Work-items: (groups · ceil(outs / OUTS), slabs); slab s has the rows from s · rows / slabs on.
// by_channel: whether a tile holds TAPS channels at the same u, v (then ins must be a multiple of
// TAPS), or any taps (then the padding must be 0: x in a frame). merged: whether w and n lie in
// one piece in both x and g (xw = gw = n, sw = 1). xn = gn = 1.
// partial: slabs · groups · ceil(outs / OUTS) · (tiles + 1) · OUTS · TAPS · WIDTH numbers, where
// tiles = ceil(ins · kh · kw / TAPS). to_w: (slabs, groups · outs, ins, kh, kw), to_bias: (slabs,
// groups · outs).
kernel void weight_gradient(
    global const REAL *restrict x, ulong x_start, long xc, long xh, long xw,
    global const REAL *restrict g, ulong g_start, long gc, long gh, long gw,
    global REAL *restrict partial, ulong partial_start,
    global REAL *restrict to_w, ulong to_w_start,
    global REAL *restrict to_bias, ulong to_bias_start, int has_bias,
    int n, int groups, int ins, int outs, int height, int width, int rows, int cols, int kh, int kw,
    int sh, int sw, int ph, int pw, int dh, int dw, int chunk, int by_channel, int merged)
{
    const int slab = get_global_id(1), slabs = get_global_size(1);
    const int parts = (outs + OUTS - 1) / OUTS;
    const int group = get_global_id(0) / parts, o0 = get_global_id(0) % parts * OUTS;
    const int first_out = group * outs + o0, left = outs - o0;
    const int taps = ins * kh * kw, tiles = (taps + TAPS - 1) / TAPS;
    const int begin = (long)slab * rows / slabs, end = (long)(slab + 1) * rows / slabs;
    const int size = OUTS * TAPS * WIDTH;
    global REAL *mine =
        partial + partial_start + (slab * get_global_size(0) + get_global_id(0)) * (tiles + 1) * size;
    x += x_start + (long)group * ins * xc - ph * xh - pw * xw;
    g += g_start + first_out * gc;

    for (int i0 = begin; i0 < end; i0 += chunk) {
        const int fresh = i0 == begin, i1 = min(i0 + chunk, end);
        if (has_bias) {
            EACH_OUT(SUM_BIAS)
            for (int i = i0; i < i1; ++i)
                for (int j = 0; j < (merged ? 1 : cols); ++j) {
                    const int count = merged ? cols * n : n;
                    global const REAL *restrict line = g + i * gh + j * gw;
                    EACH_OUT(G_START)
                    int k = 0;
#define GET LOAD
                    for (; k + WIDTH <= count; k += WIDTH) { EACH_OUT(ADD_BIAS) }
#undef GET
#define GET LOAD_FEW
                    if (k < count) { EACH_OUT(ADD_BIAS) }
#undef GET
                }
            EACH_OUT(KEEP_BIAS)
        }
        for (int tile = 0; tile < tiles; ++tile) {
#define TAP(t) min(tile * TAPS + t, taps - 1)
            EACH_TAP(TAP_OFFSET, 0)
            const int3 at = place(TAP(0), by_channel, ins, kw);
            // The columns whose windows have this v inside the image: 0 <= j·sw - pw + v·dw < width.
            const int shift = pw - at.z * dw, room = width - 1 + shift;
            const int j0 = shift > 0 ? (shift + sw - 1) / sw : 0;
            const int j1 = room < 0 ? 0 : min(cols, room / sw + 1);
            EACH_OUT(DECLARE)
            for (int i = i0; i < i1; ++i) {
                const int r = i * sh - ph + at.y * dh;
                if (r < 0 || r >= height || j0 >= j1) continue;
                for (int j = j0; j < (merged ? j0 + 1 : j1); ++j) {
                    const int count = merged ? (j1 - j0) * n : n;
                    global const REAL *restrict line = g + i * gh + j * gw;
                    global const REAL *restrict corner = x + i * sh * xh + j * sw * xw;
                    EACH_OUT(G_START)
                    EACH_TAP(X_START, 0)
                    int k = 0;
#define GET LOAD
                    for (; k + WIDTH <= count; k += WIDTH) {
                        EACH_TAP(READ_X, 0)
                        EACH_OUT(READ_G)
                        EACH_OUT(ADD)
                    }
#undef GET
#define GET LOAD_FEW
                    if (k < count) {
                        EACH_TAP(READ_X, 0)
                        EACH_OUT(READ_G)
                        EACH_OUT(ADD)
                    }
#undef GET
                }
            }
            global REAL *kept = mine + (tile + 1) * size;
            EACH_OUT(KEEP)
        }
    }

    const int all = groups * outs;
    for (int o = 0; o < min(left, OUTS); ++o) {
        if (has_bias)
            to_bias[to_bias_start + slab * all + first_out + o] = total(LOAD(mine + o * WIDTH));
        for (int tap = 0; tap < taps; ++tap) {
            const int3 at = place(tap, by_channel, ins, kw);
            global const REAL *kept =
                mine + (tap / TAPS + 1) * size + (o * TAPS + tap % TAPS) * WIDTH;
            to_w[to_w_start + ((ulong)(slab * all + first_out + o) * ins + at.x) * kh * kw
                 + at.y * kw + at.z] = total(LOAD(kept));
        }
    }
}

#endif

// y[k] = sum of x[slab, k]. Work-items: the numbers of a slab.
kernel void add_slabs(
    global const REAL *restrict x, ulong x_start, global REAL *restrict y, ulong y_start, int slabs)
{
    const ulong k = get_global_id(0);
    REAL sum = 0;
    for (int slab = 0; slab < slabs; ++slab) sum += x[x_start + slab * get_global_size(0) + k];
    y[y_start + k] = sum;
}
