#include "service/eval/manifold/baselines.h"

#include <algorithm>
#include <cmath>

#include "base/rng.h"
#include "manifold/linear_algebra.h"
#include "manifold/noise.h"

namespace lectern::eval {

absl::StatusOr<std::vector<float>> GlobalPca(std::span<const float> vectors, int64_t dim, double kept_variance) {
  const int64_t n = static_cast<int64_t>(vectors.size()) / dim;
  if (n < 2) return InvalidArgument("PCA needs at least two vectors, got ", n);
  std::vector<double> mean(static_cast<size_t>(dim), 0.0), covariance(static_cast<size_t>(dim * dim), 0.0), values, axes;
  for (int64_t i = 0; i < n * dim; ++i) mean[i % dim] += vectors[i] / static_cast<double>(n);
  std::vector<double> row(static_cast<size_t>(dim));
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t j = 0; j < dim; ++j) row[j] = vectors[i * dim + j] - mean[j];
    for (int64_t a = 0; a < dim; ++a) {
      for (int64_t b = 0; b <= a; ++b) covariance[a * dim + b] += row[a] * row[b];
    }
  }
  double total = 0;
  for (int64_t a = 0; a < dim; ++a) {
    total += covariance[a * dim + a];
    for (int64_t b = 0; b < a; ++b) covariance[b * dim + a] = covariance[a * dim + b];
  }
  manifold::SymmetricEigen(covariance, dim, values, axes);
  int64_t kept = 0;
  for (double sum = 0; kept < dim && sum < kept_variance * total; ++kept) sum += values[kept];
  std::vector<float> out(vectors.size());
  std::vector<double> back(static_cast<size_t>(dim));
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t j = 0; j < dim; ++j) row[j] = vectors[i * dim + j] - mean[j];
    back = mean;
    for (int64_t c = 0; c < kept; ++c) {
      double along = 0;
      for (int64_t j = 0; j < dim; ++j) along += axes[c * dim + j] * row[j];
      for (int64_t j = 0; j < dim; ++j) back[j] += along * axes[c * dim + j];
    }
    for (int64_t j = 0; j < dim; ++j) out[i * dim + j] = static_cast<float>(back[j]);
  }
  manifold::Normalise(out, dim);
  return out;
}

std::vector<float> DbaMean(std::span<const float> vectors, int64_t dim, const manifold::Neighbours& near, int64_t count) {
  std::vector<float> out(vectors.begin(), vectors.end());
  const int64_t n = static_cast<int64_t>(vectors.size()) / dim;
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t c = 0; c < std::min(count, near.k); ++c) {
      const int32_t id = near.ids[i * near.k + c];
      if (id < 0) break;
      for (int64_t j = 0; j < dim; ++j) out[i * dim + j] += vectors[int64_t{id} * dim + j];
    }
  }
  manifold::Normalise(out, dim);
  return out;
}

absl::StatusOr<std::vector<int32_t>> TopK(std::span<const float> corpus, std::span<const float> queries, int64_t dim, int64_t k,
                                          ThreadPool& pool) {
  ASSIGN_OR_RETURN(const manifold::NeighbourTable table, manifold::NeighbourTable::Make(corpus, dim));
  ASSIGN_OR_RETURN(manifold::Neighbours near, table.Search(queries, {.k = k}, pool));
  return std::move(near.ids);
}

absl::StatusOr<std::vector<float>> VectorFeedback(std::span<const float> queries, std::span<const float> corpus, int64_t dim,
                                                  int64_t count, ThreadPool& pool) {
  ASSIGN_OR_RETURN(const std::vector<int32_t> top, TopK(corpus, queries, dim, count, pool));
  std::vector<float> out(queries.begin(), queries.end());
  const int64_t n = static_cast<int64_t>(queries.size()) / dim;
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t c = 0; c < count; ++c) {
      const int32_t id = top[i * count + c];
      for (int64_t j = 0; j < dim && id >= 0; ++j) out[i * dim + j] += corpus[int64_t{id} * dim + j] / static_cast<float>(count);
    }
  }
  manifold::Normalise(out, dim);
  return out;
}

absl::StatusOr<Hubness> MeasureHubness(std::span<const float> vectors, int64_t dim, ThreadPool& pool) {
  ASSIGN_OR_RETURN(const manifold::NeighbourTable table, manifold::NeighbourTable::Make(vectors, dim));
  const int64_t n = table.rows();
  ASSIGN_OR_RETURN(const manifold::Neighbours near, table.Search(vectors, {.k = 10, .self = manifold::AllRows(n)}, pool));
  std::vector<double> times(static_cast<size_t>(n), 0.0);
  for (const int32_t id : near.ids) {
    if (id >= 0) times[id] += 1;
  }
  Hubness hubness;
  double mean = 0, second = 0, third = 0;
  for (const double t : times) mean += t / static_cast<double>(n);
  for (const double t : times) {
    second += (t - mean) * (t - mean) / static_cast<double>(n);
    third += (t - mean) * (t - mean) * (t - mean) / static_cast<double>(n);
  }
  hubness.skew = second > 0 ? third / std::pow(second, 1.5) : 0;
  Rng rng(1);
  constexpr int kPairs = 20000;
  for (int i = 0; i < kPairs; ++i) {
    const int64_t a = rng.Below(n), b = rng.Below(n);
    for (int64_t j = 0; j < dim; ++j) hubness.mean_cosine += double{vectors[a * dim + j]} * vectors[b * dim + j] / kPairs;
  }
  return hubness;
}

}  // namespace lectern::eval
