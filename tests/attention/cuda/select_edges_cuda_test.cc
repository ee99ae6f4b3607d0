// Selections at the edges: scores that are all alike or without bounds, budgets smaller than what is forced, rows of one block and of a
// million keys, blocks of all sizes. Lists are those of fp64: exactly where scores tie, but for a near-tie where they are drawn. Also run
// without a device, over tests/attention/simt.
#include <gmock/gmock.h>

#include "tests/attention/cuda/select_fixture.h"

namespace lectern::attention {
namespace {

enum class Ask { kGate, kProjected, kResa, kQuest, kQuestHeads, kOracle };
constexpr Ask kAll[] = {Ask::kGate, Ask::kProjected, Ask::kResa, Ask::kQuest, Ask::kQuestHeads, Ask::kOracle};

Selector With(Ask ask, Selector s) {
  s.kind = ask == Ask::kResa ? SelectorKind::kResa : ask == Ask::kOracle ? SelectorKind::kOracle : ask == Ask::kGate || ask == Ask::kProjected ? SelectorKind::kGate : SelectorKind::kQuest;
  s.per_head = ask == Ask::kQuestHeads;
  return s;
}
SelectCase Case(Ask ask, const Selector& s, std::vector<int32_t> lengths, bool ties, uint64_t seed, int64_t group = 4, int64_t kv_heads = 1) {
  return SelectCase(With(ask, s), group, kv_heads, 128, std::move(lengths), ask == Ask::kProjected, ties, seed);
}
testing::Message Tell(Ask ask, const SelectCase& c) {
  return testing::Message() << "selector " << static_cast<int>(ask) << " mode " << static_cast<int>(c.selector.mode) << " block " << c.selector.block_tokens << " budget " << c.selector.budget_tokens
                            << " forced " << c.selector.first_blocks << " and " << c.selector.last_blocks << (c.selector.count_forced ? " counted" : "") << " longest " << c.problem.max_keys;
}

// The lists of fp64; with drawn scores one block of a row may stand in for another whose score is as good in fp32.
void ExpectTruth(const SelectCase& c, bool drawn) {
  const auto got = c.OnDevice(), want = c.Truth();
  ASSERT_EQ(got.size(), want.size());
  for (size_t row = 0; row < got.size(); ++row) {
    if (!drawn) {
      ASSERT_EQ(got[row], want[row]) << "row " << row;
    }
    std::vector<int32_t> away;
    std::set_symmetric_difference(got[row].begin(), got[row].end(), want[row].begin(), want[row].end(), std::back_inserter(away));
    ASSERT_LE(away.size(), 2u) << "row " << row << ": " << got[row].size() << " for " << want[row].size();
  }
}

// A query of zeros: every score is zero, and the first blocks win. Without count_forced the forced ones come on top of them.
TEST(CudaSelectEdges, OfScoresAllAlikeTheFirstAreChosen) {
  for (const Ask ask : kAll) {
    for (const bool counted : {false, true}) {
      for (const SelectMode mode : {SelectMode::kTokens, SelectMode::kRatio}) {
        if (mode == SelectMode::kRatio && ask != Ask::kGate) continue;
        // By comparison, in registers, and by radix: 2, 128, 129, 300 and 2,100 blocks.
        std::vector<int32_t> lengths = {16, 40, 128 * 16, 129 * 16, 300 * 16 - 3};
        if (mode == SelectMode::kTokens && (ask == Ask::kGate || ask == Ask::kQuestHeads)) lengths.push_back(2100 * 16);
        SelectCase c = Case(ask, {.mode = mode, .block_tokens = 16, .budget_tokens = 40 * 16, .ratio_per_mille = 300, .first_blocks = 2, .last_blocks = 2, .count_forced = counted}, lengths, false, 171);
        std::fill(c.q.begin(), c.q.end(), uint16_t{0});
        SCOPED_TRACE(Tell(ask, c));
        ExpectTruth(c, /*drawn=*/false);
      }
    }
  }
}

TEST(CudaSelectEdges, ForcedBlocksMayExceedTheBudget) {
  for (const Ask ask : kAll) {
    for (const bool counted : {false, true}) {
      for (const int64_t budget : {1, 4}) {
        // Up to what is forced everything is, and the two ends may overlap.
        const SelectCase c = Case(ask, {.block_tokens = 64, .budget_tokens = budget * 64, .first_blocks = 3, .last_blocks = 3, .count_forced = counted}, {64, 5 * 64, 6 * 64, 6 * 64 + 1, 9000}, false, 172);
        SCOPED_TRACE(Tell(ask, c));
        ExpectTruth(c, /*drawn=*/true);
      }
    }
  }
}

TEST(CudaSelectEdges, OneBlockIsChosenWhereNothingIsForced) {
  for (const Ask ask : kAll) {
    for (const bool ties : {false, true}) {
      const SelectCase c = Case(ask, {.block_tokens = 16, .budget_tokens = 16, .first_blocks = 0, .last_blocks = 0}, {1, 16, 17, 32, 0, 128 * 16 + 1, 5000}, ties, 173, 1);
      SCOPED_TRACE(Tell(ask, c));
      ExpectTruth(c, !ties);
    }
  }
}

TEST(CudaSelectEdges, BlocksMayBeFourTokensOrAThousand) {
  for (const Ask ask : kAll) {
    for (const int64_t block : {1, 4, 8, 256, 1024}) {
      const auto n = static_cast<int32_t>(block);
      SelectCase c = Case(ask, {.block_tokens = block, .budget_tokens = 5 * block}, {n, 7 * n, 12 * n + 1, std::min(200 * n, 30000)}, true, 174);
      SCOPED_TRACE(Tell(ask, c));
      ExpectTruth(c, /*drawn=*/false);
    }
  }
}

TEST(CudaSelectEdges, AMillionKeysNextToNone) {
  for (const Ask ask : {Ask::kGate, Ask::kQuest}) {
    for (const bool ties : {false, true}) {
      const SelectCase c = Case(ask, {.mode = SelectMode::kRatio, .block_tokens = 32, .ratio_per_mille = 100}, {1, (1 << 20) - 5, 0, 31}, ties, 175, 1);
      SCOPED_TRACE(Tell(ask, c));
      ExpectTruth(c, !ties);
    }
  }
}

TEST(CudaSelectEdges, SharesOfNothingAndOfEverything) {
  for (const Ask ask : {Ask::kGate, Ask::kResa, Ask::kQuestHeads}) {
    for (const int64_t per_mille : {0, 1, 999, 1000}) {
      for (const int64_t least : {0, 1000}) {
        const SelectCase c = Case(ask, {.mode = SelectMode::kRatio, .block_tokens = 16, .ratio_per_mille = per_mille, .min_blocks = least, .first_blocks = 0, .last_blocks = least > 0 ? 1 : 0}, {1, 32, 3000}, false, 176);
        SCOPED_TRACE(Tell(ask, c) << " per mille " << per_mille << " at least " << least);
        ExpectTruth(c, /*drawn=*/true);
      }
    }
    for (const float threshold : {0.0f, 1.0f}) {
      const SelectCase c = Case(ask, {.mode = SelectMode::kThreshold, .block_tokens = 16, .threshold = threshold}, {1, 32, 3000, 0}, false, 177);
      SCOPED_TRACE(Tell(ask, c) << " threshold " << threshold);
      ExpectTruth(c, /*drawn=*/true);
    }
  }
}

// A list that is too long for its room is no list: the row is dense.
TEST(CudaSelectEdges, MoreThanTheCapacityIsDense) {
  for (const Ask ask : {Ask::kGate, Ask::kQuest, Ask::kQuestHeads}) {
    for (const int32_t length : {1000, 9000}) {
      SelectCase c = Case(ask, {.block_tokens = 16, .budget_tokens = 16 * 20, .first_blocks = 3, .last_blocks = 2, .count_forced = false}, {length, 64}, false, 178);
      const auto want = c.Truth();
      for (const int64_t room : {static_cast<int64_t>(want[0].size()), static_cast<int64_t>(want[0].size()) - 1}) {
        c.capacity = room;
        const bool fits = room == static_cast<int64_t>(want[0].size());
        EXPECT_EQ(c.OnDevice()[0].size(), fits ? want[0].size() : static_cast<size_t>((length + 15) / 16)) << Tell(ask, c);
      }
    }
  }
}

// Scale and soft cap are the model's: the cap bends what the heads' best keys are worth beside each other.
TEST(CudaSelectEdges, TheOracleScalesAndCapsAsAttentionDoes) {
  constexpr int32_t kLength = 5000, kBlock = 32, kGroup = 4;
  SelectCase c = Case(Ask::kOracle, {.block_tokens = kBlock, .budget_tokens = 20 * kBlock}, {kLength}, false, 180, kGroup);
  const auto plain = c.OnDevice();
  for (const double cap : {0.0, 4.0}) {
    const double scale = 0.3;
    c.plan = *Plan(c.problem, {.scale = static_cast<float>(scale), .soft_cap = static_cast<float>(cap)}, {.kind = DeviceKind::kCuda});
    ASSERT_TRUE(PrepareSelect(c.plan, c.selector, false).ok());
    std::vector<double> best(NumBlocks(kLength, kBlock), 0);
    for (int64_t h = 0; h < kGroup; ++h) {
      std::vector<double> score(kLength, 0);
      for (int64_t t = 0; t < kLength; ++t) {
        const int64_t at = DescriptorOffset(c.View(), c.table.data(), 0, t, 1);
        for (int64_t i = 0; i < 128; ++i) score[t] += scale * Widen(c.type, c.q[h * 128 + i]) * Widen(c.type, c.descriptors[at + i]);
        if (cap > 0) score[t] = cap * std::tanh(score[t] / cap);
      }
      const std::vector<double> p = Softmax<double>(score);
      for (int64_t t = 0; t < kLength; ++t) best[t / kBlock] = std::max(best[t / kBlock], p[t]);
    }
    const auto lists = c.OnDevice();
    const std::vector<int32_t> want = ChooseBlocks<double>(c.selector, best, kLength);
    std::vector<int32_t> away;
    std::set_symmetric_difference(lists[0].begin(), lists[0].end(), want.begin(), want.end(), std::back_inserter(away));
    EXPECT_LE(away.size(), 2u) << "cap " << cap;
    EXPECT_EQ(lists[0].size(), want.size()) << "cap " << cap;
    std::vector<int32_t> moved;
    std::set_symmetric_difference(lists[0].begin(), lists[0].end(), plain[0].begin(), plain[0].end(), std::back_inserter(moved));
    EXPECT_GT(moved.size(), 2u) << "cap " << cap;
  }
}

// Selectors multiply strides in 32 bits, and a pool's pages are counted from 0.
TEST(CudaSelectEdges, DescriptorsTooFarApartAreRefusedInWords) {
  const SelectCase c = Case(Ask::kGate, {.block_tokens = 64, .budget_tokens = 4 * 64}, {1000}, false, 181);
  DeviceSelect on(c);
  const auto why = [&](auto change) {
    DescriptorView view = c.View();
    view.base = on.descriptors.bytes();
    change(view);
    return std::string(Select(c.plan, c.selector, {.q = on.q.get(), .type = c.type, .query_projected = true, .descriptors = view, .gate = &on.gate,
                                                   .page_table = on.table.get(), .page_table_stride = c.pages_a_row, .lengths = on.lengths.get(), .batch = 1},
                              {on.ids.get(), on.counts.get(), c.capacity, 64}, {}).message());
  };
  EXPECT_EQ(why([](DescriptorView&) {}), "");
  EXPECT_EQ(why([](DescriptorView& v) { v.num_pages = int64_t{1} << 40; }), "");
  EXPECT_THAT(why([](DescriptorView& v) { v.num_pages = -3; }), testing::AllOf(testing::HasSubstr("num_pages"), testing::HasSubstr("got -3")));
  EXPECT_THAT(why([](DescriptorView& v) { v.block_stride = 4; }), testing::HasSubstr("multiples of 8"));
  for (const auto stride : {&DescriptorView::page_stride, &DescriptorView::head_stride, &DescriptorView::block_stride}) {
    for (const int64_t elements : {int64_t{-8}, int64_t{1} << 30, int64_t{1} << 40}) {
      EXPECT_THAT(why([&](DescriptorView& v) { v.*stride = elements; }),
                  testing::AllOf(testing::HasSubstr("below 2147483648 bytes"), testing::HasSubstr(std::to_string(elements))));
    }
  }
  // Up to 64 blocks of a page are that far apart, counted in 32 bits.
  EXPECT_THAT(why([](DescriptorView& v) { v.block_stride = int64_t{1} << 24; }), testing::HasSubstr("below 33554432 bytes"));
  EXPECT_EQ(why([](DescriptorView& v) { v.block_stride = (int64_t{1} << 24) - 8; }), "");  // one block a page: it is never added
}

// Keys that overflowed. Infinite scores are larger or smaller than all others and equal to each other; what is not a number takes some
// place, and no more than one.
TEST(CudaSelectEdges, InfiniteScoresHaveTheirOrderAndNoScoreAtAllAPlace) {
  for (const int32_t length : {100 * 16, 1000 * 16}) {
    for (const int64_t budget : {10, 70}) {
      for (const bool nan : {false, true}) {
        SelectCase c = Case(Ask::kGate, {.block_tokens = 16, .budget_tokens = 16 * budget}, {length}, false, 179);
        for (int64_t block = 0; block < length / 16; block += 5) {
          c.descriptors[DescriptorOffset(c.View(), c.table.data(), 0, block, 16) + block % 7] = nan ? CudaCase::kNan : block % 2 == 0 ? 0x7f80 : 0xff80;
        }
        SCOPED_TRACE(Tell(Ask::kGate, c));
        const auto lists = c.OnDevice();
        if (!nan) ExpectTruth(c, /*drawn=*/true);
        EXPECT_EQ(static_cast<int64_t>(lists[0].size()), budget);
        EXPECT_TRUE(std::is_sorted(lists[0].begin(), lists[0].end(), std::less_equal<>()));
      }
    }
  }
}

}  // namespace
}  // namespace lectern::attention
