// Recurrent layers on a CPU: many time steps in one launch. It follows `recurrent.cl`.
//
// The product of a step, states (n, size) times the hidden weights, is small: for 32 sequences and
// 128 units a call of a library for it, and the reads and writes of its result between two calls,
// would cost about as much as its arithmetic. So on a CPU one launch does many time steps. No step
// of a sequence needs another sequence: each work-item owns some rows of the batch and walks
// through time with them. It computes ROWS rows and 4 vectors of the product at once, in named
// registers (the register block of Goto and van de Geijn, ACM TOMS 34(3), 2008), from weights that
// `pack` has brought into the order in which they are read; the gates of these rows follow while
// the sums are in the first-level cache. For the LSTM the 4 vectors are the same units of the 4
// gates, so that a register block has all that new states need.
//
// ROWS   rows of the register block: 6 where there are 32 vector registers, 2 where there are 16

#pragma OPENCL FP_CONTRACT ON

#define UNITS (4 * WIDTH)  // columns of the register block

// packed[block][p][vector][lane] = column `block·block_step + vector·vector_step + lane` of the
// weights, at p·row_stride + column·column_stride; 0 for lanes past the last unit.
// Global size: blocks.
kernel void pack(
    global const REAL *weight, ulong weight_start, long row_stride, long column_stride,
    global REAL *packed, ulong packed_start, int depth, int block_step, int vector_step, int units)
{
    int first = (int)get_global_id(0) * block_step;
    weight += weight_start;
    packed += packed_start + (long)get_global_id(0) * depth * UNITS;
    for (int vector = 0; vector < 4; ++vector)
        for (int lane = 0; lane < WIDTH; ++lane) {
            // The vectors are gates, or units that follow one another.
            int unit = first + lane + (block_step == UNITS ? vector * WIDTH : 0);
            long column = first + lane + (long)vector * vector_step;
            for (int p = 0; p < depth; ++p)
                packed[p * UNITS + vector * WIDTH + lane] =
                    unit < units ? weight[p * row_stride + column * column_stride] : 0;
        }
}

// ---- the register block -----------------------------------------------------------------------

#define ROWS_2(X) X(0) X(1)
#define ROWS_6(X) ROWS_2(X) X(2) X(3) X(4) X(5)

#define DECLARE(r)                                                     \
    LANES sum##r##_0 = 0, sum##r##_1 = 0, sum##r##_2 = 0, sum##r##_3 = 0; \
    global const REAL *a##r = a + MIN(r, rows - 1) * stride;
