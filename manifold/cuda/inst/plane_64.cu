#include "manifold/cuda/inst/plane_entry.cuh"

namespace lectern::manifold::cuda {

extern const PlaneEntry kPlanes64[] = {Entry<64, 16>(), Entry<64, 24>(), Entry<64, 32>(), Entry<64, 40>()};

}  // namespace lectern::manifold::cuda
