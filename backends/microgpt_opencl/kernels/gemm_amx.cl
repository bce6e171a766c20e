// The product of gemm_vectors.cl, in float32, on Intel's matrix unit AMX, which multiplies tiles of
// bfloat16 and adds in float32.
//
// A number of float32 is the sum of three of bfloat16, each the rounded rest of those before it:
// x = x0 + x1 + x2, 3·8 bits for 24. Of the nine parts of a product x·y the six with i + j ≤ 2 are
// added; the others lie below the rounding of a product in float32. So six tiles are multiplied for
// one, and the sums come out as exact as vectors have them, or more, since fewer are rounded: G. Henry,
// P. Tang & A. Heinecke, "Leveraging the bfloat16 artificial intelligence datatype for higher-precision
// computations", ARITH 2019. The unit is more than ten times as fast as vectors.
//
// It takes numbers below 2⁻¹²⁶ for 0, and a part may be infinite where the whole is not. So blocks go
// to the vectors if their largest number is very small or very large, or no number. Beside large ones,
// numbers below 2⁻¹¹⁰ lose digits, and products below 2⁻¹²⁶ are 0.
//
//   for jc in columns, step NC
//     for pc in k, step KC          pack B[pc:pc+KC, jc:jc+NC] as tiles, three for each      (L2)
//       for ic in rows, step BLOCK  pack A[ic:ic+BLOCK, pc:pc+KC] likewise                   (L2)
//         for jr, ir, step 32       microkernel: 2×2 tiles of C
//
// A tile is 16 rows of 16 words of 32 bits. One of C is 16×16 float32. One of A is 16×32 bfloat16, and
// one of B 32×16, of which two lines are one row, number by number side by side. So in both a word is
// two numbers that follow one another along k.

#define STEP 32           // numbers along k in a tile of A or B
#define TILE 256          // words of a tile
#define PARTS (3 * TILE)  // the parts of a tile lie one after the other
#define BLOCK 64          // rows of A that are packed together
#define UP(n, step) (((n) + (step) - 1) / (step) * (step))

#undef PACKED_B
#define PACKED_B ((NC + BLOCK) * UP(KC, STEP) * 3 / 2)  // A's tiles lie behind those of B

typedef uint16 words_at __attribute__((aligned(4)));
#define WORDS(p) (*(local words_at *)(p))

// ---- Packing --------------------------------------------------------------------------------

// The bits of `x` rounded to bfloat16, which are the upper half of a float; x becomes the rest.
#define TAKE(x, bits)                                             \
    uint16 bits = (as_uint16(x) + 0x8000u) & 0xffff0000u;         \
    x -= as_float16(bits);

#define ABSOLUTE(x) (as_uint16(x) & 0x7fffffffu)
#define LARGER(x, y) ((x) > (y) ? (x) : (y))

// A row of a tile, in three parts, of 16 pairs of numbers; the first has the lower half of a word.
WIDE inline uint16 pack_pairs(VECTOR first, VECTOR second, local uint *target, uint16 largest)
{
    largest = LARGER(largest, ABSOLUTE(first));
    largest = LARGER(largest, ABSOLUTE(second));
    TAKE(first, f0) TAKE(second, s0)
    TAKE(first, f1) TAKE(second, s1)
    TAKE(first, f2) TAKE(second, s2)
    WORDS(target) = f0 >> 16 | s0;
    WORDS(target + TILE) = f1 >> 16 | s1;
    WORDS(target + 2 * TILE) = f2 >> 16 | s2;
    return largest;
}

// A tile of A, of 16 lines of 32 numbers that lie side by side.
WIDE inline uint16 pack_tile_a(
    global const REAL *source, long stride, local uint *target, uint16 largest)
{
    for (int line = 0; line < 16; ++line, source += stride, target += 16) {
        VECTOR x = GLOBAL_VECTOR(source, 0), y = GLOBAL_VECTOR(source, 1);
        largest = pack_pairs((VECTOR)(x.even, y.even), (VECTOR)(x.odd, y.odd), target, largest);
    }
    return largest;
}

// A tile of B, of 32 lines of 16 numbers that lie side by side.
WIDE inline uint16 pack_tile_b(
    global const REAL *source, long stride, local uint *target, uint16 largest)
{
    for (int line = 0; line < STEP; line += 2, source += 2 * stride, target += 16)
        largest = pack_pairs(
            GLOBAL_VECTOR(source, 0), GLOBAL_VECTOR(source + stride, 0), target, largest);
    return largest;
}

