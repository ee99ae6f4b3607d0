#include "attention/select_reference.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

namespace lectern::attention {

template <class Real>
PooledBlock<Real> PoolBlock(const float* keys, int64_t tokens, int64_t width) {
  PooledBlock<Real> block;
  for (int64_t c = 0; c < width; ++c) {
    Real low = keys[c], high = keys[c], sum = 0;
    for (int64_t t = 0; t < tokens; ++t) {
      const Real x = keys[t * width + c];
      low = std::min(low, x);
      high = std::max(high, x);
      sum += x;
    }
    block.min.push_back(low);
    block.max.push_back(high);
    block.mean.push_back(sum / static_cast<Real>(tokens));
  }
  return block;
}

template <class Real>
void RotateHalf(std::span<Real> x, const float* frequencies, float scale, int64_t position) {
  if (frequencies == nullptr) return;
  const int64_t half = static_cast<int64_t>(x.size()) / 2;
  for (int64_t i = 0; i < half; ++i) {
    const double angle = static_cast<double>(position) * frequencies[i];
    const Real c = static_cast<Real>(std::cos(angle)) * scale, s = static_cast<Real>(std::sin(angle)) * scale;
    const Real a = x[i], b = x[i + half];
    x[i] = a * c - b * s;
    x[i + half] = b * c + a * s;
  }
}

namespace {
template <class Real>
void NormAndRotate(std::vector<Real>& x, const float* norm, const Gate& gate, int64_t position) {
  if (norm != nullptr) {
    Real squares = 0;
    for (const Real v : x) squares += v * v;
    const Real inverse = 1 / std::sqrt(squares / static_cast<Real>(x.size()) + static_cast<Real>(gate.norm_eps));
    for (size_t i = 0; i < x.size(); ++i) x[i] *= inverse * static_cast<Real>(norm[i]);
  }
  RotateHalf<Real>(x, gate.frequencies, gate.rope_scale, position);
}

float WeightAt(const Gate& gate, const void* weights, int64_t at) {
  if (gate.type == DType::kF16) return ToFloat(static_cast<const fp16*>(weights)[at]);
  return gate.type == DType::kBF16 ? ToFloat(static_cast<const bf16*>(weights)[at])
                                   : static_cast<const float*>(weights)[at];
}
}  // namespace

template <class Real>
std::vector<Real> GateQuery(const Gate& gate, int64_t group, int64_t key_width, const float* q, int64_t kv_head,
                            int64_t position) {
  std::vector<Real> a(gate.width, 0);
  for (int64_t i = 0; i < group * key_width; ++i) {
    for (int64_t o = 0; o < gate.width; ++o) {
      a[o] += static_cast<Real>(q[i]) *
              static_cast<Real>(WeightAt(gate, gate.query_weights, (kv_head * group * key_width + i) * gate.width + o));
    }
  }
  NormAndRotate(a, gate.query_norm, gate, position);
  return a;
}

template <class Real>
std::vector<Real> GateKey(const Gate& gate, int64_t key_width, const PooledBlock<Real>& block, int64_t kv_head,
                          int64_t position) {
  std::vector<Real> e(gate.width, 0);
  const std::vector<Real>* parts[] = {&block.max, &block.min, &block.mean};
  for (int64_t i = 0; i < 3 * key_width; ++i) {
    const Real x = (*parts[i / key_width])[i % key_width];
    for (int64_t o = 0; o < gate.width; ++o) {
      e[o] += x * static_cast<Real>(WeightAt(gate, gate.key_weights, (kv_head * 3 * key_width + i) * gate.width + o));
    }
  }
  NormAndRotate(e, gate.key_norm, gate, position);
  return e;
}

template <class Real>
std::vector<Real> GateScores(const Gate& gate, int64_t group, int64_t key_width, const float* q, const float* keys,
                             int64_t kv_head, int64_t length, int64_t block_tokens) {
  const std::vector<Real> query = GateQuery<Real>(gate, group, key_width, q, kv_head, length - 1);
  std::vector<Real> scores;
  for (int64_t i = 0; i < length / block_tokens; ++i) {
    const auto pooled = PoolBlock<Real>(keys + i * block_tokens * key_width, block_tokens, key_width);
    const std::vector<Real> key = GateKey<Real>(gate, key_width, pooled, kv_head, i * block_tokens);
    scores.push_back(std::inner_product(query.begin(), query.end(), key.begin(), Real{0}) /
                     std::sqrt(static_cast<Real>(gate.width)));
  }
  return scores;
}

template <class Real>
Real MinMaxBound(const Real* q, const Real* min, const Real* max, int64_t width) {
  Real bound = 0;
  for (int64_t c = 0; c < width; ++c) bound += std::max(q[c] * min[c], q[c] * max[c]);
  return bound;
}

namespace {
template <class Real>
std::vector<Real> Bounds(const std::vector<Real>& q, const float* keys, int64_t length, int64_t block_tokens) {
  const int64_t width = static_cast<int64_t>(q.size());
  std::vector<Real> scores;
  for (int64_t begin = 0; begin < length; begin += block_tokens) {
    const auto pooled = PoolBlock<Real>(keys + begin * width, std::min(block_tokens, length - begin), width);
    scores.push_back(MinMaxBound(q.data(), pooled.min.data(), pooled.max.data(), width));
  }
  return scores;
}
}  // namespace

template <class Real>
std::vector<Real> QuestScores(const float* q_head, const float* keys, int64_t width, int64_t length,
                              int64_t block_tokens) {
  return Bounds(std::vector<Real>(q_head, q_head + width), keys, length, block_tokens);
}

template <class Real>
std::vector<Real> ResaScores(const float* q, int64_t group, const float* keys, int64_t width, int64_t length,
                             int64_t block_tokens) {
  std::vector<Real> mean(width, 0);
  for (int64_t h = 0; h < group; ++h) {
    for (int64_t c = 0; c < width; ++c) mean[c] += static_cast<Real>(q[h * width + c]);
  }
  for (Real& x : mean) x /= static_cast<Real>(group) * std::sqrt(static_cast<Real>(width));
  return Bounds(mean, keys, length, block_tokens);
}

template <class Real>
std::vector<Real> OracleScores(const float* q_head, const float* keys, int64_t width, int64_t length,
                               int64_t block_tokens, Real scale) {
  std::vector<Real> x(length);
  for (int64_t t = 0; t < length; ++t) {
    Real dot = 0;
    for (int64_t c = 0; c < width; ++c) dot += static_cast<Real>(q_head[c]) * static_cast<Real>(keys[t * width + c]);
    x[t] = dot * scale;
  }
  const std::vector<Real> p = Softmax<Real>(x);
  std::vector<Real> best(NumBlocks(length, block_tokens), 0);
  for (int64_t t = 0; t < length; ++t) best[t / block_tokens] = std::max(best[t / block_tokens], p[t]);
  return best;
}

template <class Real>
std::vector<Real> Softmax(std::span<const Real> scores) {
  std::vector<Real> p(scores.begin(), scores.end());
  if (p.empty()) return p;
  const Real peak = *std::max_element(p.begin(), p.end());
  Real sum = 0;
  for (Real& x : p) sum += x = std::exp(x - peak);
  for (Real& x : p) x /= sum;
  return p;
}

template <class Real>
std::vector<int32_t> ChooseBlocks(const Selector& selector, std::span<const Real> scores, int64_t length) {
  const int64_t blocks = NumBlocks(length, selector.block_tokens);
  std::vector<int32_t> all(blocks);
  std::iota(all.begin(), all.end(), 0);
  if (length <= selector.dense_below) return all;
  std::vector<Real> score(scores.begin(), scores.end());
  if (selector.gate_zero_placeholder && static_cast<int64_t>(score.size()) < blocks) score.push_back(0);
  std::vector<bool> in(blocks, false);
  int64_t forced = 0;
  for (int64_t i = 0; i < blocks; ++i) {
    in[i] = i < selector.first_blocks || i >= blocks - selector.last_blocks;
    forced += in[i];
  }
  if (selector.mode == SelectMode::kThreshold) {
    const std::vector<Real> p = Softmax<Real>(score);
    for (size_t i = 0; i < p.size(); ++i) in[i] = in[i] || p[i] > static_cast<Real>(selector.threshold);
  } else {
    const int64_t keep = BlocksToKeep(selector, blocks);
    if (blocks <= keep) return all;
    std::vector<int32_t> order;
    for (int32_t i = 0; i < static_cast<int32_t>(score.size()); ++i) {
      if (!selector.count_forced || !in[i]) order.push_back(i);
    }
    std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) { return score[a] > score[b]; });
    const int64_t more = selector.count_forced ? std::max<int64_t>(0, keep - forced) : keep;
    for (int64_t i = 0; i < std::min<int64_t>(more, static_cast<int64_t>(order.size())); ++i) in[order[i]] = true;
  }
  std::vector<int32_t> chosen;
  for (int32_t i = 0; i < blocks; ++i) {
    if (in[i]) chosen.push_back(i);
  }
  return chosen;
}

