// manifold/cpu/plane_kernels.h: the local planes of a few points, as plain numbers and pointers.
//
// Included by files built for wider instruction sets: no functions here, no library headers.
#pragma once

#include <cstdint>

namespace lectern::manifold {

constexpr int64_t kBatch = 8;           // points fitted side by side: one a lane of the small dense steps
constexpr int64_t kPad = 16;            // rows of vectors and of blocks are padded to whole registers of the widest target
constexpr int64_t kLanes = 8;           // the subspace block is a multiple of this
constexpr int64_t kExtraColumns = 8;    // of the subspace block beyond d: they carry what the last of the d still mixes with
constexpr int kSubspaceSteps = 6;       // fixed, so that CPU and GPU do the same work;
                                        // fitter_test compares the plane with fp64 eigenvectors
constexpr int64_t kMaxNeighbours = 512;
constexpr int64_t kMaxBlock = 128;      // d + kExtraColumns, rounded up to kLanes

struct PlaneArgs {
  int64_t points = 0;               // at most kBatch
  const float* point[kBatch];       // [dim] each
  const int32_t* ids[kBatch];       // [k] rows of planes and means
  int64_t k[kBatch];
  const float* planes;              // [rows, dim]: the neighbours' positions that span the plane
  const float* means;               // [rows, dim]: the neighbours' positions whose mean it goes through
  int64_t dim, d;
  int64_t k_padded, dim_padded;     // k to a multiple of 4, dim of kPad
  int64_t block, block_padded;      // multiples of kLanes, kPad
  const float* start;               // [k_padded, block_padded] the fixed start block
  float* scratch;                   // PlaneScratch() floats, aligned to 64 bytes
  // Results.
  float* offset[kBatch];            // [dim]: X - point
  float* basis[kBatch];             // [d, dim] unit rows, or null
  float residual2[kBatch];          // ||point - X||^2
  float gap[kBatch];                // (l_d - l_{d+1}) / l_d; 0 where the plane has fewer than d directions
};

// Floats of scratch: Z, G, two blocks and a few rows of each point; the small matrices of all.
constexpr int64_t PlaneScratch(int64_t k_padded, int64_t dim_padded, int64_t block, int64_t block_padded) {
  return kBatch * (k_padded * dim_padded + k_padded * k_padded + 2 * k_padded * block_padded + dim_padded + 2 * k_padded) +
         2 * block_padded * block_padded + block_padded + kBatch * (2 * block * block + 5 * block) + 64;
}

namespace scalar { void FitPlanes(PlaneArgs& args); }
namespace avx2 { void FitPlanes(PlaneArgs& args); }
namespace avx512 { void FitPlanes(PlaneArgs& args); }

}  // namespace lectern::manifold
