// attention/cuda/decode.cuh: one new query per sequence against its paged keys, all of them or the listed blocks.
//
// Dataflow  A unit is 16 keys of one (sequence, KV head) row: contiguous in K and in V. The units of all rows stand in one
//           line; CTA c of C takes the range [c N / C, (c + 1) N / C), or, with fixed chunks, whole chunks in turn. In
//           a CTA, warp w takes every kWarps-th unit, through a ring of its own: no barrier stands between loads and
//           products. At the end of a row the warps merge in shared memory; a row that several CTAs share goes through
//           partial sums in L2, and the CTA that arrives last adds them up, in a fixed order.
// Products  S^T[16 keys, 8 rows] = K Q^T and O^T[16 d, 8 rows] += V^T P^T, as m16n8k16 with keys (or d) on the side of 16
//           and the query heads of the group on the side of 8: a group of 8 wastes nothing, 7 an eighth.
// Shapes    q, out [batch, q_head, D]; k, v: 16 x D blocks of two-byte elements at (page, head, slot / 16).
// Bytes     4 * keys * kv_heads * D. Partials: 2 * C * group * D floats at most, 1 MiB at 132 CTAs, 8 x 128: L2.
// In flight kWarps rings of kStages units of 64 * D bytes: up to 192 KiB an SM at D = 128, three stages.
//           (Little's law asks for 24 KiB: 3.1 TB/s x 1 us / 132.)
// Latency   What counts below 10 MB. Lengths, counts, ids and page table come in one round trip where they are small; the
//           code is kept short (each step appears once), because a cold instruction costs as much as a cold byte.
// Swizzle   16-byte chunk c of key t lies at chunk c ^ (t % 8): ldmatrix reads eight keys at eight banks.
#pragma once

#include "attention/cuda/decode_params.h"
#include "attention/cuda/online_softmax.cuh"
#include "attention/cuda/ptx.cuh"

namespace lectern::attention {

template <int kD, int kRowTiles, int kStages, int kWarps>
struct DecodeShape {
  static constexpr int kThreads = kWarps * 32;
  static constexpr int kFewRows = 32;                    // up to here each warp counts units by itself
  static constexpr int kRows = 8 * kRowTiles;            // query heads of a group at most
  static constexpr int kUnitBytes = kUnitKeys * kD * 2;  // of K; as many of V
  static constexpr int kRingBytes = kStages * 2 * kUnitBytes;
  static constexpr int kMergeStride = kD + 4;            // floats; the pad spreads a fragment over all banks
  static constexpr int kSumsBytes = kWarps * kRows * kMergeStride * 4;
  static constexpr int kStateBytes = kWarps * kRows * 8;
  static constexpr int kFixedBytes = kWarps * kRingBytes + kSumsBytes + kStateBytes + kWarps * kStages * 4 + (kWarps + 4) * 4;
  static constexpr int kFewBytes = kWarps * (kFewRows + 1) * 4;
  static constexpr int SharedBytes(int rows) {
    const int many = (rows + 1) * 4;
    return kFixedBytes + (many > kFewBytes ? many : kFewBytes);
  }
};

template <class Element, int kD, int kRowTiles, int kStages, int kWarps, bool kSparse, bool kSoftCap>
struct DecodeCta {
  using Shape = DecodeShape<kD, kRowTiles, kStages, kWarps>;
  static constexpr int kSteps = kD / 16;   // of 16 columns
  static constexpr int kChunks = kD / 8;   // of 16 bytes in a key
  static constexpr int kCopies = kD / 16;  // 16-byte copies of a lane, for K and for V

  const DecodeParams& p;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  ptx::u32 ring;      // shared address of this warp's ring
  float* merge;       // [warp, row, kMergeStride]; before that, the staged ids and pages
  float2* stats;      // [warp, row]: peak, sum
  int* ring_valid;    // [kStages] of this warp
  int* totals;        // [kWarps], then one flag
  int* prefix;        // [rows + 1] units before each row
  const int* ids;     // in memory or staged
  const int* pages;
  ptx::u64 policy;