#define LECTERN_INSTANTIATE(Real)                                                                                     \
  template PooledBlock<Real> PoolBlock(const float*, int64_t, int64_t);                                               \
  template void RotateHalf(std::span<Real>, const float*, float, int64_t);                                            \
  template std::vector<Real> GateQuery(const Gate&, int64_t, int64_t, const float*, int64_t, int64_t);                \
  template std::vector<Real> GateKey(const Gate&, int64_t, const PooledBlock<Real>&, int64_t, int64_t);               \
  template std::vector<Real> GateScores(const Gate&, int64_t, int64_t, const float*, const float*, int64_t, int64_t,  \
                                        int64_t);                                                                     \
  template Real MinMaxBound(const Real*, const Real*, const Real*, int64_t);                                          \
  template std::vector<Real> QuestScores(const float*, const float*, int64_t, int64_t, int64_t);                      \
  template std::vector<Real> ResaScores(const float*, int64_t, const float*, int64_t, int64_t, int64_t);              \
  template std::vector<Real> OracleScores(const float*, const float*, int64_t, int64_t, int64_t, Real);               \
  template std::vector<Real> Softmax(std::span<const Real>);                                                          \
  template std::vector<int32_t> ChooseBlocks(const Selector&, std::span<const Real>, int64_t);
