// From the packed projection of one new token a sequence to rotated queries, K, V and descriptors.
//
// Dataflow  cosines and sines once a sequence; then a thread takes whole (sequence, head) rows: bias, norm, rounding,
//           rotation, store. A row belongs to one thread, so that a result does not depend on their number.
// Bytes     a row of the projection in, a row out; K's lanes are width / 2 cache lines a head. The gate's key weights,
//           3 * width * gate width a KV head, only in the step that closes a block.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <functional>

#include "attention/cpu/plan_cpu.h"

namespace lectern::attention::cpu {
namespace {

struct Scratch {
  float* plain;   // [width]
  float* turned;  // [width]
  float* pooled;  // [3, width]: maximum, minimum, mean
  float* gate;    // [gate width]
  float* turn;    // [gate width]
};

Scratch CarveScratch(const AttentionPlan& plan, int64_t gate_width, Carver& carver) {
  Scratch s;
  s.plain = carver.Take<float>(plan.problem.key_width);
  s.turned = carver.Take<float>(plan.problem.key_width);
  s.pooled = carver.Take<float>(3 * plan.problem.key_width);
  s.gate = carver.Take<float>(gate_width);
  s.turn = carver.Take<float>(gate_width);
  return s;
}

// Cosines, then sines.
void FillTurn(const float* frequencies, float scale, int64_t width, int64_t position, float* turn) {
  const int64_t half = width / 2;
  for (int64_t i = 0; i < half; ++i) {
    const double angle = static_cast<double>(position) * frequencies[i];
    turn[i] = static_cast<float>(std::cos(angle) * scale);
    turn[half + i] = static_cast<float>(std::sin(angle) * scale);
  }
}

void* At(const DescriptorView& view, const int32_t* pages, int64_t head, int64_t block, int64_t block_tokens) {
  return view.base + DescriptorOffset(view, pages, head, block, block_tokens) * ElementBytes(view.type);
}

KvView OneHead(KvView view, int64_t head) {
  view.base += head * view.head_stride * ElementBytes(view.type);
  view.heads = 1;
  return view;
}

class RowAppender {
 public:
  RowAppender(const AttentionPlan& plan, const AppendBatch& step, const AppendConfig& config, const float* turns)
      : plan_(plan), step_(step), config_(config), turns_(turns) {}

  void Run(int64_t row, const Scratch& s) const {
    const Problem& p = plan_.problem;
    const RowKernels& kernels = plan_.kernels->rows;
    const int64_t heads = p.q_heads + 2 * p.k_heads, d = p.key_width, b = row / heads, head = row % heads;
    const int64_t position = step_.lengths[b] - 1;
    const std::span<const int32_t> pages(step_.page_table + b * step_.page_table_stride, position / kPageSlots + 1);
    const bool is_q = head < p.q_heads, is_k = !is_q && head < p.q_heads + p.k_heads;
    if (!is_q && step_.copy_from != nullptr && step_.copy_from[b] >= 0) CopyPage(b, is_k, (head - p.q_heads) % p.k_heads);
    kernels.norm({.x = static_cast<const float*>(step_.qkv) + row * d,
                  .bias = step_.bias == nullptr ? nullptr : static_cast<const float*>(step_.bias) + head * d,
                  .norm = is_q ? config_.q_norm : is_k ? config_.k_norm : nullptr, .eps = config_.norm_eps, .width = d,
                  .round_bf16 = (is_q || is_k) && step_.k.type == DType::kBF16, .out = s.plain});
    if (!is_q && !is_k) return StoreValues(OneHead(step_.v, head - p.q_heads - p.k_heads), pages, position, s.plain, 1);
    float* turned = is_q ? static_cast<float*>(step_.q) + (b * p.q_heads + head) * d : s.turned;
    if (is_q && step_.gate_q != nullptr) {
      std::copy_n(s.plain, d, static_cast<float*>(step_.gate_q) + (b * p.q_heads + head) * d);
    }
    if (config_.frequencies != nullptr) {
      const float* turn = turns_ + b * d;
      kernels.rotate({.x = s.plain, .cosines = turn, .sines = turn + d / 2, .width = d, .out = turned});
    } else {
      std::copy_n(s.plain, d, turned);
    }
    if (is_q) return;
    if (step_.k.type == DType::kBF16) {
      kernels.norm({.x = turned, .width = d, .round_bf16 = true, .out = turned});  // as it is stored, so that bounds hold
    }
    const int64_t kv_head = head - p.q_heads;
    StoreKeys(OneHead(step_.k, kv_head), pages, position, turned, 1);
    if (const int64_t size = config_.min_max_block_tokens; size > 0) {
      kernels.min_max({.descriptor = At(step_.min_max, pages.data(), kv_head, position / size, size),
                       .bf16 = step_.min_max.type == DType::kBF16, .key = turned, .width = d, .first = position % size == 0});
    }
    if (config_.gate_block_tokens > 0) AddToGate(b, kv_head, position, pages.data(), s);
  }

