// base/nn/cpu/elementwise-inl.h: norms, activations and softmax once; elementwise_{scalar,avx2,avx512}.cc compile it.
// The includer defines LECTERN_TARGET, the namespace of its table.
#include "base/nn/cpu/elementwise_kernels.h"
#include "base/nn/cpu/vector_math-inl.h"

namespace lectern::nn::LECTERN_TARGET {
namespace {

template <class Function>
LECTERN_INLINE void MapOne(const float* x, int64_t n, float* out, const Function& function) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) StoreVec(out + i, function(LoadVec(x + i)));
  if (i < n) StorePart(out + i, function(LoadPart(x + i, n - i, 0.0f)), n - i);
}

template <class Function>
LECTERN_INLINE void MapTwo(const float* a, const float* b, int64_t n, float* out, const Function& function) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) StoreVec(out + i, function(LoadVec(a + i), LoadVec(b + i)));
  if (i < n) StorePart(out + i, function(LoadPart(a + i, n - i, 0.0f), LoadPart(b + i, n - i, 0.0f)), n - i);
}

template <class Function>
LECTERN_INLINE float SumOf(const float* x, int64_t n, const Function& function) {
  Vec even = Splat(0.0f), odd = Splat(0.0f);
  int64_t i = 0;
  for (; i + 2 * kLanes <= n; i += 2 * kLanes) {
    even += function(LoadVec(x + i));
    odd += function(LoadVec(x + i + kLanes));
  }
  for (; i + kLanes <= n; i += kLanes) even += function(LoadVec(x + i));
  float tail = 0.0f;
  for (; i < n; ++i) tail += function(Splat(x[i]))[0];
  return SumLanes(even + odd) + tail;
}

void RmsNorm(const float* x, int64_t tokens, int64_t dim, const float* weight, float epsilon, float* y) {
  for (int64_t token = 0; token < tokens; ++token, x += dim, y += dim) {
    const float square = SumOf(x, dim, [](Vec v) LECTERN_INLINE_LAMBDA { return v * v; });
    const float scale = 1.0f / __builtin_sqrtf(square / static_cast<float>(dim) + epsilon);
    if (weight == nullptr) {
      MapOne(x, dim, y, [=](Vec v) LECTERN_INLINE_LAMBDA { return v * scale; });
    } else {
      MapTwo(x, weight, dim, y, [=](Vec v, Vec w) LECTERN_INLINE_LAMBDA { return v * scale * w; });
    }
  }
}

void LayerNorm(const float* x, int64_t tokens, int64_t dim, const float* weight, const float* bias, float epsilon,
               float* y) {
  for (int64_t token = 0; token < tokens; ++token, x += dim, y += dim) {
    const float mean = SumOf(x, dim, [](Vec v) LECTERN_INLINE_LAMBDA { return v; }) / static_cast<float>(dim);
    const float square = SumOf(x, dim, [=](Vec v) LECTERN_INLINE_LAMBDA { return (v - mean) * (v - mean); });
    const float scale = 1.0f / __builtin_sqrtf(square / static_cast<float>(dim) + epsilon);
    if (weight == nullptr) {
      MapOne(x, dim, y, [=](Vec v) LECTERN_INLINE_LAMBDA { return (v - mean) * scale; });
    } else {
      MapTwo(x, weight, dim, y, [=](Vec v, Vec w) LECTERN_INLINE_LAMBDA { return (v - mean) * scale * w; });
    }
    if (bias != nullptr) MapTwo(y, bias, dim, y, [](Vec v, Vec b) LECTERN_INLINE_LAMBDA { return v + b; });
  }
}

void SiluMul(const float* gate, const float* up, int64_t n, float* out) {
  MapTwo(gate, up, n, out, [](Vec g, Vec u) LECTERN_INLINE_LAMBDA { return g * SigmoidVec(g) * u; });
}
void GeluTanhMul(const float* gate, const float* up, int64_t n, float* out) {
  MapTwo(gate, up, n, out, [](Vec g, Vec u) LECTERN_INLINE_LAMBDA { return GeluTanhVec(g) * u; });
}
void GeluErf(const float* x, int64_t n, float* out) {
  MapOne(x, n, out, [](Vec v) LECTERN_INLINE_LAMBDA { return GeluErfVec(v); });
}
void GeluTanh(const float* x, int64_t n, float* out) {
  MapOne(x, n, out, [](Vec v) LECTERN_INLINE_LAMBDA { return GeluTanhVec(v); });
}
void Add(const float* a, const float* b, int64_t n, float* out) {
  MapTwo(a, b, n, out, [](Vec x, Vec y) LECTERN_INLINE_LAMBDA { return x + y; });
}

float Peak(const float* x, int64_t n) {  // NaN is passed over; -inf where nothing is greater
  const float lowest = -__builtin_inff();
  Vec best = Splat(lowest);
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) best = MaxVec(LoadVec(x + i), best);
  if (i < n) best = MaxVec(LoadPart(x + i, n - i, lowest), best);
  return MaxLanes(best);
}

void Softmax(float* x, int64_t n) {
  const float peak = Peak(x, n);
  if (peak == -__builtin_inff()) {  // every score is masked
    for (int64_t i = 0; i < n; ++i) x[i] = 0.0f;
    return;
  }
  MapOne(x, n, x, [=](Vec v) LECTERN_INLINE_LAMBDA { return ExpVec(v - peak); });
  const float scale = 1.0f / SumOf(x, n, [](Vec v) LECTERN_INLINE_LAMBDA { return v; });
  MapOne(x, n, x, [=](Vec v) LECTERN_INLINE_LAMBDA { return v * scale; });
}

float SumExp(const float* x, int64_t n, float shift) {
  return SumOf(x, n, [=](Vec v) LECTERN_INLINE_LAMBDA { return ExpVec(v - shift); });
}

int64_t Find(const float* x, int64_t n, float value) {
  constexpr int64_t kStep = 4 * kLanes;
  int64_t i = 0;
  for (; i + kStep <= n; i += kStep) {
    const IVec found = (LoadVec(x + i) == value) | (LoadVec(x + i + kLanes) == value) |
                       (LoadVec(x + i + 2 * kLanes) == value) | (LoadVec(x + i + 3 * kLanes) == value);
    if (SumIntLanes(found) != 0) break;
  }
  for (; i < n; ++i) {
    if (x[i] == value) return i;
  }
  return -1;
}

}  // namespace

const ElementwiseKernels kElementwise = {RmsNorm, LayerNorm, SiluMul, GeluTanhMul, GeluErf, GeluTanh, Add, Softmax,
                                         Peak, SumExp, Find};

}  // namespace lectern::nn::LECTERN_TARGET
