#define LECTERN_TARGET scalar
#include "base/nn/cpu/elementwise-inl.h"
