// One row of the table of decode kernels.
#pragma once

#include "attention/cuda/decode.cuh"
#include "attention/cuda/launch.h"

namespace lectern::attention::cuda {

template <class Element, int kD, int kRowTiles, int kStages, int kWarps, bool kSparse, bool kSoftCap>
DecodeEntry Entry(int form) {
  return {kD, kRowTiles, kStages, kWarps, kSparse, kSoftCap, form,
          reinterpret_cast<const void*>(&DecodeKernel<Element, kD, kRowTiles, kStages, kWarps, kSparse, kSoftCap>),
          DecodeShape<kD, kRowTiles, kStages, kWarps>::SharedBytes(0)};
}

}  // namespace lectern::attention::cuda
