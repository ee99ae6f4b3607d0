// Rows of the closed list: selectors.
#pragma once

#include "attention/cuda/kernels.h"
#include "attention/cuda/select.cuh"

namespace lectern::attention::cuda {

template <int kD, ScoreKind kKind, int kCtas, int kWarps>
CompiledKernel SelectRow() {
  return {{.family = KernelFamily::kSelect, .d = kD, .warps = kWarps, .kind = kKind, .ctas = kCtas},
          reinterpret_cast<const void*>(&SelectKernel<ptx::Bf16, kD, kKind, kCtas, kWarps>)};
}

}  // namespace lectern::attention::cuda
