// Append on every CPU target: what is stored, and descriptors that equal those of the stored keys.
#include <gmock/gmock.h>

#include <functional>

#include "tests/attention/step_fixture.h"

namespace lectern::attention {
namespace {

using ::testing::HasSubstr;

// One cache with everything Append writes to, for a batch of sequences.
struct AppendFixture {
  Problem problem;
  AppendConfig config;
  int64_t batch, stride = 4, pages;
  std::vector<float> bias, q_norm, k_norm, frequencies, wk, gate_norm, q, gate_q, pool, committed;
  std::vector<std::byte> k, v, pairs, gate_keys;
  std::vector<int32_t> table, lengths, commit, copy_from;
  Gate gate;
  AppendBatch step;

  AppendFixture(const Problem& p, const AppendConfig& c, int64_t batch_in, bool with_bias, bool with_norm, bool with_rope, uint64_t seed)
      : problem(p), config(c), batch(batch_in) {
    problem.max_batch = batch;
    problem.max_keys = stride * kPageSlots;
    pages = batch * stride + 1;
    Rng rng(seed);
    const int64_t d = p.key_width, heads = p.q_heads + 2 * p.k_heads;
    const auto fill = [&](std::vector<float>& to, int64_t n, double mean, double scale) {
      for (int64_t i = 0; i < n; ++i) to.push_back(static_cast<float>(mean + scale * rng.Normal()));
    };
    fill(bias, heads * d, 0, 0.5);
    fill(q_norm, d, 1, 0.1);
    fill(k_norm, d, 1, 0.1);
    fill(wk, p.k_heads * 3 * d * d, 0, 0.1);
    fill(gate_norm, d, 1, 0.1);
    for (int64_t i = 0; i < d / 2; ++i) frequencies.push_back(static_cast<float>(std::pow(1e4, -2.0 * i / d)));
    if (with_norm) config.q_norm = q_norm.data(), config.k_norm = k_norm.data();
    if (with_rope) config.frequencies = frequencies.data();
    gate = {.key_weights = wk.data(), .key_norm = gate_norm.data(), .frequencies = frequencies.data(), .width = d};
    table.resize(batch * stride);
    std::iota(table.begin(), table.end(), 0);
    std::reverse(table.begin(), table.end());
    const int64_t element = p.kv_type == DType::kF32 ? 4 : 2;
    k.assign(pages * p.k_heads * d * kPageSlots * element, std::byte{0xff});
    v = k;
    q.assign(batch * p.q_heads * d, NAN);
    gate_q = q;
    pool.assign(batch * p.k_heads * 3 * d, 0.0f);  // finite: the second sequence lacks its first token
    committed = pool;
    lengths.assign(batch, 0);
    commit.assign(batch, 0);
    const KvView view{.base = k.data(), .type = p.kv_type, .heads = p.k_heads, .width = d,
                      .page_stride = p.k_heads * d * kPageSlots, .head_stride = d * kPageSlots};
    step = {.bias = with_bias ? bias.data() : nullptr, .q = q.data(), .gate_q = gate_q.data(), .k = view, .v = view,
            .gate = &gate, .pool = pool.data(), .committed_pool = committed.data(), .commit = commit.data(),
            .page_table = table.data(), .page_table_stride = stride, .lengths = lengths.data(), .batch = batch};
    step.v.base = v.data();
    const auto descriptors = [&](std::vector<std::byte>& to, int64_t block_tokens, int64_t size) {
      const int64_t per_page = BlocksPerPage(block_tokens);
      to.assign(pages * p.k_heads * per_page * size * element, std::byte{0xff});
      return DescriptorView{.base = to.data(), .type = p.kv_type, .width = d, .page_stride = p.k_heads * per_page * size,
                            .head_stride = per_page * size, .block_stride = size};
    };
    if (config.min_max_block_tokens > 0) step.min_max = descriptors(pairs, config.min_max_block_tokens, 2 * d);
    if (config.gate_block_tokens > 0) step.gate_keys = descriptors(gate_keys, config.gate_block_tokens, d);
  }
  AppendFixture(const AppendFixture&) = delete;

