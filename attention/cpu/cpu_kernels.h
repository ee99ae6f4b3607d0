// attention/cpu/cpu_kernels.h: the table of CPU targets, and the choice among them.
//
//   for (const CpuKernels& k : AllCpuKernels()) ...          // tests: every target this processor runs
//   const CpuKernels& k = KernelsFor(ActiveCpuTarget());
//
// Shapes:  one entry a target, lowest first.
// Threads: constant tables.
// Errors:  none.
// Cost:    a lookup of four entries, once a plan.
#pragma once

#include <span>

#include "attention/cpu/flash_args.h"
#include "attention/cpu/row_args.h"
#include "base/cpu_target.h"

namespace lectern::attention {

struct CpuKernels {
  const char* name;
  CpuTarget target;
  void (*flash_f32)(const FlashTile&);
  void (*flash_bf16)(const FlashTile&);
  void (*key_mass_f32)(const KeyMassTile&);
  void (*key_mass_bf16)(const KeyMassTile&);
  void (*block_peaks_f32)(const BlockPeaksTile&);
  void (*block_peaks_bf16)(const BlockPeaksTile&);
  RowKernels rows;
};

std::span<const CpuKernels> AllCpuKernels();
const CpuKernels& KernelsFor(CpuTarget target);  // the best at or below `target`

}  // namespace lectern::attention