// Packs `lines` × kc numbers of A (its rows) or B (its columns), number p of line i at
// source[i·line + p·along], as tiles of 16 lines × 32; those of the same lines follow one another.
// What is missing at the edges is 0. Returns the bits of the largest magnitude.
WIDE __attribute__((noinline)) uint pack_tiles(
    global const REAL *source, long line, long along, int lines, int kc, int of_a,
    local uint *target)
{
    REAL turned[16 * STEP] __attribute__((aligned(64)));  // a tile in the order that is needed
    local REAL *block = (local REAL *)(ulong)turned;
    const int across = UP(lines, 16) / 16, steps = UP(kc, STEP) / STEP;
    uint16 largest = 0;
    // Neighbours in memory come one after the other: such lines processors fetch in advance.
    for (int n = 0; n < across * steps; ++n) {
        const int number = along == 1 ? n / steps : n % across;
        const int s = along == 1 ? n % steps : n / across;
        const int here = MIN(16, lines - 16 * number), deep = MIN(STEP, kc - STEP * s);
        global const REAL *from = source + 16 * number * line + STEP * s * along;
        long stride = of_a ? line : along;
        local uint *to = target + (number * steps + s) * PARTS;
        if (here < 16 || deep < STEP || (line != 1 && along != 1)) {
            for (int i = 0; i < 16; ++i)
                for (int p = 0; p < STEP; ++p)
                    block[of_a ? i * STEP + p : p * 16 + i] =
                        i < here && p < deep ? from[i * line + p * along] : 0;
            from = IN_GLOBAL(block);
            stride = of_a ? STEP : 16;
        } else if (of_a && along != 1) {
            transpose(from, along, 16, block, STEP);
            transpose(from + 16 * along, along, 16, block + 16, STEP);
            from = IN_GLOBAL(block);
            stride = STEP;
        } else if (!of_a && line != 1) {
            transpose(from, line, 16, block, 16);
            transpose(from + 16, line, 16, block + 16 * 16, 16);
            from = IN_GLOBAL(block);
            stride = 16;
        }
        largest = of_a ? pack_tile_a(from, stride, to, largest)
                       : pack_tile_b(from, stride, to, largest);
    }
    uint most = 0;
    for (int i = 0; i < 16; ++i) {
        uint one = ((uint *)&largest)[i];
        most = LARGER(most, one);
    }
    return most;
}

// Whether the parts of products and of their sums are neither infinite nor lost: nothing at all, or
// a largest magnitude from 2⁻⁴⁰ to 2⁵⁸, whose bits these are.
WIDE inline int suits(uint most) { return most == 0 || (most >= 0x2b800000u && most < 0x5c800000u); }

// ---- Microkernel ----------------------------------------------------------------------------

#ifndef EMULATED

// Register 0 to 3 hold four tiles of C, 4 and 5 two of A, 6 and 7 two of B.
#define EACH_TILE_OF_C(X, p, row, bytes)                       \
    X(0, p, bytes) X(1, (p) + 16, bytes)                       \
    X(2, (p) + 16 * (row), bytes) X(3, (p) + 16 * (row) + 16, bytes)
