// The selector kernels of one head width, and the choice among them.
#pragma once

#include "attention/cuda/launch.h"
#include "attention/cuda/select.cuh"

namespace lectern::attention::cuda {

template <int kD, int kCtas, int kWarps>
const void* SelectKernelOf(ScoreKind kind, int* shared, int max_blocks) {
  switch (kind) {
#define LECTERN_KIND(name)                                                                  \
  case ScoreKind::name:                                                                     \
    *shared = SelectShape<kD, ScoreKind::name, kCtas, kWarps>::SharedBytes(max_blocks);     \
    return reinterpret_cast<const void*>(&SelectKernel<kD, ScoreKind::name, kCtas, kWarps>);
    LECTERN_KIND(kGateQuery)
    LECTERN_KIND(kGateProject)
    LECTERN_KIND(kResa)
    LECTERN_KIND(kQuest)
#undef LECTERN_KIND
    case ScoreKind::kQuestHeads: return nullptr;  // in a form of its own
  }
  return nullptr;
}

template <int kD>
const void* SelectHeadsOf(int* shared, int max_blocks) {
  *shared = SelectShape<kD, ScoreKind::kQuestHeads, kLongRows.ctas, kLongRows.warps>::SharedBytes(max_blocks);
  return reinterpret_cast<const void*>(&SelectKernel<kD, ScoreKind::kQuestHeads, kLongRows.ctas, kLongRows.warps>);
}

}  // namespace lectern::attention::cuda
