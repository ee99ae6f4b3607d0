#include "decoder/sampler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

namespace lectern::decoder {
namespace {

constexpr float kNever = -INFINITY;

TEST(Sampler, GreedyTakesTheGreatestAndTheLowestIdOnTies) {
  Sampler sampler({}, 5);
  EXPECT_EQ(*sampler.Next(std::vector<float>{1, 3, 2, 3, kNever}, 0), 1);
}

TEST(Sampler, TheSameSeedAndStepGiveTheSameToken) {
  const std::vector<float> logits = {0.1f, 0.2f, 0.3f, 0.4f, 0.5f};
  Sampler a({.temperature = 1, .seed = 9}, 5), b({.temperature = 1, .seed = 9}, 5);
  for (int64_t step = 0; step < 50; ++step) EXPECT_EQ(*a.Next(logits, step), *b.Next(logits, step));
}

TEST(Sampler, FrequenciesFollowTheSoftmaxAtTheTemperature) {
  const std::vector<float> logits = {0, std::log(2.0f), std::log(5.0f), kNever};
  Sampler sampler({.temperature = 2, .seed = 1}, 4);
  std::vector<int> count(4);
  constexpr int kDraws = 20000;
  for (int64_t step = 0; step < kDraws; ++step) ++count[*sampler.Next(logits, step)];
  const double total = 1 + std::sqrt(2.0) + std::sqrt(5.0);
  EXPECT_NEAR(count[0] / double{kDraws}, 1 / total, 0.015);
  EXPECT_NEAR(count[1] / double{kDraws}, std::sqrt(2.0) / total, 0.015);
  EXPECT_NEAR(count[2] / double{kDraws}, std::sqrt(5.0) / total, 0.015);
  EXPECT_EQ(count[3], 0);
}

TEST(Sampler, TopPKeepsTheSmallestSetThatReachesIt) {
  const std::vector<float> logits = {std::log(0.1f), std::log(0.4f), std::log(0.3f), std::log(0.2f)};
  Sampler sampler({.temperature = 1, .top_p = 0.6, .seed = 2}, 4);
  std::vector<int> count(4);
  for (int64_t step = 0; step < 5000; ++step) ++count[*sampler.Next(logits, step)];
  EXPECT_EQ(count[0], 0);
  EXPECT_EQ(count[3], 0);
  EXPECT_NEAR(count[1] / 5000.0, 0.4 / 0.7, 0.03);
}

TEST(Sampler, BadOptionsAndHopelessLogitsAreErrors) {
  EXPECT_FALSE(Sampler::Check({.temperature = -1}).ok());
  EXPECT_FALSE(Sampler::Check({.temperature = NAN}).ok());
  EXPECT_FALSE(Sampler::Check({.top_p = 0}).ok());
  EXPECT_FALSE(Sampler::Check({.top_p = 1.5}).ok());
  Sampler sampler({}, 2);
  EXPECT_EQ(sampler.Next(std::vector<float>{kNever, kNever}, 0).status().code(), absl::StatusCode::kInternal);
}

}  // namespace
}  // namespace lectern::decoder
