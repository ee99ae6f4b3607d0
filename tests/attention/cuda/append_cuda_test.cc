// Append to pages that were shared, and through the C ABI.
#include <gmock/gmock.h>

#include "attention/cuda/c_api.h"
#include "tests/attention/cuda/fixture.h"

namespace lectern::attention {
namespace {

constexpr int64_t kBlock = 16, kGateBlock = 32, kPages = 7, kStride = 3, kGroup = 4, kKvHeads = 2;

// Two sequences over one pool of pages with pairs and gate keys, on the device and on the host.
struct Appending {
  DType type;
  int64_t d, heads = (kGroup + 2) * kKvHeads;
  Problem problem;
  AttentionPlan plan;
  std::vector<uint16_t> bias, weights, q, qkv;
  std::vector<std::vector<uint16_t>> memory;  // k, v, pairs, gate keys
  std::vector<float> q_norm, k_norm, gate_norm, frequencies, pool;
  std::vector<int32_t> table, lengths, copy_from;
  DeviceArray<uint16_t> dbias, dweights, dq, dqkv, dmemory[4];
  DeviceArray<float> dq_norm, dk_norm, dgate_norm, dfrequencies, dpool;
  DeviceArray<int32_t> dtable, dlengths, dcopy_from;
  Gate host_gate, device_gate;

  explicit Appending(int64_t width, DType storage = DType::kBF16) : type(storage), d(width) {
    Rng rng(31 + d);
    const auto bits = [&](int64_t n, double scale) {
      std::vector<uint16_t> x(n);
      for (uint16_t& e : x) e = Narrow(type, scale * rng.Normal());
      return x;
    };
    const auto floats = [&](int64_t n) {
      std::vector<float> x(n);
      for (float& e : x) e = static_cast<float>(1 + 0.1 * rng.Normal());
      return x;
    };
    problem = {.q_heads = kGroup * kKvHeads, .k_heads = kKvHeads, .v_heads = kKvHeads, .key_width = d, .value_width = d,
               .kv_type = type, .layout = BlockLayout::kRows, .max_keys = kStride * 64, .max_batch = 2};
    plan = *Plan(problem, {}, {.kind = DeviceKind::kCuda});
    bias = bits(heads * d, 0.5), weights = bits(kKvHeads * 3 * d * d, 0.05);
    q_norm = floats(d), k_norm = floats(d), gate_norm = floats(d);
    for (int64_t i = 0; i < d / 2; ++i) frequencies.push_back(static_cast<float>(std::pow(1e4, -2.0 * static_cast<double>(i) / static_cast<double>(d))));
    pool.assign(2 * kKvHeads * 3 * d, 0);
    for (const int64_t size : {64 * d, 64 * d, 64 / kBlock * 2 * d, 64 / kGateBlock * d}) memory.emplace_back(kPages * kKvHeads * size, uint16_t{0});
    q.assign(2 * kGroup * kKvHeads * d, 0);
    dbias.Upload(bias), dweights.Upload(weights), dq.Upload(q);
    dq_norm.Upload(q_norm), dk_norm.Upload(k_norm), dgate_norm.Upload(gate_norm), dfrequencies.Upload(frequencies), dpool.Upload(pool);
    for (int i = 0; i < 4; ++i) dmemory[i].Upload(memory[i]);
    host_gate = {.key_weights = weights.data(), .key_norm = gate_norm.data(), .frequencies = frequencies.data(), .type = type, .width = d};
    device_gate = {.key_weights = dweights.get(), .key_norm = dgate_norm.get(), .frequencies = dfrequencies.get(), .type = type, .width = d};
    table = {4, 1, 5, 2, 0, 3};
  }

