#define LECTERN_TARGET avx2
#include "base/nn/cpu/elementwise-inl.h"
