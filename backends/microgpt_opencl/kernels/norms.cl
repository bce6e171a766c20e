// Layer norm (Ba, Kiros and Hinton, arXiv:1607.06450) and RMS norm (Zhang and Sennrich,
// arXiv:1910.07467), and their gradients. RMS norm is layer norm with mean 0 and without bias.
//
// After rows.cl. A row is swept three times, the last two times in the cache: mean, variance (from
// differences to the mean, because Σx² - (Σx)² cancels), result.

#define WEIGHTED 1
#define BIASED 2
#define CENTRED 4
#define TO_X 8
#define TO_WEIGHT 16
#define TO_BIAS 32

// y = (x - mean)·scale·weight + bias with scale = 1/√(variance + eps); both are kept for each row.
kernel WIDE void norm(
    global const REAL *restrict x, ulong x_start,
    global const REAL *restrict weight, ulong weight_start,
    global const REAL *restrict bias, ulong bias_start,
    global REAL *restrict y, ulong y_start,
    global REAL *restrict means, ulong means_start, global REAL *restrict scales, ulong scales_start,
    REAL eps, int flags, int rows, int n, int share)
{
    TEAM
    x += x_start;
    y += y_start;
    weight += weight_start;
    bias += bias_start;
    EACH_ROW {
        const global REAL *from = x + START_OF(row);
        global REAL *to = y + START_OF(row);
        REAL mean = 0;
        if (flags & CENTRED) {
            LANES sum = (LANES)(0);
            ALONG(i) sum += TAKE(from, i, 0);
            mean = SUM(sum) / n;
        }
        LANES squares = (LANES)(0);
        ALONG(i) {
            const LANES d = TAKE(from, i, mean) - mean;
            squares += d * d;
        }
        const REAL scale = 1 / sqrt(SUM(squares) / n + eps);
        ALONG(i) {
            LANES v = (LOAD(from + i) - mean) * scale;
            if (flags & WEIGHTED) v *= LOAD(weight + i);
            if (flags & BIASED) v += LOAD(bias + i);
            PUT(v, to, i);
        }
        if (FIRST_OF_TEAM) {
            if (flags & CENTRED) means[means_start + row] = mean;
            scales[scales_start + row] = scale;
        }
    }
}

// With x̂ the normalised row and ĝ = g·weight: to_x = (ĝ - mean ĝ - x̂·mean(ĝ·x̂))·scale.
//
// Each work-group adds up Σ g·x̂ and Σ g over its rows, in its own row of to_weight and to_bias,
// which are `padded` apart: whole vectors.
kernel WIDE void norm_gradient(
    global const REAL *restrict g, ulong g_start, global const REAL *restrict x, ulong x_start,
    global const REAL *restrict weight, ulong weight_start,
    global const REAL *restrict means, ulong means_start,
    global const REAL *restrict scales, ulong scales_start,
    global REAL *restrict to_x, ulong to_x_start,
    global REAL *restrict to_weight, ulong to_weight_start,
    global REAL *restrict to_bias, ulong to_bias_start,
    int flags, int rows, int n, int padded, int share)
{
    TEAM
    g += g_start;
    x += x_start;
    weight += weight_start;
    to_x += to_x_start;
    to_weight += to_weight_start + get_group_id(0) * padded;
    to_bias += to_bias_start + get_group_id(0) * padded;
    if (flags & TO_WEIGHT) ALONG(i) STORE((LANES)(0), to_weight + i);
    if (flags & TO_BIAS) ALONG(i) STORE((LANES)(0), to_bias + i);
    EACH_ROW {
        const global REAL *upper = g + START_OF(row), *from = x + START_OF(row);
        global REAL *to = to_x + START_OF(row);
        const REAL mean = flags & CENTRED ? means[means_start + row] : 0;
        const REAL scale = scales[scales_start + row];
        LANES sum = (LANES)(0), dots = (LANES)(0);
        ALONG(i) {
            const LANES grad = LOAD(upper + i);
            const LANES product = grad * ((LOAD(from + i) - mean) * scale);
            const LANES factor = flags & WEIGHTED ? LOAD(weight + i) : (LANES)(1);
            sum += INSIDE(grad * factor, i, 0);
            dots += INSIDE(product * factor, i, 0);
            if (flags & TO_WEIGHT) STORE(LOAD(to_weight + i) + product, to_weight + i);
            if (flags & TO_BIAS) STORE(LOAD(to_bias + i) + grad, to_bias + i);
        }
        if (flags & TO_X) {
            const REAL all = flags & CENTRED ? SUM(sum) / n : 0;
            const REAL dot = SUM(dots) / n;
            ALONG(i) {
                const LANES factor = flags & WEIGHTED ? LOAD(weight + i) : (LANES)(1);
                const LANES normal = (LOAD(from + i) - mean) * scale;
                PUT((LOAD(upper + i) * factor - all - normal * dot) * scale, to, i);
            }
        }
    }
}

// The sums of `count` rows, `padded` apart. Each work-item has one column, or WIDTH of them.
kernel WIDE void column_sums(
    global const REAL *restrict parts, ulong parts_start, global REAL *restrict to, ulong to_start,
    int count, int padded)
{
    const int i = get_global_id(0) * WIDTH;
    if (i >= padded) return;
    LANES sum = (LANES)(0);
    for (int k = 0; k < count; ++k) sum += LOAD(parts + parts_start + k * padded + i);
    STORE(sum, to + to_start + i);
}
