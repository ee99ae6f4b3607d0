// Which blocks a decode step reads: scores, then an exact choice.
//
// Dataflow  a thread takes whole (sequence, KV head) rows. Scores of min-max pairs are plain products too: with
//           q- = min(q, 0) and q+ = max(q, 0), max(q lo, q hi) = q- lo + q+ hi, and a pair lies in memory as [lo, hi].
//           Scores become integers of the same order; a radix select of 11-bit digits finds the K-th, and one pass
//           lists what lies above it, ascending.
// Bytes     the descriptors of the row, and group * key_width * gate width weights for the gate's query.
// Ties      to the lower block. All blocks, or more than the list can hold: kAllBlocks, which is dense.
#include <algorithm>
#include <atomic>
#include <bit>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>

#include "attention/cpu/plan_cpu.h"

namespace lectern::attention::cpu {
namespace {

constexpr int kDigitBits = 11, kDigits = 1 << kDigitBits;

struct Scratch {
  FlashTile tile;       // oracle
  float* query;         // [group, 2 * width] at most
  float* turn;          // [gate width]: cosines, then sines
  float* scores;        // [group, stride]
  uint32_t* keys;       // [blocks]
  uint32_t* list;       // [blocks]
  uint8_t* in;          // [blocks]
  int32_t* histogram;   // [kDigits]
  int64_t stride;
};

Scratch CarveScratch(const AttentionPlan& plan, int64_t block_tokens, int64_t gate_width, Carver& carver) {
  Scratch s;
  s.stride = (NumBlocks(plan.problem.max_keys, block_tokens) + 15) / 16 * 16;
  CarveTile(plan, plan.group(), carver, &s.tile);
  s.query = carver.Take<float>(std::max(plan.group() * 2 * plan.problem.key_width, gate_width));
  s.turn = carver.Take<float>(gate_width);
  s.scores = carver.Take<float>(plan.group() * s.stride);
  s.keys = carver.Take<uint32_t>(s.stride);
  s.list = carver.Take<uint32_t>(s.stride);
  s.in = carver.Take<uint8_t>(s.stride);
  s.histogram = carver.Take<int32_t>(kDigits);
  return s;
}

uint32_t OrderedKey(float x) {
  const uint32_t bits = std::bit_cast<uint32_t>(x + 0.0f);  // -0 becomes 0: they tie
  return (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
}

// Of n keys, those above `floor` and the first `ties` that equal it are the `need` largest.
struct Cut {
  uint32_t floor;
  int64_t ties;
};

// REQUIRES: 0 < need <= n.
Cut RadixSelect(const uint32_t* keys, int64_t n, int64_t need, uint32_t* list, int32_t* histogram) {
  constexpr int kShifts[] = {21, 10, 0}, kBits[] = {11, 11, 10};
  uint32_t value = 0;
  for (int pass = 0; pass < 3; ++pass) {
    const uint32_t mask = (1u << kBits[pass]) - 1;
    std::memset(histogram, 0, sizeof(int32_t) << kBits[pass]);
    for (int64_t i = 0; i < n; ++i) ++histogram[keys[i] >> kShifts[pass] & mask];
    uint32_t digit = mask;
    for (; histogram[digit] < need; --digit) need -= histogram[digit];
    value |= digit << kShifts[pass];
    if (histogram[digit] == need) return {value - 1, 0};  // every key that begins so is in
    int64_t kept = 0;
    for (int64_t i = 0; i < n; ++i) {
      const uint32_t key = keys[i];
      list[kept] = key;
      kept += (key >> kShifts[pass] & mask) == digit;
    }
    keys = list;
    n = kept;
  }
  return {value, need};
}

// Marks the chosen ones among `blocks` blocks, of which the first `scored` have scores.
void Choose(const Selector& selector, const RowKernels& kernels, int64_t blocks, int64_t scored, float* scores,
            const Scratch& s) {
  const int64_t first = std::min(selector.first_blocks, blocks), last = std::max(first, blocks - selector.last_blocks);
  std::fill_n(s.in, first, uint8_t{1});
  std::fill(s.in + last, s.in + blocks, uint8_t{1});
  if (selector.mode == SelectMode::kThreshold) {
    float* weights = reinterpret_cast<float*>(s.list);
    const float least = selector.threshold * kernels.exponentials(scores, scored, weights);
    for (int64_t i = 0; i < scored; ++i) s.in[i] |= weights[i] > least;
    return;
  }
  const int64_t begin = selector.count_forced ? first : 0;
  const int64_t end = selector.count_forced ? std::max(begin, std::min(scored, last)) : scored;
  const int64_t keep = BlocksToKeep(selector, blocks);
  const int64_t need = selector.count_forced ? keep - first - (blocks - last) : keep;
  if (need <= 0 || begin == end) return;
  if (need >= end - begin) {
    std::fill(s.in + begin, s.in + end, uint8_t{1});
    return;
  }
  for (int64_t i = begin; i < end; ++i) s.keys[i] = OrderedKey(scores[i]);
  Cut cut = RadixSelect(s.keys + begin, end - begin, need, s.list, s.histogram);
  for (int64_t i = begin; i < end; ++i) {
    const bool equal = s.keys[i] == cut.floor && cut.ties > 0;
    cut.ties -= equal;
    s.in[i] |= s.keys[i] > cut.floor || equal;
  }
}

void List(const uint8_t* in, int64_t num_blocks, const BlockIds& blocks, int64_t row) {
  int64_t count = 0;
  for (int64_t i = 0; i < num_blocks; ++i) count += in[i];
  if (count == num_blocks || count > blocks.capacity) {
    blocks.counts[row] = kAllBlocks;
    return;
  }
  int32_t* ids = blocks.ids + row * blocks.capacity;
  int64_t at = 0;
  for (int64_t i = 0; i < num_blocks; ++i) {
    if (in[i] != 0) ids[at++] = static_cast<int32_t>(i);
  }
  std::fill(ids + count, ids + blocks.capacity, -1);
  blocks.counts[row] = static_cast<int32_t>(count);
}

class RowSelector {
 public:
  RowSelector(const AttentionPlan& plan, const Selector& selector, const SelectBatch& step, const BlockIds& blocks)
      : plan_(plan), selector_(selector), step_(step), blocks_(blocks) {}

  void Run(int64_t row, const Scratch& s) const {
    const Problem& p = plan_.problem;
    const int64_t b = row / p.k_heads, length = step_.lengths[b], num_blocks = NumBlocks(length, selector_.block_tokens);
    if (length <= selector_.dense_below ||
        (selector_.mode != SelectMode::kThreshold && num_blocks <= BlocksToKeep(selector_, num_blocks))) {
      blocks_.counts[row] = kAllBlocks;
      return;
    }
    int64_t scored = num_blocks, lists = 1;
    switch (selector_.kind) {
      case SelectorKind::kGate:
        scored = length / selector_.block_tokens;
        Gate(row, s, scored);
        if (selector_.gate_zero_placeholder && scored < num_blocks) s.scores[scored++] = 0;
        break;
      case SelectorKind::kQuest:
        if (selector_.per_head) lists = plan_.group();
        Bounds(row, s, num_blocks);
        break;
      case SelectorKind::kResa:
        Bounds(row, s, num_blocks);
        break;
      case SelectorKind::kOracle:
        Oracle(row, s, num_blocks);
        break;
    }
    std::fill_n(s.in, num_blocks, uint8_t{0});
    for (int64_t i = 0; i < lists; ++i) {
      Choose(selector_, plan_.kernels->rows, num_blocks, scored, s.scores + i * s.stride, s);
    }
    List(s.in, num_blocks, blocks_, row);
  }

 private:
  void Score(int64_t row, const Scratch& s, int64_t queries, int64_t width, float scale, int64_t end) const {
    const DescriptorView& d = step_.descriptors;
    const int64_t element = ElementBytes(d.type);
    plan_.kernels->rows.dots({.query = s.query, .queries = queries, .width = width,
                              .descriptors = reinterpret_cast<const char*>(d.base) +
                                             row % plan_.problem.k_heads * d.head_stride * element,
                              .bf16 = d.type == DType::kBF16, .page_bytes = d.page_stride * element,
                              .block_bytes = d.block_stride * element,
                              .pages = step_.page_table + row / plan_.problem.k_heads * step_.page_table_stride,
                              .block_tokens = selector_.block_tokens, .begin = 0, .end = end, .scale = scale,
                              .largest = !selector_.per_head, .scores = s.scores, .stride = s.stride});
  }

  void Gate(int64_t row, const Scratch& s, int64_t end) const {
    const attention::Gate& gate = *step_.gate;
    const RowKernels& kernels = plan_.kernels->rows;
    const float* q = static_cast<const float*>(step_.q);
    if (step_.query_projected) {
      std::copy_n(q + row * gate.width, gate.width, s.query);
    } else {
      const int64_t inputs = plan_.group() * plan_.problem.key_width;
      const int64_t weights = row % plan_.problem.k_heads * inputs * gate.width * ElementBytes(gate.type);
      kernels.project({.x = q + row * inputs, .inputs = inputs,
                       .weights = static_cast<const char*>(gate.query_weights) + weights,
                       .bf16 = gate.type == DType::kBF16, .width = gate.width, .out = s.query});
      if (gate.query_norm != nullptr) {
        kernels.norm({.x = s.query, .norm = gate.query_norm, .eps = gate.norm_eps, .width = gate.width, .out = s.query});
      }
      if (gate.frequencies != nullptr) {
        const int64_t half = gate.width / 2, position = step_.lengths[row / plan_.problem.k_heads] - 1;
        for (int64_t i = 0; i < half; ++i) {
          const double angle = static_cast<double>(position) * gate.frequencies[i];
          s.turn[i] = static_cast<float>(std::cos(angle) * gate.rope_scale);
          s.turn[half + i] = static_cast<float>(std::sin(angle) * gate.rope_scale);
        }
        kernels.rotate({.x = s.query, .cosines = s.turn, .sines = s.turn + half, .width = gate.width, .out = s.query});
      }
    }
    Score(row, s, 1, gate.width, 1 / std::sqrt(static_cast<float>(gate.width)), end);
  }

  void Bounds(int64_t row, const Scratch& s, int64_t end) const {
    const int64_t group = plan_.group(), width = plan_.problem.key_width;
    const bool pooled = selector_.kind == SelectorKind::kResa;
    const float* q = static_cast<const float*>(step_.q) + row * group * width;
    for (int64_t h = 0; h < (pooled ? 1 : group); ++h) {
      for (int64_t c = 0; c < width; ++c) {
        float x = q[h * width + c];
        if (pooled) {
          for (int64_t other = 1; other < group; ++other) x += q[other * width + c];
          x /= static_cast<float>(group);
        }
        s.query[h * 2 * width + c] = std::min(x, 0.0f);
        s.query[h * 2 * width + width + c] = std::max(x, 0.0f);
      }
    }
    Score(row, s, pooled ? 1 : group, 2 * width, pooled ? 1 / std::sqrt(static_cast<float>(width)) : 1.0f, end);
  }

  // The largest softmax probability of a key of each block, over the group.
  void Oracle(int64_t row, const Scratch& s, int64_t num_blocks) const {
    const Problem& p = plan_.problem;
    const int64_t b = row / p.k_heads, group = plan_.group(), element = ElementBytes(p.kv_type);
    BlockPeaksTile item{.tile = s.tile, .block_tokens = selector_.block_tokens, .peaks = s.scores, .stride = s.stride};
    FlashTile& tile = item.tile;
    tile.q = static_cast<const float*>(step_.q) + row * group * p.key_width;
    tile.q_head_stride = p.key_width;
    tile.group = tile.num_rows = group;
    tile.k = reinterpret_cast<const char*>(step_.k.base) + row % p.k_heads * step_.k.head_stride * element;
    tile.k_page_bytes = step_.k.page_stride * element;
    tile.pages = step_.page_table + b * step_.page_table_stride;
    tile.key_end = step_.lengths[b];
    tile.key_width = p.key_width;
    tile.scale = plan_.variant.scale;
    tile.soft_cap = plan_.variant.soft_cap;
    (p.kv_type == DType::kF32 ? plan_.kernels->block_peaks_f32 : plan_.kernels->block_peaks_bf16)(item);
    for (int64_t i = 0; i < num_blocks; ++i) {
      float best = 0;
      for (int64_t h = 0; h < group; ++h) {
        best = std::max(best, std::exp2(s.scores[h * s.stride + i] - tile.peak[h]) / tile.sum[h]);
      }
      s.scores[i] = best;
    }
  }

  const AttentionPlan& plan_;
  const Selector& selector_;
  const SelectBatch& step_;
  const BlockIds& blocks_;
};

absl::Status CheckSelect(const AttentionPlan& plan, const Selector& s, const SelectBatch& step, const BlockIds& blocks) {
  const Problem& p = plan.problem;
  if (step.type != DType::kF32) return NotSupported("the CPU kernels take F32 queries, not ", DTypeName(step.type));
  if (blocks.capacity < 1 || blocks.ids == nullptr || blocks.counts == nullptr) {
    return InvalidArgument("a list of blocks needs ids, counts and a capacity of at least 1, got ", blocks.capacity);
  }
  if (s.kind == SelectorKind::kOracle) {
    KvView v = step.k;  // only K is read
    v.heads = p.v_heads;
    v.width = p.value_width;
    return CheckCache(plan, step.k, v);
  }
  if (s.kind == SelectorKind::kGate) {
    if (step.gate == nullptr) return InvalidArgument("the gate selector needs the gate's weights");
    const Gate& g = *step.gate;
    if (g.width < 1 || (g.frequencies != nullptr && g.width % 2 != 0)) {
      return InvalidArgument("the gate's width must be at least 1, and even where it rotates, got ", g.width);
    }
    if (!step.query_projected && g.query_weights == nullptr) return InvalidArgument("the gate has no query weights");
    if (g.type != DType::kF32 && g.type != DType::kBF16) {
      return NotSupported("gate weights must be F32 or BF16, not ", DTypeName(g.type));
    }
  }
  const DescriptorView& d = step.descriptors;
  const int64_t width = s.kind == SelectorKind::kGate ? step.gate->width : p.key_width;
  if (d.base == nullptr || d.width != width) {
    return InvalidArgument("the selector reads descriptors of width ", width, ", got ", d.width);
  }
  if (d.type != DType::kF32 && d.type != DType::kBF16) {
    return NotSupported("descriptors must be F32 or BF16, not ", DTypeName(d.type));
  }
  return absl::OkStatus();
}

}  // namespace

int64_t SelectBytes(const AttentionPlan& plan, int64_t block_tokens, int64_t gate_width) {
  Carver carver(nullptr);
  CarveScratch(plan, block_tokens, gate_width, carver);
  return carver.bytes() * plan.num_threads + 64;
}

absl::Status Select(const AttentionPlan& plan, const Selector& selector, const SelectBatch& step, const BlockIds& blocks,
                    const Execution& execution) {
  RETURN_IF_ERROR(CheckSelect(plan, selector, step, blocks));
  RETURN_IF_ERROR(CheckWorkspace(plan, execution));
  RETURN_IF_ERROR(CheckLengths(plan, step.lengths, step.batch, step.page_table_stride));
  const int64_t gate_width = selector.kind == SelectorKind::kGate ? step.gate->width : 0;
  const int64_t needed = SelectBytes(plan, selector.block_tokens, gate_width);
  if (static_cast<int64_t>(execution.workspace.size()) < needed) {
    return InvalidArgument("blocks of ", selector.block_tokens, " tokens and a gate of width ", gate_width,
                           " need a workspace of ", needed, " bytes, got ", execution.workspace.size());
  }
  const int64_t bytes = (needed - 64) / plan.num_threads, rows = step.batch * plan.problem.k_heads;
  std::byte* const base = AlignUp(execution.workspace.data());
  const RowSelector row_selector(plan, selector, step, blocks);
  std::atomic<int64_t> next{0};
  const auto work = [&](int thread) {
    if (thread >= plan.num_threads) return;
    Carver carver(base + thread * bytes);
    const Scratch scratch = CarveScratch(plan, selector.block_tokens, gate_width, carver);
    for (int64_t row; (row = next.fetch_add(1, std::memory_order_relaxed)) < rows;) row_selector.Run(row, scratch);
  };
  int64_t tokens = 0;
  for (int64_t b = 0; b < step.batch; ++b) tokens += step.lengths[b];
  const bool small = tokens * plan.problem.k_heads * plan.problem.key_width / selector.block_tokens * 4 < kForkBytes &&
                     selector.kind != SelectorKind::kOracle;
  if (rows <= 1 || small || execution.pool == nullptr) {
    work(0);
  } else {
    execution.pool->RunOnAll(std::ref(work));
  }
  return absl::OkStatus();
}

}  // namespace lectern::attention::cpu
