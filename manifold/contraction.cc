#include "manifold/contraction.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace lectern::manifold {
namespace {

double SquaredDistance(const double* a, const double* b, int dim) {
  double sum = 0;
  for (int k = 0; k < dim; ++k) sum += (a[k] - b[k]) * (a[k] - b[k]);
  return sum;
}

double Power(double x, int power) {
  double result = 1;
  for (int i = 0; i < power; ++i) result *= x;
  return result;
}

// The mean of the samples within `radius` of x joined with the `least` nearest.
std::vector<double> MeanNear(std::span<const double> points, int dim, const double* x, double radius, int64_t least) {
  const int64_t n = static_cast<int64_t>(points.size()) / dim;
  std::vector<std::pair<double, int64_t>> order(static_cast<size_t>(n));
  for (int64_t i = 0; i < n; ++i) order[i] = {SquaredDistance(x, &points[i * dim], dim), i};
  least = std::min(least, n);
  std::partial_sort(order.begin(), order.begin() + least, order.end());
  std::vector<double> mean(static_cast<size_t>(dim), 0.0);
  int64_t count = 0;
  for (int64_t i = 0; i < n; ++i) {
    if (i >= least && order[i].first > radius * radius) continue;
    for (int k = 0; k < dim; ++k) mean[k] += points[order[i].second * dim + k];
    ++count;
  }
  for (double& value : mean) value /= static_cast<double>(count);
  return mean;
}

}  // namespace

Pull TwoStepContraction(std::span<const double> points, int dim, std::span<const double> x, const ContractionParams& params) {
  const int64_t n = static_cast<int64_t>(points.size()) / dim;
  Pull pull;
  pull.x.assign(x.begin(), x.end());
  pull.mean.assign(static_cast<size_t>(dim), 0.0);
  pull.direction.assign(static_cast<size_t>(dim), 0.0);
  pull.weights.assign(static_cast<size_t>(n), 0.0);
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) {
    const double t = SquaredDistance(x.data(), &points[i * dim], dim) / (params.r0 * params.r0);
    if (t >= 1) continue;
    const double weight = Power(1 - t, params.power);
    sum += weight;
    for (int k = 0; k < dim; ++k) pull.mean[k] += weight * points[i * dim + k];
  }
  if (!(sum > 0)) return pull;
  double length = 0;
  for (int k = 0; k < dim; ++k) {
    pull.mean[k] /= sum;
    pull.direction[k] = pull.mean[k] - x[k];
    length += pull.direction[k] * pull.direction[k];
  }
  if (!(length > 0)) return pull;  // already in the middle of its neighbours
  length = std::sqrt(length);
  for (double& value : pull.direction) value /= length;
  std::vector<double> out(static_cast<size_t>(dim), 0.0);
  double total = 0;
  for (int64_t i = 0; i < n; ++i) {
    double along = 0, squared = 0;
    for (int k = 0; k < dim; ++k) {
      const double z = points[i * dim + k] - x[k];
      along += z * pull.direction[k];
      squared += z * z;
    }
    const double across = std::max(0.0, squared - along * along), height = std::abs(along);
    if (height >= params.r2 || across > params.r1 * params.r1) continue;
    double weight = Power(1 - across / (params.r1 * params.r1), params.power);
    if (height > params.r2 / 2) {
      const double t = (2 * height - params.r2) / params.r2;
      weight *= Power(1 - t * t, params.power);
    }
    pull.weights[i] = weight;
    total += weight;
    for (int k = 0; k < dim; ++k) out[k] += weight * points[i * dim + k];
  }
  if (!(total > 0)) return pull;
  for (int k = 0; k < dim; ++k) pull.x[k] = out[k] / total;
  pull.moved = true;
  return pull;
}

std::vector<double> ReleasedContraction(std::span<const double> points, int dim, std::span<const double> starts, double sigma) {
  const int64_t n = static_cast<int64_t>(points.size()) / dim, m = static_cast<int64_t>(starts.size()) / dim;
  const double log_n = std::log10(static_cast<double>(n));
  const double r1 = 5 * sigma / log_n, r2 = 10 * sigma * std::sqrt(std::log(1 / sigma)) / log_n;
  std::vector<double> out(starts.begin(), starts.end());
  for (int64_t s = 0; s < m; ++s) {
    const double* x = &starts[s * dim];
    const std::vector<double> mean = MeanNear(points, dim, x, 2 * r1, 5);
    std::vector<double> direction(static_cast<size_t>(dim)), sum(static_cast<size_t>(dim), 0.0);
    double length = 0;
    for (int k = 0; k < dim; ++k) direction[k] = mean[k] - x[k], length += direction[k] * direction[k];
    length = std::sqrt(length);
    int64_t inside = 0;
    for (int64_t i = 0; i < n; ++i) {
      double along = 0, squared = 0;
      for (int k = 0; k < dim; ++k) {
        const double z = points[i * dim + k] - x[k];
        along += length > 0 ? z * direction[k] / length : 0;
        squared += z * z;
      }
      if (std::abs(along) > r2 || squared - along * along > r1 * r1) continue;
      ++inside;
      for (int k = 0; k < dim; ++k) sum[k] += points[i * dim + k];
    }
    for (int k = 0; k < dim; ++k) out[s * dim + k] = inside < 11 ? mean[k] : sum[k] / static_cast<double>(inside);
  }
  std::vector<double> smoothed(out.size());
  for (int64_t s = 0; s < m; ++s) {
    const std::vector<double> mean = MeanNear(out, dim, &out[s * dim], r1 / 4, 5);
    std::copy(mean.begin(), mean.end(), smoothed.begin() + s * dim);
  }
  return smoothed;
}

std::vector<double> GaussianMean(std::span<const double> points, int dim, std::span<const double> x, double bandwidth) {
  const int64_t n = static_cast<int64_t>(points.size()) / dim;
  double nearest = 1e300, sum = 0;
  for (int64_t i = 0; i < n; ++i) nearest = std::min(nearest, SquaredDistance(x.data(), &points[i * dim], dim));
  std::vector<double> mean(static_cast<size_t>(dim), 0.0);
  for (int64_t i = 0; i < n; ++i) {
    // Relative to the nearest sample, so that far points do not underflow all together.
    const double weight = std::exp((nearest - SquaredDistance(x.data(), &points[i * dim], dim)) / (2 * bandwidth * bandwidth));
    sum += weight;
    for (int k = 0; k < dim; ++k) mean[k] += weight * points[i * dim + k];
  }
  for (double& value : mean) value /= sum;
  return mean;
}

std::vector<double> ExtrapolatedMeanShift(std::span<const double> points, int dim, std::span<const double> x, double bandwidth,
                                          double sigma) {
  std::vector<double> out = GaussianMean(points, dim, x, bandwidth);
  const double factor = 1 + sigma * sigma / (bandwidth * bandwidth);
  for (int k = 0; k < dim; ++k) out[k] = x[k] + factor * (out[k] - x[k]);
  return out;
}

}  // namespace lectern::manifold
