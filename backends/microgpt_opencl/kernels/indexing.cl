// Picking elements by index, and adding elements to picked places.
//
// Arrays are seen as (before, length of the axis, after). Indices lie row by row, have been checked
// to be within the axis (`check`), and may be negative: they then count from its end.
//
// Additions to one place are done by one work-item, in the order of the indices, so that results
// are the same every time and no atomic operations are needed:
//  - On a CPU a work-item owns columns, or a range of target rows, and goes through all indices.
//  - On a GPU with few indices, a work-item owns one column. With many indices they are sorted, so
//    that those of one place follow each other (`add_sorted`): a work-item at the first of them
//    adds up all.
//
// Sorting is a merge sort: D. E. Knuth, The Art of Computer Programming, volume 3 (1998), section
// 5.2.4. Here each element finds its place in the merged run by itself: its place in its own run
// plus the number of elements of the other run that go before it, found by bisection.
//
// With WIDTH > 1, for CPUs, a work-item goes through rows with vectors; with WIDTH 1 there is a
// work-item per element.
//
// Macros: REAL (type of the elements), INDEX (int or long), WIDTH, TRUTH (1 for bool, else 0).
#if TRUTH
#define PLUS |
#else
#define PLUS +
#endif

#if WIDTH > 1
typedef JOIN(REAL, WIDTH) LANES;
typedef LANES LANES_ANYWHERE __attribute__((aligned(sizeof(REAL))));
#define LOAD(p) (*(const global LANES_ANYWHERE *)(p))
#define STORE(v, p) (*(global LANES_ANYWHERE *)(p) = (v))

static inline void zero_run(global REAL *y, int n)
{
    int i = 0;
    for (; i + WIDTH <= n; i += WIDTH) STORE((LANES)(0), y + i);
    for (; i < n; ++i) y[i] = 0;
}

static inline void copy_run(global REAL *y, const global REAL *x, long step, int n)
{
    if (step != 1 || n < WIDTH) {
        for (int i = 0; i < n; ++i) y[i] = x[i * step];
        return;
    }
    for (int i = 0; i + WIDTH <= n; i += WIDTH) STORE(LOAD(x + i), y + i);
    STORE(LOAD(x + n - WIDTH), y + n - WIDTH);  // overlaps the vector before
}

static inline void add_run(global REAL *y, const global REAL *x, int n)
{
    int i = 0;
    for (; i + WIDTH <= n; i += WIDTH) STORE(LOAD(y + i) PLUS LOAD(x + i), y + i);
    for (; i < n; ++i) y[i] = y[i] PLUS x[i];
}
#endif

// The rows first … last of this work-group, which takes its share of `count`.
#define MY_SHARE(count)                                                                            \
    const int share = ((count) + (int)get_num_groups(0) - 1) / (int)get_num_groups(0);             \
    const int first = get_group_id(0) * share, last = min(first + share, (int)(count));

// An index, counted from the front.
static inline long counted(INDEX i, int size)
{
    return i < 0 ? (long)i + size : (long)i;
}

// bad[group] = whether an index that the group looked at is outside -size … size - 1.
// Work-items: groups of any number, of `lanes` work-items each.
kernel void check(
    global const INDEX *indices, ulong indices_start, global int *bad, ulong bad_start,
    int count, int size)
{
    local int found;
    const int lane = get_local_id(0);
    if (lane == 0) found = 0;
    barrier(CLK_LOCAL_MEM_FENCE);
    indices += indices_start;
    for (long k = get_global_id(0); k < count; k += get_global_size(0)) {
        const INDEX i = indices[k];
        if (i >= 0 ? (ulong)i >= (ulong)size : (long)i < -(long)size) found = 1;
    }
    barrier(CLK_LOCAL_MEM_FENCE);
    if (lane == 0) bad[bad_start + get_group_id(0)] = found;
}

