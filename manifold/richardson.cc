#include "manifold/richardson.h"

#include <algorithm>
#include <cmath>

#include "manifold/linear_algebra.h"

namespace lectern::manifold {

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
  return RichardsonFitter(std::move(narrow), std::move(wide), guard);
}

RichardsonPoint RichardsonFitter::Project(std::span<const double> start) const {
  const int dim = narrow_.dim(), d = narrow_.params().d;
  RichardsonPoint out;
  out.narrow = narrow_.Project(start);
  out.x = out.narrow.x;
  if (out.narrow.flag != FitFlag::kOk) return out;
  const YxPoint wide = wide_.Project(start);
  if (wide.flag != FitFlag::kOk) return out;
  double shift = 0;
  for (int k = 0; k < dim; ++k) shift += (out.x[k] - wide.x[k]) * (out.x[k] - wide.x[k]);
  out.shift = std::sqrt(shift) / narrow_.params().radius;
  out.degrees = LargestPrincipalAngle(out.narrow.tangent, wide.tangent, d, dim);
  if (out.shift >= guard_.max_shift || out.degrees >= guard_.max_degrees) return out;
  for (int k = 0; k < dim; ++k) out.x[k] = 2 * out.x[k] - wide.x[k];
  out.extrapolated = true;
  return out;
}

}  // namespace lectern::manifold
