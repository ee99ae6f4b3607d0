// attention/attention.h: softmax attention over a paged KV cache: Plan() once, then Prefill(), Decode(), SparseDecode().
//
//   ASSIGN_OR_RETURN(AttentionPlan plan, Plan(problem, {.mask = {MaskKind::kCausal}, .scale = 0.125f}, device));
//   std::vector<std::byte> workspace(plan.workspace_bytes);
//   RETURN_IF_ERROR(Prefill(plan, {.q = q, .out = out}, kv, pool, workspace));   // any number of queries
//   RETURN_IF_ERROR(Decode(plan, {.q = q1, .out = o1}, kv, pool, workspace));    // one query, keys split over threads
//   RETURN_IF_ERROR(Decode(plan, step, execution));                // one query of each sequence, attention/batch.h
//   RETURN_IF_ERROR(SparseDecode(plan, step, blocks, execution));  // over the listed blocks of keys only
//
// Shapes:  q [query, q_head, key_width], out [query, q_head, value_width], lse [query, q_head], all float; K and V as
//          attention/paged_kv.h says. Query i of Nq stands at position i + (num_keys - Nq). Query head h reads K head
//          h * k_heads / q_heads and V head h * v_heads / q_heads.
// Threads: a plan is immutable. A call uses the pool or stream it is given and owns its workspace while it runs; a CUDA
//          workspace is zeroed once, before its first use (ClearWorkspace), and left ready for the next call. With
//          Device::programmatic_launch a call looks at lengths, counts and page table before what is ahead of it on
//          the stream has ended, for hints alone (attention/batch.h); it computes with what is there afterwards.
// Errors:  Plan: kUnimplemented names the constraint that a kernel cannot serve; kInvalidArgument a shape that makes
//          no sense. Prefill, Decode: kInvalidArgument for shapes, keys or workspace outside the plan.
// Cost:    Decode reads each K and V block once a group of query heads: 2 * keys * kv_heads * width elements. Prefill
//          does 4 * queries * visible keys * q_heads * width operations. Nothing here allocates; CUDA calls launch and
//          return, can be captured in a graph, and that graph stays valid for every length up to max_keys. A CUDA plan with
//          kF16 or a soft cap compiles its kernels first, a few seconds once a process.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "attention/append.h"
#include "attention/batch.h"
#include "attention/mask.h"
#include "attention/paged_kv.h"
#include "attention/select.h"
#include "base/cpu_target.h"
#include "base/status.h"
#include "base/tensor_view.h"
#include "base/thread_pool.h"

namespace lectern::attention {

struct CpuKernels;

struct Problem {
  int64_t q_heads = 0, k_heads = 0, v_heads = 0;
  int64_t key_width = 0, value_width = 0;
  DType kv_type = DType::kBF16;  // kF32 or kBF16 on CPU, kBF16 or kF16 on CUDA
  BlockLayout layout = BlockLayout::kLanes;
  int64_t max_keys = 0;
  int64_t max_batch = 1;  // sequences of a batched call
};

struct Variant {
  Mask mask;
  float scale = 0;     // 0: key_width^-1/2
  float soft_cap = 0;  // above 0: score = soft_cap * tanh(score / soft_cap)
};

enum class DeviceKind { kCpu, kCuda };

// kSm80 is the same kernel as PTX of compute_80, for older cards and for checking that form.
enum class CudaForm { kSm90, kSm80 };

struct Device {
  CpuTarget target = ActiveCpuTarget();
  int num_threads = 1;
  DeviceKind kind = DeviceKind::kCpu;
  // CUDA: the current device of the calling thread.
  int64_t fixed_chunk_keys = 0;  // CUDA. 0: keys are dealt evenly over the processors. Otherwise every sequence is cut at
                                 // multiples of this, and its result does not depend on the rest of the batch.
  bool programmatic_launch = true;  // a launch may begin before its predecessor ends, and waits for it inside
  CudaForm form = CudaForm::kSm90;
};

// What a CUDA plan launches.
struct CudaSchedule {
  int device = 0;            // the current one when it was planned; the plan's calls need it to be current again
  int64_t shared_limit = 0;  // bytes a CTA may have on it
  bool selectors = false;    // they run on it
  int num_blocks = 0, num_threads = 0;  // the grid: one wave, whatever the lengths
  int stages = 0;                       // of 16 keys, a warp
  int cluster_ctas = 0;                 // of a KV head, where there is one sequence and its parts meet in a cluster; 0: they meet in L2
  int64_t shared_bytes = 0;
  int64_t rows = 0;                     // (sequence, KV head) pairs at most
  int64_t fixed_chunk_keys = 0;
  bool programmatic_launch = true;
  CudaForm form = CudaForm::kSm90;
};

struct AttentionPlan {
  Problem problem;
  Variant variant;
  DeviceKind device = DeviceKind::kCpu;
  CudaSchedule cuda;
  const CpuKernels* kernels = nullptr;
  int num_threads = 1;
  int64_t tile_queries = 1;   // queries of one prefill work item; times the head group, its rows
  int64_t max_splits = 1;     // key ranges a row of a decode is cut into, at most
  int64_t workspace_bytes = 0;

  int64_t group() const { return problem.q_heads / problem.k_heads; }
  // Bytes of device memory a decode step of `total_keys` keys (over the batch) has to move: K, V, q and out.
  int64_t PredictedBytes(int64_t total_keys, int64_t batch) const;
  // CPU: keys of one of the ranges that a decode of `num_keys` keys is cut into. It depends on nothing else, so that
  // results have the same bits for any number of threads and beside any other sequences.
  int64_t ChunkKeys(int64_t num_keys) const;
  std::string Explain() const;  // one line: kernel, tiles, splits, workspace, predicted bytes a key
};

absl::StatusOr<AttentionPlan> Plan(const Problem& problem, const Variant& variant, const Device& device);

struct Queries {
  TensorView<const float, 3> q;   // [query, q_head, key_width], last axis contiguous
  TensorView<float, 3> out;       // [query, q_head, value_width], last axis contiguous
  TensorView<float, 2> lse = {};  // [query, q_head] natural log-sum-exp, -inf for an empty row; null: not wanted
};

absl::Status Prefill(const AttentionPlan& plan, const Queries& queries, const PagedKv& kv, ThreadPool& pool,
                     std::span<std::byte> workspace);
// REQUIRES: one query.
absl::Status Decode(const AttentionPlan& plan, const Queries& queries, const PagedKv& kv, ThreadPool& pool,
                    std::span<std::byte> workspace);
// One query of each sequence of the batch; pointers of the plan's device. Select() and Append() are their neighbours.
absl::Status Decode(const AttentionPlan& plan, const DecodeBatch& step, const Execution& execution);
absl::Status SparseDecode(const AttentionPlan& plan, const DecodeBatch& step, const BlockIds& blocks,
                          const Execution& execution);
// Makes a CUDA workspace ready for its first call (an asynchronous memset); nothing on CPU.
absl::Status ClearWorkspace(const AttentionPlan& plan, const Execution& execution);
// mass[key] += sum over the query heads of the softmax weight of `key` for the one query of a Decode() that stored lse.
// Reads K only.
absl::Status AddKeyMass(const AttentionPlan& plan, const Queries& queries, const PagedKv& kv, ThreadPool& pool,
                        std::span<std::byte> workspace, std::span<float> mass);

}  // namespace lectern::attention
