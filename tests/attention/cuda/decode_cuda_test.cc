// Dense and block-sparse decode on the device, against a naive fp64 kernel that is itself held to the reference.
#include <gmock/gmock.h>

#include "tests/attention/cuda/fixture.h"
#include "tests/attention/pairwise_cover.h"

namespace lectern::attention {
namespace {

TEST(NaiveKernel, EqualsTheReference) {
  for (const Shape& shape : {Shape{4, 2, 64, {1, 77, 300}}, Shape{7, 1, 128, {65}, 16}, Shape{3, 2, 64, {200, 129}, 64},
                             Shape{2, 2, 128, {100}, 0, 0, CudaForm::kSm90, 5.0f},
                             Shape{4, 2, 64, {130, 9}, 64, 0, CudaForm::kSm90, 0, 0, DType::kF16}}) {
    const CudaCase c(shape, 11);
    DeviceArray<double> out(c.q.size()), lse(c.batch * c.problem.q_heads);
    NaiveDecode(c.NaiveArgs(out.get(), lse.get()));
    const std::vector<double> got = out.Download();
    std::vector<float> q, want;
    std::vector<float> want_lse(lse.size());
    const DecodeBatch step = c.HostStep(&q, &want, want_lse.data());
    BlockIds blocks{const_cast<int32_t*>(c.ids.data()), const_cast<int32_t*>(c.counts.data()), c.capacity, shape.block_tokens};
    ReferenceDecode(c.problem, c.plan.variant, step, shape.block_tokens == 0 ? nullptr : &blocks);
    for (size_t i = 0; i < got.size(); ++i) ASSERT_NEAR(got[i], want[i], 1e-6) << i;
  }
}

TEST(CudaDecode, APairwiseCoverOfShapesIsNearTheTruth) {
  const int groups[] = {1, 2, 4, 5, 7, 8, 16}, widths[] = {64, 128}, batches[] = {1, 3, 16}, blocks[] = {0, 16, 32, 64, 128};
  const int policies[] = {0, 256, 4096};  // fixed chunks
  const DType types[] = {DType::kBF16, DType::kF16};
  const auto cases = PairwiseCover({7, 2, 3, 8, 5, 3, 2}, 1);
  ASSERT_LE(cases.size(), 150u);
  RecordProperty("cases", static_cast<int>(cases.size()));
  uint64_t seed = 100;
  for (const auto& c : cases) {
    const int block = blocks[c[4]], b = block == 0 ? 64 : block;
    const int lengths[] = {1, b - 1, b, b + 1, 2 * b, 1000, 4097, 32768};
    Shape shape{groups[c[0]], groups[c[0]] == 16 ? 1 : 2, widths[c[1]], {}, block, policies[c[5]]};
    for (int i = 0; i < batches[c[2]]; ++i) {  // ragged: the length, and fractions of it
      shape.lengths.push_back(i == 0 ? lengths[c[3]] : i == 1 ? 0 : std::min(lengths[c[3]], 5000) * (i % 5) / 5);
    }
    shape.type = types[c[6]];
    SCOPED_TRACE(::testing::Message() << DTypeName(shape.type) << " group " << shape.group << " d " << shape.d << " batch " << shape.lengths.size() << " length "
                                      << shape.lengths[0] << " block " << block << " chunk " << shape.fixed_chunk_keys);
    const CudaCase one(shape, seed++);
    const absl::Status status = one.Attend();
    ASSERT_TRUE(status.ok()) << status;
    ExpectNearTruth(one);
    if (HasFatalFailure()) return;
  }
}

TEST(CudaDecode, EveryLengthAroundPageAndUnitBoundaries) {
  std::vector<int32_t> lengths;
  for (int n = 0; n <= 130; ++n) lengths.push_back(n);
  for (const int n : {255, 256, 257, 511, 512, 513, 1023, 1025, 2047, 2049, 4095, 4096, 4097, 8191, 8193}) lengths.push_back(n);
  for (const DType type : {DType::kBF16, DType::kF16}) {
    for (const int32_t n : lengths) {
      SCOPED_TRACE(::testing::Message() << DTypeName(type) << " " << n);
      const CudaCase c({4, 2, 128, {n}, 0, 0, CudaForm::kSm90, 0, 0, type}, 500 + n);
      ASSERT_TRUE(c.Attend().ok());
      ExpectNearTruth(c);
      if (HasFatalFailure()) return;
    }
    Shape all{4, 2, 128, lengths};  // and all of them in one ragged batch
    all.type = type;
    const CudaCase c(all, 7);
    ASSERT_TRUE(c.Attend().ok());
    ExpectNearTruth(c);
  }
}

TEST(CudaDecode, SoftCapAndTheFormsForOlderCardsAndLongLists) {
  for (const Shape& shape : {Shape{4, 2, 128, {3000, 17}, 0, 0, CudaForm::kSm90, 5.0f}, Shape{7, 2, 64, {3000, 17}, 64, 0, CudaForm::kSm90, 5.0f},
                             Shape{4, 2, 128, {3000, 17}, 0, 0, CudaForm::kSm80}, Shape{8, 2, 128, {3000, 170}, 64, 0, CudaForm::kSm80},
                             Shape{7, 2, 64, {3000, 17}, 0, 512, CudaForm::kSm80}, Shape{7, 2, 64, {3000, 170}, 32, 0, CudaForm::kSm80},
                             Shape{4, 2, 128, {3000, 170}, 64, 0, CudaForm::kSm90, 5.0f, 0, DType::kF16},
                             Shape{16, 1, 64, {3000, 17}, 0, 0, CudaForm::kSm90, 5.0f},
                             Shape{8, 2, 128, {3000, 17}, 0, 0, CudaForm::kSm80, 0, 0, DType::kF16},
                             Shape{7, 2, 64, {3000, 170}, 32, 0, CudaForm::kSm80, 5.0f},
                             // Above 32768 keys lists have a form of fewer registers.
                             Shape{8, 2, 128, {40000, 170}, 64}, Shape{5, 2, 128, {33000, 170}, 16, 0, CudaForm::kSm90, 0, 0, DType::kF16}}) {
    const CudaCase c(shape, 21);
    const absl::Status status = c.Attend();
    ASSERT_TRUE(status.ok()) << status;
    ExpectNearTruth(c);
    if (HasFatalFailure()) return;
  }
}

TEST(CudaDecode, NothingUnselectedIsReadAndPagesMayLieAnywhere) {
  for (const int64_t block : {16, 64, 128, -64}) {  // the last in fp16
    Shape shape{8, 2, 128, {5000, 333, 64}, std::abs(block)};
    if (block < 0) shape.type = DType::kF16;
    const CudaCase clean(shape, 31), poisoned(shape, 31, /*poison_unselected=*/true);
    ASSERT_TRUE(clean.Attend().ok());
    ASSERT_TRUE(poisoned.Attend().ok());
    const std::vector<uint16_t> a = clean.Output(), b = poisoned.Output();
    EXPECT_EQ(a, b);
    for (const uint16_t x : a) ASSERT_TRUE(std::isfinite(Widen(shape.type, x)));
  }
  const Shape shape{4, 2, 128, {2000, 70}};
  CudaCase c(shape, 32);
  ASSERT_TRUE(c.Attend().ok());
  const std::vector<uint16_t> before = c.Output();
  // Two pages change places, in the pools and in the table.
  const int64_t page = 2 * 64 * 128;
  for (const auto& [i, j] : {std::pair{0, 5}, {3, 20}, {1, 32}}) {
    const int32_t a = c.table[i], b = c.table[j];
    for (auto* pool : {&c.k, &c.v}) std::swap_ranges(pool->begin() + a * page, pool->begin() + (a + 1) * page, pool->begin() + b * page);
    std::swap(c.table[i], c.table[j]);
  }
  c.Upload();
  ASSERT_TRUE(c.Attend().ok());
  EXPECT_EQ(before, c.Output());
}

TEST(CudaDecode, AllBlocksAreTheDenseResult) {
  Shape shape{8, 2, 128, {4099, 640}};
  const CudaCase dense(shape, 41);
  ASSERT_TRUE(dense.Attend().ok());
  for (const bool listed : {false, true}) {
    shape.block_tokens = 64;
    CudaCase sparse(shape, 41);
    sparse.q = dense.q, sparse.k = dense.k, sparse.v = dense.v, sparse.table = dense.table;
    for (int64_t row = 0; row < 4; ++row) {
      const int64_t blocks = NumBlocks(shape.lengths[row / 2], 64);
      sparse.counts[row] = listed ? static_cast<int32_t>(blocks) : kAllBlocks;
      for (int64_t i = 0; i < sparse.capacity; ++i) sparse.ids[row * sparse.capacity + i] = i < blocks ? static_cast<int32_t>(i) : -1;
    }
    sparse.Upload();
    ASSERT_TRUE(sparse.Attend().ok());
    if (listed) {
      ExpectNearTruth(sparse);
    } else {
      EXPECT_EQ(dense.Output(), sparse.Output());
    }
  }
}

TEST(CudaDecode, FixedChunksDoNotDependOnTheBatch) {
  const Shape shape{4, 2, 128, {3001, 40, 9000, 512}, 0, 512};
  const CudaCase all(shape, 51);
  ASSERT_TRUE(all.Attend().ok());
  const std::vector<uint16_t> together = all.Output();
  const size_t row = 8 * 128;
  for (size_t b = 0; b < shape.lengths.size(); ++b) {
    Shape alone = shape;
    alone.lengths = {shape.lengths[b]};
    alone.capacity_keys = all.max_keys;
    CudaCase one(alone, 52);
    one.q.assign(all.q.begin() + b * row, all.q.begin() + (b + 1) * row);
    one.k = all.k, one.v = all.v;
    one.table.assign(all.table.begin() + b * all.pages_a_row, all.table.begin() + (b + 1) * all.pages_a_row);
    one.Upload();
    ASSERT_TRUE(one.Attend().ok());
    EXPECT_EQ(one.Output(), std::vector<uint16_t>(together.begin() + b * row, together.begin() + (b + 1) * row)) << "sequence " << b;
  }
}

TEST(CudaDecode, OneCapturedGraphServesAThousandLengths) {
  for (const int64_t block : {0, 64}) {
    CudaCase c({4, 4, 128, {6000, 6000}, block}, 61);
    Graph graph([&](cudaStream_t stream) {
      ASSERT_TRUE(c.Attend(stream).ok());
      ASSERT_TRUE(c.Attend(stream).ok());  // a second node, which may begin early
    });
    Rng rng(62);
    for (int replay = 0; replay < Rounds(1000); ++replay) {
      const std::vector<int32_t> lengths = {static_cast<int32_t>(rng.Below(6001)), static_cast<int32_t>(rng.Below(300))};
      c.dlengths.Upload(lengths);
      if (block > 0) {
        for (size_t row = 0; row < c.counts.size(); ++row) {
          const int64_t blocks = NumBlocks(lengths[row / 4], block);
          c.counts[row] = 0;
          for (int64_t i = 0; i < blocks; ++i) {
            if (rng.Below(3) == 0) c.ids[row * c.capacity + c.counts[row]++] = static_cast<int32_t>(i);
          }
        }
        c.dids.Upload(c.ids);
        c.dcounts.Upload(c.counts);
      }
      graph.Replay();
      const std::vector<uint16_t> replayed = c.Output();
      if (replay % 100 == 0) ExpectNearTruth(c);
      c.dout.Fill(0xff);
      ASSERT_TRUE(c.Attend().ok());
      ASSERT_EQ(replayed, c.Output()) << "replay " << replay;
    }
  }
}

TEST(CudaDecode, RepeatedRunsAreBitwiseEqualUnderLoad) {
  const CudaCase c({8, 8, 128, {20000, 3000, 777}, 64}, 71), dense({8, 8, 128, {20000, 3000, 777}}, 72);
  ASSERT_TRUE(c.Attend().ok());
  const std::vector<uint16_t> want = c.Output();
  ASSERT_TRUE(dense.Attend().ok());
  const std::vector<uint16_t> want_dense = dense.Output();
  Busy busy;
  cudaStream_t stream;
  ASSERT_CUDA(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  for (int round = 0; round < Rounds(200); ++round) {
    busy.Copy();
    ASSERT_TRUE(c.Attend(stream).ok());
    ASSERT_TRUE(dense.Attend(stream).ok());
    ASSERT_EQ(want, c.Output());
    ASSERT_EQ(want_dense, dense.Output());
  }
  cudaStreamDestroy(stream);
}

// Few rows have CTAs of their own, whose parts meet in groups; many stand in a line. Both in turn, over one workspace.
TEST(CudaDecode, FewRowsAndManyShareAWorkspace) {
  Shape shape{4, 4, 128, {}};
  for (int i = 0; i < 12; ++i) shape.lengths.push_back(40 + 900 * (i % 7));
  const CudaCase c(shape, 75);
  std::vector<uint16_t> want[3];
  for (int round = 0; round < 60; ++round) {
    const int64_t batch = round % 3 == 0 ? 12 : round % 3 == 1 ? 1 : 3, which = round % 3;
    DecodeBatch step = c.Step();
    step.batch = batch;
    ASSERT_TRUE(Decode(c.plan, step, c.Run()).ok());
    std::vector<uint16_t> got = c.Output();
    if (round == 0) ExpectNearTruth(c);
    got.resize(batch * 16 * 128);
    if (round < 3) want[which] = got;
    ASSERT_EQ(got, want[which]) << round;
  }
  const std::vector<uint16_t>& all = want[0];
  for (const auto& some : {want[1], want[2]}) {  // other splits, other roundings
    for (size_t i = 0; i < some.size(); ++i) ASSERT_NEAR(ToFloat(bf16{some[i]}), ToFloat(bf16{all[i]}), 2e-2);
  }
}

// Launches that share the device do not hold each other up, however few of a launch's CTAs run at once.
TEST(CudaDecode, LaunchesOfSeveralStreamsFinish) {
  std::vector<CudaCase> cases;
  for (int i = 0; i < 4; ++i) cases.emplace_back(Shape{8, 2, 128, {30000 + 1000 * i}}, 76 + i);
  std::vector<cudaStream_t> streams(cases.size());
  for (cudaStream_t& s : streams) ASSERT_CUDA(cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking));
  for (int round = 0; round < Rounds(300); ++round) {
    for (size_t i = 0; i < cases.size(); ++i) ASSERT_TRUE(cases[i].Attend(streams[i]).ok());
  }
  for (const CudaCase& c : cases) ExpectNearTruth(c);
  for (const cudaStream_t s : streams) cudaStreamDestroy(s);
}

TEST(CudaPlan, NamesTheConstraintItCannotServe) {
  Problem p{.q_heads = 32, .k_heads = 8, .v_heads = 8, .key_width = 128, .value_width = 128, .kv_type = DType::kBF16,
            .layout = BlockLayout::kRows, .max_keys = 1000};
  const Device cuda{.kind = DeviceKind::kCuda};
  EXPECT_TRUE(Plan(p, {}, cuda).ok());
  EXPECT_THAT(Plan(p, {}, cuda)->Explain(), ::testing::HasSubstr("stream-K"));
  const auto why = [&](const Problem& problem, const Variant& variant) { return std::string(Plan(problem, variant, cuda).status().message()); };
  Problem bad = p;
  bad.key_width = bad.value_width = 96;
  EXPECT_THAT(why(bad, {}), ::testing::HasSubstr("96"));
  bad = p, bad.kv_type = DType::kF32;
  EXPECT_THAT(why(bad, {}), ::testing::HasSubstr("F32"));
  bad = p, bad.v_heads = 16;
  EXPECT_THAT(why(bad, {}), ::testing::HasSubstr("16"));
  bad = p, bad.value_width = 256;
  EXPECT_THAT(why(bad, {}), ::testing::HasSubstr("256"));
  bad = p, bad.layout = BlockLayout::kLanes;
  EXPECT_THAT(why(bad, {}), ::testing::HasSubstr("rows"));
  bad = p, bad.q_heads = 8 * 17;
  EXPECT_THAT(why(bad, {}), ::testing::HasSubstr("17"));
  EXPECT_THAT(why(p, {.mask = {MaskKind::kSlidingWindow, 5}}), ::testing::HasSubstr("sliding"));
}

}  // namespace
}  // namespace lectern::attention
