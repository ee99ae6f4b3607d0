// tests/attention/cuda/append_fixture.h: several sequences over one pool of pages, with what Append writes, on the device and on the host.
#pragma once

#include "attention/cuda/c_api.h"
#include "tests/attention/cuda/fixture.h"

namespace lectern::attention {

struct AppendForm {
  int64_t d = 128, group = 4, batch = 2, pages_a_row = 3;
  DType type = DType::kBF16;
  int64_t pairs = 16, gate = 32;  // block tokens; 0: none
  bool bias = true, norm = true, rotate = true, gate_norm = true, gate_rotate = true, pos_compat = false, gate_q = false;
};

// The last page belongs to nobody. All memory is NaN until something is written.
struct Appending {
  static constexpr int64_t kKvHeads = 2;
  AppendForm form;
  DType type;
  int64_t d, batch, stride, pages, heads;
  Problem problem;
  AttentionPlan plan;
  std::vector<uint16_t> bias, weights, query_weights, q, gate_q, qkv;
  std::vector<std::vector<uint16_t>> memory;  // k, v, pairs, gate keys
  std::vector<float> q_norm, k_norm, gate_norm, frequencies, pool, committed;
  std::vector<int32_t> table, uploaded_table, lengths, copy_from, commit;
  DeviceArray<uint16_t> dbias, dweights, dquery_weights, dq, dgate_q, dqkv, dmemory[4];
  DeviceArray<float> dq_norm, dk_norm, dgate_norm, dfrequencies, dpool, dcommitted;
  DeviceArray<int32_t> dtable, dlengths, dcopy_from, dcommit;
  Gate host_gate, device_gate;

  explicit Appending(const AppendForm& f)
      : form(f), type(f.type), d(f.d), batch(f.batch), stride(f.pages_a_row), pages(batch * stride + 1), heads((f.group + 2) * kKvHeads) {
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
    problem = {.q_heads = f.group * kKvHeads, .k_heads = kKvHeads, .v_heads = kKvHeads, .key_width = d, .value_width = d,
               .kv_type = type, .layout = BlockLayout::kRows, .max_keys = stride * 64, .max_batch = batch};
    plan = *Plan(problem, {}, {.kind = DeviceKind::kCuda});
    bias = bits(heads * d, 0.5), weights = bits(kKvHeads * 3 * d * d, 0.05), query_weights = bits(kKvHeads * f.group * d * d, 0.05);
    q_norm = floats(d), k_norm = floats(d), gate_norm = floats(d);
    for (int64_t i = 0; i < d / 2; ++i) frequencies.push_back(static_cast<float>(std::pow(1e4, -2.0 * static_cast<double>(i) / static_cast<double>(d))));
    pool.assign(batch * kKvHeads * 3 * d, NAN);
    committed = pool;
    commit.resize(batch);
    for (int64_t b = 0; b < batch; ++b) commit[b] = b % 2 == 0;
    for (const int64_t size : {64 * d, 64 * d, PairsAPage() * 2 * d, KeysAPage() * d}) memory.emplace_back(pages * kKvHeads * size, CudaCase::kNan);
    q.assign(batch * f.group * kKvHeads * d, CudaCase::kNan);
    gate_q = q;
    table.resize(batch * stride);
    std::iota(table.begin(), table.end(), 0);
    for (size_t i = table.size() - 1; i > 0; --i) std::swap(table[i], table[rng.Below(static_cast<int64_t>(i) + 1)]);
    dbias.Upload(bias), dweights.Upload(weights), dquery_weights.Upload(query_weights), dq.Upload(q), dgate_q.Upload(gate_q);
    dq_norm.Upload(q_norm), dk_norm.Upload(k_norm), dgate_norm.Upload(gate_norm), dfrequencies.Upload(frequencies), dcommit.Upload(commit);
    UploadState();
    const auto make = [&](const auto& keys, const auto& queries, const float* norm, const float* turn) {
      return Gate{.query_weights = queries, .key_weights = keys, .query_norm = f.gate_norm ? norm : nullptr, .key_norm = f.gate_norm ? norm : nullptr,
                  .frequencies = f.gate_rotate ? turn : nullptr, .type = type, .width = d};
    };
    host_gate = make(weights.data(), query_weights.data(), gate_norm.data(), frequencies.data());
    device_gate = make(dweights.get(), dquery_weights.get(), dgate_norm.get(), dfrequencies.get());
  }
  Appending(const Appending&) = delete;

