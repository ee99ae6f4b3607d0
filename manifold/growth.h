// manifold/growth.h: fitted vectors of a corpus that grows and shrinks, refitted list by list once a list has gone stale.
//
//   ASSIGN_OR_RETURN(GrowingFit fit, GrowingFit::Make(raw, 384, params, /*lists=*/64, pool));
//   RETURN_IF_ERROR(fit.Change(new_rows, deleted, pool));   // new rows fitted at once, stale lists refitted from raw vectors
//   std::span<const float> y = fit.Fitted(row);
//
// Shapes:  rows are numbered in order of arrival and keep their number; deleted rows keep their place and are never found.
// Threads: one thread, over the pool it is given.
// Errors:  those of the parts; kInvalidArgument (a deleted row that is not alive, or named twice; nothing is changed then).
// Cost:    Change: neighbours and planes of the new rows and of the stale lists' rows. A list is stale when more than a tenth
//          of its members changed since its fit, or its mean moved by more than a twentieth of its radius. Fits always
//          start from raw vectors, so results do not depend on the order of arrival beyond that bound.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/status.h"
#include "base/thread_pool.h"
#include "manifold/fitter.h"

namespace lectern::manifold {

inline constexpr double kStaleMembers = 0.10, kStaleDrift = 0.05;

// Spherical k-means from a fixed seed: the list of each row. At most `rounds` rounds; empty lists stay empty.
std::vector<int32_t> MakeLists(std::span<const float> vectors, int64_t dim, int64_t lists, int rounds, std::vector<float>& centroids,
                               ThreadPool& pool);
std::vector<int32_t> AssignLists(std::span<const float> vectors, int64_t dim, std::span<const float> centroids, ThreadPool& pool);

class GrowingFit {
 public:
  static absl::StatusOr<GrowingFit> Make(std::vector<float> raw, int64_t dim, const FitParams& params, int64_t lists,
                                         ThreadPool& pool);
  absl::Status Change(std::span<const float> added, std::span<const int32_t> deleted, ThreadPool& pool);

  int64_t rows() const { return static_cast<int64_t>(alive_.size()); }
  bool Alive(int64_t row) const { return alive_[row] != 0; }
  std::span<const float> Raw(int64_t row) const { return {raw_.data() + row * dim_, static_cast<size_t>(dim_)}; }
  std::span<const float> Fitted(int64_t row) const { return {fitted_.data() + row * dim_, static_cast<size_t>(dim_)}; }
  int64_t refitted_lists() const { return refitted_lists_; }  // by the last Change
  int64_t refitted_rows() const { return refitted_rows_; }

 private:
  struct List {
    int64_t members = 0, changed = 0;   // alive now; added and removed since its fit
    std::vector<double> sum, fit_mean;  // over alive members; at its fit
    double radius = 0;                  // mean distance to the mean, at its fit
  };
  GrowingFit() = default;
  absl::Status Refit(const std::vector<int32_t>& rows, ThreadPool& pool);
  void NoteFit(int32_t list);

  int64_t dim_ = 0, refitted_lists_ = 0, refitted_rows_ = 0;
  FitParams params_;
  std::vector<float> raw_, fitted_, residual2_, centroids_;
  std::vector<uint8_t> alive_;
  std::vector<int32_t> list_;
  std::vector<List> lists_;
};

}  // namespace lectern::manifold
