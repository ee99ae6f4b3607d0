// tests/attention/worked_examples.h: the published formulas' micro-examples: one cache, and every number printed for it.
//
//   EXPECT_NEAR(lse[0], worked::kDense.lse[0], worked::kPrinted);
//   for (const worked::Choice& c : worked::Choices()) EXPECT_EQ(Select(c.selector), c.blocks) << c.name;
//
// Shapes:  14 keys of width 4 in blocks of 4, one KV head of two query heads; values of width 2. The gate takes the same keys and
//          queries as un-rotated ones; the query stands at position 13.
// Threads: constants.
// Errors:  none.
// Cost:    none.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "attention/select.h"

namespace lectern::attention::worked {

inline constexpr int64_t kWidth = 4, kBlock = 4, kLength = 14, kGroup = 2;
inline constexpr double kPrinted = 1e-6;  // six digits behind the point, and fp32

inline constexpr std::array<float, kGroup * kWidth> kQueries = {1, 0, -1, 2, 2, -1, 0, 1};
inline constexpr std::array<float, kLength * kWidth> kKeys = {
    1, 0,  -1,  2, 0,  1, 0, -1, 2, -1, 1, 0, -1, 0,  2, 1,  //
    0, 2,  1,  -1, 1,  1, -2, 0, -1, 2, 0, 1, 0,  0,  1, 1,  //
    3, -2, 0.5, 1, -2, 0, 1, -1, 1, 1,  1, 1, 0,  -1, 2, 0,  //
    -1, 1, 0,   2, 2,  0, 1, -1};
inline constexpr float Value(int64_t token, int64_t column) {
  return static_cast<float>(column == 0 ? token % 3 - 1 : token % 5 - 2);
}
inline std::vector<float> Keys() { return {kKeys.begin(), kKeys.end()}; }

using Four = std::array<double, 4>;
using Three = std::array<double, 3>;

// Descriptors of the four blocks; the last one has two keys.
inline constexpr Four kMin[] = {{-1, -1, -1, -1}, {-1, 0, -2, -1}, {-2, -2, 0.5, -1}, {-1, 0, 0, -1}};
inline constexpr Four kMax[] = {{2, 1, 2, 2}, {1, 2, 1, 1}, {3, 1, 2, 1}, {2, 1, 1, 2}};
inline constexpr Four kMean[] = {{.5, 0, .5, .5}, {0, 1.25, 0, .25}, {.5, -.5, 1.125, .25}, {.5, .5, .5, .5}};

// Bounds of each query head, and the scores of their mean.
inline constexpr Four kQuest[] = {{7, 5, 4.5, 6}, {7, 3, 9, 6}};
inline constexpr Four kResa = {3.5, 2.0, 3.375, 3.0};

// The gate: query weights 1 and 1/2 times the identity, key weights 1/2 (maximum), 1/4 (minimum) and 1 (mean), norms of ones.
inline constexpr float kQueryWeights[] = {1, 0.5f}, kKeyWeights[] = {0.5f, 0.25f, 1}, kFrequencies[] = {1, 0.01f};
inline constexpr Four kProjectedQuery = {2, -0.5, -1, 2.5};
inline constexpr Four kProjectedKeys[] = {{1.25, .25, 1.25, 1.25}, {.25, 2.25, 0, .5}, {1.5, -.5, 2.25, .5}};
inline constexpr Four kGateQuery = {1.318167, -0.483531, -0.039581, 1.423751};    // norm and rotation
inline constexpr Four kLastGateKey = {-1.749003, -0.385218, 0.827640, 0.328035};  // of block 2
inline constexpr Three kScores = {1.494431, -0.192335, -0.842465}, kSoftmax = {.780187, .144426, .075387};
inline constexpr Three kNoNorm = {2.761289, -0.378039, -1.996347}, kNoNormSoftmax = {.950663, .041175, .008162};
inline constexpr Three kNoRotation = {1.150066, 0.158991, 0.474754};
inline constexpr Three kLate = {-0.061887, 0.046481, 1.405983};  // keys rotated at their block's last token: the order turns over
inline constexpr Four kSoftmaxWithZero = {.663957, .122910, .064156, .148976};  // the open block takes part with score 0

// Largest probability of a key in each block, by query head; the gate's target and its divergence, with and without norm.
inline constexpr Four kOracle[] = {{.414518, .092492, .195805, .092492}, {.098370, .013313, .726858, .036188}};
inline constexpr Three kTarget = {.335950, .074961, .589089};
inline constexpr double kDivergence = 0.878911, kNoNormDivergence = 2.216202;

// Outputs (head 0, head 1) and log-sum-exps. kFirst and kSecond are the two splits of kSparse, of head 0 alone.
struct Attended {
  std::vector<int32_t> blocks;  // empty: all
  std::array<double, 4> out;
  std::array<double, 2> lse;
  int heads = 2;
};
inline const Attended kDense{{}, {-0.225333, -0.941990, 0.779930, 0.564936}, {3.880638, 4.819024}};
inline const Attended kSparse{{0, 2, 3}, {-0.339939, -0.877031, 0.792372, 0.608143}, {3.700138, 4.788328}};
inline const Attended kFirst{{0, 2}, {-0.262121, -1.020368}, {3.565713}, 1};
inline const Attended kSecond{{3}, {-0.880797, 0.119203}, {1.626928}, 1};

// Two parts, (1, 2) with a log-sum-exp of exactly 0 and (3, -1) with ln 3, are (2.5, -0.25) with ln 4.
inline constexpr double kMerged[] = {2.5, -0.25, 1.386294};

struct Choice {
  const char* name;
  Selector selector;
  std::vector<int32_t> blocks;
  bool late = false;  // over gate keys that were rotated at their block's last token
};
inline std::vector<Choice> Choices() {
  const auto quest = [](bool per_head) {
    return Selector{.kind = SelectorKind::kQuest, .block_tokens = kBlock, .budget_tokens = 3 * kBlock, .first_blocks = 0, .per_head = per_head};
  };
  const auto resa = [](int64_t per_mille, int64_t n_min, int64_t n_local) {
    return Selector{.kind = SelectorKind::kResa, .mode = SelectMode::kRatio, .block_tokens = kBlock, .ratio_per_mille = per_mille,
                    .min_blocks = n_min, .first_blocks = 0, .last_blocks = n_local};
  };
  const auto top = [](int64_t k) { return Selector{.block_tokens = kBlock, .budget_tokens = k * kBlock, .count_forced = false}; };
  const auto above = [](float threshold, bool zero) {
    return Selector{.mode = SelectMode::kThreshold, .block_tokens = kBlock, .threshold = threshold, .gate_zero_placeholder = zero};
  };
  const auto best = [](SelectorKind kind, int64_t k) {
    return Selector{.kind = kind, .block_tokens = kBlock, .budget_tokens = k * kBlock, .first_blocks = 0, .last_blocks = 0};
  };
  return {{"Quest, {0,1,3} and {0,2,3}", quest(true), {0, 1, 2, 3}},
          {"Quest, the largest of 7 5 9 6 beside the last", quest(false), {0, 2, 3}},
          {"ReSA 0.5 1 1", resa(500, 1, 1), {0, 3}},
          {"ReSA 0.1 3 1", resa(100, 3, 1), {0, 2, 3}},
          {"ReSA 0.1 16 1", resa(100, 16, 1), {0, 1, 2, 3}},
          {"ReSA 0.1 1 1", resa(100, 1, 1), {3}},
          {"ReSA 0.5 2 2", resa(500, 2, 2), {2, 3}},
          {"gate, the best and the forced", top(1), {0, 3}},
          {"gate, the best two and the forced", top(2), {0, 1, 3}},
          {"gate above 0.14", above(0.14f, false), {0, 1, 3}},
          {"gate above 0.14, with zero", above(0.14f, true), {0, 3}},
          {"gate above 0.07", above(0.07f, false), {0, 1, 2, 3}},
          {"gate above 0.07, with zero", above(0.07f, true), {0, 1, 3}},
          {"gate, the best alone", best(SelectorKind::kGate, 1), {0}},
          {"gate, the best alone, late", best(SelectorKind::kGate, 1), {2}, true},
          {"oracle, the best", best(SelectorKind::kOracle, 1), {2}},
          {"oracle, the best two", best(SelectorKind::kOracle, 2), {0, 2}}};
}

}  // namespace lectern::attention::worked
