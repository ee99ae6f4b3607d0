// attention/cuda/select_params.h: what the selector and append kernels are launched with; no headers.
#pragma once

namespace lectern::attention {

enum class ScoreKind { kGateQuery, kGateProject, kResa, kQuest, kQuestHeads, kOracle };

constexpr int kDigits = 2048;       // bins of the choice
constexpr int kSelectScratch = 64;  // words beside them
constexpr int kMostKeys = 1 << 24;   // of a sequence

// Rows of two-byte elements that the blocks' product has for queries: the gate's own, a projection in three parts, a mean in three that are below
// zero and three above, query heads.
constexpr int QueryRows(ScoreKind kind) { return kind == ScoreKind::kGateQuery ? 1 : kind == ScoreKind::kGateProject ? 3 : kind == ScoreKind::kResa ? 6 : 8; }
constexpr long long SelectSharedBytes(ScoreKind kind, int d, int ctas, int warps, long long max_blocks) {
  return (kDigits + kSelectScratch + 2 * ctas * warps + QueryRows(kind) * d / 2 + max_blocks + (kind == ScoreKind::kGateProject ? (ctas + warps + 2) * d + warps : 0) +
          (kind == ScoreKind::kQuestHeads ? (max_blocks + 31) / 32 : 0)) * 4;
}

// The oracle: a cluster a row. A warp takes whole items: a page, or a block where that is longer.
constexpr int kOracleCtas = 8, kOracleWarps = 8, kOracleHeads = 16;
constexpr long long OracleItemBlocks(long long block_tokens) { return block_tokens >= 64 ? 1 : 64 / block_tokens; }
constexpr long long OracleBlocksACta(long long max_blocks, long long block_tokens) {
  const long long item = OracleItemBlocks(block_tokens), items = (max_blocks + item - 1) / item;
  return (items + kOracleCtas * kOracleWarps - 1) / (kOracleCtas * kOracleWarps) * kOracleWarps * item;
}
constexpr long long OracleSharedBytes(long long max_blocks, long long block_tokens, int group) {
  return (kDigits + kSelectScratch + 2 * kOracleCtas * kOracleWarps + (kOracleCtas + kOracleWarps) * kOracleHeads * 2 + kOracleHeads + group * OracleBlocksACta(max_blocks, block_tokens) +
          max_blocks) * 4;
}

struct SelectParams {
  const void* q;            // kGateQuery [batch, kv_head, W]; otherwise [batch, q_head, D]
  const char* descriptors;  // a row of W (gate) or 2 D elements a block; oracle: the keys
  long long page_bytes, head_bytes, block_bytes;
  const int* page_table;
  const int* lengths;
  int* ids;
  int* counts;
  const void* gate_weights;  // [kv_head, group * D, W]
  const float* gate_norm;    // [W] or null
  const float* frequencies;  // [W / 2] or null
  float norm_eps, rope_scale;
  float score_scale;
  int page_table_stride, batch, kv_heads, group, capacity;
  int num_pages;             // of the descriptors' pool; 0: not said
  int block_tokens, mode;    // mode as SelectMode
  int budget_blocks, ratio_per_mille, min_blocks, first_blocks, last_blocks, dense_below;
  int count_forced, zero_placeholder;
  float threshold;
  int max_blocks;            // keys that fit the shared memory
  unsigned heads_magic, block_magic, page_magic;  // ptx::Divide by kv_heads and by block_tokens; page of a block = block * block_units / page_magic's number
  int block_units, in_page_mask;     // the smaller of block and page in the terms of the other; blocks of a page less one
  int oracle_blocks;         // of a CTA
  float cap_in, cap_out;     // oracle: as DecodeParams
};

constexpr int kAppendWarps = 8;

struct AppendParams {
  const void* qkv;
  const void* bias;
  void* q;
  void* gate_q;
  char* k;
  char* v;
  long long k_page_bytes, k_head_bytes, v_page_bytes, v_head_bytes;
  char* min_max;
  long long min_max_page_bytes, min_max_head_bytes, min_max_block_bytes;
  char* gate_keys;
  long long gate_page_bytes, gate_head_bytes, gate_block_bytes;
  const void* gate_weights;  // [kv_head, 3 D, W]
  const float* gate_norm;
  const float* gate_frequencies;
  float gate_norm_eps, gate_rope_scale;
  float* pool;
  float* committed_pool;
  const int* commit;
  const float* q_norm;
  const float* k_norm;
  const float* frequencies;
  float norm_eps, rope_scale;
  const int* page_table;
  const int* lengths;
  const int* copy_from;      // [batch] pages or -1; null: none
  int page_table_stride, batch, kv_heads, group;
  int min_max_block_tokens, gate_block_tokens, gate_pos_compat;
};

}  // namespace lectern::attention
