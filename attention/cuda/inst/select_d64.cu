#include "attention/cuda/inst/select_entry.cuh"

namespace lectern::attention::cuda {

// The forms of launch.h, and a CTA a head where each head chooses.
extern const CompiledKernel kSelectD64[] = {
    SelectRow<64, ScoreKind::kGateQuery, 4, 8>(), SelectRow<64, ScoreKind::kGateProject, 4, 8>(),
    SelectRow<64, ScoreKind::kResa, 4, 8>(), SelectRow<64, ScoreKind::kQuest, 4, 8>(),
    SelectRow<64, ScoreKind::kGateQuery, 2, 16>(), SelectRow<64, ScoreKind::kGateProject, 2, 16>(),
    SelectRow<64, ScoreKind::kResa, 2, 16>(), SelectRow<64, ScoreKind::kQuest, 2, 16>(),
    SelectRow<64, ScoreKind::kQuestHeads, 8, 16>(),
};

}  // namespace lectern::attention::cuda
