#include "attention/cuda/plan_cuda.h"

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "attention/cuda/launch.h"

namespace lectern::attention::cuda {
namespace {

// Head widths and groups: what is far out of range stays so.
int Narrow(int64_t n) { return static_cast<int>(std::min<int64_t>(n, 1 << 20)); }

DecodeProblem ToProblem(const AttentionPlan& plan) {
  const Problem& p = plan.problem;
  return {.device = {.ordinal = plan.cuda.device, .processors = plan.cuda.num_blocks,
                     .shared_bytes = static_cast<int>(plan.cuda.shared_limit), .selectors = plan.cuda.selectors, .cluster_ctas = plan.cuda.cluster_ctas},
          .d = Narrow(p.key_width), .group = Narrow(plan.group()), .kv_heads = Narrow(p.k_heads),
          .rows = p.max_batch * p.k_heads, .max_keys = p.max_keys,
          .fp16 = p.kv_type == DType::kF16, .soft_cap = plan.variant.soft_cap > 0, .form = plan.cuda.form == CudaForm::kSm80 ? 1 : 0,
          .chunk_keys = plan.cuda.fixed_chunk_keys};
}

absl::Status FromCuda(int error, const char* what) {
  if (error == 0) return absl::OkStatus();
  return Internal(what, ": ", ErrorName(error));
}

bool Misaligned(const void* p) { return p == nullptr || reinterpret_cast<uintptr_t>(p) % 16 != 0; }

// A step as the plan and the kernels' 32-bit numbers allow it. capacity: of a row's list; 0: no lists.
absl::Status CheckStep(const AttentionPlan& plan, int64_t batch, int64_t page_table_stride, int64_t capacity) {
  const char* why = WhyNoStep(ToProblem(plan), batch, page_table_stride, capacity);
  if (why == nullptr) return absl::OkStatus();
  return InvalidArgument(why, " (device ", plan.cuda.device, ", now ", CurrentDevice(), "; batch ", batch,
                         ", page_table_stride ", page_table_stride, ", capacity ", capacity, ")");
}

// Cache, queries, projections, descriptors and gate weights have one type, the plan's.
absl::Status CheckType(const AttentionPlan& plan, const char* what, DType type) {
  if (type == plan.problem.kv_type) return absl::OkStatus();
  return NotSupported("this CUDA plan takes ", what, " in ", DTypeName(plan.problem.kv_type), ", not ", DTypeName(type));
}

absl::Status CheckPages(const char* what, int64_t num_pages) {
  if (const char* why = WhyNoPages(num_pages)) return InvalidArgument(what, ": ", why, ", got ", num_pages);
  return absl::OkStatus();
}

absl::Status CheckView(const AttentionPlan& plan, const char* name, const KvView& view) {
  const int64_t heads = plan.problem.k_heads, width = plan.problem.key_width;
  if (view.layout != BlockLayout::kRows) return NotSupported("the CUDA kernels need ", name, " in rows");
  RETURN_IF_ERROR(CheckType(plan, name, view.type));
  if (Misaligned(view.base)) return InvalidArgument(name, " must have memory that begins at a multiple of 16 bytes");
  if (view.heads != heads || view.width != width || view.slot_stride != width || view.page_stride % 8 != 0 ||
      view.head_stride % 8 != 0) {
    return InvalidArgument(name, " must have ", heads, " heads of width ", width,
                           ", slots one row apart, strides a multiple of 8 elements");
  }
  return CheckPages(name, view.num_pages);
}

absl::Status CheckDescriptors(const AttentionPlan& plan, const DescriptorView& view, int64_t block_tokens) {
  const int64_t width = plan.problem.key_width;
  RETURN_IF_ERROR(CheckType(plan, "descriptors", view.type));
  if (view.width != width) return InvalidArgument("descriptors must have width ", width, ", got ", view.width);
  if (Misaligned(view.base)) return InvalidArgument("descriptors must have memory that begins at a multiple of 16 bytes");
  if (const char* why = WhyNoDescriptorStrides(view.page_stride, view.head_stride, view.block_stride)) {
    return InvalidArgument(why, ", got ", view.page_stride, " (page), ", view.head_stride, " (head) and ", view.block_stride, " (block)");
  }
  RETURN_IF_ERROR(CheckPages("descriptors", view.num_pages));
  if (const char* why = WhyNoBlocks(block_tokens)) return InvalidArgument(why, ", got ", block_tokens);
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<AttentionPlan> PlanCuda(const Problem& p, const Variant& variant, const Device& device) {
  if (p.layout != BlockLayout::kRows) return NotSupported("the CUDA kernels need K and V blocks in rows");
  if (p.kv_type != DType::kBF16 && p.kv_type != DType::kF16) {
    return NotSupported("the CUDA kernels store K and V as BF16 or F16, not ", DTypeName(p.kv_type));
  }
  if (p.k_heads != p.v_heads) {
    return NotSupported("the CUDA kernels need as many K heads as V heads, got ", p.k_heads, " and ", p.v_heads);
  }
  if (p.key_width != p.value_width) {
    return NotSupported("the CUDA kernels need one width for keys and values, got ", p.key_width, " and ", p.value_width);
  }
  if (p.q_heads % p.k_heads != 0) {
    return NotSupported("query heads must be a multiple of KV heads, got ", p.q_heads, " and ", p.k_heads);
  }
  if (variant.mask.kind == MaskKind::kSlidingWindow) return NotSupported("the CUDA decode kernels have no sliding window");
  AttentionPlan plan{.problem = p, .variant = variant, .device = DeviceKind::kCuda};
  if (plan.variant.scale == 0) plan.variant.scale = 1 / std::sqrt(static_cast<float>(p.key_width));
  plan.cuda.fixed_chunk_keys = device.fixed_chunk_keys;
  plan.cuda.programmatic_launch = device.programmatic_launch;
  plan.cuda.form = device.form;
  CudaDevice on;
  if (const char* why = AskDevice(&on)) return Unavailable(why);
  plan.cuda.device = on.ordinal;
  plan.cuda.num_blocks = on.processors;
  plan.cuda.shared_limit = on.shared_bytes;
  if (device.fixed_chunk_keys < 0) {
    return InvalidArgument("fixed_chunk_keys must not be negative, got ", device.fixed_chunk_keys);
  }
  DecodeChoice choice;
  const char* why = ChooseDecode(ToProblem(plan), &choice);
  if (why == nullptr) why = Prepare(choice, ToProblem(plan), &on);
  if (why != nullptr) {
    return NotSupported(why, " (head width ", p.key_width, ", ", plan.group(), " query heads a KV head, ",
                        p.max_batch * p.k_heads, " rows)");
  }
  plan.cuda.selectors = on.selectors;
  plan.cuda.cluster_ctas = on.cluster_ctas;
  plan.cuda.num_threads = choice.dense.warps * 32;
  plan.cuda.stages = choice.dense.stages;
  plan.cuda.rows = p.max_batch * p.k_heads;
  plan.cuda.shared_bytes = choice.shared;
  plan.workspace_bytes = choice.workspace_bytes;
  return plan;
}

std::string Explain(const AttentionPlan& plan) {
  const CudaSchedule& c = plan.cuda;
  return internal::Concat("kernel decode_", c.form == CudaForm::kSm80 ? "ptx80" : "sm90", "_hd", plan.problem.key_width,
                          plan.problem.kv_type == DType::kF16 ? "_f16" : "_bf16", plan.variant.soft_cap > 0 ? "_capped" : "", ", grid ", c.num_blocks, " x ", c.num_threads, " threads, ", c.stages,
                          " stages of 16 keys a warp, ", c.shared_bytes, " bytes shared, split ",
                          c.fixed_chunk_keys > 0 ? internal::Concat("every ", c.fixed_chunk_keys, " keys") : "stream-K",
                          c.cluster_ctas > 0 ? internal::Concat(", short lists of one sequence in clusters of ", c.cluster_ctas) : "", ", workspace ", plan.workspace_bytes, " bytes, ", plan.PredictedBytes(1, 0), " bytes a key");
}

absl::Status Decode(const AttentionPlan& plan, const DecodeBatch& step, const BlockIds* blocks, const Execution& execution) {
  const Problem& p = plan.problem;
  RETURN_IF_ERROR(CheckView(plan, "K", step.k));
  RETURN_IF_ERROR(CheckView(plan, "V", step.v));
  RETURN_IF_ERROR(CheckType(plan, "queries", step.type));
  if (static_cast<int64_t>(execution.workspace.size()) < plan.workspace_bytes) {
    return InvalidArgument("the workspace must have ", plan.workspace_bytes, " bytes, got ", execution.workspace.size());
  }
  if (step.batch == 0) return absl::OkStatus();
  RETURN_IF_ERROR(CheckStep(plan, step.batch, step.page_table_stride, blocks == nullptr ? 0 : blocks->capacity));
  if (Misaligned(step.q) || Misaligned(step.out)) {
    return InvalidArgument("q and out must have memory that begins at a multiple of 16 bytes");
  }
  if (blocks != nullptr && (blocks->ids == nullptr || blocks->counts == nullptr || blocks->capacity < 1)) {
    return InvalidArgument("lists need ids, counts and a capacity of at least 1, got ", blocks->capacity);
  }
  DecodeChoice choice;
  if (const char* why = ChooseDecode(ToProblem(plan), &choice)) return NotSupported(why);
  const float log2e = 1.4426950408889634f;
  DecodeParams params{.q = step.q, .out = step.out, .lse = step.lse, .k = reinterpret_cast<const char*>(step.k.base),
                      .v = reinterpret_cast<const char*>(step.v.base), .k_page_bytes = step.k.page_stride * 2,
                      .k_head_bytes = step.k.head_stride * 2, .v_page_bytes = step.v.page_stride * 2,
                      .v_head_bytes = step.v.head_stride * 2, .page_table = step.page_table, .lengths = step.lengths};
  if (blocks != nullptr) {
    params.ids = blocks->ids;
    params.counts = blocks->counts;
    params.capacity = static_cast<int>(blocks->capacity);
    params.block_units = static_cast<int>(blocks->block_tokens / kUnitKeys);
  }
  params.page_table_stride = static_cast<int>(step.page_table_stride);
  params.num_pages = PagesToAskFor(std::min(step.k.num_pages, step.v.num_pages));
  params.batch = static_cast<int>(step.batch);
  params.kv_heads = static_cast<int>(p.k_heads);
  params.group = static_cast<int>(plan.group());
  params.scale_log2 = plan.variant.scale * log2e;
  if (plan.variant.soft_cap > 0) {
    params.cap_in = plan.variant.scale / plan.variant.soft_cap;
    params.cap_out = plan.variant.soft_cap * log2e;
  }
  BindWorkspace(choice, execution.workspace.data(), &params);
  return FromCuda(LaunchDecode(ToProblem(plan), choice, params, blocks != nullptr, plan.cuda.programmatic_launch, execution.stream),
                  "decode");
}

namespace {

ScoreKind KindOf(const Selector& s, bool query_projected) {
  switch (s.kind) {
    case SelectorKind::kGate: return query_projected ? ScoreKind::kGateQuery : ScoreKind::kGateProject;
    case SelectorKind::kQuest: return s.per_head ? ScoreKind::kQuestHeads : ScoreKind::kQuest;
    case SelectorKind::kResa: return ScoreKind::kResa;
    case SelectorKind::kOracle: return ScoreKind::kOracle;
  }
  return ScoreKind::kGateQuery;
}

}  // namespace

absl::Status PrepareSelect(const AttentionPlan& plan, const Selector& s, bool query_projected) {
  const char* why = cuda::PrepareSelect(ToProblem(plan), KindOf(s, query_projected), s.block_tokens);
  return why == nullptr ? absl::OkStatus() : NotSupported(why);
}

absl::Status Select(const AttentionPlan& plan, const Selector& s, const SelectBatch& batch, const BlockIds& blocks,
                    const Execution& execution) {
  const Problem& p = plan.problem;
  RETURN_IF_ERROR(CheckType(plan, "queries", batch.type));
  const ScoreKind kind = KindOf(s, batch.query_projected);
  if (kind == ScoreKind::kOracle) {
    RETURN_IF_ERROR(CheckView(plan, "K", batch.k));
  } else {
    RETURN_IF_ERROR(CheckDescriptors(plan, batch.descriptors, s.block_tokens));
  }
  SelectParams params{};
  params.score_scale = s.kind == SelectorKind::kQuest ? 1.0f : 1 / std::sqrt(static_cast<float>(p.key_width));
  if (s.kind == SelectorKind::kGate) {
    if (batch.gate == nullptr || batch.gate->width != p.key_width) {
      return NotSupported("the CUDA gate needs the width of a head, ", p.key_width);
    }
    if (!batch.query_projected) RETURN_IF_ERROR(CheckType(plan, "gate weights", batch.gate->type));
    params.gate_weights = batch.gate->query_weights;
    params.gate_norm = batch.gate->query_norm;
    params.frequencies = batch.gate->frequencies;
    params.norm_eps = batch.gate->norm_eps;
    params.rope_scale = batch.gate->rope_scale;
  }
  if (const char* why = WhyNoSelect(ToProblem(plan), kind, s.block_tokens)) return NotSupported(why);
  if (batch.batch == 0) return absl::OkStatus();
  RETURN_IF_ERROR(CheckStep(plan, batch.batch, batch.page_table_stride, blocks.capacity));
  if (Misaligned(batch.q) || blocks.ids == nullptr || blocks.counts == nullptr || blocks.capacity < 1) {
    return InvalidArgument("a selector needs q at a multiple of 16 bytes, ids, counts and a capacity of at least 1, got ", blocks.capacity);
  }
  const int64_t max_blocks = NumBlocks(p.max_keys, s.block_tokens);
  // More blocks than a sequence has say the same as all of them, and fit 32 bits.
  const auto blocks_of = [&](int64_t n) { return static_cast<int>(std::min(n, max_blocks)); };
  params.q = batch.q;
  params.descriptors = reinterpret_cast<const char*>(batch.descriptors.base);
  params.page_bytes = batch.descriptors.page_stride * 2;
  params.head_bytes = batch.descriptors.head_stride * 2;
  params.block_bytes = batch.descriptors.block_stride * 2;
  params.num_pages = PagesToAskFor(batch.descriptors.num_pages);
  if (kind == ScoreKind::kOracle) {
    const float log2e = 1.4426950408889634f;
    params.descriptors = reinterpret_cast<const char*>(batch.k.base);
    params.page_bytes = batch.k.page_stride * 2;
    params.head_bytes = batch.k.head_stride * 2;
    params.score_scale = plan.variant.scale * log2e;
    if (plan.variant.soft_cap > 0) {
      params.cap_in = plan.variant.scale / plan.variant.soft_cap;
      params.cap_out = plan.variant.soft_cap * log2e;
    }
  }
  params.page_table = batch.page_table;
  params.lengths = batch.lengths;
  params.ids = blocks.ids;
  params.counts = blocks.counts;
  params.page_table_stride = static_cast<int>(batch.page_table_stride);
  params.batch = static_cast<int>(batch.batch);
  params.kv_heads = static_cast<int>(p.k_heads);
  params.group = static_cast<int>(plan.group());
  params.capacity = static_cast<int>(blocks.capacity);
  params.block_tokens = static_cast<int>(s.block_tokens);
  params.mode = static_cast<int>(s.mode);
  params.budget_blocks = blocks_of(s.budget_tokens / s.block_tokens);
  params.ratio_per_mille = static_cast<int>(s.ratio_per_mille);
  params.min_blocks = blocks_of(s.min_blocks);
  params.first_blocks = blocks_of(s.first_blocks);
  params.last_blocks = blocks_of(s.last_blocks);
  params.dense_below = static_cast<int>(std::min(s.dense_below, p.max_keys));
  params.count_forced = s.count_forced;
  params.zero_placeholder = s.gate_zero_placeholder;
  params.threshold = s.threshold;
  params.max_blocks = static_cast<int>(max_blocks);
  return FromCuda(LaunchSelect(ToProblem(plan), params, kind, plan.cuda.programmatic_launch, execution.stream),
                  "select");
}

absl::Status Append(const AttentionPlan& plan, const AppendBatch& batch, const AppendConfig& config, const Execution& execution) {
  const Problem& p = plan.problem;
  RETURN_IF_ERROR(CheckView(plan, "K", batch.k));
  RETURN_IF_ERROR(CheckView(plan, "V", batch.v));
  RETURN_IF_ERROR(CheckType(plan, "a projection", batch.type));
  if (config.min_max_block_tokens < 0 || config.gate_block_tokens < 0) {
    return InvalidArgument("block tokens must not be negative, got ", config.min_max_block_tokens, " and ", config.gate_block_tokens);
  }
  AppendParams params{};
  if (config.min_max_block_tokens > 0) {
    RETURN_IF_ERROR(CheckDescriptors(plan, batch.min_max, config.min_max_block_tokens));
    params.min_max = reinterpret_cast<char*>(batch.min_max.base);
    params.min_max_page_bytes = batch.min_max.page_stride * 2;
    params.min_max_head_bytes = batch.min_max.head_stride * 2;
    params.min_max_block_bytes = batch.min_max.block_stride * 2;
    params.min_max_block_tokens = static_cast<int>(config.min_max_block_tokens);
  }
  if (config.gate_block_tokens > 0) {
    RETURN_IF_ERROR(CheckDescriptors(plan, batch.gate_keys, config.gate_block_tokens));
    if (batch.gate == nullptr || batch.pool == nullptr || Misaligned(batch.gate->key_weights) || batch.gate->type != p.kv_type || batch.gate->width != p.key_width) {
      return InvalidArgument("gate keys need a pool and a gate in ", DTypeName(p.kv_type), " of width ", p.key_width);
    }
    params.gate_keys = reinterpret_cast<char*>(batch.gate_keys.base);
    params.gate_page_bytes = batch.gate_keys.page_stride * 2;
    params.gate_head_bytes = batch.gate_keys.head_stride * 2;
    params.gate_block_bytes = batch.gate_keys.block_stride * 2;
    params.gate_weights = batch.gate->key_weights;
    params.gate_norm = batch.gate->key_norm;
    params.gate_frequencies = batch.gate->frequencies;
    params.gate_norm_eps = batch.gate->norm_eps;
    params.gate_rope_scale = batch.gate->rope_scale;
    params.pool = batch.pool;
    params.committed_pool = batch.committed_pool;
    params.commit = batch.commit;
    params.gate_block_tokens = static_cast<int>(config.gate_block_tokens);
    params.gate_pos_compat = config.gate_pos_compat;
  }
  if (batch.batch == 0) return absl::OkStatus();
  RETURN_IF_ERROR(CheckStep(plan, batch.batch, batch.page_table_stride, 0));
  if (batch.qkv == nullptr || batch.q == nullptr) return InvalidArgument("append needs qkv and q");
  params.qkv = batch.qkv;
  params.bias = batch.bias;
  params.q = batch.q;
  params.gate_q = batch.gate_q;
  params.k = reinterpret_cast<char*>(batch.k.base);
  params.v = reinterpret_cast<char*>(batch.v.base);
  params.k_page_bytes = batch.k.page_stride * 2;
  params.k_head_bytes = batch.k.head_stride * 2;
  params.v_page_bytes = batch.v.page_stride * 2;
  params.v_head_bytes = batch.v.head_stride * 2;
  params.q_norm = config.q_norm;
  params.k_norm = config.k_norm;
  params.norm_eps = config.norm_eps;
  params.frequencies = config.frequencies;
  params.rope_scale = config.rope_scale;
  params.page_table = batch.page_table;
  params.lengths = batch.lengths;
  params.copy_from = batch.copy_from;
  params.page_table_stride = static_cast<int>(batch.page_table_stride);
  params.batch = static_cast<int>(batch.batch);
  params.kv_heads = static_cast<int>(p.k_heads);
  params.group = static_cast<int>(plan.group());
  return FromCuda(LaunchAppend(ToProblem(plan), params, plan.cuda.programmatic_launch, execution.stream), "append");
}

absl::Status ClearWorkspace(const AttentionPlan& plan, const Execution& execution) {
  if (static_cast<int64_t>(execution.workspace.size()) < plan.workspace_bytes) {
    return InvalidArgument("the workspace must have ", plan.workspace_bytes, " bytes, got ", execution.workspace.size());
  }
  return FromCuda(ClearBytes(execution.workspace.data(), plan.workspace_bytes, execution.stream), "clear");
}

}  // namespace lectern::attention::cuda
