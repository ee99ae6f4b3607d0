/* attention/cuda/c_api.h: the CUDA kernels behind a C ABI: raw device pointers, a stream and a plan handle.
 *
 *   LecternPlan* plan = lectern_plan(&problem, why, sizeof(why));          // null: `why` says which constraint
 *   lectern_decode(plan, &step, NULL, stream);                             // 0, or a cudaError_t
 *
 * Shapes:  as attention/batch.h; everything bf16, or fp16 with kv_type 1; K and V [page, kv_head, 64, d], strides in elements, multiples
 *          of 8; memory begins at multiples of 16 bytes.
 * Threads: a plan is immutable and of the device that was current when it was made, which must be current in its calls; they use
 *          the given stream and the step's workspace. With programmatic_launch a call reads lengths, counts and the page table
 *          before its predecessors have ended, as a hint what to bring to L2 of the first num_pages pages of a pool, which must be
 *          memory: they may hold anything then. All of it is read again afterwards, and only that counts. A gate's weights, norm and frequencies
 *          are not: no kernel that still runs may write them.
 * Errors:  0, a cudaError_t, or LECTERN_REFUSED where an argument is out of range or no kernel serves it; lectern_error names
 *          them, a refusal by its reason (of the calling thread's last one).
 * Cost:    a call is one launch. fp16, a soft cap and the oracle are compiled at run time by libnvrtc, which must be there then: while
 *          planning, and in lectern_prepare_select; about a second a kernel, once a process. */
#ifndef ATTENTION_CUDA_C_API_H_
#define ATTENTION_CUDA_C_API_H_

#pragma once

#ifdef __cplusplus
extern "C" {
#endif

#define LECTERN_REFUSED (-1)

typedef struct LecternPlan LecternPlan;

typedef struct {
  int q_heads, kv_heads, head_dim, max_batch;
  long long max_keys, fixed_chunk_keys;
  float scale, soft_cap; /* 0: head_dim^-1/2; 0: none */
  int programmatic_launch, form, min_units, max_parts; /* the last two: 0 is the plan's own choice */
  int kv_type;                                         /* 0 bf16, 1 fp16 */
} LecternProblem;

typedef struct {
  const void* q;
  void* out;
  float* lse;
  const void *k, *v;
  long long k_page_stride, k_head_stride, v_page_stride, v_head_stride;
  const int* page_table;
  long long page_table_stride;
  const int* lengths;
  int batch;
  void* workspace;
  long long num_pages; /* of K and of V, the smaller pool; 0: not said, nothing is asked for ahead */
} LecternStep;

typedef struct {
  int* ids;
  int* counts;
  int capacity, block_tokens;
} LecternBlocks;

typedef struct {
  int kind; /* 0 gate, query projected; 1 gate, with projection; 2 ReSA; 3 Quest; 4 Quest, each query head choosing;
             5 the oracle, over the step's K (no descriptors) */
  int mode; /* 0 tokens, 1 ratio, 2 threshold */
  int block_tokens, budget_blocks, ratio_per_mille, min_blocks, first_blocks, last_blocks, dense_below, count_forced;
  int zero_placeholder;
  float threshold;
  const void* q;
  const void* descriptors;
  long long page_stride, head_stride, block_stride;
  const void* gate_weights;
  const float *gate_norm, *frequencies;
  float norm_eps, rope_scale;
  long long num_pages; /* of descriptors; 0: not said */
} LecternSelector;

typedef struct { /* attention/append.h has the order of things */
  const void *qkv, *bias; /* [batch, (q_heads + 2 kv_heads) * d]; one row, or null */
  void *q, *gate_q;       /* rotated, and before that (or null) */
  const float *q_norm, *k_norm, *frequencies;
  float norm_eps, rope_scale;
  void* min_max; /* [page, kv_head, block in page, 2 d] */
  long long min_max_page_stride, min_max_head_stride, min_max_block_stride;
  int min_max_block_tokens; /* 0: none */
  int gate_block_tokens;    /* 0: none */
  void* gate_keys;          /* [page, kv_head, block in page, d] */
  long long gate_page_stride, gate_head_stride, gate_block_stride;
  const void* gate_weights; /* [kv_head, 3 d, d] */
  const float *gate_norm, *gate_frequencies;
  float gate_norm_eps, gate_rope_scale;
  int gate_pos_compat;
  float *pool, *committed_pool; /* [batch, kv_head, 3, d] */
  const int* commit;
  const int* copy_from; /* [batch]: the shared page that the token's page continues, or -1; null: none */
} LecternAppend;

LecternPlan* lectern_plan(const LecternProblem* problem, char* why, int why_size);
void lectern_plan_free(LecternPlan* plan);
long long lectern_workspace_bytes(const LecternPlan* plan);
int lectern_explain(const LecternPlan* plan, char* text, int size);
int lectern_clear_workspace(const LecternPlan* plan, void* workspace, void* stream);
int lectern_decode(const LecternPlan* plan, const LecternStep* step, const LecternBlocks* blocks, void* stream);
/* What a selector needs before its first call; 0 or LECTERN_REFUSED. Never in a step. */
int lectern_prepare_select(const LecternPlan* plan, int kind, int block_tokens);
int lectern_select(const LecternPlan* plan, const LecternStep* step, const LecternSelector* selector,
                   const LecternBlocks* blocks, void* stream);
/* Writes into the step's K and V. */
int lectern_append(const LecternPlan* plan, const LecternStep* step, const LecternAppend* append, void* stream);
const char* lectern_error(int error);

#ifdef __cplusplus
}
#endif
#endif
