// manifold/shapes.h: manifolds whose truth is known: circle, sphere, torus, and a random smooth one in many dimensions.
//
//   Shape shape = Shape::kSphere;
//   std::vector<double> clean = SampleShape(shape, 1000, rng);      // uniform, [1000, 3]
//   double error = DistanceToShape(shape, x);
//   RandomManifold manifold(/*d=*/4, /*dim=*/128, seed);  manifold.Embed(z, out);   // unit length
//
// Shapes:  circle [n, 2]; sphere and torus [n, 3] (torus: radii 2/3 and 1/3); embedding [dim].
// Threads: one Rng a thread; Embed from any thread.
// Errors:  none.
// Cost:    the torus rejects about half its draws; Embed is 128 * dim multiplications.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/rng.h"

namespace lectern::manifold {

enum class Shape { kCircle, kSphere, kTorus };
const char* ShapeName(Shape shape);
int ShapeDim(Shape shape);        // of the space around it
int ShapeDimension(Shape shape);  // its own

std::vector<double> SampleShape(Shape shape, int64_t n, Rng& rng);
double DistanceToShape(Shape shape, std::span<const double> x);
void AddGaussian(double sigma, Rng& rng, std::vector<double>& points);

// 64 random frequencies of d coordinates through a random map to `dim`, normalised: smooth, curved, known.
class RandomManifold {
 public:
  RandomManifold(int d, int dim, uint64_t seed);
  void Embed(std::span<const double> z, float* out) const;
  int d() const { return d_; }
  int dim() const { return dim_; }

 private:
  static constexpr int kFrequencies = 64;
  int d_, dim_;
  std::vector<double> frequencies_, phases_, map_;  // [64, d], [64], [128, dim]
};

}  // namespace lectern::manifold
