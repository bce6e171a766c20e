// What every kernel of this backend starts with.
#ifdef cl_khr_fp64
#pragma OPENCL EXTENSION cl_khr_fp64 : enable
#endif

// Marks kernels that compute with vectors: LLVM uses half of the width of AVX-512 unless it is told.
#if defined(__has_attribute) && defined(__x86_64__)
#if __has_attribute(min_vector_width)
#define WIDE __attribute__((min_vector_width(512)))
#endif
#endif
#ifndef WIDE
#define WIDE
#endif

// JOIN(float, 16) is float16, also where float and 16 are names of macros.
#define JOIN_(a, b) a##b
#define JOIN(a, b) JOIN_(a, b)

// At the start of a kernel: reads from the page of memory on which its constants lie. With AVX-512 the
// compiler may read a constant only where a condition holds. If that is nowhere, the page is never
// brought into memory, and each such read of a page that is not there takes hundreds of cycles.
#ifdef __x86_64__
constant uchar touched = 1;
#define TOUCH_CONSTANTS *(volatile constant uchar *)&touched;
#else
#define TOUCH_CONSTANTS
#endif
