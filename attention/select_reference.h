// attention/select_reference.h: scores, choices and descriptors as the formulas print them. Real is float or double.
//
//   auto z = GateScores<double>(gate, shape, q, keys, /*kv_head=*/0, /*length=*/14, /*block_tokens=*/4);
//   std::vector<int32_t> blocks = ChooseBlocks<double>(selector, z, /*length=*/14);
//
// Shapes:  plain row-major arrays: q [group, width], keys [token, width] of one KV head.
// Threads: any; pure functions.
// Errors:  none.
// Cost:    tests and oracles only.
#pragma once

#include <span>
#include <vector>

#include "attention/append.h"
#include "attention/attention.h"
#include "attention/select.h"

namespace lectern::attention {

template <class Real>
struct PooledBlock {
  std::vector<Real> min, max, mean;
};
template <class Real>
PooledBlock<Real> PoolBlock(const float* keys, int64_t tokens, int64_t width);

// x * cos + rotate_half(x) * sin at `position`, pairs (i, i + n / 2).
template <class Real>
void RotateHalf(std::span<Real> x, const float* frequencies, float scale, int64_t position);

// The gate's two branches. REQUIRES: gate.type == kF32.
template <class Real>
std::vector<Real> GateQuery(const Gate& gate, int64_t group, int64_t key_width, const float* q, int64_t kv_head,
                            int64_t position);
template <class Real>
std::vector<Real> GateKey(const Gate& gate, int64_t key_width, const PooledBlock<Real>& block, int64_t kv_head,
                          int64_t position);

// Scores of the complete blocks of un-rotated keys; bounds and oracle: of all blocks of rotated keys.
template <class Real>
std::vector<Real> GateScores(const Gate& gate, int64_t group, int64_t key_width, const float* q, const float* keys,
                             int64_t kv_head, int64_t length, int64_t block_tokens);
template <class Real>
Real MinMaxBound(const Real* q, const Real* min, const Real* max, int64_t width);
template <class Real>
std::vector<Real> QuestScores(const float* q_head, const float* keys, int64_t width, int64_t length,
                              int64_t block_tokens);
template <class Real>
std::vector<Real> ResaScores(const float* q, int64_t group, const float* keys, int64_t width, int64_t length,
                             int64_t block_tokens);
template <class Real>
std::vector<Real> OracleScores(const float* q_head, const float* keys, int64_t width, int64_t length,
                               int64_t block_tokens, Real scale);

template <class Real>
std::vector<Real> Softmax(std::span<const Real> scores);
// The choice of attention/select.h, ascending. `scores` has an entry a complete block (gate) or a block.
template <class Real>
std::vector<int32_t> ChooseBlocks(const Selector& selector, std::span<const Real> scores, int64_t length);

// The batched calls of attention.h, select.h and append.h in fp64 over memory of the host.
void ReferenceDecode(const Problem& problem, const Variant& variant, const DecodeBatch& step, const BlockIds* blocks);
void ReferenceSelect(const Problem& problem, const Selector& selector, const SelectBatch& step, const BlockIds& blocks);
void ReferenceAppend(const Problem& problem, const AppendBatch& step, const AppendConfig& config);

}  // namespace lectern::attention
