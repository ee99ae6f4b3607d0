#include "attention/select.h"

#include <algorithm>

namespace lectern::attention {

Selector SeerAttentionSelector(int64_t budget_tokens) {
  return {.kind = SelectorKind::kGate, .block_tokens = 64, .budget_tokens = budget_tokens, .count_forced = false};
}

Selector QuestSelector(int64_t budget_tokens, bool per_head) {
  return {.kind = SelectorKind::kQuest, .block_tokens = 16, .budget_tokens = std::max<int64_t>(48, budget_tokens),
          .first_blocks = 0, .per_head = per_head};
}

Selector ResaSelector(int64_t keep_per_mille) {
  return {.kind = SelectorKind::kResa, .mode = SelectMode::kRatio, .block_tokens = 16,
          .ratio_per_mille = keep_per_mille, .min_blocks = 16, .first_blocks = 0};
}

absl::Status CheckSelector(const Selector& s) {
  if (s.block_tokens < 1) return InvalidArgument("block_tokens must be at least 1, got ", s.block_tokens);
  if (s.block_tokens < kPageSlots ? kPageSlots % s.block_tokens != 0 : s.block_tokens % kPageSlots != 0) {
    return InvalidArgument("block_tokens must divide the page of ", kPageSlots, " tokens or be a multiple of it, got ",
                           s.block_tokens);
  }
  if (s.mode == SelectMode::kTokens && s.budget_tokens < s.block_tokens) {
    return InvalidArgument("budget_tokens must be at least block_tokens ", s.block_tokens, ", got ", s.budget_tokens);
  }
  if (s.mode == SelectMode::kRatio && (s.ratio_per_mille < 0 || s.ratio_per_mille > 1000)) {
    return InvalidArgument("ratio_per_mille must be in 0..1000, got ", s.ratio_per_mille);
  }
  if (s.mode == SelectMode::kThreshold && !(s.threshold >= 0 && s.threshold <= 1)) {
    return InvalidArgument("threshold must be in 0..1, got ", s.threshold);
  }
  if (s.first_blocks < 0 || s.last_blocks < 0 || s.min_blocks < 0 || s.dense_below < 0) {
    return InvalidArgument("first_blocks, last_blocks, min_blocks and dense_below must not be negative, got ",
                           s.first_blocks, ", ", s.last_blocks, ", ", s.min_blocks, ", ", s.dense_below);
  }
  if (s.mode == SelectMode::kRatio && s.min_blocks > 0 && s.last_blocks > s.min_blocks) {
    return InvalidArgument("last_blocks must be at most min_blocks ", s.min_blocks, ", got ", s.last_blocks);
  }
  if (s.per_head && s.kind != SelectorKind::kQuest) return InvalidArgument("per_head is for Quest alone");
  if ((s.gate_zero_placeholder || s.gate_pos_compat) && s.kind != SelectorKind::kGate) {
    return InvalidArgument("gate_zero_placeholder and gate_pos_compat are for the gate alone");
  }
  return absl::OkStatus();
}

int64_t BlocksToKeep(const Selector& s, int64_t num_blocks) {
  if (s.mode == SelectMode::kThreshold) return num_blocks;
  if (s.mode == SelectMode::kTokens) return s.budget_tokens / s.block_tokens;
  return std::max(std::min(s.min_blocks, num_blocks), (s.ratio_per_mille * num_blocks + 999) / 1000);
}

int64_t BlockCapacity(const Selector& s, int64_t max_keys, int64_t group) {
  const int64_t most = NumBlocks(max_keys, s.block_tokens);
  int64_t keep = BlocksToKeep(s, most);
  const int64_t forced = s.first_blocks + s.last_blocks;
  keep = s.count_forced ? std::max(keep, forced) : keep + forced;
  if (s.per_head) keep *= group;
  return std::clamp<int64_t>(keep, 1, std::max<int64_t>(most, 1));
}

}  // namespace lectern::attention
