// Matrix product for GPUs: C = op(A)·op(B) (+ bias row) (+ C), tiled through local memory.
//
// A work-group computes a tile of TILE_M × TILE_N of C, each work-item WORK_M × WORK_N of it in
// registers (Volkov & Demmel, "Benchmarking GPUs to Tune Dense Linear Algebra", SC 2008). Tiles
// of A and B, TILE_K deep, go through local memory; the next pair is already on its way into
// registers while the present one is multiplied, which hides the latency of global memory.
// Which tile is best depends on the device and the shape, so all five sizes are macros to be
// tuned (Nugteren, "CLBlast: A Tuned OpenCL BLAS Library", IWOCL 2018).
//
// Local size: (TILE_N / WORK_N, TILE_M / WORK_M, 1). Global size: that times
// (ceil(n / TILE_N), ceil(m / TILE_M), batches).
// Required: the number of work-items divides TILE_M·TILE_K and TILE_N·TILE_K;
// TILE_K·(TILE_M + TILE_N + 2·PAD) numbers fit local memory.

#pragma OPENCL FP_CONTRACT ON

#ifndef TILE_M
#define TILE_M 64
#define TILE_N 64
#define TILE_K 16
#define WORK_M 4
#define WORK_N 4
#endif

#define BIAS 1
#define ACCUMULATE 2

#define THREADS_M (TILE_M / WORK_M)
#define THREADS_N (TILE_N / WORK_N)
#define THREADS (THREADS_M * THREADS_N)
#define LOADS_A (TILE_M * TILE_K / THREADS)
#define LOADS_B (TILE_N * TILE_K / THREADS)

// Rows of the local tiles are longer than the tile: otherwise, where neighbours read along k,
// they would all write to one memory bank. A multiple of 4 keeps the vector loads aligned.
#define PAD 4
#define PITCH_M (TILE_M + PAD)
#define PITCH_N (TILE_N + PAD)

// A work-item owns runs of RUN adjacent rows or columns, THREADS·RUN apart: a run is one vector
// load from local memory, and neighbours in the work-group read neighbouring runs.
#define RUN(work) ((work) % 4 == 0 ? 4 : (work) % 2 == 0 ? 2 : 1)
#define RUN_M RUN(WORK_M)
#define RUN_N RUN(WORK_N)
#define ROW(i) ((i) / RUN_M * (THREADS_M * RUN_M) + y * RUN_M + (i) % RUN_M)
#define COLUMN(j) ((j) / RUN_N * (THREADS_N * RUN_N) + x * RUN_N + (j) % RUN_N)

#define REAL2 JOIN(REAL, 2)
#define REAL4 JOIN(REAL, 4)

// values[i] of element i: along k first where the numbers lie so in memory, so that neighbouring
// work-items read neighbouring numbers, otherwise across k.
#define PLACE(e, along_k, tile) \
    int p = (along_k) ? (e) % TILE_K : (e) / (tile), s = (along_k) ? (e) / TILE_K : (e) % (tile)

// Numbers outside the matrix are read as 0; along k both operands get it, so no 0·inf arises in
// a product that is stored.
#define FETCH(values, loads, tile, base, stride, k_stride, along_k, side)                       \
    _Pragma("unroll") for (int l = 0; l < (loads); ++l)                                         \
    {                                                                                           \
        PLACE(item + l * THREADS, along_k, tile);                                               \
        values[l] = s < (side) && p0 + p < k                                                    \
                        ? base[s * (stride) + (p0 + p) * (k_stride)]                            \
                        : (REAL)0;                                                              \
    }

#define PUT(values, loads, tile, pitch, along_k, target)                                        \
    _Pragma("unroll") for (int l = 0; l < (loads); ++l)                                         \
    {                                                                                           \
        PLACE(item + l * THREADS, along_k, tile);                                               \
        target[p * (pitch) + s] = values[l];                                                    \
    }

static inline void read_run(local const REAL *from, int run, REAL *to)
{
    if (run == 4) {
        REAL4 v = *(local const REAL4 *)from;
        to[0] = v.s0, to[1] = v.s1, to[2] = v.s2, to[3] = v.s3;
    } else if (run == 2) {
        REAL2 v = *(local const REAL2 *)from;
        to[0] = v.s0, to[1] = v.s1;
    } else {
        to[0] = *from;
    }
}

