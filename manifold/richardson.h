// manifold/richardson.h: the estimator at two radii, extrapolated to radius zero where a guard allows it; fp64.
//
//   ASSIGN_OR_RETURN(auto fit, RichardsonFitter::Make(points, 3, {.d = 2, .radius = 0.4}, RichardsonGuard()));
//   RichardsonPoint out = fit.Project(start);      // out.extrapolated says which of the two it is
//
// Shapes:  as reference.h.
// Threads: Project from any thread.
// Errors:  those of YxFitter.
// Cost:    two fits, the wider over about 2^(d/2) as many samples. The curvature bias of one fit is proportional to
//          radius^2, so 2 X_r - X_{r sqrt 2} cancels it; where samples are too few for two fits to agree, X_r stays.
#pragma once

#include <span>
#include <vector>

#include "manifold/reference.h"

namespace lectern::manifold {

struct RichardsonGuard {
  double max_shift = 0.07;    // of |X_r - X_{r sqrt 2}|, in radii
  double max_degrees = 10;    // of the largest principal angle between the two tangents
};

struct RichardsonPoint {
  std::vector<double> x;
  YxPoint narrow;        // X_r
  double shift = 0;      // |X_r - X_{r sqrt 2}| / r
  double degrees = 0;
  bool extrapolated = false;
};

// The greatest angle between two subspaces, in degrees; a, b [d, dim] with orthonormal rows.
double LargestPrincipalAngle(std::span<const double> a, std::span<const double> b, int d, int dim);

class RichardsonFitter {
 public:
  static absl::StatusOr<RichardsonFitter> Make(std::vector<double> points, int dim, const YxParams& params,
                                               const RichardsonGuard& guard);
  RichardsonPoint Project(std::span<const double> start) const;
  const YxFitter& narrow() const { return narrow_; }

 private:
  RichardsonFitter(YxFitter narrow, YxFitter wide, const RichardsonGuard& guard)
      : narrow_(std::move(narrow)), wide_(std::move(wide)), guard_(guard) {}
  YxFitter narrow_, wide_;
  RichardsonGuard guard_;
};

}  // namespace lectern::manifold
