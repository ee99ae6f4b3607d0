#include "attention/attention.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <functional>

#include "attention/cpu/cpu_kernels.h"
#include "attention/cpu/plan_cpu.h"
#include "attention/cuda/plan_cuda.h"

namespace lectern::attention {
namespace {

using cpu::AlignUp;
using cpu::Carver;
using cpu::CarveTile;
using cpu::TileBytes;
using cpu::TileRows;

constexpr double kLn2 = 0.693147180559945309;

int64_t ElementBytes(const KvView& view) { return cpu::ElementBytes(view.type); }

absl::Status Check(const AttentionPlan& plan, const Queries& queries, const PagedKv& kv,
                   std::span<std::byte> workspace) {
  const Problem& p = plan.problem;
  if (plan.kernels == nullptr) return InvalidArgument("an attention plan must come from Plan()");
  if (queries.q.extent(1) != p.q_heads || queries.q.extent(2) != p.key_width || queries.out.extent(1) != p.q_heads ||
      queries.out.extent(2) != p.value_width || queries.out.extent(0) != queries.q.extent(0)) {
    return InvalidArgument("queries and output must be [query, ", p.q_heads, ", ", p.key_width, " and ",
                           p.value_width, "] as planned");
  }
  if (kv.num_keys < 0 || kv.num_keys > p.max_keys) {
    return InvalidArgument("keys must be in 0..", p.max_keys, " as planned, got ", kv.num_keys);
  }
  if (static_cast<int64_t>(kv.pages.size()) * kPageSlots < kv.num_keys) {
    return InvalidArgument(kv.num_keys, " keys need ", (kv.num_keys + kPageSlots - 1) / kPageSlots,
                           " pages, got ", kv.pages.size());
  }
  RETURN_IF_ERROR(cpu::CheckCache(plan, kv.k, kv.v));
  return cpu::CheckWorkspace(plan, {.workspace = workspace});
}

// What all tiles of a call share; the caller has set the buffers and sets queries and keys.
void SetTile(const AttentionPlan& plan, const Queries& queries, const PagedKv& kv, int64_t kv_head, FlashTile* to) {
  FlashTile& tile = *to;
  tile.q = queries.q.data() + kv_head * plan.group() * queries.q.stride(1);
  tile.q_query_stride = queries.q.stride(0);
  tile.q_head_stride = queries.q.stride(1);
  tile.group = plan.group();
  tile.first_position = kv.num_keys - queries.q.extent(0);
  tile.k = reinterpret_cast<const char*>(kv.k.base) + kv_head * kv.k.head_stride * ElementBytes(kv.k);
  tile.v = reinterpret_cast<const char*>(kv.v.base) + kv_head * kv.v.head_stride * ElementBytes(kv.v);
  tile.k_page_bytes = kv.k.page_stride * ElementBytes(kv.k);
  tile.v_page_bytes = kv.v.page_stride * ElementBytes(kv.v);
  tile.pages = kv.pages.data();
  tile.key_end = kv.num_keys;
  tile.key_width = plan.problem.key_width;
  tile.value_width = plan.problem.value_width;
  tile.causal = plan.variant.mask.kind != MaskKind::kFull;
  tile.window = plan.variant.mask.kind == MaskKind::kSlidingWindow ? plan.variant.mask.window : 0;
  tile.scale = plan.variant.scale;
  tile.soft_cap = plan.variant.soft_cap;
}

// Divides the sums of a finished tile and writes them out. An empty row is zero.
void Finish(const FlashTile& tile, const Queries& queries, int64_t first_query, int64_t first_head) {
  for (int64_t row = 0; row < tile.num_rows; ++row) {
    const int64_t query = first_query + row / tile.group, head = first_head + row % tile.group;
    const float inverse = tile.sum[row] == 0 ? 0.0f : 1.0f / tile.sum[row];
    const float* acc = tile.acc + row * tile.value_width;
    float* out = &queries.out(query, head, 0);
    for (int64_t c = 0; c < tile.value_width; ++c) out[c] = tile.sum[row] == 0 ? 0.0f : acc[c] * inverse;
    if (queries.lse.data() != nullptr) queries.lse(query, head) = cpu::Lse(tile.peak[row], tile.sum[row]);
  }
}

}  // namespace

namespace cpu {

void CarveTile(const AttentionPlan& plan, int64_t rows, Carver& carver, FlashTile* tile) {
  *tile = {};
  tile->packed_q = carver.Take<uint32_t>(rows * plan.problem.key_width);
  tile->acc = carver.Take<float>(rows * plan.problem.value_width);
  tile->peak = carver.Take<float>(rows);
  tile->sum = carver.Take<float>(rows);
  tile->scores = carver.Take<float>(kMaxRowBlock * kPageSlots);
  tile->weights = carver.Take<uint32_t>(kMaxRowBlock * kPageSlots);
  tile->bounds = carver.Take<int64_t>(rows * 2);
}

int64_t TileBytes(const AttentionPlan& plan, int64_t rows) {
  FlashTile tile;
  Carver carver(nullptr);
  CarveTile(plan, rows, carver, &tile);
  return carver.bytes();
}

absl::Status CheckCache(const AttentionPlan& plan, const KvView& k, const KvView& v) {
  const Problem& p = plan.problem;
  if (k.type != p.kv_type || v.type != p.kv_type || k.layout != p.layout || v.layout != p.layout ||
      k.heads != p.k_heads || v.heads != p.v_heads || k.width != p.key_width || v.width != p.value_width) {
    return InvalidArgument("the KV cache does not have the type, layout, heads and widths of the plan");
  }
  return absl::OkStatus();
}

absl::Status CheckWorkspace(const AttentionPlan& plan, const Execution& execution) {
  if (static_cast<int64_t>(execution.workspace.size()) < plan.workspace_bytes) {
    return InvalidArgument("the workspace must have ", plan.workspace_bytes, " bytes, got ", execution.workspace.size());
  }
  return absl::OkStatus();
}

absl::Status CheckLengths(const AttentionPlan& plan, const int32_t* lengths, int64_t batch, int64_t page_table_stride) {
  for (int64_t b = 0; b < batch; ++b) {
    if (lengths[b] < 0 || lengths[b] > plan.problem.max_keys) {
      return InvalidArgument("keys must be in 0..", plan.problem.max_keys, " as planned, got ", lengths[b]);
    }
    if (page_table_stride * kPageSlots < lengths[b]) {
      return InvalidArgument(lengths[b], " keys need ", NumBlocks(lengths[b], kPageSlots), " pages, got rows of ",
                             page_table_stride);
    }
  }
  return absl::OkStatus();
}

}  // namespace cpu

absl::StatusOr<AttentionPlan> Plan(const Problem& problem, const Variant& variant, const Device& device) {
  const Problem& p = problem;
  if (p.q_heads < 1 || p.k_heads < 1 || p.v_heads < 1 || p.key_width < 1 || p.value_width < 1 || p.max_keys < 1) {
    return InvalidArgument("heads, widths and max_keys must be at least 1, got q_heads ", p.q_heads, ", k_heads ",
                           p.k_heads, ", v_heads ", p.v_heads, ", key_width ", p.key_width, ", value_width ",
                           p.value_width, ", max_keys ", p.max_keys);
  }
  if (p.max_batch < 1) return InvalidArgument("max_batch must be at least 1, got ", p.max_batch);
  if (device.num_threads < 1) return InvalidArgument("num_threads must be at least 1, got ", device.num_threads);
  if (variant.mask.kind == MaskKind::kSlidingWindow && variant.mask.window < 1) {
    return InvalidArgument("a sliding window must be at least 1, got ", variant.mask.window);
  }
  if (!(variant.soft_cap >= 0)) return InvalidArgument("soft_cap must not be negative, got ", variant.soft_cap);
  if (device.kind == DeviceKind::kCuda) return cuda::PlanCuda(problem, variant, device);
  if (p.layout != BlockLayout::kLanes) return NotSupported("the CPU kernels need K and V blocks in lanes, not rows");
  if (p.kv_type != DType::kF32 && p.kv_type != DType::kBF16) {
    return NotSupported("the CPU kernels store K and V as F32 or BF16, not ", DTypeName(p.kv_type));
  }
  if (p.k_heads != p.v_heads) {
    return NotSupported("the CPU kernels need as many K heads as V heads, got ", p.k_heads, " and ", p.v_heads);
  }
  if (p.q_heads % p.k_heads != 0) {
    return NotSupported("query heads must be a multiple of KV heads, got ", p.q_heads, " and ", p.k_heads);
  }
  if (p.key_width % 2 != 0) return NotSupported("the key width must be even, got ", p.key_width);
  if (p.value_width % 16 != 0) return NotSupported("the value width must be a multiple of 16, got ", p.value_width);

  AttentionPlan plan{.problem = problem, .variant = variant, .kernels = &KernelsFor(device.target)};
  if (plan.variant.scale == 0) plan.variant.scale = 1 / std::sqrt(static_cast<float>(p.key_width));
  plan.num_threads = device.num_threads;
  // About 60 rows: five blocks of 12 reuse a page from L1, and their sums (60 x 64 floats) stay in L1 or L2 too.
  plan.tile_queries = std::max<int64_t>(1, 60 / plan.group());
  plan.max_splits = cpu::kMaxChunks;
  plan.workspace_bytes = std::max({TileBytes(plan, TileRows(plan)) * plan.num_threads + 64, cpu::DecodeBytes(plan),
                                   cpu::SelectBytes(plan, cpu::kMinSelectBlock, p.key_width),
                                   cpu::AppendBytes(plan, p.key_width)});
  return plan;
}

int64_t AttentionPlan::PredictedBytes(int64_t total_keys, int64_t batch) const {
  const int64_t element = problem.kv_type == DType::kF32 ? 4 : 2;
  const int64_t row = device == DeviceKind::kCuda ? 2 : 4;
  return total_keys * (problem.k_heads * problem.key_width + problem.v_heads * problem.value_width) * element +
         batch * problem.q_heads * (problem.key_width + problem.value_width) * row;
}

std::string AttentionPlan::Explain() const {
  if (device == DeviceKind::kCuda) return cuda::Explain(*this);
  return internal::Concat("kernel flash_", kernels == nullptr ? "none" : kernels->name, "_",
                          problem.kv_type == DType::kF32 ? "f32" : "bf16", ", tile ", tile_queries * group(),
                          " rows x ", kPageSlots, " keys, decode splits <= ", max_splits, ", threads ", num_threads,
                          ", workspace ", workspace_bytes, " bytes, ", PredictedBytes(1, 0), " bytes a key");
}

absl::Status Prefill(const AttentionPlan& plan, const Queries& queries, const PagedKv& kv, ThreadPool& pool,
                     std::span<std::byte> workspace) {
  RETURN_IF_ERROR(Check(plan, queries, kv, workspace));
  const int64_t num_queries = queries.q.extent(0);
  const int64_t tiles = (num_queries + plan.tile_queries - 1) / plan.tile_queries;
  const int64_t items = tiles * plan.problem.k_heads;
  const auto kernel = plan.problem.kv_type == DType::kF32 ? plan.kernels->flash_f32 : plan.kernels->flash_bf16;
  std::byte* const base = AlignUp(workspace.data());
  const int64_t tile_bytes = TileBytes(plan, TileRows(plan));
  std::atomic<int64_t> next{0};
  const auto work = [&](int thread) {
    if (thread >= plan.num_threads) return;
    for (int64_t item; (item = next.fetch_add(1, std::memory_order_relaxed)) < items;) {
      const int64_t kv_head = item % plan.problem.k_heads;
      const int64_t first = (tiles - 1 - item / plan.problem.k_heads) * plan.tile_queries;  // the longest rows first
      Carver carver(base + thread * tile_bytes);
      FlashTile tile;
      CarveTile(plan, TileRows(plan), carver, &tile);
      SetTile(plan, queries, kv, kv_head, &tile);
      tile.q += first * tile.q_query_stride;
      tile.first_position += first;
      tile.num_rows = std::min(plan.tile_queries, num_queries - first) * plan.group();
      kernel(tile);
      Finish(tile, queries, first, kv_head * plan.group());
    }
  };
  if (items == 1) {
    work(0);
  } else {
    pool.RunOnAll(std::ref(work));
  }
  return absl::OkStatus();
}

absl::Status Decode(const AttentionPlan& plan, const Queries& queries, const PagedKv& kv, ThreadPool& pool,
                    std::span<std::byte> workspace) {
  RETURN_IF_ERROR(Check(plan, queries, kv, workspace));
  if (queries.q.extent(0) != 1) return InvalidArgument("Decode takes one query, got ", queries.q.extent(0));
  const int32_t length = static_cast<int32_t>(kv.num_keys);
  const bool with_lse = queries.lse.data() != nullptr;
  const cpu::DecodeRows rows{.q = queries.q.data(), .out = queries.out.data(), .lse = queries.lse.data(),
                             .q_head_stride = queries.q.stride(1), .out_head_stride = queries.out.stride(1),
                             .lse_head_stride = with_lse ? queries.lse.stride(1) : 0, .k = kv.k, .v = kv.v,
                             .page_table = kv.pages.data(),
                             .page_table_stride = static_cast<int64_t>(kv.pages.size()), .lengths = &length, .batch = 1};
  return cpu::Decode(plan, rows, nullptr, {.pool = &pool, .workspace = workspace});
}

absl::Status AddKeyMass(const AttentionPlan& plan, const Queries& queries, const PagedKv& kv, ThreadPool& pool,
                        std::span<std::byte> workspace, std::span<float> mass) {
  RETURN_IF_ERROR(Check(plan, queries, kv, workspace));
  if (queries.q.extent(0) != 1 || queries.lse.data() == nullptr) {
    return InvalidArgument("AddKeyMass takes the one query, with its lse, of a Decode");
  }
  if (static_cast<int64_t>(mass.size()) < kv.num_keys) {
    return InvalidArgument("mass needs an element a key: ", kv.num_keys, ", got ", mass.size());
  }
  const KeyRange range = VisibleKeys(plan.variant.mask, kv.num_keys - 1, kv.num_keys);
  const int64_t first_page = range.begin / kPageSlots, pages = (range.end + kPageSlots - 1) / kPageSlots - first_page;
  const auto kernel = plan.problem.kv_type == DType::kF32 ? plan.kernels->key_mass_f32 : plan.kernels->key_mass_bf16;
  std::byte* const base = AlignUp(workspace.data());
  const int64_t tile_bytes = TileBytes(plan, TileRows(plan));
  const int64_t parts = std::clamp<int64_t>(pages / 4, 1, plan.num_threads);
  const auto work = [&](int thread) {  // a thread owns a range of keys and adds all heads to it
    if (thread >= parts) return;
    KeyMassTile item{};
    for (int64_t kv_head = 0; kv_head < plan.problem.k_heads; ++kv_head) {
      Carver carver(base + thread * tile_bytes);
      CarveTile(plan, TileRows(plan), carver, &item.tile);
      SetTile(plan, queries, kv, kv_head, &item.tile);
      item.tile.num_rows = plan.group();
      item.tile.key_begin = std::max(range.begin, (first_page + pages * thread / parts) * kPageSlots);
      item.tile.key_end = std::min(range.end, (first_page + pages * (thread + 1) / parts) * kPageSlots);
      item.mass = mass.data();
      for (int64_t row = 0; row < plan.group(); ++row) {
        item.tile.peak[row] = static_cast<float>(queries.lse(0, kv_head * plan.group() + row) / kLn2);
      }
      kernel(item);
    }
  };
  if (parts == 1) {
    work(0);
  } else {
    pool.RunOnAll(std::ref(work));
  }
  return absl::OkStatus();
}

}  // namespace lectern::attention
