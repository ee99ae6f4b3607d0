#include "attention/cuda/inst/select_entry.cuh"

namespace lectern::attention::cuda {

const void* SelectD128(SelectForm form, ScoreKind kind, int* shared, int max_blocks) {
  if (kind == ScoreKind::kQuestHeads) return SelectHeadsOf<128>(shared, max_blocks);
  if (form.ctas == kShortRows.ctas) return SelectKernelOf<128, kShortRows.ctas, kShortRows.warps>(kind, shared, max_blocks);
  if (form.ctas == kLongRows.ctas) return SelectKernelOf<128, kLongRows.ctas, kLongRows.warps>(kind, shared, max_blocks);
  return SelectKernelOf<128, kManyRows.ctas, kManyRows.warps>(kind, shared, max_blocks);
}

}  // namespace lectern::attention::cuda