LECTERN_INSTANTIATE(float)
LECTERN_INSTANTIATE(double)
#undef LECTERN_INSTANTIATE

namespace {

float At(const void* base, DType type, int64_t i) {
  if (type == DType::kF16) return ToFloat(static_cast<const fp16*>(base)[i]);
  return type == DType::kBF16 ? ToFloat(static_cast<const bf16*>(base)[i]) : static_cast<const float*>(base)[i];
}
void Put(void* base, DType type, int64_t i, double value) {
  if (type == DType::kBF16) {
    static_cast<bf16*>(base)[i] = ToBf16(static_cast<float>(value));
  } else if (type == DType::kF16) {
    static_cast<fp16*>(base)[i] = ToFp16(static_cast<float>(value));
  } else {
    static_cast<float*>(base)[i] = static_cast<float>(value);
  }
}
float RoundTo(DType type, double value) {
  if (type == DType::kF16) return ToFloat(ToFp16(static_cast<float>(value)));
  return type == DType::kBF16 ? ToFloat(ToBf16(static_cast<float>(value))) : static_cast<float>(value);
}

void ListBlocks(const std::vector<int32_t>& chosen, const BlockIds& blocks, int64_t row) {
  blocks.counts[row] = static_cast<int32_t>(chosen.size());
  for (int64_t i = 0; i < blocks.capacity; ++i) {
    blocks.ids[row * blocks.capacity + i] = i < static_cast<int64_t>(chosen.size()) ? chosen[i] : -1;
  }
}

}  // namespace

