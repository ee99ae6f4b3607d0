// attention/select.h: which key blocks a decode step reads: scores of blocks, and the choice among them.
//
//   Selector selector{.kind = SelectorKind::kGate, .block_tokens = 64, .budget_tokens = 4096};
//   RETURN_IF_ERROR(PrepareSelect(plan, selector, /*query_projected=*/false));   // once, beside Plan()
//   RETURN_IF_ERROR(Select(plan, {.q = q, .descriptors = gate_keys, .gate = &gate, ...}, blocks, execution));
//
// Shapes:  SelectBatch::q [batch, q_head, width]: rotated queries; for the gate the un-rotated ones (after the model's
//          own q norm), or with query_projected the gate's own query [batch, kv_head, gate width], ready to score.
//          M = ceil(length / block_tokens) blocks; C = floor(length / block_tokens) of them are complete.
// Threads: values; Select as attention/attention.h.
// Errors:  kInvalidArgument names the field; kUnimplemented what a device does not do.
// Cost:    reads every descriptor once: 1 / block_tokens of the keys' bytes for min-max pairs, half of that for the gate
//          (one vector a block). The gate's query weights are q_heads * key_width * gate width more. The oracle reads the keys.
//          PrepareSelect compiles, on CUDA, what the program does not bring along (an FP16 cache, the oracle): about a second
//          once a process; Select refuses what was not prepared.
//
// Scores (all higher is better; ties go to the lower block):
//   gate    z_i = gate_query . gate_key_i / sqrt(gate width), complete blocks only
//   Quest   U_i = sum_c max(q_c min_ic, q_c max_ic) for each query head; shared by a group: the largest of its heads
//   ReSA    the same with the mean query of the group, times width^-1/2
//   oracle  the largest softmax probability of a key in the block, over the group
// The choice: `first_blocks` and `last_blocks` are always in (forced).
//   kTokens     K = budget_tokens / block_tokens       kRatio  K = max(min(min_blocks, M), ceil(ratio * M))
//   M <= K: every block. Otherwise count_forced: the forced ones and the best K - forced of the rest; without:
//   the best K of all and the forced ones on top.
//   kThreshold  every block with softmax probability above `threshold`, and the forced ones
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "attention/batch.h"
#include "base/status.h"

namespace lectern::attention {

struct AttentionPlan;

enum class SelectorKind { kGate, kQuest, kResa, kOracle };
enum class SelectMode { kTokens, kRatio, kThreshold };

struct Selector {
  SelectorKind kind = SelectorKind::kGate;
  SelectMode mode = SelectMode::kTokens;
  int64_t block_tokens = 64;
  int64_t budget_tokens = 4096;     // kTokens
  int64_t ratio_per_mille = 100;    // kRatio; an integer, so that ceil(ratio * M) is exact
  int64_t min_blocks = 0;           // kRatio
  float threshold = 4e-3f;          // kThreshold
  int64_t first_blocks = 1, last_blocks = 1;
  bool count_forced = true;
  bool per_head = false;            // Quest: each query head chooses, the KV head reads the union
  int64_t dense_below = 0;          // lengths up to this are dense, decided where the lengths are
  // Published behaviour, for comparing with published figures.
  bool gate_zero_placeholder = false;  // the open block takes part with score 0
  bool gate_pos_compat = false;        // Select() does not use it: AppendConfig's rotates gate keys, at a closing block's last position
};

// The published settings.
Selector SeerAttentionSelector(int64_t budget_tokens);          // blocks of 64, forced ones on top
Selector QuestSelector(int64_t budget_tokens, bool per_head);   // pages of 16, the last always in, at least 3
Selector ResaSelector(int64_t keep_per_mille);                  // blocks of 16, at least 16, one local

absl::Status CheckSelector(const Selector& selector);
// K above, for `num_blocks` blocks; num_blocks where the mode is a threshold.
int64_t BlocksToKeep(const Selector& selector, int64_t num_blocks);
// The largest count a row can get for lengths up to max_keys: the capacity BlockIds need.
int64_t BlockCapacity(const Selector& selector, int64_t max_keys, int64_t group);

// SeerAttention-R, one layer. All weights are row-major, of `type`.
struct Gate {
  const void* query_weights = nullptr;  // [kv_head, group, key_width, width]
  const void* key_weights = nullptr;    // [kv_head, 3 * key_width, width]: rows for max, min, mean
  const float* query_norm = nullptr;    // [width]; null: no norm
  const float* key_norm = nullptr;      // [width]
  float norm_eps = 1e-6f;
  const float* frequencies = nullptr;   // [width / 2] radians a position; null: no rotation
  float rope_scale = 1.0f;              // on cosines and sines (YaRN)
  DType type = DType::kF32;             // kF32 or kBF16 on CPU, the cache's on CUDA
  int64_t width = 0;
};

struct SelectBatch {
  const void* q = nullptr;
  DType type = DType::kF32;
  bool query_projected = false;  // gate: q is [batch, kv_head, gate width], projected, normalised and rotated
  DescriptorView descriptors;    // gate keys, or min-max pairs
  const Gate* gate = nullptr;
  KvView k;                      // kOracle only
  const int32_t* page_table = nullptr;
  int64_t page_table_stride = 0;
  const int32_t* lengths = nullptr;
  int64_t batch = 0;
};

// Whether the plan's device serves this selector, and what it needs to do so. Never in a step.
absl::Status PrepareSelect(const AttentionPlan& plan, const Selector& selector, bool query_projected);
// Fills blocks.ids and blocks.counts. Where all blocks are in, or more than the capacity, the count is kAllBlocks.
absl::Status Select(const AttentionPlan& plan, const Selector& selector, const SelectBatch& batch,
                    const BlockIds& blocks, const Execution& execution);

}  // namespace lectern::attention
