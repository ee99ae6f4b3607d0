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

TEST(Fusion, AddsSharesOfTheBestScore) {
  const auto fused = Fuse({List("a", 2, {{1, 4}, {2, 2}}), List("b", 1, {{3, 0.8}, {1, 0.4}})},
                          {FusionMethod::kLinear}, ChunkOrder());
  ASSERT_EQ(fused.size(), 3u);
  EXPECT_EQ(fused[0].place.chunk, 1u);
  EXPECT_DOUBLE_EQ(fused[0].score, 2 * 1 + 0.5);
  EXPECT_EQ(fused[1].place.chunk, 2u);      // 2 * 0.5, and 1 * 1 for chunk 3: the tie goes to the lower chunk
  EXPECT_DOUBLE_EQ(fused[1].score, 1);
  EXPECT_DOUBLE_EQ(fused[2].score, 1);
  double parts = 0;
  for (const FusionPart& part : fused[0].parts) parts += part.contribution;
  EXPECT_EQ(parts, fused[0].score);
}

TEST(Fusion, UsesTheScoresOfChunksThatAListDidNotFind) {
  RankedList a = List("a", 1, {{1, 4}, {2, 2}}), b = List("b", 1, {{1, 3}, {3, 2}});
  a.others = {{{0, 3}, 1}};
  b.others = {{{0, 2}, 1.5}};
  const auto fused = Fuse({a, b}, {FusionMethod::kLinear}, ChunkOrder());
  ASSERT_EQ(fused.size(), 3u);
  for (const FusedHit& hit : fused) {
    for (const FusionPart& part : hit.parts) EXPECT_TRUE(part.scored);
  }
  EXPECT_EQ(fused[1].place.chunk, 2u);
  EXPECT_DOUBLE_EQ(fused[1].score, 0.5 + 0.5);
  EXPECT_EQ(fused[2].place.chunk, 3u);
  EXPECT_EQ(fused[2].parts[0].rank, 0);
  EXPECT_EQ(fused[2].parts[0].score, 1);
  EXPECT_DOUBLE_EQ(fused[2].score, 0.25 + 2.0 / 3);
  // Ranks know nothing of it.
  for (const FusedHit& hit : Fuse({a, b}, {FusionMethod::kRrf}, ChunkOrder())) {
    if (hit.place.chunk != 3) continue;
    EXPECT_DOUBLE_EQ(hit.score, 1.0 / 62);
  }
}

// The best score decides the scale, so a longer list of the same ranking moves nothing that a shorter one had.
TEST(Fusion, DeeperListsKeepTheLinearScores) {
  RankedList a = List("a", 1, {{1, 4}, {2, 2}}), b = List("b", 1, {{2, 3}, {1, 2}});
  const auto shallow = Fuse({a, b}, {FusionMethod::kLinear}, ChunkOrder());
  a.hits.push_back({{0, 7}, 0.1});
  b.hits.push_back({{0, 8}, 0.2});
  a.others = {{{0, 8}, 0}};
  b.others = {{{0, 7}, 0.1}};
  const auto deep = Fuse({a, b}, {FusionMethod::kLinear}, ChunkOrder());
  for (size_t i = 0; i < shallow.size(); ++i) {
    EXPECT_EQ(shallow[i].place.chunk, deep[i].place.chunk);
    EXPECT_EQ(shallow[i].score, deep[i].score);
  }
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
