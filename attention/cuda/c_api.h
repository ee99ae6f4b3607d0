/* attention/cuda/c_api.h: the CUDA kernels behind a C ABI: raw device pointers, a stream and a plan handle.
 *
 *   LecternPlan* plan = lectern_plan(&problem, why, sizeof(why));          // null: `why` says which constraint
 *   lectern_decode(plan, &step, NULL, stream);                             // 0, or a cudaError_t
 *
 * Shapes:  as attention/batch.h; everything bf16; K and V [page, kv_head, 64, d] with strides in elements.
 * Threads: a plan is immutable; its calls use the given stream and the step's workspace.
 * Errors:  cudaError_t numbers; lectern_error names them.
 * Cost:    a call is one launch. */
#ifndef ATTENTION_CUDA_C_API_H_
#define ATTENTION_CUDA_C_API_H_

#pragma once

#ifdef __cplusplus
extern "C" {
#endif

typedef struct LecternPlan LecternPlan;

typedef struct {
  int q_heads, kv_heads, head_dim, max_batch;
  long long max_keys, fixed_chunk_keys;
  float scale, soft_cap; /* 0: head_dim^-1/2; 0: none */
  int programmatic_launch, form, min_units, max_parts; /* the last two: 0 is the plan's own choice */
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
} LecternStep;

typedef struct {
  int* ids;
  int* counts;
  int capacity, block_tokens;
} LecternBlocks;

typedef struct {
  int kind; /* 0 gate, query projected; 1 gate, with projection; 2 ReSA; 3 Quest */
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
} LecternSelector;

LecternPlan* lectern_plan(const LecternProblem* problem, char* why, int why_size);
void lectern_plan_free(LecternPlan* plan);
long long lectern_workspace_bytes(const LecternPlan* plan);
int lectern_explain(const LecternPlan* plan, char* text, int size);
int lectern_clear_workspace(const LecternPlan* plan, void* workspace, void* stream);
int lectern_decode(const LecternPlan* plan, const LecternStep* step, const LecternBlocks* blocks, void* stream);
int lectern_select(const LecternPlan* plan, const LecternStep* step, const LecternSelector* selector,
                   const LecternBlocks* blocks, void* stream);
const char* lectern_error(int error);

#ifdef __cplusplus
}
#endif
#endif
