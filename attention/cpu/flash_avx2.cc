// The kernel for AVX2 with FMA: bf16 lanes are split into two floats.
#include <cstddef>
#include <cstdint>
#include <immintrin.h>

#include "attention/cpu/flash_args.h"

namespace lectern::attention::avx2 {
void FlashF32(const FlashTile&);
void FlashBf16(const FlashTile&);
void KeyMassF32(const KeyMassTile&);
void KeyMassBf16(const KeyMassTile&);

namespace {

using F = __m256;
constexpr int kLanes = 8;
constexpr int kRowBlock = 4;  // 8 accumulators, 4 halves of B, 2 of the broadcast: 14 of 16 registers

inline F Load(const float* p) { return _mm256_loadu_ps(p); }
inline void Store(float* p, F v) { _mm256_storeu_ps(p, v); }
inline F Set(float x) { return _mm256_set1_ps(x); }
inline F Add(F a, F b) { return _mm256_add_ps(a, b); }
inline F Mul(F a, F b) { return _mm256_mul_ps(a, b); }
inline F Div(F a, F b) { return _mm256_div_ps(a, b); }
inline F Max(F a, F b) { return _mm256_max_ps(a, b); }
inline F Fma(F a, F b, F c) { return _mm256_fmadd_ps(a, b, c); }
inline F Round(F x) { return _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
inline F Scale2(F x, F n) {
  const __m256i exponent = _mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23);
  return _mm256_mul_ps(x, _mm256_castsi256_ps(exponent));
}
inline F Keep(F x, int first, int lo, int hi) {
  const __m256i column = _mm256_add_epi32(_mm256_set1_epi32(first), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
  const __m256i inside = _mm256_and_si256(_mm256_cmpgt_epi32(column, _mm256_set1_epi32(lo - 1)),
                                          _mm256_cmpgt_epi32(_mm256_set1_epi32(hi), column));
  return _mm256_blendv_ps(Set(-__builtin_inff()), x, _mm256_castsi256_ps(inside));
}
inline F ZeroBelow(F x, F limit, F value) { return _mm256_and_ps(value, _mm256_cmp_ps(x, limit, _CMP_GE_OQ)); }
inline float ReduceMax(F v) {
  __m128 x = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  x = _mm_max_ps(x, _mm_movehl_ps(x, x));
  return _mm_cvtss_f32(_mm_max_ss(x, _mm_movehdup_ps(x)));
}
inline float ReduceAdd(F v) {
  __m128 x = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  x = _mm_add_ps(x, _mm_movehl_ps(x, x));
  return _mm_cvtss_f32(_mm_add_ss(x, _mm_movehdup_ps(x)));
}

#include "attention/cpu/flash-inl.h"

struct Bf16Lane : FloatRows {
  static constexpr int kPack = 2;
  struct B {
    F even, odd;
  };
  static B Split(__m256i bits) {
    return {_mm256_castsi256_ps(_mm256_slli_epi32(bits, 16)),
            _mm256_castsi256_ps(_mm256_and_si256(bits, _mm256_set1_epi32(static_cast<int>(0xffff0000))))};
  }
  static B LoadLanes(const uint32_t* p) { return Split(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))); }
  static B Broadcast(const uint32_t* p) {
    const auto* row = reinterpret_cast<const float*>(p);
    return {Set(row[0]), Set(row[1])};
  }
  static F Dot(F acc, const B& a, const B& b) { return Fma(a.odd, b.odd, Fma(a.even, b.even, acc)); }
};

}  // namespace

void FlashF32(const FlashTile& tile) { Flash<F32Lane>(tile); }
void FlashBf16(const FlashTile& tile) { Flash<Bf16Lane>(tile); }
void KeyMassF32(const KeyMassTile& tile) { KeyMass<F32Lane>(tile); }
void KeyMassBf16(const KeyMassTile& tile) { KeyMass<Bf16Lane>(tile); }

}  // namespace lectern::attention::avx2
