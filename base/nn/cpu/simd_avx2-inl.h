// base/nn/cpu/simd_avx2-inl.h: the operations of the matrix kernels with AVX2, FMA and F16C; sixteen rows are two halves.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace {

constexpr int kQuantTile = 6;   // 12 integer accumulators, 2 weights, a broadcast and a product of 16 registers
constexpr int kFloatTile = 6;   // 12 accumulators, 2 weights, 1 broadcast
struct Codes { __m256i a, b; };  // 16 rows x 2 columns of 16 bits
struct Ints { __m256i a, b; };
struct Floats { __m256 a, b; };
#define SIMD_INLINE inline __attribute__((always_inline))
#define SIMD_INLINE_LAMBDA __attribute__((always_inline))

SIMD_INLINE const __m256i* At(const void* p, int half) { return static_cast<const __m256i*>(p) + half; }
SIMD_INLINE void Prefetch(const void* p) { _mm_prefetch(static_cast<const char*>(p), _MM_HINT_T0); }
SIMD_INLINE Codes LoadCodes(const uint8_t* p) { return {_mm256_load_si256(At(p, 0)), _mm256_load_si256(At(p, 1))}; }
SIMD_INLINE void StoreCodes(uint8_t* p, Codes v) {
  _mm256_store_si256(reinterpret_cast<__m256i*>(p), v.a);
  _mm256_store_si256(reinterpret_cast<__m256i*>(p) + 1, v.b);
}
// kBits bits of each 16-bit lane from bit kFrom on.
template <int kFrom, int kBits>
SIMD_INLINE __m256i FieldOf(__m256i v) {
  if constexpr (kFrom > 0) v = _mm256_srli_epi16(v, kFrom);
  if constexpr (kFrom + kBits < 16) v = _mm256_and_si256(v, _mm256_set1_epi16((1 << kBits) - 1));
  return v;
}
template <int kFrom, int kBits>
SIMD_INLINE Codes Field(Codes v) { return {FieldOf<kFrom, kBits>(v.a), FieldOf<kFrom, kBits>(v.b)}; }
// codes | ((v >> kShift) & (kMask << kTo))
template <int kShift, int kTo, int kMask>
SIMD_INLINE Codes Merge(Codes codes, Codes v) {
  const __m256i mask = _mm256_set1_epi16(kMask << kTo);
  return {_mm256_or_si256(codes.a, _mm256_and_si256(_mm256_srli_epi16(v.a, kShift), mask)),
          _mm256_or_si256(codes.b, _mm256_and_si256(_mm256_srli_epi16(v.b, kShift), mask))};
}
SIMD_INLINE Ints SplatInt(const int32_t* p) { return {_mm256_set1_epi32(*p), _mm256_set1_epi32(*p)}; }
SIMD_INLINE Ints ZeroInts() { return {_mm256_setzero_si256(), _mm256_setzero_si256()}; }
SIMD_INLINE Ints Dot(Ints acc, Codes w, const int16_t* x2) {
  int32_t pair;
  __builtin_memcpy(&pair, x2, 4);
  const __m256i x = _mm256_set1_epi32(pair);
  return {_mm256_add_epi32(acc.a, _mm256_madd_epi16(w.a, x)), _mm256_add_epi32(acc.b, _mm256_madd_epi16(w.b, x))};
}
SIMD_INLINE Floats ToFloats(Ints v) { return {_mm256_cvtepi32_ps(v.a), _mm256_cvtepi32_ps(v.b)}; }
SIMD_INLINE Floats LoadFloats(const float* p) { return {_mm256_load_ps(p), _mm256_load_ps(p + 8)}; }
SIMD_INLINE void StoreFloats(float* p, Floats v) {
  _mm256_storeu_ps(p, v.a);
  _mm256_storeu_ps(p + 8, v.b);
}
SIMD_INLINE Floats SplatFloat(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
SIMD_INLINE Floats ZeroFloats() { return {_mm256_setzero_ps(), _mm256_setzero_ps()}; }
SIMD_INLINE Floats LoadHalfs(const uint8_t* p) {
  const auto* half = reinterpret_cast<const __m128i*>(p);
  return {_mm256_cvtph_ps(_mm_load_si128(half)), _mm256_cvtph_ps(_mm_load_si128(half + 1))};
}
SIMD_INLINE Floats LoadBytesUnsigned(const uint8_t* p) {
  const __m128i v = _mm_load_si128(reinterpret_cast<const __m128i*>(p));
  return {_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(v)), _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_srli_si128(v, 8)))};
}
SIMD_INLINE Floats LoadBytesSigned(const uint8_t* p) {
  const __m128i v = _mm_load_si128(reinterpret_cast<const __m128i*>(p));
  return {_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(v)), _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_srli_si128(v, 8)))};
}
SIMD_INLINE Floats Mul(Floats x, Floats y) { return {_mm256_mul_ps(x.a, y.a), _mm256_mul_ps(x.b, y.b)}; }
SIMD_INLINE Floats MulAdd(Floats x, Floats y, Floats z) {
  return {_mm256_fmadd_ps(x.a, y.a, z.a), _mm256_fmadd_ps(x.b, y.b, z.b)};
}
SIMD_INLINE Floats Negate(Floats x) {
  return {_mm256_sub_ps(_mm256_setzero_ps(), x.a), _mm256_sub_ps(_mm256_setzero_ps(), x.b)};
}

struct Pairs { __m256i a, b; };
SIMD_INLINE Pairs LoadPairs(const uint8_t* p) { return {_mm256_load_si256(At(p, 0)), _mm256_load_si256(At(p, 1))}; }
SIMD_INLINE __m256 DotPair(__m256 acc, __m256i w, float even, float odd) {
  const __m256i high = _mm256_set1_epi32(static_cast<int>(0xffff0000u));
  acc = _mm256_fmadd_ps(_mm256_castsi256_ps(_mm256_slli_epi32(w, 16)), _mm256_set1_ps(even), acc);
  return _mm256_fmadd_ps(_mm256_castsi256_ps(_mm256_and_si256(w, high)), _mm256_set1_ps(odd), acc);
}
SIMD_INLINE Floats DotPairs(Floats acc, Pairs w, const uint8_t* x) {
  uint32_t pair;
  __builtin_memcpy(&pair, x, 4);
  const float even = __builtin_bit_cast(float, pair << 16), odd = __builtin_bit_cast(float, pair & 0xffff0000u);
  return {DotPair(acc.a, w.a, even, odd), DotPair(acc.b, w.b, even, odd)};
}

}  // namespace
