// manifold/cuda/neighbours.cuh: exact nearest neighbours of fp16 vectors: products that are filtered where they are made.
//
// Dataflow  A CTA keeps 128 queries in shared memory and streams the table past them, 256 columns at a time: one thread issues
//           bulk copies, two warpgroups multiply (wgmma, fp32 sums that start at -|column|^2 / 2). What lies above a
//           row's bound, that of its keep-th best less the error of two sums, goes to the row's list; a list of more
//           than 256 is cut to what the new bound leaves. No score reaches memory but these: about 1,400 a row of a million.
//           Rank() then takes fp64 distances of the last candidates, some 70 a row, and orders them by (distance, id).
// Exact     A sum of `inner` products of fp16 in fp32 errs by at most inner / 16 steps of 20 truncations each of 2^-24 of
//           1.5 longest^2; a column of the true `keep` nearest is thus never below the bound. Where ties overflow a list
//           the row is looked at in fp64 altogether.
// Bytes     The table (768 MB at 1M x 384) once a wave of 132 * 128 queries: 45 GB from device memory; 192 KiB a tile and CTA
//           out of L2: 6 TB a million, which at 5 TB/s is 1.2 s.
// Flops     2 rows^2 dim = 7.7e14: 0.97 s at 790 TFLOP/s, 1.67 s measured. The filter reads each sum once: 3 instructions for 768 operations.
// Budget    A 96 KiB + three stages of 32 KiB; 128 accumulators a thread, 288 threads, one CTA an SM.
#pragma once

#include <cuda_fp16.h>

#include "manifold/cuda/neighbours_params.h"
#include "manifold/cuda/ptx.cuh"

