// What a build without CUDA says.
#include "attention/cuda/plan_cuda.h"

namespace lectern::attention::cuda {
namespace {
absl::Status NoCuda() {
  return NotSupported("this build has no CUDA kernels: configure with -DLECTERN_CUDA=ON (preset cuda)");
}
}  // namespace

absl::StatusOr<AttentionPlan> PlanCuda(const Problem&, const Variant&, const Device&) { return NoCuda(); }
std::string Explain(const AttentionPlan&) { return "no CUDA kernels in this build"; }
absl::Status Decode(const AttentionPlan&, const DecodeBatch&, const BlockIds*, const Execution&) { return NoCuda(); }
absl::Status PrepareSelect(const AttentionPlan&, const Selector&, bool) { return NoCuda(); }
absl::Status Select(const AttentionPlan&, const Selector&, const SelectBatch&, const BlockIds&, const Execution&) {
  return NoCuda();
}
absl::Status Append(const AttentionPlan&, const AppendBatch&, const AppendConfig&, const Execution&) { return NoCuda(); }
absl::Status ClearWorkspace(const AttentionPlan&, const Execution&) { return NoCuda(); }

}  // namespace lectern::attention::cuda