  // The units this warp has yet to load: lane i knows the i-th of the present 32.
  int range_begin, range_end, issued, issue_slot;
  const char* lane_k;
  const char* lane_v;
  int lane_valid;

  __device__ __forceinline__ DecodeCta(const DecodeParams& params, char* shared) : p(params) {
    ring = ptx::SharedAddress(shared) + warp * Shape::kRingBytes;
    char* at = shared + kWarps * Shape::kRingBytes;
    merge = reinterpret_cast<float*>(at);
    at += Shape::kSumsBytes;
    stats = reinterpret_cast<float2*>(at);
    at += Shape::kStateBytes;
    ring_valid = reinterpret_cast<int*>(at) + warp * kStages;
    totals = reinterpret_cast<int*>(at) + kWarps * kStages;
    prefix = totals + kWarps + 4;
    ids = p.ids;
    pages = p.page_table;
    policy = ptx::EvictFirst();
  }

  __device__ __forceinline__ int SequenceOf(int row) const { return p.batch == 1 ? 0 : ptx::Divide(row, p.heads_magic); }

  __device__ __forceinline__ int UnitsOf(int row) const {
    int units = (p.lengths[SequenceOf(row)] + kUnitKeys - 1) / kUnitKeys;
    if (kSparse) {
      const int count = p.counts[row];
      if (count >= 0) units = count * p.block_units;
    }
    return p.chunk_units > 0 ? (units + p.chunk_units - 1) / p.chunk_units * p.chunk_units : units;
  }

  // Copies ids and page table to shared memory where they are small; fills prefix[]; returns the number of units.
  __device__ __forceinline__ int CountUnits() {
    const int rows = p.batch * p.kv_heads;
    if (rows <= Shape::kFewRows) {
      int x = lane < rows ? UnitsOf(lane) : 0;
      const int num_ids = kSparse ? rows * p.capacity : 0, num = num_ids + p.batch * p.page_table_stride;
      if (num * 4 <= Shape::kSumsBytes) {
        int* staged = reinterpret_cast<int*>(merge);
#pragma unroll 1
        for (int base = threadIdx.x; base < num; base += 8 * Shape::kThreads) {
          int v[8];
#pragma unroll
          for (int i = 0; i < 8; ++i) {
            const int at = base + i * Shape::kThreads;
            v[i] = at < num_ids ? p.ids[at] : at < num ? p.page_table[at - num_ids] : 0;
          }
#pragma unroll
          for (int i = 0; i < 8; ++i) {
            if (base + i * Shape::kThreads < num) staged[base + i * Shape::kThreads] = v[i];
          }
        }
        ids = staged;
        pages = staged + num_ids;
      }
      prefix += warp * (Shape::kFewRows + 1);
#pragma unroll
      for (int step = 1; step < 32; step *= 2) {
        const int y = __shfl_up_sync(~0u, x, step);
        if (lane >= step) x += y;
      }
      if (lane == 0) prefix[0] = 0;
      prefix[lane + 1] = x;
      __syncthreads();
      return __shfl_sync(~0u, x, 31);
    }
    int before = 0;
    if (threadIdx.x == 0) prefix[0] = 0;
#pragma unroll 1
    for (int base = 0; base < rows; base += Shape::kThreads) {
      const int row = base + threadIdx.x;
      int x = row < rows ? UnitsOf(row) : 0;
#pragma unroll
      for (int step = 1; step < 32; step *= 2) {
        const int y = __shfl_up_sync(~0u, x, step);
        if (lane >= step) x += y;
      }
      if (lane == 31) totals[warp] = x;
      __syncthreads();
      int all = 0;
#pragma unroll
      for (int w = 0; w < kWarps; ++w) {
        if (w < warp) x += totals[w];
        all += totals[w];
      }
      if (row < rows) prefix[row + 1] = before + x;
      before += all;
      __syncthreads();
    }
    return before;
  }

