// manifold/plane.h: local planes of many points: where each would lie if it lay on its neighbours' plane. fp32.
//
//   PlaneRequest request{.points = raw, .planes = raw, .means = raw, .dim = 384, .neighbours = ids, .k = 64, .d = 16};
//   ASSIGN_OR_RETURN(PlaneResult planes, FitPlanes(request, pool));   // planes.offset [n, dim]: X - point
//
// Shapes:  points [n, dim], planes and means [rows, dim], row-major fp32; neighbours [n, k] rows, -1 where there is none
//          (at the end of a list); the point itself is not among them, or its residual is not out of sample.
// Threads: the pool's; each point is one thread's, so results do not depend on their number.
// Errors:  kInvalidArgument (shapes, d, k, a neighbour out of range: which).
// Cost:    about 5 MFLOP a point at k 64, dim 384, d 16; scratch of 1.3 MiB a thread. Same bits on every run.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/status.h"
#include "base/thread_pool.h"

namespace lectern::manifold {

struct PlaneRequest {
  std::span<const float> points;   // [n, dim]
  std::span<const float> planes;   // [rows, dim] that span each plane
  std::span<const float> means;    // [rows, dim] whose mean it goes through; the same as planes but in a second pass
  int64_t dim = 0;
  std::span<const int32_t> neighbours;  // [n, k]
  int64_t k = 0, d = 0;
  bool want_basis = false;
};

struct PlaneResult {
  std::vector<float> offset;     // [n, dim]: X - point; zero where count < d + 2
  std::vector<float> residual2;  // [n]: ||offset||^2, out of sample
  std::vector<float> gap;        // [n]: (l_d - l_{d+1}) / l_d
  std::vector<int32_t> count;    // [n]: neighbours used
  std::vector<float> basis;      // [n, d, dim] if asked for
};

inline constexpr int64_t kMaxPlaneDimension = 112;

// What FitPlanes asks of a request, for other forms of it; count [n]: neighbours of each point.
absl::StatusOr<std::vector<int32_t>> CheckPlanes(const PlaneRequest& request);
// The block that every subspace iteration starts from, on every device: signs from a counter, [k, block] of [k_padded, stride].
std::vector<float> StartBlock(int64_t k, int64_t k_padded, int64_t block, int64_t stride);

absl::StatusOr<PlaneResult> FitPlanes(const PlaneRequest& request, ThreadPool& pool);

}  // namespace lectern::manifold
