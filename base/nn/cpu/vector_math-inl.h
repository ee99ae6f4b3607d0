// base/nn/cpu/vector_math-inl.h: one register of floats at a time, by compiler vectors, so that one text serves every
// target. Never wider than a register: gcc splits sums of wider vectors in halves, but compares them one by one.
// No standard header but <cstdint>.
#pragma once

#include <cstddef>
#include <cstdint>

namespace {

#if defined(__AVX512F__)
#define LECTERN_VECTOR_BYTES 64
#elif defined(__AVX__)
#define LECTERN_VECTOR_BYTES 32
#else
#define LECTERN_VECTOR_BYTES 16
#endif
constexpr int64_t kLanes = LECTERN_VECTOR_BYTES / 4;
using Vec = float __attribute__((vector_size(LECTERN_VECTOR_BYTES)));
using IVec = int32_t __attribute__((vector_size(LECTERN_VECTOR_BYTES)));
#define LECTERN_INLINE inline __attribute__((always_inline))
#define LECTERN_INLINE_LAMBDA __attribute__((always_inline))

LECTERN_INLINE Vec Splat(float x) { return x - Vec{}; }   // 0 + x would be an addition: it turns -0 into 0
LECTERN_INLINE Vec LoadVec(const float* p) {
  Vec v;
  __builtin_memcpy(&v, p, sizeof(v));
  return v;
}
LECTERN_INLINE void StoreVec(float* p, Vec v) { __builtin_memcpy(p, &v, sizeof(v)); }
// The first `count` lanes; the others get `fill`.
LECTERN_INLINE Vec LoadPart(const float* p, int64_t count, float fill) {
  Vec v = Splat(fill);
  __builtin_memcpy(&v, p, static_cast<size_t>(count) * sizeof(float));
  return v;
}
LECTERN_INLINE void StorePart(float* p, Vec v, int64_t count) {
  __builtin_memcpy(p, &v, static_cast<size_t>(count) * sizeof(float));
}
LECTERN_INLINE Vec Select(IVec mask, Vec yes, Vec no) {
  return (Vec)(((IVec)yes & mask) | ((IVec)no & ~mask));
}
LECTERN_INLINE Vec MaxVec(Vec a, Vec b) { return Select(a > b, a, b); }
LECTERN_INLINE Vec MinVec(Vec a, Vec b) { return Select(a < b, a, b); }
LECTERN_INLINE Vec AbsVec(Vec a) { return (Vec)((IVec)a & (IVec{} + 0x7fffffff)); }
// Folds a vector to one number, upper half onto lower.
using Vec8 = float __attribute__((vector_size(32)));
using Vec4 = float __attribute__((vector_size(16)));
using IVec8 = int32_t __attribute__((vector_size(32)));
using IVec4 = int32_t __attribute__((vector_size(16)));
template <class V8, class V4, class V, class Fold>
LECTERN_INLINE auto FoldLanes(V v, const Fold& fold) {
  if constexpr (sizeof(V) == 64) {
    V8 half[2];
    __builtin_memcpy(half, &v, sizeof(v));
    return FoldLanes<V8, V4>(fold(half[0], half[1]), fold);
  } else if constexpr (sizeof(V) == 32) {
    V4 half[2];
    __builtin_memcpy(half, &v, sizeof(v));
    return FoldLanes<V8, V4>(fold(half[0], half[1]), fold);
  } else {
    const V two = fold(v, __builtin_shufflevector(v, v, 2, 3, 0, 1));
    return fold(two, __builtin_shufflevector(two, two, 1, 0, 3, 2))[0];
  }
}
LECTERN_INLINE float SumLanes(Vec v) {
  return FoldLanes<Vec8, Vec4>(v, [](auto a, auto b) LECTERN_INLINE_LAMBDA { return a + b; });
}
LECTERN_INLINE int32_t SumIntLanes(IVec v) {
  return FoldLanes<IVec8, IVec4>(v, [](auto a, auto b) LECTERN_INLINE_LAMBDA { return a + b; });
}
LECTERN_INLINE float MaxLanes(Vec v) {
  return FoldLanes<Vec8, Vec4>(v, [](auto a, auto b) LECTERN_INLINE_LAMBDA { return a > b ? a : b; });
}

// e^x: x = n ln 2 + r with |r| <= ln 2 / 2, Taylor in r to the 7th power, then n into the exponent. 0 below -87.3,
// +inf above 88.72.
LECTERN_INLINE Vec ExpVec(Vec x) {
  const Vec low = Splat(-87.33f), high = Splat(88.72f);
  const Vec bounded = MinVec(MaxVec(x, low), high);
  const Vec magic = Splat(12582912.0f);  // 1.5 * 2^23: adding it rounds to an integer
  const Vec n = (bounded * 1.44269504088896341f + magic) - magic;
  const Vec r = (bounded - n * 0.693359375f) - n * -2.12194440e-4f;
  Vec p = Splat(1.0f / 5040);
  p = p * r + 1.0f / 720;
  p = p * r + 1.0f / 120;
  p = p * r + 1.0f / 24;
  p = p * r + 1.0f / 6;
  p = p * r + 0.5f;
  p = p * r + 1.0f;
  p = p * r + 1.0f;
  // Two steps, so that n = 128 does not overflow the exponent field.
  const IVec half = __builtin_convertvector(n, IVec) >> 1;
  const IVec rest = __builtin_convertvector(n, IVec) - half;
  const Vec value = p * (Vec)((half + 127) << 23) * (Vec)((rest + 127) << 23);
  const Vec infinity = (Vec)(IVec{} + 0x7f800000);
  return Select(x < low, Splat(0.0f), Select(x > high, infinity, Select(x == x, value, x)));
}

// erf by Abramowitz and Stegun 7.1.26: within 1.5e-7 everywhere.
LECTERN_INLINE Vec ErfVec(Vec x) {
  const Vec a = AbsVec(x);
  const Vec t = 1.0f / (1.0f + 0.3275911f * a);
  Vec p = Splat(1.061405429f);
  p = p * t - 1.453152027f;
  p = p * t + 1.421413741f;
  p = p * t - 0.284496736f;
  p = p * t + 0.254829592f;
  const Vec y = 1.0f - p * t * ExpVec(-(a * a));
  return (Vec)((IVec)y | ((IVec)x & (IVec{} + INT32_MIN)));
}

LECTERN_INLINE Vec SigmoidVec(Vec x) { return 1.0f / (1.0f + ExpVec(-x)); }
// x * sigmoid(2 u) is the tanh form: (1 + tanh u) / 2 = sigmoid(2 u).
LECTERN_INLINE Vec GeluTanhVec(Vec x) {
  const Vec u2 = 1.5957691216057308f * (x + 0.044715f * x * x * x);
  return x * SigmoidVec(u2);
}
LECTERN_INLINE Vec GeluErfVec(Vec x) { return 0.5f * x * (1.0f + ErfVec(x * 0.70710678118654752f)); }

}  // namespace
