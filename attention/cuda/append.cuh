// attention/cuda/append.cuh: the packed projection of one new token to rotated queries, paged K and V, and descriptors.
//
// Dataflow  grid = (kv_head, batch). Where the token's page continues a shared one, the CTA first copies its head's part of that
//           page, K, V and descriptors (16 KB each of K and V at most, once a fork). A warp takes one head vector of the group at a time: bias, norm, rounding, rotation,
//           store. The warp of the key keeps it in registers for the minimum, the maximum and the pool of the open
//           block. In the step that closes a block the whole CTA projects the pool: 3 D rows of W weights.
// Shapes    qkv [batch, (q_heads + 2 kv_heads) * D]; everything else as attention/append.h.
// Bytes     a few rows of D a head; 3 * D * W * 2 (98 KB at 128) a KV head and block of tokens.
// Lanes     lane l holds the columns l * kE .. and D / 2 + l * kE ..: a rotated pair lies in one lane.
#pragma once

#include "attention/cuda/ptx.cuh"
#include "attention/cuda/rotation.cuh"
#include "attention/cuda/select_params.h"

namespace lectern::attention {

template <class Element, int kD>
struct HeadVector {
  static constexpr int kE = kD / 64;  // columns of a lane in each half
  float low[kE], high[kE];

  __device__ __forceinline__ void Load(const ptx::u16* from, int lane, bool add) {
#pragma unroll
    for (int i = 0; i < kE; ++i) {
      const float a = Element::Widen(from[lane * kE + i]), b = Element::Widen(from[kD / 2 + lane * kE + i]);
      low[i] = add ? low[i] + a : a;
      high[i] = add ? high[i] + b : b;
    }
  }
  __device__ __forceinline__ void Norm(const float* weight, float eps, int lane) {
    if (weight == nullptr) return;
    float squares = 0;
#pragma unroll
    for (int i = 0; i < kE; ++i) squares += low[i] * low[i] + high[i] * high[i];
#pragma unroll
    for (int lanes = 16; lanes > 0; lanes /= 2) squares += __shfl_xor_sync(~0u, squares, lanes);
    const float inverse = rsqrtf(squares / kD + eps);
#pragma unroll
    for (int i = 0; i < kE; ++i) low[i] *= inverse * weight[lane * kE + i], high[i] *= inverse * weight[kD / 2 + lane * kE + i];
  }
  __device__ __forceinline__ void Round() {
#pragma unroll
    for (int i = 0; i < kE; ++i) {
      const ptx::u32 packed = Element::Pack(low[i], high[i]);
      low[i] = Element::Low(packed), high[i] = Element::High(packed);
    }
  }
  __device__ __forceinline__ void Rotate(const float* frequencies, float scale, int position, int lane) {
    if (frequencies == nullptr) return;
#pragma unroll
    for (int i = 0; i < kE; ++i) {
      float c, s;
      Rotation(position, frequencies[lane * kE + i], scale, &c, &s);
      const float a = low[i], b = high[i];
      low[i] = a * c - b * s;
      high[i] = b * c + a * s;
    }
  }
  __device__ __forceinline__ void Store(ptx::u16* to, int lane) const {
#pragma unroll
    for (int i = 0; i < kE; ++i) {
      const ptx::u32 packed = Element::Pack(low[i], high[i]);
      to[lane * kE + i] = static_cast<ptx::u16>(packed);
      to[kD / 2 + lane * kE + i] = static_cast<ptx::u16>(packed >> 16);
    }
  }
};

__device__ __forceinline__ void CopyByCta(char* to, const char* from, int bytes) {
#pragma unroll 1
  for (int i = static_cast<int>(threadIdx.x) * 16; i < bytes; i += kAppendWarps * 32 * 16) {
    *reinterpret_cast<uint4*>(to + i) = *reinterpret_cast<const uint4*>(from + i);
  }
}

// What page `from` holds of the sequence whose next token goes into page `to` at `slot`, for one KV head.
template <int kD>
__device__ __forceinline__ void CopyPage(const AppendParams& p, ptx::i64 to, ptx::i64 from, int slot, int kv_head) {
  const auto copy = [&](char* base, ptx::i64 page_bytes, ptx::i64 head_bytes, ptx::i64 at, int bytes) {
    base += kv_head * head_bytes + at;
    CopyByCta(base + to * page_bytes, base + from * page_bytes, bytes);
  };
  copy(p.k, p.k_page_bytes, p.k_head_bytes, 0, slot * kD * 2);
  copy(p.v, p.v_page_bytes, p.v_head_bytes, 0, slot * kD * 2);
  const int pair = p.min_max_block_tokens, key = p.gate_block_tokens;
#pragma unroll 1
  for (int i = 0; pair > 0 && i * pair < slot; ++i) {
    copy(p.min_max, p.min_max_page_bytes, p.min_max_head_bytes, i * p.min_max_block_bytes, kD * 4);
  }
#pragma unroll 1
  for (int i = 0; key > 0 && (i + 1) * key <= slot; ++i) {
    copy(p.gate_keys, p.gate_page_bytes, p.gate_head_bytes, i * p.gate_block_bytes, kD * 2);
  }
  __syncthreads();
}

template <class Element, int kD>
__global__ void __launch_bounds__(kAppendWarps * 32) AppendKernel(const __grid_constant__ AppendParams p) {
  using Head = HeadVector<Element, kD>;
  constexpr int kE = Head::kE;
  __shared__ float pooled[3 * kD];
  __shared__ float pieces[kAppendWarps * kD];
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, kv_head = blockIdx.x, b = blockIdx.y;
  ptx::LaunchDependents();
  ptx::WaitForPredecessors();
  const int position = p.lengths[b] - 1;
  if (position < 0) return;
  const int q_heads = p.kv_heads * p.group, heads = q_heads + 2 * p.kv_heads;
  const int* pages = p.page_table + static_cast<ptx::i64>(b) * p.page_table_stride;
  const ptx::u16* qkv = static_cast<const ptx::u16*>(p.qkv) + static_cast<ptx::i64>(b) * heads * kD;
  const ptx::u16* bias = static_cast<const ptx::u16*>(p.bias);
  const bool gate = p.gate_block_tokens > 0, closes = gate && (position + 1) % p.gate_block_tokens == 0;
  const auto row = [&](const char* base, ptx::i64 page_bytes, ptx::i64 head_bytes) {
    return reinterpret_cast<ptx::u16*>(const_cast<char*>(base) + pages[position / 64] * page_bytes + kv_head * head_bytes +
                                       position % 64 * kD * 2);
  };
  if (p.copy_from != nullptr && p.copy_from[b] >= 0) CopyPage<kD>(p, pages[position / 64], p.copy_from[b], position % 64, kv_head);
  for (int i = warp; i < p.group + 2; i += kAppendWarps) {
    const int head = i == 0 ? q_heads + kv_head : i == 1 ? q_heads + p.kv_heads + kv_head : kv_head * p.group + i - 2;
    Head x;
    x.Load(qkv + head * kD, lane, false);
    if (bias != nullptr) x.Load(bias + head * kD, lane, true);
    if (i == 1) {
      x.Store(row(p.v, p.v_page_bytes, p.v_head_bytes), lane);
      continue;
    }
    x.Norm(i == 0 ? p.k_norm : p.q_norm, p.norm_eps, lane);
    x.Round();
    if (i > 1) {
      const ptx::i64 at = (static_cast<ptx::i64>(b) * q_heads + head) * kD;
      if (p.gate_q != nullptr) x.Store(static_cast<ptx::u16*>(p.gate_q) + at, lane);
      x.Rotate(p.frequencies, p.rope_scale, position, lane);
      x.Store(static_cast<ptx::u16*>(p.q) + at, lane);
      continue;
    }
    if (gate) {
      const ptx::i64 at = (static_cast<ptx::i64>(b) * p.kv_heads + kv_head) * 3 * kD;
      const bool first = position % p.gate_block_tokens == 0, commit = p.commit != nullptr && p.commit[b] != 0;
#pragma unroll
      for (int j = 0; j < 2 * kE; ++j) {
        const float v = j < kE ? x.low[j % kE] : x.high[j % kE];
        const int c = (j < kE ? 0 : kD / 2) + lane * kE + j % kE;
        float* pool = p.pool + at + c;
        const float top = first ? v : fmaxf(pool[0], v), bottom = first ? v : fminf(pool[kD], v);
        const float sum = first ? v : pool[2 * kD] + v;
        pool[0] = top, pool[kD] = bottom, pool[2 * kD] = sum;
        pooled[c] = top, pooled[kD + c] = bottom, pooled[2 * kD + c] = sum / static_cast<float>(p.gate_block_tokens);
        if (commit && p.committed_pool != nullptr) {
          float* kept = p.committed_pool + at + c;
          kept[0] = top, kept[kD] = bottom, kept[2 * kD] = sum;
        }
      }
    }
    x.Rotate(p.frequencies, p.rope_scale, position, lane);
    x.Store(row(p.k, p.k_page_bytes, p.k_head_bytes), lane);
    if (p.min_max_block_tokens > 0) {
      x.Round();
      const int size = p.min_max_block_tokens, block = position / size;
      ptx::u16* pair = reinterpret_cast<ptx::u16*>(p.min_max + pages[block * size / 64] * p.min_max_page_bytes +
                                                   kv_head * p.min_max_head_bytes + block * size % 64 / size * p.min_max_block_bytes);
      Head low = x, high = x;
      if (position % size != 0) {
        low.Load(pair, lane, false);
        high.Load(pair + kD, lane, false);
#pragma unroll
        for (int j = 0; j < kE; ++j) {
          low.low[j] = fminf(low.low[j], x.low[j]), low.high[j] = fminf(low.high[j], x.high[j]);
          high.low[j] = fmaxf(high.low[j], x.low[j]), high.high[j] = fmaxf(high.high[j], x.high[j]);
        }
      }
      low.Store(pair, lane);
      high.Store(pair + kD, lane);
    }
  }
  if (!closes) return;

  __syncthreads();
  constexpr int kLanes = kD / 8, kRows = 256 / kLanes;
  const int part = lane % kLanes;
  const char* weights = static_cast<const char*>(p.gate_weights) + static_cast<ptx::i64>(kv_head) * 3 * kD * kD * 2 + part * 16;
  float sum[8] = {};
  for (int i = static_cast<int>(threadIdx.x) / kLanes; i < 3 * kD; i += kRows) {
    const uint4 w = *reinterpret_cast<const uint4*>(weights + static_cast<ptx::i64>(i) * kD * 2);
    const ptx::u32 words[4] = {w.x, w.y, w.z, w.w};
#pragma unroll
    for (int c = 0; c < 4; ++c) {
      sum[2 * c] += pooled[i] * Element::Low(words[c]);
      sum[2 * c + 1] += pooled[i] * Element::High(words[c]);
    }
  }
#pragma unroll
  for (int c = 0; c < 8; ++c) {
#pragma unroll
    for (int lanes = kLanes; lanes < 32; lanes *= 2) sum[c] += __shfl_xor_sync(~0u, sum[c], lanes);
    if (lane < kLanes) pieces[warp * kD + part * 8 + c] = sum[c];
  }
  __syncthreads();
  if (warp != 0) return;
  Head e;
#pragma unroll
  for (int j = 0; j < kE; ++j) {
    e.low[j] = e.high[j] = 0;
#pragma unroll
    for (int w = 0; w < kAppendWarps; ++w) {
      e.low[j] += pieces[w * kD + lane * kE + j];
      e.high[j] += pieces[w * kD + kD / 2 + lane * kE + j];
    }
  }
  const int size = p.gate_block_tokens, block = position / size;
  e.Norm(p.gate_norm, p.gate_norm_eps, lane);
  e.Rotate(p.gate_frequencies, p.gate_rope_scale, p.gate_pos_compat ? position : block * size, lane);
  e.Store(reinterpret_cast<ptx::u16*>(p.gate_keys + pages[block * size / 64] * p.gate_page_bytes + kv_head * p.gate_head_bytes +
                                      block * size % 64 / size * p.gate_block_bytes), lane);
}

}  // namespace lectern::attention
