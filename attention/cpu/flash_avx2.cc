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
void BlockPeaksF32(const BlockPeaksTile&);
void BlockPeaksBf16(const BlockPeaksTile&);

namespace {

#include "attention/cpu/vector_avx2-inl.h"

#include "attention/cpu/flash-inl.h"
#include "attention/cpu/key_mass-inl.h"

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
  static B LoadFirst(const uint32_t* p) { return {LoadLanes(p).even, Set(0.0f)}; }
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
void BlockPeaksF32(const BlockPeaksTile& tile) { BlockPeaks<F32Lane>(tile); }
void BlockPeaksBf16(const BlockPeaksTile& tile) { BlockPeaks<Bf16Lane>(tile); }

}  // namespace lectern::attention::avx2
