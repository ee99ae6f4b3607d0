#include "manifold/cuda/inst/plane_entry.cuh"

namespace lectern::manifold::cuda {

extern const PlaneEntry kPlanes128[] = {Entry<128, 16>(), Entry<128, 24>(), Entry<128, 32>(), Entry<128, 40>()};

}  // namespace lectern::manifold::cuda
