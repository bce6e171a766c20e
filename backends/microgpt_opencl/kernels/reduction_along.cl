// Along one axis, one work-item after the other index of the rest: positions and running sums.
//
// The other axes are up to three with strides of their own; k counts through them. The axis itself
// is cut into `blocks` of `block` elements, so that there is work for many.
//
// A running sum takes three launches: the sum of each block, running sums of those, and then each
// block by itself, starting from what came before it (G. E. Blelloch, "Prefix sums and their
// applications", 1990). Blocks of √n elements keep the rounding error of order √n too.
//
// Macros: IN, ACC.

#define PLACE(k, s0, s1, s2) \
    ((k) / len2 / len1 * (s0) + (k) / len2 % len1 * (s1) + (k) % len2 * (s2))

// y[k, b] = where block b of row k first has `wanted[k]` (NaN finds NaN), n if nowhere.
// Work-items: `share` results each, of `total`.
kernel void find(
    global const IN *x, ulong x_start, global const IN *wanted, ulong wanted_start,
    global long *y, ulong y_start, int len1, int len2, long s0, long s1, long s2,
    int n, long step, int block, int blocks, int total, int share)
{
    const int first = get_global_id(0) * share, last = min(first + share, total);
    for (int at = first; at < last; ++at) {
        const long k = at / blocks;
        const int b = at % blocks, end = min((b + 1) * block, n);
        const global IN *row = x + x_start + PLACE(k, s0, s1, s2);
        const IN value = wanted[wanted_start + k];
        int i = b * block;
        if (value == value)
            while (i < end && row[i * step] != value) ++i;
        else
            while (i < end && row[i * step] == row[i * step]) ++i;
        y[y_start + at] = i < end ? i : n;
    }
}

// sums[k, b] = Σ of block b of row k. Work-items: as above.
kernel void block_sums(
    global const IN *x, ulong x_start, global ACC *sums, ulong sums_start,
    int len1, int len2, long s0, long s1, long s2,
    int n, long step, int block, int blocks, int total, int share)
{
    const int first = get_global_id(0) * share, last = min(first + share, total);
    for (int at = first; at < last; ++at) {
        const long k = at / blocks;
        const int b = at % blocks, end = min((b + 1) * block, n);
        const global IN *row = x + x_start + PLACE(k, s0, s1, s2);
        ACC sum = 0;
        for (int i = b * block; i < end; ++i) sum += row[i * step];
        sums[sums_start + at] = sum;
    }
}

// y[k, i] = Σ of x[k, 0 … i], given in `before` the running sums of blocks if there are several.
// Work-items: as above.
kernel void running_sums(
    global const IN *x, ulong x_start, global const ACC *before, ulong before_start,
    global ACC *y, ulong y_start, int len1, int len2, long s0, long s1, long s2,
    long y0, long y1, long y2, int n, long step, long y_step,
    int block, int blocks, int total, int share)
{
    const int first = get_global_id(0) * share, last = min(first + share, total);
    for (int at = first; at < last; ++at) {
        const long k = at / blocks;
        const int b = at % blocks, end = min((b + 1) * block, n);
        const global IN *row = x + x_start + PLACE(k, s0, s1, s2);
        global ACC *out = y + y_start + PLACE(k, y0, y1, y2);
        ACC sum = 0;
        const ACC base = b > 0 ? before[before_start + at - 1] : 0;
        for (int i = b * block; i < end; ++i) {
            sum += row[i * step];
            out[i * y_step] = b > 0 ? base + sum : sum;
        }
    }
}
