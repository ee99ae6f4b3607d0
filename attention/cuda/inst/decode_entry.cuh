// Rows of the closed list: decode kernels.
#pragma once

#include "attention/cuda/decode.cuh"
#include "attention/cuda/kernels.h"

namespace lectern::attention::cuda {

template <class Element, int kD, int kRowTiles, int kStages, int kWarps, bool kSparse, bool kCluster = false>
CompiledKernel DecodeRow(bool ptx80) {
  return {{.family = KernelFamily::kDecode, .d = kD, .warps = kWarps, .row_tiles = kRowTiles, .stages = kStages, .sparse = kSparse, .cluster = kCluster,
           .ptx80 = ptx80},
          reinterpret_cast<const void*>(&DecodeKernel<Element, kD, kRowTiles, kStages, kWarps, kSparse, false, kCluster>)};
}

}  // namespace lectern::attention::cuda
