#define LECTERN_TARGET scalar
#include "base/nn/cpu/simd_scalar-inl.h"
#include "base/nn/cpu/vector_math-inl.h"
#include "base/nn/cpu/float_linear-inl.h"
#include "base/nn/cpu/quant_linear-inl.h"
