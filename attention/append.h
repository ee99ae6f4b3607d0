// attention/append.h: from the packed projection of new tokens to rotated queries, paged K and V, and descriptors.
//
//   AppendBatch step{.qkv = qkv, .q = q, .gate_q = q_nope, .k = k, .v = v, .page_table = table, .lengths = lengths, ...};
//   RETURN_IF_ERROR(Append(plan, step, config, execution));   // lengths count the new token already
//
// Shapes:  qkv [batch, (q_heads + 2 * kv_heads) * width]: query heads, key heads, value heads; bias the same row.
//          q [batch, q_head, width] rotated; gate_q the same before the rotation. Pool [batch, kv_head, 3, width] float:
//          max, min and sum of the un-rotated keys of the open block.
// Threads: as attention/attention.h; one token of one sequence at a time.
// Errors:  kInvalidArgument for shapes; kUnimplemented for what a device does not do.
// Cost:    reads the projection, writes a row of q, k and v; descriptors are one read-modify-write of a vector. The gate
//          key (3 * width * gate width weights a KV head) is computed only in the step that closes a block.
//
// A page that several sequences hold is immutable: a sequence whose next token would go into one gets a page of its own first,
// page_table[position / 64], and names the shared one in copy_from. The call copies what the page held of that sequence (K, V
// and descriptors) and then appends. Nobody writes into a page named in copy_from during the call.
//
// Order of one token at position t = length - 1, for each head: add the bias; RMS norm of q and k where the model has
// it; round to the storage type: these are the un-rotated q and k; rotate; store. Then min_max of the token's block on
// rotated keys, the pool on un-rotated ones; when (t + 1) % gate_block_tokens == 0 the gate key of the block, rotated at
// its first position (gate_pos_compat: at t), and the pool starts again.
#pragma once

#include <cstdint>

#include "attention/batch.h"
#include "attention/select.h"
#include "base/status.h"

namespace lectern::attention {

struct AppendConfig {
  const float* q_norm = nullptr;       // [width] or null
  const float* k_norm = nullptr;       // [width] or null
  float norm_eps = 1e-6f;
  const float* frequencies = nullptr;  // [width / 2] radians a position, pairs (i, i + width / 2); null: no rotation
  float rope_scale = 1.0f;
  int64_t min_max_block_tokens = 0;    // 0: no min-max pairs
  int64_t gate_block_tokens = 0;       // 0: no gate
  bool gate_pos_compat = false;
};

struct AppendBatch {
  const void* qkv = nullptr;
  const void* bias = nullptr;  // one row, or null
  void* q = nullptr;
  void* gate_q = nullptr;      // null: not wanted
  DType type = DType::kF32;    // of qkv, bias, q and gate_q: kF32 on CPU, the cache's on CUDA
  KvView k, v;
  DescriptorView min_max, gate_keys;
  const Gate* gate = nullptr;
  float* pool = nullptr;
  float* committed_pool = nullptr;    // copy of `pool` at the last commit, for rectification; null: not kept
  const int32_t* commit = nullptr;    // [batch]: non-zero copies pool after this token; null: never
  const int32_t* page_table = nullptr;
  int64_t page_table_stride = 0;
  const int32_t* lengths = nullptr;
  const int32_t* copy_from = nullptr;  // [batch]: the shared page that the token's page continues, or -1; null: none
  int64_t batch = 0;
};

// What a call with copy_from cannot serve: blocks longer than a page keep their descriptor with an earlier, shared page.
absl::Status CheckCopyOnWrite(const AppendBatch& batch, const AppendConfig& config);

absl::Status Append(const AttentionPlan& plan, const AppendBatch& batch, const AppendConfig& config,
                    const Execution& execution);

}  // namespace lectern::attention
