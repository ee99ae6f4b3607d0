// manifold/tangent.h: local planes whose directions are averaged over the nearest neighbours' planes (the yx step).
//
//   ASSIGN_OR_RETURN(PlaneResult planes, FitAveragedPlanes(request, pool));
//
// Shapes:  as plane.h; the points of the request must be the rows of its planes (neighbours are points, too).
// Threads: the pool's.
// Errors:  those of FitPlanes; kResourceExhausted: the bases of all points would pass kMaxBasisBytes.
// Cost:    n * d * dim * 4 bytes, and three to five times FitPlanes. Off by default: it moves recall by less than a point.
#pragma once

#include "manifold/plane.h"

namespace lectern::manifold {

inline constexpr int64_t kMaxBasisBytes = int64_t{4} << 30;
inline constexpr int64_t kAveragedPlanes = 24;

absl::StatusOr<PlaneResult> FitAveragedPlanes(const PlaneRequest& request, ThreadPool& pool);

}  // namespace lectern::manifold
