#include "manifold/cpu/plane_kernels.h"

#define LECTERN_TARGET_NAMESPACE scalar
#include "manifold/cpu/plane-inl.h"
