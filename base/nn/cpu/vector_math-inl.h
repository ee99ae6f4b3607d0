// base/nn/cpu/vector_math-inl.h: sixteen floats at a time, by compiler vectors, so that one text serves every target.
// A target without 512-bit registers gets the same code in two or four pieces. No standard header but <cstdint>.
#pragma once

#include <cstddef>
#include <cstdint>

namespace {

constexpr int64_t kLanes = 16;
using Vec = float __attribute__((vector_size(64)));
using IVec = int32_t __attribute__((vector_size(64)));
#define LECTERN_INLINE inline __attribute__((always_inline))
#define LECTERN_INLINE_LAMBDA __attribute__((always_inline))

LECTERN_INLINE Vec Splat(float x) { return Vec{} + x; }
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
// Halves are added pairwise: a fixed order, whatever the target.
LECTERN_INLINE float SumLanes(Vec v) {
  float x[16];
  __builtin_memcpy(x, &v, sizeof(x));
  for (int width = 8; width >= 1; width /= 2) {
    for (int i = 0; i < width; ++i) x[i] += x[i + width];
  }
  return x[0];
}
LECTERN_INLINE int32_t SumIntLanes(IVec v) {
  int32_t x[16], sum = 0;
  __builtin_memcpy(x, &v, sizeof(x));
  for (int i = 0; i < 16; ++i) sum += x[i];
  return sum;
}
LECTERN_INLINE float MaxLanes(Vec v) {
  float x[16];
  __builtin_memcpy(x, &v, sizeof(x));
  float best = x[0];
  for (int i = 1; i < 16; ++i) best = x[i] > best ? x[i] : best;
  return best;
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
