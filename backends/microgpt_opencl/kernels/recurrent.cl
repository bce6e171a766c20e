// Recurrent layers: what happens at each time step. `lanes.cl` comes before it; for CPUs
// `recurrent_cpu.cl` follows.
//
// With WIDTH 1, for graphics cards, the kernels here compute the gates, one work-item per state;
// the products are those of `linalg`, one per step.
//
// Forwards and gradients of the LSTM follow Hochreiter and Schmidhuber, Neural Computation 9
// (1997), with the forget gate of Gers, Schmidhuber and Cummins, Neural Computation 12 (2000);
// gradients go back through time (Werbos, Proceedings of the IEEE 78, 1990).
//
// REAL   float or double
// WIDTH  numbers in a vector

#define MIN(x, y) ((x) < (y) ? (x) : (y))

// The first `count` numbers of a vector, if it has more than that.
WIDE static inline void put(global REAL *to, LANES value, int count)
{
#if WIDTH == 1
    *to = value;
#else
    if (count >= WIDTH) {
        *(global LANES_ANYWHERE *)to = value;
    } else {
        REAL numbers[WIDTH];
        *(LANES_ANYWHERE *)numbers = value;
        for (int i = 0; i < count; ++i)
            to[i] = numbers[i];
    }
#endif
}

WIDE static inline LANES sigmoid(LANES x)
{
    return 1 / (1 + exp(-x));  // where e⁻ˣ is infinite this is the right 0
}

// ---- one step of some units of one sequence ---------------------------------------------------

// From the sums of the gates i, f, g, o; the states before are written again if it has ended.
// With `keep`, what the gradient needs is kept: the gates, at a distance of `size`, and tanh(c).
WIDE static inline void lstm_step(
    LANES i, LANES f, LANES g, LANES o, global const REAL *x, global const REAL *h_before,
    global const REAL *c_before, global REAL *h, global REAL *c, global REAL *gates,
    global REAL *tanh_c, int size, int count, int ended, int keep)
{
    LANES old = LOAD(c_before);
    if (ended) {
        put(h, LOAD(h_before), count);
        put(c, old, count);
        return;
    }
    i = sigmoid(i + LOAD(x));
    f = sigmoid(f + LOAD(x + size));
    g = tanh(g + LOAD(x + 2 * size));
    o = sigmoid(o + LOAD(x + 3 * size));
    LANES new = f * old + i * g;
    LANES shown = tanh(new);
    put(c, new, count);
    put(h, o * shown, count);
    if (keep) {
        put(gates, i, count);
        put(gates + size, f, count);
        put(gates + 2 * size, g, count);
        put(gates + 3 * size, o, count);
        put(tanh_c, shown, count);
    }
}

// The gradients of the sums of the gates, by c = f·c₋ + i·g, h = o·tanh(c), σ' = σ·(1 - σ) and
// tanh' = 1 - tanh². In `to_h` is the gradient of h from the steps behind, to which that from
// outside is added. To what is left there, the product with the weights is added afterwards.
WIDE static inline void lstm_step_gradient(
    global const REAL *outside, global const REAL *gates, global const REAL *tanh_c,
    global const REAL *c_before, global REAL *to_gates, global REAL *to_h, global REAL *to_c,
    int size, int count, int ended)
{
    LANES of_h = LOAD(to_h) + LOAD(outside);
    if (ended) {
        put(to_h, of_h, count);
        for (int gate = 0; gate < 4; ++gate)
            put(to_gates + gate * size, 0, count);
        return;
    }
    LANES i = LOAD(gates), f = LOAD(gates + size);
    LANES g = LOAD(gates + 2 * size), o = LOAD(gates + 3 * size);
    LANES shown = LOAD(tanh_c);
    LANES of_c = LOAD(to_c) + of_h * o * (1 - shown * shown);
    LANES by_c = of_c * i;
    put(to_gates, by_c * g * (1 - i), count);
    put(to_gates + size, of_c * LOAD(c_before) * f * (1 - f), count);
    put(to_gates + 2 * size, by_c * (1 - g * g), count);
    put(to_gates + 3 * size, of_h * shown * o * (1 - o), count);
    put(to_c, of_c * f, count);
    put(to_h, 0, count);
}

WIDE static inline void rnn_step(
    LANES sum, global const REAL *x, global const REAL *before, global REAL *h, int count,
    int ended, int relu)
{
    if (ended) {
        put(h, LOAD(before), count);
        return;
    }
    sum += LOAD(x);
    if (relu)
        put(h, sum <= 0 ? (LANES)(0) : sum, count);  // nan stays nan
    else
        put(h, tanh(sum), count);
}

