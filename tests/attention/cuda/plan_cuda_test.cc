// Plans on the device: what one plan sets up and lays out is its own, and calls outside a plan are refused in words.
// CudaChoice needs no device.
#include <gmock/gmock.h>

#include <atomic>
#include <thread>

#include "attention/cuda/c_api.h"
#include "attention/cuda/launch.h"
#include "tests/attention/cuda/fixture.h"

namespace lectern::attention {
namespace {

using cuda::ChooseDecode;
using cuda::CudaDevice;
using cuda::DecodeChoice;
using cuda::DecodeProblem;
using ::testing::HasSubstr;

constexpr CudaDevice kHopper{.processors = 132, .shared_bytes = 227 * 1024, .selectors = true};

std::string Why(const DecodeProblem& problem) {
  DecodeChoice choice;
  const char* why = ChooseDecode(problem, &choice);
  return why == nullptr ? "" : why;
}

TEST(CudaChoice, RefusesWhatItsThirtyTwoBitNumbersCannotCount) {
  DecodeProblem p{.device = kHopper, .d = 128, .group = 16, .rows = 256, .max_keys = 131072, .chunk_keys = 16};
  EXPECT_THAT(Why(p), HasSubstr("31-bit offsets"));  // 2.1 M slots of 16 x 128 sums
  p.group = 8;
  EXPECT_THAT(Why(p), HasSubstr("31-bit offsets"));
  p.group = 7;
  EXPECT_EQ(Why(p), "");
  p.chunk_keys = 4096;
  p.group = 16;
  EXPECT_EQ(Why(p), "");
  p.rows = 1LL << 32;
  EXPECT_THAT(Why(p), HasSubstr("31 bits"));
  p.rows = 2000;
  EXPECT_THAT(Why(p), HasSubstr("too large for one launch"));
}

TEST(CudaChoice, RefusesNumbersThatMakeNoSense) {
  const DecodeProblem p{.device = kHopper, .d = 128, .group = 4, .rows = 8, .max_keys = 1000};
  EXPECT_EQ(Why(p), "");
  for (const long long bad : {-16, -1, 8, 17, 1 << 24}) {
    DecodeProblem q = p;
    q.chunk_keys = bad;
    EXPECT_THAT(Why(q), HasSubstr("fixed chunks")) << bad;
  }
  for (const long long bad : {-1, 0, 1 << 24}) {
    DecodeProblem q = p;
    q.max_keys = bad;
    EXPECT_THAT(Why(q), HasSubstr("keys a sequence")) << bad;
  }
  for (const long long bad : {-8, 0}) {
    DecodeProblem q = p;
    q.rows = bad;
    EXPECT_THAT(Why(q), HasSubstr("rows")) << bad;
  }
  DecodeProblem small = p;
  small.device.shared_bytes = 100 * 1024;
  EXPECT_THAT(Why(small), HasSubstr("no CUDA kernel fits"));
}

TEST(CudaChoice, TheWorkspaceIsLaidOutForThePlansDevice) {
  DecodeProblem p{.device = kHopper, .d = 128, .group = 4, .rows = 8, .max_keys = 1000};
  DecodeChoice large, small;
  ASSERT_EQ(ChooseDecode(p, &large), nullptr);
  p.device.processors = 7;
  ASSERT_EQ(ChooseDecode(p, &small), nullptr);
  EXPECT_EQ(large.grid, 132);
  EXPECT_EQ(small.grid, 7);
  EXPECT_EQ(small.slots, 14);
  EXPECT_LT(small.workspace_bytes, large.workspace_bytes / 10);
}

TEST(CudaPlan, ASmallPlanTakesNothingFromALargeOne) {
  // 2048 rows need 8 KB of shared memory more than 8 do, and the limit of a kernel is one for all plans.
  const auto run = [](LecternPlan* plan, const CudaCase& c) {
    DeviceArray<std::byte> workspace(lectern_workspace_bytes(plan));
    EXPECT_EQ(lectern_clear_workspace(plan, workspace.get(), nullptr), 0);
    const KvView view = c.View(c.dk);
    const LecternStep step{.q = c.dq.get(), .out = c.dout.get(), .lse = c.dlse.get(), .k = c.dk.get(), .v = c.dv.get(),
                           .k_page_stride = view.page_stride, .k_head_stride = view.head_stride, .v_page_stride = view.page_stride,
                           .v_head_stride = view.head_stride, .page_table = c.dtable.get(), .page_table_stride = c.pages_a_row,
                           .lengths = c.dlengths.get(), .batch = static_cast<int>(c.batch), .workspace = workspace.get(),
                           .num_pages = view.num_pages};
    const int error = lectern_decode(plan, &step, nullptr, nullptr);
    ASSERT_EQ(error, 0) << lectern_error(error);
    ExpectNearTruth(c);
  };
  const CudaCase c({4, 8, 128, {300, 17}}, 81);
  char why[256];
  LecternProblem p{.q_heads = 32, .kv_heads = 8, .head_dim = 128, .max_batch = 256, .max_keys = 300};
  LecternPlan* large = lectern_plan(&p, why, sizeof(why));
  ASSERT_NE(large, nullptr) << why;
  p.max_batch = 2;
  LecternPlan* small = lectern_plan(&p, why, sizeof(why));
  ASSERT_NE(small, nullptr) << why;
  run(large, c);
  run(small, c);
  run(large, c);
  lectern_plan_free(large);
  lectern_plan_free(small);
}

TEST(CudaPlan, PlansOfTwoThreadsDoNotDisturbEachOther) {
  std::atomic<int> failures{0};
  const auto work = [&](int64_t sequences, uint64_t seed) {
    Shape shape{4, 1, 64, std::vector<int32_t>(sequences, 40)};
    CudaCase c(shape, seed);
    cudaStream_t stream;
    if (cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking) != cudaSuccess) return;
    for (int i = 0; i < Rounds(3000); ++i) failures += c.Attend(stream).ok() ? 0 : 1;
    cudaStreamSynchronize(stream);
    ExpectNearTruth(c);
    cudaStreamDestroy(stream);
  };
  std::thread other(work, 1, 91);
  work(3000, 92);
  other.join();
  EXPECT_EQ(failures, 0);
}

TEST(CudaPlan, IsForItsOwnDevice) {
  CudaCase c({4, 2, 128, {5000, 3000}}, 83);
  // A plan for a device of seven processors: seven CTAs, and nothing behind the workspace of seven is touched.
  c.plan.cuda.num_blocks = 7;
  DecodeChoice seven;
  ASSERT_EQ(ChooseDecode({.device = {.processors = 7, .shared_bytes = static_cast<int>(c.plan.cuda.shared_limit)}, .d = 128, .group = 4,
                          .rows = 4, .max_keys = c.max_keys}, &seven), nullptr);
  c.plan.workspace_bytes = seven.workspace_bytes;
  const int64_t fence = 1 << 21;
  DeviceArray<std::byte> workspace(seven.workspace_bytes + fence);
  workspace.Fill(0x5a);
  const Execution run{.workspace = {workspace.get(), static_cast<size_t>(seven.workspace_bytes)}};
  ASSERT_TRUE(ClearWorkspace(c.plan, run).ok());
  const absl::Status status = Decode(c.plan, c.Step(), run);
  ASSERT_TRUE(status.ok()) << status;
  ExpectNearTruth(c);
  const std::vector<std::byte> after = workspace.Download();
  EXPECT_EQ(std::count(after.begin() + seven.workspace_bytes, after.end(), std::byte{0x5a}), fence);
  // A plan of another device than the thread's.
  ++c.plan.cuda.device;
  EXPECT_THAT(std::string(Decode(c.plan, c.Step(), run).message()), HasSubstr("another CUDA device"));
}

TEST(CudaPlan, RefusesCallsOutsideIt) {
  const CudaCase c({4, 2, 128, {500, 20}, 64}, 84);
  const auto why = [&](auto change) {
    DecodeBatch step = c.Step();
    BlockIds blocks = c.Blocks();
    change(step, blocks);
    return std::string(SparseDecode(c.plan, step, blocks, c.Run()).message());
  };
  EXPECT_EQ(why([](DecodeBatch&, BlockIds&) {}), "");
  EXPECT_THAT(why([](DecodeBatch& s, BlockIds&) { s.page_table_stride = 1LL << 40; }), HasSubstr("page_table_stride"));
  EXPECT_THAT(why([](DecodeBatch& s, BlockIds&) { s.page_table_stride = 0; }), HasSubstr("page_table_stride"));
  EXPECT_THAT(why([](DecodeBatch&, BlockIds& b) { b.capacity = 1LL << 33; }), HasSubstr("capacity"));
  EXPECT_THAT(why([](DecodeBatch&, BlockIds& b) { b.capacity = 1 << 28; }), HasSubstr("31-bit offsets"));
  EXPECT_THAT(why([](DecodeBatch&, BlockIds& b) { b.capacity = 0; }), HasSubstr("capacity"));
  EXPECT_THAT(why([](DecodeBatch& s, BlockIds&) { s.k.base += 2; }), HasSubstr("multiple of 16"));
  EXPECT_THAT(why([](DecodeBatch& s, BlockIds&) { s.q = nullptr; }), HasSubstr("q and out"));
  EXPECT_THAT(why([](DecodeBatch& s, BlockIds&) { s.v.num_pages = -1; }), HasSubstr("V: num_pages"));
  const Device chunks{.kind = DeviceKind::kCuda, .fixed_chunk_keys = -16};
  EXPECT_THAT(std::string(Plan(c.problem, {}, chunks).status().message()), HasSubstr("got -16"));
  EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
}

// The C ABI: everything it can know is checked, and said in words.
class CApi : public ::testing::Test {
 protected:
  void SetUp() override {
    char why[256];
    plan = lectern_plan(&problem, why, sizeof(why));
    ASSERT_NE(plan, nullptr) << why;
    workspace.Resize(lectern_workspace_bytes(plan));
    for (DeviceArray<uint16_t>* a : {&q, &k, &v, &descriptors}) {
      a->Resize(16 * 2 * 64 * 128);
      a->Fill(0);
    }
    table.Upload({0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15});
    lengths.Upload({1000});
    ids.Resize(64);
    counts.Resize(2);
    ASSERT_EQ(lectern_clear_workspace(plan, workspace.get(), nullptr), 0);
    step = {.q = q.get(), .out = q.get() + 4096, .k = k.get(), .v = v.get(), .k_page_stride = 2 * 64 * 128, .k_head_stride = 64 * 128,
            .v_page_stride = 2 * 64 * 128, .v_head_stride = 64 * 128, .page_table = table.get(), .page_table_stride = 16,
            .lengths = lengths.get(), .batch = 1, .workspace = workspace.get(), .num_pages = 16};
    blocks = {.ids = ids.get(), .counts = counts.get(), .capacity = 4, .block_tokens = 64};
    selector = {.kind = 0, .mode = 0, .block_tokens = 64, .budget_blocks = 4, .first_blocks = 1, .last_blocks = 1, .count_forced = 1,
                .q = q.get(), .descriptors = descriptors.get(), .page_stride = 2 * 128, .head_stride = 128, .block_stride = 128, .num_pages = 16};
    append = {.qkv = q.get(), .q = q.get() + 8192, .norm_eps = 1e-6f, .rope_scale = 1};
  }
  void TearDown() override {
    lectern_plan_free(plan);
    EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
  }
  static std::string Words(int error) { return error == 0 ? "" : error == LECTERN_REFUSED ? lectern_error(error) : "CUDA"; }
  std::string Plan(LecternProblem p) {
    char why[256] = "";
    LecternPlan* made = lectern_plan(&p, why, sizeof(why));
    lectern_plan_free(made);
    return why;
  }
  template <class Change>
  std::string Decode(Change change) {
    LecternStep s = step;
    LecternBlocks b = blocks;
    change(s, b);
    return Words(lectern_decode(plan, &s, &b, nullptr));
  }
  template <class Change>
  std::string Select(Change change) {
    LecternSelector s = selector;
    LecternBlocks b = blocks;
    change(s, b);
    return Words(lectern_select(plan, &step, &s, &b, nullptr));
  }
  template <class Change>
  std::string Append(Change change) {
    LecternAppend a = append;
    change(a);
    return Words(lectern_append(plan, &step, &a, nullptr));
  }

