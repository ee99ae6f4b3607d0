// Selectors on every CPU target: the worked examples, exact choices against fp64, poison, bits.
#include <gmock/gmock.h>

#include "tests/attention/step_fixture.h"
#include "tests/attention/worked_examples.h"

namespace lectern::attention {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// Descriptors and a gate beside a fixture. Whole numbers of quarters make every score exact in float, and ties frequent.
struct SelectFixture {
  StepFixture f;
  int64_t block_tokens, width;
  bool exact;
  std::vector<float> wq, wk, norm, frequencies, q;
  std::vector<bf16> wq16;
  std::vector<std::byte> gate_pool, pair_pool;
  DescriptorView gate_keys, pairs;
  Gate gate;

  SelectFixture(const Problem& problem, const std::vector<int32_t>& lengths, int64_t block, bool exact_in, DType type, uint64_t seed,
                uint64_t page_seed = 1)
      : f(problem, lengths, seed, page_seed), block_tokens(block), width(problem.key_width), exact(exact_in) {
    Rng rng(seed + 1);
    const auto value = [&] { return exact ? static_cast<float>(rng.Below(17) - 8) / 4 : static_cast<float>(rng.Normal()); };
    q.resize(f.q.size());
    for (float& x : q) x = value();
    wq.resize(problem.q_heads * width * width);
    for (float& x : wq) x = ToFloat(ToBf16(0.1f * static_cast<float>(rng.Normal())));
    for (const float x : wq) wq16.push_back(ToBf16(x));
    for (int64_t i = 0; i < width; ++i) norm.push_back(static_cast<float>(1 + 0.1 * rng.Normal()));
    for (int64_t i = 0; i < width / 2; ++i) frequencies.push_back(static_cast<float>(std::pow(1e4, -2.0 * i / width)));
    gate = {.query_weights = wq.data(), .query_norm = norm.data(), .frequencies = frequencies.data(), .width = width};
    const int64_t per_page = BlocksPerPage(block), element = type == DType::kF32 ? 4 : 2;
    const auto view = [&](std::vector<std::byte>& pool, int64_t size) {
      pool.assign(f.num_pages * problem.k_heads * per_page * size * element, std::byte{0xff});
      return DescriptorView{.base = pool.data(), .type = type, .width = width, .page_stride = problem.k_heads * per_page * size,
                            .head_stride = per_page * size, .block_stride = size};
    };
    gate_keys = view(gate_pool, width);
    pairs = view(pair_pool, 2 * width);
    const auto put = [&](const DescriptorView& to, int64_t at, float x) {
      if (type == DType::kF32) {
        reinterpret_cast<float*>(to.base)[at] = x;
      } else {
        reinterpret_cast<bf16*>(to.base)[at] = ToBf16(x);
      }
    };
    for (int64_t b = 0; b < f.step.batch; ++b) {
      const int32_t* pages = f.table.data() + b * f.step.page_table_stride;
      for (int64_t head = 0; head < problem.k_heads; ++head) {
        for (int64_t i = 0; i < NumBlocks(lengths[b], block); ++i) {
          const int64_t at = DescriptorOffset(gate_keys, pages, head, i, block);
          const int64_t pair = DescriptorOffset(pairs, pages, head, i, block);
          for (int64_t c = 0; c < width; ++c) {
            const float x = value(), y = value();
            if ((i + 1) * block <= lengths[b]) put(gate_keys, at + c, value());
            put(pairs, pair + c, std::min(x, y));
            put(pairs, pair + width + c, std::max(x, y));
          }
        }
      }
    }
  }

