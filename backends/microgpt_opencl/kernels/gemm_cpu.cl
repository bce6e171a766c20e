// Matrix products and the gradients of linear, for CPUs: after gemm_vectors.cl, and on processors with
// a matrix unit gemm_amx.cl.

#define TILES 4  // a flag: on the matrix unit

WIDE inline void product(
    global const REAL *a, long a_row, long a_column, global const REAL *b, long b_row,
    long b_column, global REAL *c, long c_row, global const REAL *bias, int first_row, int end_row,
    int first_column, int end_column, int k, int flags, local REAL *packed_a, local REAL *packed_b)
{
#ifdef TILE
    if (flags & TILES) {
        product_on_tiles(a, a_row, a_column, b, b_row, b_column, c, c_row, bias, first_row, end_row,
                         first_column, end_column, k, flags, packed_a, packed_b);
        return;
    }
#endif
    product_by_vectors(a, a_row, a_column, b, b_row, b_column, c, c_row, bias, first_row, end_row,
                       first_column, end_column, k, flags, packed_a, packed_b);
}

// A(i, p) = a[a_start + i·a_strides.s0 + p·a_strides.s1 + batch], B(p, j) and C(i, j) likewise
// (C's columns must be adjacent: c_strides.s1 is not used); a batch is numbered in two levels,
// outer·strides.s2 + inner·strides.s3, so that heads inside rows need no copy.
// Global size: (ceil(n / task_columns), ceil(m / task_rows), batches), local size (1, 1, 1).
WIDE kernel __attribute__((reqd_work_group_size(1, 1, 1))) void gemm(
    global const REAL *a, ulong a_start, long4 a_strides,
    global const REAL *b, ulong b_start, long4 b_strides,
    global REAL *c, ulong c_start, long4 c_strides,
    global const REAL *bias, ulong bias_start,
    int m, int n, int k, int inner_batches, int flags, int task_rows, int task_columns)
{
    local REAL packed_a[PACKED_A] __attribute__((aligned(64)));
    local REAL packed_b[PACKED_B] __attribute__((aligned(64)));
    int first_column = (int)get_group_id(0) * task_columns;
    int first_row = (int)get_group_id(1) * task_rows;
    long outer = get_group_id(2) / inner_batches, inner = get_group_id(2) % inner_batches;
    product(a + a_start + outer * a_strides.s2 + inner * a_strides.s3, a_strides.s0, a_strides.s1,
            b + b_start + outer * b_strides.s2 + inner * b_strides.s3, b_strides.s0, b_strides.s1,
            c + c_start + outer * c_strides.s2 + inner * c_strides.s3, c_strides.s0,
            bias + bias_start, first_row, MIN(m, first_row + task_rows), first_column,
            MIN(n, first_column + task_columns), k, flags, packed_a, packed_b);
}

#define SUMMED 256  // rows that are added one after the other, before their sum is added to others
#define ADD_ROWS(i) \
    part##i += GLOBAL_VECTOR(row, i);
#define ADD_PARTS(i) \
    total##i += part##i;

// The sums of the columns of g; reads and writes up to four vectors past the last one.
WIDE __attribute__((noinline)) void column_sums(
    global const REAL *g, long g_row, int rows, int columns, global REAL *sums)
{
    for (int j = 0; j < columns; j += 4 * WIDTH) {
        VECTOR total0 = 0, total1 = 0, total2 = 0, total3 = 0;
        for (int first = 0; first < rows; first += SUMMED) {
            VECTOR part0 = 0, part1 = 0, part2 = 0, part3 = 0;
            int end = MIN(rows, first + SUMMED);
            for (int i = first; i < end; ++i) {
                global const REAL *row = g + i * g_row + j;
                ROWS_4(ADD_ROWS)
            }
            ROWS_4(ADD_PARTS)
        }
        GLOBAL_VECTOR(sums + j, 0) = total0;
        GLOBAL_VECTOR(sums + j, 1) = total1;
        GLOBAL_VECTOR(sums + j, 2) = total2;
        GLOBAL_VECTOR(sums + j, 3) = total3;
    }
}

// All gradients of y = x·Wᵀ + bias in one launch, for g of rows × outputs, x of rows × inputs and
// W of outputs × inputs: g·W, gᵀ·x, and the sums of g's columns. The first `x_tasks` work-groups
// share out the rows of the first product, the next `w_tasks` the columns of the second, and one
// more makes the sums if there is a bias.
WIDE kernel __attribute__((reqd_work_group_size(1, 1, 1))) void linear_vjp(
    global const REAL *g, ulong g_start, long g_row, long g_column,
    global const REAL *x, ulong x_start, long x_row, long x_column,
    global const REAL *w, ulong w_start, long w_row, long w_column,
    global REAL *to_x, global REAL *to_w, global REAL *to_bias,
    int rows, int outputs, int inputs, int flags, int x_tasks, int x_share, int w_tasks, int w_share)
{
    local REAL packed_a[PACKED_A] __attribute__((aligned(64)));
    local REAL packed_b[PACKED_B] __attribute__((aligned(64)));
    int task = get_group_id(0);
    g += g_start;
    x += x_start;
    w += w_start;
    if (task < x_tasks) {
        int first = task * x_share;
        product(g, g_row, g_column, w, w_row, w_column, to_x, inputs, 0, first,
                MIN(rows, first + x_share), 0, inputs, outputs, flags, packed_a, packed_b);
    } else if (task < x_tasks + w_tasks) {
        int first = (task - x_tasks) * w_share;
        product(g, g_column, g_row, x, x_row, x_column, to_w, inputs, 0, 0, outputs, first,
                MIN(inputs, first + w_share), rows, flags, packed_a, packed_b);
    } else
        column_sums(g, g_row, rows, outputs, to_bias);
}
