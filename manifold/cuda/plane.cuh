// manifold/cuda/plane.cuh: one CTA a point: gather its neighbours, Gram matrix, leading directions, foot.
//
// Dataflow  96 columns at a time: a thread gathers its column of 32 neighbours into registers, takes the differences and
//           their mean in fp32, and leaves each as two bf16 (high + low: 16 bits, any scale); mma.sync adds
//           high high + high low + low high to the tiles of G on and below the diagonal, in registers. G then overwrites
//           the differences, Solve() finds the coefficients, and a second gather, mostly out of L2, adds them up.
// Shapes    points, planes, means, offset [n, dim] fp32; ids [n, k].
// Bytes     2 k dim 4 gathered + dim 8: 196 KiB a point at 64 x 384, half of it from device memory: 98 GB a million points,
//           35 ms at 2.8 TB/s.
// Flops     3 k^2 dim on tensor cores (20 of 32 tiles: 6 M), 2 M of Solve() on the others: 2 T a million, 0.1 s at a third of
//           their peak. What bounds it is the latency of Solve()'s one-warp parts (0.40 s a million measured): hence as many CTAs
//           on an SM as shared memory holds.
// Budget    46 KiB of G, blocks and small matrices over 26 KiB of differences, four CTAs an SM: 192 threads, 80 registers.
#pragma once

#include <cuda_bf16.h>

#include "manifold/cuda/plane_params.h"
#include "manifold/cuda/plane_solver.h"
#include "manifold/cuda/ptx.cuh"

