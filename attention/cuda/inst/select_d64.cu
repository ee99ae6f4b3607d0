#include "attention/cuda/inst/select_entry.cuh"

namespace lectern::attention::cuda {

// The forms of launch.cc.
extern const CompiledKernel kSelectD64[] = {
    SelectRow<64, ScoreKind::kGateQuery, 4, 8>(), SelectRow<64, ScoreKind::kGateQuery, 2, 8>(),
    SelectRow<64, ScoreKind::kGateProject, 8, 8>(), SelectRow<64, ScoreKind::kGateProject, 2, 8>(),
    SelectRow<64, ScoreKind::kResa, 4, 8>(), SelectRow<64, ScoreKind::kResa, 2, 8>(),
    SelectRow<64, ScoreKind::kQuest, 4, 8>(), SelectRow<64, ScoreKind::kQuest, 2, 8>(),
    SelectRow<64, ScoreKind::kQuestHeads, 8, 8>(),
};

}  // namespace lectern::attention::cuda
