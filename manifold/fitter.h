// manifold/fitter.h: embeddings moved towards the plane of their neighbours, as far as a measured noise level allows.
//
//   FitParams params{.k = 64, .d = 16, .sigma2 = noise.sigma2};
//   ASSIGN_OR_RETURN(FitResult fit, FitBatch(raw, /*dim=*/384, near, params, pool));      // fit.vectors [n, dim]
//   ASSIGN_OR_RETURN(FitResult more, FitPoints(queries, raw, 384, near_queries, fit.residual2, params, pool));
//
// Shapes:  raw [n, dim] fp32, unit length or not; neighbours [n, k] of Neighbours, the point itself not among them.
// Threads: the pool's; same bits on every run and any number of threads.
// Errors:  kInvalidArgument (shapes, k, d, sigma2, a value that is not finite), kResourceExhausted (tangent averaging over
//          its budget; the card's memory), kUnimplemented (CUDA: no kernels, no device, tangent averaging, k over 128 or
//          d over 32). What cannot be fitted keeps its bits and says why in its flag.
// Cost:    plane.h's, plus n * k reads for the gate. CUDA: 8 * n * dim bytes of the card and the way there and back.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/status.h"
#include "base/thread_pool.h"
#include "manifold/neighbours.h"
#include "manifold/reference.h"

namespace lectern::manifold {

// Half the measured noise: the price of too much is paid by rare documents, the price of too little is a smaller gain.
inline constexpr float kDefaultSigma2Factor = 0.5f;
inline constexpr float kAmbiguousGap = 0.05f;  // of (l_d - l_{d+1}) / l_d; below, the d-th direction is not determined

struct FitParams {
  int64_t k = 64;
  int64_t d = 16;
  float sigma2 = 0;  // noise a coordinate, measured from replicas; 0: every output is its input, bit for bit
  float sigma2_factor = kDefaultSigma2Factor;
  bool gate = true;              // false: full projection wherever sigma2 > 0; for comparisons only, it harms sparse regions
  bool tangent_average = false;  // the plane's directions averaged over the 24 nearest
  int passes = 1;                // 2: neighbours and planes once more from the fitted vectors, means from the raw ones
  bool normalise = true;
  Device device = Device::kCpu;  // kCuda: the same fit on the card, equal to 1e-4 where the plane is not ambiguous
};

struct FitInfo {
  float s = 1;      // 1: untouched, 0: on the plane
  float rho2 = 0;   // residual a coordinate, pooled over the neighbourhood
  float step = 0;   // ||out - in||
  float gap = 0;
  FitFlag flag = FitFlag::kOk;
};

struct FitResult {
  std::vector<float> vectors;    // [n, dim]
  std::vector<FitInfo> info;     // [n]
  std::vector<float> residual2;  // [n]: ||x - X||^2 before the gate; what FitPoints pools over
};

// sigma^2 and rho^2 to how much of the residual stays: max(0, 1 - sigma^2 / rho^2); 1 where sigma^2 is 0.
float Gate(float sigma2, float rho2);

absl::StatusOr<FitResult> FitBatch(std::span<const float> raw, int64_t dim, const Neighbours& neighbours, const FitParams& params,
                                   ThreadPool& pool);
// Points that are not of the corpus (new documents, queries) on the planes of the corpus; neighbours are corpus rows, and
// residual2 [corpus rows] is that of the corpus's own fit.
absl::StatusOr<FitResult> FitPoints(std::span<const float> points, std::span<const float> corpus, int64_t dim,
                                    const Neighbours& neighbours, std::span<const float> residual2, const FitParams& params,
                                    ThreadPool& pool);

}  // namespace lectern::manifold
