#include "manifold/fitter.h"

#include <algorithm>
#include <cmath>

#include "manifold/cuda/fit_cuda.h"
#include "manifold/noise.h"
#include "manifold/plane.h"
#include "manifold/tangent.h"

namespace lectern::manifold {
namespace {

constexpr double kLocalNorm = 0.5;  // of the vector without its noise; a shorter foot is the mean of far neighbours

absl::Status Check(int64_t dim, const Neighbours& neighbours, const FitParams& params) {
  if (params.k < 1 || params.k != neighbours.k) {
    return InvalidArgument("k must equal the neighbours' ", neighbours.k, ", got ", params.k);
  }
  if (params.d < 1 || params.d > std::min(params.k - 2, dim - 1)) {
    return InvalidArgument("d must be in 1..", std::min(params.k - 2, dim - 1), " (k - 2, dim - 1), got ", params.d);
  }
  if (!(params.sigma2 >= 0) || !std::isfinite(params.sigma2)) return InvalidArgument("sigma2 must be 0 or more, got ", params.sigma2);
  if (!(params.sigma2_factor >= 0) || !std::isfinite(params.sigma2_factor)) {
    return InvalidArgument("sigma2_factor must be 0 or more, got ", params.sigma2_factor);
  }
  if (params.passes < 1 || params.passes > 2) {
    return InvalidArgument("passes must be 1 or 2 (more shrinks clusters), got ", params.passes);
  }
  return absl::OkStatus();
}

// Moves every point from `planes.offset` as far as the gate says.
FitResult Apply(std::span<const float> points, int64_t dim, const Neighbours& neighbours, const PlaneResult& planes,
                std::span<const float> pool_residual2, std::span<const int32_t> pool_count, const FitParams& params, ThreadPool& pool) {
  const int64_t n = static_cast<int64_t>(points.size()) / dim;
  FitResult result;
  result.vectors.assign(points.begin(), points.end());
  result.info.resize(static_cast<size_t>(n));
  result.residual2 = planes.residual2;
  const float sigma2 = params.sigma2 * params.sigma2_factor;
  pool.ParallelFor(n, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) {
      FitInfo& info = result.info[i];
      info.gap = planes.gap[i];
      if (planes.count[i] < params.d + 2) {
        info.flag = FitFlag::kTooFew;
        continue;
      }
      double sum = planes.residual2[i];
      int64_t pooled = 1;
      for (int64_t j = 0; j < planes.count[i]; ++j) {
        const int32_t id = neighbours.ids[i * neighbours.k + j];
        if (!pool_count.empty() && pool_count[id] < params.d + 2) continue;
        sum += pool_residual2[id];
        ++pooled;
      }
      info.rho2 = static_cast<float>(sum / static_cast<double>(pooled) / static_cast<double>(dim - params.d));
      info.s = params.gate ? Gate(sigma2, info.rho2) : 0.0f;
      const float *x = points.data() + i * dim, *offset = planes.offset.data() + i * dim;
      double foot = 0, own = 0, moved = 0;
      for (int64_t j = 0; j < dim; ++j) {
        foot += (double{x[j]} + offset[j]) * (double{x[j]} + offset[j]);
        own += double{x[j]} * x[j];
        const double out = double{x[j]} + (1.0 - info.s) * offset[j];
        moved += out * out;
      }
      // The foot has lost the noise normal to the plane, so what it is held against must not have it either: else noise alone
      // leaves a part of a corpus where it is, and the fitted rest outruns that part for every query.
      const double without_noise = std::max(0.0, own - double{params.sigma2} * static_cast<double>(dim - params.d));
      if (foot < kLocalNorm * kLocalNorm * without_noise) {
        info.flag = FitFlag::kNotLocal;
        info.s = 1;
        continue;
      }
      if (info.s == 1) continue;  // the input's own bits
      const double scale = params.normalise && moved > 0 ? 1 / std::sqrt(moved) : 1;
      double step = 0;
      float* out = result.vectors.data() + i * dim;
      for (int64_t j = 0; j < dim; ++j) {
        out[j] = static_cast<float>(scale * (double{x[j]} + (1.0 - info.s) * offset[j]));
        step += (double{out[j]} - x[j]) * (double{out[j]} - x[j]);
      }
      info.step = static_cast<float>(std::sqrt(step));
      if (info.gap < kAmbiguousGap) info.flag = FitFlag::kAmbiguous;
    }
  });
  return result;
}

