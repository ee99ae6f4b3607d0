// The batched calls: they look at the plan's device and go there.
#include "attention/batch.h"

#include <algorithm>

#include "attention/attention.h"
#include "attention/cpu/plan_cpu.h"
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

absl::Status DecodeOnCpu(const AttentionPlan& plan, const DecodeBatch& step, const BlockIds* blocks,
                         const Execution& execution) {
  const Problem& p = plan.problem;
  if (step.type != DType::kF32) return NotSupported("the CPU kernels take F32 queries, not ", DTypeName(step.type));
  if (execution.pool == nullptr) return InvalidArgument("a CPU call needs a thread pool");
  const cpu::DecodeRows rows{.q = static_cast<const float*>(step.q), .out = static_cast<float*>(step.out), .lse = step.lse,
                             .q_batch_stride = p.q_heads * p.key_width, .q_head_stride = p.key_width,
                             .out_batch_stride = p.q_heads * p.value_width, .out_head_stride = p.value_width,
                             .lse_batch_stride = p.q_heads, .lse_head_stride = 1, .k = step.k, .v = step.v,
                             .page_table = step.page_table, .page_table_stride = step.page_table_stride,
                             .lengths = step.lengths, .batch = step.batch};
  return cpu::Decode(plan, rows, blocks, execution);
}

}  // namespace

absl::Status Decode(const AttentionPlan& plan, const DecodeBatch& step, const Execution& execution) {
  RETURN_IF_ERROR(CheckBatch(plan, step.batch, step.lengths, step.page_table));
  if (plan.device == DeviceKind::kCuda) return cuda::Decode(plan, step, nullptr, execution);
  return DecodeOnCpu(plan, step, nullptr, execution);
}

absl::Status SparseDecode(const AttentionPlan& plan, const DecodeBatch& step, const BlockIds& blocks,
                          const Execution& execution) {
  RETURN_IF_ERROR(CheckBatch(plan, step.batch, step.lengths, step.page_table));
  if (blocks.block_tokens < 16 || blocks.block_tokens % 16 != 0) {
    return NotSupported("block_tokens must be a multiple of 16, got ", blocks.block_tokens);
  }
  if (blocks.block_tokens >= 1 << 24) {
    return NotSupported("block_tokens must be below 16777216, got ", blocks.block_tokens);
  }
  if (plan.device == DeviceKind::kCuda) return cuda::Decode(plan, step, &blocks, execution);
  return DecodeOnCpu(plan, step, &blocks, execution);
}

absl::Status PrepareSelect(const AttentionPlan& plan, const Selector& selector, bool query_projected) {
  RETURN_IF_ERROR(CheckSelector(selector));
  return plan.device == DeviceKind::kCuda ? cuda::PrepareSelect(plan, selector, query_projected) : absl::OkStatus();
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
  return cpu::Select(plan, selector, batch, blocks, execution);
}

absl::Status CheckCopyOnWrite(const AppendBatch& batch, const AppendConfig& config) {
  const int64_t longest = std::max(config.min_max_block_tokens, config.gate_block_tokens);
  if (batch.copy_from != nullptr && longest > kPageSlots) {
    return NotSupported("copy_from serves blocks of up to a page of ", kPageSlots, " tokens, got ", longest,
                        ": the descriptor of a longer block lies with a page that stays shared");
  }
  return absl::OkStatus();
}

absl::Status Append(const AttentionPlan& plan, const AppendBatch& batch, const AppendConfig& config,
                    const Execution& execution) {
  RETURN_IF_ERROR(CheckBatch(plan, batch.batch, batch.lengths, batch.page_table));
  RETURN_IF_ERROR(CheckCopyOnWrite(batch, config));
  if (plan.device == DeviceKind::kCuda) return cuda::Append(plan, batch, config, execution);
  return cpu::Append(plan, batch, config, execution);
}

absl::Status ClearWorkspace(const AttentionPlan& plan, const Execution& execution) {
  return plan.device == DeviceKind::kCuda ? cuda::ClearWorkspace(plan, execution) : absl::OkStatus();
}

}  // namespace lectern::attention
