#include "base/cpu_target.h"

#include <atomic>
#include <cstdlib>

namespace lectern {
namespace {

bool Supports(CpuTarget target) {
  switch (target) {
    case CpuTarget::kScalar:
      return true;
    case CpuTarget::kAvx2:
      return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    case CpuTarget::kAvx512:
      return Supports(CpuTarget::kAvx2) && __builtin_cpu_supports("avx512f") &&
             __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
             __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vnni");
    case CpuTarget::kAvx512Bf16:
      return Supports(CpuTarget::kAvx512) && __builtin_cpu_supports("avx512bf16");
  }
  return false;
}

CpuTarget Detect() {
  if (const char* forced = std::getenv("LECTERN_CPU"); forced != nullptr && *forced != '\0') {
    if (auto target = ParseCpuTarget(forced); target.ok()) return *target;
  }
  const CpuTarget best = SupportedCpuTargets().back();
  // On a Sapphire Rapids core the encoder ran 1.75 times faster in float32 than through VDPBF16PS (bench/REPORT.md).
  if (best == CpuTarget::kAvx512Bf16 && __builtin_cpu_is("intel")) return CpuTarget::kAvx512;
  return best;
}

std::atomic<int>& Slot() {
  static std::atomic<int> slot{static_cast<int>(Detect())};
  return slot;
}

}  // namespace

const char* CpuTargetName(CpuTarget target) {
  constexpr const char* kNames[] = {"scalar", "avx2", "avx512", "avx512bf16"};
  return kNames[static_cast<int>(target)];
}

std::vector<CpuTarget> SupportedCpuTargets() {
  std::vector<CpuTarget> targets;
  for (CpuTarget target : {CpuTarget::kScalar, CpuTarget::kAvx2, CpuTarget::kAvx512, CpuTarget::kAvx512Bf16}) {
    if (Supports(target)) targets.push_back(target);
  }
  return targets;
}

absl::StatusOr<CpuTarget> ParseCpuTarget(std::string_view name) {
  for (CpuTarget target : {CpuTarget::kScalar, CpuTarget::kAvx2, CpuTarget::kAvx512, CpuTarget::kAvx512Bf16}) {
    if (name != CpuTargetName(target)) continue;
    if (!Supports(target)) return NotSupported("this processor lacks the CPU target ", name);
    return target;
  }
  return InvalidArgument("CPU target must be scalar, avx2, avx512 or avx512bf16, got '", name, "'");
}

CpuTarget ActiveCpuTarget() { return static_cast<CpuTarget>(Slot().load(std::memory_order_relaxed)); }
void SetCpuTargetForTest(CpuTarget target) { Slot().store(static_cast<int>(target)); }

}  // namespace lectern
