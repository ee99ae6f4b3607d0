#include "base/nn/rope.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/base/nn/quant_samples.h"

namespace lectern::nn {
namespace {

TEST(Rope, RotatesPairsOfBothFormsByPositionTimesFrequency) {
  const int64_t head_dim = 12, rotary_dim = 8, heads = 2, position = 37;
  const Rope rope({.rotary_dim = rotary_dim, .theta = 10000.0f});
  std::vector<float> cos(4), sin(4);
  rope.Angles(position, cos.data(), sin.data());
  const auto x = RandomFloats(heads * head_dim, 1);
  for (const RopeForm form : {RopeForm::kNeoX, RopeForm::kInterleaved}) {
    auto y = x;
    RotateHeads(y.data(), heads, head_dim, rotary_dim, cos.data(), sin.data(), form);
    for (int64_t h = 0; h < heads; ++h) {
      for (int64_t i = 0; i < 4; ++i) {
        const double angle = position * std::pow(10000.0, -2.0 * i / rotary_dim);
        const int64_t a = h * head_dim + (form == RopeForm::kNeoX ? i : 2 * i);
        const int64_t b = h * head_dim + (form == RopeForm::kNeoX ? i + 4 : 2 * i + 1);
        EXPECT_NEAR(y[a], x[a] * std::cos(angle) - x[b] * std::sin(angle), 1e-5);
        EXPECT_NEAR(y[b], x[b] * std::cos(angle) + x[a] * std::sin(angle), 1e-5);
      }
      for (int64_t i = rotary_dim; i < head_dim; ++i) EXPECT_EQ(y[h * head_dim + i], x[h * head_dim + i]);
    }
  }
}

TEST(Rope, LinearScalingAndDivisorsDivideFrequencies) {
  const Rope plain({.rotary_dim = 64});
  const Rope linear({.rotary_dim = 64, .scaling = RopeScaling::kLinear, .factor = 8.0f});
  std::vector<float> divisors(32, 1.0f);
  divisors[5] = 4.0f;
  const Rope divided({.rotary_dim = 64, .divisors = divisors});
  for (size_t i = 0; i < 32; ++i) {
    EXPECT_FLOAT_EQ(linear.frequencies()[i], plain.frequencies()[i] / 8);
    EXPECT_FLOAT_EQ(divided.frequencies()[i], plain.frequencies()[i] / (i == 5 ? 4 : 1));
  }
}

TEST(Rope, Llama3KeepsShortWavesAndSlowsLongOnes) {
  const RopeConfig config{.rotary_dim = 128, .theta = 500000.0f, .scaling = RopeScaling::kLlama3, .factor = 32.0f,
                          .low_frequency_factor = 1.0f, .high_frequency_factor = 4.0f, .original_context = 8192.0f};
  const Rope scaled(config), plain({.rotary_dim = 128, .theta = 500000.0f});
  int between = 0;
  for (size_t i = 0; i < 64; ++i) {
    const double wave = 2 * M_PI / plain.frequencies()[i], ratio = scaled.frequencies()[i] / plain.frequencies()[i];
    if (wave < 8192.0 / 4) {
      EXPECT_NEAR(ratio, 1.0, 1e-6);
    } else if (wave > 8192.0) {
      EXPECT_NEAR(ratio, 1.0 / 32, 1e-6);
    } else {
      const double smooth = (8192.0 / wave - 1) / 3;
      EXPECT_NEAR(ratio, (1 - smooth) / 32 + smooth, 1e-5);
      ++between;
    }
  }
  EXPECT_GT(between, 0);
}

}  // namespace
}  // namespace lectern::nn
