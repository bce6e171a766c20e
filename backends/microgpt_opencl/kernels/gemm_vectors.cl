// Matrix product for CPUs with vector registers: C = op(A)·op(B) (+ bias row) (+ C).
//
// The blocking is the one of GotoBLAS (Goto & van de Geijn, "Anatomy of High-Performance Matrix
// Multiplication", ACM TOMS 34(3), 2008) with the loops named as in BLIS (Van Zee & van de Geijn,
// ACM TOMS 41(3), 2015). One work-item is one thread; it computes a block of C of
// task_rows × task_columns:
//
//   for jc in columns, step NC
//     for pc in k, step KC          pack B[pc:pc+KC, jc:jc+NC] into slivers of NR columns  (L2)
//       for ic in rows, step MC     pack A[ic:ic+MC, pc:pc+KC] as rows of KC               (L2)
//         for jr in NC, step NR     one sliver of B stays in L1
//           for ir in MC, step MR   microkernel: MR×NR of C in registers
//
// The microkernel broadcasts single numbers of A against vectors of B. Transposed and strided
// operands differ only in the packing, which transposes WIDTH×WIDTH blocks inside registers.
// Everything is in plain vector arithmetic: vload16 and min() are calls that a CPU compiler may
// not inline, and arrays of vectors may not stay in registers, hence the pointer casts, MIN and
// the accumulators with names. a*b+c is contracted to a fused multiply-add (FP_CONTRACT is on
// by default), which is as exact as the specification of matmul asks.
//
// REAL     float or double
// WIDTH    numbers in one vector register (float: 16 on AVX-512, 8 on AVX2, 4 on NEON; double: half)
// MR       rows of the register block: 12 where there are 32 vector registers, 6 where there are 16
// KC       a sliver KC×NR of B (and MR×KC of A) should fit L1
// MC, NC   the packed blocks take (MC + NC)·KC numbers of local memory, which is L2 here

#pragma OPENCL FP_CONTRACT ON

#ifndef WIDTH
#define WIDTH 16
#endif
#ifndef MR
#define MR 12
#endif
#ifndef KC
#define KC 384
#endif
#ifndef MC
#define MC 48
#endif
#ifndef NC
#define NC 512
#endif
#define NR (2 * WIDTH)
#define PACKED_A (MC * KC)  // numbers of local memory for a block of A
#define PACKED_B (NC * KC)

#define BIAS 1
#define ACCUMULATE 2

#define IN_GLOBAL(p) ((global const REAL *)(ulong)(p))  // all memory of a processor is one
#define MIN(x, y) ((x) < (y) ? (x) : (y))
#define VECTOR JOIN(REAL, WIDTH)
typedef VECTOR vector_at __attribute__((aligned(sizeof(REAL))));  // a vector at any element
#define GLOBAL_VECTOR(p, i) (((global vector_at *)(p))[i])
#define LOCAL_VECTOR(p, i) (((local vector_at *)(p))[i])

#define ROWS_2(X) X(0) X(1)
#define ROWS_4(X) ROWS_2(X) X(2) X(3)
#define ROWS_6(X) ROWS_4(X) X(4) X(5)
#define ROWS_8(X) ROWS_6(X) X(6) X(7)
#define ROWS_12(X) ROWS_8(X) X(8) X(9) X(10) X(11)
#define ROWS_16(X) ROWS_12(X) X(12) X(13) X(14) X(15)

// ---- Transposition of WIDTH×WIDTH numbers in registers --------------------------------------
// One stage interleaves vector i with vector i + WIDTH/2 (a perfect shuffle); log2(WIDTH) stages
// exchange the bits of the row number with those of the column number.

#define SHUFFLE(f, t, i, j, first, second)                  \
    t##first.even = f##i.lo;                                \
    t##first.odd = f##j.lo;                                 \
    t##second.even = f##i.hi;                               \
    t##second.odd = f##j.hi;
#if WIDTH == 16
#define STAGE(f, t)                                                                             \
    SHUFFLE(f, t, 0, 8, 0, 1) SHUFFLE(f, t, 1, 9, 2, 3) SHUFFLE(f, t, 2, 10, 4, 5)              \
    SHUFFLE(f, t, 3, 11, 6, 7) SHUFFLE(f, t, 4, 12, 8, 9) SHUFFLE(f, t, 5, 13, 10, 11)          \
    SHUFFLE(f, t, 6, 14, 12, 13) SHUFFLE(f, t, 7, 15, 14, 15)
