#include "manifold/cpu/plane_kernels.h"

#define LECTERN_TARGET_NAMESPACE avx512
#define LECTERN_TARGET_FLOATS 16
#include "manifold/cpu/plane-inl.h"
