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
#include "tests/attention/worked_examples.h"

namespace lectern::attention {
namespace {

using ::testing::ElementsAre;
using ::testing::Pointwise;

using worked::kPrinted;
constexpr int64_t kB = worked::kBlock, kLength = worked::kLength;
const float* const kQueries = worked::kQueries.data();
using worked::Keys;

struct ExampleGate {
  std::vector<float> wq = std::vector<float>(2 * 4 * 4, 0), wk = std::vector<float>(3 * 4 * 4, 0), ones = {1, 1, 1, 1};
  Gate gate;
  ExampleGate(bool norm, bool rope) {
    for (int c = 0; c < 4; ++c) {
      for (int part = 0; part < 2; ++part) wq[part * 16 + c * 4 + c] = worked::kQueryWeights[part];
      for (int part = 0; part < 3; ++part) wk[part * 16 + c * 4 + c] = worked::kKeyWeights[part];
    }
    gate = {.query_weights = wq.data(), .key_weights = wk.data(), .query_norm = norm ? ones.data() : nullptr,
            .key_norm = norm ? ones.data() : nullptr, .frequencies = rope ? worked::kFrequencies : nullptr, .width = 4};
  }
};

MATCHER_P(IsNear, tolerance, "") { return std::abs(std::get<0>(arg) - std::get<1>(arg)) <= tolerance; }
#define EXPECT_VALUES(got, want) EXPECT_THAT(got, Pointwise(IsNear(kPrinted), want))
#define EXPECT_EXACTLY(got, want) EXPECT_THAT(got, Pointwise(::testing::Eq(), want))

template <class Real>
class Worked : public ::testing::Test {};
using Reals = ::testing::Types<float, double>;
TYPED_TEST_SUITE(Worked, Reals);

TYPED_TEST(Worked, DescriptorsOfFourBlocks) {
  const std::vector<float> keys = Keys();
  const auto block = [&](int i) { return PoolBlock<TypeParam>(keys.data() + i * 16, std::min<int64_t>(4, kLength - 4 * i), 4); };
  for (int i = 0; i < 4; ++i) {
    EXPECT_EXACTLY(block(i).min, worked::kMin[i]);
    EXPECT_EXACTLY(block(i).max, worked::kMax[i]);
    EXPECT_EXACTLY(block(i).mean, worked::kMean[i]);
  }
}

TYPED_TEST(Worked, BoundsAndTheirLists) {
  const std::vector<float> keys = Keys();
  for (int h = 0; h < 2; ++h) {
    EXPECT_EXACTLY(QuestScores<TypeParam>(kQueries + 4 * h, keys.data(), 4, kLength, kB), worked::kQuest[h]);
  }
  EXPECT_EXACTLY(ResaScores<TypeParam>(kQueries, 2, keys.data(), 4, kLength, kB), worked::kResa);
  const Selector quest{.kind = SelectorKind::kQuest, .block_tokens = kB, .budget_tokens = 12, .first_blocks = 0};
  const auto pages = [&](int h) {
    return ChooseBlocks<TypeParam>(quest, QuestScores<TypeParam>(kQueries + 4 * h, keys.data(), 4, kLength, kB), kLength);
  };
  EXPECT_THAT(pages(0), ElementsAre(0, 1, 3));
  EXPECT_THAT(pages(1), ElementsAre(0, 2, 3));
}

TYPED_TEST(Worked, GateScoresInFiveSettings) {
  const std::vector<float> keys = Keys();
  const auto scores = [&](const ExampleGate& g) {
    return GateScores<TypeParam>(g.gate, 2, 4, kQueries, keys.data(), 0, kLength, kB);
  };
  const ExampleGate plain(false, false), both(true, true), no_norm(false, true), no_rope(true, false);
  EXPECT_EXACTLY(GateQuery<TypeParam>(plain.gate, 2, 4, kQueries, 0, 13), worked::kProjectedQuery);
  const auto key = [&](const Gate& gate, int i, int64_t position) {
    return GateKey<TypeParam>(gate, 4, PoolBlock<TypeParam>(keys.data() + i * 16, 4, 4), 0, position);
  };
  for (int i = 0; i < 3; ++i) EXPECT_EXACTLY(key(plain.gate, i, i * 4), worked::kProjectedKeys[i]);
  const auto z = scores(both);
  EXPECT_VALUES(z, worked::kScores);
  EXPECT_VALUES(Softmax<TypeParam>(z), worked::kSoftmax);
  const auto raw = scores(no_norm);
  EXPECT_VALUES(raw, worked::kNoNorm);
  EXPECT_VALUES(Softmax<TypeParam>(raw), worked::kNoNormSoftmax);
  EXPECT_VALUES(scores(no_rope), worked::kNoRotation);
  EXPECT_VALUES(GateQuery<TypeParam>(both.gate, 2, 4, kQueries, 0, 13), worked::kGateQuery);
  EXPECT_VALUES(key(both.gate, 2, 8), worked::kLastGateKey);
  // Rotated at their last token, as the published decoder does, the order of the blocks turns over.
  const auto query = GateQuery<TypeParam>(both.gate, 2, 4, kQueries, 0, 13);
  std::vector<TypeParam> late;
  for (int i = 0; i < 3; ++i) {
    const auto e = key(both.gate, i, i * 4 + 3);
    late.push_back(std::inner_product(query.begin(), query.end(), e.begin(), TypeParam{0}) / 2);
  }
  EXPECT_VALUES(late, worked::kLate);
  std::vector<TypeParam> with_zero = z;
  with_zero.push_back(0);
  EXPECT_VALUES(Softmax<TypeParam>(with_zero), worked::kSoftmaxWithZero);
}

// Each score of the examples, and the larger one where two heads share a choice.
TYPED_TEST(Worked, Choices) {
  const std::vector<float> keys = Keys();
  const auto largest = [](std::vector<TypeParam> a, const std::vector<TypeParam>& b) {
    for (size_t i = 0; i < a.size(); ++i) a[i] = std::max(a[i], b[i]);
    return a;
  };
  for (const worked::Choice& c : worked::Choices()) {
    std::vector<TypeParam> scores;
    if (c.selector.per_head || c.late) continue;  // a union of two lists, and keys rotated elsewhere: above
    switch (c.selector.kind) {
      case SelectorKind::kGate: scores = GateScores<TypeParam>(ExampleGate(true, true).gate, 2, 4, kQueries, keys.data(), 0, kLength, kB); break;
      case SelectorKind::kQuest:
        scores = largest(QuestScores<TypeParam>(kQueries, keys.data(), 4, kLength, kB), QuestScores<TypeParam>(kQueries + 4, keys.data(), 4, kLength, kB));
        break;
      case SelectorKind::kResa: scores = ResaScores<TypeParam>(kQueries, 2, keys.data(), 4, kLength, kB); break;
      case SelectorKind::kOracle:
        scores = largest(OracleScores<TypeParam>(kQueries, keys.data(), 4, kLength, kB, 0.5), OracleScores<TypeParam>(kQueries + 4, keys.data(), 4, kLength, kB, 0.5));
        break;
    }
    EXPECT_EQ(ChooseBlocks<TypeParam>(c.selector, scores, kLength), c.blocks) << c.name;
  }
}

TYPED_TEST(Worked, OracleAndTheGatesTarget) {
  const std::vector<float> keys = Keys();
  const auto head0 = OracleScores<TypeParam>(kQueries, keys.data(), 4, kLength, kB, 0.5);
  const auto head1 = OracleScores<TypeParam>(kQueries + 4, keys.data(), 4, kLength, kB, 0.5);
  EXPECT_VALUES(head0, worked::kOracle[0]);
  EXPECT_VALUES(head1, worked::kOracle[1]);
  std::vector<double> target;
  for (int i = 0; i < 3; ++i) target.push_back(std::max(head0[i], head1[i]));
  const double sum = target[0] + target[1] + target[2];
  for (double& x : target) x /= sum;
  EXPECT_VALUES(target, worked::kTarget);
  const auto divergence = [&](bool norm) {
    const auto p = Softmax<TypeParam>(GateScores<TypeParam>(ExampleGate(norm, true).gate, 2, 4, kQueries, keys.data(), 0, kLength, kB));
    double kl = 0;
    for (int i = 0; i < 3; ++i) kl += target[i] * std::log(target[i] / p[i]);
    return kl;
  };
  EXPECT_NEAR(divergence(true), worked::kDivergence, kPrinted);
  EXPECT_NEAR(divergence(false), worked::kNoNormDivergence, 2 * kPrinted);
}

// A paged cache that holds the example.
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
    for (int s = 0; s < kLength; ++s) v[s * 2] = worked::Value(s, 0), v[s * 2 + 1] = worked::Value(s, 1);
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
  for (const worked::Attended* want : {&worked::kSparse, &worked::kDense, &worked::kFirst, &worked::kSecond}) {
    if (want->blocks.empty()) {
      ReferenceDecode(c.problem, {.mask = {MaskKind::kCausal}}, c.step, nullptr);
    } else {
      c.Attend(want->blocks);
    }
    for (int h = 0; h < want->heads; ++h) {
      for (int i = 0; i < 2; ++i) EXPECT_NEAR(c.out[h * 2 + i], want->out[h * 2 + i], kPrinted);
      EXPECT_NEAR(c.lse[h], want->lse[h], kPrinted);
    }
  }
  c.Attend({});
  EXPECT_THAT(c.out, ElementsAre(0, 0, 0, 0));
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
  EXPECT_VALUES(std::span(gate_keys).subspan(8, 4), worked::kLastGateKey);
  EXPECT_EXACTLY(std::span(min_max).subspan(24, 4), worked::kMin[3]);  // the open block too
  EXPECT_EXACTLY(std::span(min_max).subspan(28, 4), worked::kMax[3]);
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
