#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>

#include "base/cpu_target.h"
#include "base/nn/activations.h"
#include "base/nn/norm.h"
#include "tests/base/nn/quant_samples.h"

namespace lectern::nn {
namespace {

void ForEachTarget(const std::function<void()>& body) {
  const CpuTarget before = ActiveCpuTarget();
  for (CpuTarget target : SupportedCpuTargets()) {
    SCOPED_TRACE(CpuTargetName(target));
    SetCpuTargetForTest(target);
    body();
  }
  SetCpuTargetForTest(before);
}

TEST(Norms, MatchTheFp64Formula) {
  ForEachTarget([] {
    for (int64_t dim : {1, 15, 16, 33, 384, 899}) {
      const int64_t tokens = 3;
      const auto x = RandomFloats(tokens * dim, 1), weight = RandomFloats(dim, 2), bias = RandomFloats(dim, 3);
      std::vector<float> rms(x.size()), layer(x.size()), plain = x;
      RmsNorm(x.data(), tokens, dim, weight.data(), 1e-6f, rms.data());
      LayerNorm(x.data(), tokens, dim, weight.data(), bias.data(), 1e-5f, layer.data());
      RmsNorm(plain.data(), tokens, dim, nullptr, 1e-6f, plain.data());  // in place
      for (int64_t t = 0; t < tokens; ++t) {
        double sum = 0, square = 0;
        for (int64_t i = 0; i < dim; ++i) sum += x[t * dim + i], square += double{x[t * dim + i]} * x[t * dim + i];
        const double mean = sum / dim;
        double variance = 0;
        for (int64_t i = 0; i < dim; ++i) variance += (x[t * dim + i] - mean) * (x[t * dim + i] - mean);
        const double rms_scale = 1 / std::sqrt(square / dim + 1e-6), scale = 1 / std::sqrt(variance / dim + 1e-5);
        for (int64_t i = 0; i < dim; ++i) {
          const double v = x[t * dim + i];
          EXPECT_NEAR(rms[t * dim + i], v * rms_scale * weight[i], 3e-6);
          EXPECT_NEAR(plain[t * dim + i], v * rms_scale, 3e-6);
          EXPECT_NEAR(layer[t * dim + i], (v - mean) * scale * weight[i] + bias[i], 5e-6);
        }
      }
    }
  });
}

TEST(Activations, MatchTheFp64Functions) {
  ForEachTarget([] {
    std::vector<float> x, up;
    for (float v = -30; v < 30; v += 0.0137f) x.push_back(v);
    for (float v : {0.0f, -0.0f, 1e-30f, -100.0f, 100.0f, 1e30f, -1e30f}) x.push_back(v);
    up = RandomFloats(static_cast<int64_t>(x.size()), 1);
    const auto n = static_cast<int64_t>(x.size());
    std::vector<float> silu(x.size()), erf(x.size()), tanh(x.size()), tanh_mul(x.size()), sum(x.size());
    SiluMul(x.data(), up.data(), n, silu.data());
    GeluErf(x.data(), n, erf.data());
    GeluTanh(x.data(), n, tanh.data());
    GeluTanhMul(x.data(), up.data(), n, tanh_mul.data());
    Add(x.data(), up.data(), n, sum.data());
    for (size_t i = 0; i < x.size(); ++i) {
      const double v = x[i], size = std::abs(v);
      const double gelu = 0.5 * v * (1 + std::tanh(0.7978845608028654 * (v + 0.044715 * v * v * v)));
      const double tolerance = 5e-7 * std::max(1.0, size);
      EXPECT_NEAR(silu[i], v / (1 + std::exp(-v)) * up[i], tolerance * std::max(1.0f, std::abs(up[i]))) << v;
      EXPECT_NEAR(erf[i], 0.5 * v * (1 + std::erf(v / std::sqrt(2.0))), tolerance) << v;
      EXPECT_NEAR(tanh[i], gelu, tolerance) << v;
      EXPECT_NEAR(tanh_mul[i], gelu * up[i], tolerance * std::max(1.0f, std::abs(up[i]))) << v;
      EXPECT_EQ(sum[i], x[i] + up[i]);
    }
  });
}

TEST(Softmax, SumsToOneAndIsZeroWhereMasked) {
  static constexpr float kMasked = -std::numeric_limits<float>::infinity();
  ForEachTarget([] {
    for (int64_t n : {1, 2, 16, 17, 100, 4097}) {
      auto x = RandomFloats(n, 5);
      for (float& v : x) v *= 10;
      if (n > 2) x[1] = kMasked;
      const auto scores = x;
      Softmax(x.data(), n);
      double peak = -1e300, total = 0;
      for (float v : scores) peak = std::max(peak, double{v});
      for (float v : scores) total += std::exp(v - peak);
      for (int64_t i = 0; i < n; ++i) EXPECT_NEAR(x[i], std::exp(scores[i] - peak) / total, 1e-6);
      if (n > 2) {
        EXPECT_EQ(x[1], 0.0f);
      }
    }
    std::vector<float> masked(20, kMasked);
    Softmax(masked.data(), 20);
    EXPECT_EQ(masked, std::vector<float>(20, 0.0f));
    Softmax(nullptr, 0);
  });
}

TEST(ArgMax, TakesTheLowestOfEqualsAndNeverNaN) {
  ForEachTarget([] {
    const float nan = std::nanf(""), never = -std::numeric_limits<float>::infinity();
    EXPECT_EQ(ArgMax(std::vector<float>{1, 3, 2, 3}.data(), 4), 1);
    EXPECT_EQ(ArgMax(std::vector<float>{nan, -1, nan, 5}.data(), 4), 3);
    EXPECT_EQ(ArgMax(std::vector<float>{nan}.data(), 1), -1);
    EXPECT_EQ(ArgMax(std::vector<float>{nan, never, never}.data(), 3), 1);
    EXPECT_EQ(ArgMax(nullptr, 0), -1);
    auto many = RandomFloats(1000, 9);
    for (const int64_t at : {999, 998, 640, 64, 63, 16, 0}) {
      many[at] = 100;
      many[at / 2 + 400] = nan;
      EXPECT_EQ(ArgMax(many.data(), 1000), at);
    }
  });
}

TEST(LogSumExp, IsThatOfDouble) {
  ForEachTarget([] {
    const float never = -std::numeric_limits<float>::infinity();
    std::vector<float> x = {3, -2, 0.5f, 88, 87, never};
    for (const float v : RandomFloats(301, 4)) x.push_back(80 + 3 * v);
    double sum = 0;
    for (float v : x) sum += std::exp(static_cast<double>(v) - 88);
    EXPECT_NEAR(LogSumExp(x.data(), static_cast<int64_t>(x.size())), 88 + std::log(sum), 1e-5);
    EXPECT_EQ(LogSumExp(&never, 1), never);
    EXPECT_EQ(LogSumExp(nullptr, 0), never);
  });
}

}  // namespace
}  // namespace lectern::nn
