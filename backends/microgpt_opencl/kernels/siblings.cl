// Up to eight steps y = a + b · scale, of arrays of n numbers each, one after the other.
#pragma OPENCL FP_CONTRACT OFF

typedef JOIN(REAL, WIDTH) LANES;
typedef LANES LANES_ANYWHERE __attribute__((aligned(sizeof(REAL))));

// Reads and writes past the end: behind every array there is room for a vector.
#define DO(i) \
    for (int k = 0; k < n##i; k += WIDTH) \
        *(global LANES_ANYWHERE *)(y##i + k) = \
            *(global const LANES_ANYWHERE *)(a##i + a##i##_start + k) + \
            *(global const LANES_ANYWHERE *)(b##i + b##i##_start + k) * scale;

kernel WIDE void add_scaled_many(
    global REAL *y0, global const REAL *a0, ulong a0_start, global const REAL *b0, ulong b0_start, int n0,
    global REAL *y1, global const REAL *a1, ulong a1_start, global const REAL *b1, ulong b1_start, int n1,
    global REAL *y2, global const REAL *a2, ulong a2_start, global const REAL *b2, ulong b2_start, int n2,
    global REAL *y3, global const REAL *a3, ulong a3_start, global const REAL *b3, ulong b3_start, int n3,
    global REAL *y4, global const REAL *a4, ulong a4_start, global const REAL *b4, ulong b4_start, int n4,
    global REAL *y5, global const REAL *a5, ulong a5_start, global const REAL *b5, ulong b5_start, int n5,
    global REAL *y6, global const REAL *a6, ulong a6_start, global const REAL *b6, ulong b6_start, int n6,
    global REAL *y7, global const REAL *a7, ulong a7_start, global const REAL *b7, ulong b7_start, int n7,
    REAL scale)
{
    DO(0) DO(1) DO(2) DO(3) DO(4) DO(5) DO(6) DO(7)
}