  int64_t PairsAPage() const { return form.pairs == 0 ? 0 : BlocksPerPage(form.pairs); }
  int64_t KeysAPage() const { return form.gate == 0 ? 0 : BlocksPerPage(form.gate); }
  void UploadState() {
    for (int i = 0; i < 4; ++i) dmemory[i].Upload(memory[i]);
    dpool.Upload(pool), dcommitted.Upload(committed), dtable.Upload(table);
    uploaded_table = table;
  }
  KvView Rows(uint16_t* base) const {
    return {reinterpret_cast<std::byte*>(base), type, kKvHeads, d, kKvHeads * 64 * d, 64 * d, d, BlockLayout::kRows, pages};
  }
  DescriptorView Descriptors(uint16_t* base, int64_t blocks, int64_t row) const {
    if (blocks == 0) return {};
    return {reinterpret_cast<std::byte*>(base), type, d, kKvHeads * blocks * row, blocks * row, row, pages};
  }
  AppendConfig Config(bool device) const {
    AppendConfig config{.min_max_block_tokens = form.pairs, .gate_block_tokens = form.gate, .gate_pos_compat = form.pos_compat};
    if (form.norm) config.q_norm = device ? dq_norm.get() : q_norm.data(), config.k_norm = device ? dk_norm.get() : k_norm.data();
    if (form.rotate) config.frequencies = device ? dfrequencies.get() : frequencies.data();
    return config;
  }
  AppendBatch Step(bool device, int64_t sequences) {
    const auto at = [&](int i) { return device ? dmemory[i].get() : memory[i].data(); };
    const auto pick = [&](auto& on, auto& host) { return device ? on.get() : host.data(); };
    AppendBatch step{.qkv = pick(dqkv, qkv), .q = pick(dq, q), .type = type, .k = Rows(at(0)), .v = Rows(at(1)),
                     .min_max = Descriptors(at(2), PairsAPage(), 2 * d), .gate_keys = Descriptors(at(3), KeysAPage(), d),
                     .page_table = pick(dtable, table), .page_table_stride = stride, .lengths = pick(dlengths, lengths), .batch = sequences};
    if (form.bias) step.bias = pick(dbias, bias);
    if (form.gate_q) step.gate_q = pick(dgate_q, gate_q);
    if (form.gate > 0) {
      step.gate = device ? &device_gate : &host_gate;
      step.pool = pick(dpool, pool), step.committed_pool = pick(dcommitted, committed), step.commit = pick(dcommit, commit);
    }
    if (!copy_from.empty()) step.copy_from = pick(dcopy_from, copy_from);
    return step;
  }
  void Draw(Rng& rng) {
    qkv.resize(batch * heads * d);
    for (uint16_t& e : qkv) e = Narrow(type, rng.Normal());
  }
  void UploadStep() {
    dqkv.Upload(qkv), dlengths.Upload(lengths);
    if (table != uploaded_table) dtable.Upload(table), uploaded_table = table;
    if (!copy_from.empty()) dcopy_from.Upload(copy_from);
  }
  void OnDevice(int64_t sequences, cudaStream_t stream = nullptr) {
    const absl::Status status = attention::Append(plan, Step(true, sequences), Config(true), {.stream = stream});
    ASSERT_TRUE(status.ok()) << status;
  }
  // One more token of `sequences` sequences, on both; false: through the C ABI.
  void Append(Rng& rng, int64_t sequences, std::vector<int32_t> lens, bool through_cpp = true) {
    Draw(rng);
    lengths = std::move(lens);
    UploadStep();
    if (through_cpp) {
      OnDevice(sequences);
    } else {
      ThroughC(static_cast<int>(sequences));
    }
    ReferenceAppend(problem, Step(false, sequences), Config(false));
  }
  void ThroughC(int sequences) {
    const LecternProblem p{.q_heads = static_cast<int>(problem.q_heads), .kv_heads = kKvHeads, .head_dim = static_cast<int>(d),
                           .max_batch = static_cast<int>(batch), .max_keys = stride * 64, .kv_type = type == DType::kF16 ? 1 : 0};
    LecternPlan* c = lectern_plan(&p, nullptr, 0);
    ASSERT_NE(c, nullptr);
    const AppendBatch s = Step(true, sequences);
    const AppendConfig config = Config(true);
    const LecternStep step{.k = s.k.base, .v = s.v.base, .k_page_stride = s.k.page_stride, .k_head_stride = s.k.head_stride,
                           .v_page_stride = s.v.page_stride, .v_head_stride = s.v.head_stride, .page_table = s.page_table,
                           .page_table_stride = stride, .lengths = s.lengths, .batch = sequences};
    const LecternAppend a{.qkv = s.qkv, .bias = s.bias, .q = s.q, .gate_q = s.gate_q, .q_norm = config.q_norm, .k_norm = config.k_norm,
                          .frequencies = config.frequencies, .norm_eps = 1e-6f, .rope_scale = 1, .min_max = s.min_max.base,
                          .min_max_page_stride = s.min_max.page_stride, .min_max_head_stride = s.min_max.head_stride,
                          .min_max_block_stride = s.min_max.block_stride, .min_max_block_tokens = static_cast<int>(form.pairs),
                          .gate_block_tokens = static_cast<int>(form.gate), .gate_keys = s.gate_keys.base, .gate_page_stride = s.gate_keys.page_stride,
                          .gate_head_stride = s.gate_keys.head_stride, .gate_block_stride = s.gate_keys.block_stride,
                          .gate_weights = dweights.get(), .gate_norm = device_gate.key_norm, .gate_frequencies = device_gate.frequencies,
                          .gate_norm_eps = 1e-6f, .gate_rope_scale = 1, .gate_pos_compat = form.pos_compat, .pool = s.pool,
                          .committed_pool = s.committed_pool, .commit = s.commit, .copy_from = s.copy_from};
    const int error = lectern_append(c, &step, &a, nullptr);
    ASSERT_EQ(error, 0) << lectern_error(error);
    lectern_plan_free(c);
  }
  std::vector<std::vector<uint16_t>> Page(int32_t page) const {
    std::vector<std::vector<uint16_t>> bytes;
    for (const auto& m : dmemory) {
      const std::vector<uint16_t> all = m.Download();
      const int64_t each = static_cast<int64_t>(all.size()) / pages;
      bytes.emplace_back(all.begin() + page * each, all.begin() + (page + 1) * each);
    }
    return bytes;
  }
  // What was never written is NaN on both sides.
  void ExpectNearReference() const {
    ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess);
    const double finer = type == DType::kF16 ? 8 : 1;
    const auto near = [&](const char* what, const std::vector<uint16_t>& got, const std::vector<uint16_t>& want, double tolerance) {
      ASSERT_EQ(got.size(), want.size());
      for (size_t i = 0; i < got.size(); ++i) {
        const float x = Widen(type, got[i]), y = Widen(type, want[i]);
        if (std::isnan(x) && std::isnan(y)) continue;
        ASSERT_NEAR(x, y, tolerance / finer * (1 + std::abs(y))) << what << " " << i;
      }
    };
    near("k", dmemory[0].Download(), memory[0], 0.012);  // one rounding on either side of a tie
    near("v", dmemory[1].Download(), memory[1], 0);
    near("pairs", dmemory[2].Download(), memory[2], 0.012);
    near("gate keys", dmemory[3].Download(), memory[3], 0.02);
    near("q", dq.Download(), q, 0.012);
    near("gate q", dgate_q.Download(), gate_q, 0.008);
  }
  // The pairs are, to the bit, the minimum and maximum of the keys that the device itself stored.
  void ExpectPairsOfTheStoredKeys() const {
    if (form.pairs == 0) return;
    const std::vector<uint16_t> keys = dmemory[0].Download(), pairs = dmemory[2].Download();
    const DescriptorView view = Descriptors(nullptr, PairsAPage(), 2 * d);
    for (int64_t b = 0; b < batch; ++b) {
      for (int64_t h = 0; h < kKvHeads; ++h) {
        for (int64_t i = 0; i < NumBlocks(lengths[b], form.pairs); ++i) {
          const int64_t at = DescriptorOffset(view, table.data() + b * stride, h, i, form.pairs);
          for (int64_t c = 0; c < d; ++c) {
            float low = INFINITY, high = -INFINITY;
            for (int64_t t = i * form.pairs; t < std::min<int64_t>(lengths[b], (i + 1) * form.pairs); ++t) {
              const float x = Widen(type, keys[KeyOffset(b, h, t) + c]);
              low = std::min(low, x), high = std::max(high, x);
            }
            ASSERT_EQ(Widen(type, pairs[at + c]), low) << "sequence " << b << " block " << i;
            ASSERT_EQ(Widen(type, pairs[at + d + c]), high) << "sequence " << b << " block " << i;
          }
        }
      }
    }
  }
  int64_t KeyOffset(int64_t b, int64_t h, int64_t t) const { return ((table[b * stride + t / 64] * kKvHeads + h) * 64 + t % 64) * d; }
};

}  // namespace lectern::attention
