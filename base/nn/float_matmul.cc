#include "base/nn/float_matmul.h"

#include <vector>

#include "base/check.h"
#include "base/nn/cpu/float_matmul_targets.h"

namespace lectern::nn {
namespace {

const std::vector<FloatMatmul>& Supported() {
  static const std::vector<FloatMatmul> all = [] {
    std::vector<FloatMatmul> found;
    for (CpuTarget target : SupportedCpuTargets()) {
      FloatMatmulFns f = scalar::FloatMatmulTable();
      if (target == CpuTarget::kAvx2) f = avx2::FloatMatmulTable();
      if (target == CpuTarget::kAvx512) f = avx512::FloatMatmulTable();
      if (target == CpuTarget::kAvx512Bf16) f = avx512bf16::FloatMatmulTable();
      found.insert(found.begin(), {target, f.panel_cols, f.pack_f32, f.f32, f.pack_bf16, f.bf16, f.round_bf16});
    }
    return found;
  }();
  return all;
}

}  // namespace

std::span<const FloatMatmul> AllFloatMatmuls() { return Supported(); }

const FloatMatmul& ActiveFloatMatmul() {
  const CpuTarget active = ActiveCpuTarget();
  for (const FloatMatmul& matmul : Supported()) {
    if (matmul.target <= active) return matmul;
  }
  CHECK(false);  // scalar is always there
  return Supported().back();
}

}  // namespace lectern::nn
