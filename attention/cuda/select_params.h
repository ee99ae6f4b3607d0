// attention/cuda/select_params.h: what the selector and append kernels are launched with; no headers.
#pragma once

namespace lectern::attention {

enum class ScoreKind { kGateQuery, kGateProject, kResa, kQuest, kQuestHeads };

struct SelectParams {
  const void* q;            // kGateQuery [batch, kv_head, W]; otherwise [batch, q_head, D]
  const char* descriptors;  // a row of W (gate) or 2 D elements a block
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
  int block_tokens, mode;    // mode as SelectMode
  int budget_blocks, ratio_per_mille, min_blocks, first_blocks, last_blocks, dense_below;
  int count_forced, zero_placeholder;
  float threshold;
  int max_blocks;            // keys that fit the shared memory
  unsigned heads_magic, page_magic;  // ptx::Divide by kv_heads; page of a block = block * block_units / page_magic's number
  int block_units, in_page_mask;     // the smaller of block and page in the terms of the other; blocks of a page less one
};

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