#define STAGES STAGE(x, y) STAGE(y, x) STAGE(x, y) STAGE(y, x)
#define TRANSPOSED(r) x##r
#elif WIDTH == 8
#define STAGE(f, t)                                                                             \
    SHUFFLE(f, t, 0, 4, 0, 1) SHUFFLE(f, t, 1, 5, 2, 3)                                         \
    SHUFFLE(f, t, 2, 6, 4, 5) SHUFFLE(f, t, 3, 7, 6, 7)
#define STAGES STAGE(x, y) STAGE(y, x) STAGE(x, y)
#define TRANSPOSED(r) y##r
#elif WIDTH == 4
#define STAGE(f, t) SHUFFLE(f, t, 0, 2, 0, 1) SHUFFLE(f, t, 1, 3, 2, 3)
#define STAGES STAGE(x, y) STAGE(y, x)
#define TRANSPOSED(r) x##r
#elif WIDTH == 2
#define STAGE(f, t) SHUFFLE(f, t, 0, 1, 0, 1)
#define STAGES STAGE(x, y)
#define TRANSPOSED(r) y##r
#endif
#define EACH_LANE JOIN(ROWS_, WIDTH)

#define DECLARE_LANE(r) VECTOR x##r, y##r;
#define LOAD_LANE(r) x##r = GLOBAL_VECTOR(source + MIN(r, lines - 1) * stride, 0);
#define STORE_LANE(r) LOCAL_VECTOR(target + r * step, 0) = TRANSPOSED(r);

// target[c·step + r] = source[r·stride + c]; lines past the last one repeat it (never used).
WIDE inline void transpose(
    global const REAL *source, long stride, int lines, local REAL *target, int step)
{
    EACH_LANE(DECLARE_LANE)
    EACH_LANE(LOAD_LANE)
    STAGES
    EACH_LANE(STORE_LANE)
}

// ---- Packing --------------------------------------------------------------------------------
// A last block that is not full starts earlier and writes some numbers twice, where there are
// WIDTH of them at all. Numbers are never invented along k, so inf and nan stay where they are;
// columns beyond the matrix hold anything, since their products are not stored.

// B whose rows lie in memory as such: each is read once from end to end, which memory likes best.
WIDE inline void pack_b_rows(
    global const REAL *b, long row_stride, int kc, int nc, local REAL *packed)
{
    for (int p = 0; p < kc; ++p) {
        global const REAL *row = b + p * row_stride;
        local REAL *target = packed + p * NR;
        int j = 0;
        for (; j + NR <= nc; j += NR, target += KC * NR) {
            LOCAL_VECTOR(target, 0) = GLOBAL_VECTOR(row + j, 0);
            LOCAL_VECTOR(target, 1) = GLOBAL_VECTOR(row + j, 1);
        }
        for (; j + WIDTH <= nc; j += WIDTH, target += WIDTH)
            LOCAL_VECTOR(target, 0) = GLOBAL_VECTOR(row + j, 0);
        for (; j < nc; ++j, ++target)
            *target = row[j];
    }
}

WIDE inline void pack_b(
    global const REAL *b, long row_stride, long column_stride, int kc, int nc, local REAL *packed)
{
    if (column_stride == 1) {
        pack_b_rows(b, row_stride, kc, nc, packed);
        return;
    }
    for (int j = 0; j < nc; j += NR, packed += KC * NR) {
        int columns = MIN(NR, nc - j);
        global const REAL *source = b + j * column_stride;
        if (row_stride == 1 && kc >= WIDTH) {
            for (int p = 0; p < kc; p += WIDTH) {
                int q = MIN(p, kc - WIDTH);
                for (int c = 0; c < columns; c += WIDTH)
                    transpose(source + q + c * column_stride, column_stride, columns - c,
                              packed + q * NR + c, NR);
            }
            continue;
        }
        for (int p = 0; p < kc; ++p)
            for (int c = 0; c < columns; ++c)
                packed[p * NR + c] = source[p * row_stride + c * column_stride];
    }
}