 private:
  // What the shared page holds of this sequence, for one KV head: K with its descriptors, or V.
  void CopyPage(int64_t b, bool is_k, int64_t kv_head) const {
    const int64_t position = step_.lengths[b] - 1, slot = position % kPageSlots, first_token = position - slot;
    const int32_t* pages = step_.page_table + b * step_.page_table_stride;
    const int32_t from = step_.copy_from[b], to = pages[position / kPageSlots];
    const KvView view = OneHead(is_k ? step_.k : step_.v, kv_head);
    const int64_t page_bytes = view.page_stride * ElementBytes(view.type);
    std::memcpy(view.base + to * page_bytes, view.base + from * page_bytes, kPageSlots * view.width * ElementBytes(view.type));
    const auto copy = [&](const DescriptorView& descriptors, int64_t size, int64_t blocks, int64_t width) {
      for (int64_t i = 0; i < blocks; ++i) {
        std::memcpy(At(descriptors, pages, kv_head, first_token / size + i, size), At(descriptors, &from, kv_head, i, size),
                    width * ElementBytes(descriptors.type));
      }
    };
    if (const int64_t size = config_.min_max_block_tokens; is_k && size > 0) {
      copy(step_.min_max, size, NumBlocks(slot, size), 2 * step_.min_max.width);
    }
    if (const int64_t size = config_.gate_block_tokens; is_k && size > 0) {
      copy(step_.gate_keys, size, slot / size, step_.gate_keys.width);
    }
  }

  void AddToGate(int64_t b, int64_t kv_head, int64_t position, const int32_t* pages, const Scratch& s) const {
    const RowKernels& kernels = plan_.kernels->rows;
    const int64_t d = plan_.problem.key_width, size = config_.gate_block_tokens, at = (b * plan_.problem.k_heads + kv_head) * 3 * d;
    float* pool = step_.pool + at;
    kernels.pool({.pool = pool, .key = s.plain, .width = d, .first = position % size == 0});
    if ((position + 1) % size == 0) {
      const Gate& gate = *step_.gate;
      std::copy_n(pool, 2 * d, s.pooled);
      for (int64_t c = 0; c < d; ++c) s.pooled[2 * d + c] = pool[2 * d + c] / static_cast<float>(size);
      kernels.project({.x = s.pooled, .inputs = 3 * d,
                       .weights = static_cast<const char*>(gate.key_weights) +
                                  kv_head * 3 * d * gate.width * ElementBytes(gate.type),
                       .bf16 = gate.type == DType::kBF16, .width = gate.width, .out = s.gate});
      if (gate.key_norm != nullptr) {
        kernels.norm({.x = s.gate, .norm = gate.key_norm, .eps = gate.norm_eps, .width = gate.width, .out = s.gate});
      }
      if (gate.frequencies != nullptr) {
        const int64_t where = config_.gate_pos_compat ? position : position + 1 - size;
        FillTurn(gate.frequencies, gate.rope_scale, gate.width, where, s.turn);
        kernels.rotate({.x = s.gate, .cosines = s.turn, .sines = s.turn + gate.width / 2, .width = gate.width, .out = s.gate});
      }
      void* to = At(step_.gate_keys, pages, kv_head, position / size, size);
      for (int64_t o = 0; o < gate.width; ++o) {
        if (step_.gate_keys.type == DType::kBF16) {
          static_cast<bf16*>(to)[o] = ToBf16(s.gate[o]);
        } else {
          static_cast<float*>(to)[o] = s.gate[o];
        }
      }
    }
    if (step_.committed_pool != nullptr && step_.commit != nullptr && step_.commit[b] != 0) {
      std::copy_n(pool, 3 * d, step_.committed_pool + at);
    }
  }

