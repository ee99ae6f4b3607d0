// manifold/cpu/plane_kernels.h: the local plane of one point, as plain numbers and pointers.
//
// Included by files built for wider instruction sets: no functions here, no library headers.
#pragma once

#include <cstdint>

namespace lectern::manifold {

constexpr int64_t kLanes = 8;           // of every target, so that all of them sum in the same order
constexpr int64_t kExtraColumns = 8;    // of the subspace block beyond d: they carry what the last of the d still mixes with
constexpr int kSubspaceSteps = 6;       // fixed, so that CPU and GPU do the same work;
                                        // fitter_test compares the plane with fp64 eigenvectors
constexpr int64_t kMaxNeighbours = 512;
constexpr int64_t kMaxBlock = 128;      // d + kExtraColumns, rounded up to kLanes

struct PlaneArgs {
  const float* point;       // [dim]
  const float* planes;      // [rows, dim]: the neighbours' positions that span the plane
  const float* means;       // [rows, dim]: the neighbours' positions whose mean it goes through
  const int32_t* ids;       // [k] rows of both
  int64_t k, dim, d;
  int64_t k_padded, dim_padded, block;  // multiples of 4, kLanes, kLanes
  const float* start;       // [k_padded, block] the fixed start block
  float* scratch;           // PlaneScratch() floats, aligned to 64 bytes
  // Results.
  float* offset;            // [dim]: X - point
  float* basis;             // [d, dim] unit rows, or null
  float residual2;          // ||point - X||^2
  float gap;                // (l_d - l_{d+1}) / l_d; 0 where the plane has fewer than d directions
  int64_t rank;             // directions found, at most d
};

// Floats of scratch: Z, G, two blocks, the small matrices, a few rows.
constexpr int64_t PlaneScratch(int64_t k_padded, int64_t dim_padded, int64_t block) {
  return k_padded * dim_padded + k_padded * k_padded + 2 * k_padded * block + 3 * block * block + 3 * dim_padded + 2 * k_padded +
         4 * block + 64;
}

namespace scalar { void FitPlane(PlaneArgs& args); }
namespace avx2 { void FitPlane(PlaneArgs& args); }

}  // namespace lectern::manifold