WIDE inline void pack_a(
    global const REAL *a, long row_stride, long column_stride, int mc, int kc, local REAL *packed)
{
    if (column_stride == 1 && kc >= WIDTH) {
        for (int i = 0; i < mc; ++i)
            for (int p = 0; p < kc; p += WIDTH) {
                int q = MIN(p, kc - WIDTH);
                LOCAL_VECTOR(packed + i * KC + q, 0) = GLOBAL_VECTOR(a + i * row_stride + q, 0);
            }
    } else if (row_stride == 1 && mc >= WIDTH && kc >= WIDTH) {
        for (int p = 0; p < kc; p += WIDTH) {
            int q = MIN(p, kc - WIDTH);
            for (int i = 0; i < mc; i += WIDTH) {
                int r = MIN(i, mc - WIDTH);
                transpose(a + q * column_stride + r, column_stride, WIDTH,
                          packed + r * KC + q, KC);
            }
        }
    } else {
        for (int i = 0; i < mc; ++i)
            for (int p = 0; p < kc; ++p)
                packed[i * KC + p] = a[i * row_stride + p * column_stride];
    }
}

// ---- Microkernel ----------------------------------------------------------------------------

// The sums of row r: one vector, or two for as many columns more.
#define DECLARE_1(r) VECTOR sum##r##_0 = 0;
#define DECLARE_2(r) DECLARE_1(r) VECTOR sum##r##_1 = 0;
#define UPDATE_1(r) sum##r##_0 = (VECTOR)(a[r * a_row + p]) * b0 + sum##r##_0;
#define UPDATE_2(r)                                 \
    {                                               \
        VECTOR x = (VECTOR)(a[r * KC + p]);         \
        sum##r##_0 = x * b0 + sum##r##_0;           \
        sum##r##_1 = x * b1 + sum##r##_1;           \
    }
#define STORE_1(r) GLOBAL_VECTOR(c + r * c_row, 0) = sum##r##_0 + start0;
#define STORE_2(r) STORE_1(r) GLOBAL_VECTOR(c + r * c_row, 1) = sum##r##_1 + start1;
#define ADD_1(r) GLOBAL_VECTOR(c + r * c_row, 0) += sum##r##_0 + start0;
#define ADD_2(r) ADD_1(r) GLOBAL_VECTOR(c + r * c_row, 1) += sum##r##_1 + start1;
#define KEEP_1(r) ((vector_at *)(tile + r * NR))[0] = sum##r##_0;
#define KEEP_2(r) KEEP_1(r) ((vector_at *)(tile + r * NR))[1] = sum##r##_1;

