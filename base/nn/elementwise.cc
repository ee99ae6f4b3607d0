#include <cmath>

#include "base/cpu_target.h"
#include "base/nn/activations.h"
#include "base/nn/cpu/elementwise_kernels.h"
#include "base/nn/norm.h"

namespace lectern::nn {

const ElementwiseKernels& ActiveElementwise() {
  const CpuTarget target = ActiveCpuTarget();
  if (target >= CpuTarget::kAvx512) return avx512::kElementwise;
  if (target >= CpuTarget::kAvx2) return avx2::kElementwise;
  return scalar::kElementwise;
}

void RmsNorm(const float* x, int64_t tokens, int64_t dim, const float* weight, float epsilon, float* y) {
  ActiveElementwise().rms_norm(x, tokens, dim, weight, epsilon, y);
}
void LayerNorm(const float* x, int64_t tokens, int64_t dim, const float* weight, const float* bias, float epsilon,
               float* y) {
  ActiveElementwise().layer_norm(x, tokens, dim, weight, bias, epsilon, y);
}
void SiluMul(const float* gate, const float* up, int64_t n, float* out) {
  ActiveElementwise().silu_mul(gate, up, n, out);
}
void GeluTanhMul(const float* gate, const float* up, int64_t n, float* out) {
  ActiveElementwise().gelu_tanh_mul(gate, up, n, out);
}
void GeluErf(const float* x, int64_t n, float* out) { ActiveElementwise().gelu_erf(x, n, out); }
void GeluTanh(const float* x, int64_t n, float* out) { ActiveElementwise().gelu_tanh(x, n, out); }
void Add(const float* a, const float* b, int64_t n, float* out) { ActiveElementwise().add(a, b, n, out); }
void Softmax(float* x, int64_t n) { ActiveElementwise().softmax(x, n); }

int64_t ArgMax(const float* x, int64_t n) {
  const float peak = ActiveElementwise().peak(x, n);
  return ActiveElementwise().find(x, n, peak);  // a peak of -inf is not found where all are NaN
}

double LogSumExp(const float* x, int64_t n) {
  const float peak = ActiveElementwise().peak(x, n);
  if (!std::isfinite(peak)) return peak;
  return peak + std::log(static_cast<double>(ActiveElementwise().sum_exp(x, n, peak)));
}

}  // namespace lectern::nn
