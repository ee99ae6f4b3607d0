// attention/cuda/oracle.cuh: the selector that knows the answer: blocks by the largest softmax probability of a key in them.
//
// Dataflow  grid = kv_head * batch clusters of 8 CTAs of 8 warps. A warp takes whole items, every 64th: a page, or a block where
//           that is longer, so that nobody shares a block. It reads 16 keys at a time straight into the fragments of the matrix
//           product, keeps the largest score of each block and head in shared memory, and the softmax of all it saw. Peaks
//           and sums of the CTAs meet over distributed shared memory; then every CTA knows the log-sum-exp of each
//           head, and sends max over the heads of (score - log-sum-exp) to rank 0, which chooses as for any selector.
// Shapes    q [batch, q_head, D]; keys [page, kv_head, slot, D]; ids [row, capacity].
// Bytes     2 * keys * kv_heads * D: half of what dense decode reads. For judging selectors, not for serving.
// Fragments A product does not mind in which order its columns come: a lane takes 16 contiguous bytes of a key (eight columns), two
//           words of them a step, and the same of a query head.
#pragma once

#include "attention/cuda/choose.cuh"
#include "attention/cuda/online_softmax.cuh"

namespace lectern::attention {

template <class Element, int kD>
__global__ void __launch_bounds__(kOracleWarps * 32) OracleKernel(const __grid_constant__ SelectParams p) {
  constexpr int kTiles = kOracleHeads / 8, kChunks = kD / 32, kThreads = kOracleWarps * 32;
  extern __shared__ __align__(16) char shared[];
  int* hist = reinterpret_cast<int*>(shared);
  int* scratch = hist + kDigits;
  uint2* ends = reinterpret_cast<uint2*>(scratch + kSelectScratch);  // [cta, warp]
  float2* of_warp = reinterpret_cast<float2*>(ends + kOracleCtas * kOracleWarps);  // [warp, head]: peak, sum
  float2* of_cta = of_warp + kOracleWarps * kOracleHeads;                 // [cta, head]
  float* lse = reinterpret_cast<float*>(of_cta + kOracleCtas * kOracleHeads);
  float* best = lse + kOracleHeads;  // [head, block of this CTA]
  const int item_blocks = p.block_tokens >= 64 ? 1 : 64 / p.block_tokens, item_tokens = item_blocks * p.block_tokens;
  const int own = p.oracle_blocks;
  unsigned* keys = reinterpret_cast<unsigned*>(best + p.group * own);

  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, rank = static_cast<int>(ptx::ClusterRank());
  const int row = blockIdx.x / kOracleCtas, b = ptx::Divide(row, p.heads_magic), head = row - b * p.kv_heads;
  ptx::LaunchDependents();
  Chooser<kOracleWarps>::Clear(hist, scratch);
  for (int i = threadIdx.x; i < p.group * own; i += kThreads) best[i] = ptx::kNegInf;
  __syncthreads();
  ptx::ClusterArriveRelaxed();  // who writes into a neighbour waits for it to have begun
  ptx::WaitForPredecessors();
  const int length = p.lengths[b], num_blocks = (length + p.block_tokens - 1) / p.block_tokens;
  Chooser<kOracleWarps> chooser{p, keys, ends, kOracleCtas * kOracleWarps, hist, scratch, num_blocks, num_blocks};
  if (length <= p.dense_below || num_blocks > p.max_blocks || (p.mode != 2 && num_blocks <= chooser.Keep())) {
    if (rank == 0 && threadIdx.x == 0) p.counts[row] = -1;
    ptx::ClusterWait();
    return;  // the whole cluster
  }

  uint4 q[kTiles][kChunks];
  const char* queries = static_cast<const char*>(p.q) + static_cast<ptx::i64>(row) * p.group * kD * 2 + lane % 4 * 16;
#pragma unroll
  for (int tile = 0; tile < kTiles; ++tile) {
    const int h = tile * 8 + lane / 4;
#pragma unroll
    for (int c = 0; c < kChunks; ++c) {
      q[tile][c] = h < p.group ? *reinterpret_cast<const uint4*>(queries + h * kD * 2 + c * 64) : make_uint4(0, 0, 0, 0);
    }
  }
  OnlineSoftmax softmax[kTiles];
  const int* pages = p.page_table + static_cast<ptx::i64>(b) * p.page_table_stride;
  const int same = min(p.block_tokens, 8);  // keys of a block among the eight lanes that hold one query head's
  for (int item = rank * kOracleWarps + warp, local = warp; item * item_tokens < length; item += kOracleCtas * kOracleWarps, local += kOracleWarps) {
#pragma unroll 1
    for (int at = 0; at < item_tokens && item * item_tokens + at < length; at += 16) {
      const int key = item * item_tokens + at;
      const char* from = p.descriptors + pages[key / 64] * p.page_bytes + head * p.head_bytes + (key % 64 + lane / 4) * kD * 2 + lane % 4 * 16;
      uint4 low[kChunks], high[kChunks];
#pragma unroll
      for (int c = 0; c < kChunks; ++c) low[c] = ptx::LoadOnce(from + c * 64), high[c] = ptx::LoadOnce(from + 8 * kD * 2 + c * 64);
#pragma unroll
      for (int tile = 0; tile < kTiles; ++tile) {
        if (tile > 0 && p.group <= 8) break;
        float s[2][4] = {};
#pragma unroll
        for (int c = 0; c < kChunks; ++c) {
          const ptx::u32 a0[4] = {low[c].x, high[c].x, low[c].y, high[c].y}, a1[4] = {low[c].z, high[c].z, low[c].w, high[c].w};
          Element::Mma(s[0], a0, q[tile][c].x, q[tile][c].y);
          Element::Mma(s[1], a1, q[tile][c].z, q[tile][c].w);
        }
        float x[4], top[4], keep[2];
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          x[i] = s[0][i] + s[1][i];
          x[i] = p.cap_out > 0 ? SoftCapped(x[i], p.cap_in, p.cap_out) : x[i] * p.score_scale;
          if (key + lane / 4 + i / 2 * 8 >= length) x[i] = ptx::kNegInf;
          top[i] = x[i];
#pragma unroll
          for (int lanes = 4; lanes < 32; lanes *= 2) {
            const float other = __shfl_xor_sync(~0u, top[i], lanes);
            if (lanes < 4 * same) top[i] = fmaxf(top[i], other);
          }
        }
        // One lane speaks for a block and two heads, always the same one.
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const bool whole = p.block_tokens >= 16;
          const int h = tile * 8 + lane % 4 * 2 + i % 2;
          if (lane / 4 % same != 0 || h >= p.group || (whole && i >= 2)) continue;
          float* to = best + h * own + local * item_blocks + (at + lane / 4 + i / 2 * 8) / p.block_tokens;
          *to = fmaxf(*to, whole ? fmaxf(top[i], top[i + 2 < 4 ? i + 2 : i]) : top[i]);
        }
        softmax[tile].Step(x, keep);
      }
    }
  }

