// manifold/noise.h: how noisy vectors are, measured from outside, and noise made to order.
//
//   ASSIGN_OR_RETURN(NoiseLevel noise, NoiseFromReplicas(first, second, /*dim=*/384));
//   AddNoise(VectorNoise::kGaussian, {.sigma = 0.02}, seed, dim, vectors);
//
// Shapes:  replicas [n, dim] row-major: row i of both encodes the same text, perturbed independently.
// Threads: pure functions; AddNoise gives the same bits for the same seed.
// Errors:  kInvalidArgument (shapes, no row, a value that is not finite).
// Cost:    one pass, and a dim x dim eigenproblem for the anisotropy. sigma^2 cannot be read off neighbourhoods, where
//          sparsity and noise look the same.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/status.h"

namespace lectern::manifold {

inline constexpr int64_t kDominantDirections = 10;
inline constexpr double kAnisotropic = 0.5;  // share of the noise's energy in those directions

struct NoiseLevel {
  double total = 0;         // mean ||e - e'||^2 / (2 dim)
  double dominant_share = 0;
  double sigma2 = 0;        // `total`; where the noise is anisotropic, what is left outside the dominant directions a coordinate
  bool anisotropic = false;
};

absl::StatusOr<NoiseLevel> NoiseFromReplicas(std::span<const float> first, std::span<const float> second, int64_t dim);

enum class VectorNoise { kGaussian, kDropout, kInt8, kInt4, kSign, kTruncate };
const char* VectorNoiseName(VectorNoise family);

// kGaussian: sigma a coordinate; kDropout: each coordinate is zero with `rate`; kInt8, kInt4: rounding by a scale a
// dimension; kSign: the sign of each coordinate; kTruncate: the first (1 - rate) of the coordinates. Then unit length.
struct VectorNoiseOptions {
  double sigma = 0, rate = 0;
};
void AddNoise(VectorNoise family, const VectorNoiseOptions& options, uint64_t seed, int64_t dim, std::vector<float>& vectors);
// Each row to unit length; a zero row stays.
void Normalise(std::vector<float>& vectors, int64_t dim);

}  // namespace lectern::manifold
