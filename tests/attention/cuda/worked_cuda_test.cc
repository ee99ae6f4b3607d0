// The worked examples on the device. Its kernels take heads of 64 and 128: the four columns stand where rotation pairs them, zero the rest.
// What is stored in two bytes is as near as these allow, and what a kernel keeps in fp32 has the printed digits: log-sum-exps, and
// scores, which a threshold just below and just above the printed probability tells.
#include <gmock/gmock.h>

#include "tests/attention/cuda/fixture.h"
#include "tests/attention/worked_examples.h"

namespace lectern::attention {
namespace {

constexpr int64_t kD = 64;
// Column c of four; a copy beside it is two columns on.
constexpr int64_t Column(int64_t c, int64_t copy = 0) { return (c < 2 ? c : kD / 2 + c - 2) + 2 * copy; }

// x as a sum of three numbers of two bytes each: 24 bits and more.
std::array<double, 3> Split(DType type, double x) {
  std::array<double, 3> parts{};
  for (double& part : parts) {
    part = Widen(type, Narrow(type, x));
    x -= part;
  }
  return parts;
}

struct Example {
  DType type;
  Problem problem{.q_heads = 2, .k_heads = 1, .v_heads = 1, .key_width = kD, .value_width = kD, .layout = BlockLayout::kRows, .max_keys = 128};
  AttentionPlan plan;
  DeviceArray<uint16_t> q{2 * kD}, out{2 * kD}, k{2 * 64 * kD}, v{2 * 64 * kD}, pairs{2 * 16 * 2 * kD}, gate_keys{2 * 16 * kD}, query_weights, key_weights;
  DeviceArray<float> pool{3 * kD}, lse{2}, query_norm, key_norm, frequencies;
  DeviceArray<int32_t> table{std::vector<int32_t>{1, 0}}, length{1}, ids{4}, counts{1};
  DeviceArray<std::byte> workspace;
  Gate gate, append_gate;

  explicit Example(DType storage, int64_t chunk = 0) : type(storage) {
    problem.kv_type = type;
    plan = *Plan(problem, {.scale = 0.5f}, {.kind = DeviceKind::kCuda, .fixed_chunk_keys = chunk});
    workspace.Resize(plan.workspace_bytes);
    EXPECT_TRUE(ClearWorkspace(plan, Run()).ok());
    for (DeviceArray<uint16_t>* a : {&q, &out, &k, &v, &pairs, &gate_keys}) a->Fill(0xff);
    pool.Fill(0xff);
    std::vector<float> turns(kD / 2, 0.0f);
    for (int i = 0; i < 6; ++i) turns[i] = worked::kFrequencies[i % 2];  // of three copies
    frequencies.Upload(turns);
  }
  Execution Run() const { return {.workspace = {workspace.get(), static_cast<size_t>(plan.workspace_bytes)}}; }
  std::vector<uint16_t> Bits(const std::vector<double>& x) const {
    std::vector<uint16_t> bits;
    for (const double e : x) bits.push_back(Narrow(type, e));
    return bits;
  }
  KvView Rows(const DeviceArray<uint16_t>& pages) const { return {pages.bytes(), type, 1, kD, 64 * kD, 64 * kD, kD, BlockLayout::kRows, 2}; }
  DescriptorView View(const DeviceArray<uint16_t>& rows, int64_t width) const { return {rows.bytes(), type, kD, 16 * width, 16 * width, width, 2}; }

