// The worked examples: every number is one printed in the published formulas' micro-examples.
#include "attention/select.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "attention/select_reference.h"
#include "base/rng.h"

namespace lectern::attention {
namespace {

using ::testing::ElementsAre;
using ::testing::Pointwise;

constexpr int64_t kB = 4, kLength = 14;
const float kQueries[2 * 4] = {1, 0, -1, 2, 2, -1, 0, 1};

std::vector<float> Keys() {
  return {1, 0, -1, 2,   0, 1, 0, -1, 2, -1, 1, 0, -1, 0, 2, 1,  0, 2, 1, -1, 1, 1, -2, 0, -1, 2, 0, 1, 0, 0, 1, 1,
          3, -2, 0.5, 1, -2, 0, 1, -1, 1, 1, 1, 1, 0, -1, 2, 0,  -1, 1, 0, 2, 2, 0, 1, -1};
}

struct ExampleGate {
  std::vector<float> wq = std::vector<float>(2 * 4 * 4, 0), wk = std::vector<float>(3 * 4 * 4, 0), ones = {1, 1, 1, 1};
  float frequencies[2] = {1, 0.01f};
  Gate gate;
  ExampleGate(bool norm, bool rope) {
    for (int c = 0; c < 4; ++c) {
      wq[c * 4 + c] = 1;
      wq[16 + c * 4 + c] = 0.5f;
      wk[c * 4 + c] = 0.5f;
      wk[16 + c * 4 + c] = 0.25f;
      wk[32 + c * 4 + c] = 1;
    }
    gate = {.query_weights = wq.data(), .key_weights = wk.data(), .query_norm = norm ? ones.data() : nullptr,
            .key_norm = norm ? ones.data() : nullptr, .frequencies = rope ? frequencies : nullptr, .width = 4};
  }
};

MATCHER_P(IsNear, tolerance, "") { return std::abs(std::get<0>(arg) - std::get<1>(arg)) <= tolerance; }
#define EXPECT_VALUES(got, tolerance, ...) \
  EXPECT_THAT(got, Pointwise(IsNear(tolerance), (std::vector<double>{__VA_ARGS__})))

template <class Real>
class Worked : public ::testing::Test {};
using Reals = ::testing::Types<float, double>;
TYPED_TEST_SUITE(Worked, Reals);

TYPED_TEST(Worked, DescriptorsOfFourBlocks) {
  const std::vector<float> keys = Keys();
  const auto block = [&](int i) { return PoolBlock<TypeParam>(keys.data() + i * 16, std::min<int64_t>(4, kLength - 4 * i), 4); };
  EXPECT_THAT(block(0).min, ElementsAre(-1, -1, -1, -1));
  EXPECT_THAT(block(1).min, ElementsAre(-1, 0, -2, -1));
  EXPECT_THAT(block(2).min, ElementsAre(-2, -2, 0.5, -1));
  EXPECT_THAT(block(3).min, ElementsAre(-1, 0, 0, -1));
  EXPECT_THAT(block(0).max, ElementsAre(2, 1, 2, 2));
  EXPECT_THAT(block(1).max, ElementsAre(1, 2, 1, 1));
  EXPECT_THAT(block(2).max, ElementsAre(3, 1, 2, 1));
  EXPECT_THAT(block(3).max, ElementsAre(2, 1, 1, 2));
  EXPECT_THAT(block(0).mean, ElementsAre(.5, 0, .5, .5));
  EXPECT_THAT(block(1).mean, ElementsAre(0, 1.25, 0, .25));
  EXPECT_THAT(block(2).mean, ElementsAre(.5, -.5, 1.125, .25));
  EXPECT_THAT(block(3).mean, ElementsAre(.5, .5, .5, .5));
}

TYPED_TEST(Worked, QuestBoundsAndItsPagesPerHead) {
  const std::vector<float> keys = Keys();
  const auto head0 = QuestScores<TypeParam>(kQueries, keys.data(), 4, kLength, kB);
  const auto head1 = QuestScores<TypeParam>(kQueries + 4, keys.data(), 4, kLength, kB);
  EXPECT_THAT(head0, ElementsAre(7, 5, 4.5, 6));
  EXPECT_THAT(head1, ElementsAre(7, 3, 9, 6));
  const Selector quest{.kind = SelectorKind::kQuest, .block_tokens = kB, .budget_tokens = 12, .first_blocks = 0};
  EXPECT_THAT(ChooseBlocks<TypeParam>(quest, head0, kLength), ElementsAre(0, 1, 3));
  EXPECT_THAT(ChooseBlocks<TypeParam>(quest, head1, kLength), ElementsAre(0, 2, 3));
}

TYPED_TEST(Worked, ResaScoresAndSizes) {
  const std::vector<float> keys = Keys();
  const auto scores = ResaScores<TypeParam>(kQueries, 2, keys.data(), 4, kLength, kB);
  EXPECT_THAT(scores, ElementsAre(3.5, 2.0, 3.375, 3.0));
  const auto choose = [&](int64_t per_mille, int64_t n_min, int64_t n_local) {
    return ChooseBlocks<TypeParam>({.kind = SelectorKind::kResa, .mode = SelectMode::kRatio, .block_tokens = kB,
                                    .ratio_per_mille = per_mille, .min_blocks = n_min, .first_blocks = 0,
                                    .last_blocks = n_local}, scores, kLength);
  };
  EXPECT_THAT(choose(500, 1, 1), ElementsAre(0, 3));
  EXPECT_THAT(choose(100, 3, 1), ElementsAre(0, 2, 3));
  EXPECT_THAT(choose(100, 16, 1), ElementsAre(0, 1, 2, 3));
  EXPECT_THAT(choose(100, 1, 1), ElementsAre(3));
  EXPECT_THAT(choose(500, 2, 2), ElementsAre(2, 3));
}

TYPED_TEST(Worked, GateScoresInFiveSettings) {
  const std::vector<float> keys = Keys();
  const auto scores = [&](const ExampleGate& g) {
    return GateScores<TypeParam>(g.gate, 2, 4, kQueries, keys.data(), 0, kLength, kB);
  };
  const ExampleGate plain(false, false), both(true, true), no_norm(false, true), no_rope(true, false);
  EXPECT_THAT(GateQuery<TypeParam>(plain.gate, 2, 4, kQueries, 0, 13), ElementsAre(2, -0.5, -1, 2.5));
  const auto key = [&](const Gate& gate, int i, int64_t position) {
    return GateKey<TypeParam>(gate, 4, PoolBlock<TypeParam>(keys.data() + i * 16, 4, 4), 0, position);
  };
  EXPECT_THAT(key(plain.gate, 0, 0), ElementsAre(1.25, .25, 1.25, 1.25));
  EXPECT_THAT(key(plain.gate, 1, 4), ElementsAre(.25, 2.25, 0, .5));
  EXPECT_THAT(key(plain.gate, 2, 8), ElementsAre(1.5, -.5, 2.25, .5));
  const auto z = scores(both);
  EXPECT_VALUES(z, 1e-6, 1.494431, -0.192335, -0.842465);
  EXPECT_VALUES(Softmax<TypeParam>(z), 1e-6, .780187, .144426, .075387);
  const auto raw = scores(no_norm);
  EXPECT_VALUES(raw, 1e-6, 2.761289, -0.378039, -1.996347);
  EXPECT_VALUES(Softmax<TypeParam>(raw), 1e-6, .950663, .041175, .008162);
  EXPECT_VALUES(scores(no_rope), 1e-6, 1.150066, 0.158991, 0.474754);
  EXPECT_VALUES(GateQuery<TypeParam>(both.gate, 2, 4, kQueries, 0, 13), 1e-6, 1.318167, -0.483531, -0.039581, 1.423751);
  EXPECT_VALUES(key(both.gate, 2, 8), 1e-6, -1.749003, -0.385218, 0.827640, 0.328035);
  // Rotated at their last token, as the published decoder does, the order of the blocks turns over.
  const auto query = GateQuery<TypeParam>(both.gate, 2, 4, kQueries, 0, 13);
  std::vector<TypeParam> late;
  for (int i = 0; i < 3; ++i) {
    const auto e = key(both.gate, i, i * 4 + 3);
    late.push_back(std::inner_product(query.begin(), query.end(), e.begin(), TypeParam{0}) / 2);
  }
  EXPECT_VALUES(late, 1e-6, -0.061887, 0.046481, 1.405983);
  std::vector<TypeParam> with_zero = z;
  with_zero.push_back(0);
  EXPECT_VALUES(Softmax<TypeParam>(with_zero), 1e-6, .663957, .122910, .064156, .148976);
}

TYPED_TEST(Worked, GateChoices) {
  const std::vector<float> keys = Keys();
  const auto z = GateScores<TypeParam>(ExampleGate(true, true).gate, 2, 4, kQueries, keys.data(), 0, kLength, kB);
  const auto top = [&](int64_t k) {
    return ChooseBlocks<TypeParam>({.block_tokens = kB, .budget_tokens = k * kB, .count_forced = false}, z, kLength);
  };
  EXPECT_THAT(top(1), ElementsAre(0, 3));
  EXPECT_THAT(top(2), ElementsAre(0, 1, 3));
  const auto above = [&](float threshold, bool zero) {
    return ChooseBlocks<TypeParam>({.mode = SelectMode::kThreshold, .block_tokens = kB, .threshold = threshold,
                                    .gate_zero_placeholder = zero}, z, kLength);
  };
  EXPECT_THAT(above(0.14f, false), ElementsAre(0, 1, 3));
  EXPECT_THAT(above(0.14f, true), ElementsAre(0, 3));
  EXPECT_THAT(above(0.07f, false), ElementsAre(0, 1, 2, 3));
  EXPECT_THAT(above(0.07f, true), ElementsAre(0, 1, 3));
}

TYPED_TEST(Worked, OracleAndTheGatesTarget) {
  const std::vector<float> keys = Keys();
  const auto head0 = OracleScores<TypeParam>(kQueries, keys.data(), 4, kLength, kB, 0.5);
  const auto head1 = OracleScores<TypeParam>(kQueries + 4, keys.data(), 4, kLength, kB, 0.5);
  EXPECT_VALUES(head0, 1e-6, .414518, .092492, .195805, .092492);
  EXPECT_VALUES(head1, 1e-6, .098370, .013313, .726858, .036188);
  std::vector<double> target;
  for (int i = 0; i < 3; ++i) target.push_back(std::max(head0[i], head1[i]));
  const double sum = target[0] + target[1] + target[2];
  for (double& x : target) x /= sum;
  EXPECT_VALUES(target, 1e-6, .335950, .074961, .589089);
  const auto divergence = [&](bool norm) {
    const auto p = Softmax<TypeParam>(GateScores<TypeParam>(ExampleGate(norm, true).gate, 2, 4, kQueries, keys.data(), 0, kLength, kB));
    double kl = 0;
    for (int i = 0; i < 3; ++i) kl += target[i] * std::log(target[i] / p[i]);
    return kl;
  };
  EXPECT_NEAR(divergence(true), 0.878911, 1e-6);
  EXPECT_NEAR(divergence(false), 2.216202, 2e-6);
}

// A paged cache that holds the example: V[s] = ((s mod 3) - 1, (s mod 5) - 2).
struct ExampleCache {
  std::vector<float> k = std::vector<float>(64 * 4, NAN), v = std::vector<float>(64 * 2, NAN);
  int32_t page = 0, length = kLength;
  float out[4], lse[2];
  Problem problem{.q_heads = 2, .k_heads = 1, .v_heads = 1, .key_width = 4, .value_width = 2, .kv_type = DType::kF32,
                  .layout = BlockLayout::kRows};
  DecodeBatch step;
  ExampleCache() {
    const std::vector<float> keys = Keys();
    std::copy(keys.begin(), keys.end(), k.begin());
    for (int s = 0; s < kLength; ++s) v[s * 2] = static_cast<float>(s % 3 - 1), v[s * 2 + 1] = static_cast<float>(s % 5 - 2);
    const auto view = [](std::vector<float>& pool, int64_t width) {
      return KvView{.base = reinterpret_cast<std::byte*>(pool.data()), .heads = 1, .width = width, .page_stride = 64 * width,
                    .head_stride = 64 * width, .slot_stride = width, .layout = BlockLayout::kRows};
    };
    step = {.q = kQueries, .out = out, .lse = lse, .k = view(k, 4), .v = view(v, 2), .page_table = &page,
            .page_table_stride = 1, .lengths = &length, .batch = 1};
  }
  void Attend(std::vector<int32_t> ids) {
    int32_t count = static_cast<int32_t>(ids.size());
    const BlockIds blocks{.ids = ids.data(), .counts = &count, .capacity = count, .block_tokens = kB};
    ReferenceDecode(problem, {.mask = {MaskKind::kCausal}}, step, &blocks);
  }
};

TEST(WorkedAttention, OverThreeBlocksOverAllAndInTwoSplits) {
  ExampleCache c;
  c.Attend({0, 2, 3});
  EXPECT_VALUES(c.out, 1e-6, -0.339939, -0.877031, 0.792372, 0.608143);
  EXPECT_VALUES(c.lse, 1e-6, 3.700138, 4.788328);
  ReferenceDecode(c.problem, {.mask = {MaskKind::kCausal}}, c.step, nullptr);
  EXPECT_VALUES(c.out, 1e-6, -0.225333, -0.941990, 0.779930, 0.564936);
  EXPECT_VALUES(c.lse, 1e-6, 3.880638, 4.819024);
  c.Attend({0, 2});
  EXPECT_VALUES(std::span(c.out, 2), 1e-6, -0.262121, -1.020368);
  EXPECT_NEAR(c.lse[0], 3.565713, 1e-6);
  c.Attend({3});
  EXPECT_VALUES(std::span(c.out, 2), 1e-6, -0.880797, 0.119203);
  EXPECT_NEAR(c.lse[0], 1.626928, 1e-6);
  c.Attend({});
  EXPECT_VALUES(c.out, 0, 0, 0, 0, 0);
  EXPECT_EQ(c.lse[0], -INFINITY);
}

TEST(WorkedState, GateKeysAppearInTheStepThatClosesTheirBlock) {
  ExampleGate g(true, true);
  Problem problem{.q_heads = 2, .k_heads = 1, .v_heads = 1, .key_width = 4, .value_width = 4, .kv_type = DType::kF32,
                  .layout = BlockLayout::kRows};
  std::vector<float> k(64 * 4, NAN), v(64 * 4, NAN), gate_keys(16 * 4, NAN), min_max(16 * 8, NAN), pool(12, NAN), q(8), committed(12, NAN);
  int32_t page = 0, length = 0, commit = 1;
  const auto rows = [](std::vector<float>& p) {
    return KvView{.base = reinterpret_cast<std::byte*>(p.data()), .heads = 1, .width = 4, .page_stride = 256,
                  .head_stride = 256, .slot_stride = 4, .layout = BlockLayout::kRows};
  };
  std::vector<float> qkv(16, 0);
  AppendBatch step{.qkv = qkv.data(), .q = q.data(), .k = rows(k), .v = rows(v),
                   .min_max = {reinterpret_cast<std::byte*>(min_max.data()), DType::kF32, 4, 128, 128, 8},
                   .gate_keys = {reinterpret_cast<std::byte*>(gate_keys.data()), DType::kF32, 4, 64, 64, 4},
                   .gate = &g.gate, .pool = pool.data(), .committed_pool = committed.data(), .commit = &commit,
                   .page_table = &page, .page_table_stride = 1, .lengths = &length, .batch = 1};
  const AppendConfig config{.min_max_block_tokens = kB, .gate_block_tokens = kB};
  const std::vector<float> keys = Keys();
  for (int t = 0; t < kLength; ++t) {
    std::copy_n(keys.begin() + t * 4, 4, qkv.begin() + 8);
    length = t + 1;
    ReferenceAppend(problem, step, config);
    const int64_t complete = length / kB;
    for (int i = 0; i < 4; ++i) EXPECT_EQ(std::isnan(gate_keys[i * 4]), i >= complete) << "length " << length << " block " << i;
    EXPECT_EQ(committed, pool);
  }
  EXPECT_VALUES(std::span(gate_keys).subspan(8, 4), 1e-6, -1.749003, -0.385218, 0.827640, 0.328035);
  EXPECT_THAT(std::span(min_max).subspan(24, 8), ElementsAre(-1, 0, 0, -1, 2, 1, 1, 2));  // the open block too
  EXPECT_THAT(pool, ElementsAre(2, 1, 1, 2, -1, 0, 0, -1, 1, 1, 1, 1));
}

TEST(Select, SizesAreExactIntegers) {
  for (const auto& [per_mille, blocks, keep] : {std::tuple{150, 100, 15}, {300, 50, 15}, {50, 20000, 1000}, {100, 101, 11}, {200, 7, 2}}) {
    EXPECT_EQ(BlocksToKeep(ResaSelector(per_mille), blocks), std::max(keep, std::min(16, blocks)));
  }
  EXPECT_EQ(BlocksToKeep(QuestSelector(10, false), 1000), 3);
  EXPECT_EQ(BlockCapacity(SeerAttentionSelector(4096), 131072, 8), 66);
}

TEST(Select, TiesGoToTheLowerBlockAndListsAreAscending) {
  const std::vector<double> equal(100, 1.0);
  const Selector s{.block_tokens = 16, .budget_tokens = 16 * 7};
  EXPECT_THAT(ChooseBlocks<double>(s, equal, 1600), ElementsAre(0, 1, 2, 3, 4, 5, 99));
  Rng rng(3);
  for (int round = 0; round < 1000; ++round) {
    const int64_t length = 1 + rng.Below(4000);
    Selector any{.mode = static_cast<SelectMode>(rng.Below(3)), .block_tokens = 16, .budget_tokens = 16 * (1 + rng.Below(40)),
                 .ratio_per_mille = rng.Below(1001), .threshold = 0.01f, .first_blocks = rng.Below(3),
                 .last_blocks = rng.Below(3), .count_forced = rng.Below(2) == 0};
    std::vector<double> scores(length / 16);
    for (double& x : scores) x = static_cast<double>(rng.Below(20)) / 4;
    const auto chosen = ChooseBlocks<double>(any, scores, length);
    const int64_t blocks = NumBlocks(length, 16);
    for (size_t i = 1; i < chosen.size(); ++i) ASSERT_LT(chosen[i - 1], chosen[i]);
    ASSERT_LE(static_cast<int64_t>(chosen.size()), any.mode == SelectMode::kThreshold ? blocks : BlockCapacity(any, length, 1));
    for (int64_t i = 0; i < std::min(any.first_blocks, blocks); ++i) ASSERT_EQ(std::count(chosen.begin(), chosen.end(), i), 1);
    for (int64_t i = std::max<int64_t>(0, blocks - any.last_blocks); i < blocks; ++i) ASSERT_EQ(std::count(chosen.begin(), chosen.end(), i), 1);
  }
}

TEST(Select, NoKeyOfABlockExceedsItsBound) {
  Rng rng(5);
  for (int round = 0; round < 62500; ++round) {
    float keys[16 * 8], q[8];
    for (float& x : keys) x = static_cast<float>(rng.Normal());
    for (float& x : q) x = static_cast<float>(rng.Normal());
    const double bound = QuestScores<double>(q, keys, 8, 16, 16)[0];
    for (int t = 0; t < 16; ++t) {
      double dot = 0;
      for (int c = 0; c < 8; ++c) dot += static_cast<double>(q[c]) * keys[t * 8 + c];
      ASSERT_LE(dot, bound + 1e-5 * std::abs(bound));
    }
  }
}

TEST(Select, RefusesWhatMakesNoSense) {
  EXPECT_THAT(std::string(CheckSelector({.block_tokens = 48}).message()), ::testing::HasSubstr("48"));
  EXPECT_FALSE(CheckSelector({.budget_tokens = 10}).ok());
  EXPECT_FALSE(CheckSelector({.mode = SelectMode::kRatio, .ratio_per_mille = 1001}).ok());
  EXPECT_FALSE(CheckSelector({.kind = SelectorKind::kGate, .per_head = true}).ok());
  EXPECT_TRUE(CheckSelector(SeerAttentionSelector(4096)).ok());
  EXPECT_TRUE(CheckSelector(QuestSelector(2048, true)).ok());
  EXPECT_TRUE(CheckSelector(ResaSelector(100)).ok());
}

}  // namespace
}  // namespace lectern::attention
