#include "index/fusion.h"

#include <gtest/gtest.h>

#include <cmath>

namespace lectern::index {
namespace {

RankedList List(const char* name, double weight, std::vector<std::pair<uint32_t, double>> hits) {
  RankedList list{name, weight, {}};
  for (const auto& [chunk, score] : hits) list.hits.push_back({{0, chunk}, score});
  return list;
}

TEST(Fusion, KeepsTheScoresOfASingleList) {
  const auto fused = Fuse({List("bm25", 0.3, {{4, 9}, {2, 7}})}, {FusionMethod::kRrf}, ChunkOrder());
  ASSERT_EQ(fused.size(), 2u);
  EXPECT_EQ(fused[0].place.chunk, 4u);
  EXPECT_EQ(fused[0].score, 9);
  EXPECT_EQ(fused[1].parts[0].rank, 2);
}

TEST(Fusion, AddsReciprocalRanks) {
  const auto fused = Fuse({List("a", 1, {{1, 9}, {2, 7}}), List("b", 2, {{2, .9}, {3, .5}})},
                          {FusionMethod::kRrf, 60}, ChunkOrder());
  ASSERT_EQ(fused.size(), 3u);
  EXPECT_EQ(fused[0].place.chunk, 2u);
  EXPECT_DOUBLE_EQ(fused[0].score, 1.0 / 62 + 2.0 / 61);
  EXPECT_EQ(fused[1].place.chunk, 3u);
  EXPECT_DOUBLE_EQ(fused[1].score, 2.0 / 62);
  EXPECT_EQ(fused[1].parts[0].rank, 0);
  EXPECT_DOUBLE_EQ(fused[2].score, 1.0 / 61);
}

TEST(Fusion, AddsRelativeScores) {
  const auto fused = Fuse({List("a", 1, {{1, 10}, {2, 8}, {3, 2}}), List("b", 1, {{3, 4}, {1, 2}})},
                          {FusionMethod::kRelativeScore}, ChunkOrder());
  EXPECT_EQ(fused[0].place.chunk, 1u);      // 1 + 0 and 0 + 1: the tie goes to the lower chunk
  EXPECT_DOUBLE_EQ(fused[0].score, 1);
  EXPECT_EQ(fused[1].place.chunk, 3u);
  EXPECT_DOUBLE_EQ(fused[1].score, 1);
  EXPECT_DOUBLE_EQ(fused[2].score, 0.75);
}

TEST(Fusion, AddsStandardScoresAndGivesTheLowestToWhatAListLacks) {
  const auto fused = Fuse({List("a", 2, {{1, 3}, {2, 1}}), List("b", 1, {{1, 5}, {3, 3}})},
                          {FusionMethod::kLinear}, ChunkOrder());
  EXPECT_EQ(fused[0].place.chunk, 1u);
  EXPECT_DOUBLE_EQ(fused[0].score, 2 * 1 + 1);
  EXPECT_DOUBLE_EQ(fused[1].score, -3);     // 2: lowest in a (-1 * 2), missing in b (-1)
  EXPECT_EQ(fused[1].place.chunk, 2u);
  EXPECT_EQ(fused[2].place.chunk, 3u);
  double parts = 0;
  for (const FusionPart& part : fused[0].parts) parts += part.contribution;
  EXPECT_EQ(parts, fused[0].score);
}

TEST(Fusion, StaysFiniteForConstantAndEmptyLists) {
  for (const FusionMethod method : {FusionMethod::kRrf, FusionMethod::kLinear, FusionMethod::kRelativeScore}) {
    for (const FusedHit& hit : Fuse({List("a", 1, {{1, 3}, {2, 3}}), List("b", 1, {})}, {method}, ChunkOrder())) {
      EXPECT_TRUE(std::isfinite(hit.score));
    }
  }
}

TEST(Fusion, RefusesWeightsAndConstantsOutOfRange) {
  EXPECT_FALSE(CheckFusion({List("a", -1, {})}, {}).ok());
  EXPECT_FALSE(CheckFusion({List("a", std::nan(""), {})}, {}).ok());
  EXPECT_FALSE(CheckFusion({List("a", 0, {}), List("b", 0, {})}, {}).ok());
  EXPECT_FALSE(CheckFusion({List("a", 1, {})}, {FusionMethod::kRrf, 0}).ok());
  EXPECT_TRUE(CheckFusion({List("a", 0, {}), List("b", 1, {})}, {}).ok());
}

}  // namespace
}  // namespace lectern::index
