#include "attention/attention.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "attention/cpu/cpu_kernels.h"
#include "attention/reference.h"
#include "base/rng.h"

namespace lectern::attention {
namespace {

using ::testing::EndsWith;
using ::testing::HasSubstr;

// Random queries and a KV cache whose pages lie in a shuffled order.
struct Fixture {
  Problem problem;
  int64_t num_queries, num_keys;
  std::vector<float> q, out, lse, keys, values;
  std::vector<std::byte> k_pool, v_pool;
  std::vector<int32_t> pages;
  PagedKv kv;

  Fixture(const Problem& p, int64_t queries, int64_t num_keys_in, uint64_t seed) : problem(p), num_queries(queries), num_keys(num_keys_in) {
    Rng rng(seed);
    const auto fill = [&](std::vector<float>& v, int64_t n) {
      v.resize(n);
      for (float& x : v) x = static_cast<float>(rng.Normal());
    };
    fill(q, queries * p.q_heads * p.key_width);
    fill(keys, num_keys * p.k_heads * p.key_width);
    fill(values, num_keys * p.v_heads * p.value_width);
    out.assign(queries * p.q_heads * p.value_width, NAN);
    lse.assign(queries * p.q_heads, NAN);
    const int64_t num_pages = (num_keys + kPageSlots - 1) / kPageSlots + 2;
    pages.resize(num_pages);
    std::iota(pages.begin(), pages.end(), 0);
    for (int64_t i = num_pages - 1; i > 0; --i) std::swap(pages[i], pages[rng.Below(i + 1)]);
    kv.k = View(k_pool, p.k_heads, p.key_width, num_pages);
    kv.v = View(v_pool, p.v_heads, p.value_width, num_pages);
    kv.pages = pages;
    kv.num_keys = num_keys;
    StoreKeys(kv.k, pages, 0, keys.data(), num_keys);
    StoreValues(kv.v, pages, 0, values.data(), num_keys);
  }
  KvView View(std::vector<std::byte>& pool, int64_t heads, int64_t width, int64_t num_pages) {
    const int64_t element = problem.kv_type == DType::kF32 ? 4 : 2;
    pool.assign(num_pages * heads * width * kPageSlots * element, std::byte{0});
    return {.base = pool.data(), .type = problem.kv_type, .heads = heads, .width = width,
            .page_stride = heads * width * kPageSlots, .head_stride = width * kPageSlots,
            .slot_stride = problem.layout == BlockLayout::kRows ? width : 0, .layout = problem.layout};
  }
  Queries Rows(std::vector<float>& to, int64_t first, int64_t count, bool with_lse = true) {
    const int64_t heads = problem.q_heads;
    Queries rows{.q = {q.data() + first * heads * problem.key_width, {count, heads, problem.key_width}},
                 .out = {to.data() + first * heads * problem.value_width, {count, heads, problem.value_width}}};
    if (with_lse) rows.lse = {lse.data() + first * heads, {count, heads}};
    return rows;
  }
  std::vector<float> Truth(const Variant& variant) {
    std::vector<float> truth(out.size());
    Reference(problem, variant, Rows(truth, 0, num_queries), kv);
    return truth;
  }
  // The same attention with queries, and each softmax weight, rounded to bf16: what plain bf16 code gives.
  std::vector<float> NaiveBf16(const Variant& variant) {
    std::vector<float> naive(out.size()), kept = q;
    for (float& x : q) x = ToFloat(ToBf16(x));
    Reference(problem, variant, Rows(naive, 0, num_queries), kv);
    q = kept;
    for (float& x : naive) x = ToFloat(ToBf16(x));
    return naive;
  }
};

double MaxError(const std::vector<float>& got, const std::vector<float>& want) {
  double worst = 0;
  for (size_t i = 0; i < got.size(); ++i) {
    const double error = got[i] == want[i] ? 0.0 : std::abs(static_cast<double>(got[i]) - want[i]);
    worst = std::isnan(error) ? INFINITY : std::max(worst, error);
  }
  return worst;
}

std::vector<float> Attend(Fixture& f, const Variant& variant, CpuTarget target, int threads) {
  ThreadPool pool(threads);
  Problem problem = f.problem;
  problem.max_keys = f.num_keys + 7;
  auto plan = Plan(problem, variant, {.target = target, .num_threads = threads});
  EXPECT_TRUE(plan.ok()) << plan.status();
  std::vector<std::byte> workspace(plan->workspace_bytes);
  std::vector<float> out(f.out.size(), NAN);
  const absl::Status status = f.num_queries == 1 ? Decode(*plan, f.Rows(out, 0, 1), f.kv, pool, workspace)
                                                 : Prefill(*plan, f.Rows(out, 0, f.num_queries), f.kv, pool, workspace);
  EXPECT_TRUE(status.ok()) << status;
  return out;
}

struct Case {
  int64_t q_heads, kv_heads, key_width, value_width, queries, keys;
};
constexpr Case kCases[] = {
    {14, 2, 64, 64, 1, 1},     {14, 2, 64, 64, 1, 63},   {14, 2, 64, 64, 1, 64},  {14, 2, 64, 64, 1, 65},
    {14, 2, 64, 64, 1, 2676},  {9, 3, 64, 64, 1, 1000},  {4, 1, 256, 256, 1, 777}, {3, 3, 34, 48, 1, 300},
    {26, 2, 16, 16, 1, 129},   {14, 2, 64, 64, 37, 37},  {14, 2, 64, 64, 9, 201}, {9, 3, 64, 64, 70, 133},
    {4, 1, 256, 256, 5, 130},  {2, 1, 80, 112, 65, 65},  {3, 3, 34, 48, 20, 90},  {1, 1, 2, 16, 3, 3},
};
const Variant kVariants[] = {
    {.mask = {MaskKind::kCausal}},
    {.mask = {MaskKind::kFull}},
    {.mask = {MaskKind::kSlidingWindow, 1}},
    {.mask = {MaskKind::kSlidingWindow, 50}},
    {.mask = {MaskKind::kCausal}, .scale = 0.3f, .soft_cap = 5.0f},
    {.mask = {MaskKind::kSlidingWindow, 200}, .scale = 0.05f, .soft_cap = 30.0f},
};

TEST(Attention, Fp32KernelsOfEveryCpuTargetGiveTheFp64Truth) {
  for (const Case& c : kCases) {
    Fixture f({c.q_heads, c.kv_heads, c.kv_heads, c.key_width, c.value_width, DType::kF32}, c.queries, c.keys, 7);
    for (const Variant& variant : kVariants) {
      const std::vector<float> truth = f.Truth(variant), truth_lse = f.lse;
      for (const CpuKernels& kernels : AllCpuKernels()) {
        for (int threads : {1, 3}) {
          SCOPED_TRACE(internal::Concat(kernels.name, " threads ", threads, " q_heads ", c.q_heads, " width ",
                                        c.key_width, " queries ", c.queries, " keys ", c.keys, " variant ",
                                        &variant - kVariants));
          EXPECT_LE(MaxError(Attend(f, variant, kernels.target, threads), truth), 4e-6);
          EXPECT_LE(MaxError(f.lse, truth_lse), 1e-5);
        }
      }
    }
  }
}

TEST(Attention, Bf16KernelsOfEveryCpuTargetAreWithinTwiceTheNaiveError) {
  for (const Case& c : kCases) {
    Fixture f({c.q_heads, c.kv_heads, c.kv_heads, c.key_width, c.value_width, DType::kBF16}, c.queries, c.keys, 8);
    for (const Variant& variant : kVariants) {
      const std::vector<float> truth = f.Truth(variant);
      const double naive = MaxError(f.NaiveBf16(variant), truth);
      for (const CpuKernels& kernels : AllCpuKernels()) {
        SCOPED_TRACE(internal::Concat(kernels.name, " q_heads ", c.q_heads, " width ", c.key_width, " queries ",
                                      c.queries, " keys ", c.keys, " variant ", &variant - kVariants));
        EXPECT_LE(MaxError(Attend(f, variant, kernels.target, 2), truth), 2 * naive + 1e-6);
      }
    }
  }
}

TEST(Attention, AnEmptyRowIsZeroAndItsLseMinusInfinity) {
  // More queries than keys: the first ones stand before key 0.
  for (DType type : {DType::kF32, DType::kBF16}) {
    Fixture f({4, 2, 2, 32, 32, type}, /*queries=*/10, /*keys=*/4, 3);
    for (const CpuKernels& kernels : AllCpuKernels()) {
      const std::vector<float> out = Attend(f, {.mask = {MaskKind::kCausal}}, kernels.target, 2);
      for (int64_t i = 0; i < 6 * 4 * 32; ++i) ASSERT_EQ(out[i], 0.0f) << kernels.name;
      for (int64_t i = 0; i < 6 * 4; ++i) ASSERT_EQ(f.lse[i], -INFINITY) << kernels.name;
      for (size_t i = 6 * 4 * 32; i < out.size(); ++i) ASSERT_TRUE(std::isfinite(out[i])) << kernels.name;
    }
  }
}

TEST(Attention, ARowDoesNotDependOnTheQueriesBesideIt) {
  Fixture f({14, 2, 2, 64, 64, DType::kBF16}, 90, 300, 4);
  ThreadPool pool(2);
  Problem problem = f.problem;
  problem.max_keys = 300;
  for (const CpuKernels& kernels : AllCpuKernels()) {
    const AttentionPlan plan = *Plan(problem, {.mask = {MaskKind::kSlidingWindow, 100}}, {kernels.target, 2});
    std::vector<std::byte> workspace(plan.workspace_bytes);
    std::vector<float> whole(f.out.size()), parts(f.out.size());
    ASSERT_TRUE(Prefill(plan, f.Rows(whole, 0, 90), f.kv, pool, workspace).ok());
    for (int64_t first = 0; first < 90;) {
      const int64_t count = std::min<int64_t>(1 + first / 3, 90 - first);
      PagedKv kv = f.kv;
      kv.num_keys = 300 - 90 + first + count;
      ASSERT_TRUE(Prefill(plan, f.Rows(parts, first, count), kv, pool, workspace).ok());
      first += count;
    }
    EXPECT_EQ(whole, parts) << kernels.name;
  }
}

TEST(Attention, KeyMassIsTheSumOfTheSoftmaxWeightsOverHeads) {
  for (DType type : {DType::kF32, DType::kBF16}) {
    Fixture f({9, 3, 3, 64, 64, type}, 1, 900, 5);
    const Variant variant{.mask = {MaskKind::kSlidingWindow, 700}};
    for (const CpuKernels& kernels : AllCpuKernels()) {
      ThreadPool pool(2);
      Problem problem = f.problem;
      problem.max_keys = 900;
      const AttentionPlan plan = *Plan(problem, variant, {kernels.target, 2});
      std::vector<std::byte> workspace(plan.workspace_bytes);
      std::vector<float> out(f.out.size()), mass(900, 0.0f);
      const Queries rows = f.Rows(out, 0, 1);
      ASSERT_TRUE(Decode(plan, rows, f.kv, pool, workspace).ok());
      ASSERT_TRUE(AddKeyMass(plan, rows, f.kv, pool, workspace, mass).ok());
      EXPECT_NEAR(std::accumulate(mass.begin(), mass.end(), 0.0), 9.0, 1e-3) << kernels.name;
      EXPECT_EQ(mass[199], 0.0f);
      double want = 0;  // key 500
      for (int64_t head = 0; head < 9; ++head) {
        double dot = 0;
        for (int64_t c = 0; c < 64; ++c) dot += f.q[head * 64 + c] * KeyAt(f.kv.k, f.pages, 500, head / 3, c);
        want += std::exp(dot / 8 - f.lse[head]);
      }
      EXPECT_NEAR(mass[500], want, type == DType::kF32 ? 1e-6 : 2e-3 * want) << kernels.name;
    }
  }
}

TEST(Attention, TheReferenceReadsBothLayoutsAndUnequalHeads) {
  Fixture lanes({6, 2, 3, 32, 48, DType::kF32}, 3, 70, 6);
  Fixture rows({6, 2, 3, 32, 48, DType::kF32, BlockLayout::kRows}, 3, 70, 6);
  EXPECT_EQ(lanes.Truth({}), rows.Truth({}));
}

TEST(Attention, APlanThatCannotServeAVariantNamesTheConstraint) {
  const Problem good{14, 2, 2, 64, 64, DType::kBF16, BlockLayout::kLanes, 4096};
  ASSERT_TRUE(Plan(good, {}, {}).ok());
  const auto refusal = [&](auto change) {
    Problem bad = good;
    change(bad);
    const auto plan = Plan(bad, {}, {});
    EXPECT_EQ(plan.status().code(), absl::StatusCode::kUnimplemented);
    return std::string(plan.status().message());
  };
  EXPECT_THAT(refusal([](Problem& p) { p.v_heads = 7; }), HasSubstr("as many K heads as V heads, got 2 and 7"));
  EXPECT_THAT(refusal([](Problem& p) { p.q_heads = 15; }), HasSubstr("multiple of KV heads, got 15 and 2"));
  EXPECT_THAT(refusal([](Problem& p) { p.key_width = 63; }), HasSubstr("even, got 63"));
  EXPECT_THAT(refusal([](Problem& p) { p.value_width = 40; }), HasSubstr("multiple of 16, got 40"));
  EXPECT_THAT(refusal([](Problem& p) { p.kv_type = DType::kQ8_0; }), HasSubstr("not Q8_0"));
  EXPECT_THAT(refusal([](Problem& p) { p.layout = BlockLayout::kRows; }), HasSubstr("lanes, not rows"));
  EXPECT_EQ(Plan(good, {.mask = {MaskKind::kSlidingWindow, 0}}, {}).status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST(Attention, ExplainNamesKernelTilesSplitsAndBytes) {
  const AttentionPlan plan = *Plan({14, 2, 2, 64, 64, DType::kBF16, BlockLayout::kLanes, 4096}, {},
                                   {.target = CpuTarget::kScalar, .num_threads = 2});
  EXPECT_THAT(plan.Explain(), HasSubstr("kernel flash_scalar_bf16, tile 56 rows x 64 keys, decode splits <= 32"));
  EXPECT_EQ(plan.PredictedBytes(1, 0), 512);  // K and V, 2 heads of 64, 2 bytes each
  EXPECT_THAT(plan.Explain(), EndsWith(" bytes, 512 bytes a key"));
  const AttentionPlan wide = *Plan({32, 8, 8, 128, 64, DType::kF32, BlockLayout::kLanes, 4096}, {}, {.target = CpuTarget::kScalar});
  EXPECT_THAT(wide.Explain(), EndsWith(" bytes, 6144 bytes a key"));  // 8 * (128 + 64) * 4
  EXPECT_EQ(plan.ChunkKeys(100), 512);  // 128 KiB of keys and values
  EXPECT_EQ(plan.ChunkKeys(32768), 1024);
  EXPECT_EQ(plan.ChunkKeys(32769), 1152);
}

TEST(Attention, CallsOutsideThePlanAreRefused) {
  Fixture f({2, 1, 1, 16, 16, DType::kF32}, 1, 70, 9);
  Problem problem = f.problem;
  problem.max_keys = 64;
  ThreadPool pool(1);
  AttentionPlan plan = *Plan(problem, {}, {CpuTarget::kScalar, 1});
  std::vector<std::byte> workspace(plan.workspace_bytes);
  EXPECT_THAT(std::string(Decode(plan, f.Rows(f.out, 0, 1), f.kv, pool, workspace).message()), HasSubstr("0..64"));
  problem.max_keys = 70;
  plan = *Plan(problem, {}, {CpuTarget::kScalar, 1});
  EXPECT_THAT(std::string(Decode(plan, f.Rows(f.out, 0, 1), f.kv, pool, {}).message()), HasSubstr("workspace"));
}

}  // namespace
}  // namespace lectern::attention