void ReferenceDecode(const Problem& p, const Variant& variant, const DecodeBatch& step, const BlockIds* blocks) {
  const double scale = variant.scale != 0 ? variant.scale : 1 / std::sqrt(static_cast<double>(p.key_width));
  for (int64_t b = 0; b < step.batch; ++b) {
    const int64_t length = step.lengths[b];
    const std::span<const int32_t> pages(step.page_table + b * step.page_table_stride, NumBlocks(length, kPageSlots));
    const KeyRange range = VisibleKeys(variant.mask, length - 1, length);
    for (int64_t head = 0; head < p.q_heads; ++head) {
      const int64_t k_head = head * p.k_heads / p.q_heads, v_head = head * p.v_heads / p.q_heads;
      std::vector<bool> seen(length, blocks == nullptr || blocks->counts[b * p.k_heads + k_head] < 0);
      for (int64_t i = 0; blocks != nullptr && i < blocks->counts[b * p.k_heads + k_head]; ++i) {
        const int64_t id = blocks->ids[(b * p.k_heads + k_head) * blocks->capacity + i];
        for (int64_t t = id * blocks->block_tokens; id >= 0 && t < std::min(length, (id + 1) * blocks->block_tokens); ++t) {
          seen[t] = true;
        }
      }
      std::vector<double> score(length), sum(p.value_width, 0);
      double peak = -std::numeric_limits<double>::infinity(), total = 0;
      const int64_t row = (b * p.q_heads + head) * p.key_width;
      for (int64_t t = range.begin; t < range.end; ++t) {
        if (!seen[t]) continue;
        double dot = 0;
        for (int64_t c = 0; c < p.key_width; ++c) {
          dot += static_cast<double>(At(step.q, step.type, row + c)) * KeyAt(step.k, pages, t, k_head, c);
        }
        score[t] = dot * scale;
        if (variant.soft_cap > 0) score[t] = variant.soft_cap * std::tanh(score[t] / variant.soft_cap);
        peak = std::max(peak, score[t]);
      }
      for (int64_t t = range.begin; t < range.end; ++t) {
        if (!seen[t]) continue;
        const double weight = std::exp(score[t] - peak);
        total += weight;
        for (int64_t c = 0; c < p.value_width; ++c) sum[c] += weight * ValueAt(step.v, pages, t, v_head, c);
      }
      for (int64_t c = 0; c < p.value_width; ++c) {
        Put(step.out, step.type, (b * p.q_heads + head) * p.value_width + c, total == 0 ? 0.0 : sum[c] / total);
      }
      if (step.lse != nullptr) step.lse[b * p.q_heads + head] = static_cast<float>(peak + std::log(total));
    }
  }
}

void ReferenceSelect(const Problem& p, const Selector& selector, const SelectBatch& step, const BlockIds& blocks) {
  const int64_t group = p.q_heads / p.k_heads, size = selector.block_tokens;
  for (int64_t b = 0; b < step.batch; ++b) {
    const int64_t length = step.lengths[b], num_blocks = NumBlocks(length, size);
    const int32_t* pages = step.page_table + b * step.page_table_stride;
    for (int64_t head = 0; head < p.k_heads; ++head) {
      const int64_t row = b * p.k_heads + head;
      std::vector<std::vector<double>> scores(1);  // [1 or group][block]
      if (selector.kind == SelectorKind::kGate) {
        std::vector<double> query;
        if (step.query_projected) {
          for (int64_t c = 0; c < step.gate->width; ++c) query.push_back(At(step.q, step.type, row * step.gate->width + c));
        } else {
          std::vector<float> q(group * p.key_width);
          for (size_t i = 0; i < q.size(); ++i) q[i] = At(step.q, step.type, row * group * p.key_width + i);
          query = GateQuery<double>(*step.gate, group, p.key_width, q.data(), head, length - 1);
        }
        for (int64_t i = 0; i < length / size; ++i) {
          const int64_t at = DescriptorOffset(step.descriptors, pages, head, i, size);
          double dot = 0;
          for (size_t c = 0; c < query.size(); ++c) dot += query[c] * At(step.descriptors.base, step.descriptors.type, at + c);
          scores[0].push_back(dot / std::sqrt(static_cast<double>(query.size())));
        }
      } else {
        std::vector<std::vector<double>> queries(group, std::vector<double>(p.key_width));
        for (int64_t h = 0; h < group; ++h) {
          for (int64_t c = 0; c < p.key_width; ++c) queries[h][c] = At(step.q, step.type, (row * group + h) * p.key_width + c);
        }
        std::vector<float> keys;
        if (selector.kind == SelectorKind::kOracle) {
          for (int64_t t = 0; t < length; ++t) {
            for (int64_t c = 0; c < p.key_width; ++c) {
              keys.push_back(KeyAt(step.k, std::span(pages, NumBlocks(length, kPageSlots)), t, head, c));
            }
          }
        }
        if (selector.kind == SelectorKind::kResa) {
          for (int64_t c = 0; c < p.key_width; ++c) {
            for (int64_t h = 1; h < group; ++h) queries[0][c] += queries[h][c];
            queries[0][c] /= static_cast<double>(group) * std::sqrt(static_cast<double>(p.key_width));
          }
          queries.resize(1);
        }
        scores.assign(queries.size(), {});
        for (size_t h = 0; h < queries.size(); ++h) {
          if (selector.kind == SelectorKind::kOracle) {
            const std::vector<float> q(queries[h].begin(), queries[h].end());
            scores[h] = OracleScores<double>(q.data(), keys.data(), p.key_width, length, size,
                                             1 / std::sqrt(static_cast<double>(p.key_width)));
            continue;
          }
          for (int64_t i = 0; i < num_blocks; ++i) {
            const int64_t at = DescriptorOffset(step.descriptors, pages, head, i, size);
            std::vector<double> low(p.key_width), high(p.key_width);
            for (int64_t c = 0; c < p.key_width; ++c) {
              low[c] = At(step.descriptors.base, step.descriptors.type, at + c);
              high[c] = At(step.descriptors.base, step.descriptors.type, at + p.key_width + c);
            }
            scores[h].push_back(MinMaxBound(queries[h].data(), low.data(), high.data(), p.key_width));
          }
        }
        if (!selector.per_head) {
          for (size_t h = 1; h < scores.size(); ++h) {
            for (size_t i = 0; i < scores[0].size(); ++i) scores[0][i] = std::max(scores[0][i], scores[h][i]);
          }
          scores.resize(1);
        }
      }
      std::vector<bool> in(num_blocks, false);
      for (const std::vector<double>& score : scores) {
        for (const int32_t id : ChooseBlocks<double>(selector, score, length)) in[id] = true;
      }
      std::vector<int32_t> chosen;
      for (int32_t i = 0; i < num_blocks; ++i) {
        if (in[i]) chosen.push_back(i);
      }
      ListBlocks(chosen, blocks, row);
    }
  }
}

