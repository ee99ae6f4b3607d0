// tests/manifold/clouds.h: noisy samples of random smooth manifolds on the sphere, and their neighbours.
//
//   const Cloud cloud = MakeCloud(/*d=*/3, /*dim=*/64, /*n=*/800, /*sigma=*/.02, /*seed=*/1);
//   const Neighbours near = Near(cloud.noisy, cloud.dim, /*k=*/24, pool);
//
// Shapes:  clean and noisy [n, dim], unit length; the same seed gives the same bits.
// Threads: MakeCloud one, Near the pool's.
// Errors:  failed expectations of the test.
// Cost:    n * dim * 128; an exact search of n in n.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <vector>

#include "base/rng.h"
#include "manifold/linear_algebra.h"
#include "manifold/neighbours.h"
#include "manifold/noise.h"
#include "manifold/shapes.h"

namespace lectern::manifold {

struct Cloud {
  std::vector<float> clean, noisy;
  int64_t dim = 0;
  double sigma = 0;
};

inline Cloud MakeCloud(int d, int dim, int64_t n, double sigma, uint64_t seed) {
  const RandomManifold manifold(d, dim, seed);
  Cloud cloud{.dim = dim, .sigma = sigma};
  cloud.clean.resize(static_cast<size_t>(n * dim));
  Rng rng(seed, 5);
  std::vector<double> z(static_cast<size_t>(d));
  for (int64_t i = 0; i < n; ++i) {
    for (double& value : z) value = 2 * rng.Uniform();
    manifold.Embed(z, cloud.clean.data() + i * dim);
  }
  cloud.noisy = cloud.clean;
  AddNoise(VectorNoise::kGaussian, {.sigma = sigma}, seed, dim, cloud.noisy);
  return cloud;
}

// Sum of squared distances of the vectors to where the cloud's points lay before the noise.
inline double SquaredError(const Cloud& cloud, const std::vector<float>& vectors) {
  EXPECT_EQ(vectors.size(), cloud.clean.size());
  double sum = 0;
  for (size_t i = 0; i < cloud.clean.size(); ++i) sum += std::pow(vectors[i] - cloud.clean[i], 2);
  return sum;
}

// X - x from the eigenvectors of the k x k Gram matrix in fp64.
inline std::vector<double> PlaneTruth(const std::vector<float>& v, int64_t dim, int64_t i, const int32_t* ids, int64_t k,
                                      int64_t d, double* gap) {
  std::vector<double> z(static_cast<size_t>(k * dim)), mean(static_cast<size_t>(dim), 0.0), g(static_cast<size_t>(k * k)), values, vectors;
  for (int64_t j = 0; j < k; ++j) {
    for (int64_t t = 0; t < dim; ++t) {
      z[j * dim + t] = double{v[int64_t{ids[j]} * dim + t]} - v[i * dim + t];
      mean[t] += z[j * dim + t] / static_cast<double>(k);
    }
  }
  for (int64_t j = 0; j < k; ++j) {
    for (int64_t t = 0; t < dim; ++t) z[j * dim + t] -= mean[t];
  }
  for (int64_t a = 0; a < k; ++a) {
    for (int64_t b = 0; b < k; ++b) {
      double sum = 0;
      for (int64_t t = 0; t < dim; ++t) sum += z[a * dim + t] * z[b * dim + t];
      g[a * k + b] = sum;
    }
  }
  SymmetricEigen(g, k, values, vectors);
  *gap = (values[d - 1] - values[d]) / values[d - 1];
  std::vector<double> offset = mean;
  for (int64_t r = 0; r < d; ++r) {
    std::vector<double> u(static_cast<size_t>(dim), 0.0);
    double dot = 0;
    for (int64_t j = 0; j < k; ++j) {
      for (int64_t t = 0; t < dim; ++t) u[t] += vectors[r * k + j] * z[j * dim + t] / std::sqrt(values[r]);
    }
    for (int64_t t = 0; t < dim; ++t) dot -= u[t] * mean[t];
    for (int64_t t = 0; t < dim; ++t) offset[t] += dot * u[t];
  }
  return offset;
}

inline Neighbours Near(const std::vector<float>& vectors, int64_t dim, int64_t k, ThreadPool& pool) {
  auto table = NeighbourTable::Make(vectors, dim);
  EXPECT_TRUE(table.ok()) << table.status();
  auto near = table->Search(vectors, {.k = k, .self = AllRows(table->rows()), .collapse = true}, pool);
  EXPECT_TRUE(near.ok()) << near.status();
  return *std::move(near);
}

}  // namespace lectern::manifold