  // A norm over 64 columns of which 4 * copies are filled gives 4 / sqrt(copies) times that over four; the selectors' 1 / sqrt(64) is a
  // quarter of 1 / sqrt(4). Norm weights, or without a norm the query's, make up for both.
  void MakeGate(bool norm, bool rotate, int64_t copies) {
    std::vector<double> wq(2 * kD * kD, 0), wk(3 * kD * kD, 0);
    for (int64_t c = 0; c < 4; ++c) {
      for (int64_t part = 0; part < 2; ++part) {
        for (int64_t copy = 0; copy < copies; ++copy) wq[(part * kD + Column(c)) * kD + Column(c, copy)] = worked::kQueryWeights[part] * (norm ? 1 : 4);
      }
      for (int64_t part = 0; part < 3; ++part) wk[(part * kD + Column(c)) * kD + Column(c)] = worked::kKeyWeights[part];
    }
    query_weights.Upload(Bits(wq)), key_weights.Upload(Bits(wk));
    query_norm.Upload(std::vector<float>(kD, std::sqrt(static_cast<float>(copies)))), key_norm.Upload(std::vector<float>(kD, 0.25f));
    gate = {.query_weights = query_weights.get(), .query_norm = norm ? query_norm.get() : nullptr,
            .norm_eps = 1e-6f * static_cast<float>(copies) / 16, .frequencies = rotate ? frequencies.get() : nullptr, .type = type, .width = kD};
    append_gate = {.key_weights = key_weights.get(), .key_norm = norm ? key_norm.get() : nullptr, .norm_eps = 1e-6f / 16,
                   .frequencies = gate.frequencies, .type = type, .width = kD};
  }
  // The next token, from a packed projection: queries, key, value.
  void Append(int64_t token, bool late) {
    std::vector<double> qkv(4 * kD, 0);
    for (int64_t c = 0; c < 4; ++c) {
      for (int64_t h = 0; h < 2; ++h) qkv[h * kD + Column(c)] = worked::kQueries[h * 4 + c];
      qkv[2 * kD + Column(c)] = worked::kKeys[token * 4 + c];
    }
    for (int64_t c = 0; c < 2; ++c) qkv[3 * kD + c] = worked::Value(token, c);
    const DeviceArray<uint16_t> dqkv(Bits(qkv));
    length.Upload({static_cast<int32_t>(token + 1)});
    const absl::Status status = attention::Append(plan, {.qkv = dqkv.get(), .q = q.get(), .type = type, .k = Rows(k), .v = Rows(v),
                                                         .min_max = View(pairs, 2 * kD), .gate_keys = View(gate_keys, kD), .gate = &append_gate, .pool = pool.get(),
                                                         .page_table = table.get(), .page_table_stride = 2, .lengths = length.get(), .batch = 1},
                                                  {.min_max_block_tokens = worked::kBlock, .gate_block_tokens = worked::kBlock, .gate_pos_compat = late}, Run());
    ASSERT_TRUE(status.ok()) << status;
  }
  void Fill(bool norm, bool rotate, bool late, int64_t copies = 1) {
    MakeGate(norm, rotate, copies);
    for (int64_t t = 0; t < worked::kLength; ++t) ASSERT_NO_FATAL_FAILURE(Append(t, late));
  }
  // The row of descriptors of a block, in the first page.
  std::vector<double> Row(const DeviceArray<uint16_t>& rows, int64_t block, int64_t width, int64_t from = 0) const {
    const std::vector<uint16_t> all = rows.Download();
    std::vector<double> x;
    for (int64_t c = 0; c < 4; ++c) x.push_back(Widen(type, all[(16 + block) * width + from + Column(c)]));
    return x;
  }
  std::vector<int32_t> Select(const Selector& s, const DeviceArray<uint16_t>& queries, bool projected) {
    const SelectBatch step{.q = queries.get(), .type = type, .query_projected = projected, .descriptors = s.kind == SelectorKind::kGate ? View(gate_keys, kD) : View(pairs, 2 * kD),
                           .gate = &gate, .k = Rows(k), .page_table = table.get(), .page_table_stride = 2, .lengths = length.get(), .batch = 1};
    absl::Status status = PrepareSelect(plan, s, projected);
    EXPECT_TRUE(status.ok()) << status;
    status = attention::Select(plan, s, step, {ids.get(), counts.get(), 4, worked::kBlock}, Run());
    EXPECT_TRUE(status.ok()) << status;
    EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
    const std::vector<int32_t> list = ids.Download();
    const int32_t count = counts.Download()[0];
    if (count == kAllBlocks) return {0, 1, 2, 3};
    return {list.begin(), list.begin() + count};
  }
  // Each block is in just below its probability, and out just above.
  template <class Values>
  void ExpectProbabilities(const Values& p, Selector s, const DeviceArray<uint16_t>& queries, bool projected, const char* what) {
    s.mode = SelectMode::kThreshold, s.block_tokens = worked::kBlock, s.first_blocks = s.last_blocks = 0;
    for (size_t i = 0; i < p.size(); ++i) {
      const int32_t block = static_cast<int32_t>(i);
      s.threshold = static_cast<float>(p[i] - 2e-6);
      EXPECT_THAT(Select(s, queries, projected), ::testing::Contains(block)) << what << ", below block " << i;
      s.threshold = static_cast<float>(p[i] + 2e-6);
      EXPECT_THAT(Select(s, queries, projected), ::testing::Not(::testing::Contains(block))) << what << ", above block " << i;
    }
  }
};

template <class Values>
std::vector<double> SoftmaxOf(const Values& scores) {
  const std::vector<double> z(scores.begin(), scores.end());
  return Softmax<double>(std::span<const double>(z));
}

constexpr DType kTypes[] = {DType::kBF16, DType::kF16};
double Rounding(DType type) { return type == DType::kF16 ? 0x1p-11 : 0x1p-8; }  // its share of a number, at most

TEST(WorkedCuda, DescriptorsAndTheStepThatClosesABlock) {
  for (const DType type : kTypes) {
    for (const bool norm : {false, true}) {
      Example e(type);
      e.MakeGate(norm, norm, 1);
      for (int64_t t = 0; t < worked::kLength; ++t) {
        ASSERT_NO_FATAL_FAILURE(e.Append(t, false));
        for (int64_t i = 0; i < 4; ++i) EXPECT_EQ(std::isnan(e.Row(e.gate_keys, i, kD)[0]), i >= (t + 1) / worked::kBlock) << "token " << t << " block " << i;
        if (norm && t == 8) {  // nine tokens: two complete blocks, the first and the third forced
          EXPECT_THAT(e.Select({.block_tokens = worked::kBlock, .budget_tokens = 2 * worked::kBlock}, e.q, false), ::testing::ElementsAre(0, 2));
        }
      }
      for (int64_t i = 0; i < 4; ++i) {
        EXPECT_THAT(e.Row(e.pairs, i, 2 * kD), ::testing::ElementsAreArray(worked::kMin[i]));
        EXPECT_THAT(e.Row(e.pairs, i, 2 * kD, kD), ::testing::ElementsAreArray(worked::kMax[i]));
        if (!norm && i < 3) {
          EXPECT_THAT(e.Row(e.gate_keys, i, kD), ::testing::ElementsAreArray(worked::kProjectedKeys[i]));
        }
      }
      if (norm) {
        const std::vector<double> last = e.Row(e.gate_keys, 2, kD);
        for (int64_t c = 0; c < 4; ++c) EXPECT_NEAR(last[c], worked::kLastGateKey[c], std::abs(worked::kLastGateKey[c]) * Rounding(type) + worked::kPrinted);
      }
      const std::vector<float> pool = e.pool.Download();
      for (int64_t c = 0; c < 4; ++c) {
        EXPECT_EQ(pool[Column(c)], worked::kMax[3][c]);
        EXPECT_EQ(pool[kD + Column(c)], worked::kMin[3][c]);
        EXPECT_EQ(pool[2 * kD + Column(c)], 2 * worked::kMean[3][c]);
      }
    }
  }
}

// Over descriptors that the device itself made of the keys.
TEST(WorkedCuda, Choices) {
  for (const DType type : kTypes) {
    Example plain(type), late(type);
    ASSERT_NO_FATAL_FAILURE(plain.Fill(true, true, false));
    ASSERT_NO_FATAL_FAILURE(late.Fill(true, true, true));
    for (const worked::Choice& c : worked::Choices()) {
      Example& e = c.late ? late : plain;
      EXPECT_EQ(e.Select(c.selector, e.q, false), c.blocks) << DTypeName(type) << ": " << c.name;
    }
  }
}

TEST(WorkedCuda, BoundsToTheDigit) {
  for (const DType type : kTypes) {
    Example e(type);
    ASSERT_NO_FATAL_FAILURE(e.Fill(true, true, false));
    worked::Four largest = worked::kQuest[0], oracle = worked::kOracle[0];
    for (int i = 0; i < 4; ++i) largest[i] = std::max(largest[i], worked::kQuest[1][i]), oracle[i] = std::max(oracle[i], worked::kOracle[1][i]);
    e.ExpectProbabilities(SoftmaxOf(largest), {.kind = SelectorKind::kQuest}, e.q, false, "Quest");
    e.ExpectProbabilities(SoftmaxOf(oracle), {.kind = SelectorKind::kOracle}, e.q, false, "oracle");
    std::vector<double> four_times(2 * kD, 0);  // for width^-1/2
    for (int64_t i = 0; i < 8; ++i) four_times[i / 4 * kD + Column(i % 4)] = 4 * worked::kQueries[i];
    e.ExpectProbabilities(SoftmaxOf(worked::kResa), {.kind = SelectorKind::kResa}, DeviceArray<uint16_t>(e.Bits(four_times)), false, "ReSA");
  }
}

// Gate keys in three parts, in columns side by side, so that two bytes do not decide; the query once in front of each.
TEST(WorkedCuda, GateScoresToTheDigit) {
  struct Setting {
    const char* what;
    bool norm, rotate, late, zero;
    std::vector<double> p;
  };
  const std::vector<Setting> settings = {
      {"norm and rotation", true, true, false, false, {worked::kSoftmax.begin(), worked::kSoftmax.end()}},
      {"no norm", false, true, false, false, {worked::kNoNormSoftmax.begin(), worked::kNoNormSoftmax.end()}},
      {"no rotation", true, false, false, false, SoftmaxOf(worked::kNoRotation)},
      {"late", true, true, true, false, SoftmaxOf(worked::kLate)},
      {"with zero", true, true, false, true, {worked::kSoftmaxWithZero.begin(), worked::kSoftmaxWithZero.end()}}};
  for (const DType type : kTypes) {
    for (const Setting& set : settings) {
      Example e(type);
      ASSERT_NO_FATAL_FAILURE(e.Fill(set.norm, set.rotate, set.late, 3));
      std::vector<float> weights(3 * 16, 0.0f), ones(4, 1.0f), projection(2 * 16, 0.0f);
      for (int c = 0; c < 4; ++c) {
        for (int part = 0; part < 3; ++part) weights[part * 16 + c * 5] = worked::kKeyWeights[part];
        for (int part = 0; part < 2; ++part) projection[part * 16 + c * 5] = worked::kQueryWeights[part];
      }
      const Gate exact{.query_weights = projection.data(), .key_weights = weights.data(), .query_norm = set.norm ? ones.data() : nullptr,
                       .key_norm = set.norm ? ones.data() : nullptr, .frequencies = set.rotate ? worked::kFrequencies : nullptr, .width = 4};
      std::vector<double> keys(2 * 16 * kD, NAN), products = keys;
      for (int64_t i = 0; i < 3; ++i) {
        const auto key = GateKey<double>(exact, 4, PoolBlock<double>(worked::kKeys.data() + i * 16, 4, 4), 0, i * 4 + (set.late ? 3 : 0));
        std::fill_n(keys.begin() + (16 + i) * kD, kD, 0.0), std::fill_n(products.begin() + (16 + i) * kD, kD, 0.0);
        for (int64_t c = 0; c < 4; ++c) {
          const auto parts = Split(type, key[c]);
          for (int64_t part = 0; part < 3; ++part) {
            keys[(16 + i) * kD + Column(c, part)] = parts[part];
            for (int64_t with = 0; with < 3; ++with) products[(16 + i) * kD + c * 9 + part * 3 + with] = parts[part];
          }
        }
      }
      const Selector gate{.kind = SelectorKind::kGate, .gate_zero_placeholder = set.zero};
      e.gate_keys.Upload(e.Bits(keys));
      e.ExpectProbabilities(set.p, gate, e.q, false, set.what);
      if (set.zero) continue;
      // And the gate's own query, in three parts as well: nine products a column.
      std::vector<double> query(kD, 0);
      const auto made = GateQuery<double>(exact, 2, 4, worked::kQueries.data(), 0, worked::kLength - 1);
      for (int64_t c = 0; c < 4; ++c) {
        const auto parts = Split(type, 4 * made[c]);
        for (int64_t part = 0; part < 9; ++part) query[c * 9 + part] = parts[part % 3];
      }
      e.gate_keys.Upload(e.Bits(products));
      e.ExpectProbabilities(set.p, gate, DeviceArray<uint16_t>(e.Bits(query)), true, set.what);
    }
  }
}

// A block of four stands at the front of one of sixteen, behind it keys of no weight; the last one ends the sequence.
TEST(WorkedCuda, AttentionOverAllBlocksAndOverSome) {
  for (const DType type : kTypes) {
    for (const int64_t chunk : {0, 16, 48}) {
      Example e(type, chunk);
      ASSERT_NO_FATAL_FAILURE(e.Fill(true, true, false));
      const auto expect = [&](const worked::Attended& want) {
        ASSERT_CUDA(cudaDeviceSynchronize());
        const std::vector<uint16_t> out = e.out.Download();
        const std::vector<float> lse = e.lse.Download();
        for (int h = 0; h < want.heads; ++h) {
          for (int c = 0; c < 2; ++c) {  // weights and the output are stored in two bytes each; values go to 2
            EXPECT_NEAR(Widen(type, out[h * kD + c]), want.out[h * 2 + c], (2 + std::abs(want.out[h * 2 + c])) * Rounding(type));
          }
          for (int c = 2; c < kD; ++c) EXPECT_EQ(Widen(type, out[h * kD + c]), 0.0f);
          EXPECT_NEAR(lse[h], want.lse[h], 2 * worked::kPrinted);
        }
      };
      const DecodeBatch step{.q = e.q.get(), .out = e.out.get(), .lse = e.lse.get(), .type = type, .k = e.Rows(e.k), .v = e.Rows(e.v),
                             .page_table = e.table.get(), .page_table_stride = 2, .lengths = e.length.get(), .batch = 1};
      ASSERT_TRUE(Decode(e.plan, step, e.Run()).ok());
      ASSERT_NO_FATAL_FAILURE(expect(worked::kDense));
      std::vector<double> k(2 * 64 * kD, NAN), v(2 * 64 * kD, NAN);
      for (int64_t t = 0; t < 98; ++t) {
        const int64_t block = t / 16 == 0 ? 0 : t / 16 == 3 ? 2 : t / 16 == 6 ? 3 : -1, key = block * 4 + t % 16;
        const bool real = block >= 0 && t % 16 < 4;
        const int64_t at = ((1 - t / 64) * 64 + t % 64) * kD;
        for (int64_t c = 0; c < kD; ++c) k[at + c] = v[at + c] = 0;
        for (int64_t c = 0; c < 4; ++c) k[at + Column(c)] = real ? worked::kKeys[key * 4 + c] : c == 0 || c == 3 ? -1e4 : 0;
        for (int64_t c = 0; c < 2; ++c) v[at + c] = real ? worked::Value(key, c) : 0;
      }
      e.k.Upload(e.Bits(k)), e.v.Upload(e.Bits(v)), e.length.Upload({98});
      for (const worked::Attended* want : {&worked::kSparse, &worked::kFirst, &worked::kSecond}) {
        std::vector<int32_t> list;
        for (const int32_t block : want->blocks) list.push_back(block == 0 ? 0 : block == 2 ? 3 : 6);
        e.counts.Upload({static_cast<int32_t>(list.size())});
        list.resize(4, -1);
        e.ids.Upload(list);
        ASSERT_TRUE(SparseDecode(e.plan, step, {e.ids.get(), e.counts.get(), 4, 16}, e.Run()).ok());
        ASSERT_NO_FATAL_FAILURE(expect(*want));
      }
    }
  }
}

// Chunks of sixteen keys: one key of score 0 among keys of no weight, then three of score 0.
TEST(WorkedCuda, APartWhoseLogSumExpIsZeroCounts) {
  for (const DType type : kTypes) {
    Example e(type, 16);
    std::vector<double> k(2 * 64 * kD, NAN), v(2 * 64 * kD, NAN), q(2 * kD, 0);
    q[0] = q[kD] = 1;
    for (int64_t t = 0; t < 19; ++t) {
      for (int64_t c = 0; c < kD; ++c) k[(64 + t) * kD + c] = v[(64 + t) * kD + c] = 0;
      if (t > 0 && t < 16) k[(64 + t) * kD] = -1e4;
      for (int64_t c = 0; c < 2; ++c) v[(64 + t) * kD + c] = t == 0 ? 1.0 + static_cast<double>(c) : c == 0 ? 3 : -1;
    }
    e.k.Upload(e.Bits(k)), e.v.Upload(e.Bits(v)), e.q.Upload(e.Bits(q)), e.length.Upload({19});
    const DecodeBatch step{.q = e.q.get(), .out = e.out.get(), .lse = e.lse.get(), .type = type, .k = e.Rows(e.k), .v = e.Rows(e.v),
                           .page_table = e.table.get(), .page_table_stride = 2, .lengths = e.length.get(), .batch = 1};
    ASSERT_TRUE(Decode(e.plan, step, e.Run()).ok());
    ASSERT_CUDA(cudaDeviceSynchronize());
    const std::vector<uint16_t> out = e.out.Download();
    for (int h = 0; h < 2; ++h) {
      for (int c = 0; c < 2; ++c) EXPECT_EQ(Widen(type, out[h * kD + c]), worked::kMerged[c]);
      EXPECT_NEAR(e.lse.Download()[h], worked::kMerged[2], worked::kPrinted);
    }
  }
}

}  // namespace
}  // namespace lectern::attention