  LecternProblem problem{.q_heads = 8, .kv_heads = 2, .head_dim = 128, .max_batch = 2, .max_keys = 1024};
  LecternPlan* plan = nullptr;
  DeviceArray<uint16_t> q, k, v, descriptors;
  DeviceArray<int32_t> table, lengths, ids, counts;
  DeviceArray<std::byte> workspace;
  LecternStep step;
  LecternBlocks blocks;
  LecternSelector selector;
  LecternAppend append;
};

TEST_F(CApi, PlansThatMakeNoSenseAreRefused) {
  EXPECT_EQ(Plan(problem), "");
  LecternProblem p = problem;
  p.max_keys = -5;
  EXPECT_THAT(Plan(p), HasSubstr("keys a sequence"));
  p = problem, p.fixed_chunk_keys = -16;
  EXPECT_THAT(Plan(p), HasSubstr("fixed chunks"));
  p = problem, p.q_heads = -8, p.kv_heads = 2;
  EXPECT_THAT(Plan(p), HasSubstr("query heads"));
  p = problem, p.max_batch = 2000000000;
  EXPECT_NE(Plan(p), "");
  p = problem, p.form = 7;
  EXPECT_THAT(Plan(p), HasSubstr("form"));
  p = problem, p.kv_type = 2;
  EXPECT_THAT(Plan(p), HasSubstr("kv_type"));
  p = problem, p.min_units = -1;
  EXPECT_THAT(Plan(p), HasSubstr("min_units"));
}

TEST_F(CApi, DecodesThatMakeNoSenseAreRefused) {
  EXPECT_EQ(Select([](LecternSelector&, LecternBlocks&) {}), "");
  EXPECT_EQ(Decode([](LecternStep&, LecternBlocks&) {}), "");
  EXPECT_THAT(Decode([](LecternStep& s, LecternBlocks&) { s.batch = 3; }), HasSubstr("batch"));
  EXPECT_THAT(Decode([](LecternStep& s, LecternBlocks&) { s.batch = -1; }), HasSubstr("batch"));
  EXPECT_THAT(Decode([](LecternStep& s, LecternBlocks&) { s.lengths = nullptr; }), HasSubstr("lengths"));
  EXPECT_THAT(Decode([](LecternStep& s, LecternBlocks&) { s.page_table_stride = 0; }), HasSubstr("page_table_stride"));
  EXPECT_THAT(Decode([](LecternStep& s, LecternBlocks&) { s.k_head_stride = 4; }), HasSubstr("multiples of 8"));
  EXPECT_THAT(Decode([](LecternStep& s, LecternBlocks&) { s.v = nullptr; }), HasSubstr("K and V"));
  EXPECT_THAT(Decode([](LecternStep& s, LecternBlocks&) { s.workspace = nullptr; }), HasSubstr("workspace"));
  EXPECT_THAT(Decode([](LecternStep& s, LecternBlocks&) { s.num_pages = -1; }), HasSubstr("num_pages"));
  EXPECT_THAT(Decode([](LecternStep&, LecternBlocks& b) { b.capacity = -1; }), HasSubstr("capacity"));
  EXPECT_THAT(Decode([](LecternStep&, LecternBlocks& b) { b.capacity = 0; }), HasSubstr("capacity"));
  EXPECT_THAT(Decode([](LecternStep&, LecternBlocks& b) { b.block_tokens = 0; }), HasSubstr("multiple of 16"));
  EXPECT_THAT(Decode([](LecternStep&, LecternBlocks& b) { b.block_tokens = 24; }), HasSubstr("multiple of 16"));
}

TEST_F(CApi, SelectorsThatMakeNoSenseAreRefused) {
  for (const int kind : {-1, 6, 1000}) EXPECT_THAT(Select([&](LecternSelector& s, LecternBlocks&) { s.kind = kind; }), HasSubstr("kind")) << kind;
  for (const int mode : {-1, 3}) EXPECT_THAT(Select([&](LecternSelector& s, LecternBlocks&) { s.mode = mode; }), HasSubstr("mode")) << mode;
  for (const int size : {0, -64, 24, 96}) {
    EXPECT_THAT(Select([&](LecternSelector& s, LecternBlocks&) { s.block_tokens = size; }), HasSubstr("block_tokens")) << size;
  }
  EXPECT_THAT(Select([](LecternSelector& s, LecternBlocks&) { s.kind = 1; }), HasSubstr("weights"));
  EXPECT_THAT(Select([](LecternSelector& s, LecternBlocks&) { s.budget_blocks = -1; }), HasSubstr("negative"));
  EXPECT_THAT(Select([](LecternSelector& s, LecternBlocks&) { s.ratio_per_mille = 1001; }), HasSubstr("ratio"));
  EXPECT_THAT(Select([](LecternSelector& s, LecternBlocks&) { s.descriptors = nullptr; }), HasSubstr("descriptors"));
  EXPECT_THAT(Select([](LecternSelector& s, LecternBlocks&) { s.num_pages = -1; }), HasSubstr("num_pages"));
  EXPECT_THAT(Select([](LecternSelector& s, LecternBlocks&) { s.block_stride = 4; }), HasSubstr("multiples of 8"));
  for (const auto stride : {&LecternSelector::page_stride, &LecternSelector::head_stride, &LecternSelector::block_stride}) {
    for (const long long elements : {-8LL, 1LL << 30, 1LL << 40}) {
      EXPECT_THAT(Select([&](LecternSelector& s, LecternBlocks&) { s.*stride = elements; }), HasSubstr("below 2147483648 bytes")) << elements;
    }
  }
  EXPECT_THAT(Select([](LecternSelector& s, LecternBlocks&) { s.block_stride = 1LL << 24; }), HasSubstr("below 33554432 bytes"));
  EXPECT_THAT(Select([](LecternSelector&, LecternBlocks& b) { b.capacity = 0; }), HasSubstr("capacity"));
  EXPECT_EQ(Select([](LecternSelector& s, LecternBlocks&) { s.first_blocks = s.last_blocks = 2147483647; }), "");
  ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess);
  EXPECT_EQ(counts.Download(), std::vector<int32_t>(2, kAllBlocks));
}

