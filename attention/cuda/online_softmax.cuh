// attention/cuda/online_softmax.cuh: running maximum and sum of the softmax, shared by every kernel here.
//
// Scores stand in units of log2, so that a weight is one ex2. A state that saw nothing is (peak -inf, sum 0) and merges
// as zero; exp(-inf - (-inf)) is 0.
#pragma once

#include "attention/cuda/ptx.cuh"

namespace lectern::attention {

// The scores of one warp: a tile of 16 keys x 8 query rows as mma leaves it. Lane l holds keys l / 4 and l / 4 + 8 of the
// query rows 2 * (l % 4) and the next. A query row's state is equal in the eight lanes that share it; its sum is not
// reduced over them until Reduce().
struct OnlineSoftmax {
  float peak[2] = {ptx::kNegInf, ptx::kNegInf};
  float sum[2] = {0.0f, 0.0f};

  // Turns scores into weights; `keep` is the factor of everything accumulated before.
  __device__ __forceinline__ void Step(float (&s)[4], float (&keep)[2]) {
#pragma unroll
    for (int j = 0; j < 2; ++j) {
      float top = fmaxf(s[j], s[j + 2]);
#pragma unroll
      for (int lanes = 4; lanes < 32; lanes *= 2) top = fmaxf(top, __shfl_xor_sync(~0u, top, lanes));
      top = fmaxf(top, peak[j]);
      const float base = top == ptx::kNegInf ? 0.0f : top;
      keep[j] = peak[j] == ptx::kNegInf ? 1.0f : ptx::Exp2(peak[j] - base);  // nothing before: nothing to scale
      s[j] = ptx::Exp2(s[j] - base);
      s[j + 2] = ptx::Exp2(s[j + 2] - base);
      sum[j] = sum[j] * keep[j] + s[j] + s[j + 2];
      peak[j] = top;
    }
  }
  __device__ __forceinline__ void Reduce() {
#pragma unroll
    for (int j = 0; j < 2; ++j) {
#pragma unroll
      for (int lanes = 4; lanes < 32; lanes *= 2) sum[j] += __shfl_xor_sync(~0u, sum[j], lanes);
    }
  }
};

// cap * tanh(x * scale / cap) in units of log2, with cap_in = scale / cap and cap_out = cap * log2(e).
__device__ __forceinline__ float SoftCapped(float x, float cap_in, float cap_out) {
  const float e = ptx::Exp2(2.8853900817779268f * x * cap_in);  // e^(2x): tanh x = 1 - 2 / (e^(2x) + 1)
  return cap_out * (1.0f - 2.0f / (e + 1.0f));
}

// The weight of a part whose peak is `peak` in a whole whose peak is `top`.
__device__ __forceinline__ float PartWeight(float peak, float top) {
  return peak == ptx::kNegInf ? 0.0f : ptx::Exp2(peak - top);
}

}  // namespace lectern::attention
