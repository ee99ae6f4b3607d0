#include "manifold/richardson.h"

#include <algorithm>
#include <cmath>

#include "manifold/linear_algebra.h"

namespace lectern::manifold {
namespace {

constexpr int64_t kPooled = 128;

}  // namespace

double LargestPrincipalAngle(std::span<const double> a, std::span<const double> b, int d, int dim) {
  // Cosines are the singular values of A B^T; the least of them is the root of the least eigenvalue of its Gram matrix.
  std::vector<double> product(static_cast<size_t>(d * d), 0.0), gram(product.size(), 0.0), values, vectors;
  for (int i = 0; i < d; ++i) {
    for (int j = 0; j < d; ++j) {
      for (int k = 0; k < dim; ++k) product[i * d + j] += a[i * dim + k] * b[j * dim + k];
    }
  }
  for (int i = 0; i < d; ++i) {
    for (int j = 0; j < d; ++j) {
      for (int k = 0; k < d; ++k) gram[i * d + j] += product[i * d + k] * product[j * d + k];
    }
  }
  SymmetricEigen(gram, d, values, vectors);
  return std::acos(std::sqrt(std::clamp(values.back(), 0.0, 1.0))) * 57.29577951308232;
}

absl::StatusOr<RichardsonFitter> RichardsonFitter::Make(std::vector<double> points, int dim, const YxParams& params,
                                                        const RichardsonGuard& guard) {
  YxParams wide_params = params;
  wide_params.radius = params.radius * std::sqrt(2.0);
  wide_params.tangent_radius = params.tangent_radius * std::sqrt(2.0);
  ASSIGN_OR_RETURN(YxFitter wide, YxFitter::Make(points, dim, wide_params));
  ASSIGN_OR_RETURN(YxFitter narrow, YxFitter::Make(std::move(points), dim, params));
  RichardsonFitter fitter(std::move(narrow), std::move(wide), guard);
  if (guard.full_step) return fitter;
  // b^2 = mean |step|^2 - V over up to kPooled samples as starts.
  const int64_t n = fitter.narrow_.size(), stride = std::max<int64_t>(1, n / kPooled);
  double sum = 0;
  int64_t used = 0;
  for (int64_t i = 0; i < n; i += stride) {
    const Pair pair = fitter.FitPair(fitter.narrow_.Point(i));
    if (!pair.allowed) continue;
    for (const double value : pair.step) sum += value * value;
    sum -= pair.variance;
    ++used;
  }
  fitter.bias2_ = used > 0 ? std::max(0.0, sum / static_cast<double>(used)) : 0;
  return fitter;
}

RichardsonFitter::Pair RichardsonFitter::FitPair(std::span<const double> start) const {
  const int dim = narrow_.dim(), d = narrow_.params().d;
  Pair pair;
  RichardsonPoint& out = pair.point;
  out.narrow = narrow_.Project(start);
  out.x = out.narrow.x;
  if (out.narrow.flag != FitFlag::kOk) return pair;
  const YxPoint wide = wide_.Project(start);
  if (wide.flag != FitFlag::kOk) return pair;
  double squared = 0;
  for (int k = 0; k < dim; ++k) {
    pair.step.push_back(out.x[k] - wide.x[k]);
    squared += pair.step[k] * pair.step[k];
  }
  out.shift = std::sqrt(squared) / narrow_.params().radius;
  out.degrees = LargestPrincipalAngle(out.narrow.tangent, wide.tangent, d, dim);
  const YxStep at_narrow = narrow_.Evaluate(out.x), at_wide = wide_.Evaluate(wide.x);
  // The samples' scatter across the plane at X_r, and the sums of squared weights.
  double scatter = 0, squares = 0, cross = 0, wide_squares = 0;
  std::vector<double> z(static_cast<size_t>(dim));
  for (size_t s = 0; s < at_narrow.samples.size(); ++s) {
    const std::span<const double> point = narrow_.Point(at_narrow.samples[s]);
    double length = 0, along = 0;
    for (int k = 0; k < dim; ++k) z[k] = point[k] - out.x[k], length += z[k] * z[k];
    for (int t = 0; t < d; ++t) {
      double dot = 0;
      for (int k = 0; k < dim; ++k) dot += at_narrow.tangent[t * dim + k] * z[k];
      along += dot * dot;
    }
    scatter += at_narrow.weights[s] * std::max(0.0, length - along);
    squares += at_narrow.weights[s] * at_narrow.weights[s];
  }
  for (size_t s = 0, w = 0; w < at_wide.samples.size(); ++w) {  // both ascend by sample
    wide_squares += at_wide.weights[w] * at_wide.weights[w];
    while (s < at_narrow.samples.size() && at_narrow.samples[s] < at_wide.samples[w]) ++s;
    if (s < at_narrow.samples.size() && at_narrow.samples[s] == at_wide.samples[w]) cross += at_narrow.weights[s] * at_wide.weights[w];
  }
  pair.variance = scatter * (squares - 2 * cross + wide_squares);
  pair.covariance = scatter * (squares - cross);
  out.samples = squares > 0 ? 1 / squares : 0;
  pair.allowed = out.shift < guard_.max_shift && out.degrees < guard_.max_degrees && out.samples >= guard_.min_samples;
  return pair;
}

RichardsonPoint RichardsonFitter::Project(std::span<const double> start) const {
  Pair pair = FitPair(start);
  RichardsonPoint& out = pair.point;
  if (!pair.allowed) return std::move(out);
  out.share = guard_.full_step ? 1 : bias2_ > 0 ? std::clamp((bias2_ - pair.covariance) / (bias2_ + pair.variance), 0.0, 1.0) : 0;
  for (size_t k = 0; k < out.x.size(); ++k) out.x[k] += out.share * pair.step[k];
  return std::move(out);
}

}  // namespace lectern::manifold
