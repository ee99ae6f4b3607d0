// manifold/richardson.h: the estimator at two radii, extrapolated towards radius zero where a guard allows it; fp64.
//
//   ASSIGN_OR_RETURN(auto fit, RichardsonFitter::Make(points, 3, {.d = 2, .radius = 0.4}, RichardsonGuard()));
//   RichardsonPoint out = fit.Project(start);      // out.share says how far: 0 is X_r, 1 is 2 X_r - X_{r sqrt 2}
//
// Shapes:  as reference.h.
// Threads: Project from any thread.
// Errors:  those of YxFitter.
// Cost:    two fits, the wider over about 2^(d/2) as many samples, and 128 of each once.
//
// The curvature bias of a fit is b = O(r^2), so X_r + (X_r - X_{r sqrt 2}) cancels it; but the step also carries sampling
// noise. With V the variance of the step and C its covariance with X_r, both read off the weights and the samples' scatter
// about the plane, the share t = (b^2 - C) / (b^2 + V) has the least expected squared error. b^2 is pooled over the cloud:
// of one point's step it would be mostly noise.
#pragma once

#include <span>
#include <vector>

#include "manifold/reference.h"

namespace lectern::manifold {

struct RichardsonGuard {
  double max_shift = 0.07;    // of |X_r - X_{r sqrt 2}|, in radii
  double max_degrees = 10;    // of the largest principal angle between the two tangents
  double min_samples = 8;     // effective, 1 / sum of squared weights, at X_r: fewer make two fits agree by chance
  bool full_step = false;     // t = 1 wherever the guard allows it
};

struct RichardsonPoint {
  std::vector<double> x;
  YxPoint narrow;        // X_r
  double shift = 0;      // |X_r - X_{r sqrt 2}| / r
  double degrees = 0;
  double samples = 0;    // effective at X_r
  double share = 0;      // t; 0 where the guard said no
};

// The greatest angle between two subspaces, in degrees; a, b [d, dim] with orthonormal rows.
double LargestPrincipalAngle(std::span<const double> a, std::span<const double> b, int d, int dim);

class RichardsonFitter {
 public:
  static absl::StatusOr<RichardsonFitter> Make(std::vector<double> points, int dim, const YxParams& params,
                                               const RichardsonGuard& guard);
  RichardsonPoint Project(std::span<const double> start) const;
  const YxFitter& narrow() const { return narrow_; }
  double bias2() const { return bias2_; }  // b^2 of X_r, pooled

 private:
  struct Pair {
    RichardsonPoint point;
    std::vector<double> step;             // X_r - X_{r sqrt 2}
    double variance = 0, covariance = 0;  // V, C
    bool allowed = false;
  };
  RichardsonFitter(YxFitter narrow, YxFitter wide, const RichardsonGuard& guard)
      : narrow_(std::move(narrow)), wide_(std::move(wide)), guard_(guard) {}
  Pair FitPair(std::span<const double> start) const;
  YxFitter narrow_, wide_;
  RichardsonGuard guard_;
  double bias2_ = 0;
};

}  // namespace lectern::manifold
