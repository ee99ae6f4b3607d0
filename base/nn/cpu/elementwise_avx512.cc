#define LECTERN_TARGET avx512
#include "base/nn/cpu/elementwise-inl.h"
