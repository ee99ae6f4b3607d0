// One query of each sequence, over every key or over listed blocks.
//
// Dataflow  a row is a (sequence, KV head). Its keys are cut into chunks by a rule that knows nothing but their number:
//           threads take (row, chunk) items in order, and whoever finishes the last chunk of a row merges the partial
//           sums of the row in the order of the chunks. So a result has the same bits for any number of threads, beside
//           any other sequences, and in every run.
// Bytes     K and V of the listed keys once; partial sums are (value_width + 2) * 4 bytes a chunk and query head, at most
//           kMaxChunks of them a row: 1.9 KiB beside 128 KiB of keys and more, at 7 heads of 64.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <functional>
#include <limits>
#include <new>

#include "attention/cpu/plan_cpu.h"

namespace lectern::attention::cpu {
namespace {

constexpr double kLn2 = 0.693147180559945309;
constexpr int64_t kChunkBytes = 128 << 10;  // 6 us at 20 GB/s: a merge of 0.2 us is lost in it

// Adds the state of `b`, of the same rows, to `a` (the softmax monoid).
void Merge(const FlashTile& a, const FlashTile& b) {
  for (int64_t row = 0; row < a.num_rows; ++row) {
    if (b.sum[row] == 0) continue;
    const float peak = std::max(a.peak[row], b.peak[row]);
    const float keep = a.sum[row] == 0 ? 0.0f : std::exp2(a.peak[row] - peak), add = std::exp2(b.peak[row] - peak);
    a.sum[row] = a.sum[row] * keep + b.sum[row] * add;
    a.peak[row] = peak;
    float* to = a.acc + row * a.value_width;
    const float* from = b.acc + row * a.value_width;
    for (int64_t c = 0; c < a.value_width; ++c) to[c] = to[c] * keep + from[c] * add;
  }
}

FlashTile CarvePartial(const AttentionPlan& plan, Carver& carver) {
  FlashTile tile{};
  tile.acc = carver.Take<float>(plan.group() * plan.problem.value_width);
  tile.peak = carver.Take<float>(plan.group());
  tile.sum = carver.Take<float>(plan.group());
  return tile;
}

int64_t PartialBytes(const AttentionPlan& plan) {
  Carver carver(nullptr);
  CarvePartial(plan, carver);
  return carver.bytes();
}

// What the threads share.
struct Shared {
  int64_t* starts;             // [row + 1]: the first item of a row
  std::atomic<int32_t>* done;  // [row]: chunks finished
  std::byte* partials;
};

Shared CarveShared(int64_t rows, Carver& carver) {
  Shared shared;
  shared.starts = carver.Take<int64_t>(rows + 1);
  shared.done = carver.Take<std::atomic<int32_t>>(rows);
  shared.partials = carver.at();
  return shared;
}

// The keys of a row: a range, or the listed blocks within it.
struct Keys {
  KeyRange range;
  const int32_t* blocks = nullptr;
  int64_t num_blocks = 0, chunk = 0, chunks = 0;  // chunk: keys of a chunk, or its blocks
};

}  // namespace

int64_t DecodeBytes(const AttentionPlan& plan) {
  const int64_t rows = plan.problem.max_batch * plan.problem.k_heads;
  Carver carver(nullptr);
  CarveShared(rows, carver);
  const int64_t chunks = std::clamp<int64_t>(plan.problem.max_keys / plan.ChunkKeys(1) + 2, 1, kMaxChunks);
  return TileBytes(plan, plan.group()) * plan.num_threads + carver.bytes() + rows * chunks * PartialBytes(plan) + 64;
}

float Lse(float peak, float sum) {
  return sum == 0 ? -std::numeric_limits<float>::infinity()
                  : static_cast<float>(peak * kLn2 + std::log(static_cast<double>(sum)));
}

absl::Status Decode(const AttentionPlan& plan, const DecodeRows& step, const BlockIds* blocks, const Execution& execution) {
  const Problem& p = plan.problem;
  RETURN_IF_ERROR(CheckCache(plan, step.k, step.v));
  RETURN_IF_ERROR(CheckWorkspace(plan, execution));
  RETURN_IF_ERROR(CheckLengths(plan, step.lengths, step.batch, step.page_table_stride));
  const int64_t num_rows = step.batch * p.k_heads, group = plan.group();
  const int64_t key_bytes = (p.key_width + p.value_width) * ElementBytes(p.kv_type);

  const auto keys_of = [&](int64_t row) {
    const int64_t length = step.lengths[row / p.k_heads];
    Keys keys{.range = VisibleKeys(plan.variant.mask, length - 1, length)};
    if (blocks != nullptr && blocks->counts[row] == 0) keys.range = {};
    if (blocks == nullptr || blocks->counts[row] <= 0) {
      const int64_t num_keys = keys.range.end - keys.range.begin / kPageSlots * kPageSlots;
      keys.chunk = plan.ChunkKeys(num_keys);
      keys.chunks = (num_keys + keys.chunk - 1) / keys.chunk;
    } else {
      keys.blocks = blocks->ids + row * blocks->capacity;
      keys.num_blocks = blocks->counts[row];
      keys.chunk = (plan.ChunkKeys(keys.num_blocks * blocks->block_tokens) + blocks->block_tokens - 1) / blocks->block_tokens;
      keys.chunks = (keys.num_blocks + keys.chunk - 1) / keys.chunk;
    }
    keys.chunks = std::max<int64_t>(keys.chunks, 1);  // an empty row writes its zeros too
    return keys;
  };

  const int64_t tile_bytes = TileBytes(plan, group), partial_bytes = PartialBytes(plan);
  std::byte* const base = AlignUp(execution.workspace.data());
  Carver carver(base + plan.num_threads * tile_bytes);
  const Shared shared = CarveShared(num_rows, carver);
  int64_t items = 0, total_keys = 0;
  for (int64_t row = 0; row < num_rows; ++row) {
    const int64_t length = step.lengths[row / p.k_heads];
    if (blocks != nullptr && blocks->counts[row] != kAllBlocks) {
      const int64_t count = blocks->counts[row], all = NumBlocks(length, blocks->block_tokens);
      if (count < 0 || count > std::min(blocks->capacity, all)) {
        return InvalidArgument("row ", row, " lists ", count, " blocks, outside 0..", std::min(blocks->capacity, all));
      }
      int64_t last = -1;
      for (int64_t i = 0; i < count; ++i) {
        const int64_t id = blocks->ids[row * blocks->capacity + i];
        if (id <= last || id >= all) {
          return InvalidArgument("blocks must ascend within 0..", all - 1, ", got ", id, " after ", last, " in row ", row);
        }
        last = id;
      }
      total_keys += count * blocks->block_tokens;
    } else {
      total_keys += length;
    }
    shared.starts[row] = items;
    items += keys_of(row).chunks;
    new (&shared.done[row]) std::atomic<int32_t>(0);
  }
  shared.starts[num_rows] = items;

  const auto kernel = p.kv_type == DType::kF32 ? plan.kernels->flash_f32 : plan.kernels->flash_bf16;
  const auto finish = [&](int64_t row, int64_t chunks) {
    const auto partial = [&](int64_t chunk) {
      Carver at(shared.partials + (shared.starts[row] + chunk) * partial_bytes);
      FlashTile tile = CarvePartial(plan, at);
      tile.num_rows = group;
      tile.value_width = p.value_width;
      return tile;
    };
    const FlashTile whole = partial(0);
    for (int64_t chunk = 1; chunk < chunks; ++chunk) Merge(whole, partial(chunk));
    const int64_t b = row / p.k_heads;
    for (int64_t i = 0; i < group; ++i) {
      const int64_t head = row % p.k_heads * group + i;
      const float inverse = whole.sum[i] == 0 ? 0.0f : 1.0f / whole.sum[i];
      const float* acc = whole.acc + i * p.value_width;
      float* out = step.out + b * step.out_batch_stride + head * step.out_head_stride;
      for (int64_t c = 0; c < p.value_width; ++c) out[c] = whole.sum[i] == 0 ? 0.0f : acc[c] * inverse;
      if (step.lse != nullptr) {
        step.lse[b * step.lse_batch_stride + head * step.lse_head_stride] = Lse(whole.peak[i], whole.sum[i]);
      }
    }
  };
  std::atomic<int64_t> next{0};
  // The next item that nobody has taken; false at the end.
  struct Item {
    FlashTile tile;
    int64_t item, row, chunks;
  };
  const auto take = [&](int thread, int64_t from_row, Item* to) {
    const int64_t item = next.fetch_add(1, std::memory_order_relaxed);
    if (item >= items) return false;
    int64_t row = from_row;
    while (shared.starts[row + 1] <= item) ++row;
    const int64_t b = row / p.k_heads, kv_head = row % p.k_heads, chunk = item - shared.starts[row];
    const Keys keys = keys_of(row);
    Carver at(shared.partials + item * partial_bytes);
    FlashTile tile = CarvePartial(plan, at);
    FlashTile buffers{};
    Carver own(base + thread * tile_bytes);
    CarveTile(plan, group, own, &buffers);
    tile.packed_q = buffers.packed_q;
    tile.scores = buffers.scores;
    tile.weights = buffers.weights;
    tile.bounds = buffers.bounds;
    tile.q = step.q + b * step.q_batch_stride + kv_head * group * step.q_head_stride;
    tile.q_head_stride = step.q_head_stride;
    tile.group = tile.num_rows = group;
    tile.first_position = step.lengths[b] - 1;
    tile.k = reinterpret_cast<const char*>(step.k.base) + kv_head * step.k.head_stride * ElementBytes(p.kv_type);
    tile.v = reinterpret_cast<const char*>(step.v.base) + kv_head * step.v.head_stride * ElementBytes(p.kv_type);
    tile.k_page_bytes = step.k.page_stride * ElementBytes(p.kv_type);
    tile.v_page_bytes = step.v.page_stride * ElementBytes(p.kv_type);
    tile.pages = step.page_table + b * step.page_table_stride;
    tile.key_width = p.key_width;
    tile.value_width = p.value_width;
    tile.scale = plan.variant.scale;
    tile.soft_cap = plan.variant.soft_cap;
    tile.key_begin = keys.range.begin;
    tile.key_end = keys.range.end;
    if (keys.blocks != nullptr) {
      tile.blocks = keys.blocks + chunk * keys.chunk;
      tile.num_blocks = std::min(keys.chunk, keys.num_blocks - chunk * keys.chunk);
      tile.block_tokens = blocks->block_tokens;
    } else {
      const int64_t first = keys.range.begin / kPageSlots * kPageSlots + chunk * keys.chunk;
      tile.key_begin = std::max(tile.key_begin, first);
      tile.key_end = std::min(tile.key_end, first + keys.chunk);
    }
    *to = {tile, item, row, keys.chunks};
    return true;
  };
  const auto work = [&](int thread) {
    if (thread >= plan.num_threads) return;
    Item now{}, then{};
    for (bool more = take(thread, 0, &now); more; now = then) {
      // The first keys of the next item come in under the last products of this one; the last items wait for who is free.
      const bool early = now.item + 2 * plan.num_threads < items;
      if (early) more = take(thread, now.row, &then);
      now.tile.then = early && more ? &then.tile : nullptr;
      kernel(now.tile);
      if (shared.done[now.row].fetch_add(1, std::memory_order_acq_rel) + 1 == now.chunks) finish(now.row, now.chunks);
      if (!early) more = take(thread, now.row, &then);
      then.tile.asked = early;
    }
  };
  if (items <= 1 || total_keys * key_bytes < kForkBytes || execution.pool == nullptr) {
    work(0);
  } else {
    execution.pool->RunOnAll(std::ref(work));
  }
  return absl::OkStatus();
}

}  // namespace lectern::attention::cpu

namespace lectern::attention {

int64_t AttentionPlan::ChunkKeys(int64_t num_keys) const {
  const int64_t key_bytes = (problem.key_width + problem.value_width) * cpu::ElementBytes(problem.kv_type);
  constexpr int64_t kUnit = 2 * kPageSlots;  // blocks of 16, 32, 64 and 128 end where chunks of all keys end
  const int64_t least = std::clamp<int64_t>((cpu::kChunkBytes / key_bytes + kUnit - 1) / kUnit * kUnit, kUnit, 1024);
  const int64_t even = (num_keys + kUnit * cpu::kMaxChunks - 1) / (kUnit * cpu::kMaxChunks) * kUnit;
  return std::max(least, even);
}

}  // namespace lectern::attention