  __device__ __forceinline__ int RowOf(int unit) const {
    int low = 0, high = p.batch * p.kv_heads - 1;
#pragma unroll 1
    while (low < high) {
      const int middle = (low + high + 1) / 2;
      if (prefix[middle] <= unit) {
        low = middle;
      } else {
        high = middle - 1;
      }
    }
    return low;
  }

  __device__ __forceinline__ void LookUp(int unit) {
    lane_valid = 0;
    lane_k = p.k;
    lane_v = p.v;
    if (unit < range_end) {
      const int row = RowOf(unit), b = SequenceOf(row), head = row - b * p.kv_heads;
      int at = unit - prefix[row];
      if (kSparse) {
        const int count = p.counts[row];
        if (count >= 0) {
          const int block = ptx::Divide(at, p.block_magic);
          const int id = block < count ? ids[row * p.capacity + block] : -1;
          at = id < 0 ? 1 << 26 : id * p.block_units + at - block * p.block_units;
        }
      }
      const int key = at * kUnitKeys;
      lane_valid = min(kUnitKeys, p.lengths[b] - key);
      if (lane_valid > 0) {
        const ptx::i64 page = pages[b * p.page_table_stride + key / 64];
        const int in_page = key % 64 * kD * 2;
        lane_k = p.k + page * p.k_page_bytes + head * p.k_head_bytes + in_page;
        lane_v = p.v + page * p.v_page_bytes + head * p.v_head_bytes + in_page;
      }
    }
    ids = p.ids;  // what was staged lies where sums will
    pages = p.page_table;
  }

  // Starts the copies of this warp's next unit into its slot of the ring. What lies behind the last key becomes zero: it
  // may be anything, and 0 * NaN is NaN.
  __device__ __forceinline__ void Issue() {
    const int from = issued % 32;
    if (from == 0) LookUp(range_begin + warp + (issued + lane) * kWarps);
    ++issued;
    const char* k = reinterpret_cast<const char*>(__shfl_sync(~0u, reinterpret_cast<ptx::u64>(lane_k), from));
    const char* v = reinterpret_cast<const char*>(__shfl_sync(~0u, reinterpret_cast<ptx::u64>(lane_v), from));
    const int valid = __shfl_sync(~0u, lane_valid, from);
    if (lane == 0) ring_valid[issue_slot] = valid;
    if (valid > 0) {
      const ptx::u32 to = ring + issue_slot * 2 * Shape::kUnitBytes;
      constexpr int kKeysACopy = 32 / kChunks;
      const int key = lane / kChunks, chunk = lane % kChunks;
#pragma unroll
      for (int i = 0; i < kCopies; ++i) {
        const int t = i * kKeysACopy + key;
        const ptx::u32 offset = t * kD * 2 + (chunk ^ (t % 8)) * 16;
        ptx::CpAsync16OrZero(to + offset, k + (i * 32 + lane) * 16, t < valid, policy);
        ptx::CpAsync16OrZero(to + Shape::kUnitBytes + offset, v + (i * 32 + lane) * 16, t < valid, policy);
      }
    }
    ptx::CpAsyncCommit();
    issue_slot = issue_slot + 1 == kStages ? 0 : issue_slot + 1;
  }

  ptx::u32 q[kRowTiles][kSteps][2];
  float acc[kRowTiles][kSteps][4];
  OnlineSoftmax softmax[kRowTiles];

  __device__ __forceinline__ void StartRow(int row) {
    const char* base = static_cast<const char*>(p.q) + static_cast<ptx::i64>(row) * p.group * kD * 2 + lane % 4 * 4;
#pragma unroll
    for (int tile = 0; tile < kRowTiles; ++tile) {
      const int head = tile * 8 + lane / 4;
#pragma unroll
      for (int step = 0; step < kSteps; ++step) {
        const char* from = base + head * kD * 2 + step * 32;
        q[tile][step][0] = head < p.group ? *reinterpret_cast<const ptx::u32*>(from) : 0u;
        q[tile][step][1] = head < p.group ? *reinterpret_cast<const ptx::u32*>(from + 16) : 0u;
#pragma unroll
        for (int i = 0; i < 4; ++i) acc[tile][step][i] = 0.0f;
      }
      softmax[tile] = OnlineSoftmax();
    }
  }