// c[rows×columns] (+)= a[rows×kc]·b[kc×columns] + bias, where rows ≤ ROWS, columns ≤ VECTORS·WIDTH.
// Row r of a begins at r·a_row, which is KC for two vectors: with a constant that is 3 % faster.
#define MICROKERNEL(NAME, ROWS, EACH_ROW, VECTORS)                                              \
    WIDE inline void NAME(global const REAL *a, long a_row, local const REAL *b, int kc,        \
                          global REAL *c, long c_row, int rows, int columns,                    \
                          global const REAL *bias, int accumulate)                              \
    {                                                                                           \
        EACH_ROW(DECLARE_##VECTORS)                                                             \
        for (int p = 0; p < kc; ++p) {                                                          \
            VECTOR b0 = LOCAL_VECTOR(b + p * NR, 0), b1 = LOCAL_VECTOR(b + p * NR, 1);          \
            EACH_ROW(UPDATE_##VECTORS)                                                          \
        }                                                                                       \
        if (rows == ROWS && columns == VECTORS * WIDTH) {                                       \
            VECTOR start0 = 0, start1 = 0;                                                      \
            if (bias) {                                                                         \
                start0 = GLOBAL_VECTOR(bias, 0);                                                \
                if (VECTORS > 1)                                                                \
                    start1 = GLOBAL_VECTOR(bias, 1);                                            \
            }                                                                                   \
            if (accumulate) {                                                                   \
                EACH_ROW(ADD_##VECTORS)                                                         \
            } else {                                                                            \
                EACH_ROW(STORE_##VECTORS)                                                       \
            }                                                                                   \
            return;                                                                             \
        }                                                                                       \
        REAL tile[ROWS * NR];                                                                   \
        EACH_ROW(KEEP_##VECTORS)                                                                \
        store_edge(tile, c, c_row, rows, columns, bias, accumulate);                            \
    }

WIDE inline void store_edge(
    const REAL *tile, global REAL *c, long c_stride, int rows, int columns,
    global const REAL *bias, int accumulate)
{
    for (int r = 0; r < rows; ++r)
        for (int j = 0; j < columns; ++j) {
            REAL sum = tile[r * NR + j];
            if (bias)
                sum += bias[j];
            if (accumulate)
                sum += c[r * c_stride + j];
            c[r * c_stride + j] = sum;
        }
}

// Rows that are left go through a smaller block, and few columns through a narrow one, not through
// a large one that is padded.
#define TAIL (MR / 3)
#if MR == 12
#define EACH_TAIL ROWS_4
#else
#define EACH_TAIL ROWS_2
#endif
MICROKERNEL(multiply_block, MR, JOIN(ROWS_, MR), 2)
MICROKERNEL(multiply_tail, TAIL, EACH_TAIL, 2)
MICROKERNEL(multiply_narrow, MR, JOIN(ROWS_, MR), 1)
MICROKERNEL(multiply_narrow_tail, TAIL, EACH_TAIL, 1)

// All rows of a sliver of C.
#define MULTIPLY(BLOCK, BLOCK_TAIL)                                                             \
    {                                                                                           \
        int i = 0;                                                                              \
        for (; i + 2 * TAIL < rows; i += MR)                                                    \
            BLOCK(a + i * a_row, a_row, b, kc, c + i * c_row, c_row, MIN(MR, rows - i),         \
                  columns, bias, accumulate);                                                   \
        for (; i < rows; i += TAIL)                                                             \
            BLOCK_TAIL(a + i * a_row, a_row, b, kc, c + i * c_row, c_row, MIN(TAIL, rows - i),  \
                       columns, bias, accumulate);                                              \
    }

WIDE inline void multiply_sliver(
    global const REAL *a, long a_row, local const REAL *b, int kc, global REAL *c, long c_row,
    int rows, int columns, global const REAL *bias, int accumulate)
{
    if (columns > WIDTH)
        MULTIPLY(multiply_block, multiply_tail)
    else
        MULTIPLY(multiply_narrow, multiply_narrow_tail)
}

// C = A·B for a block of C: rows first_row … end_row, columns first_column … end_column. A(i, p) is
// a[i·a_row + p·a_column], B(p, j) and C(i, j) likewise, and C's columns are adjacent.
// It is not inlined: compilers take as long for each copy as for the rest of the program.
WIDE __attribute__((noinline)) void product_by_vectors(
    global const REAL *a, long a_row, long a_column, global const REAL *b, long b_row,
    long b_column, global REAL *c, long c_row, global const REAL *bias, int first_row, int end_row,
    int first_column, int end_column, int k, int flags, local REAL *packed_a, local REAL *packed_b)
{
    for (int jc = first_column; jc < end_column; jc += NC) {
        int nc = MIN(NC, end_column - jc);
        int pc = 0;
        do {  // once even where k is 0: C then becomes zeros, or the bias
            int kc = MIN(KC, k - pc);
            int accumulate = pc > 0 || (flags & ACCUMULATE);
            int add_bias = pc == 0 && (flags & BIAS);
            pack_b(b + pc * b_row + jc * b_column, b_row, b_column, kc, nc, packed_b);
            for (int ic = first_row; ic < end_row; ic += MC) {
                int mc = MIN(MC, end_row - ic);
                global const REAL *rows = a + ic * a_row + pc * a_column;
                long row = a_row;
                // Rows that are used once are used where they are, if blocks end where they do.
                if (a_column != 1 || nc > WIDTH || mc % TAIL) {
                    pack_a(rows, a_row, a_column, mc, kc, packed_a);
                    rows = IN_GLOBAL(packed_a);
                    row = KC;
                }
                for (int jr = 0; jr < nc; jr += NR)
                    multiply_sliver(rows, row, packed_b + jr * KC, kc, c + ic * c_row + jc + jr,
                                    c_row, mc, MIN(NR, nc - jr), add_bias ? bias + jc + jr : 0,
                                    accumulate);
            }
            pc += KC;
        } while (pc < k);
    }
}
