// manifold/contraction.h: estimators without planes: the direction to the manifold, then the pull; fp64, low dimension.
//
//   Pull out = TwoStepContraction(points, dim, x, {.r0 = .8, .r1 = .6, .r2 = .6});
//   std::vector<double> y = ExtrapolatedMeanShift(points, dim, x, /*bandwidth=*/.3, /*sigma=*/.05);
//
// Shapes:  points [n, dim] row-major; x, results [dim].
// Threads: pure functions.
// Errors:  where no sample is in reach, `moved` is false and the point is the input, bit for bit.
// Cost:    one pass over the samples. Not for dim >= 100: the cylinder's radius is of the order of sigma, the noise's
//          length sigma * sqrt(dim), so it is empty.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace lectern::manifold {

struct ContractionParams {
  double r0 = 0, r1 = 0, r2 = 0;  // ball of the direction; radius and half length of the cylinder
  int power = 3;                  // of the weights
};

struct Pull {
  std::vector<double> mean, direction, x;  // F(x), unit u, G(x)
  std::vector<double> weights;             // w_u * w_v of each sample
  bool moved = false;
};

Pull TwoStepContraction(std::span<const double> points, int dim, std::span<const double> x, const ContractionParams& params);

// The variant of the authors' released program: a hard cylinder, plain means, and a last average over the outputs.
// starts [m, dim] -> [m, dim].
std::vector<double> ReleasedContraction(std::span<const double> points, int dim, std::span<const double> starts, double sigma);

// x + (1 + sigma^2 / h^2) (mu_h(x) - x), mu_h the mean under a Gaussian of bandwidth h.
std::vector<double> GaussianMean(std::span<const double> points, int dim, std::span<const double> x, double bandwidth);
std::vector<double> ExtrapolatedMeanShift(std::span<const double> points, int dim, std::span<const double> x, double bandwidth,
                                          double sigma);

}  // namespace lectern::manifold
