// index/cpu/dense_kernels.h: inner products of stored vectors, one table a CPU target. Plain C++ only.
//
// Codes are unsigned bytes (a signed byte plus 128), queries signed bytes; both are padded to a multiple of 64. Integer
// sums are exact, so every target finds the same candidates.
#pragma once

#include <cstdint>

namespace lectern::index {

struct DenseKernels {
  float (*dot)(const float* a, const float* b, int64_t n);
  // out[i] = sum of codes[i * stride + j] * query[j].
  void (*dots)(const uint8_t* codes, int64_t stride, int64_t count, const int8_t* query, int32_t* out);
  void (*dots_at)(const uint8_t* codes, int64_t stride, const int32_t* rows, int64_t count, const int8_t* query, int32_t* out);
  // Sum of (a[j] - 128) * (b[j] - 128): two rows of codes.
  int32_t (*dot_codes)(const uint8_t* a, const uint8_t* b, int64_t stride);
  // score = scale[i] * (dots[i] - offset), width = residual[i] * by_residual + norm[i] * by_norm; upper = score + width.
  void (*bounds)(const int32_t* dots, int32_t offset, float query_scale, const float* scale, const float* residual,
                 const float* norm, float by_residual, float by_norm, int64_t count, float* upper, float* width);
};

namespace scalar { DenseKernels DenseTable(); }
namespace avx2 { DenseKernels DenseTable(); }
namespace avx512 { DenseKernels DenseTable(); }

const DenseKernels& ActiveDenseKernels();  // of ActiveCpuTarget()

}  // namespace lectern::index
