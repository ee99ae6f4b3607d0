#include "manifold/shapes.h"

#include <cmath>

namespace lectern::manifold {
namespace {

constexpr double kTwoPi = 6.283185307179586;
constexpr double kTorusRing = 2.0 / 3, kTorusTube = 1.0 / 3;

}  // namespace

const char* ShapeName(Shape shape) {
  constexpr const char* kNames[] = {"circle", "sphere", "torus"};
  return kNames[static_cast<int>(shape)];
}

int ShapeDim(Shape shape) { return shape == Shape::kCircle ? 2 : 3; }
int ShapeDimension(Shape shape) { return shape == Shape::kCircle ? 1 : 2; }

std::vector<double> SampleShape(Shape shape, int64_t n, Rng& rng) {
  std::vector<double> points;
  for (int64_t i = 0; i < n; ++i) {
    if (shape == Shape::kCircle) {
      const double angle = kTwoPi * rng.Uniform();
      points.insert(points.end(), {std::cos(angle), std::sin(angle)});
    } else if (shape == Shape::kSphere) {
      const double x = rng.Normal(), y = rng.Normal(), z = rng.Normal(), norm = std::sqrt(x * x + y * y + z * z);
      points.insert(points.end(), {x / norm, y / norm, z / norm});
    } else {
      double tube = 0;  // uniform by area: the outer side has more of it
      do tube = kTwoPi * rng.Uniform();
      while (rng.Uniform() * (kTorusRing + kTorusTube) >= kTorusRing + kTorusTube * std::cos(tube));
      const double around = kTwoPi * rng.Uniform(), ring = kTorusRing + kTorusTube * std::cos(tube);
      points.insert(points.end(), {ring * std::cos(around), ring * std::sin(around), kTorusTube * std::sin(tube)});
    }
  }
  return points;
}

double DistanceToShape(Shape shape, std::span<const double> x) {
  if (shape == Shape::kTorus) {
    const double ring = std::hypot(x[0], x[1]) - kTorusRing;
    return std::abs(std::hypot(ring, x[2]) - kTorusTube);
  }
  double squared = 0;
  for (const double value : x) squared += value * value;
  return std::abs(std::sqrt(squared) - 1);
}

void AddGaussian(double sigma, Rng& rng, std::vector<double>& points) {
  for (double& value : points) value += sigma * rng.Normal();
}

RandomManifold::RandomManifold(int d, int dim, uint64_t seed) : d_(d), dim_(dim) {
  Rng rng(seed, /*stream=*/0x6d616e69);
  for (int i = 0; i < kFrequencies * d; ++i) frequencies_.push_back(rng.Normal());
  for (int i = 0; i < kFrequencies; ++i) phases_.push_back(kTwoPi * rng.Uniform());
  for (int i = 0; i < 2 * kFrequencies * dim; ++i) map_.push_back(rng.Normal());
}

void RandomManifold::Embed(std::span<const double> z, float* out) const {
  std::vector<double> sum(static_cast<size_t>(dim_), 0.0);
  for (int m = 0; m < kFrequencies; ++m) {
    double angle = phases_[m], squared = 0;
    for (int k = 0; k < d_; ++k) {
      angle += frequencies_[m * d_ + k] * z[k];
      squared += frequencies_[m * d_ + k] * frequencies_[m * d_ + k];
    }
    const double scale = 1 / std::sqrt(1 + squared);
    const double c = std::cos(angle) * scale, s = std::sin(angle) * scale;
    const double *row_c = &map_[2 * m * dim_], *row_s = row_c + dim_;
    for (int k = 0; k < dim_; ++k) sum[k] += c * row_c[k] + s * row_s[k];
  }
  double norm = 0;
  for (const double value : sum) norm += value * value;
  norm = std::sqrt(norm);
  for (int k = 0; k < dim_; ++k) out[k] = static_cast<float>(sum[k] / norm);
}

}  // namespace lectern::manifold