// y[b, j, a] = x[b, indices[j], a], or, with an index of their own for all elements (own == 1),
// x[b, indices[b, j, a], a]. sb, sn, sa: steps of x.
kernel void take(
    global const REAL *x, ulong x_start, global const INDEX *indices, ulong indices_start,
    global REAL *y, ulong y_start,
    int before, int size, int count, int after, long sb, long sn, long sa, int own)
{
    x += x_start;
    indices += indices_start;
    y += y_start;
#if WIDTH > 1
    MY_SHARE(before * count)
    int b = first / count, j = first - b * count;
    for (int row = first; row < last; ++row) {
        global REAL *to = y + (long)row * after;
        const global REAL *from = x + b * sb;
        if (own) {
            const global INDEX *here = indices + (long)row * after;
            for (int a = 0; a < after; ++a) to[a] = from[counted(here[a], size) * sn + a * sa];
        } else {
            copy_run(to, from + counted(indices[j], size) * sn, sa, after);
        }
        if (++j == count) {
            j = 0;
            ++b;
        }
    }
#else
    const long total = (long)before * count * after;
    for (long at = get_global_id(0); at < total; at += get_global_size(0)) {
        const int row = at / after, a = at - (long)row * after, b = row / count;
        const INDEX i = own ? indices[at] : indices[row - b * count];
        y[at] = x[b * sb + counted(i, size) * sn + a * sa];
    }
#endif
}

// y[b, t, a] = sum of x[b, j, a] over all j with indices[j] = t.
// On a CPU groups share the columns a (by_columns == 1) or the targets t.
kernel void index_add(
    global const REAL *x, ulong x_start, global const INDEX *indices, ulong indices_start,
    global REAL *y, ulong y_start, int before, int size, int count, int after, int by_columns)
{
    x += x_start;
    indices += indices_start;
    y += y_start;
#if WIDTH > 1
    // Pieces are whole vectors, so that two groups seldom write to one line of the cache.
    MY_SHARE(by_columns ? (after + WIDTH - 1) / WIDTH : size)
    const int left = by_columns ? min(first * WIDTH, after) : 0;
    const int right = by_columns ? min(last * WIDTH, after) : after;
    const int low = by_columns ? 0 : first, high = by_columns ? size : last;
    for (int b = 0; b < before; ++b) {
        global REAL *to = y + (long)b * size * after + left;
        const global REAL *from = x + (long)b * count * after + left;
        if (by_columns) {
            for (int t = low; t < high; ++t) zero_run(to + (long)t * after, right - left);
        } else {
            zero_run(to + (long)low * after, (high - low) * after);
        }
        for (int j = 0; j < count; ++j) {
            const long t = counted(indices[j], size);
            if (t >= low && t < high)
                add_run(to + t * after, from + (long)j * after, right - left);
        }
    }
#else
    const int columns = before * after;
    for (int column = get_global_id(0); column < columns; column += get_global_size(0)) {
        const int b = column / after, a = column - b * after;
        global REAL *to = y + (long)b * size * after + a;
        const global REAL *from = x + (long)b * count * after + a;
        for (int t = 0; t < size; ++t) to[(long)t * after] = 0;
        for (int j = 0; j < count; ++j) {
            global REAL *place = to + counted(indices[j], size) * after;
            *place = *place PLUS from[(long)j * after];
        }
    }
#endif
}

// y[b, indices[b, j, a], a] += source[b, j, a], for all j in order.
// A unit of work is a stripe of columns of one b: `stripes` of them, of `wide` columns each.
kernel void scatter_add(
    global const REAL *source, ulong source_start, global const INDEX *indices,
    ulong indices_start, global REAL *y, ulong y_start,
    int before, int size, int count, int after, int stripes, int wide)
{
    source += source_start;
    indices += indices_start;
    y += y_start;
#if WIDTH > 1
    MY_SHARE(before * stripes)
#else
    const int first = get_global_id(0), last = min(first + 1, before * stripes);
#endif
    for (int unit = first; unit < last; ++unit) {
        const int b = unit / stripes, left = (unit - b * stripes) * wide;
        const int right = min(left + wide, after);
        global REAL *to = y + (long)b * size * after;
        for (int j = 0; j < count; ++j) {
            const long row = ((long)b * count + j) * after;
            for (int a = left; a < right; ++a) {
                global REAL *place = to + counted(indices[row + a], size) * after + a;
                *place = *place PLUS source[row + a];
            }
        }
    }
}

