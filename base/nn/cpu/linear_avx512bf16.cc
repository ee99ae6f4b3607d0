#define LECTERN_TARGET avx512bf16
#include "base/nn/cpu/simd_avx512-inl.h"
#include "base/nn/cpu/float_linear-inl.h"

namespace lectern::nn::avx512bf16 {

extern const FloatKernel kBf16Gemm[2][kMaxTile] = {LECTERN_FLOAT_ROW(true, 1), LECTERN_FLOAT_ROW(true, 2)};
void (*const kToBf16)(const float* x, int64_t x_stride, int tokens, int64_t cols, uint8_t* out) = ToBf16Block;

}  // namespace lectern::nn::avx512bf16
