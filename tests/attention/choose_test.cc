// The device's choice among block scores, run on the host.
#include "tests/attention/simt/simt.h"

#include "attention/cuda/choose.cuh"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "base/rng.h"

namespace lectern::attention {
namespace {

enum class Scores { kNormal, kTies, kOneFarAway, kDriftInThrees, kAllAlike, kTwoScales, kThreeOnTop, kExponential };

std::string NameOf(const ::testing::TestParamInfo<Scores>& of) {
  static const char* const kNames[] = {"Normal", "Ties", "OneFarAway", "DriftInThrees", "AllAlike", "TwoScales", "ThreeOnTop", "Exponential"};
  return kNames[static_cast<int>(of.param)];
}

std::vector<float> Draw(Scores kind, int n, Rng& rng) {
  std::vector<float> x(n);
  for (int i = 0; i < n; ++i) {
    const float normal = static_cast<float>(rng.Normal());
    switch (kind) {
      case Scores::kNormal: x[i] = normal; break;
      case Scores::kTies: x[i] = std::floor(3 * normal) / 3; break;
      case Scores::kOneFarAway: x[i] = i == n / 2 ? 1e4f : normal; break;
      case Scores::kDriftInThrees: x[i] = 0.01f * static_cast<float>(i / 3) + 0.0002f * std::floor(50 * normal); break;
      case Scores::kAllAlike: x[i] = 1.5f; break;
      case Scores::kTwoScales: x[i] = normal * (i % 7 == 0 ? 1e-6f : 1e6f); break;
      case Scores::kThreeOnTop: x[i] = i < 3 ? 100.0f : 1e-3f * normal; break;
      case Scores::kExponential: x[i] = -std::exp(6 * normal); break;
    }
  }
  return x;
}

struct Row {
  std::vector<unsigned> keys;
  SelectParams params{};
  int blocks, scored;
};

// The best of the candidates by a stable sort, and what is forced.
std::vector<int> Truth(const Row& row) {
  const SelectParams& p = row.params;
  std::vector<char> in(row.blocks);
  int forced = 0;
  for (int i = 0; i < row.blocks; ++i) in[i] = i < p.first_blocks || i >= row.blocks - p.last_blocks, forced += in[i];
  std::vector<int> candidates;
  for (int i = 0; i < row.scored; ++i) {
    if (!p.count_forced || !in[i]) candidates.push_back(i);
  }
  std::stable_sort(candidates.begin(), candidates.end(), [&](int a, int b) { return row.keys[a] > row.keys[b]; });
  const int keep = p.mode == 0 ? p.budget_blocks : max(min(p.min_blocks, row.blocks), (p.ratio_per_mille * row.blocks + 999) / 1000);
  const int need = max(0, keep - (p.count_forced ? forced : 0));
  for (int i = 0; i < min(need, static_cast<int>(candidates.size())); ++i) in[candidates[i]] = 1;
  std::vector<int> list;
  for (int i = 0; i < row.blocks; ++i) {
    if (in[i]) list.push_back(i);
  }
  return list;
}

template <int kWarps>
std::vector<int> Chosen(const Row& row, unsigned seed) {
  std::vector<uint2> ends(2 * kWarps, make_uint2(~0u, 0u));  // of two CTAs' warps
  for (int i = 0; i < row.scored; ++i) {
    uint2& end = ends[i % ends.size()];
    end = make_uint2(min(end.x, row.keys[i]), max(end.y, row.keys[i]));
  }
  std::vector<unsigned> keys = row.keys;
  alignas(16) static int hist[kDigits];
  static int scratch[kSelectScratch];
  std::fill_n(hist, kDigits, -99);  // as shared memory: anything
  std::fill_n(scratch, kSelectScratch, -99);
  std::vector<int> ids(row.params.capacity, -7);
  int count = -7;
  simt::RunBlock(kWarps * 32, seed, [&] {
    Chooser<kWarps>::Clear(hist, scratch);
    __syncthreads();
    Chooser<kWarps> chooser{row.params, keys.data(), ends.data(), static_cast<int>(ends.size()), hist, scratch, row.blocks, row.scored};
    chooser.List(ids.data(), &count);
  });
  if (count < 0) return {count};
  for (int i = count; i < row.params.capacity; ++i) EXPECT_EQ(ids[i], -1);
  ids.resize(count);
  return ids;
}

class Choose : public ::testing::TestWithParam<Scores> {
  void SetUp() override {
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
    GTEST_SKIP() << "sanitizers do not follow fibres";
#endif
  }
};

TEST_P(Choose, IsAStableSortsWhateverTheScores) {
  Rng rng(7 + static_cast<uint64_t>(GetParam()));
  // Each way of choosing and the sizes at which it gives way to the next, for 8 and 16 warps.
  for (const int blocks : {2, 33, 127, 128, 129, 255, 256, 257, 512, 1000, 2048, 2049, 4096, 4097, 5000}) {
    for (int round = 0; round < (blocks > 1000 ? 2 : 4); ++round) {
      Row row{.blocks = blocks, .scored = blocks - static_cast<int>(rng.Below(2))};
      for (const float x : Draw(GetParam(), blocks, rng)) row.keys.push_back(OrderedKey(x));
      row.params = {.capacity = blocks, .mode = round % 2, .budget_blocks = static_cast<int>(rng.Below(blocks + 1)), .ratio_per_mille = round < 2 ? 100 : static_cast<int>(1 + rng.Below(999)),
                    .min_blocks = static_cast<int>(rng.Below(4)), .first_blocks = static_cast<int>(rng.Below(3)), .last_blocks = static_cast<int>(1 + rng.Below(2)),
                    .count_forced = static_cast<int>(rng.Below(2))};
      std::vector<int> want = Truth(row);
      if (static_cast<int>(want.size()) == blocks) want = {-1};
      const unsigned seed = static_cast<unsigned>(rng.Below(1 << 30));
      ASSERT_EQ(round % 2 == 0 ? Chosen<8>(row, seed) : Chosen<16>(row, seed), want)
          << blocks << " blocks, " << row.scored << " scored, mode " << row.params.mode << ", budget " << row.params.budget_blocks << ", per mille " << row.params.ratio_per_mille << ", forced "
          << row.params.first_blocks << " and " << row.params.last_blocks << (row.params.count_forced ? ", counted" : "");
    }
  }
}

TEST_P(Choose, ThresholdsKeepWhatIsAbove) {
  Rng rng(70 + static_cast<uint64_t>(GetParam()));
  for (const int blocks : {2, 130, 700, 3000}) {
    Row row{.blocks = blocks, .scored = blocks};
    const std::vector<float> scores = Draw(GetParam(), blocks, rng);
    for (const float x : scores) row.keys.push_back(OrderedKey(x));
    row.params = {.capacity = blocks, .mode = 2, .last_blocks = 1, .threshold = 1.5f / static_cast<float>(blocks)};
    const double peak = *std::max_element(scores.begin(), scores.end());
    double sum = 0;
    for (const float x : scores) sum += std::exp(x - peak);
    std::vector<int> want, near;
    for (int i = 0; i < blocks; ++i) {
      const double share = std::exp(scores[i] - peak) / sum / row.params.threshold;
      if (std::abs(share - 1) < 1e-4) near.push_back(i);
      if (i == blocks - 1 || share > 1) want.push_back(i);
    }
    if (!near.empty()) continue;  // float32 may see it on either side
    if (static_cast<int>(want.size()) == blocks) want = {-1};
    EXPECT_EQ(Chosen<8>(row, 5), want) << blocks << " blocks";
  }
}

INSTANTIATE_TEST_SUITE_P(Scores, Choose, ::testing::Values(Scores::kNormal, Scores::kTies, Scores::kOneFarAway, Scores::kDriftInThrees, Scores::kAllAlike, Scores::kTwoScales,
                                                           Scores::kThreeOnTop, Scores::kExponential),
                         NameOf);

}  // namespace
}  // namespace lectern::attention