FitResult Untouched(std::span<const float> points, int64_t dim) {
  FitResult result;
  result.vectors.assign(points.begin(), points.end());
  result.info.assign(points.size() / static_cast<size_t>(dim), FitInfo{.flag = FitFlag::kNoOp});
  result.residual2.assign(result.info.size(), 0.0f);
  return result;
}

// One pass: planes, then the gate. residual2 [rows of planes] is what it pools over; empty: that of the points themselves.
absl::StatusOr<FitResult> Pass(std::span<const float> points, std::span<const float> planes, std::span<const float> means, int64_t dim,
                               const Neighbours& neighbours, std::span<const float> residual2, const FitParams& params, ThreadPool& pool) {
  const PlaneRequest request{.points = points, .planes = planes, .means = means, .dim = dim, .neighbours = neighbours.ids,
                             .k = params.k, .d = params.d};
  if (params.device == Device::kCuda) return cuda::Fit(request, residual2, params);
  ASSIGN_OR_RETURN(const PlaneResult fit, params.tangent_average ? FitAveragedPlanes(request, pool) : FitPlanes(request, pool));
  if (residual2.empty()) return Apply(points, dim, neighbours, fit, fit.residual2, fit.count, params, pool);
  return Apply(points, dim, neighbours, fit, residual2, {}, params, pool);
}

}  // namespace

float Gate(float sigma2, float rho2) {
  if (sigma2 == 0) return 1;
  if (!(rho2 > sigma2)) return 0;
  return 1 - sigma2 / rho2;
}

absl::StatusOr<FitResult> FitBatch(std::span<const float> raw, int64_t dim, const Neighbours& neighbours, const FitParams& params,
                                   ThreadPool& pool) {
  RETURN_IF_ERROR(Check(dim, neighbours, params));
  RETURN_IF_ERROR(CheckFinite(raw, dim, "vectors"));
  if (params.sigma2 * params.sigma2_factor == 0) return Untouched(raw, dim);
  ASSIGN_OR_RETURN(FitResult fit, Pass(raw, raw, raw, dim, neighbours, {}, params, pool));
  if (params.passes == 1) return fit;
  ASSIGN_OR_RETURN(const NeighbourTable table, NeighbourTable::Make(fit.vectors, dim, params.device));
  ASSIGN_OR_RETURN(const Neighbours again, table.Search(fit.vectors, {.k = params.k, .self = AllRows(table.rows()), .collapse = true}, pool));
  return Pass(raw, fit.vectors, raw, dim, again, {}, params, pool);
}

absl::StatusOr<FitResult> FitPoints(std::span<const float> points, std::span<const float> corpus, int64_t dim,
                                    const Neighbours& neighbours, std::span<const float> residual2, const FitParams& params,
                                    ThreadPool& pool) {
  RETURN_IF_ERROR(Check(dim, neighbours, params));
  RETURN_IF_ERROR(CheckFinite(points, dim, "points"));
  RETURN_IF_ERROR(CheckFinite(corpus, dim, "vectors"));
  if (params.passes != 1) return NotSupported("passes must be 1 for points outside the corpus, got ", params.passes);
  if (residual2.size() * static_cast<size_t>(dim) != corpus.size()) {
    return InvalidArgument("residual2 must be one a corpus row, ", corpus.size() / static_cast<size_t>(dim), ", got ", residual2.size());
  }
  if (params.sigma2 * params.sigma2_factor == 0) return Untouched(points, dim);
  return Pass(points, corpus, corpus, dim, neighbours, residual2, params, pool);
}

}  // namespace lectern::manifold
