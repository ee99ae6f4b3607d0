// base/cpu_target.h: which instruction set the hot loops run with.
//
//   if (ActiveCpuTarget() >= CpuTarget::kAvx512) ...
//
// Shapes:  targets are ordered, each includes the ones before it.
// Threads: any; decided once per process.
// Errors:  LECTERN_CPU=scalar|avx2|avx512|avx512bf16 forces a target; an unknown name, or one this processor
//          lacks, is an error of ParseCpuTarget and stops the program at start (service/main.cc).
// Cost:    one load after the first call.
#pragma once

#include <string_view>
#include <vector>

#include "base/status.h"

namespace lectern {

enum class CpuTarget {
  kScalar,
  kAvx2,        // AVX2, FMA, F16C
  kAvx512,      // and AVX-512 F, BW, VL, DQ, VNNI
  kAvx512Bf16,  // and AVX-512 BF16
};

const char* CpuTargetName(CpuTarget target);
std::vector<CpuTarget> SupportedCpuTargets();                    // by this processor, lowest first
absl::StatusOr<CpuTarget> ParseCpuTarget(std::string_view name);  // refuses what is not supported
// The fastest supported target (kAvx512Bf16 only by name on Intel's processors), or what LECTERN_CPU names, or what
// SetCpuTargetForTest set.
CpuTarget ActiveCpuTarget();
void SetCpuTargetForTest(CpuTarget target);

}  // namespace lectern
