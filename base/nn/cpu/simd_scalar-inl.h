// base/nn/cpu/simd_scalar-inl.h: the operations of the matrix kernels in plain loops, for any processor.
#pragma once

#include <cstdint>

namespace {

constexpr int kQuantTile = 4;
constexpr int kFloatTile = 4;
constexpr bool kWideIsSigned = false;
struct Codes { uint8_t v[64]; };
struct Ints { int32_t v[16]; };
struct Floats { float v[16]; };
#define SIMD_INLINE inline __attribute__((always_inline))
// The wide loops stay calls: inlined into every tile they are a megabyte of code and two minutes of compiling.
#define SIMD_CALL inline __attribute__((noinline))

SIMD_INLINE void Prefetch(const void*) {}
SIMD_INLINE Codes LoadCodes(const uint8_t* p) {
  Codes v;
  __builtin_memcpy(&v, p, 64);
  return v;
}
SIMD_INLINE void StoreCodes(uint8_t* p, Codes v) { __builtin_memcpy(p, &v, 64); }
SIMD_CALL Codes LowNibbles(Codes c) {
  for (uint8_t& x : c.v) x = static_cast<uint8_t>(x & 15);
  return c;
}
SIMD_CALL Codes HighNibbles(Codes c) {
  for (uint8_t& x : c.v) x = static_cast<uint8_t>(x >> 4);
  return c;
}
template <int kFrom, int kMask>
SIMD_CALL Codes MergeHigh(Codes codes, const Codes& high) {
  for (int i = 0; i < 64; ++i) codes.v[i] = static_cast<uint8_t>(codes.v[i] | ((high.v[i] >> kFrom) & kMask) << 4);
  return codes;
}
SIMD_INLINE Ints SplatInt(const int32_t* p) {
  Ints r;
  for (int32_t& x : r.v) x = *p;
  return r;
}
SIMD_INLINE Ints ZeroInts() { return Ints{}; }
SIMD_CALL Ints AddInts(Ints a, const Ints& b) {
  for (int i = 0; i < 16; ++i) a.v[i] += b.v[i];
  return a;
}
SIMD_CALL Ints Dot(Ints acc, const Codes& w, const int8_t* x4) {
  for (int i = 0; i < 16; ++i) {
    acc.v[i] += w.v[4 * i] * x4[0] + w.v[4 * i + 1] * x4[1] + w.v[4 * i + 2] * x4[2] + w.v[4 * i + 3] * x4[3];
  }
  return acc;
}
SIMD_INLINE Ints DotWide(Ints acc, const Codes& w, const int8_t* x4) { return Dot(acc, w, x4); }
SIMD_CALL Floats ToFloats(const Ints& a) {
  Floats r;
  for (int i = 0; i < 16; ++i) r.v[i] = static_cast<float>(a.v[i]);
  return r;
}
SIMD_INLINE Floats LoadFloats(const float* p) {
  Floats r;
  __builtin_memcpy(&r, p, sizeof(r));
  return r;
}
SIMD_INLINE void StoreFloats(float* p, const Floats& v) { __builtin_memcpy(p, &v, sizeof(v)); }
SIMD_INLINE Floats SplatFloat(float x) {
  Floats r;
  for (float& y : r.v) y = x;
  return r;
}
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
SIMD_CALL Floats LoadHalfs(const uint8_t* p) {
  Floats r;
  for (int i = 0; i < 16; ++i) r.v[i] = HalfToFloat(static_cast<uint32_t>(p[2 * i] | p[2 * i + 1] << 8));
  return r;
}
SIMD_CALL Floats LoadBytesUnsigned(const uint8_t* p) {
  Floats r;
  for (int i = 0; i < 16; ++i) r.v[i] = static_cast<float>(p[i]);
  return r;
}
SIMD_CALL Floats LoadBytesSigned(const uint8_t* p) {
  Floats r;
  for (int i = 0; i < 16; ++i) r.v[i] = static_cast<float>(static_cast<int8_t>(p[i]));
  return r;
}
SIMD_CALL Floats Mul(Floats a, const Floats& b) {
  for (int i = 0; i < 16; ++i) a.v[i] *= b.v[i];
  return a;
}
SIMD_CALL Floats MulAdd(const Floats& a, const Floats& b, Floats c) {
  for (int i = 0; i < 16; ++i) c.v[i] += a.v[i] * b.v[i];
  return c;
}
SIMD_CALL Floats Negate(Floats a) {
  for (float& x : a.v) x = -x;
  return a;
}
struct Pairs { uint32_t v[16]; };
SIMD_INLINE Pairs LoadPairs(const uint8_t* p) {
  Pairs r;
  __builtin_memcpy(&r, p, sizeof(r));
  return r;
}
SIMD_CALL Floats DotPairs(Floats acc, const Pairs& w, const uint8_t* x) {
  uint32_t pair;
  __builtin_memcpy(&pair, x, 4);
  const float even = __builtin_bit_cast(float, pair << 16), odd = __builtin_bit_cast(float, pair & 0xffff0000u);
  for (int i = 0; i < 16; ++i) {
    acc.v[i] += __builtin_bit_cast(float, w.v[i] << 16) * even;
    acc.v[i] += __builtin_bit_cast(float, w.v[i] & 0xffff0000u) * odd;
  }
  return acc;
}

}  // namespace
