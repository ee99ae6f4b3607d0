// Append on the device against the reference: every form of it, forks, layers, and the C ABI.
#include <gmock/gmock.h>

#include <cstring>
#include <memory>

#include "tests/attention/cuda/append_fixture.h"
#include "tests/attention/pairwise_cover.h"

namespace lectern::attention {
namespace {

using ::testing::HasSubstr;

// The pool of the open block. Without rotation the stored keys are the pooled ones: extremes to the bit, the mean to one step.
void ExpectPoolsOfTheStoredKeys(const Appending& a) {
  if (a.form.gate == 0) return;
  const std::vector<float> pool = a.dpool.Download(), committed = a.dcommitted.Download();
  const std::vector<uint16_t> keys = a.dmemory[0].Download();
  for (int64_t b = 0; b < a.batch; ++b) {
    if (a.lengths[b] == 0) continue;
    const int64_t begin = (a.lengths[b] - 1) / a.form.gate * a.form.gate;
    for (int64_t h = 0; h < Appending::kKvHeads; ++h) {
      const int64_t at = (b * Appending::kKvHeads + h) * 3 * a.d;
      for (int64_t c = 0; c < 3 * a.d; ++c) {
        ASSERT_TRUE(a.commit[b] != 0 ? committed[at + c] == pool[at + c] : std::isnan(committed[at + c])) << "sequence " << b;
      }
      for (int64_t c = 0; !a.form.rotate && c < a.d; ++c) {
        float low = INFINITY, high = -INFINITY;
        double sum = 0;
        for (int64_t t = begin; t < a.lengths[b]; ++t) {
          const float x = Widen(a.type, keys[a.KeyOffset(b, h, t) + c]);
          low = std::min(low, x), high = std::max(high, x), sum += x;
        }
        ASSERT_EQ(pool[at + c], high);
        ASSERT_EQ(pool[at + a.d + c], low);
        const double mean = sum / static_cast<double>(a.form.gate), got = pool[at + 2 * a.d + c] / static_cast<double>(a.form.gate);
        ASSERT_NEAR(Widen(a.type, Narrow(a.type, got)), mean, std::abs(mean) / (a.type == DType::kF16 ? 1024 : 128) + 1e-7);
      }
    }
  }
}

// A prompt of no token, within a block, of whole blocks and behind them, and then more than two blocks token by token.
TEST(CudaAppend, EveryFormEqualsTheReferenceTokenAfterToken) {
  const int64_t blocks[] = {0, 16, 32, 64, 128}, groups[] = {1, 4, 7, 16}, starts[] = {0, 5, 64, 70};
  const auto cover = PairwiseCover({2, 2, 4, 5, 5, 4, 2, 2, 2, 2, 2, 2, 2}, 3);
  ASSERT_LE(cover.size(), 150u);
  for (const std::vector<int>& row : cover) {
    const AppendForm form{.d = row[0] == 0 ? 64 : 128, .group = groups[row[2]], .pages_a_row = 6, .type = row[1] == 0 ? DType::kBF16 : DType::kF16,
                          .pairs = blocks[row[3]], .gate = blocks[row[4]], .bias = row[6] == 1, .norm = row[7] == 1, .rotate = row[8] == 1,
                          .gate_norm = row[9] == 1, .gate_rotate = row[10] == 1, .pos_compat = row[11] == 1, .gate_q = row[12] == 1};
    SCOPED_TRACE(::testing::Message() << DTypeName(form.type) << " d " << form.d << " group " << form.group << " pairs " << form.pairs << " gate "
                                      << form.gate << " start " << starts[row[5]] << " bias " << form.bias << " norm " << form.norm << " rotate " << form.rotate
                                      << " gate norm " << form.gate_norm << " gate rotate " << form.gate_rotate << " compat " << form.pos_compat);
    Appending a(form);
    Rng rng(9);
    const int32_t start = static_cast<int32_t>(starts[row[5]]);
    const int32_t end = static_cast<int32_t>(start + 2 * std::max<int64_t>({16, form.pairs, form.gate}) + 3);
    for (int32_t t = 1; t <= start; ++t) {
      a.Draw(rng);
      a.lengths = {t, t};
      ReferenceAppend(a.problem, a.Step(false, 2), a.Config(false));
    }
    a.UploadState();
    for (int32_t t = start + 1; t <= end; ++t) {
      a.Append(rng, 2, {t, t});
      if (::testing::Test::HasFatalFailure()) return;
    }
    ASSERT_NO_FATAL_FAILURE(a.ExpectNearReference());
    ASSERT_NO_FATAL_FAILURE(a.ExpectPairsOfTheStoredKeys());
    ASSERT_NO_FATAL_FAILURE(ExpectPoolsOfTheStoredKeys(a));
  }
}

// Sequences out of step, one of them not yet there.
TEST(CudaAppend, ASequenceOfNoTokensIsLeftAlone) {
  for (const DType type : {DType::kBF16, DType::kF16}) {
    Appending a({.group = 7, .type = type, .pairs = 64, .gate = 64, .gate_q = true});
    Rng rng(12);
    for (int32_t t = 1; t <= 128; ++t) {
      a.Draw(rng);
      a.lengths = {t, std::max(0, t - 30)};
      a.UploadStep();
      a.OnDevice(2);
      ReferenceAppend(a.problem, a.Step(false, a.lengths[1] == 0 ? 1 : 2), a.Config(false));
      if (a.lengths[1] == 0) {
        const std::vector<float> pool = a.dpool.Download();
        ASSERT_TRUE(std::isnan(pool[pool.size() / 2])) << t;
      }
    }
    ASSERT_NO_FATAL_FAILURE(a.ExpectNearReference());
    ASSERT_NO_FATAL_FAILURE(a.ExpectPairsOfTheStoredKeys());
    ASSERT_NO_FATAL_FAILURE(ExpectPoolsOfTheStoredKeys(a));
  }
}

// Each layer has its own memory and pool; none advances another's block.
TEST(CudaAppend, LayersInTurnAreTheSameAsEachAlone) {
  std::vector<std::unique_ptr<Appending>> alone, turns;
  const AppendForm forms[] = {{.pairs = 16, .gate = 16}, {.pairs = 16, .gate = 64}, {.pairs = 64, .gate = 32, .rotate = false}};
  for (const AppendForm& form : forms) {
    alone.push_back(std::make_unique<Appending>(form));
    turns.push_back(std::make_unique<Appending>(form));
  }
  const auto token = [](Appending& a, size_t layer, int32_t t) {
    Rng rng(100 * t + layer);
    a.Append(rng, 2, {t, t});
  };
  for (size_t layer = 0; layer < alone.size(); ++layer) {
    for (int32_t t = 1; t <= 150; ++t) token(*alone[layer], layer, t);
  }
  for (int32_t t = 1; t <= 150; ++t) {
    for (size_t layer = 0; layer < turns.size(); ++layer) token(*turns[layer], layer, t);
  }
  for (size_t layer = 0; layer < alone.size(); ++layer) {
    for (int m = 0; m < 4; ++m) EXPECT_EQ(alone[layer]->dmemory[m].Download(), turns[layer]->dmemory[m].Download()) << layer << " " << m;
    ASSERT_NO_FATAL_FAILURE(turns[layer]->ExpectNearReference());
  }
}

TEST(CudaAppend, AForkCopiesTheSharedPageAndNeverWritesIntoIt) {
  for (const int64_t d : {64, 128, -128}) {  // the last in fp16
    for (const int32_t shared : {1, 63, 64, 65, 102}) {
      SCOPED_TRACE(::testing::Message() << "d " << d << " shared " << shared);
      Appending a({.d = std::abs(d), .type = d < 0 ? DType::kF16 : DType::kBF16});
      const int32_t spare = static_cast<int32_t>(a.pages) - 1;
      Rng rng(5);
      for (int32_t t = 1; t <= shared; ++t) a.Append(rng, 1, {t, 0});
      if (::testing::Test::HasFatalFailure()) return;
      // Sequence 1 goes on from what sequence 0 has; both get a page of their own where the last one is not full.
      const int32_t last = (shared - 1) / 64, page = a.table[last];
      const bool partial = shared % 64 != 0;
      for (int32_t i = 0; i < last + (partial ? 0 : 1); ++i) a.table[a.stride + i] = a.table[i];
      if (partial) a.table[last] = spare, a.copy_from = {page, page};
      const int64_t own = Appending::kKvHeads * 3 * a.d;
      std::copy_n(a.pool.begin(), own, a.pool.begin() + own);
      std::vector<float> pools = a.dpool.Download();
      std::copy_n(pools.begin(), own, pools.begin() + own);
      a.dpool.Upload(pools);
      const auto before = a.Page(page), first = a.Page(a.table[0] == spare ? page : a.table[0]);
      for (int32_t t = shared + 1; t <= shared + 70; ++t) {
        a.Append(rng, 2, {t, t});
        if (::testing::Test::HasFatalFailure()) return;
        if (partial) a.copy_from = {-1, -1};
      }
      ASSERT_NO_FATAL_FAILURE(a.ExpectNearReference());
      EXPECT_EQ(a.Page(page), before);
      if (last > 0) {
        EXPECT_EQ(a.Page(a.table[0]), first);
      }
    }
  }
}

TEST(CudaAppend, TheCAbiDoesTheSame) {
  for (const int64_t d : {64, 128, -64}) {  // the last in fp16
    const AppendForm form{.d = std::abs(d), .type = d < 0 ? DType::kF16 : DType::kBF16};
    Appending a(form), b(form);
    Rng rng(6), same(6);
    for (int32_t t = 1; t <= 70; ++t) {
      a.Append(rng, 2, {t, std::max(1, t - 3)});
      b.Append(same, 2, {t, std::max(1, t - 3)}, /*through_cpp=*/false);
      if (::testing::Test::HasFatalFailure()) return;
    }
    ASSERT_NO_FATAL_FAILURE(a.ExpectNearReference());
    for (int m = 0; m < 4; ++m) EXPECT_EQ(a.dmemory[m].Download(), b.dmemory[m].Download()) << m;
    EXPECT_EQ(a.dq.Download(), b.dq.Download());
    const std::vector<float> pool = a.dpool.Download(), other = b.dpool.Download();
    EXPECT_EQ(std::memcmp(pool.data(), other.data(), pool.size() * sizeof(float)), 0);
  }
}

TEST(CudaAppend, CallsOutsideItsPlanAreRefused) {
  Appending a(AppendForm{});
  a.lengths = {1, 1};
  Rng rng(7);
  a.Draw(rng);
  a.copy_from = {-1, -1};
  a.UploadStep();
  const auto why = [&](auto change) {
    AppendBatch step = a.Step(true, 2);
    AppendConfig config = a.Config(true);
    Gate gate = a.device_gate;
    step.gate = &gate;
    change(step, config, gate);
    return std::string(attention::Append(a.plan, step, config, {}).message());
  };
  using B = AppendBatch;
  using C = AppendConfig;
  EXPECT_EQ(why([](B&, C&, Gate&) {}), "");
  EXPECT_EQ(why([](B&, C& c, Gate&) { c.gate_pos_compat = true; }), "");  // served: every form above
  EXPECT_THAT(why([](B&, C& c, Gate&) { c.min_max_block_tokens = 128; }), HasSubstr("got 128"));
  EXPECT_THAT(why([](B&, C& c, Gate&) { c.gate_block_tokens = 128; }), HasSubstr("got"));
  EXPECT_EQ(why([](B& b, C& c, Gate&) { b.copy_from = nullptr, c.gate_block_tokens = 128; }), "");
  EXPECT_THAT(why([](B&, C& c, Gate&) { c.min_max_block_tokens = 24; }), HasSubstr("got 24"));
  EXPECT_THAT(why([](B&, C& c, Gate&) { c.gate_block_tokens = -16; }), HasSubstr("-16"));
  EXPECT_THAT(why([](B& b, C&, Gate&) { b.pool = nullptr; }), HasSubstr("a pool"));
  EXPECT_THAT(why([](B& b, C&, Gate&) { b.gate = nullptr; }), HasSubstr("a gate"));
  EXPECT_THAT(why([](B&, C&, Gate& g) { g.width = 64; }), HasSubstr("width 128"));
  EXPECT_THAT(why([](B&, C&, Gate& g) { g.type = DType::kF32; }), HasSubstr("BF16"));
  EXPECT_THAT(why([](B& b, C&, Gate&) { b.min_max = {}; }), HasSubstr("width"));
  EXPECT_THAT(why([](B& b, C&, Gate&) { b.min_max.base += 2; }), HasSubstr("multiple of 16"));
  EXPECT_THAT(why([](B& b, C&, Gate&) { b.type = DType::kF32; }), HasSubstr("BF16"));
  EXPECT_THAT(why([](B& b, C&, Gate&) { b.qkv = nullptr; }), HasSubstr("qkv"));
  EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
}

}  // namespace
}  // namespace lectern::attention
