#include "attention/cuda/inst/select_entry.cuh"

namespace lectern::attention::cuda {

const void* SelectD64(SelectForm form, ScoreKind kind, int* shared, int max_blocks) {
  if (kind == ScoreKind::kQuestHeads) return SelectHeadsOf<64>(shared, max_blocks);
  if (form.ctas == kShortRows.ctas) return SelectKernelOf<64, kShortRows.ctas, kShortRows.warps>(kind, shared, max_blocks);
  return SelectKernelOf<64, kManyRows.ctas, kManyRows.warps>(kind, shared, max_blocks);
}

}  // namespace lectern::attention::cuda