namespace lectern::manifold::cuda {

constexpr int kStageBytes = kTableRows * kTableInner * 2;
constexpr float kNone = -3.402823466e38f;  // a bound below every score; padding has -infinity
constexpr unsigned kAll = 0xffffffffu;

// Index of the 16-byte piece `part` (0..8 pieces - 1) of a row.
__device__ __forceinline__ long long TablePart(const Table& t, long long row, int part) {
  const int in_block = static_cast<int>(row % kTableRows);
  return ((row / kTableRows * t.pieces + part / 8) * kTableRows + in_block) * 8 + ((part % 8) ^ (in_block % 8));
}

// A warp a row of the table: rounds, lays out, and finds the bias.
template <class From>
__global__ void PackTable(const From* rows, Table t) {
  const long long row = (static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x) / 32;
  const int lane = static_cast<int>(threadIdx.x % 32);
  if (row >= t.blocks * kTableRows) return;
  double squared = 0;
  for (int part = lane; part < 8 * t.pieces; part += 32) {
    alignas(16) __half to[8];
#pragma unroll
    for (int e = 0; e < 8; ++e) {
      const int column = 8 * part + e;
      to[e] = row < t.rows && column < t.dim ? __half(rows[row * t.dim + column]) : __half(0.0f);
      const double x = static_cast<double>(__half2float(to[e]));
      squared += x * x;
    }
    reinterpret_cast<uint4*>(t.elements)[TablePart(t, row, part)] = *reinterpret_cast<const uint4*>(to);
  }
  for (int step = 16; step > 0; step /= 2) squared += __shfl_xor_sync(kAll, squared, step);
  if (lane != 0) return;
  t.bias[row] = row < t.rows ? static_cast<float>(-squared / 2) : -INFINITY;
  atomicMax(reinterpret_cast<int*>(t.longest), __float_as_int(__double2float_ru(squared)));  // positive floats order as integers
}

__device__ __forceinline__ uint32_t Ordered(float x) {
  const uint32_t bits = __float_as_uint(x);
  return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}
__device__ __forceinline__ float FromOrdered(uint32_t x) { return __uint_as_float(x & 0x80000000u ? x & 0x7fffffffu : ~x); }

// A warp cuts a list of `count` >= keep entries to those not below its keep-th best less `margin`, and says how many those are.
__device__ __forceinline__ int Compact(Candidate* list, int count, int keep, float margin, float* bound) {
  constexpr int kEach = kListEntries / 32;
  const int lane = static_cast<int>(threadIdx.x % 32);
  uint32_t key[kEach];
  int32_t id[kEach];
#pragma unroll
  for (int s = 0; s < kEach; ++s) {
    const int at = s * 32 + lane;
    key[s] = 0, id[s] = 0;
    if (at < count) {
      const Candidate one = list[at];
      key[s] = Ordered(one.score), id[s] = one.id;
    }
  }
  uint32_t least = 0;  // the keep-th greatest key, bit by bit
  for (uint32_t bit = 0x80000000u; bit != 0; bit >>= 1) {
    const uint32_t tried = least | bit;
    unsigned own = 0;
#pragma unroll
    for (int s = 0; s < kEach; ++s) own += key[s] >= tried;
    if (static_cast<int>(__reduce_add_sync(kAll, own)) >= keep) least = tried;
  }
  const float cut = FromOrdered(least) - margin;
  const uint32_t from = Ordered(cut);
  int kept = 0;
#pragma unroll
  for (int s = 0; s < kEach; ++s) {
    const bool stays = s * 32 + lane < count && key[s] >= from;
    const unsigned mask = __ballot_sync(kAll, stays);
    if (stays) list[kept + __popc(mask & ((1u << lane) - 1))] = {FromOrdered(key[s]), id[s]};
    kept += __popc(mask);
  }
  *bound = cut;
  __syncwarp();
  return kept;
}

constexpr int kMaxStages = 4;

struct SearchShared {
  alignas(8) uint64_t full[kMaxStages], empty[kMaxStages], bias_empty[kMaxStages], rows_full, rows_empty;
  alignas(16) float bias[kMaxStages][kTableRows];  // as many tiles as stages may be ahead
  float bound[128];
  int count[128];
};

// kWarpgroups * 64 queries a CTA.
template <int kWarpgroups>
__global__ void __launch_bounds__(kWarpgroups * 128 + 32, 1) SearchTable(const SearchParams p, const int stages) {
  constexpr int kTileRows = kWarpgroups * 64, kConsumers = kWarpgroups * 4;
  constexpr uint32_t kRowPiece = kTileRows * kTableInner * 2;
  extern __shared__ __align__(1024) unsigned char bytes[];  // queries, stages, SearchShared
  const uint32_t rows_at = ptx::SharedAddress(bytes), stages_at = rows_at + p.table.pieces * kRowPiece;
  SearchShared& shared = *reinterpret_cast<SearchShared*>(bytes + p.table.pieces * kRowPiece + stages * kStageBytes);
  const int warp = static_cast<int>(threadIdx.x / 32), lane = static_cast<int>(threadIdx.x % 32);
  const int pieces = p.table.pieces, tiles = static_cast<int>(p.table.blocks);
  const long long row_blocks = (p.end - p.begin + kTileRows - 1) / kTileRows;
  if (threadIdx.x == 0) {
    for (int s = 0; s < stages; ++s) {
      ptx::BarrierInit(ptx::SharedAddress(&shared.full[s]), 1);
      ptx::BarrierInit(ptx::SharedAddress(&shared.empty[s]), kConsumers);
    }
    for (int s = 0; s < kMaxStages; ++s) ptx::BarrierInit(ptx::SharedAddress(&shared.bias_empty[s]), kConsumers * 32);
    ptx::BarrierInit(ptx::SharedAddress(&shared.rows_full), 1);
    ptx::BarrierInit(ptx::SharedAddress(&shared.rows_empty), kConsumers);
    ptx::FenceBarrierInit();
  }
  __syncthreads();

  if (warp == kConsumers) {  // the copies
    if (lane != 0) return;
    const uint32_t rows_full = ptx::SharedAddress(&shared.rows_full);
    int stage = 0, slot = 0;  // slot: of a tile's biases
    uint32_t parity = 0, slot_parity = 0, rows_parity = 0;
    for (long long block = blockIdx.x; block < row_blocks; block += gridDim.x) {
      const long long first = p.begin + block * kTileRows;
      const uint16_t* rows = p.queries.elements +
                             (first / kTableRows * pieces * kTableRows + first % kTableRows) * kTableInner;
      ptx::Wait(ptx::SharedAddress(&shared.rows_empty), rows_parity ^ 1);
      ptx::ArriveExpecting(rows_full, pieces * kRowPiece);
      for (int piece = 0; piece < pieces; ++piece) {
        ptx::CopyBulk(rows_at + piece * kRowPiece, rows + static_cast<long long>(piece) * kTableRows * kTableInner, kRowPiece, rows_full);
      }
      rows_parity ^= 1;
      const uint16_t* from = p.table.elements;
      for (int tile = 0; tile < tiles; ++tile) {
        for (int piece = 0; piece < pieces; ++piece, from += kTableRows * kTableInner) {
          const uint32_t full = ptx::SharedAddress(&shared.full[stage]);
          ptx::Wait(ptx::SharedAddress(&shared.empty[stage]), parity ^ 1);
          ptx::ArriveExpecting(full, kStageBytes + (piece == 0 ? kTableRows * 4 : 0));
          ptx::CopyBulk(stages_at + stage * kStageBytes, from, kStageBytes, full);
          if (piece == 0) {
            ptx::Wait(ptx::SharedAddress(&shared.bias_empty[slot]), slot_parity ^ 1);
            ptx::CopyBulk(ptx::SharedAddress(shared.bias[slot]), p.table.bias + static_cast<long long>(tile) * kTableRows, kTableRows * 4,
                          full);
            if (++slot == kMaxStages) slot = 0, slot_parity ^= 1;
          }
          if (++stage == stages) stage = 0, parity ^= 1;
        }
      }
    }
    return;
  }

  const int group = warp / 4, first_row = warp * 16, row = first_row + lane / 4;  // and row + 8
  const float norms = fmaxf(*p.table.longest, *p.queries.longest);
  const float margin = 2 * static_cast<float>(4 * pieces * 20) * 0x1p-24f * 1.5f * norms;
  Candidate* lists = p.lists + (static_cast<long long>(blockIdx.x) * kTileRows) * kListEntries;
  int stage = 0, slot = 0;
  uint32_t parity = 0, rows_parity = 0;
  for (long long block = blockIdx.x; block < row_blocks; block += gridDim.x) {
    const long long first = p.begin + block * kTileRows;
    if (lane < 16) shared.bound[first_row + lane] = kNone, shared.count[first_row + lane] = 0;
    int self[2];
#pragma unroll
    for (int h = 0; h < 2; ++h) self[h] = p.self != nullptr && first + row + 8 * h < p.end ? p.self[first + row + 8 * h] : -1;
    __syncwarp();
    ptx::Wait(ptx::SharedAddress(&shared.rows_full), rows_parity);
    rows_parity ^= 1;
    for (int tile = 0; tile < tiles; ++tile) {
      float acc[128];
      int before = -1;
      ptx::Wait(ptx::SharedAddress(&shared.full[stage]), parity);
      const float* bias = shared.bias[slot] + lane % 4 * 2;
#pragma unroll
      for (int j = 0; j < 32; ++j) {
        const float2 two = *reinterpret_cast<const float2*>(bias + 8 * j);
        acc[4 * j] = acc[4 * j + 2] = two.x;
        acc[4 * j + 1] = acc[4 * j + 3] = two.y;
      }
      ptx::Arrive(ptx::SharedAddress(&shared.bias_empty[slot]));  // every lane for its own reads
      if (++slot == kMaxStages) slot = 0;
      ptx::Settle(acc);
      for (int piece = 0; piece < pieces; ++piece) {
        ptx::Wait(ptx::SharedAddress(&shared.full[stage]), parity);
        const uint64_t a = ptx::Descriptor(rows_at + piece * kRowPiece + group * 8192), b = ptx::Descriptor(stages_at + stage * kStageBytes);
        ptx::WgmmaFence();
#pragma unroll
        for (int step = 0; step < 4; ++step) ptx::Wgmma(acc, a + 2 * step, b + 2 * step);
        ptx::WgmmaCommit();
        if (before >= 0) {
          ptx::WgmmaWait<1>();
          if (lane == 0) ptx::Arrive(ptx::SharedAddress(&shared.empty[before]));
        }
        before = stage;
        if (++stage == stages) stage = 0, parity ^= 1;
      }
      ptx::WgmmaWait<0>();
      ptx::Settle(acc);
      if (lane == 0) ptx::Arrive(ptx::SharedAddress(&shared.empty[before]));

#pragma unroll
      for (int h = 0; h < 2; ++h) {
        const float bound = shared.bound[row + 8 * h];
        float best[8], top = -INFINITY;
#pragma unroll
        for (int g = 0; g < 8; ++g) {
          best[g] = -INFINITY;
#pragma unroll
          for (int e = 0; e < 8; ++e) best[g] = fmaxf(best[g], acc[16 * g + e / 2 * 4 + 2 * h + e % 2]);
          top = fmaxf(top, best[g]);
        }
        if (top < bound) continue;
        Candidate* list = lists + (row + 8 * h) * kListEntries;
#pragma unroll
        for (int g = 0; g < 8; ++g) {
          if (best[g] < bound) continue;
#pragma unroll
          for (int e = 0; e < 8; ++e) {
            const float score = acc[16 * g + e / 2 * 4 + 2 * h + e % 2];
            const int id = tile * kTableRows + (4 * g + e / 2) * 8 + lane % 4 * 2 + e % 2;
            if (score >= bound && id != self[h]) list[atomicAdd(&shared.count[row + 8 * h], 1)] = {score, id};
          }
        }
      }
      __syncwarp();
      unsigned long_lists = __ballot_sync(kAll, lane < 16 && shared.count[first_row + lane % 16] > kListKept);
      while (long_lists != 0) {
        const int one = first_row + __ffs(static_cast<int>(long_lists)) - 1;
        long_lists &= long_lists - 1;
        float bound = 0;
        const int kept = Compact(lists + one * kListEntries, shared.count[one], p.keep, margin, &bound);
        __syncwarp();
        if (lane == 0) {
          shared.count[one] = kept > kListKept ? -1 : kept;
          shared.bound[one] = kept > kListKept ? INFINITY : bound;
        }
        __syncwarp();
      }
    }
    if (lane == 0) ptx::Arrive(ptx::SharedAddress(&shared.rows_empty));
    for (int one = first_row; one < first_row + 16 && first + one < p.end; ++one) {
      Candidate* list = lists + one * kListEntries;
      int count = shared.count[one];
      float bound = 0;
      if (count > p.keep) count = Compact(list, count, p.keep, margin, &bound);
      const long long to = first + one - p.begin;
      for (int at = lane; at < count; at += 32) p.candidates[to * kListKept + at] = list[at].id;
      if (lane == 0) p.counts[to] = count;
    }
    __syncwarp();
  }
}

constexpr int kRankWarps = 4;

struct RankList {
  double distance[kListKept], sorted[kListKept];
  int32_t id[kListKept], sorted_id[kListKept];
};

// |a - b|^2 in fp64, by a warp: differences of fp16 are exact.
__device__ __forceinline__ double SquaredDistance(const Table& a, long long i, const Table& b, long long j) {
  double sum = 0;
  for (int part = static_cast<int>(threadIdx.x % 32); part < 8 * a.pieces; part += 32) {
    const uint4 x = __ldg(reinterpret_cast<const uint4*>(a.elements) + TablePart(a, i, part));
    const uint4 y = __ldg(reinterpret_cast<const uint4*>(b.elements) + TablePart(b, j, part));
    const __half2 *u = reinterpret_cast<const __half2*>(&x), *v = reinterpret_cast<const __half2*>(&y);
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      const float2 s = __half22float2(u[e]), t = __half22float2(v[e]);
      const double low = static_cast<double>(s.x) - static_cast<double>(t.x), high = static_cast<double>(s.y) - static_cast<double>(t.y);
      sum += low * low;
      sum += high * high;
    }
  }
  for (int step = 16; step > 0; step /= 2) sum += __shfl_xor_sync(kAll, sum, step);
  return sum;
}

