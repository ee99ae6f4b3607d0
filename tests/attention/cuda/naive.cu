#include "tests/attention/cuda/naive.h"

#include <cuda_fp16.h>

namespace lectern::attention {
namespace {

__device__ double Value(uint16_t bits, bool fp16) {
  return static_cast<double>(fp16 ? __half2float(__ushort_as_half(bits)) : __uint_as_float(static_cast<unsigned>(bits) << 16));
}

// Threads stride over keys; three passes: the peak, the sum, then one column a thread.
__global__ void Naive(NaiveStep s) {
  const int b = blockIdx.x / s.q_heads, head = blockIdx.x % s.q_heads, kv = head / (s.q_heads / s.kv_heads);
  const int row = b * s.kv_heads + kv, length = s.lengths[b];
  const bool listed = s.ids != nullptr && s.counts[row] >= 0;
  const long long keys = listed ? static_cast<long long>(s.counts[row]) * s.block_tokens : length;
  const auto key_of = [&](long long i) -> int {  // -1: past the end
    if (!listed) return static_cast<int>(i);
    const int key = s.ids[static_cast<long long>(row) * s.capacity + i / s.block_tokens] * s.block_tokens + static_cast<int>(i % s.block_tokens);
    return key < length ? key : -1;
  };
  const auto at = [&](int key, int c) {
    const long long page = s.page_table[static_cast<long long>(b) * s.page_table_stride + key / 64];
    return ((page * s.kv_heads + kv) * 64 + key % 64) * s.d + c;
  };
  const auto score = [&](int key) {
    double dot = 0;
    for (int c = 0; c < s.d; ++c) dot += Value(s.q[(static_cast<long long>(b) * s.q_heads + head) * s.d + c], s.fp16) * Value(s.k[at(key, c)], s.fp16);
    dot *= s.scale;
    return s.soft_cap > 0 ? s.soft_cap * tanh(dot / s.soft_cap) : dot;
  };
  __shared__ double part[256];
  double peak = -INFINITY;
  for (long long i = threadIdx.x; i < keys; i += blockDim.x) {
    const int key = key_of(i);
    if (key >= 0) peak = fmax(peak, score(key));
  }
  part[threadIdx.x] = peak;
  __syncthreads();
  for (int i = 0; i < 256; ++i) peak = fmax(peak, part[i]);
  __syncthreads();
  double sum = 0;
  for (long long i = threadIdx.x; i < keys; i += blockDim.x) {
    const int key = key_of(i);
    if (key >= 0) sum += exp(score(key) - peak);
  }
  part[threadIdx.x] = sum;
  __syncthreads();
  sum = 0;
  for (int i = 0; i < 256; ++i) sum += part[i];
  __shared__ double weight[256];
  double acc = 0;
  for (long long base = 0; base < keys; base += 256) {
    __syncthreads();
    const int key = base + threadIdx.x < keys ? key_of(base + threadIdx.x) : -1;
    weight[threadIdx.x] = key >= 0 ? exp(score(key) - peak) : 0.0;
    __syncthreads();
    for (int j = 0; threadIdx.x < s.d && j < 256 && base + j < keys; ++j) {
      const int k = key_of(base + j);
      if (k >= 0) acc += weight[j] * Value(s.v[at(k, threadIdx.x)], s.fp16);
    }
  }
  const long long to = static_cast<long long>(b) * s.q_heads + head;
  if (threadIdx.x < s.d) s.out[to * s.d + threadIdx.x] = sum == 0 ? 0.0 : acc / sum;
  if (threadIdx.x == 0) s.lse[to] = sum == 0 ? -INFINITY : peak + log(sum);
}

}  // namespace

void NaiveDecode(const NaiveStep& step) { Naive<<<step.batch * step.q_heads, 256>>>(step); }

}  // namespace lectern::attention