  KvView Rows(uint16_t* base) const {
    return {reinterpret_cast<std::byte*>(base), type, kKvHeads, d, kKvHeads * 64 * d, 64 * d, d, BlockLayout::kRows};
  }
  DescriptorView Descriptors(uint16_t* base, int64_t blocks, int64_t row) const {
    return {reinterpret_cast<std::byte*>(base), type, d, kKvHeads * blocks * row, blocks * row, row};
  }
  AppendConfig Config(bool device) const {
    return {.q_norm = device ? dq_norm.get() : q_norm.data(), .k_norm = device ? dk_norm.get() : k_norm.data(),
            .frequencies = device ? dfrequencies.get() : frequencies.data(), .min_max_block_tokens = kBlock, .gate_block_tokens = kGateBlock};
  }
  AppendBatch Step(bool device, int64_t batch) {
    const auto at = [&](int i) { return device ? dmemory[i].get() : memory[i].data(); };
    AppendBatch step{.qkv = device ? dqkv.get() : qkv.data(), .bias = device ? dbias.get() : bias.data(), .q = device ? dq.get() : q.data(),
                     .type = type, .k = Rows(at(0)), .v = Rows(at(1)), .min_max = Descriptors(at(2), 64 / kBlock, 2 * d),
                     .gate_keys = Descriptors(at(3), 64 / kGateBlock, d), .gate = device ? &device_gate : &host_gate,
                     .pool = device ? dpool.get() : pool.data(), .page_table = device ? dtable.get() : table.data(),
                     .page_table_stride = kStride, .lengths = device ? dlengths.get() : lengths.data(), .batch = batch};
    if (!copy_from.empty()) step.copy_from = device ? dcopy_from.get() : copy_from.data();
    return step;
  }
  // One more token of `batch` sequences; false: through the C ABI.
  void Append(Rng& rng, int64_t batch, std::vector<int32_t> lens, bool through_cpp) {
    qkv.resize(2 * heads * d);
    for (uint16_t& e : qkv) e = Narrow(type, rng.Normal());
    lengths = std::move(lens);
    dqkv.Upload(qkv), dlengths.Upload(lengths), dtable.Upload(table), dcopy_from.Upload(copy_from);
    if (through_cpp) {
      const absl::Status status = attention::Append(plan, Step(true, batch), Config(true), {});
      ASSERT_TRUE(status.ok()) << status;
    } else {
      ThroughC(static_cast<int>(batch));
    }
    ReferenceAppend(problem, Step(false, batch), Config(false));
  }
  void ThroughC(int batch) {
    const LecternProblem p{.q_heads = kGroup * kKvHeads, .kv_heads = kKvHeads, .head_dim = static_cast<int>(d), .max_batch = 2, .max_keys = kStride * 64, .kv_type = type == DType::kF16 ? 1 : 0};
    LecternPlan* c = lectern_plan(&p, nullptr, 0);
    ASSERT_NE(c, nullptr);
    const AppendBatch s = Step(true, batch);
    const LecternStep step{.k = s.k.base, .v = s.v.base, .k_page_stride = s.k.page_stride, .k_head_stride = s.k.head_stride,
                           .v_page_stride = s.v.page_stride, .v_head_stride = s.v.head_stride, .page_table = s.page_table,
                           .page_table_stride = kStride, .lengths = s.lengths, .batch = batch};
    const LecternAppend a{.qkv = s.qkv, .bias = s.bias, .q = s.q, .q_norm = dq_norm.get(), .k_norm = dk_norm.get(),
                          .frequencies = dfrequencies.get(), .norm_eps = 1e-6f, .rope_scale = 1, .min_max = s.min_max.base,
                          .min_max_page_stride = s.min_max.page_stride, .min_max_head_stride = s.min_max.head_stride,
                          .min_max_block_stride = s.min_max.block_stride, .min_max_block_tokens = kBlock, .gate_block_tokens = kGateBlock,
                          .gate_keys = s.gate_keys.base, .gate_page_stride = s.gate_keys.page_stride,
                          .gate_head_stride = s.gate_keys.head_stride, .gate_block_stride = s.gate_keys.block_stride,
                          .gate_weights = dweights.get(), .gate_norm = dgate_norm.get(), .gate_frequencies = dfrequencies.get(),
                          .gate_norm_eps = 1e-6f, .gate_rope_scale = 1, .pool = s.pool, .copy_from = s.copy_from};
    const int error = lectern_append(c, &step, &a, nullptr);
    ASSERT_EQ(error, 0) << lectern_error(error);
    lectern_plan_free(c);
  }
  std::vector<std::vector<uint16_t>> Page(int32_t page) const {
    std::vector<std::vector<uint16_t>> bytes;
    for (const auto& m : dmemory) {
      const std::vector<uint16_t> all = m.Download();
      const int64_t each = static_cast<int64_t>(all.size()) / kPages;
      bytes.emplace_back(all.begin() + page * each, all.begin() + (page + 1) * each);
    }
    return bytes;
  }
  void ExpectNearReference() const {
    ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess);
    const char* names[] = {"k", "v", "pairs", "gate keys"};
    const double tolerance[] = {0.012, 0, 0.012, 0.02};
    for (int m = 0; m < 4; ++m) {
      const std::vector<uint16_t> got = dmemory[m].Download();
      for (size_t i = 0; i < got.size(); ++i) {
        const float x = Widen(type, got[i]), want = Widen(type, memory[m][i]);
        ASSERT_NEAR(x, want, tolerance[m] * (1 + std::abs(want)) / (type == DType::kF16 ? 8 : 1)) << names[m] << " " << i;
      }
    }
  }
};

TEST(CudaAppend, AForkCopiesTheSharedPageAndNeverWritesIntoIt) {
  for (const int64_t d : {64, 128, -128}) {  // the last in fp16
    for (const int32_t shared : {1, 63, 64, 65, 102}) {
      SCOPED_TRACE(::testing::Message() << "d " << d << " shared " << shared);
      Appending a(std::abs(d), d < 0 ? DType::kF16 : DType::kBF16);
      Rng rng(5);
      for (int32_t t = 1; t <= shared; ++t) a.Append(rng, 1, {t, 0}, true);
      if (::testing::Test::HasFatalFailure()) return;
      // Sequence 1 goes on from what sequence 0 has; both get a page of their own where the last one is not full.
      const int32_t last = (shared - 1) / 64, page = a.table[last];
      const bool partial = shared % 64 != 0;
      for (int32_t i = 0; i < last + (partial ? 0 : 1); ++i) a.table[kStride + i] = a.table[i];
      if (partial) a.table[last] = 6, a.copy_from = {page, page};
      const int64_t own = kKvHeads * 3 * a.d;
      std::copy_n(a.pool.begin(), own, a.pool.begin() + own);
      std::vector<float> pools = a.dpool.Download();
      std::copy_n(pools.begin(), own, pools.begin() + own);
      a.dpool.Upload(pools);
      const auto before = a.Page(page), first = a.Page(a.table[0] == 6 ? page : a.table[0]);
      for (int32_t t = shared + 1; t <= shared + 70; ++t) {
        a.Append(rng, 2, {t, t}, true);
        if (::testing::Test::HasFatalFailure()) return;
        if (partial) a.copy_from = {-1, -1};
      }
      a.ExpectNearReference();
      EXPECT_EQ(a.Page(page), before);
      if (last > 0) {
        EXPECT_EQ(a.Page(a.table[0]), first);
      }
    }
  }
}

TEST(CudaAppend, TheCAbiDoesTheSame) {
  for (const int64_t d : {64, 128, -64}) {  // the last in fp16
    const DType type = d < 0 ? DType::kF16 : DType::kBF16;
    Appending a(std::abs(d), type), b(std::abs(d), type);
    Rng rng(6), same(6);
    for (int32_t t = 1; t <= 70; ++t) {
      a.Append(rng, 2, {t, std::max(1, t - 3)}, true);
      b.Append(same, 2, {t, std::max(1, t - 3)}, false);
      if (::testing::Test::HasFatalFailure()) return;
    }
    a.ExpectNearReference();
    for (int m = 0; m < 4; ++m) EXPECT_EQ(a.dmemory[m].Download(), b.dmemory[m].Download()) << m;
    EXPECT_EQ(a.dq.Download(), b.dq.Download());
    EXPECT_EQ(a.dpool.Download(), b.dpool.Download());
  }
}

}  // namespace
}  // namespace lectern::attention
