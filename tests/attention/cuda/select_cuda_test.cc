// Selectors and append on the device against their references.
#include <gmock/gmock.h>

#include "tests/attention/cuda/fixture.h"

namespace lectern::attention {
namespace {

struct SelectCase {
  DType type;
  Problem problem;
  AttentionPlan plan;
  Selector selector;
  int64_t batch, pages_a_row, blocks_a_page, row, capacity;
  bool project;
  std::vector<int32_t> lengths, table;
  std::vector<uint16_t> q, descriptors, weights;
  std::vector<float> norm, frequencies;
  Gate gate;

  SelectCase(const Selector& s, int64_t group, int64_t kv_heads, int64_t d, std::vector<int32_t> lens, bool project_in, bool ties, uint64_t seed,
             DType storage = DType::kBF16)
      : type(storage), selector(s), batch(static_cast<int64_t>(lens.size())), project(project_in), lengths(std::move(lens)) {
    Rng rng(seed);
    const auto Bits = [&](double x) { return Narrow(type, x); };
    const int64_t max_keys = std::max(1, *std::max_element(lengths.begin(), lengths.end()));
    problem = {.q_heads = group * kv_heads, .k_heads = kv_heads, .v_heads = kv_heads, .key_width = d, .value_width = d,
               .kv_type = type, .layout = BlockLayout::kRows, .max_keys = max_keys, .max_batch = batch};
    plan = *Plan(problem, {}, {.kind = DeviceKind::kCuda});
    const absl::Status prepared = PrepareSelect(plan, s, !project);
    EXPECT_TRUE(prepared.ok()) << prepared;
    pages_a_row = NumBlocks(max_keys, kPageSlots);
    const bool oracle = s.kind == SelectorKind::kOracle, pairs = s.kind == SelectorKind::kQuest || s.kind == SelectorKind::kResa;
    const int64_t described = oracle ? 1 : s.block_tokens;  // the keys themselves are the oracle's descriptors
    blocks_a_page = BlocksPerPage(described);
    row = (pairs ? 2 : 1) * d;
    capacity = s.mode == SelectMode::kThreshold ? NumBlocks(max_keys, s.block_tokens) : BlockCapacity(s, max_keys, group);
    table.resize(batch * pages_a_row);
    std::iota(table.begin(), table.end(), 0);
    for (size_t i = table.size() - 1; i > 0; --i) std::swap(table[i], table[rng.Below(static_cast<int64_t>(i) + 1)]);
    descriptors.assign(table.size() * kv_heads * blocks_a_page * row, CudaCase::kNan);
    for (int64_t b = 0; b < batch; ++b) {
      const int64_t count = pairs ? NumBlocks(lengths[b], s.block_tokens) : lengths[b] / described;
      for (int64_t h = 0; h < kv_heads; ++h) {
        for (int64_t i = 0; i < count; ++i) {
          const int64_t at = DescriptorOffset(View(), table.data() + b * pages_a_row, h, i, described);
          const int64_t like = ties ? i * described / s.block_tokens % 3 : i;  // few different rows: most scores are equal
          Rng values(seed, 1000 * b + 100 * h + 100000 * like);
          for (int64_t c = 0; c < d; ++c) {
            const double x = values.Normal(), y = values.Normal();
            if (pairs) {
              descriptors[at + c] = Bits(std::min(x, y));
              descriptors[at + d + c] = Bits(std::max(x, y));
            } else {
              descriptors[at + c] = Bits(x);
            }
          }
        }
      }
    }
    q.resize(batch * (s.kind == SelectorKind::kGate && !project ? kv_heads : group * kv_heads) * d);
    for (uint16_t& x : q) x = Bits(rng.Normal());
    if (s.kind == SelectorKind::kGate) {
      weights.resize(kv_heads * group * d * d);
      for (uint16_t& x : weights) x = Bits(rng.Normal() / 16);
      for (int64_t c = 0; c < d; ++c) norm.push_back(Widen(type, Bits(1 + 0.2 * rng.Normal())));
      for (int64_t c = 0; c < d / 2; ++c) frequencies.push_back(static_cast<float>(std::pow(1e4, -2.0 * static_cast<double>(c) / static_cast<double>(d))));
    }
    gate = {.query_weights = weights.data(), .query_norm = norm.data(), .frequencies = frequencies.data(), .type = type, .width = d};
  }
  DescriptorView View() const {
    return {.type = type, .width = problem.key_width, .page_stride = problem.k_heads * blocks_a_page * row,
            .head_stride = blocks_a_page * row, .block_stride = row};
  }
  KvView Keys(std::byte* base) const {
    return {base, type, problem.k_heads, problem.key_width, problem.k_heads * 64 * row, 64 * row, row, BlockLayout::kRows};
  }
  std::vector<std::vector<int32_t>> Lists(const std::vector<int32_t>& ids, const std::vector<int32_t>& counts) const {
    std::vector<std::vector<int32_t>> lists;
    for (size_t r = 0; r < counts.size(); ++r) {
      if (counts[r] < 0) {
        std::vector<int32_t> all(NumBlocks(lengths[r / problem.k_heads], selector.block_tokens));
        std::iota(all.begin(), all.end(), 0);
        lists.push_back(all);
        continue;
      }
      lists.emplace_back(ids.begin() + r * capacity, ids.begin() + r * capacity + counts[r]);
      for (int64_t i = counts[r]; i < capacity; ++i) EXPECT_EQ(ids[r * capacity + i], -1);
    }
    return lists;
  }
  std::vector<std::vector<int32_t>> OnDevice() const {
    DeviceArray<uint16_t> dq(q), dd(descriptors), dw(weights);
    DeviceArray<float> dnorm(norm), dfreq(frequencies);
    DeviceArray<int32_t> dtable(table), dlengths(lengths), ids(batch * problem.k_heads * capacity), counts(batch * problem.k_heads);
    ids.Fill(0x7f);
    counts.Fill(0x7f);
    Gate on = gate;
    on.query_weights = dw.get(), on.query_norm = dnorm.get(), on.frequencies = dfreq.get();
    DescriptorView view = View();
    view.base = dd.bytes();
    const absl::Status status = Select(plan, selector, {.q = dq.get(), .type = type, .query_projected = !project, .descriptors = view,
                                                        .gate = &on, .k = Keys(view.base), .page_table = dtable.get(), .page_table_stride = pages_a_row,
                                                        .lengths = dlengths.get(), .batch = batch},
                                       {ids.get(), counts.get(), capacity, selector.block_tokens}, {});
    EXPECT_TRUE(status.ok()) << status;
    EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess) << cudaGetErrorString(cudaGetLastError());
    return Lists(ids.Download(), counts.Download());
  }
  std::vector<std::vector<int32_t>> Truth() const {
    std::vector<int32_t> ids(batch * problem.k_heads * NumBlocks(problem.max_keys, selector.block_tokens)), counts(batch * problem.k_heads);
    DescriptorView view = View();
    view.base = reinterpret_cast<std::byte*>(const_cast<uint16_t*>(descriptors.data()));
    const int64_t wide = NumBlocks(problem.max_keys, selector.block_tokens);
    ReferenceSelect(problem, selector, {.q = q.data(), .type = type, .query_projected = !project, .descriptors = view, .gate = &gate,
                                        .k = Keys(view.base), .page_table = table.data(), .page_table_stride = pages_a_row, .lengths = lengths.data(), .batch = batch},
                    {ids.data(), counts.data(), wide, selector.block_tokens});
    std::vector<std::vector<int32_t>> lists;
    for (size_t r = 0; r < counts.size(); ++r) lists.emplace_back(ids.begin() + r * wide, ids.begin() + r * wide + counts[r]);
    return lists;
  }
};

Selector Of(SelectorKind kind, SelectMode mode, int64_t block, bool count_forced = true) {
  return {.kind = kind, .mode = mode, .block_tokens = block, .budget_tokens = 20 * block, .ratio_per_mille = 100, .min_blocks = 4,
          .threshold = 0.004f, .first_blocks = kind == SelectorKind::kGate ? 1 : 0, .last_blocks = 1, .count_forced = count_forced};
}

// Lists may differ by a near-tie, one block for another in a row. Adds up a case's rows and ids, and those that differ.
struct Differences {
  int64_t rows = 0, different = 0, ids = 0, swapped = 0;