// Token by token, element by element.
static void CopySharedPage(const Problem& p, const AppendBatch& step, const AppendConfig& config, int64_t b) {
  const int64_t position = step.lengths[b] - 1, slot = position % kPageSlots, first = position - slot, d = p.key_width;
  const int32_t* pages = step.page_table + b * step.page_table_stride;
  std::vector<int32_t> old(pages, pages + position / kPageSlots + 1);
  old.back() = step.copy_from[b];
  const std::span<const int32_t> now(pages, old.size());
  for (int64_t t = first; t < position; ++t) {
    std::vector<float> key, value;
    for (int64_t head = 0; head < p.k_heads; ++head) {
      for (int64_t c = 0; c < d; ++c) {
        key.push_back(KeyAt(step.k, old, t, head, c));
        value.push_back(ValueAt(step.v, old, t, head, c));
      }
    }
    StoreKeys(step.k, now, t, key.data(), 1);
    StoreValues(step.v, now, t, value.data(), 1);
  }
  const auto copy = [&](const DescriptorView& view, int64_t size, int64_t blocks, int64_t width) {
    for (int64_t head = 0; head < p.k_heads; ++head) {
      for (int64_t i = first / size; i < first / size + blocks; ++i) {
        const int64_t from = DescriptorOffset(view, old.data(), head, i, size), to = DescriptorOffset(view, pages, head, i, size);
        for (int64_t c = 0; c < width; ++c) Put(view.base, view.type, to + c, At(view.base, view.type, from + c));
      }
    }
  };
  if (config.min_max_block_tokens > 0) {
    copy(step.min_max, config.min_max_block_tokens, NumBlocks(slot, config.min_max_block_tokens), 2 * d);
  }
  if (config.gate_block_tokens > 0) copy(step.gate_keys, config.gate_block_tokens, slot / config.gate_block_tokens, step.gate->width);
}

