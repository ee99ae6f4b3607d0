// What every selection on the device must keep to: bounds that bound, exact sizes, forced blocks, ties, pages anywhere, the gate's keys.
#include <gmock/gmock.h>

#include <cmath>

#include "tests/attention/cuda/append_fixture.h"
#include "tests/attention/cuda/select_fixture.h"

namespace lectern::attention {
namespace {

// Block 0 has the minimum and maximum of sixteen keys, and each key stands as a block of its own behind it. Products, maxima and sums in
// one order are monotone in fp32 too: the bound is never below a score, and of equals the lower block is chosen.
void ExpectBounds(DType type, int64_t d, int launches, int64_t* cases) {
  constexpr int64_t kBatch = 64, kHeads = 8, kGroup = 2, kKeys = 16, kPages = 5, kRows = kBatch * kHeads;
  const Problem problem{.q_heads = kGroup * kHeads, .k_heads = kHeads, .v_heads = kHeads, .key_width = d, .value_width = d, .kv_type = type,
                        .layout = BlockLayout::kRows, .max_keys = kPages * 64, .max_batch = kBatch};
  const AttentionPlan plan = *Plan(problem, {}, {.kind = DeviceKind::kCuda});
  std::vector<int32_t> table(kBatch * kPages);
  std::iota(table.begin(), table.end(), 0);
  const DeviceArray<int32_t> dtable(table), lengths(std::vector<int32_t>(kBatch, (kKeys + 1) * 16));
  DeviceArray<int32_t> ids(kRows * kGroup), counts(kRows);
  std::vector<uint16_t> q(kRows * kGroup * d), pairs(table.size() * kHeads * 4 * 2 * d, CudaCase::kNan);
  DescriptorView view{.type = type, .width = d, .page_stride = kHeads * 4 * 2 * d, .head_stride = 4 * 2 * d, .block_stride = 2 * d};
  Rng rng(141 + d);
  const auto draw = [&] { return Narrow(type, static_cast<double>(static_cast<int16_t>(rng.Next() >> 48)) / 12000); };
  for (int launch = 0; launch < launches; ++launch) {
    for (uint16_t& x : q) x = draw();
    for (int64_t row = 0; row < kRows; ++row) {
      const int32_t* pages = table.data() + row / kHeads * kPages;
      const auto at = [&](int64_t block) { return DescriptorOffset(view, pages, row % kHeads, block, 16); };
      for (int64_t c = 0; c < d; ++c) {
        float low = INFINITY, high = -INFINITY;
        for (int64_t i = 1; i <= kKeys; ++i) {
          const uint16_t x = draw();
          pairs[at(i) + c] = pairs[at(i) + d + c] = x;
          low = std::min(low, Widen(type, x)), high = std::max(high, Widen(type, x));
        }
        pairs[at(0) + c] = Narrow(type, low), pairs[at(0) + d + c] = Narrow(type, high);
      }
    }
    const DeviceArray<uint16_t> dq(q), dpairs(pairs);
    view.base = dpairs.bytes();
    for (const Selector& s : {Selector{.kind = SelectorKind::kQuest}, Selector{.kind = SelectorKind::kQuest, .per_head = true}, Selector{.kind = SelectorKind::kResa}}) {
      Selector one = s;
      one.block_tokens = one.budget_tokens = 16, one.first_blocks = one.last_blocks = 0;
      if (launch == 0) {
        const absl::Status prepared = PrepareSelect(plan, one, false);
        ASSERT_TRUE(prepared.ok()) << prepared;
      }
      const absl::Status status = Select(plan, one, {.q = dq.get(), .type = type, .descriptors = view, .page_table = dtable.get(), .page_table_stride = kPages,
                                                     .lengths = lengths.get(), .batch = kBatch}, {ids.get(), counts.get(), kGroup, 16}, {});
      ASSERT_TRUE(status.ok()) << status;
      ASSERT_CUDA(cudaDeviceSynchronize());
      const std::vector<int32_t> list = ids.Download();
      ASSERT_EQ(counts.Download(), std::vector<int32_t>(kRows, 1)) << "kind " << static_cast<int>(s.kind);
      for (int64_t row = 0; row < kRows; ++row) ASSERT_EQ(list[row * kGroup], 0) << "kind " << static_cast<int>(s.kind) << " row " << row;
    }
    *cases += kRows * kKeys;
  }
}
TEST(CudaSelectRules, NoKeyOfAMillionExceedsTheBoundOfItsBlock) {
  int64_t cases = 0;
  ASSERT_NO_FATAL_FAILURE(ExpectBounds(DType::kBF16, 64, Rounds(62), &cases));
  ASSERT_NO_FATAL_FAILURE(ExpectBounds(DType::kBF16, 128, Rounds(62), &cases));
  ASSERT_NO_FATAL_FAILURE(ExpectBounds(DType::kF16, 128, 2, &cases));
  RecordProperty("cases", static_cast<int>(cases));
}

void ExpectRules(const SelectCase& c, const std::vector<std::vector<int32_t>>& lists) {
  for (size_t row = 0; row < lists.size(); ++row) {
    const int64_t blocks = NumBlocks(c.lengths[row / c.problem.k_heads], c.selector.block_tokens);
    const auto has = [&](int64_t i) { return std::binary_search(lists[row].begin(), lists[row].end(), static_cast<int32_t>(i)); };
    for (size_t i = 0; i < lists[row].size(); ++i) {
      ASSERT_GE(lists[row][i], i == 0 ? 0 : lists[row][i - 1] + 1) << "row " << row;
      ASSERT_LT(lists[row][i], blocks) << "row " << row;
    }
    for (int64_t i = 0; i < std::min(c.selector.first_blocks, blocks); ++i) ASSERT_TRUE(has(i)) << "row " << row;
    for (int64_t i = std::max<int64_t>(0, blocks - c.selector.last_blocks); i < blocks; ++i) ASSERT_TRUE(has(i)) << "row " << row;
  }
}

// ceil(p * M) as a fraction of whole numbers: fp32 is off by one for 0.15 at 100 blocks and 0.3 at 50.
TEST(CudaSelectRules, RatiosKeepExactlyTheirShare) {
  std::vector<int32_t> lengths;
  for (const int blocks : {1, 2, 3, 7, 9, 10, 11, 19, 20, 21, 33, 49, 50, 51, 66, 67, 99, 100, 101, 199, 200, 333, 1000, 1001}) {
    lengths.push_back(blocks * 16 - (blocks % 2) * 5);
  }
  for (const SelectorKind kind : {SelectorKind::kResa, SelectorKind::kQuest}) {
    for (const int64_t per_mille : {50, 100, 150, 200, 300}) {
      for (const int64_t least : {1, 16}) {
        for (const bool long_row : {false, true}) {
          if (long_row && (least == 16 || kind != SelectorKind::kResa)) continue;
          const Selector s{.kind = kind, .mode = SelectMode::kRatio, .block_tokens = 16, .ratio_per_mille = per_mille, .min_blocks = least, .first_blocks = 0};
          const SelectCase c(s, 1, 1, 64, long_row ? std::vector<int32_t>{20000 * 16} : lengths, false, false, 142);
          const auto lists = c.OnDevice();
          ASSERT_NO_FATAL_FAILURE(ExpectRules(c, lists));
          for (size_t row = 0; row < lists.size(); ++row) {
            const int64_t blocks = NumBlocks(c.lengths[row], 16);
            ASSERT_EQ(static_cast<int64_t>(lists[row].size()), std::max(std::min(least, blocks), (per_mille * blocks + 999) / 1000))
                << blocks << " blocks, " << per_mille << " per mille, at least " << least;
          }
        }
      }
    }
  }
}

TEST(CudaSelectRules, RandomSelectorsOverTiesChooseExactly) {
  Rng rng(143);
  int tried = 0;
  for (int round = 0; round < Rounds(300); ++round) {
    const int64_t sizes[] = {16, 32, 64, 128}, widths[] = {64, 128}, groups[] = {1, 2, 5, 8};
    const int64_t block = sizes[rng.Below(4)];
    Selector s{.kind = static_cast<SelectorKind>(rng.Below(4)), .mode = static_cast<SelectMode>(rng.Below(3)), .block_tokens = block,
               .budget_tokens = block * (1 + static_cast<int64_t>(rng.Below(40))), .ratio_per_mille = static_cast<int64_t>(rng.Below(1001)),
               .min_blocks = static_cast<int64_t>(rng.Below(6)), .threshold = 0.011f, .first_blocks = static_cast<int64_t>(rng.Below(3)),
               .last_blocks = static_cast<int64_t>(rng.Below(3)), .count_forced = rng.Below(2) == 0};
    if (s.kind == SelectorKind::kQuest) s.per_head = rng.Below(2) == 0;
    if (s.kind == SelectorKind::kGate) s.gate_zero_placeholder = rng.Below(2) == 0;
    if (rng.Below(4) == 0) s.dense_below = 700;
    if (!CheckSelector(s).ok()) continue;
    ++tried;
    std::vector<int32_t> lengths;
    for (int i = 0; i < 3; ++i) lengths.push_back(static_cast<int32_t>(1 + rng.Below(6000)));
    const bool project = s.kind == SelectorKind::kGate && rng.Below(2) == 0;
    const SelectCase c(s, groups[rng.Below(4)], 2, widths[rng.Below(2)], lengths, project, /*ties=*/true, 144 + round);
    SCOPED_TRACE(::testing::Message() << "round " << round << " kind " << static_cast<int>(s.kind) << " mode " << static_cast<int>(s.mode) << " block " << block);
    const auto lists = c.OnDevice();
    ASSERT_NO_FATAL_FAILURE(ExpectRules(c, lists));
    ASSERT_EQ(lists, c.Truth());
  }
  EXPECT_GE(2 * tried, Rounds(300));
  RecordProperty("selectors", tried);
}

// Descriptors of blocks that are not there are NaN in every case; here pages change places too.
TEST(CudaSelectRules, PagesMayLieAnywhere) {
  for (const DType type : {DType::kBF16, DType::kF16}) {
    for (const SelectorKind kind : {SelectorKind::kGate, SelectorKind::kQuest, SelectorKind::kResa, SelectorKind::kOracle}) {
      for (const int64_t block : {16, 64, 128}) {
        SelectCase c(Of(kind, SelectMode::kTokens, block), 4, 2, 128, {9001, 300, 5000}, false, false, 145, type);
        const auto before = c.OnDevice();
        const int64_t page = static_cast<int64_t>(c.descriptors.size() / c.table.size());
        Rng rng(146);
        for (size_t i = c.table.size() - 1; i > 0; --i) {
          const size_t j = rng.Below(static_cast<int64_t>(i) + 1);
          const auto at = [&](size_t entry) { return c.descriptors.begin() + c.table[entry] * page; };
          if (i == j) continue;
          std::swap_ranges(at(i), at(i) + page, at(j));
          std::swap(c.table[i], c.table[j]);
        }
        EXPECT_EQ(before, c.OnDevice()) << DTypeName(type) << " kind " << static_cast<int>(kind) << " block " << block;
      }
    }
  }
}

// Gate keys that append made, in two bytes, against scores in fp64 of the keys themselves: lists differ only where scores are within a
// hundredth of the largest.
TEST(CudaSelectRules, TheGateChoosesAsTheKeysThemselvesWould) {
  int64_t rows = 0, equal = 0;
  for (const DType type : {DType::kBF16, DType::kF16}) {
    for (const int64_t block : {16, 32, 64}) {
      Appending a({.group = 4, .pages_a_row = 20, .type = type, .pairs = 0, .gate = block, .rotate = false, .gate_q = true});
      const Selector s{.kind = SelectorKind::kGate, .block_tokens = block, .budget_tokens = 6 * block, .first_blocks = 0, .last_blocks = 0};
      ASSERT_TRUE(PrepareSelect(a.plan, s, false).ok());
      std::vector<float> query_weights, key_weights;
      for (const uint16_t x : a.query_weights) query_weights.push_back(Widen(type, x));
      for (const uint16_t x : a.weights) key_weights.push_back(Widen(type, x));
      Gate gate = a.host_gate;
      gate.query_weights = query_weights.data(), gate.key_weights = key_weights.data(), gate.type = DType::kF32;
      DeviceArray<int32_t> ids(2 * 2 * 6), counts(2 * 2);
      Rng rng(147);
      for (int32_t t = 1; t <= 20 * 64; ++t) {
        a.Draw(rng);
        a.lengths = {t, std::max(0, t - 100)};
        a.UploadStep();
        ASSERT_NO_FATAL_FAILURE(a.OnDevice(2));
        if (t % 128 != 0) continue;
        const AppendBatch step = a.Step(true, 2);
        const absl::Status status = Select(a.plan, s, {.q = a.dgate_q.get(), .type = type, .descriptors = step.gate_keys, .gate = &a.device_gate, .page_table = step.page_table,
                                                       .page_table_stride = a.stride, .lengths = step.lengths, .batch = 2}, {ids.get(), counts.get(), 6, block}, {});
        ASSERT_TRUE(status.ok()) << status;
        const std::vector<int32_t> list = ids.Download(), count = counts.Download();
        const std::vector<uint16_t> q = a.dgate_q.Download(), stored = a.dmemory[0].Download();
        for (int64_t row = 0; row < 4; ++row) {
          const int64_t b = row / 2, h = row % 2, length = a.lengths[b];
          if (count[row] == kAllBlocks || length / block <= 6) continue;
          std::vector<float> query, keys;
          for (int64_t i = 0; i < 4 * a.d; ++i) query.push_back(Widen(type, q[row * 4 * a.d + i]));
          for (int64_t i = 0; i < length; ++i) {
            for (int64_t c = 0; c < a.d; ++c) keys.push_back(Widen(type, stored[a.KeyOffset(b, h, i) + c]));
          }
          const std::vector<double> scores = GateScores<double>(gate, 4, a.d, query.data(), keys.data(), h, length, block);
          const std::vector<int32_t> want = ChooseBlocks<double>(s, scores, length), got(list.begin() + row * 6, list.begin() + row * 6 + count[row]);
          ++rows;
          equal += got == want;
          ASSERT_EQ(got.size(), 6u);
          double largest = 0, cut = INFINITY;
          for (const double z : scores) largest = std::max(largest, std::abs(z));
          for (const int32_t i : want) cut = std::min(cut, scores[i]);
          for (const int32_t i : got) ASSERT_GE(scores[i], cut - 0.01 * largest) << "block " << i << " of sequence " << b;
          for (const int32_t i : want) {
            const bool both = std::find(got.begin(), got.end(), i) != got.end();
            ASSERT_TRUE(both || scores[i] <= cut + 0.01 * largest) << "block " << i << " of sequence " << b;
          }
        }
      }
    }
  }
  RecordProperty("rows", static_cast<int>(rows));
  RecordProperty("equal", static_cast<int>(equal));
  EXPECT_GE(equal * 10, rows * 8);
}

}  // namespace
}  // namespace lectern::attention