  const AttentionPlan& plan_;
  const AppendBatch& step_;
  const AppendConfig& config_;
  const float* turns_;
};

absl::Status CheckDescriptors(const DescriptorView& view, int64_t width, int64_t block_tokens, const char* what) {
  if (view.base == nullptr || view.width != width) {
    return InvalidArgument(what, " must have memory and width ", width, ", got width ", view.width);
  }
  if (view.type != DType::kF32 && view.type != DType::kBF16) {
    return NotSupported(what, " must be F32 or BF16, not ", DTypeName(view.type));
  }
  if (block_tokens < kPageSlots ? kPageSlots % block_tokens != 0 : block_tokens % kPageSlots != 0) {
    return InvalidArgument("block_tokens must divide the page of ", kPageSlots, " tokens or be a multiple of it, got ",
                           block_tokens);
  }
  return absl::OkStatus();
}

absl::Status CheckAppend(const AttentionPlan& plan, const AppendBatch& step, const AppendConfig& config) {
  const Problem& p = plan.problem;
  if (step.type != DType::kF32) return NotSupported("the CPU kernels take F32 projections, not ", DTypeName(step.type));
  if (p.key_width != p.value_width) {
    return NotSupported("append needs keys and values of one width, got ", p.key_width, " and ", p.value_width);
  }
  if (step.batch > 0 && (step.qkv == nullptr || step.q == nullptr)) return InvalidArgument("append needs qkv and q");
  RETURN_IF_ERROR(CheckCache(plan, step.k, step.v));
  if (config.min_max_block_tokens < 0 || config.gate_block_tokens < 0) {
    return InvalidArgument("block tokens must not be negative, got ", config.min_max_block_tokens, " and ",
                           config.gate_block_tokens);
  }
  if (config.min_max_block_tokens > 0) {
    RETURN_IF_ERROR(CheckDescriptors(step.min_max, p.key_width, config.min_max_block_tokens, "min-max pairs"));
  }
  if (config.gate_block_tokens > 0) {
    if (step.gate == nullptr || step.gate->key_weights == nullptr || step.pool == nullptr) {
      return InvalidArgument("gate keys need the gate's key weights and a pool");
    }
    if (step.gate->frequencies != nullptr && step.gate->width % 2 != 0) {
      return InvalidArgument("a gate that rotates must have an even width, got ", step.gate->width);
    }
    RETURN_IF_ERROR(CheckDescriptors(step.gate_keys, step.gate->width, config.gate_block_tokens, "gate keys"));
  }
  for (int64_t b = 0; b < step.batch; ++b) {
    if (step.lengths[b] < 1) return InvalidArgument("a sequence that gets a token has length at least 1, got ", step.lengths[b]);
  }
  return absl::OkStatus();
}

}  // namespace

int64_t AppendBytes(const AttentionPlan& plan, int64_t gate_width) {
  Carver carver(nullptr);
  CarveScratch(plan, gate_width, carver);
  const int64_t turns = (plan.problem.max_batch * plan.problem.key_width * 4 + 63) / 64 * 64;
  return carver.bytes() * plan.num_threads + turns + 64;
}

absl::Status Append(const AttentionPlan& plan, const AppendBatch& step, const AppendConfig& config,
                    const Execution& execution) {
  RETURN_IF_ERROR(CheckAppend(plan, step, config));
  RETURN_IF_ERROR(CheckWorkspace(plan, execution));
  RETURN_IF_ERROR(CheckLengths(plan, step.lengths, step.batch, step.page_table_stride));
  const Problem& p = plan.problem;
  const int64_t gate_width = config.gate_block_tokens > 0 ? step.gate->width : 0, needed = AppendBytes(plan, gate_width);
  if (static_cast<int64_t>(execution.workspace.size()) < needed) {
    return InvalidArgument("a gate of width ", gate_width, " needs a workspace of ", needed, " bytes, got ",
                           execution.workspace.size());
  }
  Carver whole(AlignUp(execution.workspace.data()));
  float* turns = whole.Take<float>(step.batch * p.key_width);
  if (config.frequencies != nullptr) {
    for (int64_t b = 0; b < step.batch; ++b) {
      FillTurn(config.frequencies, config.rope_scale, p.key_width, step.lengths[b] - 1, turns + b * p.key_width);
    }
  }
  std::byte* const base = whole.at();
  Carver one(nullptr);
  CarveScratch(plan, gate_width, one);
  const RowAppender appender(plan, step, config, turns);
  const int64_t rows = step.batch * (p.q_heads + 2 * p.k_heads);
  std::atomic<int64_t> next{0};
  const auto work = [&](int thread) {
    if (thread >= plan.num_threads) return;
    Carver carver(base + thread * one.bytes());
    const Scratch scratch = CarveScratch(plan, gate_width, carver);
    for (int64_t row; (row = next.fetch_add(1, std::memory_order_relaxed)) < rows;) appender.Run(row, scratch);
  };
  int64_t bytes = rows * p.key_width * 8;
  for (int64_t b = 0; b < step.batch; ++b) {
    if (step.copy_from != nullptr && step.copy_from[b] >= 0) bytes += 2 * p.k_heads * kPageSlots * p.key_width * ElementBytes(step.k.type);
    if (config.gate_block_tokens > 0 && step.lengths[b] % config.gate_block_tokens == 0) {
      bytes += p.k_heads * 3 * p.key_width * gate_width * ElementBytes(step.gate->type);
    }
  }
  if (bytes < kForkBytes || execution.pool == nullptr) {
    work(0);
  } else {
    execution.pool->RunOnAll(std::ref(work));
  }
  return absl::OkStatus();
}

}  // namespace lectern::attention::cpu
