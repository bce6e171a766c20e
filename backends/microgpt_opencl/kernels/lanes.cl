// Vectors of WIDTH numbers of type REAL (float or double); with WIDTH 1, plain numbers.
//
// `LOAD` and `STORE` go through a pointer to a type with the alignment of one number. vload and
// vstore would do the same, but some CPU drivers (PoCL) call them as functions, which moves every
// accumulator of a loop from its register to memory and back.
//
// EACH runs through an axis in one of two ways: a CPU wants few work-items with loops of their
// own; with PLAIN, for a GPU, every index of the axis is another work-item.
#if WIDTH == 1
typedef REAL LANES;
typedef REAL LANES_ANYWHERE;
#else
typedef JOIN(REAL, WIDTH) LANES;
typedef LANES LANES_ANYWHERE __attribute__((aligned(sizeof(REAL))));
#endif
#define LOAD(p) (*(const global LANES_ANYWHERE *)(p))
#define STORE(v, p) (*(global LANES_ANYWHERE *)(p) = (v))

#ifdef PLAIN
#define EACH(i, axis, count) for (int i = get_global_id(axis), i##_end = i + 1; i < i##_end; ++i)
#else
#define EACH(i, axis, count) for (int i = 0; i < (count); ++i)
#endif
