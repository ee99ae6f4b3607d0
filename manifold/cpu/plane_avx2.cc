#include "manifold/cpu/plane_kernels.h"

#define LECTERN_TARGET_NAMESPACE avx2
#define LECTERN_TARGET_FLOATS 8
#include "manifold/cpu/plane-inl.h"