TEST_F(CApi, WhatIsCompiledAtRunTimeIsPreparedFirst) {
  LecternProblem p = problem;
  p.kv_type = 1;
  char why[512] = "";
  LecternPlan* half = lectern_plan(&p, why, sizeof(why));
  ASSERT_NE(half, nullptr) << why;
  EXPECT_EQ(Words(lectern_decode(half, &step, &blocks, nullptr)), "");
  for (const int kind : {0, 5}) {
    LecternSelector s = selector;
    s.kind = kind;
    LecternPlan* of = kind == 0 ? half : plan;  // the gate over fp16, the oracle over bf16
    EXPECT_THAT(Words(lectern_select(of, &step, &s, &blocks, nullptr)), HasSubstr("PrepareSelect"));
    EXPECT_EQ(Words(lectern_prepare_select(of, kind, 64)), "");
    EXPECT_EQ(Words(lectern_select(of, &step, &s, &blocks, nullptr)), "");
  }
  EXPECT_THAT(Words(lectern_prepare_select(plan, 6, 64)), HasSubstr("kind"));
  EXPECT_THAT(Words(lectern_prepare_select(plan, 5, 24)), HasSubstr("block_tokens"));
  lectern_plan_free(half);
}

TEST_F(CApi, AppendsThatMakeNoSenseAreRefused) {
  EXPECT_EQ(Append([](LecternAppend&) {}), "");
  EXPECT_THAT(Append([](LecternAppend& a) { a.qkv = nullptr; }), HasSubstr("qkv"));
  EXPECT_THAT(Append([](LecternAppend& a) { a.min_max_block_tokens = 24; }), HasSubstr("block_tokens"));
  EXPECT_THAT(Append([](LecternAppend& a) { a.min_max_block_tokens = 16; }), HasSubstr("descriptors"));
  EXPECT_THAT(Append([](LecternAppend& a) { a.gate_block_tokens = -64; }), HasSubstr("block_tokens"));
  EXPECT_THAT(Append([](LecternAppend& a) { a.gate_block_tokens = 64; }), HasSubstr("pool"));
  EXPECT_THAT(Append([&](LecternAppend& a) {
                a.min_max = descriptors.get(), a.min_max_block_tokens = 128, a.copy_from = table.get();
              }), HasSubstr("a page of 64"));
}

}  // namespace
}  // namespace lectern::attention
