// base/nn/cpu/elementwise_kernels.h: the table of element-wise kernels, one per CPU target. Private to base/nn.
#pragma once

#include <cstdint>

namespace lectern::nn {

struct ElementwiseKernels {
  void (*rms_norm)(const float* x, int64_t tokens, int64_t dim, const float* weight, float epsilon, float* y);
  void (*layer_norm)(const float* x, int64_t tokens, int64_t dim, const float* weight, const float* bias,
                     float epsilon, float* y);
  void (*silu_mul)(const float* gate, const float* up, int64_t n, float* out);
  void (*gelu_tanh_mul)(const float* gate, const float* up, int64_t n, float* out);
  void (*gelu_erf)(const float* x, int64_t n, float* out);
  void (*gelu_tanh)(const float* x, int64_t n, float* out);
  void (*add)(const float* a, const float* b, int64_t n, float* out);
  void (*softmax)(float* x, int64_t n);
  float (*peak)(const float* x, int64_t n);
  float (*sum_exp)(const float* x, int64_t n, float shift);  // sum of e^(x - shift)
  int64_t (*find)(const float* x, int64_t n, float value);   // the first place of `value`, or -1
};

namespace scalar { extern const ElementwiseKernels kElementwise; }
namespace avx2 { extern const ElementwiseKernels kElementwise; }
namespace avx512 { extern const ElementwiseKernels kElementwise; }

const ElementwiseKernels& ActiveElementwise();

}  // namespace lectern::nn
