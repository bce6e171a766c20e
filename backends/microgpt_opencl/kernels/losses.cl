// Cross entropy: the mean of log Σ eˣ - x[target] over rows x, and its gradient.
//
// After rows.cl. For backward the largest number m and the sum Σ eˣ⁻ᵐ of each row are kept;
// exponentials are computed again from them, which costs less than to write and read them.
// Rows of targets that are `ignored` do not count. A target that is no class is counted in `bad`
// and read from nowhere; the host then raises an error.
//
// Macros: INDEX (type of the targets).

// What single precision would lose when thousands of losses are added up one by one.
#ifdef cl_khr_fp64
typedef double SUM_TYPE;
#else
typedef REAL SUM_TYPE;
#endif

// Totals of `groups` parts: the mean, how many targets count, and how many are bad.
INLINE void finish_mean(
    const global REAL *part, const global int *count, int groups, global REAL *mean,
    global int *counts)
{
    SUM_TYPE sum = 0;
    int valid = 0, bad = 0;
    for (int k = 0; k < groups; ++k) {
        sum += part[k];
        valid += count[2 * k];
        bad += count[2 * k + 1];
    }
    *mean = valid > 0 ? (REAL)(sum / valid) : 0;
    counts[0] = valid;
    counts[1] = bad;
}

// Each work-group has a sum in `parts` and two counts in `counts`, behind the two totals. A group
// that is alone writes the totals too.
kernel WIDE void cross_entropy(
    global const REAL *restrict x, ulong x_start, global const INDEX *restrict target,
    ulong target_start, global REAL *mean, ulong mean_start,
    global REAL *restrict largest, ulong largest_start, global REAL *restrict sums, ulong sums_start,
    global REAL *parts, ulong parts_start, global int *counts, ulong counts_start,
    long ignored, int rows, int n, int share)
{
    TEAM
    x += x_start;
    SUM_TYPE loss = 0;
    int valid = 0, bad = 0;
    EACH_ROW {
        const long t = target[target_start + row];
        const global REAL *from = x + START_OF(row);
        LANES lanes = (LANES)(-INFINITY);
        ALONG(i) {
            const LANES seen = TAKE(from, i, -INFINITY);
            lanes = LARGER(seen, lanes);
        }
        const REAL m = MAXIMUM(lanes);
        LANES sum = (LANES)(0);
        ALONG(i) sum += exponential(TAKE(from, i, -INFINITY) - m);
        const REAL all = SUM(sum);
        if (FIRST_OF_TEAM) {
            largest[largest_start + row] = m;
            sums[sums_start + row] = all;
            if (t != ignored) {
                if (t >= 0 && t < n) {
                    loss += log(all) - (from[t] - m);
                    ++valid;
                } else {
                    ++bad;
                }
            }
        }
    }
    if (FIRST_OF_TEAM) {
        const int group = get_group_id(0);
        parts[parts_start + group] = loss;
        counts += counts_start;
        counts[2 + 2 * group] = valid;
        counts[3 + 2 * group] = bad;
        if (get_num_groups(0) == 1)
            finish_mean(parts + parts_start, counts + 2, 1, mean + mean_start, counts);
    }
}

// One work-item.
kernel void cross_entropy_mean(
    global const REAL *restrict parts, ulong parts_start, global int *counts, ulong counts_start,
    global REAL *restrict mean, ulong mean_start, int groups)
{
    counts += counts_start;
    finish_mean(parts + parts_start, counts + 2, groups, mean + mean_start, counts);
}

// to_x = (softmax(x) - one_hot(target))·g / (number of targets that count)
kernel WIDE void cross_entropy_gradient(
    global const REAL *restrict g, ulong g_start, global const REAL *restrict x, ulong x_start,
    global const INDEX *restrict target, ulong target_start,
    global const REAL *restrict largest, ulong largest_start,
    global const REAL *restrict sums, ulong sums_start,
    global const int *restrict counts, ulong counts_start,
    global REAL *restrict to_x, ulong to_x_start,
    long ignored, int rows, int n, int share)
{
    const REAL step = g[g_start] / (REAL)counts[counts_start];
    x += x_start;
    to_x += to_x_start;
    EACH_ROW {
        const long t = target[target_start + row];
        const global REAL *from = x + START_OF(row);
        global REAL *to = to_x + START_OF(row);
        if (t == ignored) {
            ALONG(i) PUT((LANES)(0), to, i);
            continue;
        }
        const REAL m = largest[largest_start + row], factor = step / sums[sums_start + row];
        ALONG(i) {
            const LANES share_of_class = exponential(LOAD(from + i) - m) * factor;
            PUT(WHERE(NUMBERS == (FLAGS)(t - i), share_of_class - step, share_of_class), to, i);
        }
    }
}
