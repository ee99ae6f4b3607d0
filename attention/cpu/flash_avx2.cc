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

}  // namespace

void FlashF32(const FlashTile& tile) { Flash<F32Lane>(tile); }
void FlashBf16(const FlashTile& tile) { Flash<SplitLane>(tile); }
void KeyMassF32(const KeyMassTile& tile) { KeyMass<F32Lane>(tile); }
void KeyMassBf16(const KeyMassTile& tile) { KeyMass<SplitLane>(tile); }
void BlockPeaksF32(const BlockPeaksTile& tile) { BlockPeaks<F32Lane>(tile); }
void BlockPeaksBf16(const BlockPeaksTile& tile) { BlockPeaks<SplitLane>(tile); }

}  // namespace lectern::attention::avx2
