#include "manifold/reference.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "manifold/linear_algebra.h"

namespace lectern::manifold {
namespace {

constexpr int kMaxHalvings = 10;

double SquaredDistance(const double* a, const double* b, int64_t dim) {
  double sum = 0;
  for (int64_t k = 0; k < dim; ++k) sum += (a[k] - b[k]) * (a[k] - b[k]);
  return sum;
}

double Dot(const double* a, const double* b, int64_t dim) {
  double sum = 0;
  for (int64_t k = 0; k < dim; ++k) sum += a[k] * b[k];
  return sum;
}

double Norm(const std::vector<double>& v) { return std::sqrt(Dot(v.data(), v.data(), static_cast<int64_t>(v.size()))); }

// (1 - t)^beta; whole exponents, which are all that is used by default, without a call of pow.
double Weight(double t, double beta) {
  const double base = 1 - t;
  double result = 1;
  if (beta == std::floor(beta) && beta <= 64) {
    for (int i = 0; i < static_cast<int>(beta); ++i) result *= base;
    return result;
  }
  return std::pow(base, beta);
}

absl::Status Check(const std::vector<double>& points, int dim, const YxParams& params) {
  if (dim < 1) return InvalidArgument("dim must be 1 or more, got ", dim);
  if (points.empty()) return InvalidArgument("there must be at least one sample, got none");
  if (points.size() % static_cast<size_t>(dim) != 0) {
    return InvalidArgument("samples must be whole rows of ", dim, ", got ", points.size(), " values");
  }
  if (params.d < 1 || params.d >= dim) return InvalidArgument("d must be in 1..", dim - 1, ", got ", params.d);
  if (!(params.radius > 0) || !std::isfinite(params.radius)) return InvalidArgument("radius must be above 0, got ", params.radius);
  if (!(params.tangent_radius >= 0)) return InvalidArgument("tangent_radius must be 0 or more, got ", params.tangent_radius);
  if (!(params.beta >= 1) || params.beta > 64) return InvalidArgument("beta must be in 1..64, got ", params.beta);
  for (size_t i = 0; i < points.size(); ++i) {
    if (!std::isfinite(points[i])) {
      return InvalidArgument("samples must be finite, row ", i / dim, " has ", points[i], " at ", i % dim);
    }
  }
  return absl::OkStatus();
}

}  // namespace

const char* FitFlagName(FitFlag flag) {
  constexpr const char* kNames[] = {"ok", "no-op", "not-local", "ambiguous", "too-few"};
  return kNames[static_cast<int>(flag)];
}

absl::StatusOr<YxFitter> YxFitter::Make(std::vector<double> points, int dim, const YxParams& params) {
  YxFitter fitter;
  fitter.params_ = params;
  if (fitter.params_.beta == 0) fitter.params_.beta = DefaultBeta(params.d);
  if (fitter.params_.tangent_radius == 0) fitter.params_.tangent_radius = 2 * params.radius;
  RETURN_IF_ERROR(Check(points, dim, fitter.params_));
  fitter.dim_ = dim;
  fitter.points_ = std::move(points);
  if (fitter.size() < params.d + 1) {
    return InvalidArgument("a tangent of ", params.d, " dimensions needs ", params.d + 1, " samples, got ", fitter.size());
  }
  fitter.FindTangents();
  return fitter;
}

absl::StatusOr<YxFitter> YxFitter::MakeWithTangents(std::vector<double> points, int dim, std::vector<double> tangents,
                                                    const YxParams& params) {
  YxFitter fitter;
  fitter.params_ = params;
  if (fitter.params_.beta == 0) fitter.params_.beta = DefaultBeta(params.d);
  RETURN_IF_ERROR(Check(points, dim, fitter.params_));
  if (tangents.size() != points.size() * static_cast<size_t>(params.d)) {
    return InvalidArgument("tangents must be ", points.size() * static_cast<size_t>(params.d), " values, got ", tangents.size());
  }
  fitter.dim_ = dim;
  fitter.points_ = std::move(points);
  fitter.tangents_ = std::move(tangents);
  fitter.eigenvalues_.assign(fitter.points_.size(), 0.0);
  return fitter;
}

// cf18: greedily the neighbours that, with the neighbourhood scaled to unit radius, are nearest to orthonormal.
static void GreedyDisc(const std::vector<double>& scaled, int64_t count, int d, int dim, double* out) {
  std::vector<double> worst(static_cast<size_t>(count));
  for (int64_t i = 0; i < count; ++i) worst[i] = std::abs(1 - std::sqrt(Dot(&scaled[i * dim], &scaled[i * dim], dim)));
  for (int axis = 0; axis < d; ++axis) {
    const int64_t best = std::min_element(worst.begin(), worst.end()) - worst.begin();
    double* row = out + axis * dim;
    const double norm = std::sqrt(Dot(&scaled[best * dim], &scaled[best * dim], dim));
    for (int k = 0; k < dim; ++k) row[k] = scaled[best * dim + k] / (norm > 0 ? norm : 1);
    worst[best] = 1e300;
    for (int64_t i = 0; i < count; ++i) {
      if (worst[i] < 1e300) worst[i] = std::max(worst[i], std::abs(Dot(&scaled[i * dim], row, dim)));
    }
  }
  Orthonormalise(out, d, dim);
}

void YxFitter::FindTangents() {
  const int64_t n = size();
  const int d = params_.d;
  tangents_.resize(static_cast<size_t>(n * d * dim_));
  eigenvalues_.resize(static_cast<size_t>(n * dim_));
  // cf18's disc comes from the radius of the weights, yx's plane from tangent_radius.
  const double reach = params_.form == BiasForm::kCf18 ? params_.radius : params_.tangent_radius;
  const double limit = reach * reach;
  std::vector<double> distance(static_cast<size_t>(n)), scatter, values, vectors, scaled;
  std::vector<int64_t> near;
  for (int64_t i = 0; i < n; ++i) {
    near.clear();
    for (int64_t j = 0; j < n; ++j) {
      distance[j] = SquaredDistance(&points_[i * dim_], &points_[j * dim_], dim_);
      if (j != i && distance[j] <= limit) near.push_back(j);
    }
    if (static_cast<int>(near.size()) < d) {
      std::vector<int64_t> order;
      for (int64_t j = 0; j < n; ++j) {
        if (j != i) order.push_back(j);
      }
      std::partial_sort(order.begin(), order.begin() + d, order.end(), [&](int64_t a, int64_t b) {
        return distance[a] != distance[b] ? distance[a] < distance[b] : a < b;
      });
      near.assign(order.begin(), order.begin() + d);
    }
    scatter.assign(static_cast<size_t>(dim_ * dim_), 0.0);
    scaled.clear();
    for (const int64_t j : near) {
      for (int a = 0; a < dim_; ++a) {
        const double za = points_[j * dim_ + a] - points_[i * dim_ + a];
        if (params_.form == BiasForm::kCf18) scaled.push_back(za / reach);
        for (int b = a; b < dim_; ++b) scatter[a * dim_ + b] += za * (points_[j * dim_ + b] - points_[i * dim_ + b]);
      }
    }
    for (int a = 0; a < dim_; ++a) {
      for (int b = 0; b < a; ++b) scatter[a * dim_ + b] = scatter[b * dim_ + a];
    }
    if (params_.form == BiasForm::kCf18) {
      GreedyDisc(scaled, static_cast<int64_t>(near.size()), d, dim_, &tangents_[i * d * dim_]);
      continue;
    }
    SymmetricEigen(scatter, dim_, values, vectors);
    std::copy(values.begin(), values.end(), eigenvalues_.begin() + i * dim_);
    std::copy(vectors.begin(), vectors.begin() + d * dim_, tangents_.begin() + i * d * dim_);
  }
}

// A(x) = sum a_i (I - U_i U_i^T), its top dim - d eigenvectors span the normal space, the others the tangent.
void YxFitter::PrintedProjector(const YxStep& step, std::vector<double>& tangent, double& gap) const {
  const int d = params_.d;
  std::vector<double> a(static_cast<size_t>(dim_ * dim_), 0.0), values, vectors;
  for (size_t s = 0; s < step.samples.size(); ++s) {
    const double* u = &tangents_[step.samples[s] * d * dim_];
    for (int t = 0; t < d; ++t, u += dim_) {
      for (int p = 0; p < dim_; ++p) {
        const double weighted = step.weights[s] * u[p];
        for (int q = p; q < dim_; ++q) a[p * dim_ + q] -= weighted * u[q];
      }
    }
  }
  for (int p = 0; p < dim_; ++p) {
    a[p * dim_ + p] += 1;
    for (int q = 0; q < p; ++q) a[p * dim_ + q] = a[q * dim_ + p];
  }
  SymmetricEigen(a, dim_, values, vectors);
  tangent.assign(vectors.end() - d * dim_, vectors.end());
  gap = values[dim_ - d - 1] - values[dim_ - d];  // (1 - b_{d+1}) - (1 - b_d)
}

// The same tangent as the top d left singular vectors of W = [sqrt(a_i) U_i], by subspace iteration on W W^T.
void YxFitter::LowRankProjector(const YxStep& step, int64_t nearest, std::vector<double>& tangent, double& gap) const {
  const int d = params_.d, width = std::min(dim_, d + 2);
  std::vector<double> block(static_cast<size_t>(width * dim_), 0.0), next(block.size()), values, rotation, small;
  std::copy_n(&tangents_[nearest * d * dim_], d * dim_, block.begin());
  for (int w = d; w < width; ++w) {
    for (int k = 0; k < dim_; ++k) block[w * dim_ + k] = std::cos(1.0 + 2.0 * k + 5.0 * w);  // any fixed direction
  }
  Orthonormalise(block.data(), width, dim_);
  std::vector<double> before(values);
  for (int iteration = 0; iteration < 500; ++iteration) {
    std::fill(next.begin(), next.end(), 0.0);
    for (size_t s = 0; s < step.samples.size(); ++s) {
      const double* u = &tangents_[step.samples[s] * d * dim_];
      for (int t = 0; t < d; ++t) {
        for (int w = 0; w < width; ++w) {
          const double c = step.weights[s] * Dot(u + t * dim_, &block[w * dim_], dim_);
          for (int k = 0; k < dim_; ++k) next[w * dim_ + k] += c * u[t * dim_ + k];
        }
      }
    }
    // Rayleigh-Ritz inside the block: small = block B block^T, then rotate.
    small.assign(static_cast<size_t>(width * width), 0.0);
    for (int a = 0; a < width; ++a) {
      for (int b = 0; b < width; ++b) small[a * width + b] = Dot(&next[a * dim_], &block[b * dim_], dim_);
    }
    for (int a = 0; a < width; ++a) {
      for (int b = 0; b < a; ++b) small[a * width + b] = small[b * width + a] = (small[a * width + b] + small[b * width + a]) / 2;
    }
    SymmetricEigen(small, width, values, rotation);
    std::vector<double> rotated(block.size(), 0.0), image(block.size(), 0.0);
    for (int a = 0; a < width; ++a) {
      for (int b = 0; b < width; ++b) {
        for (int k = 0; k < dim_; ++k) {
          rotated[a * dim_ + k] += rotation[a * width + b] * block[b * dim_ + k];
          image[a * dim_ + k] += rotation[a * width + b] * next[b * dim_ + k];
        }
      }
    }
    double residual = 0;  // how far the d Ritz vectors are from eigenvectors
    for (int a = 0; a < d; ++a) {
      for (int k = 0; k < dim_; ++k) {
        const double r = image[a * dim_ + k] - values[a] * rotated[a * dim_ + k];
        residual += r * r;
      }
    }
    tangent.assign(rotated.begin(), rotated.begin() + d * dim_);
    gap = values[d - 1] - (width > d ? values[d] : 0);
    if (residual < 1e-28 || width == dim_) break;
    block = image;
    Orthonormalise(block.data(), width, dim_);
  }
}

std::vector<int64_t> YxFitter::Within(std::span<const double> x, double reach) const {
  std::vector<int64_t> found;
  for (int64_t i = 0; i < size(); ++i) {
    if (SquaredDistance(x.data(), &points_[i * dim_], dim_) < reach * reach) found.push_back(i);
  }
  return found;
}

YxStep YxFitter::Evaluate(std::span<const double> x) const { return EvaluateAmong(x, Within(x, params_.radius)); }

// REQUIRES: candidates ascend and hold every sample within the radius of x.
YxStep YxFitter::EvaluateAmong(std::span<const double> x, std::span<const int64_t> candidates) const {
  YxStep step;
  step.samples.reserve(candidates.size());
  step.weights.reserve(candidates.size());
  const double r2 = params_.radius * params_.radius;
  double sum = 0, nearest_distance = 1e300;
  int64_t nearest = 0;
  for (const int64_t i : candidates) {
    const double distance = SquaredDistance(x.data(), &points_[i * dim_], dim_);
    if (distance < nearest_distance) nearest_distance = distance, nearest = i;
    if (distance >= r2) continue;
    step.samples.push_back(i);
    step.weights.push_back(Weight(distance / r2, params_.beta));
    sum += step.weights.back();
  }
  step.mean.assign(x.begin(), x.end());
  step.bias.assign(static_cast<size_t>(dim_), 0.0);
  if (!(sum > 0)) {
    step.flag = FitFlag::kTooFew;
    return step;
  }
  std::fill(step.mean.begin(), step.mean.end(), 0.0);
  for (size_t s = 0; s < step.samples.size(); ++s) {
    step.weights[s] /= sum;
    for (int k = 0; k < dim_; ++k) step.mean[k] += step.weights[s] * points_[step.samples[s] * dim_ + k];
  }
  if (params_.printed) PrintedProjector(step, step.tangent, step.gap);
  else LowRankProjector(step, nearest, step.tangent, step.gap);
  for (int k = 0; k < dim_; ++k) step.bias[k] = x[k] - step.mean[k];
  if (params_.form == BiasForm::kCf18) {
    std::fill(step.bias.begin(), step.bias.end(), 0.0);
    std::vector<double> z(static_cast<size_t>(dim_));
    for (size_t s = 0; s < step.samples.size(); ++s) {
      const double* u = &tangents_[step.samples[s] * params_.d * dim_];
      for (int k = 0; k < dim_; ++k) z[k] = x[k] - points_[step.samples[s] * dim_ + k];
      for (int t = 0; t < params_.d; ++t) {
        const double c = Dot(u + t * dim_, z.data(), dim_);
        for (int k = 0; k < dim_; ++k) z[k] -= c * u[t * dim_ + k];
      }
      for (int k = 0; k < dim_; ++k) step.bias[k] += step.weights[s] * z[k];
    }
  }
  std::vector<double> along(static_cast<size_t>(params_.d));
  for (int t = 0; t < params_.d; ++t) along[t] = Dot(&step.tangent[t * dim_], step.bias.data(), dim_);
  for (int t = 0; t < params_.d; ++t) {
    for (int k = 0; k < dim_; ++k) step.bias[k] -= along[t] * step.tangent[t * dim_ + k];
  }
  if (step.gap < params_.min_gap) step.flag = FitFlag::kAmbiguous;
  return step;
}

YxPoint YxFitter::Project(std::span<const double> start) const {
  YxPoint point;
  point.x.assign(start.begin(), start.end());
  // Samples that can matter while the point stays within half a radius of where they were gathered.
  std::vector<double> centre(point.x);
  std::vector<int64_t> candidates = Within(centre, 1.5 * params_.radius);
  const auto evaluate = [&](std::span<const double> x) {
    if (SquaredDistance(x.data(), centre.data(), dim_) > .24 * params_.radius * params_.radius) {
      centre.assign(x.begin(), x.end());
      candidates = Within(centre, 1.5 * params_.radius);
    }
    return EvaluateAmong(x, candidates);
  };
  YxStep here = evaluate(point.x);
  point.flag = here.flag;
  point.tangent = here.tangent;
  if (here.flag != FitFlag::kOk) return point;
  double norm = Norm(here.bias);
  point.bias_norms.push_back(norm);
  std::vector<double> candidate(static_cast<size_t>(dim_));
  for (int step = 0; step < params_.max_steps && norm * norm >= params_.done; ++step) {
    double eta = 1;
    bool accepted = false;
    for (int halving = 0; halving <= kMaxHalvings && !accepted; ++halving, eta /= 2) {
      for (int k = 0; k < dim_; ++k) candidate[k] = point.x[k] - eta * here.bias[k];
      YxStep there = evaluate(candidate);
      const double next = Norm(there.bias);
      if (there.flag == FitFlag::kTooFew || next > norm) continue;
      point.x = candidate;
      here = std::move(there);
      norm = next;
      accepted = true;
    }
    if (!accepted) break;
    point.bias_norms.push_back(norm);
  }
  point.tangent = here.tangent;
  return point;
}

std::vector<double> YxFitter::HalfGradient(std::span<const double> x) const {
  const YxStep step = Evaluate(x);
  std::vector<double> gradient(step.bias);
  if (step.flag != FitFlag::kOk) return gradient;
  const int d = params_.d;
  const double r2 = params_.radius * params_.radius, beta = params_.beta;
  std::vector<double> a(static_cast<size_t>(dim_ * dim_), 0.0), values, vectors;
  double raw_sum = 0;
  std::vector<double> t(step.samples.size()), powered(step.samples.size());
  std::vector<double> drift(static_cast<size_t>(dim_), 0.0);  // sum_j t_j^(beta-1) (x - x_j)
  for (size_t s = 0; s < step.samples.size(); ++s) {
    const double* point = &points_[step.samples[s] * dim_];
    t[s] = 1 - SquaredDistance(x.data(), point, dim_) / r2;
    powered[s] = std::pow(t[s], beta - 1);
    raw_sum += powered[s] * t[s];
    for (int k = 0; k < dim_; ++k) drift[k] += powered[s] * (x[k] - point[k]);
    const double* u = &tangents_[step.samples[s] * d * dim_];
    for (int p = 0; p < dim_; ++p) {
      for (int q = 0; q < dim_; ++q) {
        double projector = p == q ? 1 : 0;
        for (int c = 0; c < d; ++c) projector -= u[c * dim_ + p] * u[c * dim_ + q];
        a[p * dim_ + q] += step.weights[s] * projector;
      }
    }
  }
  SymmetricEigen(a, dim_, values, vectors);
  std::vector<double> mixed(static_cast<size_t>(dim_ * dim_), 0.0), offset(static_cast<size_t>(dim_));
  for (int k = 0; k < dim_; ++k) offset[k] = x[k] - step.mean[k];
  for (int i = 0; i < dim_ - d; ++i) {
    for (int j = dim_ - d; j < dim_; ++j) {
      const double *vi = &vectors[i * dim_], *vj = &vectors[j * dim_];
      const double c = Dot(vi, step.bias.data(), dim_) * Dot(vj, offset.data(), dim_) / (values[i] - values[j]);
      for (int p = 0; p < dim_; ++p) {
        for (int q = 0; q < dim_; ++q) mixed[p * dim_ + q] += c * vi[p] * vj[q];
      }
    }
  }
  for (size_t s = 0; s < step.samples.size(); ++s) {
    const double* point = &points_[step.samples[s] * dim_];
    const double* u = &tangents_[step.samples[s] * d * dim_];
    double along = 0, inner = 0;
    for (int k = 0; k < dim_; ++k) along += (x[k] - point[k]) * step.bias[k];
    for (int p = 0; p < dim_; ++p) {
      for (int q = 0; q < dim_; ++q) {
        double projector = p == q ? 1 : 0;
        for (int c = 0; c < d; ++c) projector -= u[c * dim_ + p] * u[c * dim_ + q];
        inner += mixed[p * dim_ + q] * projector;
      }
    }
    for (int k = 0; k < dim_; ++k) {
      const double g = -(2 * beta / (r2 * raw_sum)) * (powered[s] * (x[k] - point[k]) - step.weights[s] * drift[k]);
      gradient[k] += g * (along + inner);
    }
  }
  return gradient;
}

}  // namespace lectern::manifold