void ReferenceAppend(const Problem& p, const AppendBatch& step, const AppendConfig& config) {
  const int64_t d = p.key_width, heads = p.q_heads + 2 * p.k_heads;
  for (int64_t b = 0; b < step.batch; ++b) {
    const int64_t position = step.lengths[b] - 1;
    const std::span<const int32_t> pages(step.page_table + b * step.page_table_stride, position / kPageSlots + 1);
    if (step.copy_from != nullptr && step.copy_from[b] >= 0) CopySharedPage(p, step, config, b);
    for (int64_t head = 0; head < heads; ++head) {
      std::vector<double> x(d);
      for (int64_t c = 0; c < d; ++c) {
        x[c] = At(step.qkv, step.type, (b * heads + head) * d + c);
        if (step.bias != nullptr) x[c] += At(step.bias, step.type, head * d + c);
      }
      const bool is_q = head < p.q_heads, is_k = !is_q && head < p.q_heads + p.k_heads;
      const float* norm = is_q ? config.q_norm : is_k ? config.k_norm : nullptr;
      if (norm != nullptr) {
        double squares = 0;
        for (const double v : x) squares += v * v;
        const double inverse = 1 / std::sqrt(squares / static_cast<double>(d) + config.norm_eps);
        for (int64_t c = 0; c < d; ++c) x[c] *= inverse * norm[c];
      }
      if (!is_q && !is_k) {
        std::vector<float> value(x.begin(), x.end());
        KvView one = step.v;
        const int64_t kv_head = head - p.q_heads - p.k_heads;
        one.base += kv_head * one.head_stride * (one.type == DType::kF32 ? 4 : 2);
        one.heads = 1;
        StoreValues(one, pages, position, value.data(), 1);
        continue;
      }
      for (double& v : x) v = RoundTo(step.type == DType::kF32 ? step.k.type : step.type, v);
      const std::vector<double> plain = x;
      RotateHalf<double>(x, config.frequencies, config.rope_scale, position);
      if (is_q) {
        for (int64_t c = 0; c < d; ++c) {
          Put(step.q, step.type, (b * p.q_heads + head) * d + c, x[c]);
          if (step.gate_q != nullptr) Put(step.gate_q, step.type, (b * p.q_heads + head) * d + c, plain[c]);
        }
        continue;
      }
      const int64_t kv_head = head - p.q_heads;
      std::vector<float> key(d);
      for (int64_t c = 0; c < d; ++c) key[c] = RoundTo(step.k.type, x[c]);
      KvView one = step.k;
      one.base += kv_head * one.head_stride * (one.type == DType::kF32 ? 4 : 2);
      one.heads = 1;
      StoreKeys(one, pages, position, key.data(), 1);
      if (config.min_max_block_tokens > 0) {
        const int64_t size = config.min_max_block_tokens;
        const int64_t at = DescriptorOffset(step.min_max, pages.data(), kv_head, position / size, size);
        for (int64_t c = 0; c < d; ++c) {
          const bool first = position % size == 0;
          const float low = At(step.min_max.base, step.min_max.type, at + c), high = At(step.min_max.base, step.min_max.type, at + d + c);
          Put(step.min_max.base, step.min_max.type, at + c, first ? key[c] : std::min(low, key[c]));
          Put(step.min_max.base, step.min_max.type, at + d + c, first ? key[c] : std::max(high, key[c]));
        }
      }
      if (config.gate_block_tokens > 0) {
        const int64_t size = config.gate_block_tokens;
        float* pool = step.pool + (b * p.k_heads + kv_head) * 3 * d;
        for (int64_t c = 0; c < d; ++c) {
          const float v = static_cast<float>(plain[c]);
          const bool first = position % size == 0;
          pool[c] = first ? v : std::max(pool[c], v);
          pool[d + c] = first ? v : std::min(pool[d + c], v);
          pool[2 * d + c] = first ? v : pool[2 * d + c] + v;
        }
        if ((position + 1) % size == 0) {
          PooledBlock<double> block;
          block.max.assign(pool, pool + d);
          block.min.assign(pool + d, pool + 2 * d);
          for (int64_t c = 0; c < d; ++c) block.mean.push_back(pool[2 * d + c] / static_cast<double>(size));
          const int64_t where = config.gate_pos_compat ? position : position + 1 - size;
          const std::vector<double> e = GateKey<double>(*step.gate, d, block, kv_head, where);
          const int64_t at = DescriptorOffset(step.gate_keys, pages.data(), kv_head, position / size, size);
          for (int64_t o = 0; o < step.gate->width; ++o) Put(step.gate_keys.base, step.gate_keys.type, at + o, e[o]);
        }
        if (step.committed_pool != nullptr && step.commit != nullptr && step.commit[b] != 0) {
          std::copy(pool, pool + 3 * d, step.committed_pool + (b * p.k_heads + kv_head) * 3 * d);
        }
      }
    }
  }
}

}  // namespace lectern::attention
