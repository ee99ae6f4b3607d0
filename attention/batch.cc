// The batched calls: they look at the plan's device and go there.
#include "attention/batch.h"

#include "attention/attention.h"
#include "attention/cuda/plan_cuda.h"

namespace lectern::attention {
namespace {

absl::Status CheckBatch(const AttentionPlan& plan, int64_t batch, const int32_t* lengths, const int32_t* page_table) {
  if (batch < 0 || batch > plan.problem.max_batch) {
    return InvalidArgument("batch must be in 0..", plan.problem.max_batch, " as planned, got ", batch);
  }
  if (batch > 0 && (lengths == nullptr || page_table == nullptr)) {
    return InvalidArgument("a batched call needs lengths and a page table");
  }
  return absl::OkStatus();
}

absl::Status NoCpu(const char* what) { return NotSupported("the CPU kernels have no ", what); }

}  // namespace

absl::Status Decode(const AttentionPlan& plan, const DecodeBatch& step, const Execution& execution) {
  RETURN_IF_ERROR(CheckBatch(plan, step.batch, step.lengths, step.page_table));
  if (plan.device == DeviceKind::kCuda) return cuda::Decode(plan, step, nullptr, execution);
  if (step.type != DType::kF32) return NotSupported("the CPU kernels take F32 queries, not ", DTypeName(step.type));
  if (execution.pool == nullptr) return InvalidArgument("a CPU call needs a thread pool");
  const Problem& p = plan.problem;
  for (int64_t b = 0; b < step.batch; ++b) {
    const int64_t length = step.lengths[b];
    const PagedKv kv{.k = step.k, .v = step.v,
                     .pages = std::span(step.page_table + b * step.page_table_stride, NumBlocks(length, kPageSlots)),
                     .num_keys = length};
    Queries queries{.q = {static_cast<const float*>(step.q) + b * p.q_heads * p.key_width, {1, p.q_heads, p.key_width}},
                    .out = {static_cast<float*>(step.out) + b * p.q_heads * p.value_width, {1, p.q_heads, p.value_width}}};
    if (step.lse != nullptr) queries.lse = {step.lse + b * p.q_heads, {1, p.q_heads}};
    RETURN_IF_ERROR(Decode(plan, queries, kv, *execution.pool, execution.workspace));
  }
  return absl::OkStatus();
}

absl::Status SparseDecode(const AttentionPlan& plan, const DecodeBatch& step, const BlockIds& blocks,
                          const Execution& execution) {
  RETURN_IF_ERROR(CheckBatch(plan, step.batch, step.lengths, step.page_table));
  if (blocks.block_tokens < 16 || blocks.block_tokens % 16 != 0) {
    return NotSupported("block_tokens must be a multiple of 16, got ", blocks.block_tokens);
  }
  if (plan.device == DeviceKind::kCuda) return cuda::Decode(plan, step, &blocks, execution);
  return NoCpu("block-sparse decode");
}

absl::Status Select(const AttentionPlan& plan, const Selector& selector, const SelectBatch& batch,
                    const BlockIds& blocks, const Execution& execution) {
  RETURN_IF_ERROR(CheckSelector(selector));
  RETURN_IF_ERROR(CheckBatch(plan, batch.batch, batch.lengths, batch.page_table));
  if (blocks.block_tokens != selector.block_tokens) {
    return InvalidArgument("the list must have the selector's block_tokens ", selector.block_tokens, ", got ",
                           blocks.block_tokens);
  }
  if (plan.device == DeviceKind::kCuda) return cuda::Select(plan, selector, batch, blocks, execution);
  return NoCpu("selector");
}

absl::Status Append(const AttentionPlan& plan, const AppendBatch& batch, const AppendConfig& config,
                    const Execution& execution) {
  RETURN_IF_ERROR(CheckBatch(plan, batch.batch, batch.lengths, batch.page_table));
  if (plan.device == DeviceKind::kCuda) return cuda::Append(plan, batch, config, execution);
  return NoCpu("append");
}

absl::Status ClearWorkspace(const AttentionPlan& plan, const Execution& execution) {
  return plan.device == DeviceKind::kCuda ? cuda::ClearWorkspace(plan, execution) : absl::OkStatus();
}

}  // namespace lectern::attention