#pragma unroll
  for (int tile = 0; tile < kTiles; ++tile) {
    softmax[tile].Reduce();
#pragma unroll
    for (int j = 0; j < 2; ++j) {
      if (lane < 4) of_warp[warp * kOracleHeads + tile * 8 + lane * 2 + j] = make_float2(softmax[tile].peak[j], softmax[tile].sum[j]);
    }
  }
  const auto add = [](const float2* parts, int count) {
    float2 all = make_float2(ptx::kNegInf, 0.0f);
    for (int i = 0; i < count; ++i) all.x = fmaxf(all.x, parts[i * kOracleHeads].x);
    for (int i = 0; i < count; ++i) all.y += PartWeight(parts[i * kOracleHeads].x, all.x) * parts[i * kOracleHeads].y;
    return all;
  };
  __syncthreads();
  ptx::ClusterWait();
  if (threadIdx.x < kOracleHeads) {
    const float2 all = add(of_warp + threadIdx.x, kOracleWarps);
    const ptx::u32 mine = ptx::SharedAddress(of_cta + rank * kOracleHeads + threadIdx.x);
    for (int to = 0; to < kOracleCtas; ++to) {
      ptx::StoreCluster(ptx::MapToRank(mine, to), __float_as_uint(all.x));
      ptx::StoreCluster(ptx::MapToRank(mine, to) + 4, __float_as_uint(all.y));
    }
  }
  ptx::ClusterArrive();
  ptx::ClusterWait();
  if (threadIdx.x < kOracleHeads) {
    const float2 all = add(of_cta + threadIdx.x, kOracleCtas);
    lse[threadIdx.x] = all.x + log2f(all.y);
  }
  __syncthreads();

  const ptx::u32 target = ptx::MapToRank(ptx::SharedAddress(keys), 0);
  unsigned lowest = ~0u, highest = 0u;
  for (int base = 0; base < own; base += kThreads) {
    const int at = base + threadIdx.x, local = at / item_blocks;
    const int block = (local / kOracleWarps * kOracleCtas * kOracleWarps + rank * kOracleWarps + local % kOracleWarps) * item_blocks + at % item_blocks;
    const bool mine = at < own && block < num_blocks;
    float score = ptx::kNegInf;
    for (int h = 0; mine && h < p.group; ++h) score = fmaxf(score, best[h * own + at] - lse[h]);
    // In natural logarithms, so that small probabilities stay apart; as probabilities where a threshold is held against their softmax.
    const unsigned key = OrderedKey(p.mode == 2 ? ptx::Exp2(score) : score * 0.69314718055994531f);
    if (!mine) continue;
    ptx::StoreCluster(target + block * 4, key);
    lowest = min(lowest, key);
    highest = max(highest, key);
  }
  lowest = __reduce_min_sync(~0u, lowest);
  highest = __reduce_max_sync(~0u, highest);
  if (lane == 0) {
    const ptx::u32 to = ptx::MapToRank(ptx::SharedAddress(ends + rank * kOracleWarps + warp), 0);
    ptx::StoreCluster(to, lowest);
    ptx::StoreCluster(to + 4, highest);
  }
  ptx::ClusterArrive();
  ptx::ClusterWait();
  if (rank != 0) return;
  chooser.List(p.ids + static_cast<ptx::i64>(row) * p.capacity, p.counts + row);
}

}  // namespace lectern::attention