  SelectBatch Step(SelectorKind kind) {
    SelectBatch step{.q = q.data(), .query_projected = kind == SelectorKind::kGate && exact,
                     .descriptors = kind == SelectorKind::kGate ? gate_keys : pairs, .gate = &gate, .k = f.step.k,
                     .page_table = f.table.data(), .page_table_stride = f.step.page_table_stride,
                     .lengths = f.lengths.data(), .batch = f.step.batch};
    return step;
  }
  // The lists of all rows; what counts as dense is written out.
  std::vector<std::vector<int32_t>> Lists(const BlockIds& blocks) const {
    std::vector<std::vector<int32_t>> lists;
    for (int64_t row = 0; row < f.rows(); ++row) {
      const int64_t all = NumBlocks(f.lengths[row / f.problem.k_heads], blocks.block_tokens);
      std::vector<int32_t> list(blocks.ids + row * blocks.capacity,
                                blocks.ids + row * blocks.capacity + std::max(0, blocks.counts[row]));
      if (blocks.counts[row] == kAllBlocks) {
        list.resize(all);
        std::iota(list.begin(), list.end(), 0);
      } else {
        for (int64_t i = blocks.counts[row]; i < blocks.capacity; ++i) EXPECT_EQ(blocks.ids[row * blocks.capacity + i], -1);
      }
      lists.push_back(list);
    }
    return lists;
  }
  int64_t Capacity() const { return std::max<int64_t>(1, NumBlocks(f.problem.max_keys, block_tokens)); }
  std::vector<std::vector<int32_t>> Select(const Selector& selector, CpuTarget target, int threads, int64_t capacity = 0) {
    if (capacity == 0) capacity = Capacity();
    std::vector<int32_t> ids(f.rows() * capacity, -7), counts(f.rows(), -7);
    const BlockIds blocks{.ids = ids.data(), .counts = counts.data(), .capacity = capacity, .block_tokens = block_tokens};
    ThreadPool pool(threads);
    const auto plan = Plan(f.problem, {}, {.target = target, .num_threads = threads});
    EXPECT_TRUE(plan.ok()) << plan.status();
    std::vector<std::byte> workspace(plan->workspace_bytes + (1 << 20), std::byte{0xff});
    const absl::Status status =
        attention::Select(*plan, selector, Step(selector.kind), blocks, {.pool = &pool, .workspace = workspace});
    EXPECT_TRUE(status.ok()) << status;
    return Lists(blocks);
  }
  std::vector<std::vector<int32_t>> Truth(const Selector& selector) {
    const int64_t capacity = Capacity();
    std::vector<int32_t> ids(f.rows() * capacity), counts(f.rows());
    const BlockIds blocks{.ids = ids.data(), .counts = counts.data(), .capacity = capacity, .block_tokens = block_tokens};
    ReferenceSelect(f.problem, selector, Step(selector.kind), blocks);
    return Lists(blocks);
  }
};

Problem Shape(int64_t group, int64_t kv_heads, int64_t width, DType type) {
  return {.q_heads = group * kv_heads, .k_heads = kv_heads, .v_heads = kv_heads, .key_width = width, .value_width = width,
          .kv_type = type};
}

TEST(SelectCpu, EverySelectorAndModeChoosesWhatFp64Chooses) {
  const SelectorKind kinds[] = {SelectorKind::kGate, SelectorKind::kQuest, SelectorKind::kResa, SelectorKind::kOracle};
  const int64_t sizes[] = {4, 16, 32, 64, 128}, groups[] = {1, 2, 4, 8, 16}, odd_groups[] = {5, 7, 3, 1, 12};
  const std::vector<std::vector<int>> cover = PairwiseCover({4, 3, 5, 5, 2, 3, 2, 2, 2, 2}, 21);
  ASSERT_LE(cover.size(), 150u);
  for (const std::vector<int>& row : cover) {
    const int64_t block = sizes[row[2]];
    const bool exact = row[6] == 0;
    const int64_t group = (exact ? groups : odd_groups)[row[3]];
    Selector s{.kind = kinds[row[0]], .mode = static_cast<SelectMode>(row[1]), .block_tokens = block,
               .budget_tokens = 12 * block, .ratio_per_mille = 150, .min_blocks = 4, .threshold = 0.013f,
               .first_blocks = row[5], .last_blocks = 1 + row[5], .count_forced = row[4] == 0};
    if (s.kind == SelectorKind::kQuest) s.per_head = row[7] == 1;
    if (s.kind == SelectorKind::kGate) s.gate_zero_placeholder = row[7] == 1;
    const int32_t edge = static_cast<int32_t>(block);
    const std::vector<int32_t> lengths = {4 * edge, 12 * edge + 1, 1, 97 * edge + edge / 2, edge - 1, 41 * edge, 13 * edge - 1};
    const DType type = row[8] == 0 ? DType::kF32 : DType::kBF16;
    SelectFixture f(Shape(group, 1 + row[9], 64, DType::kF32), lengths, block, exact, type, 31);
    const auto truth = f.Truth(s);
    for (const CpuKernels& kernels : AllCpuKernels()) {
      EXPECT_EQ(f.Select(s, kernels.target, 2), truth)
          << kernels.name << " kind " << row[0] << " mode " << row[1] << " block " << block << " group " << group
          << " exact " << exact << " forced counts " << s.count_forced << " variant " << row[7] << " " << DTypeName(type);
    }
  }
}

TEST(SelectCpu, LongRowsOfTies) {
  for (const int64_t per_mille : {1, 100, 500, 999}) {
    SelectFixture f(Shape(4, 2, 64, DType::kF32), {32768, 4097}, 16, /*exact=*/true, DType::kBF16, 41);
    Selector s = ResaSelector(per_mille);
    const auto truth = f.Truth(s);
    std::fill(f.q.begin(), f.q.end(), 0.0f);  // now every score ties
    const auto all_equal = f.Truth(s);
    for (const CpuKernels& kernels : AllCpuKernels()) EXPECT_EQ(f.Select(s, kernels.target, 2), all_equal) << kernels.name;
    EXPECT_NE(truth, all_equal);
    EXPECT_EQ(all_equal[0][0], 0);  // the lower blocks win
  }
}

TEST(SelectCpu, DenseBelowAndListsThatAreTooShortMeanAllBlocks) {
  SelectFixture f(Shape(2, 1, 64, DType::kF32), {640, 641, 2000}, 16, true, DType::kF32, 51);
  Selector s{.kind = SelectorKind::kResa, .block_tokens = 16, .budget_tokens = 80, .dense_below = 640};
  const auto lists = f.Select(s, CpuTarget::kScalar, 1, /*capacity=*/5);
  EXPECT_EQ(lists[0].size(), 40u);
  EXPECT_EQ(lists[1].size(), 5u);
  EXPECT_EQ(f.Select(s, CpuTarget::kScalar, 1, /*capacity=*/4)[2].size(), 125u);
}

TEST(SelectCpu, NeitherThreadsNorThePlaceOfPagesNorTheTypeOfTheWeightsMatter) {
  for (const SelectorKind kind : {SelectorKind::kGate, SelectorKind::kQuest, SelectorKind::kResa, SelectorKind::kOracle}) {
    const Selector s{.kind = kind, .block_tokens = 32, .budget_tokens = 320};
    SelectFixture f(Shape(7, 2, 64, DType::kBF16), {4097, 33, 1000}, 32, false, DType::kBF16, 61, 1);
    SelectFixture moved(Shape(7, 2, 64, DType::kBF16), {4097, 33, 1000}, 32, false, DType::kBF16, 61, 2);
    for (const CpuKernels& kernels : AllCpuKernels()) {
      const auto want = f.Select(s, kernels.target, 1);
      for (const int threads : {2, 3, 7}) EXPECT_EQ(f.Select(s, kernels.target, threads), want) << kernels.name;
      EXPECT_EQ(moved.Select(s, kernels.target, 2), want) << kernels.name;
      f.gate.query_weights = f.wq16.data();  // the same numbers, in bf16
      f.gate.type = DType::kBF16;
      EXPECT_EQ(f.Select(s, kernels.target, 2), want) << kernels.name;
      f.gate.query_weights = f.wq.data();
      f.gate.type = DType::kF32;
    }
  }
}

TEST(SelectCpu, NoKeyOfAMillionExceedsTheBoundOfItsBlock) {
  constexpr int64_t kWidth = 64, kTokens = 16, kCases = 62500;
  const int32_t page = 0;
  for (const CpuKernels& kernels : AllCpuKernels()) {
    Rng rng(81);
    float keys[kTokens][kWidth], query[2 * kWidth], q[kWidth], pair[2 * kWidth], bound;
    for (int64_t i = 0; i < kCases; ++i) {
      for (int64_t t = 0; t < kTokens; ++t) {
        for (float& x : keys[t]) x = static_cast<float>(rng.Uniform() - 0.5);
        kernels.rows.min_max({.descriptor = pair, .bf16 = false, .key = keys[t], .width = kWidth, .first = t == 0});
      }
      for (int64_t c = 0; c < kWidth; ++c) {
        q[c] = static_cast<float>(rng.Uniform() - 0.5);
        query[c] = std::min(q[c], 0.0f);
        query[kWidth + c] = std::max(q[c], 0.0f);
      }
      kernels.rows.dots({.query = query, .queries = 1, .width = 2 * kWidth, .descriptors = reinterpret_cast<const char*>(pair),
                         .bf16 = false, .page_bytes = 0, .block_bytes = 0, .pages = &page, .block_tokens = 64, .begin = 0,
                         .end = 1, .scale = 1, .largest = false, .scores = &bound, .stride = 1});
      for (const auto& key : keys) {
        float dot = 0;
        for (int64_t c = 0; c < kWidth; ++c) dot += q[c] * key[c];
        ASSERT_LE(dot, bound + 1e-5f * std::abs(bound)) << kernels.name;
      }
    }
  }
}

TEST(SelectCpu, CallsThatMakeNoSenseAreRefused) {
  SelectFixture f(Shape(2, 1, 64, DType::kF32), {640}, 16, true, DType::kF32, 71);
  ThreadPool pool(1);
  const AttentionPlan plan = *Plan(f.f.problem, {}, {});
  std::vector<std::byte> workspace(plan.workspace_bytes);
  int32_t ids[4], count;
  BlockIds blocks{.ids = ids, .counts = &count, .capacity = 4, .block_tokens = 16};
  const auto message = [&](const Selector& s, const SelectBatch& step, size_t bytes) {
    return std::string(attention::Select(plan, s, step, blocks, {.pool = &pool, .workspace = std::span(workspace).first(bytes)}).message());
  };
  const Selector s{.kind = SelectorKind::kResa, .block_tokens = 16, .budget_tokens = 64};
  SelectBatch step = f.Step(s.kind);
  EXPECT_EQ(message(s, step, workspace.size()), "");
  EXPECT_THAT(message(s, step, 10), HasSubstr("workspace"));
  step.descriptors.width = 32;
  EXPECT_THAT(message(s, step, workspace.size()), HasSubstr("width 64, got 32"));
  step = f.Step(s.kind);
  step.type = DType::kBF16;
  EXPECT_THAT(message(s, step, workspace.size()), HasSubstr("not BF16"));
  Selector gate = s;
  gate.kind = SelectorKind::kGate;
  step = f.Step(gate.kind);
  step.gate = nullptr;
  EXPECT_THAT(message(gate, step, workspace.size()), HasSubstr("gate's weights"));
}

// The worked examples: B = 4, d = 4, one KV head of two query heads, 14 tokens; values stand in the first two columns.
struct WorkedExample {
  static constexpr int64_t kB = worked::kBlock, kLength = worked::kLength;
  Problem problem{.q_heads = 2, .k_heads = 1, .v_heads = 1, .key_width = 4, .value_width = 16, .kv_type = DType::kF32,
                  .max_keys = 64};
  std::vector<float> keys = worked::Keys(), q{worked::kQueries.begin(), worked::kQueries.end()}, k, v, pairs, gate_keys, pool, ones = {1, 1, 1, 1};
  std::vector<float> wq = std::vector<float>(32, 0), wk = std::vector<float>(48, 0), out = std::vector<float>(32), lse = {0, 0};
  const float* frequencies = worked::kFrequencies;
  int32_t page = 0, length = 0;
  Gate gate;
  KvView k_view, v_view;
  DescriptorView pair_view, gate_view;
  AttentionPlan plan;
  ThreadPool threads{2};
  std::vector<std::byte> workspace;
  Execution execution;

