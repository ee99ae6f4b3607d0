#include "manifold/growth.h"

#include <algorithm>
#include <cmath>

#include "base/rng.h"
#include "manifold/noise.h"
#include "manifold/plane.h"

namespace lectern::manifold {

std::vector<int32_t> AssignLists(std::span<const float> vectors, int64_t dim, std::span<const float> centroids, ThreadPool& pool) {
  auto table = NeighbourTable::Make(centroids, dim);
  if (!table.ok()) return {};
  auto near = table->Search(vectors, {.k = 1}, pool);
  if (!near.ok()) return {};
  return std::move(near->ids);
}

std::vector<int32_t> MakeLists(std::span<const float> vectors, int64_t dim, int64_t lists, int rounds, std::vector<float>& centroids,
                               ThreadPool& pool) {
  const int64_t n = static_cast<int64_t>(vectors.size()) / dim;
  lists = std::clamp<int64_t>(lists, 1, n);
  Rng rng(0x6c69737473);
  std::vector<int32_t> order = AllRows(n);
  for (int64_t i = 0; i < lists; ++i) std::swap(order[i], order[i + rng.Below(n - i)]);
  centroids.resize(static_cast<size_t>(lists * dim));
  for (int64_t i = 0; i < lists; ++i) std::copy_n(vectors.begin() + int64_t{order[i]} * dim, dim, centroids.begin() + i * dim);
  std::vector<int32_t> assigned = AssignLists(vectors, dim, centroids, pool);
  for (int round = 0; round < rounds; ++round) {
    std::vector<double> sums(static_cast<size_t>(lists * dim), 0.0);
    std::vector<int64_t> counts(static_cast<size_t>(lists), 0);
    for (int64_t i = 0; i < n; ++i) {
      ++counts[assigned[i]];
      for (int64_t j = 0; j < dim; ++j) sums[assigned[i] * dim + j] += vectors[i * dim + j];
    }
    for (int64_t l = 0; l < lists; ++l) {
      for (int64_t j = 0; j < dim && counts[l] > 0; ++j) {
        centroids[l * dim + j] = static_cast<float>(sums[l * dim + j] / static_cast<double>(counts[l]));
      }
    }
    std::vector<int32_t> next = AssignLists(vectors, dim, centroids, pool);
    const bool same = next == assigned;
    assigned = std::move(next);
    if (same) break;
  }
  return assigned;
}

absl::StatusOr<GrowingFit> GrowingFit::Make(std::vector<float> raw, int64_t dim, const FitParams& params, int64_t lists,
                                            ThreadPool& pool) {
  RETURN_IF_ERROR(CheckFinite(raw, dim, "vectors"));
  if (params.passes != 1 || params.tangent_average) {
    return NotSupported("a growing corpus is fitted in one pass without tangent averaging");
  }
  GrowingFit fit;
  fit.dim_ = dim;
  fit.params_ = params;
  fit.raw_ = std::move(raw);
  const int64_t n = static_cast<int64_t>(fit.raw_.size()) / dim;
  if (n < 1) return InvalidArgument("there must be at least one vector, got none");
  fit.alive_.assign(static_cast<size_t>(n), 1);
  fit.list_ = MakeLists(fit.raw_, dim, lists, /*rounds=*/8, fit.centroids_, pool);
  fit.lists_.resize(fit.centroids_.size() / static_cast<size_t>(dim));
  for (List& list : fit.lists_) list.sum.assign(static_cast<size_t>(dim), 0.0);
  for (int64_t i = 0; i < n; ++i) {
    List& list = fit.lists_[fit.list_[i]];
    ++list.members;
    for (int64_t j = 0; j < dim; ++j) list.sum[j] += fit.raw_[i * dim + j];
  }
  fit.fitted_ = fit.raw_;
  fit.residual2_.assign(static_cast<size_t>(n), 0.0f);
  RETURN_IF_ERROR(fit.Refit(AllRows(n), pool));
  for (size_t l = 0; l < fit.lists_.size(); ++l) fit.NoteFit(static_cast<int32_t>(l));
  return fit;
}

void GrowingFit::NoteFit(int32_t index) {
  List& list = lists_[index];
  list.changed = 0;
  list.fit_mean.assign(static_cast<size_t>(dim_), 0.0);
  list.radius = 0;
  if (list.members == 0) return;
  for (int64_t j = 0; j < dim_; ++j) list.fit_mean[j] = list.sum[j] / static_cast<double>(list.members);
  for (int64_t i = 0; i < rows(); ++i) {
    if (alive_[i] == 0 || list_[i] != index) continue;
    double squared = 0;
    for (int64_t j = 0; j < dim_; ++j) squared += (raw_[i * dim_ + j] - list.fit_mean[j]) * (raw_[i * dim_ + j] - list.fit_mean[j]);
    list.radius += std::sqrt(squared) / static_cast<double>(list.members);
  }
}

// Two steps, as in FitBatch: residuals of `rows` first, then their gates over their neighbours' residuals.
absl::Status GrowingFit::Refit(const std::vector<int32_t>& rows, ThreadPool& pool) {
  if (rows.empty()) return absl::OkStatus();
  // The living, packed; packed[row] is a row's place among them.
  std::vector<float> corpus, residual2, points;
  std::vector<int32_t> packed(alive_.size(), -1), self;
  for (int64_t i = 0; i < this->rows(); ++i) {
    if (alive_[i] == 0) continue;
    packed[i] = static_cast<int32_t>(residual2.size());
    corpus.insert(corpus.end(), raw_.begin() + i * dim_, raw_.begin() + (i + 1) * dim_);
    residual2.push_back(residual2_[i]);
  }
  for (const int32_t row : rows) {
    points.insert(points.end(), raw_.begin() + int64_t{row} * dim_, raw_.begin() + (int64_t{row} + 1) * dim_);
    self.push_back(packed[row]);
  }
  ASSIGN_OR_RETURN(const NeighbourTable table, NeighbourTable::Make(corpus, dim_));
  ASSIGN_OR_RETURN(const Neighbours near, table.Search(points, {.k = params_.k, .self = self, .collapse = true}, pool));
  if (params_.sigma2 * params_.sigma2_factor > 0) {
    ASSIGN_OR_RETURN(const PlaneResult planes, FitPlanes({.points = points, .planes = corpus, .means = corpus, .dim = dim_,
                                                          .neighbours = near.ids, .k = params_.k, .d = params_.d}, pool));
    for (size_t i = 0; i < rows.size(); ++i) residual2[packed[rows[i]]] = residual2_[rows[i]] = planes.residual2[i];
  }
  ASSIGN_OR_RETURN(const FitResult fit, FitPoints(points, corpus, dim_, near, residual2, params_, pool));
  for (size_t i = 0; i < rows.size(); ++i) {
    std::copy_n(fit.vectors.begin() + static_cast<std::ptrdiff_t>(i) * dim_, dim_, fitted_.begin() + int64_t{rows[i]} * dim_);
  }
  return absl::OkStatus();
}

absl::Status GrowingFit::Change(std::span<const float> added, std::span<const int32_t> deleted, ThreadPool& pool) {
  RETURN_IF_ERROR(CheckFinite(added, dim_, "vectors"));
  std::vector<int32_t> sorted(deleted.begin(), deleted.end());
  std::sort(sorted.begin(), sorted.end());
  for (size_t i = 0; i < sorted.size(); ++i) {   // before anything is changed
    if (sorted[i] < 0 || sorted[i] >= rows() || alive_[sorted[i]] == 0) return InvalidArgument("row ", sorted[i], " is not alive");
    if (i > 0 && sorted[i] == sorted[i - 1]) return InvalidArgument("row ", sorted[i], " is deleted twice");
  }
  for (const int32_t row : deleted) {
    alive_[row] = 0;
    List& list = lists_[list_[row]];
    --list.members;
    ++list.changed;
    for (int64_t j = 0; j < dim_; ++j) list.sum[j] -= raw_[int64_t{row} * dim_ + j];
  }
  const int64_t before = rows(), fresh = static_cast<int64_t>(added.size()) / dim_;
  if (fresh > 0) {
    raw_.insert(raw_.end(), added.begin(), added.end());
    fitted_.insert(fitted_.end(), added.begin(), added.end());
    residual2_.resize(residual2_.size() + static_cast<size_t>(fresh), 0.0f);
    alive_.resize(alive_.size() + static_cast<size_t>(fresh), 1);
    for (const int32_t l : AssignLists(added, dim_, centroids_, pool)) list_.push_back(l);
    for (int64_t i = before; i < rows(); ++i) {
      List& list = lists_[list_[i]];
      ++list.members;
      ++list.changed;
      for (int64_t j = 0; j < dim_; ++j) list.sum[j] += raw_[i * dim_ + j];
    }
  }
  std::vector<uint8_t> stale(lists_.size(), 0);
  refitted_lists_ = 0;
  for (size_t l = 0; l < lists_.size(); ++l) {
    const List& list = lists_[l];
    double drift = 0;
    for (int64_t j = 0; j < dim_ && list.members > 0; ++j) {
      const double step = list.sum[j] / static_cast<double>(list.members) - list.fit_mean[j];
      drift += step * step;
    }
    stale[l] = static_cast<double>(list.changed) > kStaleMembers * static_cast<double>(list.members) ||
               std::sqrt(drift) > kStaleDrift * list.radius;
    refitted_lists_ += stale[l];
  }
  std::vector<int32_t> again;
  for (int64_t i = 0; i < rows(); ++i) {
    if (alive_[i] != 0 && (i >= before || stale[list_[i]] != 0)) again.push_back(static_cast<int32_t>(i));
  }
  refitted_rows_ = static_cast<int64_t>(again.size());
  RETURN_IF_ERROR(Refit(again, pool));
  for (size_t l = 0; l < lists_.size(); ++l) {
    if (stale[l] != 0) NoteFit(static_cast<int32_t>(l));
  }
  return absl::OkStatus();
}

}  // namespace lectern::manifold
