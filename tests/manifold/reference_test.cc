// The worked numbers: twelve noisy points on a circle, exact polygons, dimension estimates.
#include "manifold/reference.h"

#include <gtest/gtest.h>

#include <cmath>

#include "manifold/contraction.h"
#include "manifold/dimension.h"
#include "manifold/richardson.h"

namespace lectern::manifold {
namespace {

const std::vector<double> kC12 = {1.03, 0,      .8314, .48,    .51,  .8833,  0,    .99,  -.525, .9093, -.84,  .485,
                                  -1.01, 0,     -.8141, -.47,  -.52, -.9007, 0,    -.98, .5,    -.866, .8227, -.475};
constexpr double kTight = 1e-9;
constexpr double kConverged = 1e-26;  // the worked fixed points are limits, not where a fit is good enough

YxFitter CircleFit(bool printed) {
  auto fit = YxFitter::Make(kC12, 2, {.d = 1, .radius = .8, .beta = 3, .printed = printed, .done = kConverged});
  EXPECT_TRUE(fit.ok()) << fit.status();
  return *std::move(fit);
}

void ExpectNear(std::span<const double> got, std::vector<double> want, double tolerance = kTight) {
  ASSERT_EQ(got.size(), want.size());
  for (size_t i = 0; i < want.size(); ++i) EXPECT_NEAR(got[i], want[i], tolerance) << "at " << i;
}

void ExpectNearUpToSign(std::span<const double> got, std::vector<double> want) {
  const double sign = got[0] * want[0] + got[1] * want[1] < 0 ? -1 : 1;
  for (double& value : want) value *= sign;
  ExpectNear(got, want);
}

class BothForms : public ::testing::TestWithParam<bool> {};
INSTANTIATE_TEST_SUITE_P(Forms, BothForms, ::testing::Bool(),
                         [](const auto& info) { return info.param ? "Printed" : "LowRank"; });

TEST_P(BothForms, TangentsOfTwelvePoints) {
  const YxFitter fit = CircleFit(GetParam());
  ExpectNearUpToSign(fit.Tangent(0), {0.006400390762, -0.999979517289});
  ExpectNearUpToSign(fit.Tangent(1), {0.525597620501, -0.850733296235});
  ExpectNearUpToSign(fit.Tangent(3), {0.999783381631, -0.020813212514});
  ExpectNearUpToSign(fit.Tangent(7), {0.472116280754, -0.881536282547});
  ExpectNear(fit.TangentEigenvalues(0), {3.926747872, 2.755467268});
}

TEST_P(BothForms, BiasFunctionAndItsZeroOutsideTheCircle) {
  const YxFitter fit = CircleFit(GetParam());
  const std::vector<double> x = {1.2, .1};
  const YxStep step = fit.Evaluate(x);
  EXPECT_EQ(step.samples, (std::vector<int64_t>{0, 1, 11}));
  ExpectNear(step.weights, {0.809197433293, 0.173443855080, 0.017358711627});
  ExpectNear(step.mean, {0.991955589461, 0.075007662415});
  EXPECT_NEAR(step.gap, 0.953707224071 - 0.046292775929, kTight);
  ExpectNear(step.bias, {0.208678210965, 0.017384307043});
  const YxPoint out = fit.Project(x);
  ExpectNear(out.x, {0.962048805255, 0.079584223994});
  EXPECT_NEAR(std::hypot(out.x[0], out.x[1]), 0.965334943117, kTight);
  ASSERT_GE(out.bias_norms.size(), 4u);
  ExpectNear(std::span(out.bias_norms).first(4), {2.09e-1, 2.62e-2, 2.89e-3, 3.13e-4}, 6e-4);
  ExpectNear(fit.HalfGradient(x), {0.17863290, 0.03693274}, 1e-7);
}

TEST_P(BothForms, BiasFunctionAndItsZeroInsideAndBelow) {
  const YxFitter fit = CircleFit(GetParam());
  const std::vector<double> a = {.5, .7}, b = {-.9, -.6}, c = {0, -1.15};
  ExpectNear(fit.Evaluate(a).bias, {-0.056158587160, -0.076781452864});
  ExpectNear(fit.Project(a).x, {0.560325425917, 0.782532233848});
  ExpectNear(fit.HalfGradient(a), {-0.05224514, -0.07215367}, 1e-7);
  ExpectNear(fit.Evaluate(b).bias, {-0.127500080819, -0.080977250399});
  ExpectNear(fit.Project(b).x, {-0.770552954852, -0.517802476250});
  ExpectNear(fit.Project(c).x, {-0.004330374340, -0.952212927472});
}

TEST(HalfGradient, EqualsFiniteDifferences) {
  const YxFitter fit = CircleFit(true);
  const auto squared = [&](double x, double y) {
    const std::vector<double> at = {x, y}, f = fit.Evaluate(at).bias;
    return f[0] * f[0] + f[1] * f[1];
  };
  const double h = 1e-6;
  const std::vector<double> x = {1.1, .2}, g = fit.HalfGradient(x);
  EXPECT_NEAR(g[0], (squared(x[0] + h, x[1]) - squared(x[0] - h, x[1])) / (4 * h), 1e-8);
  EXPECT_NEAR(g[1], (squared(x[0], x[1] + h) - squared(x[0], x[1] - h)) / (4 * h), 1e-8);
}

TEST(TwoStepContraction, WorkedNumbers) {
  const ContractionParams params{.r0 = .8, .r1 = .6, .r2 = .6};
  const std::vector<double> x = {1.2, .1};
  const Pull pull = TwoStepContraction(kC12, 2, x, params);
  ExpectNear(pull.mean, {0.991955589461, 0.075007662415});
  ExpectNear(pull.direction, {-0.992861582730, -0.119272283192});
  EXPECT_NEAR(pull.weights[0], 0.948875528987, kTight);
  EXPECT_NEAR(pull.weights[1], 0.128538994963, kTight);
  EXPECT_NEAR(pull.weights[11], 0.005732163237, kTight);
  ExpectNear(pull.x, {1.005334714906, 0.054448710172});
  ExpectNear(TwoStepContraction(kC12, 2, std::vector<double>{.5, .7}, params).x, {0.566883270230, 0.810640940278});
  ExpectNear(TwoStepContraction(kC12, 2, std::vector<double>{-.9, -.6}, params).x, {-0.786434050278, -0.510494845025});
}

TEST(TwoStepContraction, AnEmptyBallMovesNothing) {
  const std::vector<double> far = {50, 50};
  const Pull pull = TwoStepContraction(kC12, 2, far, {.r0 = .8, .r1 = .6, .r2 = .6});
  EXPECT_FALSE(pull.moved);
  EXPECT_EQ(pull.x, far);
}

TEST(ExtrapolatedMeanShift, WorkedNumbers) {
  const std::vector<double> x = {1.2, .1};
  ExpectNear(GaussianMean(kC12, 2, x, .3), {0.976622033934, 0.062863324542});
  ExpectNear(ExtrapolatedMeanShift(kC12, 2, x, .3, .05), {0.970417090433, 0.061831750224});
}

void Polygon(int corners, std::vector<double>& points, std::vector<double>& tangents) {
  for (int i = 0; i < corners; ++i) {
    const double angle = 2 * std::acos(-1.0) * i / corners;
    points.insert(points.end(), {std::cos(angle), std::sin(angle)});
    tangents.insert(tangents.end(), {-std::sin(angle), std::cos(angle)});
  }
}

TEST_P(BothForms, ExactOctagon) {
  std::vector<double> points, tangents;
  Polygon(8, points, tangents);
  auto fit = YxFitter::MakeWithTangents(points, 2, tangents, {.d = 1, .radius = 1, .beta = 3, .printed = GetParam(), .done = kConverged});
  ASSERT_TRUE(fit.ok()) << fit.status();
  const std::vector<double> x = {1.1, 0};
  const YxStep step = fit->Evaluate(x);
  ExpectNear(step.weights, {0.921566112061, 0.039216943970, 0.039216943970});
  EXPECT_NEAR(step.mean[0], 0.977027246097, kTight);
  EXPECT_NEAR(step.gap, 0.960783056030 - 0.039216943970, kTight);
  ExpectNear(step.bias, {0.122972753903, 0});
  ExpectNear(fit->Project(x).x, {0.957887967497, 0});
}

TEST_P(BothForms, ManyCornersFollowTheBiasFormulaAndRichardsonCancelsIt) {
  std::vector<double> points, tangents;
  Polygon(720, points, tangents);
  const std::vector<double> start = {1.05, 0};
  const auto radius = [&](double r) {
    auto fit = YxFitter::MakeWithTangents(points, 2, tangents, {.d = 1, .radius = r, .beta = 3, .printed = GetParam(), .done = kConverged});
    return fit->Project(start).x[0];
  };
  EXPECT_NEAR(radius(.4), 0.991005395677, kTight);
  EXPECT_NEAR(radius(.2), 0.997771272765, kTight);
  EXPECT_NEAR(radius(.4 * std::sqrt(2.0)), 0.981789344904, kTight);
  EXPECT_NEAR(2 * radius(.4) - radius(.4 * std::sqrt(2.0)), 1.000221446450, 2 * kTight);
}

TEST_P(BothForms, SamplesOfAPlaneProjectOrthogonallyInOneStep) {
  for (const double r : {.5, .9}) {
    for (const double beta : {2., 4.}) {
      std::vector<double> points;
      for (int i = 0; i < 12; ++i) {
        for (int j = 0; j < 12; ++j) {
          const double x = .1 * i - .2 + .013 * (j % 3), y = -.9 + .1 * j + .007 * (i % 4);
          points.insert(points.end(), {x, y, .2 * x - .1 * y + .3});
        }
      }
      auto fit = YxFitter::Make(points, 3, {.d = 2, .radius = r, .beta = beta, .printed = GetParam(), .done = kConverged});
      const std::vector<double> x = {.37, -.41, .9};
      const YxStep step = fit->Evaluate(x);
      ASSERT_GE(step.samples.size(), 3u);
      std::vector<double> moved(3);
      for (int k = 0; k < 3; ++k) moved[k] = x[k] - step.bias[k];
      ExpectNear(moved, {0.462380952381, -0.456190476190, 0.438095238095});
    }
  }
}

TEST(Dimension, WorkedNumbers) {
  const TwoNn two = TwoNnDimension({1.05, 1.1, 1.2, 1.25, 1.4, 1.5, 1.6, 2, 2.2, 3});
  EXPECT_NEAR(two.least_squares, 2.540866369971, kTight);
  EXPECT_NEAR(two.closed_form, 2.072909642108, kTight);
  const std::vector<double> near = {.1, .15, .2, .3, .4}, far = {.2, .25, .3, .32, .35};
  EXPECT_NEAR(MleDimension(near, 5), 1.194759949955, kTight);
  EXPECT_NEAR(MleDimension(far, 5), 3.509231013972, kTight);
  std::vector<double> both(near);
  both.insert(both.end(), far.begin(), far.end());
  EXPECT_NEAR(MleDimension(both, 5), 1.782609151585, kTight);
}

TEST(Dimension, DuplicatesAndEmptyInputHaveNoDimension) {
  EXPECT_TRUE(std::isnan(MleDimension(std::vector<double>{0, 1, 2}, 3)));
  EXPECT_TRUE(std::isnan(TwoNnDimension({}).least_squares));
}

}  // namespace
}  // namespace lectern::manifold