namespace lectern::manifold::cuda {

// Who a thread is, read where it is needed: addresses made of it are not kept in registers from one step to the next.
__device__ __forceinline__ int ThreadHere() {
  int thread;
  asm volatile("mov.u32 %0, %%tid.x;" : "=r"(thread));
  return thread;
}

struct WarpTeam {
  int lane;
  template <class F>
  __device__ __forceinline__ void Each(int count, const F& f) const {
    for (int i = lane; i < count; i += 32) f(i);
    __syncwarp();
  }
  __device__ __forceinline__ void Meet() const { __syncwarp(); }
};

template <int kThreads>
struct BlockTeam {
  template <class F>
  __device__ __forceinline__ void Each(int count, const F& f) const {
    for (int i = ThreadHere(); i < count; i += kThreads) f(i);
    __syncthreads();
  }
  template <class F>
  __device__ __forceinline__ void OneWarp(const F& f) const {
    const int thread = ThreadHere();
    if (thread < 32) f(WarpTeam{thread});
    __syncthreads();
  }
};

constexpr int kPlaneColumns = 96;                  // gathered at a time, each thread 32 rows of one: 32 loads in flight
constexpr int kPlaneStride = kPlaneColumns + 8;    // of a row of differences: 8 rows of ldmatrix on different banks

template <int kRows, int kBlock>
struct PlaneShared {
  union {
    struct {
      __nv_bfloat16 high[kRows][kPlaneStride], low[kRows][kPlaneStride];
    };
    SolverMemory<kRows, kBlock> solver;
  };
  SolverResult<kRows> result;
  float mean[kPlaneColumns];
  float sums[kRows / 32][kPlaneColumns];
  alignas(16) float diagonal[kRows];
  float warp_sums[3 * kRows / 32];
  int32_t ids[kRows];
};

// Where a warp's tiles of 16 x 16 begin, on and below the diagonal; a row of -1: none left.
template <int kTiles, int kWarpTiles, int kWarps>
struct GramTiles {
  int row[kWarpTiles], column[kWarpTiles];
  __device__ __forceinline__ explicit GramTiles(int warp) {
#pragma unroll
    for (int t = 0; t < kWarpTiles; ++t) {
      const int tile = warp + t * kWarps;
      int i = 0;
      while (tile >= (i + 1) * (i + 2) / 2) ++i;
      row[t] = tile < kTiles ? 16 * i : -1;
      column[t] = 16 * (tile - i * (i + 1) / 2);
    }
  }
};

template <int kRows, int kBlock>
constexpr int kPlaneCtas = kRows > 64 ? 1 : kBlock == 24 ? 4 : kBlock == 16 ? 3 : 2;  // on an SM, without spills

// A call of its own: registers for the gathering and for the solver are then two questions.
template <int kRows, int kBlock>
__device__ __noinline__ void SolveShared(const float* start, float total, int d) {
  extern __shared__ __align__(1024) unsigned char bytes[];
  auto& shared = *reinterpret_cast<PlaneShared<kRows, kBlock>*>(bytes);
  Solve(BlockTeam<3 * kRows>{}, shared.solver, shared.result, start, total, d);
}

template <int kRows, int kBlock>
__global__ void __launch_bounds__(3 * kRows, kPlaneCtas<kRows, kBlock>) FitPlane(const PlaneParams p) {
  constexpr int kThreads = 3 * kRows, kWarps = kThreads / 32, kGroups = kRows / 32, kTiles = kRows / 16 * (kRows / 16 + 1) / 2;
  constexpr int kWarpTiles = (kTiles + kWarps - 1) / kWarps, kHeld = 32;
  using Shared = PlaneShared<kRows, kBlock>;
  static_assert(kPlaneCtas<kRows, kBlock> * (sizeof(Shared) + 1024) <= 228 * 1024, "these CTAs must fit one SM");
  extern __shared__ __align__(1024) unsigned char bytes[];
  Shared& shared = *reinterpret_cast<Shared*>(bytes);
  const int thread = static_cast<int>(threadIdx.x), warp = thread / 32, lane = thread % 32;
  const long long point = blockIdx.x;
  const float* x = p.points + point * p.dim;

  const int32_t id = thread < p.k && thread < kRows ? p.ids[point * p.k + thread] : -1;
  if (thread < kRows) shared.ids[thread] = id, shared.result.at[thread] = 0;
  const int count = __syncthreads_count(id >= 0);
  if (thread == 0) p.count[point] = count;
  if (count < p.d + 2) {
    for (int c = thread; c < p.dim; c += kThreads) p.offset[point * p.dim + c] = 0;
    if (thread == 0) p.residual2[point] = 0, p.gap[point] = 0;
    return;
  }
  const float share = 1.0f / static_cast<float>(count);

  float tiles[kWarpTiles][2][4] = {};
  for (int begin = 0; begin < p.dim; begin += kPlaneColumns) {
    const int local = thread % kPlaneColumns, group = thread / kPlaneColumns, column = begin + local;
    const bool inside = column < p.dim;
    const float own = inside ? x[column] : 0.0f;
    float v[kHeld], sum = 0;
#pragma unroll
    for (int j = 0; j < kHeld; ++j) {
      const int row = group * kHeld + j;
      v[j] = inside && row < count ? __ldg(p.planes + static_cast<long long>(shared.ids[row]) * p.dim + column) : own;
    }
#pragma unroll
    for (int j = 0; j < kHeld; ++j) v[j] -= own, sum += v[j];
    shared.sums[group][local] = sum;
    __syncthreads();
    sum = 0;
#pragma unroll
    for (int g = 0; g < kGroups; ++g) sum += shared.sums[g][local];
    const float shift = sum * share;
    if (group == 0) {
      float mean = shift;
      if (p.means != p.planes) {
        mean = 0;
        for (int row = 0; inside && row < count; ++row) mean += p.means[static_cast<long long>(shared.ids[row]) * p.dim + column] - own;
        mean *= share;
      }
      shared.mean[local] = mean;
    }
#pragma unroll
    for (int j = 0; j < kHeld; ++j) {
      const int row = group * kHeld + j;
      const float z = row < count ? v[j] - shift : 0.0f;
      const __nv_bfloat16 high = __float2bfloat16_rn(z);
      shared.high[row][local] = high;
      shared.low[row][local] = __float2bfloat16_rn(z - __bfloat162float(high));
    }
    __syncthreads();

    const GramTiles<kTiles, kWarpTiles, kWarps> at_tiles(warp);
    const int steps = (min(kPlaneColumns, p.dim - begin) + 15) / 16;
    for (int step = 0; step < steps; ++step) {
#pragma unroll
      for (int t = 0; t < kWarpTiles; ++t) {
        if (at_tiles.row[t] < 0) break;
        uint32_t a_high[4], a_low[4], b_high[4], b_low[4];
        const int row = lane % 16, at = step * 16 + lane / 16 * 8;
        ptx::LdMatrix4(a_high, ptx::SharedAddress(&shared.high[at_tiles.row[t] + row][at]));
        ptx::LdMatrix4(a_low, ptx::SharedAddress(&shared.low[at_tiles.row[t] + row][at]));
        ptx::LdMatrix4(b_high, ptx::SharedAddress(&shared.high[at_tiles.column[t] + row][at]));
        ptx::LdMatrix4(b_low, ptx::SharedAddress(&shared.low[at_tiles.column[t] + row][at]));
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          ptx::MmaBf16(tiles[t][half], a_low, b_high[half], b_high[half + 2]);
          ptx::MmaBf16(tiles[t][half], a_high, b_low[half], b_low[half + 2]);
          ptx::MmaBf16(tiles[t][half], a_high, b_high[half], b_high[half + 2]);
        }
      }
    }
#pragma unroll 4
    for (int row = warp; row < kRows; row += kWarps) {  // at -= z . mean
      float dot = 0;
#pragma unroll
      for (int c = 2 * lane; c < kPlaneColumns; c += 64) {
        const float2 high = __bfloat1622float2(*reinterpret_cast<const __nv_bfloat162*>(&shared.high[row][c]));
        const float2 low = __bfloat1622float2(*reinterpret_cast<const __nv_bfloat162*>(&shared.low[row][c]));
        dot += (high.x + low.x) * shared.mean[c] + (high.y + low.y) * shared.mean[c + 1];
      }
      for (int step = 16; step > 0; step /= 2) dot += __shfl_xor_sync(0xffffffffu, dot, step);
      if (lane == 0) shared.result.at[row] -= dot;
    }
    __syncthreads();
  }

