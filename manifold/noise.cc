#include "manifold/noise.h"

#include <algorithm>
#include <cmath>

#include "base/rng.h"
#include "manifold/linear_algebra.h"
#include "manifold/neighbours.h"

namespace lectern::manifold {

absl::StatusOr<NoiseLevel> NoiseFromReplicas(std::span<const float> first, std::span<const float> second, int64_t dim) {
  RETURN_IF_ERROR(CheckFinite(first, dim, "replicas"));
  RETURN_IF_ERROR(CheckFinite(second, dim, "replicas"));
  if (first.size() != second.size() || first.empty()) {
    return InvalidArgument("replicas must be pairs, at least one, got ", first.size() / static_cast<size_t>(dim), " and ",
                           second.size() / static_cast<size_t>(dim), " rows");
  }
  const int64_t n = static_cast<int64_t>(first.size()) / dim;
  std::vector<double> covariance(static_cast<size_t>(dim * dim), 0.0), values, vectors, difference(static_cast<size_t>(dim));
  double energy = 0;
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t j = 0; j < dim; ++j) {
      difference[j] = double{first[i * dim + j]} - second[i * dim + j];
      energy += difference[j] * difference[j];
    }
    for (int64_t a = 0; a < dim; ++a) {
      for (int64_t b = 0; b <= a; ++b) covariance[a * dim + b] += difference[a] * difference[b];
    }
  }
  for (int64_t a = 0; a < dim; ++a) {
    for (int64_t b = 0; b < a; ++b) covariance[b * dim + a] = covariance[a * dim + b];
  }
  NoiseLevel level;
  level.total = level.sigma2 = energy / static_cast<double>(n) / (2.0 * static_cast<double>(dim));
  if (!(energy > 0) || dim <= 2 * kDominantDirections) return level;
  SymmetricEigen(covariance, dim, values, vectors);
  double dominant = 0;
  for (int64_t i = 0; i < kDominantDirections; ++i) dominant += values[i];
  level.dominant_share = dominant / energy;
  level.anisotropic = level.dominant_share > kAnisotropic;
  if (level.anisotropic) {
    level.sigma2 = std::max(0.0, energy - dominant) / static_cast<double>(n) / (2.0 * static_cast<double>(dim - kDominantDirections));
  }
  return level;
}

const char* VectorNoiseName(VectorNoise family) {
  constexpr const char* kNames[] = {"gaussian", "dropout", "int8", "int4", "sign", "truncate"};
  return kNames[static_cast<int>(family)];
}

void Normalise(std::vector<float>& vectors, int64_t dim) {
  for (size_t at = 0; at < vectors.size(); at += static_cast<size_t>(dim)) {
    double sum = 0;
    for (int64_t j = 0; j < dim; ++j) sum += double{vectors[at + j]} * vectors[at + j];
    if (!(sum > 0)) continue;
    const double scale = 1 / std::sqrt(sum);
    for (int64_t j = 0; j < dim; ++j) vectors[at + j] = static_cast<float>(vectors[at + j] * scale);
  }
}

void AddNoise(VectorNoise family, const VectorNoiseOptions& options, uint64_t seed, int64_t dim, std::vector<float>& vectors) {
  const int64_t n = static_cast<int64_t>(vectors.size()) / dim;
  std::vector<float> peak(static_cast<size_t>(dim), 0.0f);  // a dimension
  for (int64_t i = 0; i < n * dim; ++i) peak[i % dim] = std::max(peak[i % dim], std::abs(vectors[i]));
  const float levels = family == VectorNoise::kInt8 ? 127.0f : 7.0f;
  const int64_t kept = std::max<int64_t>(1, static_cast<int64_t>(std::lround((1 - options.rate) * static_cast<double>(dim))));
  for (int64_t i = 0; i < n; ++i) {
    Rng rng(seed, static_cast<uint64_t>(i));
    float* row = vectors.data() + i * dim;
    for (int64_t j = 0; j < dim; ++j) {
      switch (family) {
        case VectorNoise::kGaussian: row[j] += static_cast<float>(options.sigma * rng.Normal()); break;
        case VectorNoise::kDropout: if (rng.Uniform() < options.rate) row[j] = 0; break;
        case VectorNoise::kInt8:
        case VectorNoise::kInt4: if (peak[j] > 0) row[j] = std::round(row[j] / peak[j] * levels) / levels * peak[j]; break;
        case VectorNoise::kSign: row[j] = row[j] < 0 ? -1.0f : 1.0f; break;
        case VectorNoise::kTruncate: if (j >= kept) row[j] = 0; break;
      }
    }
  }
  Normalise(vectors, dim);
}

}  // namespace lectern::manifold