  __device__ __forceinline__ void Attend(int slot, int valid) {
    const ptx::u32 k = ring + slot * 2 * Shape::kUnitBytes, v = k + Shape::kUnitBytes;
    float s[kRowTiles][2][4] = {};  // two chains, so that products overlap
    const ptx::u32 k_row = k + lane % 16 * kD * 2;
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
      ptx::u32 a[4];
      ptx::LdMatrix4(a, k_row + ((2 * step + lane / 16) ^ (lane % 8)) * 16);
#pragma unroll
      for (int tile = 0; tile < kRowTiles; ++tile) Element::Mma(s[tile][step % 2], a, q[tile][step][0], q[tile][step][1]);
    }
    ptx::u32 weights[kRowTiles][2];
#pragma unroll
    for (int tile = 0; tile < kRowTiles; ++tile) {
      float x[4], keep[2];
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        x[i] = s[tile][0][i] + s[tile][1][i];
        if (kSoftCap) {
          const float e = ptx::Exp2(2.8853900817779268f * x[i] * p.cap_in);  // e^(2x): tanh x = 1 - 2 / (e^(2x) + 1)
          x[i] = p.cap_out * (1.0f - 2.0f / (e + 1.0f));
        } else {
          x[i] *= p.scale_log2;
        }
        if (lane / 4 + i / 2 * 8 >= valid) x[i] = ptx::kNegInf;
      }
      softmax[tile].Step(x, keep);
      if (__any_sync(~0u, keep[0] != 1.0f || keep[1] != 1.0f)) {
#pragma unroll
        for (int step = 0; step < kSteps; ++step) {
#pragma unroll
          for (int i = 0; i < 4; ++i) acc[tile][step][i] *= keep[i % 2];
        }
      }
      weights[tile][0] = ptx::Transpose8x8(Element::Pack(x[0], x[1]));
      weights[tile][1] = ptx::Transpose8x8(Element::Pack(x[2], x[3]));
    }
    const ptx::u32 v_row = v + (lane % 8 + lane / 16 * 8) * kD * 2;
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
      ptx::u32 a[4];
      ptx::LdMatrix4Trans(a, v_row + ((2 * step + lane / 8 % 2) ^ (lane % 8)) * 16);
#pragma unroll
      for (int tile = 0; tile < kRowTiles; ++tile) Element::Mma(acc[tile][step], a, weights[tile][0], weights[tile][1]);
    }
  }

  // Leaves this warp's sums where the others find them.
  __device__ __forceinline__ void Publish() {
#pragma unroll
    for (int tile = 0; tile < kRowTiles; ++tile) {
      softmax[tile].Reduce();
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        const int row = warp * Shape::kRows + tile * 8 + lane % 4 * 2 + j;
        if (lane < 4) stats[row] = make_float2(softmax[tile].peak[j], softmax[tile].sum[j]);
#pragma unroll
        for (int step = 0; step < kSteps; ++step) {
          merge[row * Shape::kMergeStride + step * 16 + lane / 4] = acc[tile][step][j];
          merge[row * Shape::kMergeStride + step * 16 + lane / 4 + 8] = acc[tile][step][j + 2];
        }
      }
    }
  }

  // Four columns of one query head.
  __device__ __forceinline__ void Store(int row, int head, int column, const float4& x, float peak, float sum) const {
    const ptx::i64 at = static_cast<ptx::i64>(row) * p.group + head;
    const float inverse = sum == 0.0f ? 0.0f : 1.0f / sum;
    static_cast<uint2*>(p.out)[at * (kD / 4) + column / 4] =
        make_uint2(Element::Pack(x.x * inverse, x.y * inverse), Element::Pack(x.z * inverse, x.w * inverse));
    if (p.lse != nullptr && column == 0) {
      p.lse[at] = sum == 0.0f ? ptx::kNegInf : (peak + log2f(sum)) * 0.69314718055994531f;
    }
  }

  // The sum of `count` parts with their statistics, kAhead at a time; load(i, &x, &s) fetches part i.
  template <int kAhead, class Load>
  __device__ __forceinline__ static void AddParts(int count, const Load& load, float4* total, float* top, float* sum) {
#pragma unroll 1
    for (int base = 0; base < count; base += kAhead) {
      float4 x[kAhead];
      float2 s[kAhead];
#pragma unroll
      for (int i = 0; i < kAhead; ++i) {
        x[i] = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
        s[i] = make_float2(ptx::kNegInf, 0.0f);
        if (base + i < count) load(base + i, x + i, s + i);
      }
      float higher = *top;
#pragma unroll
      for (int i = 0; i < kAhead; ++i) higher = fmaxf(higher, s[i].x);
      const float keep = PartWeight(*top, higher);
      *sum *= keep;
      total->x *= keep, total->y *= keep, total->z *= keep, total->w *= keep;
      *top = higher;
#pragma unroll
      for (int i = 0; i < kAhead; ++i) {
        const float weight = PartWeight(s[i].x, higher);
        *sum += weight * s[i].y;
        total->x += weight * x[i].x, total->y += weight * x[i].y, total->z += weight * x[i].z, total->w += weight * x[i].w;
      }
    }
  }

  // The end of a row's segment; a row of several parts is finished by whoever comes last. Part i of the row lies in slot
  // first_slot + i * slot_step, less one from the second part on where `tail_first`.
  __device__ __forceinline__ void FinishSegment(int row, int parts, int slot, int first_slot, int slot_step, bool tail_first) {
    constexpr int kFours = kD / 4;
    __syncthreads();  // the last of the staged ids has been read
    Publish();
    __syncthreads();
#pragma unroll 1
    for (int e = threadIdx.x; e < p.group * kFours; e += Shape::kThreads) {
      const int head = e / kFours, column = e % kFours * 4;
      float4 total = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
      float top = ptx::kNegInf, sum = 0.0f;
      const auto load = [&](int w, float4* x, float2* s) {
        *x = *reinterpret_cast<const float4*>(merge + (w * Shape::kRows + head) * Shape::kMergeStride + column);
        *s = stats[w * Shape::kRows + head];
      };
      AddParts<kWarps>(kWarps, load, &total, &top, &sum);
      if (parts == 1) {
        Store(row, head, column, total, top, sum);
      } else {
        const ptx::i64 at = static_cast<ptx::i64>(slot) * p.group + head;
        *reinterpret_cast<float4*>(p.part_out + at * kD + column) = total;
        if (column == 0) reinterpret_cast<float2*>(p.part_stats)[at] = make_float2(top, sum);
      }
    }
    __syncthreads();
    if (parts == 1) return;
    int* last = totals + kWarps;
    if (threadIdx.x == 0) {
      *last = ptx::AddAcqRel(p.counters + row, 1u) == parts - 1u;
      if (*last != 0) p.counters[row] = 0;
    }
    __syncthreads();
    if (*last == 0) return;
#pragma unroll 1
    for (int e = threadIdx.x; e < p.group * kFours; e += Shape::kThreads) {
      const int head = e / kFours, column = e % kFours * 4;
      float4 total = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
      float top = ptx::kNegInf, sum = 0.0f;
      const auto load = [&](int i, float4* x, float2* s) {
        const int from = first_slot + i * slot_step - (tail_first && i > 0 ? 1 : 0);
        const ptx::i64 at = static_cast<ptx::i64>(from) * p.group + head;
        *x = ptx::LoadL2(reinterpret_cast<const float4*>(p.part_out + at * kD + column));
        *s = ptx::LoadL2(reinterpret_cast<const float2*>(p.part_stats) + at);
      };
      AddParts<16>(parts, load, &total, &top, &sum);
      Store(row, head, column, total, top, sum);
    }
  }

  // The units [begin, end) of the line, which may cross rows.
  __device__ __forceinline__ void Run(int begin, int end, int units, int parts_of_line) {
    range_begin = begin;
    range_end = end;
    issued = issue_slot = 0;
    const int mine = end - begin > warp ? (end - begin - warp + kWarps - 1) / kWarps : 0;
    int row = RowOf(begin), stop = min(end, prefix[row + 1]), at = begin, slot = 0;
    StartRow(row);
#pragma unroll 1
    for (int done = -kStages;;) {
      if (done >= 0) {
        if (done >= mine || begin + warp + done * kWarps >= stop) {
          const int row_begin = prefix[row], row_end = prefix[row + 1];
          int parts, slot_of_part, first, step = 1;
          if (p.chunk_units > 0) {
            first = row_begin / p.chunk_units;
            parts = (row_end - row_begin) / p.chunk_units;
            slot_of_part = at / p.chunk_units;
          } else {
            const auto cta_of = [&](int unit) {  // the plan keeps units * CTAs below 2^31
              return static_cast<int>((static_cast<ptx::u32>(unit + 1) * parts_of_line - 1) / static_cast<ptx::u32>(units));
            };
            const int first_cta = cta_of(row_begin);
            parts = row_begin >= begin && row_end <= end ? 1 : cta_of(row_end - 1) - first_cta + 1;
            first = 2 * first_cta + 1;
            step = 2;
            slot_of_part = 2 * blockIdx.x + (row_begin >= begin ? 1 : 0);
          }
          FinishSegment(row, parts, slot_of_part, first, step, step == 2);
          at = stop;
          if (at >= end) break;
          do {
            ++row;
          } while (prefix[row + 1] <= at);
          stop = min(end, prefix[row + 1]);
          StartRow(row);
          continue;
        }
        ptx::CpAsyncWait<kStages - 1>();
        __syncwarp();
        const int valid = ring_valid[slot];
        if (valid > 0) Attend(slot, valid);
        slot = slot + 1 == kStages ? 0 : slot + 1;
        __syncwarp();
      }
      Issue();
      ++done;
    }
    ptx::CpAsyncWait<0>();
    __syncthreads();
  }

  __device__ __forceinline__ void Main() {
    ptx::LaunchDependents();
    ptx::WaitForPredecessors();
    const int units = CountUnits(), rows = p.batch * p.kv_heads;
#pragma unroll 1
    for (int row = blockIdx.x; row < rows; row += gridDim.x) {  // an empty row is zero
      if (prefix[row] != prefix[row + 1]) continue;
#pragma unroll 1
      for (int e = threadIdx.x; e < p.group * kD / 4; e += Shape::kThreads) {
        Store(row, e / (kD / 4), e % (kD / 4) * 4, make_float4(0.0f, 0.0f, 0.0f, 0.0f), ptx::kNegInf, 0.0f);
      }
    }
    if (units == 0) return;
    const int cta = blockIdx.x, step = p.chunk_units > 0 ? gridDim.x : 1 << 30;
    const int busy = min(static_cast<int>(gridDim.x), max(1, units / p.min_units));
    const int items = p.chunk_units > 0 ? units / p.chunk_units : busy;
    const auto start = [&](int i) {
      if (p.chunk_units > 0) return i * p.chunk_units;
      return static_cast<int>(static_cast<ptx::u32>(i) * units / static_cast<ptx::u32>(busy));
    };
#pragma unroll 1
    for (int item = cta; item < items; item += step) Run(start(item), start(item + 1), units, busy);
  }
};

template <class Element, int kD, int kRowTiles, int kStages, int kWarps, bool kSparse, bool kSoftCap>
__global__ void __launch_bounds__(kWarps * 32, 1) DecodeKernel(const __grid_constant__ DecodeParams params) {
  extern __shared__ __align__(128) char shared[];
  DecodeCta<Element, kD, kRowTiles, kStages, kWarps, kSparse, kSoftCap> cta(params, shared);
  cta.Main();
}

}  // namespace lectern::attention