  std::vector<float> Projection(Rng& rng) const {
    std::vector<float> qkv(batch * (problem.q_heads + 2 * problem.k_heads) * problem.key_width);
    for (float& x : qkv) x = static_cast<float>(rng.Normal());
    return qkv;
  }
  std::span<const int32_t> Pages(int64_t b) const { return std::span(table).subspan(b * stride, stride); }
};

float Element(const DescriptorView& view, int64_t at) {
  return view.type == DType::kF32 ? reinterpret_cast<const float*>(view.base)[at] : ToFloat(reinterpret_cast<const bf16*>(view.base)[at]);
}

void ExpectClose(const std::vector<float>& got, const std::vector<float>& want, double tolerance, const char* what) {
  ASSERT_EQ(got.size(), want.size());
  for (size_t i = 0; i < got.size(); ++i) {
    if (std::isnan(want[i]) && std::isnan(got[i])) continue;
    ASSERT_NEAR(got[i], want[i], tolerance * (1 + std::abs(want[i]))) << what << " " << i;
  }
}

std::vector<float> Floats(const std::vector<std::byte>& bytes, DType type) {
  std::vector<float> x;
  for (size_t i = 0; i < bytes.size(); i += type == DType::kF32 ? 4 : 2) {
    float f;
    bf16 h;
    if (type == DType::kF32) {
      std::memcpy(&f, bytes.data() + i, 4);
    } else {
      std::memcpy(&h, bytes.data() + i, 2);
      f = ToFloat(h);
    }
    x.push_back(f);
  }
  return x;
}

TEST(AppendCpu, EveryPatternStoresWhatTheFormulasSay) {
  const int64_t blocks[] = {0, 16, 64, 128, 4}, widths[] = {64, 128, 20}, groups[] = {1, 7, 4}, starts[] = {0, 5, 64, 70};
  for (const std::vector<int>& row : PairwiseCover({2, 5, 5, 3, 3, 4, 2, 2, 2}, 5)) {
    const DType type = row[0] == 0 ? DType::kF32 : DType::kBF16;
    const int64_t d = widths[row[3]], group = groups[row[4]], kv_heads = 2;
    const Problem problem{.q_heads = group * kv_heads, .k_heads = kv_heads, .v_heads = kv_heads, .key_width = d, .value_width = d,
                          .kv_type = type};
    const AppendConfig config{.min_max_block_tokens = blocks[row[1]], .gate_block_tokens = blocks[row[2]], .gate_pos_compat = row[7] == 1};
    if (d % 16 != 0) continue;  // the plan wants it; odd widths are tried on the kernels below
    for (const CpuKernels& kernels : AllCpuKernels()) {
      SCOPED_TRACE(internal::Concat(kernels.name, " ", DTypeName(type), " pairs ", blocks[row[1]], " gate ", blocks[row[2]], " width ", d,
                                    " group ", group, " start ", starts[row[5]], " bias ", row[6], " norm ", row[7], " rope ", row[8]));
      AppendFixture want(problem, config, 2, row[6] == 1, row[7] == 1, row[8] == 1, 3);
      AppendFixture got(problem, config, 2, row[6] == 1, row[7] == 1, row[8] == 1, 3);
      const AttentionPlan plan = *Plan(got.problem, {}, {.target = kernels.target, .num_threads = 2});
      ThreadPool pool(2);
      std::vector<std::byte> workspace(plan.workspace_bytes, std::byte{0xff});
      Rng rng(9);
      const int64_t start = starts[row[5]], end = std::min<int64_t>(start + 2 * std::max<int64_t>(16, blocks[row[2]]) + 3, 256);
      for (int64_t t = 0; t < end; ++t) {
        const std::vector<float> qkv = want.Projection(rng);
        for (AppendFixture* f : {&want, &got}) {
          f->step.qkv = qkv.data();
          f->lengths = {static_cast<int32_t>(t + 1), static_cast<int32_t>(std::min<int64_t>(t + 2, end))};
          f->step.lengths = f->lengths.data();
          f->commit[1] = t % 5 == 0;
        }
        ReferenceAppend(want.problem, want.step, want.config);
        if (t < start) {  // a prompt that came some other way: the same cache and state
          ReferenceAppend(got.problem, got.step, got.config);
          continue;
        }
        const absl::Status status = Append(plan, got.step, got.config, {.pool = &pool, .workspace = workspace});
        ASSERT_TRUE(status.ok()) << status;
        ExpectClose(got.q, want.q, type == DType::kF32 ? 2e-5 : 1e-2, "q");
        ExpectClose(got.gate_q, want.gate_q, type == DType::kF32 ? 2e-5 : 1e-2, "gate q");
      }
      const double tolerance = type == DType::kF32 ? 2e-5 : 1.6e-2;  // one step of bf16, where a rounding turned
      ExpectClose(Floats(got.k, type), Floats(want.k, type), tolerance, "k");
      ExpectClose(Floats(got.v, type), Floats(want.v, type), tolerance, "v");
      if (config.gate_block_tokens > 0) {
        ExpectClose(Floats(got.gate_keys, type), Floats(want.gate_keys, type), 4 * tolerance, "gate keys");
        ExpectClose(got.pool, want.pool, 4 * tolerance, "pool");
        ExpectClose(got.committed, want.committed, 4 * tolerance, "committed");
      }
      // Pairs are those of the stored keys, to the bit (the first sequence; the other one gets its last token twice).
      const int64_t size = config.min_max_block_tokens;
      for (int64_t head = 0; size > 0 && start == 0 && head < kv_heads; ++head) {
        for (int64_t i = 0; i * size < end; ++i) {
          const int64_t at = DescriptorOffset(got.step.min_max, got.Pages(0).data(), head, i, size);
          for (int64_t c = 0; c < d; ++c) {
            float low = INFINITY, high = -INFINITY;
            for (int64_t t = i * size; t < std::min(end, (i + 1) * size); ++t) {
              const float x = KeyAt(got.step.k, got.Pages(0), t, head, c);
              low = std::min(low, x);
              high = std::max(high, x);
            }
            ASSERT_EQ(Element(got.step.min_max, at + c), low);
            ASSERT_EQ(Element(got.step.min_max, at + d + c), high);
          }
        }
      }
    }
  }
}

TEST(AppendCpu, BitsDoNotDependOnThreads) {
  const Problem problem{.q_heads = 32, .k_heads = 8, .v_heads = 8, .key_width = 128, .value_width = 128, .kv_type = DType::kBF16};
  for (const CpuKernels& kernels : AllCpuKernels()) {
    std::vector<std::vector<std::byte>> k, gate_keys;
    std::vector<std::vector<float>> q;
    for (const int threads : {1, 2, 5}) {
      AppendFixture f(problem, {.min_max_block_tokens = 16, .gate_block_tokens = 16}, 4, true, true, true, 4);
      const AttentionPlan plan = *Plan(f.problem, {}, {.target = kernels.target, .num_threads = threads});
      ThreadPool pool(threads);
      std::vector<std::byte> workspace(plan.workspace_bytes);
      Rng rng(10);
      for (int32_t t = 1; t <= 33; ++t) {
        const std::vector<float> qkv = f.Projection(rng);
        f.step.qkv = qkv.data();
        std::fill(f.lengths.begin(), f.lengths.end(), t);
        ASSERT_TRUE(Append(plan, f.step, f.config, {.pool = &pool, .workspace = workspace}).ok());
      }
      k.push_back(f.k);
      gate_keys.push_back(f.gate_keys);
      q.push_back(f.q);
    }
    for (size_t i = 1; i < k.size(); ++i) {
      EXPECT_EQ(k[i], k[0]) << kernels.name;
      EXPECT_EQ(gate_keys[i], gate_keys[0]) << kernels.name;
      EXPECT_EQ(q[i], q[0]) << kernels.name;
    }
  }
}

// Sequence 0 gets `shared` tokens; sequence 1 then goes on from the same pages. Equal to two sequences that shared nothing.
void Fork(AppendFixture& f, int64_t shared, bool in_own_pages, const std::function<void()>& append) {
  Rng rng(21);
  const auto token = [&](int32_t first, int32_t second) {
    const std::vector<float> qkv = f.Projection(rng);
    f.step.qkv = qkv.data();
    f.lengths = {first, second};
    append();
  };
  if (in_own_pages) {
    Rng same(21);
    for (int64_t t = 1; t <= shared; ++t) {
      std::vector<float> qkv = f.Projection(same);
      std::copy_n(qkv.begin(), qkv.size() / 2, qkv.begin() + static_cast<int64_t>(qkv.size()) / 2);
      f.step.qkv = qkv.data();
      f.lengths = {static_cast<int32_t>(t), static_cast<int32_t>(t)};
      append();
    }
    rng = same;
  } else {
    f.step.batch = 1;
    for (int64_t t = 1; t <= shared; ++t) token(static_cast<int32_t>(t), 0);
    f.step.batch = 2;
    const int64_t last = (shared - 1) / kPageSlots, own = f.problem.k_heads * 3 * f.problem.key_width;
    for (int64_t i = 0; i < last + (shared % kPageSlots == 0); ++i) f.table[f.stride + i] = f.table[i];
    std::copy_n(f.pool.begin(), own, f.pool.begin() + own);
    if (shared % kPageSlots != 0) {
      f.copy_from.assign(2, f.table[last]);
      f.table[last] = static_cast<int32_t>(f.pages) - 1;
    }
  }
  for (int64_t t = shared + 1; t <= shared + 70; ++t) {
    f.step.copy_from = f.copy_from.empty() ? nullptr : f.copy_from.data();
    token(static_cast<int32_t>(t), static_cast<int32_t>(t));
    if (!f.copy_from.empty()) f.copy_from.assign(2, -1);
  }
}

TEST(AppendCpu, AForkCopiesTheSharedPageAndNeverWritesIntoIt) {
  const Problem problem{.q_heads = 4, .k_heads = 2, .v_heads = 2, .key_width = 64, .value_width = 64, .kv_type = DType::kBF16};
  for (const int64_t shared : {1, 63, 64, 65, 102}) {
    for (const DType type : {DType::kBF16, DType::kF32}) {
      for (const CpuKernels& kernels : AllCpuKernels()) {
        for (const bool reference : {false, true}) {
          SCOPED_TRACE(internal::Concat(kernels.name, " ", DTypeName(type), " shared ", shared, " reference ", reference));
          Problem p = problem;
          p.kv_type = type;
          const AppendConfig config{.min_max_block_tokens = 16, .gate_block_tokens = 32};
          AppendFixture alone(p, config, 2, true, true, true, 3), forked(p, config, 2, true, true, true, 3);
          const AttentionPlan plan = *Plan(alone.problem, {}, {.target = kernels.target, .num_threads = 2});
          ThreadPool pool(2);
          std::vector<std::byte> workspace(plan.workspace_bytes);
          // Bytes of the page that is shared in part, as they were when sequence 1 came.
          const int64_t element = type == DType::kF32 ? 4 : 2, page_bytes = p.k_heads * 64 * kPageSlots * element;
          std::vector<std::vector<std::byte>> before;
          const auto shared_page = [&](const AppendFixture& f, int32_t page) {
            std::vector<std::vector<std::byte>> bytes;
            for (const auto* memory : {&f.k, &f.v, &f.pairs, &f.gate_keys}) {
              const int64_t each = static_cast<int64_t>(memory->size()) / f.pages;
              bytes.emplace_back(memory->begin() + page * each, memory->begin() + (page + 1) * each);
            }
            EXPECT_EQ(static_cast<int64_t>(bytes[0].size()), page_bytes);
            return bytes;
          };
          int32_t page = -1;
          const auto append = [&](AppendFixture& f) {
            if (!f.copy_from.empty() && f.copy_from[0] >= 0) {
              page = f.copy_from[0];
              before = shared_page(f, page);
            }
            if (reference) return ReferenceAppend(f.problem, f.step, f.config);
            const absl::Status status = Append(plan, f.step, f.config, {.pool = &pool, .workspace = workspace});
            ASSERT_TRUE(status.ok()) << status;
          };
          Fork(alone, shared, true, [&] { append(alone); });
          Fork(forked, shared, false, [&] { append(forked); });
          ASSERT_EQ(page >= 0, shared % kPageSlots != 0);
          if (page >= 0) {
            EXPECT_EQ(before, shared_page(forked, page));
          }
          for (int64_t b = 0; b < 2; ++b) {
            for (int64_t head = 0; head < p.k_heads; ++head) {
              for (int64_t t = 0; t < shared + 70; ++t) {
                for (int64_t c = 0; c < 64; ++c) {
                  ASSERT_EQ(KeyAt(forked.step.k, forked.Pages(b), t, head, c), KeyAt(alone.step.k, alone.Pages(b), t, head, c)) << b << " " << t;
                  ASSERT_EQ(ValueAt(forked.step.v, forked.Pages(b), t, head, c), ValueAt(alone.step.v, alone.Pages(b), t, head, c)) << b << " " << t;
                }
              }
              const auto equal = [&](const DescriptorView& x, const DescriptorView& y, int64_t size, int64_t blocks, int64_t width) {
                for (int64_t i = 0; i < blocks; ++i) {
                  for (int64_t c = 0; c < width; ++c) {
                    ASSERT_EQ(Element(x, DescriptorOffset(x, forked.Pages(b).data(), head, i, size) + c),
                              Element(y, DescriptorOffset(y, alone.Pages(b).data(), head, i, size) + c)) << b << " block " << i;
                  }
                }
              };
              equal(forked.step.min_max, alone.step.min_max, 16, NumBlocks(shared + 70, 16), 128);
              equal(forked.step.gate_keys, alone.step.gate_keys, 32, (shared + 70) / 32, 64);
            }
          }
        }
      }
    }
  }
}

TEST(RowKernels, WidthsThatFillNoVector) {
  Rng rng(12);
  for (const CpuKernels& kernels : AllCpuKernels()) {
    const RowKernels& rows = kernels.rows;
    for (int64_t width = 2; width <= 200; width += 2) {
      std::vector<float> x(width + 2), w(3 * width), out(width + 1, 7.0f);
      for (float& e : x) e = static_cast<float>(rng.Normal());
      for (float& e : w) e = static_cast<float>(rng.Normal());
      rows.project({.x = x.data(), .inputs = 3, .weights = w.data(), .bf16 = false, .width = width, .out = out.data()});
      for (int64_t i = 0; i < width; ++i) {
        ASSERT_NEAR(out[i], static_cast<double>(x[0]) * w[i] + static_cast<double>(x[1]) * w[width + i] +
                                static_cast<double>(x[2]) * w[2 * width + i], 2e-6) << kernels.name << " " << width;
      }
      ASSERT_EQ(out[width], 7.0f);
      rows.norm({.x = x.data(), .norm = w.data(), .eps = 1e-6f, .width = width, .out = out.data()});
      double squares = 0;
      for (int64_t i = 0; i < width; ++i) squares += static_cast<double>(x[i]) * x[i];
      for (int64_t i = 0; i < width; ++i) {
        ASSERT_NEAR(out[i], x[i] / std::sqrt(squares / static_cast<double>(width) + 1e-6) * w[i], 1e-5) << kernels.name;
      }
      rows.rotate({.x = x.data(), .cosines = w.data(), .sines = w.data() + width, .width = width, .out = out.data()});
      for (int64_t i = 0; i < width / 2; ++i) {
        ASSERT_NEAR(out[i], static_cast<double>(x[i]) * w[i] - static_cast<double>(x[width / 2 + i]) * w[width + i], 2e-6);
        ASSERT_NEAR(out[width / 2 + i], static_cast<double>(x[width / 2 + i]) * w[i] + static_cast<double>(x[i]) * w[width + i], 2e-6);
      }
      ASSERT_EQ(out[width], 7.0f);
    }
  }
}

TEST(AppendCpu, CallsThatMakeNoSenseAreRefused) {
  const Problem problem{.q_heads = 2, .k_heads = 1, .v_heads = 1, .key_width = 16, .value_width = 16, .kv_type = DType::kF32};
  AppendFixture f(problem, {.min_max_block_tokens = 16, .gate_block_tokens = 16}, 1, false, false, false, 5);
  ThreadPool pool(1);
  const AttentionPlan plan = *Plan(f.problem, {}, {});
  std::vector<std::byte> workspace(plan.workspace_bytes);
  std::vector<float> qkv(64);
  f.step.qkv = qkv.data();
  const auto message = [&](const AppendBatch& step, const AppendConfig& config) {
    return std::string(Append(plan, step, config, {.pool = &pool, .workspace = workspace}).message());
  };
  EXPECT_THAT(message(f.step, f.config), HasSubstr("at least 1, got 0"));
  f.lengths[0] = 1;
  EXPECT_EQ(message(f.step, f.config), "");
  f.lengths[0] = 257;
  EXPECT_THAT(message(f.step, f.config), HasSubstr("0..256"));
  f.lengths[0] = 1;
  AppendConfig odd = f.config;
  odd.min_max_block_tokens = 24;
  EXPECT_THAT(message(f.step, odd), HasSubstr("got 24"));
  AppendBatch no_pool = f.step;
  no_pool.pool = nullptr;
  EXPECT_THAT(message(no_pool, f.config), HasSubstr("a pool"));
  const std::vector<int32_t> copy_from = {-1};
  AppendBatch shared = f.step;
  shared.copy_from = copy_from.data();
  AppendConfig long_blocks = f.config;
  long_blocks.min_max_block_tokens = 128;
  EXPECT_EQ(message(shared, f.config), "");
  EXPECT_THAT(message(shared, long_blocks), HasSubstr("got 128"));
  AppendBatch half = f.step;
  half.type = DType::kBF16;
  EXPECT_THAT(message(half, f.config), HasSubstr("not BF16"));
}

}  // namespace
}  // namespace lectern::attention
