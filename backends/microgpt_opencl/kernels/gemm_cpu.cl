// Matrix products and the gradients of linear, for CPUs: after gemm_vectors.cl, and on processors with
// a matrix unit gemm_amx.cl.

#define TILES 4      // a flag: on the matrix unit
#define GRADIENTS 8  // a flag: those of linear

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

// C = A·B (+ bias) (+ C), where A(i, p) = a[a_start + i·a_strides.s0 + p·a_strides.s1 + batch], B(p, j)
// and C(i, j) likewise (C's columns must be adjacent: c_strides.s1 is not used); a batch is numbered in
// two levels, outer·strides.s2 + inner·strides.s3, so that heads inside rows need no copy.
// Global size: (ceil(n / task_columns), ceil(m / task_rows), batches), local size (1, 1, 1).
//
// Or, with GRADIENTS, all those of y = x·Wᵀ + bias: A is the gradient g of y, B is W, and C = g·W that
// of x; besides gᵀ·x and the sums of g's columns are computed. The first `c_tasks` work-groups share out
// the rows of C, the next `w_tasks` the columns of gᵀ·x, and one more makes the sums. (One kernel does
// both, since compilers take their time for each.)
//
// sizes: m, n, k, inner batches, flags, task_rows, task_columns; with GRADIENTS c_tasks, the rows of each,
// w_tasks, the columns of each.
WIDE kernel __attribute__((reqd_work_group_size(1, 1, 1))) void gemm(
    global const REAL *a, ulong a_start, long4 a_strides,
    global const REAL *b, ulong b_start, long4 b_strides,
    global REAL *c, ulong c_start, long4 c_strides,
    global const REAL *bias, ulong bias_start, int16 sizes,
    global const REAL *x, ulong x_start, long x_row, long x_column,
    global REAL *to_w, global REAL *to_bias)
{
    local REAL packed_a[PACKED_A] __attribute__((aligned(64)));
    local REAL packed_b[PACKED_B] __attribute__((aligned(64)));
    const int m = sizes.s0, n = sizes.s1, k = sizes.s2, inner_batches = sizes.s3, flags = sizes.s4;
    const int c_tasks = sizes.s7, c_share = sizes.s8, w_tasks = sizes.s9, w_share = sizes.sa;
    long a_row = a_strides.s0, a_column = a_strides.s1;
    int first_column = 0, end_column = n, first_row = 0, end_row = m, depth = k;
    const int task = get_group_id(0);
    a += a_start;
    b += b_start;
    c += c_start;
    if (!(flags & GRADIENTS)) {
        const long outer = get_group_id(2) / inner_batches, inner = get_group_id(2) % inner_batches;
        a += outer * a_strides.s2 + inner * a_strides.s3;
        b += outer * b_strides.s2 + inner * b_strides.s3;
        c += outer * c_strides.s2 + inner * c_strides.s3;
        first_row = (int)get_group_id(1) * sizes.s5;
        end_row = MIN(m, first_row + sizes.s5);
        first_column = task * sizes.s6;
        end_column = MIN(n, first_column + sizes.s6);
    } else if (task < c_tasks) {
        first_row = task * c_share;
        end_row = MIN(m, first_row + c_share);
    } else if (task < c_tasks + w_tasks) {
        a_row = a_strides.s1;
        a_column = a_strides.s0;
        b = x + x_start;
        b_strides.s0 = x_row;
        b_strides.s1 = x_column;
        c = to_w;
        c_strides.s0 = n;
        first_column = (task - c_tasks) * w_share;
        end_column = MIN(n, first_column + w_share);
        end_row = k;
        depth = m;
    } else {
        column_sums(a, a_row, m, k, to_bias);
        return;
    }
    product(a, a_row, a_column, b, b_strides.s0, b_strides.s1, c, c_strides.s0, bias + bias_start,
            first_row, end_row, first_column, end_column, depth, flags, packed_a, packed_b);
}
