#include "attention/cpu/cpu_kernels.h"

namespace lectern::attention {

#define LECTERN_FLASH_TARGET(ns)            \
  namespace ns {                            \
  void FlashF32(const FlashTile&);          \
  void FlashBf16(const FlashTile&);         \
  void KeyMassF32(const KeyMassTile&);      \
  void KeyMassBf16(const KeyMassTile&);     \
  }
LECTERN_FLASH_TARGET(scalar)
LECTERN_FLASH_TARGET(avx2)
LECTERN_FLASH_TARGET(avx512)
LECTERN_FLASH_TARGET(avx512bf16)
#undef LECTERN_FLASH_TARGET

namespace {
constexpr CpuKernels kAll[] = {
    {"scalar", CpuTarget::kScalar, scalar::FlashF32, scalar::FlashBf16, scalar::KeyMassF32, scalar::KeyMassBf16},
    {"avx2", CpuTarget::kAvx2, avx2::FlashF32, avx2::FlashBf16, avx2::KeyMassF32, avx2::KeyMassBf16},
    {"avx512", CpuTarget::kAvx512, avx512::FlashF32, avx512::FlashBf16, avx512::KeyMassF32, avx512::KeyMassBf16},
    {"avx512bf16", CpuTarget::kAvx512Bf16, avx512bf16::FlashF32, avx512bf16::FlashBf16, avx512bf16::KeyMassF32,
     avx512bf16::KeyMassBf16},
};
}  // namespace

std::span<const CpuKernels> AllCpuKernels() {
  return std::span<const CpuKernels>(kAll, SupportedCpuTargets().size());
}

const CpuKernels& KernelsFor(CpuTarget target) {
  const CpuKernels* best = &kAll[0];
  for (const CpuKernels& kernels : kAll) {
    if (kernels.target <= target) best = &kernels;
  }
  return *best;
}

}  // namespace lectern::attention
