// Batched dense and block-sparse decode on every CPU target, against fp64.
#include <gmock/gmock.h>

#include "tests/attention/step_fixture.h"

namespace lectern::attention {
namespace {

using ::testing::HasSubstr;

constexpr int64_t kBlocks[] = {16, 32, 64, 128};
const Variant kCausal{.mask = {MaskKind::kCausal}};

Problem Shape(int64_t group, int64_t kv_heads, int64_t width, DType type) {
  return {.q_heads = group * kv_heads, .k_heads = kv_heads, .v_heads = kv_heads, .key_width = width, .value_width = width,
          .kv_type = type};
}

// Only a target that multiplies bf16 rounds queries and weights; the others differ from fp64 by their sums alone.
double Tolerance(const CpuKernels& kernels, DType type, double naive) {
  return type == DType::kBF16 && kernels.target == CpuTarget::kAvx512Bf16 ? 2 * naive + 1e-6 : 4e-6;
}
double LseTolerance(const CpuKernels& kernels, DType type) {
  return type == DType::kBF16 && kernels.target == CpuTarget::kAvx512Bf16 ? 2e-2 : 1e-5;
}

TEST(SparseCpu, APairwiseCoverOfShapesGivesTheFp64Truth) {
  const int64_t widths[] = {64, 128}, groups[] = {1, 2, 4, 5, 7, 8, 16}, batches[] = {1, 2, 5, 16}, chances[] = {0, 100, 600};
  const std::vector<std::vector<int>> cover = PairwiseCover({4, 2, 7, 4, 8, 2, 3, 2}, 11);
  ASSERT_LE(cover.size(), 150u);
  for (const std::vector<int>& row : cover) {
    const int64_t block = kBlocks[row[0]], width = widths[row[1]], group = groups[row[2]], batch = batches[row[3]];
    const int32_t edge = static_cast<int32_t>(block), all[] = {1, edge - 1, edge, edge + 1, 2 * edge, 1000, 4097, 32768};
    const DType type = row[5] == 0 ? DType::kF32 : DType::kBF16;
    std::vector<int32_t> lengths = {all[row[4]]};
    for (int64_t b = 1; b < batch; ++b) lengths.push_back(all[(row[4] + 3 * b) % 6]);  // ragged; the long ones alone
    StepFixture f(Shape(group, 1 + row[7], width, type), lengths, 100 + row[4]);
    const Lists lists = f.RandomLists(block, lengths[0] > 5000 ? std::min<int64_t>(chances[row[6]], 100) : chances[row[6]], 3);
    const std::vector<float> truth = f.Truth(kCausal, &lists.view), truth_lse = f.lse;
    const double naive = type == DType::kBF16 ? MaxDifference(f.NaiveBf16(kCausal, &lists.view), truth) : 0;
    for (const CpuKernels& kernels : AllCpuKernels()) {
      SCOPED_TRACE(internal::Concat(kernels.name, " block ", block, " width ", width, " group ", group, " kv_heads ",
                                    1 + row[7], " batch ", batch, " length ", lengths[0], " ", DTypeName(type), " chance ",
                                    chances[row[6]]));
      const std::vector<float> out = f.Decode({.target = kernels.target, .num_threads = 2}, kCausal, &lists.view);
      EXPECT_LE(MaxDifference(out, truth), Tolerance(kernels, type, naive));
      EXPECT_LE(MaxDifference(f.lse, truth_lse), LseTolerance(kernels, type));
    }
  }
}

TEST(SparseCpu, EveryBoundaryLengthOfOneShape) {
  std::vector<int32_t> lengths;
  for (const int edge : {16, 32, 48, 64, 80, 128, 192, 256, 512, 576, 1024}) {
    for (int d = -1; d <= 1; ++d) lengths.push_back(edge + d);
  }
  lengths.insert(lengths.end(), {0, 1, 2, 3});
  for (const DType type : {DType::kF32, DType::kBF16}) {
    StepFixture f(Shape(7, 2, 64, type), lengths, 5);
    for (const int64_t block : kBlocks) {
      const Lists lists = f.RandomLists(block, 500, 9);
      for (const BlockIds* blocks : {static_cast<const BlockIds*>(nullptr), &lists.view}) {
        const std::vector<float> truth = f.Truth(kCausal, blocks), truth_lse = f.lse;
        const double naive = type == DType::kBF16 ? MaxDifference(f.NaiveBf16(kCausal, blocks), truth) : 0;
        for (const CpuKernels& kernels : AllCpuKernels()) {
          SCOPED_TRACE(internal::Concat(kernels.name, " ", DTypeName(type), " block ", block, blocks == nullptr ? " dense" : ""));
          const std::vector<float> out = f.Decode({.target = kernels.target, .num_threads = 2}, kCausal, blocks);
          EXPECT_LE(MaxDifference(out, truth), Tolerance(kernels, type, naive));
          EXPECT_LE(MaxDifference(f.lse, truth_lse), LseTolerance(kernels, type));
        }
      }
    }
  }
}

TEST(SparseCpu, AllBlocksListedGiveTheBitsOfDense) {
  for (const int32_t length : {1, 63, 64, 129, 1000, 4097, 20011}) {
    StepFixture f(Shape(7, 2, 64, DType::kBF16), {length, 77}, 6);
    for (const CpuKernels& kernels : AllCpuKernels()) {
      const Device device{.target = kernels.target, .num_threads = 2};
      const std::vector<float> dense = f.Decode(device, kCausal, nullptr), dense_lse = f.lse;
      for (const int64_t block : kBlocks) {
        Lists lists = f.RandomLists(block, 1000, 1);
        EXPECT_EQ(f.Decode(device, kCausal, &lists.view), dense) << kernels.name << " length " << length << " block " << block;
        EXPECT_EQ(f.lse, dense_lse);
        std::fill(lists.counts.begin(), lists.counts.end(), kAllBlocks);
        EXPECT_EQ(f.Decode(device, kCausal, &lists.view), dense);
      }
    }
  }
}

// The cache of every fixture is NaN wherever there is no key; here unlisted blocks are NaN too, and pages move.
TEST(SparseCpu, NeitherPoisonNorThePlaceOfPagesChangesABit) {
  for (const DType type : {DType::kF32, DType::kBF16}) {
    const Problem problem = Shape(5, 2, 64, type);
    const std::vector<int32_t> lengths = {1003, 64, 17, 513};
    StepFixture plain(problem, lengths, 8, /*page_seed=*/1), moved(problem, lengths, 8, /*page_seed=*/2);
    ASSERT_NE(plain.table, moved.table);
    for (const int64_t block : kBlocks) {
      const Lists lists = plain.RandomLists(block, 300, 4);
      StepFixture poisoned(problem, lengths, 8, /*page_seed=*/3);
      std::vector<float> nan(std::max(problem.key_width, problem.value_width), NAN);
      for (int64_t row = 0; row < plain.rows(); ++row) {
        const int64_t b = row / problem.k_heads, head = row % problem.k_heads;
        std::vector<bool> in(NumBlocks(lengths[b], block), false);
        for (int64_t i = 0; i < lists.counts[row]; ++i) in[lists.ids[row * lists.view.capacity + i]] = true;
        KvView k = poisoned.step.k, v = poisoned.step.v;
        k.base += head * k.head_stride * (type == DType::kF32 ? 4 : 2);
        v.base += head * v.head_stride * (type == DType::kF32 ? 4 : 2);
        k.heads = v.heads = 1;
        for (int64_t t = 0; t < lengths[b]; ++t) {
          if (in[t / block]) continue;
          StoreKeys(k, poisoned.Pages(b), t, nan.data(), 1);
          StoreValues(v, poisoned.Pages(b), t, nan.data(), 1);
        }
      }
      for (const CpuKernels& kernels : AllCpuKernels()) {
        const Device device{.target = kernels.target, .num_threads = 2};
        const std::vector<float> want = plain.Decode(device, kCausal, &lists.view);
        for (const float x : want) ASSERT_TRUE(std::isfinite(x));
        EXPECT_EQ(moved.Decode(device, kCausal, &lists.view), want) << kernels.name << " block " << block;
        EXPECT_EQ(poisoned.Decode(device, kCausal, &lists.view), want) << kernels.name << " block " << block;
      }
    }
  }
}

TEST(SparseCpu, BitsDependOnNeitherThreadsNorRunsNorTheRestOfTheBatch) {
  const std::vector<int32_t> lengths = {9000, 1, 700, 4097, 0, 64};
  const Problem problem = Shape(7, 2, 64, DType::kBF16);
  StepFixture f(problem, lengths, 12);
  const Lists lists = f.RandomLists(64, 300, 2);
  for (const CpuKernels& kernels : AllCpuKernels()) {
    for (const BlockIds* blocks : {static_cast<const BlockIds*>(nullptr), &lists.view}) {
      const std::vector<float> want = f.Decode({.target = kernels.target, .num_threads = 1}, kCausal, blocks);
      for (const int threads : {1, 2, 3, 7}) {
        for (int run = 0; run < 5; ++run) {
          ASSERT_EQ(f.Decode({.target = kernels.target, .num_threads = threads}, kCausal, blocks), want)
              << kernels.name << " threads " << threads;
        }
      }
      // One sequence alone.
      DecodeBatch whole = f.step;
      for (int64_t b = 0; b < whole.batch; ++b) {
        StepFixture& one = f;
        one.step.q = f.q.data() + b * problem.q_heads * problem.key_width;
        one.step.page_table = f.table.data() + b * whole.page_table_stride;
        one.step.lengths = f.lengths.data() + b;
        one.step.batch = 1;
        BlockIds list = lists.view;
        list.ids += b * problem.k_heads * list.capacity;
        list.counts += b * problem.k_heads;
        const std::vector<float> alone =
            one.Decode({.target = kernels.target, .num_threads = 2}, kCausal, blocks == nullptr ? nullptr : &list);
        f.step = whole;
        EXPECT_TRUE(std::equal(alone.begin(), alone.end(), want.begin() + b * static_cast<int64_t>(alone.size())))
            << kernels.name << " sequence " << b;
      }
    }
  }
}

TEST(SparseCpu, WindowsAndSoftCapsHoldInsideBlocks) {
  StepFixture f(Shape(4, 2, 64, DType::kF32), {700, 300, 45}, 13);
  for (const Variant& variant : {Variant{.mask = {MaskKind::kSlidingWindow, 200}}, Variant{.mask = {MaskKind::kSlidingWindow, 37}},
                                 Variant{.mask = {MaskKind::kCausal}, .scale = 0.3f, .soft_cap = 5.0f}}) {
    for (const int64_t block : kBlocks) {
      const Lists lists = f.RandomLists(block, 500, 6);
      const std::vector<float> truth = f.Truth(variant, &lists.view);
      for (const CpuKernels& kernels : AllCpuKernels()) {
        EXPECT_LE(MaxDifference(f.Decode({.target = kernels.target, .num_threads = 2}, variant, &lists.view), truth), 4e-6)
            << kernels.name << " block " << block;
      }
    }
  }
}

TEST(SparseCpu, BlocksOfAnyMultipleOfSixteen) {
  StepFixture f(Shape(3, 1, 32, DType::kBF16), {1000}, 14);
  for (const int64_t block : {48, 80, 112, 256, 960, 2048}) {
    const Lists lists = f.RandomLists(block, 500, 6);
    const std::vector<float> truth = f.Truth(kCausal, &lists.view);
    const double naive = MaxDifference(f.NaiveBf16(kCausal, &lists.view), truth);
    for (const CpuKernels& kernels : AllCpuKernels()) {
      EXPECT_LE(MaxDifference(f.Decode({.target = kernels.target, .num_threads = 2}, kCausal, &lists.view), truth), 2 * naive + 1e-6)
          << kernels.name << " block " << block;
    }
  }
}

TEST(SparseCpu, AnEmptyListIsZeroAndALseOfZeroIsALse) {
  StepFixture f(Shape(2, 1, 16, DType::kF32), {64, 64}, 15);
  Lists lists({{}, {0, 2}}, 4, 16);
  std::fill(f.q.begin() + 32, f.q.end(), 0.0f);  // the second sequence: every score 0, lse = ln(number of keys)
  for (const CpuKernels& kernels : AllCpuKernels()) {
    const std::vector<float> out = f.Decode({.target = kernels.target}, kCausal, &lists.view);
    for (int i = 0; i < 32; ++i) EXPECT_EQ(out[i], 0.0f);
    EXPECT_EQ(f.lse[0], -INFINITY);
    EXPECT_NEAR(f.lse[2], std::log(32.0), 1e-6);
  }
  StepFixture one(Shape(2, 1, 16, DType::kF32), {1}, 16);
  std::fill(one.q.begin(), one.q.end(), 0.0f);
  Lists first({{0}}, 1, 16);
  for (const CpuKernels& kernels : AllCpuKernels()) {
    const std::vector<float> out = one.Decode({.target = kernels.target}, kCausal, &first.view);
    EXPECT_EQ(one.lse[0], 0.0f);
    for (int c = 0; c < 16; ++c) EXPECT_EQ(out[c], one.values[c]);
  }
}

TEST(SparseCpu, ListsThatMakeNoSenseAreRefused) {
  StepFixture f(Shape(2, 1, 16, DType::kF32), {64}, 17);
  ThreadPool pool(1);
  const AttentionPlan plan = *Plan(f.problem, kCausal, {});
  std::vector<std::byte> workspace(plan.workspace_bytes);
  std::vector<float> out(32);
  f.step.out = out.data();
  const auto message = [&](const std::vector<int32_t>& list, int64_t block) {
    Lists lists({list}, 4, block);
    return std::string(SparseDecode(plan, f.step, lists.view, {.pool = &pool, .workspace = workspace}).message());
  };
  EXPECT_EQ(message({0, 3}, 16), "");
  EXPECT_THAT(message({0, 4}, 16), HasSubstr("0..3, got 4"));
  EXPECT_THAT(message({1, 1}, 16), HasSubstr("got 1 after 1"));
  EXPECT_THAT(message({2, 1}, 16), HasSubstr("got 1 after 2"));
  EXPECT_THAT(message({-1}, 16), HasSubstr("got -1"));
  EXPECT_THAT(message({0}, 8), HasSubstr("multiple of 16, got 8"));
  f.lengths[0] = 65;
  EXPECT_THAT(message({0}, 16), HasSubstr("0..64"));
}

}  // namespace
}  // namespace lectern::attention
