// However many parts a row is cut into, its result is the same; and the listed blocks cost no accuracy over dense decode.
#include <gmock/gmock.h>

#include "tests/attention/cuda/fixture.h"

namespace lectern::attention {
namespace {

struct Result {
  std::vector<float> out, lse;
};

// The step with `ctas` CTAs (0: as planned), or cut every `chunk` keys.
Result Attend(CudaCase& c, int ctas, int64_t chunk) {
  c.plan = *Plan(c.problem, {.mask = {MaskKind::kCausal}, .scale = c.plan.variant.scale}, {.kind = DeviceKind::kCuda, .fixed_chunk_keys = chunk});
  if (ctas > 0) c.plan.cuda.num_blocks = ctas;  // less than the workspace was made for
  c.workspace.Resize(c.plan.workspace_bytes);
  EXPECT_TRUE(ClearWorkspace(c.plan, c.Run()).ok());
  c.dout.Fill(0xff), c.dlse.Fill(0xff);
  const absl::Status status = c.Attend();
  EXPECT_TRUE(status.ok()) << status;
  Result result{.out = {}, .lse = {}};
  for (const uint16_t x : c.Output()) result.out.push_back(Widen(c.shape.type, x));
  result.lse = c.dlse.Download();
  return result;
}

struct Cut {
  int ctas;
  int64_t chunk;
};
constexpr Cut kCuts[] = {{0, 0}, {1, 0}, {2, 0}, {7, 0}, {33, 0}, {66, 0}, {100, 0}, {131, 0}, {0, 16}, {0, 256}, {0, 4096}, {0, 65536}};

// Half-precision outputs near 0.01 stand 8e-6 apart, so that a difference of 1e-5 shows.
TEST(CudaSplits, AnyNumberOfPartsOfALongRowAgrees) {
  for (const int64_t block : {0, 64}) {
    CudaCase c({2, 1, 64, {131072}, block, 0, CudaForm::kSm90, 0, 0, DType::kF16}, 111);
    for (uint16_t& x : c.q) x = Narrow(DType::kF16, Widen(DType::kF16, x) / 2);
    if (block > 0) {  // every second block, and the last
      c.counts[0] = 0;
      for (int32_t i = 0; i < 2048; i += 2) c.ids[c.counts[0]++] = i;
      c.ids[c.counts[0]++] = 2047;
    }
    c.Upload();
    const Result one = Attend(c, 1, 0);
    ExpectNearTruth(c);
    for (const Cut& cut : kCuts) {
      SCOPED_TRACE(::testing::Message() << "block " << block << " CTAs " << cut.ctas << " chunk " << cut.chunk);
      const Result some = Attend(c, cut.ctas, cut.chunk);
      for (size_t i = 0; i < one.out.size(); ++i) ASSERT_NEAR(some.out[i], one.out[i], 1e-5) << i;
      for (size_t i = 0; i < one.lse.size(); ++i) ASSERT_NEAR(some.lse[i], one.lse[i], 1e-5) << i;
    }
  }
}

// Scores that are whole powers of two as weights: what two bytes round is the output alone. Few rows and many, dense and not.
TEST(CudaSplits, AnyNumberOfPartsOfRaggedRowsAgrees) {
  for (const DType type : {DType::kBF16, DType::kF16}) {
    for (const int64_t sequences : {5, 40}) {
      for (const int64_t block : {0, 16, 128}) {
        Shape shape{7, 2, 64, {}, block, 0, CudaForm::kSm90, 0, 0, type};
        for (int64_t b = 0; b < sequences; ++b) shape.lengths.push_back(b == 1 ? 0 : b == 2 ? 1 : static_cast<int32_t>(3 + 977 * b % 5000));
        CudaCase c(shape, 112);
        Rng rng(113);
        for (size_t i = 0; i < c.q.size(); ++i) c.q[i] = Narrow(type, i % 64 < 4 ? static_cast<double>(rng.Below(3)) - 1 : 0);
        for (uint16_t& x : c.k) x = std::isnan(Widen(type, x)) ? x : Narrow(type, static_cast<double>(rng.Below(5)) - 2);
        c.Upload();
        c.plan.variant.scale = 0.6931471805599453f;
        const Result one = Attend(c, 1, 0);
        for (const Cut& cut : kCuts) {
          SCOPED_TRACE(::testing::Message() << DTypeName(type) << " sequences " << sequences << " block " << block << " CTAs " << cut.ctas << " chunk " << cut.chunk);
          const Result some = Attend(c, cut.ctas, cut.chunk);
          for (size_t i = 0; i < one.out.size(); ++i) {
            const double step = std::abs(one.out[i]) * (type == DType::kF16 ? 0x1p-10 : 0x1p-7);
            ASSERT_NEAR(some.out[i], one.out[i], 1e-5 + step) << i;
          }
          for (size_t i = 0; i < one.lse.size(); ++i) {
            if (std::isinf(one.lse[i])) {
              ASSERT_EQ(some.lse[i], one.lse[i]);
            } else {
              ASSERT_NEAR(some.lse[i], one.lse[i], 1e-5) << i;
            }
          }
        }
      }
    }
  }
}

// Queries of zero: the mean of 2^n small integers is exact, and no cut may lose or double a key.
TEST(CudaSplits, AMeanIsExactHoweverItIsCut) {
  for (const DType type : {DType::kBF16, DType::kF16}) {
    Shape shape{4, 2, 128, {4096, 16, 1, 1024}, 0, 0, CudaForm::kSm90, 0, 0, type};
    CudaCase c(shape, 114);
    Rng rng(115);
    std::fill(c.q.begin(), c.q.end(), uint16_t{0});
    for (uint16_t& x : c.v) x = std::isnan(Widen(type, x)) ? x : Narrow(type, rng.Below(2) == 0 ? 0 : 1);
    c.Upload();
    const Result one = Attend(c, 1, 0);
    ExpectNearTruth(c);
    for (const Cut& cut : kCuts) {
      const Result some = Attend(c, cut.ctas, cut.chunk);
      ASSERT_EQ(some.out, one.out) << "CTAs " << cut.ctas << " chunk " << cut.chunk;
      for (size_t i = 0; i < some.lse.size(); ++i) ASSERT_NEAR(some.lse[i], std::log(static_cast<double>(shape.lengths[i / 8])), 2e-6);
    }
  }
}

// One sequence's lists of few blocks. Where they are equally long the parts of a KV head meet within a cluster; where not, through L2, as those of
// longer lists do: 1, 2, 3 and more parts, more query heads than parts and fewer.
TEST(CudaSplits, PartsMeetWithinAClusterOrNot) {
  for (const int64_t group : {1, 6, 8}) {
    for (const int32_t blocks : {0, 1, 2, 3, 13, 27, 120, 128}) {
      for (const bool alike : {true, false}) {
        SCOPED_TRACE(::testing::Message() << "group " << group << " blocks " << blocks << " alike " << alike);
        CudaCase c({group, 8, 128, {8190}, 64}, 116);
        for (int64_t row = 0; row < 8; ++row) {
          const int32_t count = alike ? blocks : std::min<int32_t>(128, blocks + static_cast<int32_t>(row % 3));
          c.counts[row] = count;
          for (int32_t i = 0; i < count; ++i) c.ids[row * c.capacity + i] = 127 - (count - 1 - i) * 127 / std::max(1, count - 1);
        }
        c.Upload();
        std::vector<uint16_t> first;
        for (int round = 0; round < 3; ++round) {
          const absl::Status status = c.Attend();
          ASSERT_TRUE(status.ok()) << status;
          if (round == 0) {
            ExpectNearTruth(c);
            if (HasFatalFailure()) return;
            first = c.Output();
          }
          ASSERT_EQ(c.Output(), first) << round;
        }
      }
    }
  }
}

// One key of score 0: its log-sum-exp is 0, which must not read as "empty"; a list of no blocks is empty.
TEST(CudaSplits, ALogSumExpOfExactlyZeroIsNotAnEmptyRow) {
  for (const DType type : {DType::kBF16, DType::kF16}) {
    for (const int64_t block : {0, 16, 64}) {
      for (const int64_t chunk : {0, 16}) {
        CudaCase c({4, 2, 64, {1, 65, 1}, block, 0, CudaForm::kSm90, 0, 0, type}, 116);
        std::fill(c.q.begin(), c.q.end(), uint16_t{0});
        if (block > 0) {  // sequence 1 reads its last block, of one key; sequence 2 nothing
          std::fill(c.counts.begin(), c.counts.end(), 1);
          for (int64_t row = 0; row < 6; ++row) c.ids[row * c.capacity] = row / 2 == 1 ? static_cast<int32_t>(64 / block) : 0;
          c.counts[4] = c.counts[5] = 0;
        }
        c.Upload();
        const Result got = Attend(c, 0, chunk);
        for (int64_t b = 0; b < 3; ++b) {
          if (block == 0 && b == 1) continue;
          const bool empty = block > 0 && b == 2;
          for (int64_t h = 0; h < 8; ++h) {
            ASSERT_EQ(got.lse[b * 8 + h], empty ? -INFINITY : 0.0f) << "sequence " << b << " block " << block << " chunk " << chunk;
            const int64_t key = b == 1 ? 64 : 0;
            const int64_t at = ((c.table[b * c.pages_a_row + key / 64] * 2 + h / 4) * 64 + key % 64) * 64;
            for (int64_t i = 0; i < 64; ++i) ASSERT_EQ(got.out[(b * 8 + h) * 64 + i], empty ? 0.0f : Widen(type, c.v[at + i]));
          }
        }
      }
    }
  }
}

// The listed blocks against a dense cache that holds the same keys: each beside fp64.
TEST(CudaSplits, ListedBlocksErrLikeDenseDecode) {
  for (const DType type : {DType::kBF16, DType::kF16}) {
    for (const int64_t block : {16, 32, 64, 128}) {
      Shape shape{8, 8, 128, {16000, 9001}, block, 0, CudaForm::kSm90, 0, 0, type};
      CudaCase sparse(shape, 117);
      Rng rng(118);
      std::vector<int32_t> kept;
      for (int64_t b = 0; b < 2; ++b) {  // a tenth of the complete blocks, others for each KV head
        const int64_t blocks = shape.lengths[b] / block, keep = blocks / 10;
        for (int64_t h = 0; h < 8; ++h) {
          const int64_t row = b * 8 + h;
          int64_t left = keep, n = 0;
          for (int64_t i = 0; i < blocks; ++i) {
            if (static_cast<int64_t>(rng.Below(blocks - i)) < left) sparse.ids[row * sparse.capacity + n++] = static_cast<int32_t>(i), --left;
          }
          sparse.counts[row] = static_cast<int32_t>(n);
          for (; n < sparse.capacity; ++n) sparse.ids[row * sparse.capacity + n] = -1;
        }
        kept.push_back(static_cast<int32_t>(keep * block));
      }
      Shape packed = shape;
      packed.lengths = kept, packed.block_tokens = 0;
      CudaCase dense(packed, 119);
      dense.q = sparse.q;
      for (int64_t b = 0; b < 2; ++b) {
        for (int64_t h = 0; h < 8; ++h) {
          for (int64_t t = 0; t < kept[b]; ++t) {
            const int64_t from = sparse.ids[(b * 8 + h) * sparse.capacity + t / block] * block + t % block;
            const auto at = [&](const CudaCase& c, int64_t key) { return ((c.table[b * c.pages_a_row + key / 64] * 8 + h) * 64 + key % 64) * 128; };
            for (const auto& [to, source] : {std::pair{&dense.k, &sparse.k}, {&dense.v, &sparse.v}}) {
              std::copy_n(source->begin() + at(sparse, from), 128, to->begin() + at(dense, t));
            }
          }
        }
      }
      sparse.Upload(), dense.Upload();
      ASSERT_TRUE(sparse.Attend().ok());
      ASSERT_TRUE(dense.Attend().ok());
      const Errors of_lists = ErrorsOf(sparse), of_dense = ErrorsOf(dense);
      const std::string name = std::string(DTypeName(type)) + "_" + std::to_string(block);
      RecordProperty(name + "_lists", std::to_string(of_lists.out));
      RecordProperty(name + "_dense", std::to_string(of_dense.out));
      EXPECT_GT(of_dense.out, 0) << name;
      EXPECT_LE(of_lists.out, 1.5 * of_dense.out) << name;
      EXPECT_LE(of_lists.out, 2e-3) << name;
      EXPECT_LE(of_lists.lse, 1e-3) << name;
    }
  }
}

}  // namespace
}  // namespace lectern::attention