WIDE static inline void rnn_step_gradient(
    global const REAL *outside, global const REAL *h, global REAL *to_gates, global REAL *to_h,
    int count, int ended, int relu)
{
    LANES of_h = LOAD(to_h) + LOAD(outside), y = LOAD(h);
    LANES slope = relu ? (y > 0 ? (LANES)(1) : (LANES)(0)) : 1 - y * y;
    put(to_gates, ended ? (LANES)(0) : of_h * slope, count);
    put(to_h, ended ? of_h : (LANES)(0), count);
}

// Each row (t·n of them, `width` numbers) is added to that of the table which its id names, in
// their order: a work-item owns some columns.
WIDE kernel void add_rows(
    global const REAL *rows, ulong rows_start, global const int *ids, ulong ids_start,
    global REAL *table, ulong table_start, int count, int width, int vectors_each)
{
    int first = (int)get_global_id(0) * vectors_each * WIDTH;
    int end = MIN(width, first + vectors_each * WIDTH);
    rows += rows_start, ids += ids_start, table += table_start;
    for (int row = 0; row < count; ++row) {
        global REAL *to = table + (long)ids[row] * width;
        for (int j = first; j < end; j += WIDTH)
            put(to + j, LOAD(to + j) + LOAD(rows + (long)row * width + j), end - j);
    }
}

// `lengths` are used if `uneven`: the step is behind the end of this row.
#define ENDED(row) (uneven && step >= lengths[row])

#if WIDTH == 1
// ---- graphics cards: one work-item per state ---------------------------------------------------

// The sums of the products are in `gates`, which keeps the gates afterwards. All pointers but
// those of x and ids are at this step. Global size: (size, n).
kernel void lstm_cell(
    global const REAL *x, ulong x_start, long x_row, global const int *ids, ulong ids_start,
    int by_id, global const REAL *h_before, ulong h_before_start, global const REAL *c_before,
    ulong c_before_start, global const int *lengths, ulong lengths_start, int uneven,
    global REAL *h, ulong h_start, global REAL *c, ulong c_start, global REAL *gates,
    ulong gates_start, global REAL *tanh_c, ulong tanh_c_start, int step, int keep)
{
    int j = get_global_id(0), size = get_global_size(0), row = get_global_id(1);
    long at = (long)row * size + j;
    lengths += lengths_start;
    x += x_start + (by_id ? ids[ids_start + row] : row) * x_row + j;
    gates += gates_start + (long)row * 4 * size + j;
    lstm_step(gates[0], gates[size], gates[2 * size], gates[3 * size], x,
              h_before + h_before_start + at, c_before + c_before_start + at, h + h_start + at,
              c + c_start + at, gates, tanh_c + tanh_c_start + at, size, 1, ENDED(row), keep);
}

kernel void lstm_cell_gradient(
    global const REAL *outside, ulong outside_start, global const REAL *gates, ulong gates_start,
    global const REAL *tanh_c, ulong tanh_c_start, global const REAL *c_before,
    ulong c_before_start, global const int *lengths, ulong lengths_start, int uneven,
    global REAL *to_gates, ulong to_gates_start, global REAL *to_h, ulong to_h_start,
    global REAL *to_c, ulong to_c_start, int step)
{
    int j = get_global_id(0), size = get_global_size(0), row = get_global_id(1);
    long at = (long)row * size + j, at_gates = (long)row * 4 * size + j;
    lengths += lengths_start;
    lstm_step_gradient(outside + outside_start + at, gates + gates_start + at_gates,
                       tanh_c + tanh_c_start + at, c_before + c_before_start + at,
                       to_gates + to_gates_start + at_gates, to_h + to_h_start + at,
                       to_c + to_c_start + at, size, 1, ENDED(row));
}

// The sums of the products are in `h`.
kernel void rnn_cell(
    global const REAL *x, ulong x_start, long x_row, global const REAL *before,
    ulong before_start, global const int *lengths, ulong lengths_start, int uneven,
    global REAL *h, ulong h_start, int step, int relu)
{
    int j = get_global_id(0), size = get_global_size(0), row = get_global_id(1);
    long at = (long)row * size + j;
    lengths += lengths_start;
    h += h_start + at;
    rnn_step(*h, x + x_start + row * x_row + j, before + before_start + at, h, 1, ENDED(row), relu);
}

kernel void rnn_cell_gradient(
    global const REAL *outside, ulong outside_start, global const REAL *h, ulong h_start,
    global const int *lengths, ulong lengths_start, int uneven, global REAL *to_gates,
    ulong to_gates_start, global REAL *to_h, ulong to_h_start, int step, int relu)
{
    int j = get_global_id(0), size = get_global_size(0), row = get_global_id(1);
    long at = (long)row * size + j;
    lengths += lengths_start;
    rnn_step_gradient(outside + outside_start + at, h + h_start + at,
                      to_gates + to_gates_start + at, to_h + to_h_start + at, 1, ENDED(row), relu);
}
#endif
