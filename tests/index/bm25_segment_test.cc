#include "index/bm25_segment.h"

#include <gtest/gtest.h>

#include <map>

#include "base/rng.h"
#include "index/bm25.h"
#include "tests/support/mutations.h"

namespace lectern::index {
namespace {

std::shared_ptr<const Analyzer> English() { return *Analyzer::Named("en"); }

std::string RandomText(Rng& rng, int words) {
  std::string text;
  for (int i = 0; i < words; ++i) {
    const int64_t rank = rng.Below(1 + rng.Below(3000));
    text += "w" + std::to_string(rank) + "q ";
  }
  return text;
}

std::string SegmentOf(int chunks, uint64_t seed) {
  const auto analyzer = English();
  Bm25SegmentWriter writer(*analyzer);
  Rng rng(seed);
  for (int i = 0; i < chunks; ++i) {
    EXPECT_TRUE(writer.Add(RandomText(rng, static_cast<int>(rng.Below(4))), RandomText(rng, static_cast<int>(rng.Below(60)))).ok());
  }
  auto bytes = writer.Serialize();
  EXPECT_TRUE(bytes.ok()) << bytes.status();
  return *bytes;
}

TEST(Bm25Segment, HoldsEveryTermOfEveryChunkWithItsFrequency) {
  const auto analyzer = English();
  Bm25SegmentWriter writer(*analyzer);
  Rng rng(1);
  std::map<std::string, std::map<uint32_t, uint32_t>> want;
  uint64_t total = 0;
  const int kChunks = 700;
  for (uint32_t chunk = 0; chunk < kChunks; ++chunk) {
    const std::string title = RandomText(rng, 2), text = RandomText(rng, static_cast<int>(rng.Below(80)));
    ASSERT_TRUE(writer.Add(title, text).ok());
    for (const std::string& term : analyzer->Terms(title)) want[term][chunk] += kTitleWeight, total += kTitleWeight;
    for (const std::string& term : analyzer->Terms(text)) want[term][chunk] += 1, total += 1;
  }
  EXPECT_GT(writer.buffered_bytes(), 0);
  const auto segment = Bm25Segment::FromBytes(*writer.Serialize());
  ASSERT_TRUE(segment.ok()) << segment.status();
  EXPECT_EQ((*segment)->num_chunks(), kChunks);
  EXPECT_EQ((*segment)->num_terms(), static_cast<int64_t>(want.size()));
  EXPECT_EQ((*segment)->total_length(), total);
  EXPECT_EQ((*segment)->analyzer_name(), "en/1");
  for (const auto& [term, postings] : want) {
    const auto list = (*segment)->Find(term);
    ASSERT_TRUE(list.has_value()) << term;
    std::map<uint32_t, uint32_t> got;
    PostingsBlock block;
    for (size_t b = 0; b < list->blocks.size(); ++b) {
      DecodeChunks(ActivePostingsKernels(), *list, b, block);
      DecodeFrequencies(ActivePostingsKernels(), *list, b, block);
      for (int i = 0; i < block.count; ++i) got[block.chunks[i]] = block.frequencies[i];
    }
    ASSERT_EQ(got, postings) << term;
  }
  EXPECT_FALSE((*segment)->Find("absent").has_value());
  EXPECT_FALSE((*segment)->Find("").has_value());
}

TEST(Bm25Segment, OpensEmpty) {
  const auto segment = Bm25Segment::FromBytes(SegmentOf(0, 1));
  ASSERT_TRUE(segment.ok()) << segment.status();
  EXPECT_EQ((*segment)->num_chunks(), 0);
  EXPECT_FALSE((*segment)->Find("x").has_value());
}

TEST(Bm25Segment, WritesTheSameBytesForTheSameChunks) { EXPECT_EQ(SegmentOf(300, 5), SegmentOf(300, 5)); }

TEST(Bm25Segment, RefusesANewerVersionByNumber) {
  std::string bytes = SegmentOf(3, 1);
  bytes[8] = 9;
  const auto segment = Bm25Segment::FromBytes(bytes);
  EXPECT_EQ(segment.status().code(), absl::StatusCode::kUnimplemented);
}

TEST(Bm25Segment, RefusesEveryTruncation) {
  const std::string bytes = SegmentOf(20, 2);
  for (size_t size = 0; size < bytes.size(); size += 1 + size / 50) {
    EXPECT_EQ(Bm25Segment::FromBytes(bytes.substr(0, size)).status().code(), absl::StatusCode::kDataLoss) << size;
  }
}

TEST(Bm25Segment, EveryMutationIsRefusedOrReadWithinItself) {
  const std::string good = SegmentOf(200, 3);
  PostingsBlock block;
  testing::Mutations mutations("bm25.bin");
  while (mutations.Next()) {
    const auto segment = Bm25Segment::FromBytes(mutations.Of(good));
    mutations.Count(segment.status());
    if (!segment.ok()) continue;
    (*segment)->Find("w1q");
    (*segment)->Find("absent");
    for (uint32_t term = 0; term < (*segment)->num_terms(); ++term) {
      const PostingsView list = (*segment)->Postings(term);
      for (size_t b = 0; b < list.blocks.size(); ++b) {
        DecodeChunks(ActivePostingsKernels(), list, b, block);
        DecodeFrequencies(ActivePostingsKernels(), list, b, block);
        for (int i = 0; i < block.count; ++i) ASSERT_LT(block.chunks[i], (*segment)->num_chunks());
      }
    }
  }
  EXPECT_GT(mutations.refused(), 300);
}

}  // namespace
}  // namespace lectern::index
