#include "manifold/tune.h"

#include <algorithm>
#include <cmath>

#include "base/rng.h"
#include "manifold/neighbours.h"
#include "manifold/plane.h"

namespace lectern::manifold {
namespace {

// The first k of each list.
std::vector<int32_t> FirstOf(const Neighbours& near, int64_t k) {
  const int64_t n = static_cast<int64_t>(near.ids.size()) / near.k;
  std::vector<int32_t> ids(static_cast<size_t>(n * k));
  for (int64_t i = 0; i < n; ++i) std::copy_n(near.ids.begin() + i * near.k, k, ids.begin() + i * k);
  return ids;
}

// Risk of X' + s R' against x'', less `floor`, for every setting; s by least squares over the sample.
absl::StatusOr<Tuning> Grid(std::span<const float> raw, int64_t dim, const std::vector<float>& first, std::span<const float> second,
                            const std::vector<int32_t>& self, double floor, const TuneOptions& options, ThreadPool& pool) {
  ASSIGN_OR_RETURN(const NeighbourTable table, NeighbourTable::Make(raw, dim));
  std::vector<int64_t> ks;
  for (const int64_t k : options.ks) {
    if (k < table.rows()) ks.push_back(k);
  }
  if (ks.empty()) return InvalidArgument("tuning needs more vectors than the least k of its grid, got ", table.rows());
  const int64_t most = *std::max_element(ks.begin(), ks.end());
  ASSIGN_OR_RETURN(const Neighbours near, table.Search(first, {.k = most, .self = self, .collapse = true}, pool));
  const int64_t n = static_cast<int64_t>(first.size()) / dim;
  Tuning best;
  for (int64_t i = 0; i < n * dim; ++i) best.raw_risk += (double{first[i]} - second[i]) * (double{first[i]} - second[i]);
  best.raw_risk = best.raw_risk / static_cast<double>(n) - floor;
  for (const int64_t k : ks) {
    const std::vector<int32_t> ids = FirstOf(near, k);
    for (const int64_t d : options.ds) {
      if (d > k - 2 || d >= dim || d > kMaxPlaneDimension) continue;
      ASSIGN_OR_RETURN(const PlaneResult planes,
                       FitPlanes({.points = first, .planes = raw, .means = raw, .dim = dim, .neighbours = ids, .k = k, .d = d}, pool));
      // R' = -offset, X' = x' + offset.
      double cross = 0, own = 0;
      for (int64_t i = 0; i < n * dim; ++i) {
        const double r = -double{planes.offset[i]};
        cross += (double{second[i]} - first[i] + r) * r;
        own += r * r;
      }
      TuneRow row{.k = k, .d = d, .s = own > 0 ? std::clamp(cross / own, 0.0, 1.0) : 1.0};
      double risk = 0;
      for (int64_t i = 0; i < n * dim; ++i) {
        const double error = double{first[i]} + (1 - row.s) * planes.offset[i] - second[i];
        risk += error * error;
      }
      row.risk = risk / static_cast<double>(n) - floor;
      if (best.table.empty() || row.risk < best.risk) best.k = k, best.d = d, best.s = row.s, best.risk = row.risk;
      best.table.push_back(row);
    }
  }
  if (best.table.empty()) return InvalidArgument("no d of the grid is at most k - 2 and below dim ", dim);
  return best;
}

}  // namespace

absl::StatusOr<Tuning> TuneByFission(std::span<const float> raw, int64_t dim, double sigma2, const TuneOptions& options,
                                     ThreadPool& pool) {
  RETURN_IF_ERROR(CheckFinite(raw, dim, "vectors"));
  if (!(sigma2 > 0)) return InvalidArgument("sigma2 must be above 0, got ", sigma2);
  if (!(options.alpha > 0)) return InvalidArgument("alpha must be above 0, got ", options.alpha);
  const int64_t rows = static_cast<int64_t>(raw.size()) / dim, n = std::min(options.sample, rows);
  Rng pick(options.seed, 1);
  std::vector<int32_t> self = AllRows(rows);
  for (int64_t i = 0; i < n; ++i) std::swap(self[i], self[i + pick.Below(rows - i)]);
  self.resize(static_cast<size_t>(n));
  std::sort(self.begin(), self.end());
  std::vector<float> first(static_cast<size_t>(n * dim)), second(first.size());
  const double sigma = std::sqrt(sigma2);
  for (int64_t i = 0; i < n; ++i) {
    Rng rng(options.seed, 2 + static_cast<uint64_t>(self[i]));
    for (int64_t j = 0; j < dim; ++j) {
      const double w = sigma * rng.Normal(), x = raw[int64_t{self[i]} * dim + j];
      first[i * dim + j] = static_cast<float>(x + options.alpha * w);
      second[i * dim + j] = static_cast<float>(x - w / options.alpha);
    }
  }
  const double floor = static_cast<double>(dim) * sigma2 * (1 + 1 / (options.alpha * options.alpha));
  return Grid(raw, dim, first, second, self, floor, options, pool);
}

absl::StatusOr<Tuning> TuneByReplicas(std::span<const float> raw, int64_t dim, std::span<const float> first,
                                      std::span<const float> second, std::span<const int32_t> rows, const TuneOptions& options,
                                      ThreadPool& pool) {
  RETURN_IF_ERROR(CheckFinite(first, dim, "replicas"));
  if (first.size() != second.size() || first.size() != rows.size() * static_cast<size_t>(dim)) {
    return InvalidArgument("replicas must be pairs with a row each, got ", first.size() / static_cast<size_t>(dim), ", ",
                           second.size() / static_cast<size_t>(dim), " and ", rows.size());
  }
  return Grid(raw, dim, std::vector<float>(first.begin(), first.end()), second, std::vector<int32_t>(rows.begin(), rows.end()),
              /*floor=*/0, options, pool);
}

}  // namespace lectern::manifold