// Orders the list by (distance, id) and cuts it to `keep`.
__device__ __forceinline__ int Order(RankList& list, int count, int keep) {
  __syncwarp();
  for (int i = static_cast<int>(threadIdx.x % 32); i < count; i += 32) {
    const double distance = list.distance[i];
    const int32_t id = list.id[i];
    int place = 0;
    for (int j = 0; j < count; ++j) place += list.distance[j] < distance || (list.distance[j] == distance && list.id[j] < id);
    list.sorted[place] = distance, list.sorted_id[place] = id;
  }
  __syncwarp();
  const int kept = min(count, keep);
  for (int i = static_cast<int>(threadIdx.x % 32); i < kept; i += 32) list.distance[i] = list.sorted[i], list.id[i] = list.sorted_id[i];
  __syncwarp();
  return kept;
}

// A warp a query: exact distances of its candidates, or of every row where there were too many.
__global__ void __launch_bounds__(kRankWarps * 32) Rank(const RankParams p) {
  __shared__ RankList lists[kRankWarps];
  RankList& list = lists[threadIdx.x / 32];
  const int lane = static_cast<int>(threadIdx.x % 32);
  const long long query = p.begin + static_cast<long long>(blockIdx.x) * kRankWarps + threadIdx.x / 32;
  if (query >= p.end) return;
  const int held = p.counts[query - p.begin];
  const int32_t* candidates = p.candidates + (query - p.begin) * kListKept;
  const long long total = held < 0 ? p.table.rows : held;
  const long long self = p.self != nullptr ? p.self[query] : -1;
  double worst = INFINITY;  // of `keep`, once there are as many: of equals the lower id came first
  int count = 0;
  for (long long e = 0; e < total; ++e) {
    const long long id = held < 0 ? e : candidates[e];
    if (id == self) continue;
    const double distance = SquaredDistance(p.queries, query, p.table, id);
    if (!(distance < worst)) continue;
    if (lane == 0) list.distance[count] = distance, list.id[count] = static_cast<int32_t>(id);
    if (++count < kListKept) continue;
    count = Order(list, count, p.keep);
    worst = list.distance[count - 1];
  }
  count = Order(list, count, p.keep);
  int found = 0;
  unsigned long long dropped = 0;
  for (int e = 0; e < count && found < p.k; ++e) {
    const double distance = sqrt(list.distance[e]);
    const int32_t id = list.id[e];
    if (p.collapse) {
      bool twin = distance < 1e-3;
      for (int j = found - 1; j >= 0 && !twin && distance - list.sorted[j] < 2e-3; --j) {
        twin = SquaredDistance(p.table, list.sorted_id[j], p.table, id) < 1e-6;
      }
      if (twin) {
        ++dropped;
        continue;
      }
    }
    if (lane == 0) {
      list.sorted[found] = distance, list.sorted_id[found] = id;
      p.ids[query * p.k + found] = id;
      p.distances[query * p.k + found] = static_cast<float>(distance);
    }
    ++found;
    __syncwarp();
  }
  for (int e = found + lane; e < p.k; e += 32) p.ids[query * p.k + e] = -1, p.distances[query * p.k + e] = INFINITY;
  if (lane == 0 && dropped != 0) atomicAdd(p.collapsed, dropped);
}

}  // namespace lectern::manifold::cuda
