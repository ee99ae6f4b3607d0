#include "attention/cpu/cpu_kernels.h"

namespace lectern::attention {

#define LECTERN_FLASH_TARGET(ns)              \
  namespace ns {                              \
  void FlashF32(const FlashTile&);            \
  void FlashBf16(const FlashTile&);           \
  void KeyMassF32(const KeyMassTile&);        \
  void KeyMassBf16(const KeyMassTile&);       \
  void BlockPeaksF32(const BlockPeaksTile&);  \
  void BlockPeaksBf16(const BlockPeaksTile&); \
  }
LECTERN_FLASH_TARGET(scalar)
LECTERN_FLASH_TARGET(avx2)
LECTERN_FLASH_TARGET(avx512)
LECTERN_FLASH_TARGET(avx512bf16)
#undef LECTERN_FLASH_TARGET

#define LECTERN_ROW_TARGET(ns)                    \
  namespace ns {                                  \
  void Project(const ProjectArgs&);               \
  void Dots(const DotsArgs&);                     \
  float Exponentials(float*, int64_t, float*);    \
  void Norm(const NormArgs&);                     \
  void Rotate(const RotateArgs&);                 \
  void MinMax(const MinMaxArgs&);                 \
  void Pool(const PoolArgs&);                     \
  }
LECTERN_ROW_TARGET(scalar)
LECTERN_ROW_TARGET(avx2)
LECTERN_ROW_TARGET(avx512)
#undef LECTERN_ROW_TARGET

namespace {
#define LECTERN_ROWS(ns) {ns::Project, ns::Dots, ns::Exponentials, ns::Norm, ns::Rotate, ns::MinMax, ns::Pool}
#define LECTERN_KERNELS(ns, target, rows)                                                                  \
  {#ns, target, ns::FlashF32, ns::FlashBf16, ns::KeyMassF32, ns::KeyMassBf16, ns::BlockPeaksF32, \
   ns::BlockPeaksBf16, LECTERN_ROWS(rows)}
constexpr CpuKernels kAll[] = {
    LECTERN_KERNELS(scalar, CpuTarget::kScalar, scalar),
    LECTERN_KERNELS(avx2, CpuTarget::kAvx2, avx2),
    LECTERN_KERNELS(avx512, CpuTarget::kAvx512, avx512),
    LECTERN_KERNELS(avx512bf16, CpuTarget::kAvx512Bf16, avx512),  // rows are single vectors: products of bf16 gain nothing
};
#undef LECTERN_KERNELS
#undef LECTERN_ROWS
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
