// Sequence kernels of the RNN, the LSTM and the GRU for CPUs, without torch or Python: the product of the state with
// weights that are packed once, and the gates while their values are in the cache. Compiled once for each instruction
// set (see pyproject.toml); seqbench/models/kernels/compiled.py loads the one that the processor has.
#include <string.h>

#include "parallel.h"

#if defined(__AVX512F__)
#include <immintrin.h>
#define BYTES 64
#define REGISTERS 32
#elif defined(__AVX__)
#include <immintrin.h>
#define BYTES 32
#define REGISTERS 16
#else
#define BYTES 16
#define REGISTERS 32  // NEON; SSE has 16, but nobody trains on it
#endif
Parallel seqbench_parallel = 0;
void set_parallel(Parallel parallel) { seqbench_parallel = parallel; }
long cells_version(void) { return 4; }  // raised with every change of this file or cells.h: see compiled.py

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 16")

static const double INVERSE_FACTORIAL[] = {1.0, 1.0, 1.0 / 2, 1.0 / 6, 1.0 / 24, 1.0 / 120, 1.0 / 720, 1.0 / 5040,
                                           1.0 / 40320, 1.0 / 362880, 1.0 / 3628800, 1.0 / 39916800, 1.0 / 479001600,
                                           1.0 / 6227020800.0};

#define REAL float
#define WORD int
#define NAME(f) f##_f32
#define LARGEST 87.0f
#define TANH_LARGEST 15.0f
#define ROUNDING 12582912.0
#define LOG2_HIGH 0.693359375
#define LOG2_LOW -2.12194440054690583e-4
#define TERMS 8
#define EXPONENT_BIAS 127
#define MANTISSA 23
#define SINGLE 1
#include "cells.h"
#undef REAL
#undef WORD
#undef NAME
#undef LARGEST
#undef TANH_LARGEST
#undef ROUNDING
#undef LOG2_HIGH
#undef LOG2_LOW
#undef TERMS
#undef EXPONENT_BIAS
#undef MANTISSA
#undef SINGLE

#define REAL double
#define WORD long
#define NAME(f) f##_f64
#define LARGEST 700.0
#define TANH_LARGEST 25.0
#define ROUNDING 6755399441055744.0
#define LOG2_HIGH 0.693147180369123816490
#define LOG2_LOW 1.90821492927058770002e-10
#define TERMS 13
#define EXPONENT_BIAS 1023
#define MANTISSA 52
#define SINGLE 0
#include "cells.h"