  // G over its trace, where the differences were.
  const auto each = [&](const auto& f) {
    const GramTiles<kTiles, kWarpTiles, kWarps> at_tiles(warp);
#pragma unroll
    for (int t = 0; t < kWarpTiles; ++t) {
      if (at_tiles.row[t] < 0) break;
#pragma unroll
      for (int half = 0; half < 2; ++half) {
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          f(at_tiles.row[t] + lane / 4 + e / 2 * 8, at_tiles.column[t] + half * 8 + lane % 4 * 2 + e % 2, tiles[t][half][e]);
        }
      }
    }
  };
  each([&](int row, int column, float value) {
    if (row == column) shared.diagonal[row] = value;
  });
  __syncthreads();
  float totals[4] = {};
#pragma unroll 4
  for (int row = 0; row < kRows; row += 4) {
    const Quad some = Load4(shared.diagonal + row);
    for (int c = 0; c < 4; ++c) totals[c] += some.v[c];
  }
  const float total = (totals[0] + totals[1]) + (totals[2] + totals[3]);
  const float scale = total > 1e-36f ? 1 / total : 0.0f;
  auto& solver = shared.solver;
  each([&](int row, int column, float value) {
    if (row < column) return;
    solver.g[row * solver.kStride + column] = value * scale;
    solver.g[column * solver.kStride + row] = value * scale;
  });
  __syncthreads();
  SolveShared<kRows, kBlock>(p.start, total, p.d);

  float squared = 0;
  for (int column = thread; column < p.dim; column += kThreads) {
    const float own = x[column];
    float sum = 0, along = 0, weights = 0, mean = 0;
#pragma unroll 16
    for (int row = 0; row < count; ++row) {
      const float v = __ldg(p.planes + static_cast<long long>(shared.ids[row]) * p.dim + column) - own;
      const float weight = shared.result.coefficient[row];
      sum += v;
      along += weight * v;
      weights += weight;
    }
    sum *= share;
    if (p.means == p.planes) {
      mean = sum;
    } else {
      for (int row = 0; row < count; ++row) mean += p.means[static_cast<long long>(shared.ids[row]) * p.dim + column] - own;
      mean *= share;
    }
    const float offset = mean + (along - weights * sum);
    squared += offset * offset;
    __stcs(p.offset + point * p.dim + column, offset);
  }
  for (int step = 16; step > 0; step /= 2) squared += __shfl_xor_sync(0xffffffffu, squared, step);
  if (lane == 0) shared.warp_sums[warp] = squared;
  __syncthreads();
  if (thread != 0) return;
  squared = 0;
  for (int w = 0; w < kWarps; ++w) squared += shared.warp_sums[w];
  p.residual2[point] = squared;
  p.gap[point] = shared.result.gap;
}

}  // namespace lectern::manifold::cuda
