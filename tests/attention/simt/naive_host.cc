// tests/attention/cuda/naive.h without a device: every sum in fp64, in order.
#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "base/dtype.h"
#include "tests/attention/cuda/naive.h"

namespace lectern::attention {
namespace {

void Head(const NaiveStep& s, int b, int head) {
  const auto value = [&](uint16_t x) { return static_cast<double>(s.fp16 ? ToFloat(fp16{x}) : ToFloat(bf16{x})); };
  const int64_t kv = head / (s.q_heads / s.kv_heads), row = b * s.kv_heads + kv, to = static_cast<int64_t>(b) * s.q_heads + head;
  const bool listed = s.ids != nullptr && s.counts[row] >= 0;
  std::vector<double> sums(s.d);
  std::vector<std::pair<double, int64_t>> scores;  // and where the key lies
  double peak = -INFINITY, sum = 0;
  for (int64_t i = 0; i < (listed ? static_cast<int64_t>(s.counts[row]) * s.block_tokens : s.lengths[b]); ++i) {
    const int64_t key = listed ? static_cast<int64_t>(s.ids[row * s.capacity + i / s.block_tokens]) * s.block_tokens + i % s.block_tokens : i;
    if (key >= s.lengths[b]) continue;
    const int64_t page = s.page_table[static_cast<int64_t>(b) * s.page_table_stride + key / 64], at = ((page * s.kv_heads + kv) * 64 + key % 64) * s.d;
    double score = 0;
    for (int c = 0; c < s.d; ++c) score += value(s.q[to * s.d + c]) * value(s.k[at + c]);
    score *= s.scale;
    scores.emplace_back(s.soft_cap > 0 ? s.soft_cap * std::tanh(score / s.soft_cap) : score, at);
    peak = std::max(peak, scores.back().first);
  }
  for (const auto& [score, at] : scores) {
    const double weight = std::exp(score - peak);
    sum += weight;
    for (int c = 0; c < s.d; ++c) sums[c] += weight * value(s.v[at + c]);
  }
  for (int c = 0; c < s.d; ++c) s.out[to * s.d + c] = sum > 0 ? sums[c] / sum : 0;
  s.lse[to] = sum > 0 ? peak + std::log(sum) : -INFINITY;
}

}  // namespace

void NaiveDecode(const NaiveStep& step) {
  for (int b = 0; b < step.batch; ++b) {
    for (int head = 0; head < step.q_heads; ++head) Head(step, b, head);
  }
}

}  // namespace lectern::attention
