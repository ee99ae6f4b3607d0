// manifold/cuda/inst/plane_entry.cuh: a compiled plane kernel and how to launch it.
#pragma once

#include "manifold/cuda/plane.cuh"

namespace lectern::manifold::cuda {

struct PlaneEntry {
  int rows, block;
  const void* kernel;
  int shared_bytes;
};

template <int kRows, int kBlock>
PlaneEntry Entry() {
  return {kRows, kBlock, reinterpret_cast<const void*>(&FitPlane<kRows, kBlock>), static_cast<int>(sizeof(PlaneShared<kRows, kBlock>))};
}

}  // namespace lectern::manifold::cuda