  void Add(const SelectCase& c) {
    const auto got = c.OnDevice(), want = c.Truth();
    ASSERT_EQ(got.size(), want.size());
    for (size_t r = 0; r < got.size(); ++r) {
      ++rows;
      ids += static_cast<int64_t>(want[r].size());
      if (got[r] == want[r]) continue;
      ++different;
      std::vector<int32_t> away;
      std::set_symmetric_difference(got[r].begin(), got[r].end(), want[r].begin(), want[r].end(), std::back_inserter(away));
      swapped += static_cast<int64_t>(away.size());
      ASSERT_LE(away.size(), 2u) << "row " << r << ": " << got[r].size() << " for " << want[r].size();
    }
  }
};

// Lists may differ only where two scores are closer than fp32 tells apart: for random scores, almost nowhere.
void ExpectTheFormulasChoice(DType type) {
  Differences sum;
  for (const SelectorKind kind : {SelectorKind::kGate, SelectorKind::kQuest, SelectorKind::kResa}) {
    for (const SelectMode mode : {SelectMode::kTokens, SelectMode::kRatio, SelectMode::kThreshold}) {
      if (mode == SelectMode::kThreshold && kind != SelectorKind::kGate) continue;
      for (const int64_t block : {16, 64, 128}) {
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
      for (const int64_t block : {4, 8, 16, 64, 128}) {
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
    for (const int64_t block : {16, 64, 128}) {
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

void ExpectTheReferenceTokenAfterToken(DType type) {
  const auto Bits = [&](double x) { return Narrow(type, x); };
  const auto Float = [&](uint16_t x) { return Widen(type, x); };
  const double finer = type == DType::kF16 ? 8 : 1;
  for (const int64_t d : {64, 128}) {
    for (const int64_t block : {16, 64}) {
      const int64_t group = 7, kv_heads = 2, batch = 2, pages = 4, heads = (group + 2) * kv_heads, per_page = 64 / block;
      Rng rng(9 + d + block);
      const auto random = [&](int64_t n, double scale) {
        std::vector<uint16_t> x(n);
        for (uint16_t& e : x) e = Bits(scale * rng.Normal());
        return x;
      };
      const auto floats = [&](int64_t n, double mean, double scale) {
        std::vector<float> x(n);
        for (float& e : x) e = static_cast<float>(mean + scale * rng.Normal());
        return x;
      };
      Problem problem{.q_heads = group * kv_heads, .k_heads = kv_heads, .v_heads = kv_heads, .key_width = d, .value_width = d,
                      .kv_type = type, .layout = BlockLayout::kRows, .max_keys = 128, .max_batch = batch};
      const AttentionPlan plan = *Plan(problem, {}, {.kind = DeviceKind::kCuda});
      const std::vector<uint16_t> bias = random(heads * d, 0.5), weights = random(kv_heads * 3 * d * d, 0.05);
      const std::vector<float> q_norm = floats(d, 1, 0.1), k_norm = floats(d, 1, 0.1), gate_norm = floats(d, 1, 0.1);
      std::vector<float> frequencies;
      for (int64_t i = 0; i < d / 2; ++i) frequencies.push_back(static_cast<float>(std::pow(1e4, -2.0 * static_cast<double>(i) / static_cast<double>(d))));
      const std::vector<int32_t> table = {3, 1, 0, 2};
      const int64_t kv_size = pages * kv_heads * 64 * d;
      std::vector<uint16_t> hk(kv_size, 0), hv(kv_size, 0), hq(batch * group * kv_heads * d, 0), hnope = hq, hqkv(batch * heads * d);
      std::vector<uint16_t> hpairs(pages * kv_heads * per_page * 2 * d, 0), hgate(pages * kv_heads * per_page * d, 0);
      std::vector<float> hpool(batch * kv_heads * 3 * d, 0), hcommitted = hpool;
      DeviceArray<uint16_t> dk(hk), dv(hv), dq(hq), dnope(hnope), dqkv(hqkv), dpairs(hpairs), dgate(hgate), dbias(bias), dweights(weights);
      DeviceArray<float> dpool(hpool), dcommitted(hpool), dqn(q_norm), dkn(k_norm), dgn(gate_norm), dfreq(frequencies);
      DeviceArray<int32_t> dtable(table), dlengths(std::vector<int32_t>{0, 0}), dcommit(std::vector<int32_t>{1, 0});
      std::vector<int32_t> lengths = {0, 0}, commit = {1, 0};
      const auto step = [&](bool device) {
        const auto pick = [&](auto& on, auto& host) { return device ? on.get() : host.data(); };
        const auto rows = [&](uint16_t* base) {
          return KvView{reinterpret_cast<std::byte*>(base), type, kv_heads, d, kv_heads * 64 * d, 64 * d, d, BlockLayout::kRows};
        };
        const auto descriptors = [&](uint16_t* base, int64_t row) {
          return DescriptorView{reinterpret_cast<std::byte*>(base), type, d, kv_heads * per_page * row, per_page * row, row};
        };
        return AppendBatch{.qkv = pick(dqkv, hqkv), .bias = device ? dbias.get() : bias.data(), .q = pick(dq, hq), .gate_q = pick(dnope, hnope),
                           .type = type, .k = rows(pick(dk, hk)), .v = rows(pick(dv, hv)), .min_max = descriptors(pick(dpairs, hpairs), 2 * d),
                           .gate_keys = descriptors(pick(dgate, hgate), d), .pool = pick(dpool, hpool),
                           .committed_pool = pick(dcommitted, hcommitted), .commit = pick(dcommit, commit),
                           .page_table = device ? dtable.get() : table.data(), .page_table_stride = 2, .lengths = pick(dlengths, lengths), .batch = batch};
      };
      const Gate on{.key_weights = dweights.get(), .key_norm = dgn.get(), .frequencies = dfreq.get(), .type = type, .width = d};
      const Gate host{.key_weights = weights.data(), .key_norm = gate_norm.data(), .frequencies = frequencies.data(), .type = type, .width = d};
      AppendConfig device_config{.q_norm = dqn.get(), .k_norm = dkn.get(), .frequencies = dfreq.get(), .min_max_block_tokens = block, .gate_block_tokens = block};
      AppendConfig host_config{.q_norm = q_norm.data(), .k_norm = k_norm.data(), .frequencies = frequencies.data(), .min_max_block_tokens = block, .gate_block_tokens = block};
      for (int32_t t = 0; t < 128; ++t) {
        hqkv = random(batch * heads * d, 1.0);
        lengths = {t + 1, std::max(0, t - 29)};  // the second sequence starts later
        dqkv.Upload(hqkv);
        dlengths.Upload(lengths);
        AppendBatch a = step(true), b = step(false);
        a.gate = &on, b.gate = &host;
        const absl::Status status = Append(plan, a, device_config, {});
        ASSERT_TRUE(status.ok()) << status;
        if (lengths[1] == 0) b.batch = 1;
        ReferenceAppend(problem, b, host_config);
      }
      ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess);
      const auto near = [&](const char* what, const std::vector<uint16_t>& got, const std::vector<uint16_t>& want, double tolerance) {
        for (size_t i = 0; i < got.size(); ++i) ASSERT_NEAR(Float(got[i]), Float(want[i]), tolerance / finer * (1 + std::abs(Float(want[i])))) << what << " " << i;
      };
      EXPECT_EQ(dv.Download(), hv);
      near("k", dk.Download(), hk, 0.012);  // one bf16 rounding on either side of a tie
      near("q", dq.Download(), hq, 0.012);
      near("nope", dnope.Download(), hnope, 0.008);
      near("gate keys", dgate.Download(), hgate, 0.02);
      // The pairs are bit-equal to the minimum and maximum of the keys the device itself stored.
      const std::vector<uint16_t> keys = dk.Download(), pairs = dpairs.Download();
      for (int64_t b = 0; b < batch; ++b) {
        for (int64_t h = 0; h < kv_heads; ++h) {
          for (int64_t i = 0; i < NumBlocks(lengths[b], block); ++i) {
            for (int64_t c = 0; c < d; ++c) {
              float low = INFINITY, high = -INFINITY;
              for (int64_t t = i * block; t < std::min<int64_t>(lengths[b], (i + 1) * block); ++t) {
                const float x = Float(keys[((table[b * 2 + t / 64] * kv_heads + h) * 64 + t % 64) * d + c]);
                low = std::min(low, x), high = std::max(high, x);
              }
              const int64_t at = ((table[b * 2 + i * block / 64] * kv_heads + h) * per_page + i * block % 64 / block) * 2 * d;
              ASSERT_EQ(Float(pairs[at + c]), low);
              ASSERT_EQ(Float(pairs[at + d + c]), high);
            }
          }
        }
      }
      const std::vector<float> pool = dpool.Download(), committed = dcommitted.Download();
      for (size_t i = 0; i < pool.size() / 2; ++i) ASSERT_EQ(pool[i], committed[i]);
      for (size_t i = pool.size() / 2; i < pool.size(); ++i) ASSERT_EQ(committed[i], 0.0f);
    }
  }
}
TEST(CudaAppend, EqualsTheReferenceTokenAfterToken) { ExpectTheReferenceTokenAfterToken(DType::kBF16); }
TEST(CudaAppend, EqualsTheReferenceInFp16) { ExpectTheReferenceTokenAfterToken(DType::kF16); }

}  // namespace
}  // namespace lectern::attention
