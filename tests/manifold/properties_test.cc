// What must hold for any cloud: rotation, scale, order; and the inputs that break programs.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "base/rng.h"
#include "manifold/linear_algebra.h"
#include "manifold/reference.h"
#include "manifold/richardson.h"
#include "manifold/shapes.h"

namespace lectern::manifold {
namespace {

std::vector<double> NoisySphere(uint64_t seed, int64_t n, double sigma) {
  Rng rng(seed);
  std::vector<double> points = SampleShape(Shape::kSphere, n, rng);
  AddGaussian(sigma, rng, points);
  return points;
}

std::vector<double> Rotate(const std::vector<double>& rotation, std::span<const double> points) {
  std::vector<double> out(points.size(), 0.0);
  for (size_t i = 0; i < points.size() / 3; ++i) {
    for (int a = 0; a < 3; ++a) {
      for (int b = 0; b < 3; ++b) out[3 * i + a] += rotation[3 * a + b] * points[3 * i + b];
    }
  }
  return out;
}

constexpr YxParams kParams{.d = 2, .radius = .6};

TEST(YxFitter, PrintedAndLowRankFormsAgreeOnNoisyClouds) {
  for (uint64_t seed = 1; seed <= 5; ++seed) {
    const std::vector<double> points = NoisySphere(seed, 400, .04);
    YxParams low = kParams;
    low.printed = false;
    auto printed = YxFitter::Make(points, 3, kParams);
    auto low_rank = YxFitter::Make(points, 3, low);
    Rng rng(seed, 7);
    for (int i = 0; i < 40; ++i) {
      std::vector<double> start = SampleShape(Shape::kSphere, 1, rng);
      AddGaussian(.05, rng, start);
      const YxPoint a = printed->Project(start), b = low_rank->Project(start);
      for (int k = 0; k < 3; ++k) EXPECT_NEAR(a.x[k], b.x[k], 1e-9) << "seed " << seed << " start " << i;
    }
  }
}

TEST(YxFitter, RotatingTheInputsRotatesTheOutputs) {
  const std::vector<double> points = NoisySphere(3, 400, .04);
  std::vector<double> rotation = {.3, -.8, .2, .5, .4, -.9, .1, .7, .6};
  Orthonormalise(rotation.data(), 3, 3);
  auto plain = YxFitter::Make(points, 3, kParams);
  auto turned = YxFitter::Make(Rotate(rotation, points), 3, kParams);
  const std::vector<double> start = {.7, .6, -.5};
  const std::vector<double> want = Rotate(rotation, plain->Project(start).x);
  const std::vector<double> got = turned->Project(Rotate(rotation, start)).x;
  for (int k = 0; k < 3; ++k) EXPECT_NEAR(got[k], want[k], 1e-9);
}

TEST(YxFitter, ScalingDataAndRadiusScalesTheOutputs) {
  std::vector<double> points = NoisySphere(4, 400, .04);
  auto plain = YxFitter::Make(points, 3, kParams);
  const std::vector<double> start = {.7, .6, -.5};
  const std::vector<double> small = plain->Project(start).x;
  for (double& value : points) value *= 7.5;
  YxParams params = kParams;
  params.radius *= 7.5;
  auto large = YxFitter::Make(points, 3, params);
  const std::vector<double> big = large->Project(std::vector<double>{.7 * 7.5, .6 * 7.5, -.5 * 7.5}).x;
  for (int k = 0; k < 3; ++k) EXPECT_NEAR(big[k], 7.5 * small[k], 1e-7);
}

TEST(YxFitter, TheOrderOfSamplesDoesNotMatter) {
  const std::vector<double> points = NoisySphere(5, 300, .04);
  std::vector<double> reversed;
  for (size_t i = points.size() / 3; i-- > 0;) reversed.insert(reversed.end(), &points[3 * i], &points[3 * i] + 3);
  auto a = YxFitter::Make(points, 3, kParams), b = YxFitter::Make(reversed, 3, kParams);
  const std::vector<double> start = {.7, .6, -.5};
  const std::vector<double> x = a->Project(start).x, y = b->Project(start).x;
  for (int k = 0; k < 3; ++k) EXPECT_NEAR(x[k], y[k], 1e-11);
}

TEST(YxFitter, AStartFarFromEverySampleStaysWhereItIs) {
  auto fit = YxFitter::Make(NoisySphere(6, 100, .04), 3, kParams);
  const std::vector<double> far = {9, 9, 9};
  const YxPoint out = fit->Project(far);
  EXPECT_EQ(out.flag, FitFlag::kTooFew);
  EXPECT_EQ(out.x, far);
}

TEST(YxFitter, AnAmbiguousTangentLeavesThePointUnmovedWhenAsked) {
  // Three samples at the same distance whose planes are the three coordinate planes: none is better than another.
  YxParams params{.d = 2, .radius = 2, .min_gap = .1};
  auto fit = YxFitter::MakeWithTangents({1, 0, 0, 0, 1, 0, 0, 0, 1}, 3,
                                        {0, 1, 0, 0, 0, 1, 1, 0, 0, 0, 0, 1, 1, 0, 0, 0, 1, 0}, params);
  ASSERT_TRUE(fit.ok()) << fit.status();
  const std::vector<double> centre = {0, 0, 0};
  const YxPoint out = fit->Project(centre);
  EXPECT_EQ(out.flag, FitFlag::kAmbiguous);
  EXPECT_EQ(out.x, centre);
}

TEST(YxFitter, DuplicatesAreDefined) {
  std::vector<double> points(3 * 50, .5);  // fifty times the same point
  auto fit = YxFitter::Make(points, 3, kParams);
  ASSERT_TRUE(fit.ok()) << fit.status();
  const YxPoint out = fit->Project(std::vector<double>{.5, .5, .6});
  for (const double value : out.x) EXPECT_TRUE(std::isfinite(value));
}

TEST(YxFitter, BadInputIsNamed) {
  std::vector<double> points = NoisySphere(1, 10, 0);
  points[3 * 4 + 1] = std::numeric_limits<double>::quiet_NaN();
  EXPECT_EQ(YxFitter::Make(points, 3, kParams).status().message(), "samples must be finite, row 4 has nan at 1");
  EXPECT_FALSE(YxFitter::Make({1, 2, 3}, 3, kParams).ok());  // one sample has no tangent
  EXPECT_FALSE(YxFitter::Make({}, 3, kParams).ok());
  EXPECT_FALSE(YxFitter::Make({1, 2, 3, 4}, 3, kParams).ok());
  EXPECT_FALSE(YxFitter::Make(NoisySphere(1, 10, 0), 3, {.d = 3, .radius = 1}).ok());
  EXPECT_FALSE(YxFitter::Make(NoisySphere(1, 10, 0), 3, {.d = 2, .radius = 0}).ok());
}

TEST(Richardson, IsNeverUsedWhereTheFitsDisagree) {
  auto fit = RichardsonFitter::Make(NoisySphere(9, 1000, .04), 3, {.d = 2, .radius = .4}, {});
  ASSERT_TRUE(fit.ok());
  Rng rng(11);
  int used = 0;
  for (int i = 0; i < 100; ++i) {
    std::vector<double> start = SampleShape(Shape::kSphere, 1, rng);
    const RichardsonPoint out = fit->Project(start);
    if (out.share > 0) {
      EXPECT_LT(out.shift, .07);
    } else {
      EXPECT_EQ(out.x, out.narrow.x);
    }
    used += out.share > 0;
  }
  EXPECT_GT(used, 10);
}

TEST(SymmetricEigen, LargeAndSmallMatricesHaveTheirEigenvectors) {
  for (const int64_t n : {1, 2, 3, 8, 9, 40}) {
    Rng rng(static_cast<uint64_t>(n));
    std::vector<double> a(static_cast<size_t>(n * n)), values, vectors;
    for (int64_t i = 0; i < n; ++i) {
      for (int64_t j = i; j < n; ++j) a[i * n + j] = a[j * n + i] = rng.Normal();
    }
    SymmetricEigen(a, n, values, vectors);
    for (int64_t j = 0; j < n; ++j) {
      EXPECT_GE(values[j > 0 ? j - 1 : 0], values[j]);
      for (int64_t i = 0; i < n; ++i) {
        double image = 0;
        for (int64_t k = 0; k < n; ++k) image += a[i * n + k] * vectors[j * n + k];
        EXPECT_NEAR(image, values[j] * vectors[j * n + i], 1e-11);
      }
    }
  }
}

}  // namespace
}  // namespace lectern::manifold