// The target of each element as one number that counts from the front, (b · size + index) · after
// + a: what `add_sorted` sorts by.
kernel void from_front(
    global const INDEX *indices, ulong indices_start, global long *places, ulong places_start,
    int before, int size, int count, int after)
{
    const long total = (long)before * count * after;
    for (long at = get_global_id(0); at < total; at += get_global_size(0)) {
        const int row = at / after, a = at - (long)row * after, b = row / count;
        const long t = counted(indices[indices_start + at], size);
        places[places_start + at] = ((long)b * size + t) * after + a;
    }
}

// y[b, places[j], a] += x[b, j, a] for all j; `order` sorts `places`, and equal ones keep their
// order. A work-item whose place differs from the one before adds up all that follow it.
kernel void add_sorted(
    global const REAL *x, ulong x_start, global const INDEX *places, ulong places_start,
    global const long *order, ulong order_start, global REAL *y, ulong y_start,
    int before, int size, int count, int after)
{
    const long total = (long)before * count * after;
    places += places_start;
    order += order_start;
    for (long at = get_global_id(0); at < total; at += get_global_size(0)) {
        const int row = at / after, a = at - (long)row * after;
        const int b = row / count, head = row - b * count;
        const INDEX t = places[order[head]];
        if (head > 0 && places[order[head - 1]] == t) continue;
        global REAL *to = y + y_start + ((long)b * size + t) * after + a;
        const global REAL *from = x + x_start + (long)b * count * after + a;
        REAL sum = *to;
        for (int p = head; p < count && places[order[p]] == t; ++p)
            sum = sum PLUS from[order[p] * after];
        *to = sum;
    }
}

// y[i, c] = whether indices[i] = c, for c = 0 … classes - 1.
kernel void one_hot(
    global const INDEX *indices, ulong indices_start, global REAL *y, ulong y_start,
    int count, int classes)
{
    indices += indices_start;
    y += y_start;
#if WIDTH > 1
    MY_SHARE(count)
    if (first < last) zero_run(y + (long)first * classes, (last - first) * classes);
    for (int i = first; i < last; ++i) {
        const long c = indices[i];
        if (c >= 0 && c < classes) y[(long)i * classes + c] = 1;
    }
#else
    const long total = (long)count * classes;
    for (long at = get_global_id(0); at < total; at += get_global_size(0)) {
        const int i = at / classes;
        y[at] = (long)indices[i] == at - (long)i * classes ? 1 : 0;
    }
#endif
}

// Whether u goes before v: NaN counts as larger than all numbers, as in NumPy.
static inline int goes_before(REAL u, REAL v, int descending)
{
    return descending ? v < u || (u != u && v == v) : u < v || (v != v && u == u);
}

// One step of sorting (before, size, after) along the middle axis. `runs` holds positions, one row
// of `size` per (b, a), of which every `length` are in order; in `merged` every 2 · length are.
// With length 0 it writes the positions 0, 1, … to start from. sb, sn, sa: steps of x.
kernel void merge(
    global const REAL *x, ulong x_start, global const long *runs, ulong runs_start,
    global long *merged, ulong merged_start,
    int rows, int size, int after, long sb, long sn, long sa, int length, int descending)
{
    const long total = (long)rows * size;
    for (long at = get_global_id(0); at < total; at += get_global_size(0)) {
        const int row = at / size, i = at - (long)row * size;
        global long *to = merged + merged_start + (long)row * size;
        if (length == 0) {
            to[i] = i;
            continue;
        }
        const global long *from = runs + runs_start + (long)row * size;
        const global REAL *keys = x + x_start + row / after * sb + row % after * sa;
        const int run = i / length, right = run & 1;
        const int other = (right ? run - 1 : run + 1) * length;
        int low = min(other, size), high = min(other + length, size);
        const int start = low;
        const REAL key = keys[from[i] * sn];
        while (low < high) {  // elements of the other run that go before this one
            const int middle = (low + high) / 2;
            const REAL value = keys[from[middle] * sn];
            // Among equal ones those of the left run go first.
            const int passes = right ? !goes_before(key, value, descending)
                                     : goes_before(value, key, descending);
            low = passes ? middle + 1 : low;
            high = passes ? high : middle;
        }
        to[i - run * length + (right ? other : run * length) + low - start] = from[i];
    }
}
