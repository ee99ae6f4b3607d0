// Steps on the device again and again: one captured graph for a thousand lengths, and the same bits while another stream keeps the card busy.
#include <gmock/gmock.h>

#include <cstring>
#include <memory>

#include "tests/attention/cuda/append_fixture.h"
#include "tests/attention/cuda/select_fixture.h"

namespace lectern::attention {
namespace {

// What one step is given and leaves beside the cache.
struct Token {
  DeviceArray<uint16_t> qkv, out;
  DeviceArray<int32_t> lengths, ids, counts;
  DeviceArray<float> lse;
};

// Append, select and attend over one cache of three sequences.
struct Chain {
  static constexpr int64_t kBatch = 3;
  static constexpr int32_t kStarts[] = {200, 37, 0};
  Appending a;
  Selector s;
  int64_t rows, capacity;
  DeviceArray<std::byte> workspace;

  Chain(const Selector& selector, DType type)
      : a({.batch = kBatch, .pages_a_row = 20, .type = type, .pairs = selector.block_tokens, .gate = selector.block_tokens, .gate_q = true}), s(selector),
        rows(kBatch * Appending::kKvHeads), capacity(BlockCapacity(s, a.problem.max_keys, a.form.group)) {
    const absl::Status prepared = PrepareSelect(a.plan, s, false);
    EXPECT_TRUE(prepared.ok()) << prepared;
    workspace.Resize(a.plan.workspace_bytes);
    EXPECT_TRUE(ClearWorkspace(a.plan, Run(nullptr)).ok());
  }
  Execution Run(cudaStream_t stream) const { return {.stream = stream, .workspace = {workspace.get(), static_cast<size_t>(a.plan.workspace_bytes)}}; }
  Token Empty() const {
    Token t;
    t.qkv.Resize(kBatch * a.heads * a.d), t.out.Resize(a.q.size()), t.lengths.Resize(kBatch);
    t.ids.Resize(rows * capacity), t.counts.Resize(rows), t.lse.Resize(kBatch * a.problem.q_heads);
    return t;
  }
  // Token t of every sequence, 1 being the first one after its prompt.
  void Draw(int32_t t, Token* to) {
    Rng rng(1000 + t);
    a.Draw(rng);
    a.lengths.clear();
    for (const int32_t start : kStarts) a.lengths.push_back(start + t);
    to->qkv.Upload(a.qkv), to->lengths.Upload(a.lengths);
    to->out.Fill(0xff), to->lse.Fill(0xff), to->ids.Fill(0x7f), to->counts.Fill(0x7f);
  }
  // The prompts, on the host: tools take a tenth of a second for a launch.
  void Prompt() {
    for (int32_t t = 1; t <= kStarts[0]; ++t) {
      Rng rng(t);
      a.Draw(rng);
      a.lengths = {t, t, 0};
      ReferenceAppend(a.problem, a.Step(false, t <= kStarts[1] ? 2 : 1), a.Config(false));
    }
    a.UploadState();
  }
  BlockIds Blocks(const Token& t) const { return {t.ids.get(), t.counts.get(), capacity, s.block_tokens}; }
  SelectBatch SelectStep(const Token& t) {
    const AppendBatch step = a.Step(true, kBatch);
    const bool gate = s.kind == SelectorKind::kGate;
    return {.q = gate ? step.gate_q : step.q, .type = a.type, .descriptors = gate ? step.gate_keys : step.min_max, .gate = &a.device_gate, .k = step.k,
            .page_table = step.page_table, .page_table_stride = a.stride, .lengths = t.lengths.get(), .batch = kBatch};
  }
  // `apart`: no launch begins before the one before it has ended.
  void Step(const Token& t, cudaStream_t stream, bool apart = false) {
    const auto rest = [&] { ASSERT_EQ(apart ? cudaStreamSynchronize(stream) : cudaSuccess, cudaSuccess); };
    AppendBatch append = a.Step(true, kBatch);
    append.qkv = t.qkv.get(), append.lengths = t.lengths.get();
    absl::Status status = Append(a.plan, append, a.Config(true), Run(stream));
    ASSERT_TRUE(status.ok()) << status;
    ASSERT_NO_FATAL_FAILURE(rest());
    status = Select(a.plan, s, SelectStep(t), Blocks(t), Run(stream));
    ASSERT_TRUE(status.ok()) << status;
    ASSERT_NO_FATAL_FAILURE(rest());
    const DecodeBatch step{.q = append.q, .out = t.out.get(), .lse = t.lse.get(), .type = a.type, .k = append.k, .v = append.v,
                           .page_table = append.page_table, .page_table_stride = a.stride, .lengths = t.lengths.get(), .batch = kBatch};
    status = SparseDecode(a.plan, step, Blocks(t), Run(stream));
    ASSERT_TRUE(status.ok()) << status;
    ASSERT_NO_FATAL_FAILURE(rest());
  }
  // The step just made, against fp64: its list from its descriptors (a near-tie may differ), its output from its list.
  void ExpectNearTruth(const Token& t) {
    std::vector<int32_t> lengths = t.lengths.Download(), ids(rows * NumBlocks(a.problem.max_keys, s.block_tokens)), counts(rows);
    for (int i = 2; i < 4; ++i) a.memory[i] = a.dmemory[i].Download();
    a.memory[0] = a.dmemory[0].Download();
    a.q = a.dq.Download(), a.gate_q = a.dgate_q.Download(), a.lengths = lengths;
    SelectBatch host = SelectStep(t);
    const AppendBatch step = a.Step(false, kBatch);
    const bool gate = s.kind == SelectorKind::kGate;
    host.q = gate ? step.gate_q : step.q, host.descriptors = gate ? step.gate_keys : step.min_max, host.gate = &a.host_gate, host.k = step.k;
    host.page_table = step.page_table, host.lengths = lengths.data();
    const int64_t wide = NumBlocks(a.problem.max_keys, s.block_tokens);
    ReferenceSelect(a.problem, s, host, {ids.data(), counts.data(), wide, s.block_tokens});
    const std::vector<int32_t> got_ids = t.ids.Download(), got_counts = t.counts.Download();
    for (int64_t row = 0; row < rows; ++row) {
      const std::vector<int32_t> want(ids.begin() + row * wide, ids.begin() + row * wide + counts[row]);
      if (got_counts[row] == kAllBlocks) {
        ASSERT_EQ(counts[row], NumBlocks(lengths[row / 2], s.block_tokens));
        continue;
      }
      std::vector<int32_t> away;
      std::set_symmetric_difference(want.begin(), want.end(), got_ids.begin() + row * capacity, got_ids.begin() + row * capacity + got_counts[row], std::back_inserter(away));
      ASSERT_LE(away.size(), 2u) << "row " << row;
    }
    DeviceArray<double> out(a.q.size()), lse(kBatch * a.problem.q_heads);
    NaiveDecode({a.dq.get(), a.dmemory[0].get(), a.dmemory[1].get(), out.get(), lse.get(), a.dtable.get(), t.lengths.get(), t.ids.get(), t.counts.get(),
                 static_cast<int>(a.stride), kBatch, static_cast<int>(a.problem.q_heads), Appending::kKvHeads, static_cast<int>(a.d), static_cast<int>(capacity),
                 static_cast<int>(s.block_tokens), 1 / std::sqrt(static_cast<double>(a.d)), 0, a.type == DType::kF16});
    const std::vector<double> want = out.Download();
    const std::vector<uint16_t> got = t.out.Download();
    for (size_t i = 0; i < got.size(); ++i) {
      ASSERT_NEAR(Widen(a.type, got[i]), want[i], (2e-3 + 8e-3 * std::abs(want[i])) / (a.type == DType::kF16 ? 8 : 1)) << i;
    }
  }
};

template <class T>
bool SameBits(const DeviceArray<T>& x, const DeviceArray<T>& y) {
  const std::vector<T> a = x.Download(), b = y.Download();
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0;
}
void ExpectSameStep(const Token& x, const Token& y) {
  ASSERT_TRUE(SameBits(x.counts, y.counts));
  // Of a row whose count is kAllBlocks ids are not written.
  const std::vector<int32_t> counts = x.counts.Download(), a = x.ids.Download(), b = y.ids.Download();
  const size_t capacity = a.size() / counts.size();
  for (size_t row = 0; row < counts.size(); ++row) {
    const auto at = static_cast<int64_t>(row * capacity), end = static_cast<int64_t>((row + 1) * capacity);
    ASSERT_TRUE(counts[row] < 0 || std::equal(a.begin() + at, a.begin() + end, b.begin() + at)) << "row " << row;
  }
  ASSERT_TRUE(SameBits(x.out, y.out));
  ASSERT_TRUE(SameBits(x.lse, y.lse));
}
void ExpectSameCache(const Appending& x, const Appending& y) {
  for (int m = 0; m < 4; ++m) ASSERT_TRUE(SameBits(x.dmemory[m], y.dmemory[m])) << m;
  ASSERT_TRUE(SameBits(x.dpool, y.dpool));
  ASSERT_TRUE(SameBits(x.dcommitted, y.dcommitted));
  ASSERT_TRUE(SameBits(x.dq, y.dq));
  ASSERT_TRUE(SameBits(x.dgate_q, y.dgate_q));
}

struct ChainKind {
  const char* name;
  Selector selector;
  DType type = DType::kBF16;
  friend void PrintTo(const ChainKind& kind, std::ostream* os) { *os << kind.name; }
};
const ChainKind kChains[] = {
    {"Gate", {.kind = SelectorKind::kGate, .block_tokens = 16, .budget_tokens = 128}},
    {"GateAboveAThresholdInFp16", {.kind = SelectorKind::kGate, .mode = SelectMode::kThreshold, .block_tokens = 32, .threshold = 0.02f}, DType::kF16},
    {"Quest", {.kind = SelectorKind::kQuest, .block_tokens = 16, .budget_tokens = 160, .first_blocks = 0}},
    {"QuestOfEachHead", {.kind = SelectorKind::kQuest, .block_tokens = 64, .budget_tokens = 192, .first_blocks = 0, .per_head = true}},
    {"Resa", {.kind = SelectorKind::kResa, .mode = SelectMode::kRatio, .block_tokens = 16, .ratio_per_mille = 100, .min_blocks = 8, .first_blocks = 0}},
    {"Oracle", {.kind = SelectorKind::kOracle, .block_tokens = 16, .budget_tokens = 128}}};

class CudaChain : public ::testing::TestWithParam<ChainKind> {};
INSTANTIATE_TEST_SUITE_P(Selectors, CudaChain, ::testing::ValuesIn(kChains), [](const auto& info) { return std::string(info.param.name); });

// Launches that may begin before their predecessors end leave the bits of launches that wait.
TEST_P(CudaChain, OneLaunchAtATimeIsTheSame) {
  Chain overlapped(GetParam().selector, GetParam().type), apart(GetParam().selector, GetParam().type);
  overlapped.Prompt(), apart.Prompt();
  Token one = overlapped.Empty(), other = apart.Empty();
  for (int32_t t = 1; t <= 3; ++t) {
    overlapped.Draw(t, &one), apart.Draw(t, &other);
    ASSERT_NO_FATAL_FAILURE(overlapped.Step(one, nullptr));
    ASSERT_CUDA(cudaDeviceSynchronize());
    ASSERT_NO_FATAL_FAILURE(apart.Step(other, nullptr, /*apart=*/true));
    ASSERT_NO_FATAL_FAILURE(apart.ExpectNearTruth(other));
    ASSERT_NO_FATAL_FAILURE(ExpectSameStep(one, other));
    ASSERT_NO_FATAL_FAILURE(ExpectSameCache(overlapped.a, apart.a));
  }
}

// A thousand tokens of three sequences: append, select and attend in one graph, captured once.
TEST_P(CudaChain, OneGraphServesAThousandTokens) {
  Chain direct(GetParam().selector, GetParam().type), replayed(GetParam().selector, GetParam().type);
  direct.Prompt(), replayed.Prompt();
  ASSERT_NO_FATAL_FAILURE(ExpectSameCache(direct.a, replayed.a));
  Token one = direct.Empty(), other = replayed.Empty();
  Graph graph([&](cudaStream_t stream) { replayed.Step(other, stream); });
  for (int32_t t = 1; t <= Rounds(1000); ++t) {
    direct.Draw(t, &one), replayed.Draw(t, &other);
    direct.Step(one, nullptr);
    ASSERT_CUDA(cudaDeviceSynchronize());
    graph.Replay();
    ASSERT_NO_FATAL_FAILURE(ExpectSameStep(one, other)) << "token " << t;
    if (t % 100 != 1) continue;
    ASSERT_NO_FATAL_FAILURE(ExpectSameCache(direct.a, replayed.a)) << "token " << t;
    ASSERT_NO_FATAL_FAILURE(replayed.ExpectNearTruth(other)) << "token " << t;
  }
  ASSERT_NO_FATAL_FAILURE(ExpectSameCache(direct.a, replayed.a));
}

TEST(CudaReplay, OneGraphOfSelectServesAThousandLengths) {
  for (const SelectorKind kind : {SelectorKind::kGate, SelectorKind::kQuest, SelectorKind::kResa, SelectorKind::kOracle}) {
    for (const bool other : {false, true}) {  // the gate with its projection; Quest for each head
      if (other && kind != SelectorKind::kGate && kind != SelectorKind::kQuest) continue;
      Selector s = Of(kind, SelectMode::kTokens, 16);
      s.per_head = other && kind == SelectorKind::kQuest;
      SelectCase c(s, 4, 2, 128, {10000, 4000, 333}, other && kind == SelectorKind::kGate, false, 151);
      const std::vector<int32_t> longest = c.lengths;
      DeviceSelect direct(c), replayed(c);
      Graph graph([&](cudaStream_t stream) { replayed.Select(stream); });
      Rng rng(152);
      for (int replay = 0; replay < Rounds(1000); ++replay) {
        for (size_t b = 0; b < longest.size(); ++b) c.lengths[b] = static_cast<int32_t>(rng.Below(longest[b] + 1));
        direct.lengths.Upload(c.lengths), replayed.lengths.Upload(c.lengths);
        direct.Forget(), replayed.Forget();
        direct.Select();
        ASSERT_CUDA(cudaDeviceSynchronize());
        graph.Replay();
        ASSERT_TRUE(SameBits(direct.ids, replayed.ids)) << "kind " << static_cast<int>(kind) << " replay " << replay;
        ASSERT_TRUE(SameBits(direct.counts, replayed.counts)) << "kind " << static_cast<int>(kind) << " replay " << replay;
        if (replay % 100 == 0) {
          const auto got = c.Lists(replayed.ids.Download(), replayed.counts.Download()), want = c.Truth();
          for (size_t row = 0; row < want.size(); ++row) {
            std::vector<int32_t> away;
            std::set_symmetric_difference(got[row].begin(), got[row].end(), want[row].begin(), want[row].end(), std::back_inserter(away));
            ASSERT_LE(away.size(), 2u) << "kind " << static_cast<int>(kind) << " row " << row;
          }
        }
      }
    }
  }
}

TEST(CudaReplay, OneGraphOfAppendServesAThousandLengths) {
  for (const AppendForm& form : {AppendForm{.gate_q = true}, AppendForm{.d = 64, .group = 7, .pairs = 64, .gate = 16, .bias = false, .rotate = false}}) {
    Appending direct(form), replayed(form);
    Rng rng(153), same(153);
    const auto next = [](Appending& a, Rng& r) {
      a.Draw(r);
      a.lengths = {static_cast<int32_t>(r.Below(193)), static_cast<int32_t>(r.Below(193))};
      a.UploadStep();
    };
    next(direct, rng), next(replayed, same);
    Graph graph([&](cudaStream_t stream) { replayed.OnDevice(2, stream); });
    for (int replay = 0; replay < Rounds(1000); ++replay) {
      direct.OnDevice(2);
      ASSERT_CUDA(cudaDeviceSynchronize());
      graph.Replay();
      ASSERT_TRUE(SameBits(direct.dq, replayed.dq)) << "replay " << replay;
      if (replay % 10 == 0) {  // nothing is ever taken back
        ASSERT_NO_FATAL_FAILURE(ExpectSameCache(direct, replayed)) << "replay " << replay;
      }
      next(direct, rng), next(replayed, same);
    }
    ASSERT_NO_FATAL_FAILURE(ExpectSameCache(direct, replayed));
  }
}

TEST(CudaReplay, SelectionsAreBitwiseEqualUnderLoad) {
  Busy busy;
  cudaStream_t stream;
  ASSERT_CUDA(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  for (const SelectorKind kind : {SelectorKind::kGate, SelectorKind::kQuest, SelectorKind::kResa, SelectorKind::kOracle}) {
    for (const bool other : {false, true}) {
      if (other && kind != SelectorKind::kGate && kind != SelectorKind::kQuest) continue;
      Selector s = Of(kind, SelectMode::kRatio, 16);
      s.per_head = other && kind == SelectorKind::kQuest;
      const SelectCase c(s, 8, 8, 128, {20000, 3000, 777}, other && kind == SelectorKind::kGate, false, 154);
      DeviceSelect first(c), again(c);
      first.Forget();
      first.Select();
      ASSERT_CUDA(cudaDeviceSynchronize());
      for (int round = 0; round < Rounds(200); ++round) {
        again.Forget();
        ASSERT_CUDA(cudaDeviceSynchronize());
        busy.Copy();
        again.Select(stream);
        ASSERT_CUDA(cudaDeviceSynchronize());
        ASSERT_TRUE(SameBits(first.ids, again.ids)) << "kind " << static_cast<int>(kind) << " round " << round;
        ASSERT_TRUE(SameBits(first.counts, again.counts)) << "kind " << static_cast<int>(kind) << " round " << round;
      }
    }
  }
  cudaStreamDestroy(stream);
}

// Forty tokens in one go, each launch free to begin before the one before it has ended, beside copies: the bits of tokens made one by one.
TEST_P(CudaChain, IsBitwiseEqualUnderLoad) {
  constexpr int32_t kTokens = 40;
  Busy busy;
  cudaStream_t stream;
  ASSERT_CUDA(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  Chain calm(GetParam().selector, GetParam().type), loaded(GetParam().selector, GetParam().type);
  calm.Prompt();
  const Appending& a = calm.a;
  std::vector<std::vector<uint16_t>> memory;
  for (const auto& m : a.dmemory) memory.push_back(m.Download());
  const std::vector<float> pool = a.dpool.Download(), committed = a.dcommitted.Download();
  std::vector<Token> want, got;
  for (int32_t t = 1; t <= kTokens; ++t) {
    want.push_back(calm.Empty()), got.push_back(loaded.Empty());
    calm.Draw(t, &want.back()), loaded.Draw(t, &got.back());
    calm.Step(want.back(), nullptr);
    ASSERT_CUDA(cudaDeviceSynchronize());
  }
  for (int round = 0; round < Rounds(20); ++round) {
    loaded.a.memory = memory, loaded.a.pool = pool, loaded.a.committed = committed;
    loaded.a.UploadState();
    for (Token& t : got) t.out.Fill(0xff), t.lse.Fill(0xff), t.ids.Fill(0x7f), t.counts.Fill(0x7f);
    ASSERT_CUDA(cudaDeviceSynchronize());
    busy.Copy(10);
    for (const Token& t : got) ASSERT_NO_FATAL_FAILURE(loaded.Step(t, stream));
    ASSERT_CUDA(cudaDeviceSynchronize());
    for (int32_t t = 0; t < kTokens; ++t) ASSERT_NO_FATAL_FAILURE(ExpectSameStep(want[t], got[t])) << "round " << round << " token " << t;
    ASSERT_NO_FATAL_FAILURE(ExpectSameCache(calm.a, loaded.a)) << "round " << round;
  }
  cudaStreamDestroy(stream);
}

}  // namespace
}  // namespace lectern::attention
