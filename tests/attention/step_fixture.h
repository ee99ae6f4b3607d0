// tests/attention/step_fixture.h: a decode step of several sequences over a paged cache with shuffled pages.
//
//   StepFixture f(problem, /*lengths=*/{4097, 1, 1000}, /*seed=*/7);
//   std::vector<float> out = f.Decode({.target = CpuTarget::kAvx2, .num_threads = 2}, {}, &list.ids);
//
// Shapes:  as attention/batch.h. Every byte of the cache that holds no key is a NaN.
// Threads: one.
// Errors:  a failed call is a failed expectation.
// Cost:    tests only.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <vector>

#include "attention/attention.h"
#include "attention/cpu/cpu_kernels.h"
#include "attention/select_reference.h"
#include "base/rng.h"
#include "tests/attention/pairwise_cover.h"

namespace lectern::attention {

// Lists of blocks for each (sequence, KV head) row.
struct Lists {
  std::vector<int32_t> ids, counts;
  BlockIds view;
  Lists(const std::vector<std::vector<int32_t>>& rows, int64_t capacity, int64_t block_tokens) {
    ids.assign(rows.size() * capacity, -1);
    for (size_t i = 0; i < rows.size(); ++i) {
      counts.push_back(static_cast<int32_t>(rows[i].size()));
      std::copy(rows[i].begin(), rows[i].end(), ids.begin() + i * capacity);
    }
    view = {.ids = ids.data(), .counts = counts.data(), .capacity = capacity, .block_tokens = block_tokens};
  }
};

struct StepFixture {
  Problem problem;
  std::vector<int32_t> lengths, table;
  std::vector<float> q, keys, values, lse;  // keys, values: all sequences, token by token
  std::vector<std::byte> k_pool, v_pool;
  DecodeBatch step;
  int64_t num_pages = 0;

  StepFixture(Problem p, std::vector<int32_t> lengths_in, uint64_t seed, uint64_t page_seed = 1) : lengths(std::move(lengths_in)) {
    const int64_t batch = static_cast<int64_t>(lengths.size());
    p.max_batch = batch;
    p.max_keys = std::max<int64_t>(1, *std::max_element(lengths.begin(), lengths.end()));
    problem = p;
    Rng rng(seed), page_rng(page_seed);
    const int64_t stride = NumBlocks(p.max_keys, kPageSlots);
    for (const int32_t length : lengths) num_pages += NumBlocks(length, kPageSlots);
    num_pages += 2;
    std::vector<int32_t> pages(num_pages);
    std::iota(pages.begin(), pages.end(), 0);
    for (int64_t i = num_pages - 1; i > 0; --i) std::swap(pages[i], pages[page_rng.Below(i + 1)]);
    table.assign(batch * stride, -1);  // a page id nobody may use
    const auto fill = [&](std::vector<float>& to, int64_t n) {
      to.resize(n);
      for (float& x : to) x = static_cast<float>(rng.Normal());
    };
    fill(q, batch * p.q_heads * p.key_width);
    step.k = View(k_pool, p.k_heads, p.key_width);
    step.v = View(v_pool, p.v_heads, p.value_width);
    int64_t page = 0;
    for (int64_t b = 0; b < batch; ++b) {
      const int64_t used = NumBlocks(lengths[b], kPageSlots);
      for (int64_t i = 0; i < used; ++i) table[b * stride + i] = pages[page++];
      fill(keys, lengths[b] * p.k_heads * p.key_width);
      fill(values, lengths[b] * p.v_heads * p.value_width);
      const std::span<const int32_t> row(table.data() + b * stride, used);
      StoreKeys(step.k, row, 0, keys.data(), lengths[b]);
      StoreValues(step.v, row, 0, values.data(), lengths[b]);
    }
    lse.assign(batch * p.q_heads, NAN);
    step.q = q.data();
    step.lse = lse.data();
    step.page_table = table.data();
    step.page_table_stride = stride;
    step.lengths = lengths.data();
    step.batch = batch;
  }

  int64_t rows() const { return step.batch * problem.k_heads; }
  std::span<const int32_t> Pages(int64_t b) const {
    return std::span(table).subspan(b * step.page_table_stride, NumBlocks(lengths[b], kPageSlots));
  }
  KvView View(std::vector<std::byte>& pool, int64_t heads, int64_t width) const {
    const int64_t element = problem.kv_type == DType::kF32 ? 4 : 2;
    pool.assign(num_pages * heads * width * kPageSlots * element, std::byte{0xff});
    return {.base = pool.data(), .type = problem.kv_type, .heads = heads, .width = width,
            .page_stride = heads * width * kPageSlots, .head_stride = width * kPageSlots};
  }
  // A random ascending list a row, each block in with `chance` in a thousand, the newest always.
  Lists RandomLists(int64_t block_tokens, int64_t chance, uint64_t seed) const {
    Rng rng(seed);
    std::vector<std::vector<int32_t>> lists;
    for (int64_t row = 0; row < rows(); ++row) {
      std::vector<int32_t> list;
      const int64_t all = NumBlocks(lengths[row / problem.k_heads], block_tokens);
      for (int64_t i = 0; i < all; ++i) {
        if (i == all - 1 || static_cast<int64_t>(rng.Below(1000)) < chance) list.push_back(static_cast<int32_t>(i));
      }
      lists.push_back(list);
    }
    return Lists(lists, std::max<int64_t>(1, NumBlocks(problem.max_keys, block_tokens)), block_tokens);
  }
  // Fills lse too. `blocks` null: dense.
  std::vector<float> Decode(const Device& device, const Variant& variant, const BlockIds* blocks) {
    std::vector<float> out(step.batch * problem.q_heads * problem.value_width, NAN);
    std::fill(lse.begin(), lse.end(), NAN);
    ThreadPool pool(device.num_threads);
    const auto plan = Plan(problem, variant, device);
    EXPECT_TRUE(plan.ok()) << plan.status();
    std::vector<std::byte> workspace(plan->workspace_bytes, std::byte{0xff});
    DecodeBatch call = step;
    call.out = out.data();
    const Execution execution{.pool = &pool, .workspace = workspace};
    const absl::Status status =
        blocks == nullptr ? attention::Decode(*plan, call, execution) : SparseDecode(*plan, call, *blocks, execution);
    EXPECT_TRUE(status.ok()) << status;
    return out;
  }
  std::vector<float> Truth(const Variant& variant, const BlockIds* blocks) {
    std::vector<float> out(step.batch * problem.q_heads * problem.value_width, NAN);
    DecodeBatch call = step;
    call.out = out.data();
    ReferenceDecode(problem, variant, call, blocks);
    return out;
  }
  // Queries and results rounded to bf16: what plain bf16 code gives at best.
  std::vector<float> NaiveBf16(const Variant& variant, const BlockIds* blocks) {
    const std::vector<float> kept = q;
    for (float& x : q) x = ToFloat(ToBf16(x));
    std::vector<float> out = Truth(variant, blocks);
    q = kept;
    for (float& x : out) x = ToFloat(ToBf16(x));
    return out;
  }
};

inline double MaxDifference(const std::vector<float>& got, const std::vector<float>& want) {
  double worst = 0;
  for (size_t i = 0; i < got.size(); ++i) {
    const double error = got[i] == want[i] ? 0.0 : std::abs(static_cast<double>(got[i]) - want[i]);
    worst = std::isnan(error) ? INFINITY : std::max(worst, error);
  }
  return worst;
}

}  // namespace lectern::attention
