// The kernel for AVX-512 BF16: vdpbf16ps multiplies two bf16 lanes and adds them to a float.
#include <cstddef>
#include <cstdint>
#include <immintrin.h>

#include "attention/cpu/flash_args.h"

namespace lectern::attention::avx512bf16 {
void FlashF32(const FlashTile&);
void FlashBf16(const FlashTile&);
void KeyMassF32(const KeyMassTile&);
void KeyMassBf16(const KeyMassTile&);
void BlockPeaksF32(const BlockPeaksTile&);
void BlockPeaksBf16(const BlockPeaksTile&);

namespace {

#include "attention/cpu/vector_avx512-inl.h"

#include "attention/cpu/flash-inl.h"
#include "attention/cpu/key_mass-inl.h"

struct Bf16Lane {
  static constexpr int kPack = 2, kRowPack = 2, kParts = 1;
  using B = __m512i;
  template <int>
  static B LoadLanes(const uint32_t* p) { return _mm512_loadu_si512(p); }
  static B LoadFirst(const uint32_t* p) { return _mm512_and_si512(LoadLanes<0>(p), _mm512_set1_epi32(0xffff)); }
  template <int>
  static B Broadcast(const uint32_t* p) { return _mm512_set1_epi32(static_cast<int>(*p)); }
  static void AddProduct(F& acc, B a, B b) {
    acc = _mm512_dpbf16_ps(acc, reinterpret_cast<__m512bh>(a), reinterpret_cast<__m512bh>(b));
  }
  static void Put(uint32_t* lanes, int64_t element, F value) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(reinterpret_cast<uint16_t*>(lanes) + element),
                        reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(value)));
  }
  static void PutOne(uint32_t* lanes, int64_t element, float value) {
    reinterpret_cast<uint16_t*>(lanes)[element] = RoundBf16(value);
  }
};

}  // namespace

void FlashF32(const FlashTile& tile) { Flash<F32Lane>(tile); }
void FlashBf16(const FlashTile& tile) { Flash<Bf16Lane>(tile); }
void KeyMassF32(const KeyMassTile& tile) { KeyMass<F32Lane>(tile); }
void KeyMassBf16(const KeyMassTile& tile) { KeyMass<Bf16Lane>(tile); }
void BlockPeaksF32(const BlockPeaksTile& tile) { BlockPeaks<F32Lane>(tile); }
void BlockPeaksBf16(const BlockPeaksTile& tile) { BlockPeaks<Bf16Lane>(tile); }

}  // namespace lectern::attention::avx512bf16
