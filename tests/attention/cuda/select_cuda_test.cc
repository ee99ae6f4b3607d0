// Selectors on the device against their references.
#include <gmock/gmock.h>

#include "tests/attention/cuda/select_fixture.h"

namespace lectern::attention {
namespace {

// Lists may differ only where two scores are closer than fp32 tells apart: for random scores, almost nowhere.
void ExpectTheFormulasChoice(DType type) {
  Differences sum;
  for (const SelectorKind kind : {SelectorKind::kGate, SelectorKind::kQuest, SelectorKind::kResa}) {
    for (const SelectMode mode : {SelectMode::kTokens, SelectMode::kRatio, SelectMode::kThreshold}) {
      if (mode == SelectMode::kThreshold && kind != SelectorKind::kGate) continue;
      for (const int64_t block : {16, 32, 64, 128}) {
        for (const int64_t d : {64, 128}) {
          for (const bool project : {false, true}) {
            if (project != (kind == SelectorKind::kGate && block == 64)) continue;
            for (const int64_t group : {1, 4, 7, 8}) {
              const SelectCase c(Of(kind, mode, block, group != 4), group, 2, d, {33000, 5, 1024, 4100}, project, false, 7 * group + d + block, type);
              SCOPED_TRACE(::testing::Message() << "kind " << static_cast<int>(kind) << " mode " << static_cast<int>(mode) << " block " << block << " d " << d << " group " << group);
              ASSERT_NO_FATAL_FAILURE(sum.Add(c));
            }
          }
        }
      }
    }
  }
  testing::Test::RecordProperty("rows", static_cast<int>(sum.rows));
  EXPECT_LE(sum.different * 200, sum.rows) << sum.swapped << " of " << sum.ids << " ids";
}
TEST(CudaSelect, ChoosesWhatTheFormulasChoose) { ExpectTheFormulasChoice(DType::kBF16); }
TEST(CudaSelect, ChoosesTheSameOverFp16) { ExpectTheFormulasChoice(DType::kF16); }

// The oracle reads the keys: blocks shorter than the fragment of a product, as long as a page, and longer.
TEST(CudaSelect, TheOracleKnowsTheLargestProbabilities) {
  Differences sum;
  for (const DType type : {DType::kBF16, DType::kF16}) {
    for (const SelectMode mode : {SelectMode::kTokens, SelectMode::kRatio, SelectMode::kThreshold}) {
      for (const int64_t block : {4, 8, 16, 32, 64, 128}) {
        for (const int64_t d : {64, 128}) {
          for (const int64_t group : {1, 7, 12}) {
            Selector s = Of(SelectorKind::kOracle, mode, block, group != 7);
            s.first_blocks = group == 12 ? 2 : 0;
            const SelectCase c(s, group, 2, d, {9000, 5, 1024, 4100}, false, false, 13 * group + d + block, type);
            SCOPED_TRACE(::testing::Message() << DTypeName(type) << " mode " << static_cast<int>(mode) << " block " << block << " d " << d << " group " << group);
            ASSERT_NO_FATAL_FAILURE(sum.Add(c));
          }
        }
      }
    }
  }
  EXPECT_LE(sum.different * 100, sum.rows);
}

// Forty rows and more get two CTAs each.
TEST(CudaSelect, ManyRows) {
  std::vector<int32_t> lengths;
  for (int i = 0; i < 24; ++i) lengths.push_back(64 + 517 * i);
  for (const DType type : {DType::kBF16, DType::kF16}) {
    for (const SelectorKind kind : {SelectorKind::kGate, SelectorKind::kQuest, SelectorKind::kResa, SelectorKind::kOracle}) {
      for (const bool project : {false, true}) {
        if (project && kind != SelectorKind::kGate) continue;
        const SelectCase c(Of(kind, SelectMode::kRatio, 64), 4, 2, 128, lengths, project, false, 17, type);
        EXPECT_EQ(c.OnDevice(), c.Truth()) << DTypeName(type) << " kind " << static_cast<int>(kind) << " project " << project;
      }
    }
  }
}

TEST(CudaSelect, TiesGoToTheLowerBlockExactly) {
  for (const DType type : {DType::kBF16, DType::kF16}) {
    for (const SelectorKind kind : {SelectorKind::kGate, SelectorKind::kResa, SelectorKind::kQuest, SelectorKind::kOracle}) {
      for (const int32_t length : {1000, 4096, 40000}) {
        const SelectCase c(Of(kind, SelectMode::kTokens, 16), 4, 2, 128, {length}, false, true, 3, type);
        EXPECT_EQ(c.OnDevice(), c.Truth()) << DTypeName(type) << " kind " << static_cast<int>(kind) << " length " << length;
      }
    }
  }
}

// Each query head chooses, and the row reads what any of them chose. Lists may differ by a near-tie a head, almost nowhere.
TEST(CudaSelect, EachHeadOfQuestChooses) {
  Differences sum;
  for (const SelectMode mode : {SelectMode::kTokens, SelectMode::kRatio, SelectMode::kThreshold}) {
    for (const int64_t block : {16, 32, 64, 128}) {
      for (const int64_t d : {64, 128}) {
        for (const int64_t group : {1, 2, 7, 8}) {
          Selector s = Of(SelectorKind::kQuest, mode, block, group != 2);
          s.per_head = true;
          if (mode == SelectMode::kThreshold) s.threshold = 0.01f;
          const SelectCase c(s, group, 2, d, {20000, 5, 1024, 4100}, false, false, 11 * group + d + block);
          SCOPED_TRACE(::testing::Message() << "mode " << static_cast<int>(mode) << " block " << block << " d " << d << " group " << group);
          ASSERT_NO_FATAL_FAILURE(sum.Add(c));
        }
      }
    }
  }
  EXPECT_LE(sum.different * 100, sum.rows);
  for (const int32_t length : {1000, 4096, 40000}) {  // ties, exactly
    Selector s = Of(SelectorKind::kQuest, SelectMode::kTokens, 16);
    s.per_head = true;
    const SelectCase c(s, 4, 2, 128, {length}, false, true, 3);
    EXPECT_EQ(c.OnDevice(), c.Truth()) << length;
  }
}

TEST(CudaSelect, PublishedSettingsShortSequencesAndTheDenseFallBack) {
  for (const Selector& s : {SeerAttentionSelector(1024), QuestSelector(512, false), QuestSelector(512, true), ResaSelector(100)}) {
    const SelectCase c(s, 4, 2, 128, {1, 15, 16, 17, 63, 64, 65, 256, 257, 1024, 1025, 2560, 3000, 0}, false, false, 5);
    EXPECT_EQ(c.OnDevice(), c.Truth());
  }
  Selector dense = Of(SelectorKind::kGate, SelectMode::kTokens, 64);
  dense.dense_below = 5000;
  const SelectCase c(dense, 4, 2, 128, {4999, 5001}, false, false, 6);
  EXPECT_EQ(c.OnDevice(), c.Truth());
  Selector zero = Of(SelectorKind::kGate, SelectMode::kTokens, 64, false);
  zero.gate_zero_placeholder = true;
  const SelectCase z(zero, 4, 2, 128, {4999, 5056}, false, false, 6);
  EXPECT_EQ(z.OnDevice(), z.Truth());
}

}  // namespace
}  // namespace lectern::attention