// A(i, p) = a[a_start + i·a_strides.s0 + p·a_strides.s1 + batch], B(p, j) and C(i, j) likewise
// (C's columns must be adjacent: c_strides.s1 is not used); a batch is numbered in two levels,
// outer·strides.s2 + inner·strides.s3, so that heads inside rows need no copy.
kernel __attribute__((reqd_work_group_size(THREADS_N, THREADS_M, 1))) void gemm(
    global const REAL *a, ulong a_start, long4 a_strides,
    global const REAL *b, ulong b_start, long4 b_strides,
    global REAL *c, ulong c_start, long4 c_strides,
    global const REAL *bias, ulong bias_start,
    int m, int n, int k, int inner_batches, int flags)
{
    local REAL tile_a[TILE_K * PITCH_M] __attribute__((aligned(32)));
    local REAL tile_b[TILE_K * PITCH_N] __attribute__((aligned(32)));
    int x = get_local_id(0), y = get_local_id(1), item = y * THREADS_N + x;
    int first_row = (int)get_group_id(1) * TILE_M, rows = m - first_row;
    int first_column = (int)get_group_id(0) * TILE_N, columns = n - first_column;
    long outer = get_group_id(2) / inner_batches, inner = get_group_id(2) % inner_batches;
    a += a_start + outer * a_strides.s2 + inner * a_strides.s3 + first_row * a_strides.s0;
    b += b_start + outer * b_strides.s2 + inner * b_strides.s3 + first_column * b_strides.s1;
    c += c_start + outer * c_strides.s2 + inner * c_strides.s3 + first_row * c_strides.s0 +
         first_column;
    int a_along_k = a_strides.s1 == 1, b_along_k = b_strides.s0 == 1;

    REAL sums[WORK_M][WORK_N];
    #pragma unroll
    for (int i = 0; i < WORK_M; ++i)
        #pragma unroll
        for (int j = 0; j < WORK_N; ++j)
            sums[i][j] = 0;

    REAL next_a[LOADS_A], next_b[LOADS_B];
    int p0 = 0;
    FETCH(next_a, LOADS_A, TILE_M, a, a_strides.s0, a_strides.s1, a_along_k, rows)
    FETCH(next_b, LOADS_B, TILE_N, b, b_strides.s1, b_strides.s0, b_along_k, columns)
    while (p0 < k) {
        PUT(next_a, LOADS_A, TILE_M, PITCH_M, a_along_k, tile_a)
        PUT(next_b, LOADS_B, TILE_N, PITCH_N, b_along_k, tile_b)
        barrier(CLK_LOCAL_MEM_FENCE);
        p0 += TILE_K;
        if (p0 < k) {
            FETCH(next_a, LOADS_A, TILE_M, a, a_strides.s0, a_strides.s1, a_along_k, rows)
            FETCH(next_b, LOADS_B, TILE_N, b, b_strides.s1, b_strides.s0, b_along_k, columns)
        }
        #pragma unroll
        for (int p = 0; p < TILE_K; ++p) {
            REAL column_a[WORK_M], row_b[WORK_N];
            #pragma unroll
            for (int i = 0; i < WORK_M; i += RUN_M)
                read_run(tile_a + p * PITCH_M + ROW(i), RUN_M, column_a + i);
            #pragma unroll
            for (int j = 0; j < WORK_N; j += RUN_N)
                read_run(tile_b + p * PITCH_N + COLUMN(j), RUN_N, row_b + j);
            #pragma unroll
            for (int i = 0; i < WORK_M; ++i)
                #pragma unroll
                for (int j = 0; j < WORK_N; ++j)
                    sums[i][j] = column_a[i] * row_b[j] + sums[i][j];
        }
        barrier(CLK_LOCAL_MEM_FENCE);
    }

    #pragma unroll
    for (int i = 0; i < WORK_M; ++i) {
        global REAL *row = c + ROW(i) * c_strides.s0;
        #pragma unroll
        for (int j = 0; j < WORK_N; ++j)
            if (ROW(i) < rows && COLUMN(j) < columns) {
                REAL sum = sums[i][j];
                if (flags & BIAS)
                    sum += bias[bias_start + first_column + COLUMN(j)];
                if (flags & ACCUMULATE)
                    sum += row[COLUMN(j)];
                row[COLUMN(j)] = sum;
            }
    }
}
