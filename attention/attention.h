// attention/attention.h: softmax attention over a paged KV cache: Plan() once, then Prefill() and Decode().
//
//   ASSIGN_OR_RETURN(AttentionPlan plan, Plan(problem, {.mask = {MaskKind::kCausal}, .scale = 0.125f}, device));
//   std::vector<std::byte> workspace(plan.workspace_bytes);
//   RETURN_IF_ERROR(Prefill(plan, {.q = q, .out = out}, kv, pool, workspace));   // any number of queries
//   RETURN_IF_ERROR(Decode(plan, {.q = q1, .out = o1}, kv, pool, workspace));    // one query, keys split over threads
//
// Shapes:  q [query, q_head, key_width], out [query, q_head, value_width], lse [query, q_head], all float; K and V as
//          attention/paged_kv.h says. Query i of Nq stands at position i + (num_keys - Nq). Query head h reads K head
//          h * k_heads / q_heads and V head h * v_heads / q_heads.
// Threads: a plan is immutable. A call uses the pool it is given and owns its workspace while it runs.
// Errors:  Plan: kUnimplemented names the constraint that a kernel cannot serve; kInvalidArgument a shape that makes
//          no sense. Prefill, Decode: kInvalidArgument for shapes, keys or workspace outside the plan.
// Cost:    Decode reads each K and V block once a group of query heads: 2 * keys * kv_heads * width elements. Prefill
//          does 4 * queries * visible keys * q_heads * width operations. Neither allocates.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "attention/mask.h"
#include "attention/paged_kv.h"
#include "base/cpu_target.h"
#include "base/status.h"
#include "base/tensor_view.h"
#include "base/thread_pool.h"

namespace lectern::attention {

struct CpuKernels;

struct Problem {
  int64_t q_heads = 0, k_heads = 0, v_heads = 0;
  int64_t key_width = 0, value_width = 0;
  DType kv_type = DType::kBF16;
  BlockLayout layout = BlockLayout::kLanes;
  int64_t max_keys = 0;
};

struct Variant {
  Mask mask;
  float scale = 0;     // 0: key_width^-1/2
  float soft_cap = 0;  // above 0: score = soft_cap * tanh(score / soft_cap)
};

struct Device {
  CpuTarget target = ActiveCpuTarget();
  int num_threads = 1;
};

struct AttentionPlan {
  Problem problem;
  Variant variant;
  const CpuKernels* kernels = nullptr;
  int num_threads = 1;
  int64_t tile_queries = 1;   // queries of one prefill work item; times the head group, its rows
  int64_t max_splits = 1;     // key ranges a decode is cut into, at most
  int64_t workspace_bytes = 0;

  int64_t group() const { return problem.q_heads / problem.k_heads; }
  // Key ranges Decode cuts this many keys into: as few as keep the threads evenly busy.
  int64_t Splits(int64_t num_keys) const;
  std::string Explain() const;  // one line: kernel, tiles, splits, bytes
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
// mass[key] += sum over the query heads of the softmax weight of `key` for the one query of a Decode() that stored lse.
// Reads K only.
absl::Status AddKeyMass(const AttentionPlan& plan, const Queries& queries, const PagedKv& kv, ThreadPool& pool,
                        std::span<std::byte> workspace, std::span<float> mass);

}  // namespace lectern::attention
