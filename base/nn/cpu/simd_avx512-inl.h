// base/nn/cpu/simd_avx512-inl.h: the few operations the matrix kernels are written in, with AVX-512 VNNI.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace {

constexpr int kQuantTile = 12;         // 12 integer + 12 float accumulators, 4 registers to spare
constexpr int kFloatTile = 12;         // x 2 panels = 24 accumulators
using Codes = __m512i;                 // 16 rows x 2 columns of 16 bits
using Ints = __m512i;
using Floats = __m512;
#define SIMD_INLINE inline __attribute__((always_inline))
#define SIMD_INLINE_LAMBDA __attribute__((always_inline))

SIMD_INLINE void Prefetch(const void* p) { _mm_prefetch(static_cast<const char*>(p), _MM_HINT_T0); }
SIMD_INLINE Codes LoadCodes(const uint8_t* p) { return _mm512_load_si512(p); }
SIMD_INLINE void StoreCodes(uint8_t* p, Codes v) { _mm512_store_si512(p, v); }
// kBits bits of each 16-bit lane from bit kFrom on.
template <int kFrom, int kBits>
SIMD_INLINE Codes Field(Codes v) {
  if constexpr (kFrom > 0) v = _mm512_srli_epi16(v, kFrom);
  if constexpr (kFrom + kBits < 16) v = _mm512_and_si512(v, _mm512_set1_epi16((1 << kBits) - 1));
  return v;
}
// codes | ((v >> kShift) & (kMask << kTo))
template <int kShift, int kTo, int kMask>
SIMD_INLINE Codes Merge(Codes codes, Codes v) {
  return _mm512_ternarylogic_epi32(codes, _mm512_srli_epi16(v, kShift), _mm512_set1_epi16(kMask << kTo), 0xf8);
}
SIMD_INLINE Ints SplatInt(const int32_t* p) { return _mm512_set1_epi32(*p); }
SIMD_INLINE Ints ZeroInts() { return _mm512_setzero_si512(); }
SIMD_INLINE Ints Dot(Ints acc, Codes w, const int16_t* x2) {
  int32_t pair;
  __builtin_memcpy(&pair, x2, 4);
  return _mm512_dpwssd_epi32(acc, w, _mm512_set1_epi32(pair));
}
SIMD_INLINE Floats ToFloats(Ints v) { return _mm512_cvtepi32_ps(v); }
SIMD_INLINE Floats LoadFloats(const float* p) { return _mm512_load_ps(p); }
SIMD_INLINE void StoreFloats(float* p, Floats v) { _mm512_storeu_ps(p, v); }
SIMD_INLINE Floats SplatFloat(float x) { return _mm512_set1_ps(x); }
SIMD_INLINE Floats ZeroFloats() { return _mm512_setzero_ps(); }
SIMD_INLINE Floats LoadHalfs(const uint8_t* p) {
  return _mm512_cvtph_ps(_mm256_load_si256(reinterpret_cast<const __m256i*>(p)));
}
SIMD_INLINE Floats LoadBytesUnsigned(const uint8_t* p) {
  return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_load_si128(reinterpret_cast<const __m128i*>(p))));
}
SIMD_INLINE Floats LoadBytesSigned(const uint8_t* p) {
  return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_load_si128(reinterpret_cast<const __m128i*>(p))));
}
SIMD_INLINE Floats Mul(Floats a, Floats b) { return _mm512_mul_ps(a, b); }
SIMD_INLINE Floats MulAdd(Floats a, Floats b, Floats c) { return _mm512_fmadd_ps(a, b, c); }
SIMD_INLINE Floats Negate(Floats a) { return _mm512_sub_ps(_mm512_setzero_ps(), a); }

// 16 rows x 2 columns of bf16 times one pair.
struct Pairs { __m512i v; };
SIMD_INLINE Pairs LoadPairs(const uint8_t* p) { return {_mm512_load_si512(p)}; }
SIMD_INLINE Floats DotPairs(Floats acc, Pairs w, const uint8_t* x) {
  uint32_t pair;
  __builtin_memcpy(&pair, x, 4);
#ifdef __AVX512BF16__
  return _mm512_dpbf16_ps(acc, (__m512bh)w.v, (__m512bh)_mm512_set1_epi32(static_cast<int>(pair)));
#else
  const __m512i high = _mm512_set1_epi32(static_cast<int>(0xffff0000u));
  const float even = __builtin_bit_cast(float, pair << 16), odd = __builtin_bit_cast(float, pair & 0xffff0000u);
  acc = _mm512_fmadd_ps(_mm512_castsi512_ps(_mm512_slli_epi32(w.v, 16)), _mm512_set1_ps(even), acc);
  return _mm512_fmadd_ps(_mm512_castsi512_ps(_mm512_and_si512(w.v, high)), _mm512_set1_ps(odd), acc);
#endif
}

}  // namespace