#define UPDATE(r)                              \
    {                                          \
        LANES x = (LANES)(a##r[p]);            \
        sum##r##_0 = x * w0 + sum##r##_0;      \
        sum##r##_1 = x * w1 + sum##r##_1;      \
        sum##r##_2 = x * w2 + sum##r##_2;      \
        sum##r##_3 = x * w3 + sum##r##_3;      \
    }
#define KEEP(r)                                \
    sums[4 * r] = sum##r##_0;                  \
    sums[4 * r + 1] = sum##r##_1;              \
    sums[4 * r + 2] = sum##r##_2;              \
    sums[4 * r + 3] = sum##r##_3;

// sums[row][vector] = a (rows, depth) times a packed block; missing rows repeat the last one.
#define BLOCK(NAME, EACH_ROW)                                                                   \
    WIDE inline void NAME(global const REAL *a, long stride, int rows, global const REAL *packed, \
                          int depth, LANES *sums)                                               \
    {                                                                                           \
        EACH_ROW(DECLARE)                                                                       \
        for (int p = 0; p < depth; ++p) {                                                       \
            LANES w0 = LOAD(packed + p * UNITS), w1 = LOAD(packed + p * UNITS + WIDTH);         \
            LANES w2 = LOAD(packed + p * UNITS + 2 * WIDTH);                                    \
            LANES w3 = LOAD(packed + p * UNITS + 3 * WIDTH);                                    \
            EACH_ROW(UPDATE)                                                                    \
        }                                                                                       \
        EACH_ROW(KEEP)                                                                          \
    }
BLOCK(multiply_2, ROWS_2)
#if ROWS == 6
BLOCK(multiply_6, ROWS_6)
#endif

// As `multiply_2`, for as many rows as pay in one go. Returns how many.
WIDE inline int multiply(
    global const REAL *a, long stride, int rows, global const REAL *packed, int depth, LANES *sums)
{
#if ROWS == 6
    if (rows > 4) {
        multiply_6(a, stride, MIN(rows, 6), packed, depth, sums);
        return MIN(rows, 6);
    }
#endif
    multiply_2(a, stride, MIN(rows, 2), packed, depth, sums);
    return MIN(rows, 2);
}

// c (rows, units) += a (rows, depth) times packed weights. In parts of DEPTH numbers, with which a
// block of the weights stays in the first-level cache while all rows go by.
#define DEPTH 128
WIDE inline void add_product(
    global const REAL *a, int rows, global const REAL *packed, int depth, int units,
    global REAL *c)
{
    LANES sums[4 * ROWS];
    for (int unit = 0; unit < units; unit += UNITS, packed += depth * UNITS)
        for (int part = 0; part < depth; part += DEPTH)
            for (int row = 0; row < rows;) {
                int many = multiply(a + (long)row * depth + part, depth, rows - row,
                                    packed + part * UNITS, MIN(DEPTH, depth - part), sums);
                for (int r = 0; r < many; ++r, ++row)
                    for (int v = 0; v < 4 && unit + v * WIDTH < units; ++v) {
                        int j = unit + v * WIDTH;
                        global REAL *to = c + (long)row * units + j;
                        put(to, LOAD(to) + sums[4 * r + v], units - j);
                    }
            }
}

// ---- all steps --------------------------------------------------------------------------------

// A work-item owns the rows from `first` to `end`. Global size: n / rows_each, rounded up.
#define OWN_ROWS                                         \
    int first = (int)get_global_id(0) * rows_each;       \
    int end = MIN(n, first + rows_each);                 \
    long slab = (long)n * size;

// x (t, n, 4·size) with any strides of its first two axes, or by id a table (v, 4·size).
// y (t + 1, n, size): its last part is c as it goes from step to step; with `keep`, gates
// (t, n, 4·size), c (but for the last) and tanh(c) (t, n, size) of each step are kept.
WIDE kernel void lstm_forward(
    global const REAL *x, ulong x_start, long x_step, long x_row, global const int *ids,
    ulong ids_start, int by_id, global const REAL *packed, ulong packed_start,
    global const REAL *h0, ulong h0_start, global const REAL *c0, ulong c0_start,
    global const int *lengths, ulong lengths_start, int uneven, global REAL *y, ulong y_start,
    global REAL *gates, ulong gates_start, global REAL *cs, ulong cs_start, global REAL *tanh_c,
    ulong tanh_c_start, int keep, int steps, int n, int size, int reverse, int rows_each)
{
    OWN_ROWS
    LANES sums[4 * ROWS];
    x += x_start, ids += ids_start, packed += packed_start, lengths += lengths_start;
    y += y_start, gates += gates_start, cs += cs_start, tanh_c += tanh_c_start;
    global const REAL *h_before = h0 + h0_start, *c_before = c0 + c0_start;
    for (int done = 0; done < steps; ++done) {
        int step = reverse ? steps - 1 - done : done;
        int inner = keep && done < steps - 1;
        global REAL *h = y + step * slab, *c = inner ? cs + step * slab : y + steps * slab;
        for (int j = 0; j < size; j += WIDTH)
            for (int row = first; row < end;) {
                int many = multiply(h_before + (long)row * size, size, end - row,
                                    packed + (long)j * 4 * size, size, sums);
                for (int r = 0; r < many; ++r, ++row) {
                    long at = (long)row * size + j;
                    long at_gates = keep ? step * 4 * slab + (long)row * 4 * size + j : 0;
                    global const REAL *mine = x + step * x_step;  // x_step is 0 with ids
                    mine += (by_id ? ids[(long)step * n + row] : row) * x_row;
                    lstm_step(sums[4 * r], sums[4 * r + 1], sums[4 * r + 2], sums[4 * r + 3],
                              mine + j, h_before + at, c_before + at, h + at, c + at,
                              gates + at_gates, tanh_c + (keep ? step * slab + at : 0), size,
                              size - j, ENDED(row), keep);
                }
            }
        h_before = h, c_before = c;
    }
}

// `to_h` and `to_c` are the gradients of h0 and c0 in the end; the first holds 0 before, the
// second that of the last c. One launch does the steps that are walked as number `from` - 1 down to
// `to`; `to_gates` has these only, the step `low` is its first.
WIDE kernel void lstm_backward(
    global const REAL *outside, ulong outside_start, global const REAL *gates, ulong gates_start,
    global const REAL *cs, ulong cs_start, global const REAL *tanh_c, ulong tanh_c_start,
    global const REAL *c0, ulong c0_start, global const REAL *packed, ulong packed_start,
    global const int *lengths, ulong lengths_start, int uneven, global REAL *to_gates,
    ulong to_gates_start, global REAL *to_h, ulong to_h_start, global REAL *to_c,
    ulong to_c_start, int from, int to, int low, int steps, int n, int size, int reverse,
    int rows_each)
{
    OWN_ROWS
    outside += outside_start, gates += gates_start, cs += cs_start, tanh_c += tanh_c_start;
    packed += packed_start, lengths += lengths_start, to_gates += to_gates_start;
    to_h += to_h_start, to_c += to_c_start;
    for (int left = from - 1; left >= to; --left) {
        int step = reverse ? steps - 1 - left : left;
        global REAL *part = to_gates + (step - low) * 4 * slab;
        global const REAL *c_before =
            left == 0 ? c0 + c0_start : cs + (reverse ? step + 1 : step - 1) * slab;
        for (int row = first; row < end; ++row)
            for (int j = 0; j < size; j += WIDTH) {
                long at = (long)row * size + j;
                long at_gates = step * 4 * slab + (long)row * 4 * size + j;
                lstm_step_gradient(outside + step * slab + at, gates + at_gates,
                                   tanh_c + step * slab + at, c_before + at,
                                   part + 4 * (long)row * size + j, to_h + at, to_c + at, size,
                                   size - j, ENDED(row));
            }
        long mine = (long)first * size;
        add_product(part + 4 * mine, end - first, packed, 4 * size, size, to_h + mine);
    }
}

WIDE kernel void rnn_forward(
    global const REAL *x, ulong x_start, long x_step, long x_row, global const REAL *packed,
    ulong packed_start, global const REAL *h0, ulong h0_start, global const int *lengths,
    ulong lengths_start, int uneven, global REAL *y, ulong y_start, int steps, int n, int size,
    int reverse, int relu, int rows_each)
{
    OWN_ROWS
    LANES sums[4 * ROWS];
    x += x_start, packed += packed_start, lengths += lengths_start, y += y_start;
    global const REAL *before = h0 + h0_start;
    for (int done = 0; done < steps; ++done) {
        int step = reverse ? steps - 1 - done : done;
        global REAL *h = y + step * slab;
        for (int unit = 0; unit < size; unit += UNITS)
            for (int row = first; row < end;) {
                int many = multiply(before + (long)row * size, size, end - row,
                                    packed + (long)unit * size, size, sums);
                for (int r = 0; r < many; ++r, ++row)
                    for (int v = 0; v < 4 && unit + v * WIDTH < size; ++v) {
                        int j = unit + v * WIDTH;
                        long at = (long)row * size + j;
                        rnn_step(sums[4 * r + v], x + step * x_step + row * x_row + j,
                                 before + at, h + at, size - j, ENDED(row), relu);
                    }
            }
        before = h;
    }
}

WIDE kernel void rnn_backward(
    global const REAL *outside, ulong outside_start, global const REAL *y, ulong y_start,
    global const REAL *packed, ulong packed_start, global const int *lengths,
    ulong lengths_start, int uneven, global REAL *to_gates, ulong to_gates_start,
    global REAL *to_h, ulong to_h_start, int steps, int n, int size, int reverse, int relu,
    int rows_each)
{
    OWN_ROWS
    outside += outside_start, y += y_start, packed += packed_start, lengths += lengths_start;
    to_gates += to_gates_start, to_h += to_h_start;
    for (int left = steps - 1; left >= 0; --left) {
        int step = reverse ? steps - 1 - left : left;
        for (int row = first; row < end; ++row)
            for (int j = 0; j < size; j += WIDTH) {
                long at = (long)row * size + j;
                rnn_step_gradient(outside + step * slab + at, y + step * slab + at,
                                  to_gates + step * slab + at, to_h + at, size - j, ENDED(row),
                                  relu);
            }
        long mine = (long)first * size;
        add_product(to_gates + step * slab + mine, end - first, packed, size, size, to_h + mine);
    }
}