  WorkedExample(CpuTarget target, bool norm, bool rope, bool pos_compat = false) {
    k.assign(64 * 4, NAN);
    v.assign(64 * 16, NAN);
    pairs.assign(16 * 8, NAN);
    gate_keys.assign(16 * 4, NAN);
    pool.assign(12, NAN);
    for (int c = 0; c < 4; ++c) {
      for (int part = 0; part < 2; ++part) wq[part * 16 + c * 4 + c] = worked::kQueryWeights[part];
      for (int part = 0; part < 3; ++part) wk[part * 16 + c * 4 + c] = worked::kKeyWeights[part];
    }
    gate = {.query_weights = wq.data(), .key_weights = wk.data(), .query_norm = norm ? ones.data() : nullptr,
            .key_norm = norm ? ones.data() : nullptr, .frequencies = rope ? frequencies : nullptr, .width = 4};
    const auto bytes = [](std::vector<float>& x) { return reinterpret_cast<std::byte*>(x.data()); };
    k_view = {.base = bytes(k), .heads = 1, .width = 4, .page_stride = 256, .head_stride = 256};
    v_view = {.base = bytes(v), .heads = 1, .width = 16, .page_stride = 1024, .head_stride = 1024};
    pair_view = {bytes(pairs), DType::kF32, 4, 128, 128, 8};
    gate_view = {bytes(gate_keys), DType::kF32, 4, 64, 64, 4};
    plan = *Plan(problem, {}, {.target = target, .num_threads = 2});
    workspace.resize(plan.workspace_bytes + 65536);
    execution = {.pool = &threads, .workspace = workspace};
    // Append wants keys and values of one width; its parts are called here in its order.
    for (length = 1; length <= kLength; ++length) {
      std::vector<float> key(keys.begin() + (length - 1) * 4, keys.begin() + length * 4), value(16, 0);
      for (int c = 0; c < 2; ++c) value[c] = worked::Value(length - 1, c);
      StoreKeys(k_view, std::span(&page, 1), length - 1, key.data(), 1);
      StoreValues(v_view, std::span(&page, 1), length - 1, value.data(), 1);
      const RowKernels& rows = plan.kernels->rows;
      const int64_t block = (length - 1) / kB;
      rows.min_max({.descriptor = pairs.data() + block * 8, .bf16 = false, .key = key.data(), .width = 4, .first = (length - 1) % kB == 0});
      rows.pool({.pool = pool.data(), .key = key.data(), .width = 4, .first = (length - 1) % kB == 0});
      if (length % kB == 0) {
        std::vector<float> pooled(pool.begin(), pool.end());
        for (int c = 8; c < 12; ++c) pooled[c] /= kB;
        float* e = gate_keys.data() + block * 4;
        rows.project({.x = pooled.data(), .inputs = 12, .weights = wk.data(), .bf16 = false, .width = 4, .out = e});
        if (norm) rows.norm({.x = e, .norm = ones.data(), .eps = 1e-6f, .width = 4, .out = e});
        const double position = static_cast<double>(pos_compat ? length - 1 : length - kB);
        const float turn[] = {static_cast<float>(std::cos(position)), static_cast<float>(std::cos(position * frequencies[1])),
                              static_cast<float>(std::sin(position)), static_cast<float>(std::sin(position * frequencies[1]))};
        if (rope) rows.rotate({.x = e, .cosines = turn, .sines = turn + 2, .width = 4, .out = e});
      }
    }
    length = kLength;
  }
  std::vector<int32_t> Select(const Selector& s) {
    std::vector<int32_t> ids(4, -7), count(1, -7);
    const BlockIds blocks{.ids = ids.data(), .counts = count.data(), .capacity = 4, .block_tokens = kB};
    const SelectBatch step{.q = q.data(), .descriptors = s.kind == SelectorKind::kGate ? gate_view : pair_view, .gate = &gate,
                           .k = k_view, .page_table = &page, .page_table_stride = 1, .lengths = &length, .batch = 1};
    const absl::Status status = attention::Select(plan, s, step, blocks, execution);
    EXPECT_TRUE(status.ok()) << status;
    if (count[0] == kAllBlocks) return {0, 1, 2, 3};
    return std::vector<int32_t>(ids.begin(), ids.begin() + count[0]);
  }
};

TEST(WorkedCpu, SelectionsOfTheExamples) {
  for (const CpuKernels& kernels : AllCpuKernels()) {
    SCOPED_TRACE(kernels.name);
    WorkedExample plain(kernels.target, true, true), late(kernels.target, true, true, /*pos_compat=*/true);
    for (const worked::Choice& c : worked::Choices()) EXPECT_EQ((c.late ? late : plain).Select(c.selector), c.blocks) << c.name;
  }
}

TEST(WorkedCpu, ScoresAndDescriptorsOfTheExamples) {
  for (const CpuKernels& kernels : AllCpuKernels()) {
    SCOPED_TRACE(kernels.name);
    for (const bool norm : {true, false}) {
      WorkedExample w(kernels.target, norm, true);
      for (int i = 0; i < 32; ++i) EXPECT_EQ(w.pairs[i], (i % 8 < 4 ? worked::kMin : worked::kMax)[i / 8][i % 4]);
      float query[4], turn[4], scores[3];
      const RowKernels& rows = kernels.rows;
      rows.project({.x = w.q.data(), .inputs = 8, .weights = w.wq.data(), .bf16 = false, .width = 4, .out = query});
      for (int i = 0; i < 4; ++i) EXPECT_EQ(query[i], worked::kProjectedQuery[i]);
      if (norm) rows.norm({.x = query, .norm = w.ones.data(), .eps = 1e-6f, .width = 4, .out = query});
      for (int i = 0; i < 2; ++i) {
        turn[i] = static_cast<float>(std::cos(13.0 * w.frequencies[i]));
        turn[2 + i] = static_cast<float>(std::sin(13.0 * w.frequencies[i]));
      }
      rows.rotate({.x = query, .cosines = turn, .sines = turn + 2, .width = 4, .out = query});
      rows.dots({.query = query, .queries = 1, .width = 4, .descriptors = reinterpret_cast<const char*>(w.gate_keys.data()),
                 .bf16 = false, .page_bytes = 256, .block_bytes = 16, .pages = &w.page, .block_tokens = 4, .begin = 0, .end = 3,
                 .scale = 0.5f, .largest = false, .scores = scores, .stride = 3});
      for (int i = 0; i < 3; ++i) EXPECT_NEAR(scores[i], (norm ? worked::kScores : worked::kNoNorm)[i], worked::kPrinted);
      if (norm) {
        for (int i = 0; i < 4; ++i) EXPECT_NEAR(query[i], worked::kGateQuery[i], worked::kPrinted);
        for (int i = 0; i < 4; ++i) EXPECT_NEAR(w.gate_keys[8 + i], worked::kLastGateKey[i], worked::kPrinted);
        float p[3];
        const float sum = rows.exponentials(scores, 3, p);
        for (int i = 0; i < 3; ++i) EXPECT_NEAR(p[i] / sum, worked::kSoftmax[i], worked::kPrinted);
      }
    }
  }
}

TEST(WorkedCpu, AttentionOverAllBlocksAndTheBlockKernel) {
  // Blocks of 4 are below what the sparse kernel takes: the dense kernel gives the printed line of all blocks.
  for (const CpuKernels& kernels : AllCpuKernels()) {
    WorkedExample w(kernels.target, true, true);
    DecodeBatch step{.q = w.q.data(), .out = w.out.data(), .lse = w.lse.data(), .k = w.k_view, .v = w.v_view, .page_table = &w.page,
                     .page_table_stride = 1, .lengths = &w.length, .batch = 1};
    ASSERT_TRUE(Decode(w.plan, step, w.execution).ok());
    const auto expect = [&](const worked::Attended& want) {
      for (int h = 0; h < 2; ++h) {
        for (int c = 0; c < 2; ++c) EXPECT_NEAR(w.out[h * 16 + c], want.out[h * 2 + c], worked::kPrinted) << kernels.name;
        EXPECT_NEAR(w.lse[h], want.lse[h], worked::kPrinted) << kernels.name;
      }
    };
    expect(worked::kDense);
    // S = {0, 2, 3} spread over blocks of 16: each of the three stands alone at the front of a block, one page each half.
    std::vector<float> k(2 * 256, NAN), v(2 * 1024, NAN);
    std::vector<int32_t> pages = {1, 0};
    KvView k_view = w.k_view, v_view = w.v_view;
    k_view.base = reinterpret_cast<std::byte*>(k.data());
    v_view.base = reinterpret_cast<std::byte*>(v.data());
    const float far[4] = {-1e4f, 0, 0, -1e4f};  // a key of no weight fills the blocks
    for (int t = 0; t < 98; ++t) {
      std::vector<float> value(16, 0);
      StoreKeys(k_view, pages, t, far, 1);
      StoreValues(v_view, pages, t, value.data(), 1);
    }
    int to = 0;
    for (const int block : {0, 2, 3}) {
      for (int t = block * 4; t < std::min(14, block * 4 + 4); ++t) {
        const int at = (to == 2 ? 96 : to * 48) + t % 4;
        std::vector<float> value(16, 0);
        for (int c = 0; c < 2; ++c) value[c] = worked::Value(t, c);
        StoreKeys(k_view, pages, at, w.keys.data() + t * 4, 1);
        StoreValues(v_view, pages, at, value.data(), 1);
      }
      ++to;
    }
    Problem problem = w.problem;
    problem.max_keys = 98;
    const AttentionPlan plan = *Plan(problem, {}, {.target = kernels.target});
    std::vector<std::byte> workspace(plan.workspace_bytes);
    int32_t length = 98;
    step.k = k_view;
    step.v = v_view;
    step.page_table = pages.data();
    step.page_table_stride = 2;
    step.lengths = &length;
    Lists lists({{0, 3, 6}}, 4, 16);
    ASSERT_TRUE(SparseDecode(plan, step, lists.view, {.pool = &w.threads, .workspace = workspace}).ok());
    expect(worked::kSparse);
  }
}

}  // namespace
}  // namespace lectern::attention
