// service/eval/manifold/baselines.h: what denoising must be compared with: global PCA, neighbour means, vector feedback.
//
//   ASSIGN_OR_RETURN(std::vector<float> flat, GlobalPca(vectors, dim, /*kept_variance=*/0.999));
//   std::vector<float> mean = DbaMean(vectors, dim, near, /*neighbours=*/16);
//
// Shapes:  vectors [n, dim] row-major, results of the same shape and unit length.
// Threads: pure functions; searches use the pool.
// Errors:  those of the neighbour search.
// Cost:    PCA: one dim x dim eigenproblem; the others a pass.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/status.h"
#include "manifold/neighbours.h"

namespace lectern::eval {

absl::StatusOr<std::vector<float>> GlobalPca(std::span<const float> vectors, int64_t dim, double kept_variance);
// Each vector replaced by the mean of itself and its `count` nearest (database-side augmentation).
std::vector<float> DbaMean(std::span<const float> vectors, int64_t dim, const manifold::Neighbours& near, int64_t count);
// Each query moved half way to the mean of the `count` vectors it finds first.
absl::StatusOr<std::vector<float>> VectorFeedback(std::span<const float> queries, std::span<const float> corpus, int64_t dim,
                                                  int64_t count, ThreadPool& pool);
// Ids [n, k] of the nearest corpus rows.
absl::StatusOr<std::vector<int32_t>> TopK(std::span<const float> corpus, std::span<const float> queries, int64_t dim, int64_t k,
                                          ThreadPool& pool);

struct Hubness {
  double skew = 0;            // of how often a row is among the ten nearest of the others
  double mean_cosine = 0;     // of random pairs: a collapse shows here
};
absl::StatusOr<Hubness> MeasureHubness(std::span<const float> vectors, int64_t dim, ThreadPool& pool);

}  // namespace lectern::eval
