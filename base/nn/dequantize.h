// base/nn/dequantize.h: exact float32 values of a quantised row, as the GGUF format defines them.
//
//   Dequantize(DType::kQ4_K, bytes, cols, out);
//
// Shapes:  bytes: RowBytes(type, cols) bytes of one row; out [cols] float.
// Threads: any; pure function.
// Errors:  none; the caller has checked IsLinearType(type) and the size.
// Cost:    plain loops, about 1 ns a weight; the reference every kernel is tested against.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/dtype.h"

namespace lectern::nn {

bool IsLinearType(DType type);  // F32 F16 BF16 Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q4_K Q5_K Q6_K
void Dequantize(DType type, const std::byte* bytes, int64_t cols, float* out);

}  // namespace lectern::nn
