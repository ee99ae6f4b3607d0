#include "attention/cuda/inst/select_entry.cuh"

namespace lectern::attention::cuda {

// The forms of launch.cc.
extern const CompiledKernel kSelectD128[] = {
    SelectRow<128, ScoreKind::kGateQuery, 4, 8>(), SelectRow<128, ScoreKind::kGateQuery, 8, 8>(), SelectRow<128, ScoreKind::kGateQuery, 8, 16>(),
    SelectRow<128, ScoreKind::kGateQuery, 2, 16>(), SelectRow<128, ScoreKind::kGateQuery, 2, 8>(), SelectRow<128, ScoreKind::kGateProject, 8, 8>(),
    SelectRow<128, ScoreKind::kGateProject, 2, 8>(),
    SelectRow<128, ScoreKind::kResa, 4, 8>(), SelectRow<128, ScoreKind::kResa, 8, 8>(), SelectRow<128, ScoreKind::kResa, 8, 16>(), SelectRow<128, ScoreKind::kResa, 2, 8>(),
    SelectRow<128, ScoreKind::kQuest, 4, 8>(), SelectRow<128, ScoreKind::kQuest, 8, 8>(), SelectRow<128, ScoreKind::kQuest, 8, 16>(), SelectRow<128, ScoreKind::kQuest, 2, 8>(),
    SelectRow<128, ScoreKind::kQuestHeads, 8, 16>(),
};

}  // namespace lectern::attention::cuda
