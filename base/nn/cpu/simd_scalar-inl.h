// base/nn/cpu/simd_scalar-inl.h: the operations of the matrix kernels on plain vectors: what every x86-64 has (SSE2).
#pragma once

#include <emmintrin.h>

#include <cstdint>

namespace {

constexpr int kQuantTile = 4;
constexpr int kFloatTile = 4;
using Codes = uint16_t __attribute__((vector_size(64)));  // 16 rows x 2 columns
using Ints = int32_t __attribute__((vector_size(64)));
using Words = uint32_t __attribute__((vector_size(64)));
using Floats = float __attribute__((vector_size(64)));
#define SIMD_INLINE inline __attribute__((always_inline))
#define SIMD_INLINE_LAMBDA __attribute__((always_inline))

SIMD_INLINE void Prefetch(const void*) {}
template <class T>
SIMD_INLINE T LoadAs(const void* p) {
  T v;
  __builtin_memcpy(&v, p, sizeof(v));
  return v;
}
SIMD_INLINE Codes LoadCodes(const uint8_t* p) { return LoadAs<Codes>(p); }
SIMD_INLINE void StoreCodes(uint8_t* p, Codes v) { __builtin_memcpy(p, &v, 64); }
// kBits bits of each 16-bit lane from bit kFrom on.
template <int kFrom, int kBits>
SIMD_INLINE Codes Field(Codes v) { return (v >> kFrom) & static_cast<uint16_t>((1 << kBits) - 1); }
// codes | ((v >> kShift) & (kMask << kTo))
template <int kShift, int kTo, int kMask>
SIMD_INLINE Codes Merge(Codes codes, Codes v) { return codes | ((v >> kShift) & static_cast<uint16_t>(kMask << kTo)); }
SIMD_INLINE Ints SplatInt(const int32_t* p) { return Ints{} + *p; }
SIMD_INLINE Ints ZeroInts() { return Ints{}; }
SIMD_INLINE Ints Dot(Ints acc, Codes w, const int16_t* x2) {
  struct Quarters { __m128i q[4]; };
  int32_t pair;
  __builtin_memcpy(&pair, x2, 4);
  const __m128i x = _mm_set1_epi32(pair);
  auto products = __builtin_bit_cast(Quarters, w);
  for (__m128i& q : products.q) q = _mm_madd_epi16(q, x);
  return acc + __builtin_bit_cast(Ints, products);
}
SIMD_INLINE Floats ToFloats(Ints v) { return __builtin_convertvector(v, Floats); }
SIMD_INLINE Floats LoadFloats(const float* p) { return LoadAs<Floats>(p); }
SIMD_INLINE void StoreFloats(float* p, Floats v) { __builtin_memcpy(p, &v, sizeof(v)); }
SIMD_INLINE Floats SplatFloat(float x) { return Floats{} + x; }
SIMD_INLINE Floats ZeroFloats() { return Floats{}; }
// fp16 to float by integer steps: a subnormal is mantissa x 2^-24.
SIMD_INLINE float HalfToFloat(uint32_t bits) {
  const uint32_t sign = (bits & 0x8000u) << 16, exponent = (bits >> 10) & 31u, mantissa = bits & 1023u;
  if (exponent == 0) {
    const float value = static_cast<float>(mantissa) * 5.9604644775390625e-8f;
    return sign != 0 ? -value : value;
  }
  const uint32_t biased = exponent == 31 ? 255u : exponent + 112u;
  return __builtin_bit_cast(float, sign | biased << 23 | mantissa << 13);
}
// A call: unrolled into every kernel it is most of their code.
inline __attribute__((noinline)) Floats LoadHalfs(const uint8_t* p) {
  Floats r{};
  for (int i = 0; i < 16; ++i) r[i] = HalfToFloat(static_cast<uint32_t>(p[2 * i] | p[2 * i + 1] << 8));
  return r;
}
SIMD_INLINE Floats LoadBytesUnsigned(const uint8_t* p) {
  using Bytes = uint8_t __attribute__((vector_size(16)));
  return __builtin_convertvector(LoadAs<Bytes>(p), Floats);
}
SIMD_INLINE Floats LoadBytesSigned(const uint8_t* p) {
  using Bytes = int8_t __attribute__((vector_size(16)));
  return __builtin_convertvector(LoadAs<Bytes>(p), Floats);
}
SIMD_INLINE Floats Mul(Floats a, Floats b) { return a * b; }
SIMD_INLINE Floats MulAdd(Floats a, Floats b, Floats c) { return c + a * b; }
SIMD_INLINE Floats Negate(Floats a) { return -a; }

using Pairs = Words;
SIMD_INLINE Pairs LoadPairs(const uint8_t* p) { return LoadAs<Pairs>(p); }
SIMD_INLINE Floats DotPairs(Floats acc, Pairs w, const uint8_t* x) {
  uint32_t pair;
  __builtin_memcpy(&pair, x, 4);
  const float even = __builtin_bit_cast(float, pair << 16), odd = __builtin_bit_cast(float, pair & 0xffff0000u);
  acc += (Floats)(w << 16) * even;
  return acc + (Floats)(w & 0xffff0000u) * odd;
}

}  // namespace
