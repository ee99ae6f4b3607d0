#include "service/eval/stats.h"

#include <gtest/gtest.h>

#include <cmath>

#include "base/rng.h"

namespace lectern::eval {
namespace {

TEST(Stats, BootstrapIntervalMatchesTheNormalOne) {
  Rng rng(3);
  std::vector<double> values(400);
  double mean = 0, square = 0;
  for (double& v : values) {
    v = rng.Normal();
    mean += v / 400;
  }
  for (double v : values) square += (v - mean) * (v - mean) / 399;
  const double half = 1.96 * std::sqrt(square / 400);
  const Interval interval = BootstrapMean(values);
  EXPECT_NEAR(interval.mean, mean, 1e-12);
  EXPECT_NEAR(interval.low, mean - half, 0.1 * half);
  EXPECT_NEAR(interval.high, mean + half, 0.1 * half);
}

TEST(Stats, ARealDifferenceIsSignificantAndNoiseIsNot) {
  Rng rng(4);
  std::vector<double> base(200), better(200), same(200);
  for (size_t i = 0; i < 200; ++i) {
    base[i] = rng.Uniform();
    better[i] = base[i] + 0.05 + 0.1 * rng.Normal();
    same[i] = base[i] + 0.1 * rng.Normal();
  }
  const PairedDifference real = ComparePaired(base, better);
  EXPECT_LT(real.p, 0.001);
  EXPECT_GT(real.difference.low, 0);
  const PairedDifference none = ComparePaired(base, same);
  EXPECT_GT(none.p, 0.05);
  EXPECT_EQ(none.wins + none.losses + none.ties, 200);
}

TEST(Stats, HolmMultipliesTheSmallestByTheCount) {
  const std::vector<double> p = {0.04, 0.01, 0.03};
  const std::vector<double> adjusted = HolmAdjust(p);
  EXPECT_DOUBLE_EQ(adjusted[1], 0.03);
  EXPECT_DOUBLE_EQ(adjusted[2], 0.06);
  EXPECT_DOUBLE_EQ(adjusted[0], 0.06);
}

}  // namespace
}  // namespace lectern::eval
