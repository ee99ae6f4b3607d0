#define LECTERN_TARGET avx512
#include "base/nn/cpu/simd_avx512-inl.h"
#include "base/nn/cpu/vector_math-inl.h"
#include "base/nn/cpu/float_linear-inl.h"
#include "base/nn/cpu/quant_linear-inl.h"