#define LOAD_TILE(number, p, bytes) \
    __asm__ volatile("tileloadd (%0,%1,1), %%tmm" #number ::"r"(p), "r"(bytes) : "memory");
#define STORE_TILE(number, p, bytes) \
    __asm__ volatile("tilestored %%tmm" #number ", (%0,%1,1)" ::"r"(p), "r"(bytes) : "memory");
#define LOAD_A(part)                                 \
    "tileloadd " #part "*1024(%0,%4,1), %%tmm4\n\t"  \
    "tileloadd " #part "*1024(%1,%4,1), %%tmm5\n\t"
#define LOAD_B(part)                                 \
    "tileloadd " #part "*1024(%2,%4,1), %%tmm6\n\t"  \
    "tileloadd " #part "*1024(%3,%4,1), %%tmm7\n\t"
#define MULTIPLY_TILES                                                        \
    "tdpbf16ps %%tmm6, %%tmm4, %%tmm0\n\ttdpbf16ps %%tmm7, %%tmm4, %%tmm1\n\t"  \
    "tdpbf16ps %%tmm6, %%tmm5, %%tmm2\n\ttdpbf16ps %%tmm7, %%tmm5, %%tmm3\n\t"

// c[rows×columns] (+)= a·b + bias, where rows, columns ≤ 32, of two rows of `steps` tiles each.
WIDE inline void multiply_tiles(
    local const uint *a, local const uint *b, int steps, global REAL *c, long c_row, int rows,
    int columns, global const REAL *bias, int accumulate)
{
    const int whole = rows == 32 && columns == 32 && !(bias && accumulate);
    const long bytes = c_row * sizeof(REAL);
    if (whole && accumulate) {
        EACH_TILE_OF_C(LOAD_TILE, c, c_row, bytes)
    } else if (whole && bias) {
        EACH_TILE_OF_C(LOAD_TILE, bias, 0, 0L)
    } else
        __asm__ volatile("tilezero %tmm0\n\ttilezero %tmm1\n\ttilezero %tmm2\n\ttilezero %tmm3");
    for (int r = 0; r < rows; ++r) {  // the memory of C, in which the result is due
        __builtin_prefetch((const void *)(ulong)(c + r * c_row), 1);
        __builtin_prefetch((const void *)(ulong)(c + r * c_row + 16), 1);
    }
    for (int s = 0; s < steps; ++s, a += PARTS, b += PARTS)
        __asm__ volatile(
            LOAD_A(0) LOAD_B(2) MULTIPLY_TILES
            LOAD_B(1) MULTIPLY_TILES
            LOAD_A(1) MULTIPLY_TILES
            LOAD_B(0) MULTIPLY_TILES
            LOAD_A(2) MULTIPLY_TILES
            LOAD_A(0) MULTIPLY_TILES
            ::"r"(a), "r"(a + steps * PARTS), "r"(b), "r"(b + steps * PARTS), "r"(64L) : "memory");
    if (whole) {
        EACH_TILE_OF_C(STORE_TILE, c, c_row, bytes)
        return;
    }
    REAL tile[32 * 32] __attribute__((aligned(64)));
    EACH_TILE_OF_C(STORE_TILE, tile, 32, 32 * sizeof(REAL))
    store_edge(tile, c, c_row, rows, columns, bias, accumulate);
}

// What the registers hold: eight tiles of 16 rows with 64 bytes each.
constant uchar shapes[64] = {
    1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    64, 0, 64, 0, 64, 0, 64, 0, 64, 0, 64, 0, 64, 0, 64, 0,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    16, 16, 16, 16, 16, 16, 16, 16, 0, 0, 0, 0, 0, 0, 0, 0,
};
#define BEGIN __asm__ volatile("ldtilecfg (%0)" ::"r"(shapes) : "memory");
#define END __asm__ volatile("tilerelease");

#else  // The same without the unit, for processors that have none.

// The number in a half of a word: 0 is the lower one.
#define NUMBER(words, half) as_float((half) ? (words) & 0xffff0000u : (words) << 16)

WIDE inline void multiply_tiles(
    local const uint *a, local const uint *b, int steps, global REAL *c, long c_row, int rows,
    int columns, global const REAL *bias, int accumulate)
{
    REAL tile[32 * 32];
    for (int i = 0; i < 32; ++i)
        for (int j = 0; j < 32; ++j) {
            local const uint *row = a + i / 16 * steps * PARTS + i % 16 * 16;
            local const uint *column = b + j / 16 * steps * PARTS + j % 16;
            REAL sum = 0;
            for (int s = 0; s < steps; ++s, row += PARTS, column += PARTS)
                for (int x = 0; x < 3; ++x)
                    for (int y = 0; x + y < 3; ++y) {
                        REAL halves[2] = {0, 0};  // they are summed apart, as the unit does
                        for (int n = 0; n < STEP; ++n)
                            halves[n % 2] += NUMBER(row[x * TILE + n / 2], n % 2) *
                                             NUMBER(column[y * TILE + n / 2 * 16], n % 2);
                        sum += halves[0] + halves[1];
                    }
            tile[i * 32 + j] = sum;
        }
    store_edge(tile, c, c_row, rows, columns, bias, accumulate);
}
#define BEGIN
#define END

#endif

// ---- All blocks -----------------------------------------------------------------------------

// Like `product_by_vectors`, and with its memory.
WIDE __attribute__((noinline)) void product_on_tiles(
    global const REAL *a, long a_row, long a_column, global const REAL *b, long b_row,
    long b_column, global REAL *c, long c_row, global const REAL *bias, int first_row, int end_row,
    int first_column, int end_column, int k, int flags, local REAL *packed_a, local REAL *packed_b)
{
    BEGIN
    for (int jc = first_column; jc < end_column; jc += NC) {
        const int nc = MIN(NC, end_column - jc);
        for (int pc = 0; pc < k; pc += KC) {
            const int kc = MIN(KC, k - pc), steps = UP(kc, STEP) / STEP;
            const int now = pc > 0 ? (flags & ~BIAS) | ACCUMULATE : flags;
            global const REAL *from_a = a + pc * a_column, *from_b = b + pc * b_row;
            local uint *b_tiles = (local uint *)packed_b;
            local uint *a_tiles = b_tiles + UP(nc, 32) / 16 * steps * PARTS;
            int ic = first_row;
            if (suits(pack_tiles(from_b + jc * b_column, b_column, b_row, nc, kc, 0, b_tiles)))
                for (; ic < end_row; ic += BLOCK) {
                    const int mc = MIN(BLOCK, end_row - ic);
                    if (!suits(pack_tiles(from_a + ic * a_row, a_row, a_column, mc, kc, 1, a_tiles)))
                        break;
                    for (int jr = 0; jr < nc; jr += 32)
                        for (int ir = 0; ir < mc; ir += 32)
                            multiply_tiles(a_tiles + ir / 16 * steps * PARTS,
                                           b_tiles + jr / 16 * steps * PARTS, steps,
                                           c + (ic + ir) * c_row + jc + jr, c_row, MIN(32, mc - ir),
                                           MIN(32, nc - jr), now & BIAS ? bias + jc + jr : 0,
                                           now & ACCUMULATE);
                }
            if (ic < end_row)
                product_by_vectors(from_a, a_row, a_column, from_b, b_row, b_column, c, c_row, bias,
                                   ic, end_row, jc, jc + nc, kc, now, packed_a, packed_b);
        }
    }
    END
}
