// attention/cuda/plan_cuda.h: the CUDA side of Plan() and of the batched calls, in plain C++.
//
//   ASSIGN_OR_RETURN(AttentionPlan plan, cuda::PlanCuda(problem, variant, device));
//
// Shapes:  as attention/attention.h.
// Threads: as attention/attention.h.
// Errors:  kUnimplemented for every call where the build has no CUDA kernels.
// Cost:    planning asks the device what it has and prepares the kernels it may launch, about a second for each that is not
//          in the closed list (kernels.h); a call is one launch.
#pragma once

#include "attention/attention.h"

namespace lectern::attention::cuda {

absl::StatusOr<AttentionPlan> PlanCuda(const Problem& problem, const Variant& variant, const Device& device);
std::string Explain(const AttentionPlan& plan);
absl::Status Decode(const AttentionPlan& plan, const DecodeBatch& step, const BlockIds* blocks,
                    const Execution& execution);
absl::Status PrepareSelect(const AttentionPlan& plan, const Selector& selector, bool query_projected);
absl::Status Select(const AttentionPlan& plan, const Selector& selector, const SelectBatch& batch,
                    const BlockIds& blocks, const Execution& execution);
absl::Status Append(const AttentionPlan& plan, const AppendBatch& batch, const AppendConfig& config,
                    const Execution& execution);
absl::Status ClearWorkspace(const AttentionPlan& plan, const Execution& execution);

}  // namespace lectern::attention::cuda
