// The kernel in plain C++ on vectors of four, which every x86-64 (and any other CPU) has.
#include <cstddef>
#include <cstdint>

#include "attention/cpu/flash_args.h"

namespace lectern::attention::scalar {
void FlashF32(const FlashTile&);
void FlashBf16(const FlashTile&);
void KeyMassF32(const KeyMassTile&);
void KeyMassBf16(const KeyMassTile&);
void BlockPeaksF32(const BlockPeaksTile&);
void BlockPeaksBf16(const BlockPeaksTile&);

namespace {

#include "attention/cpu/vector_scalar-inl.h"

#include "attention/cpu/flash-inl.h"
#include "attention/cpu/key_mass-inl.h"

}  // namespace

void FlashF32(const FlashTile& tile) { Flash<F32Lane>(tile); }
void FlashBf16(const FlashTile& tile) { Flash<SplitLane>(tile); }
void KeyMassF32(const KeyMassTile& tile) { KeyMass<F32Lane>(tile); }
void KeyMassBf16(const KeyMassTile& tile) { KeyMass<SplitLane>(tile); }
void BlockPeaksF32(const BlockPeaksTile& tile) { BlockPeaks<F32Lane>(tile); }
void BlockPeaksBf16(const BlockPeaksTile& tile) { BlockPeaks<SplitLane>(tile); }

}  // namespace lectern::attention::scalar
