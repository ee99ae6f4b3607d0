#include "attention/reference.h"

#include <cmath>
#include <limits>
#include <vector>

namespace lectern::attention {

void Reference(const Problem& problem, const Variant& variant, const Queries& queries, const PagedKv& kv) {
  const double scale = variant.scale != 0 ? variant.scale : 1 / std::sqrt(static_cast<double>(problem.key_width));
  const int64_t num_queries = queries.q.extent(0);
  std::vector<double> score(kv.num_keys), sum(problem.value_width);
  for (int64_t i = 0; i < num_queries; ++i) {
    const KeyRange range = VisibleKeys(variant.mask, i + kv.num_keys - num_queries, kv.num_keys);
    for (int64_t head = 0; head < problem.q_heads; ++head) {
      const int64_t k_head = head * problem.k_heads / problem.q_heads, v_head = head * problem.v_heads / problem.q_heads;
      double peak = -std::numeric_limits<double>::infinity(), total = 0;
      for (int64_t key = range.begin; key < range.end; ++key) {
        double dot = 0;
        for (int64_t c = 0; c < problem.key_width; ++c) {
          dot += static_cast<double>(queries.q(i, head, c)) * KeyAt(kv.k, kv.pages, key, k_head, c);
        }
        score[key] = dot * scale;
        if (variant.soft_cap > 0) score[key] = variant.soft_cap * std::tanh(score[key] / variant.soft_cap);
        peak = std::max(peak, score[key]);
      }
      sum.assign(problem.value_width, 0);
      for (int64_t key = range.begin; key < range.end; ++key) {
        const double weight = std::exp(score[key] - peak);
        total += weight;
        for (int64_t c = 0; c < problem.value_width; ++c) sum[c] += weight * ValueAt(kv.v, kv.pages, key, v_head, c);
      }
      for (int64_t c = 0; c < problem.value_width; ++c) {
        queries.out(i, head, c) = total == 0 ? 0.0f : static_cast<float>(sum[c] / total);
      }
      if (queries.lse.data() != nullptr) queries.lse(i, head) = static_cast<float>(peak + std::log(total));
    }
  }
}

}  // namespace lectern::attention
