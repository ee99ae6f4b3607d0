// tests/attention/cuda/select_fixture.h: random descriptors, queries and a gate over shuffled pages, on the device and for the reference.
#pragma once

#include "tests/attention/cuda/fixture.h"

namespace lectern::attention {

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
            .head_stride = blocks_a_page * row, .block_stride = row, .num_pages = static_cast<int64_t>(table.size())};
  }
  KvView Keys(std::byte* base) const {
    return {base, type, problem.k_heads, problem.key_width, problem.k_heads * 64 * row, 64 * row, row, BlockLayout::kRows, static_cast<int64_t>(table.size())};
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
  std::vector<std::vector<int32_t>> OnDevice() const;  // below
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

// A case's memory on the device, and the call over it.
struct DeviceSelect {
  const SelectCase& c;
  DeviceArray<uint16_t> q, descriptors, weights;
  DeviceArray<float> norm, frequencies;
  DeviceArray<int32_t> table, lengths, ids, counts;
  Gate gate;

  explicit DeviceSelect(const SelectCase& s)
      : c(s), q(s.q), descriptors(s.descriptors), weights(s.weights), norm(s.norm), frequencies(s.frequencies), table(s.table), lengths(s.lengths),
        ids(s.batch * s.problem.k_heads * s.capacity), counts(s.batch * s.problem.k_heads), gate(s.gate) {
    gate.query_weights = weights.get(), gate.query_norm = norm.get(), gate.frequencies = frequencies.get();
  }
  void Select(cudaStream_t stream = nullptr) {
    DescriptorView view = c.View();
    view.base = descriptors.bytes();
    const absl::Status status =
        attention::Select(c.plan, c.selector, {.q = q.get(), .type = c.type, .query_projected = !c.project, .descriptors = view, .gate = &gate,
                                               .k = c.Keys(view.base), .page_table = table.get(), .page_table_stride = c.pages_a_row,
                                               .lengths = lengths.get(), .batch = c.batch},
                          {ids.get(), counts.get(), c.capacity, c.selector.block_tokens}, {.stream = stream});
    ASSERT_TRUE(status.ok()) << status;
  }
  void Forget() { ids.Fill(0x7f), counts.Fill(0x7f); }
};

inline std::vector<std::vector<int32_t>> SelectCase::OnDevice() const {
  DeviceSelect on(*this);
  on.Forget();
  on.Select();
  EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess) << cudaGetErrorString(cudaGetLastError());
  return Lists(on.ids.Download(), on.counts.Download());
}

inline Selector Of(SelectorKind kind, SelectMode mode, int64_t block, bool count_forced = true) {
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

}  // namespace lectern::attention
