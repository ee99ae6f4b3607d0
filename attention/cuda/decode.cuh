// attention/cuda/decode.cuh: one new query per sequence against its paged keys, all of them or the listed blocks.
//
// Dataflow  A unit is 16 keys of one (sequence, KV head) row: contiguous in K and in V. Up to 32 rows each get CTAs of
//           their own, in proportion, which take the row's units in turn: together they read on as one; the units of more rows
//           stand in one line, of which CTA c of C takes the range [c N / C, (c + 1) N / C); with fixed chunks a CTA takes whole
//           chunks in turn. In a CTA, warp w takes every kWarps-th unit, through a ring of its own: no barrier stands between
//           loads and products. At the end of a row the warps merge in shared memory, one a query head; a row that several
//           CTAs share goes through partial sums in L2, and of each head the warp that arrives last adds them up, in a fixed order.
// Products  S^T[16 keys, 8 rows] = K Q^T and O^T[16 d, 8 rows] += V^T P^T, as m16n8k16 with keys (or d) on the side of 16
//           and the query heads of the group on the side of 8: a group of 8 wastes nothing, 7 an eighth.
// Shapes    q, out [batch, q_head, D]; k, v: 16 x D blocks of two-byte elements at (page, head, slot / 16).
// Bytes     4 * keys * kv_heads * D. Partials: 2 * C * group * D floats at most, 1 MiB at 132 CTAs, 8 x 128: L2.
// In flight kWarps rings of kStages units of 64 * D bytes: 128 KiB an SM (two stages at D = 128, four at 64); as PTX 96 KiB.
//           (Little's law asks for 24 KiB: 3.1 TB/s x 1 us / 132.)
// Latency   What counts below 10 MB. Lengths, counts, ids and page table come in one round trip where they are small; queries
//           are fetched while the first keys are on their way; the code is kept short: a warp alone issues an instruction every
//           four or five cycles.
// Swizzle   16-byte chunk c of key t lies at chunk c ^ (t % 8): ldmatrix reads eight keys at eight banks.
#pragma once

#include "attention/cuda/decode_params.h"
#include "attention/cuda/online_softmax.cuh"
#include "attention/cuda/ptx.cuh"

namespace lectern::attention {

template <int kD, int kRowTiles, int kStages, int kWarps>
struct DecodeShape {
  static constexpr int kThreads = kWarps * 32;
  static constexpr int kFewRows = 32;                    // up to here a lane knows a row
  static constexpr int kRows = 8 * kRowTiles;            // query heads of a group at most
  static constexpr int kUnitBytes = kUnitKeys * kD * 2;  // of K; as many of V
  static constexpr int kRingBytes = kStages * 2 * kUnitBytes;
  static constexpr int kMergeStride = kD + 4;            // floats; the pad spreads a fragment over all banks
  static constexpr int kSumsBytes = kWarps * kRows * kMergeStride * 4;
  static constexpr int kStateBytes = kWarps * kRows * 8;
  static_assert(DecodeSharedBytes(kD, kRowTiles, kStages, kWarps, 0) ==
                kWarps * kRingBytes + kSumsBytes + kStateBytes + kWarps * kStages * 4 + (2 * kWarps + 4) * 4 + 4);
};

template <class Element, int kD, int kRowTiles, int kStages, int kWarps, bool kSparse, bool kSoftCap, bool kLean>
struct DecodeCta {
  using Shape = DecodeShape<kD, kRowTiles, kStages, kWarps>;
  static constexpr int kSteps = kD / 16;   // of 16 columns
  static constexpr int kChunks = kD / 8;   // of 16 bytes in a key
  static constexpr int kCopies = kD / 16;  // 16-byte copies of a lane, for K and for V
  static constexpr int kColumns = kD / 32; // of a lane, where a warp adds up a query head

  const DecodeParams& p;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  ptx::u32 ring;      // shared address of this warp's ring
  float* merge;       // [warp, row, kMergeStride]; before that, the staged ids and pages
  float2* stats;      // [warp, row]: peak, sum
  int* ring_valid;    // [kStages] of this warp
  int* totals;        // [kWarps], one flag, [kWarps] maxima
  int* prefix;        // [rows + 1] units before each row
  const int* ids;     // in memory or staged
  const int* pages;
  ptx::u64 policy;

  static constexpr int kPartsAhead = kLean ? 8 : 16;  // parts of a query head on their way to a lane
  static constexpr int kMeeting = 32;  // units a CTA reads in the time that parts take to meet
  int one_row = -1;   // all of this CTA's units are of this row: the first_unit-th, and every unit_step-th after it; -1: not so
  int first_unit = 0, unit_step = 1;
  // The units this warp has yet to load: lane i knows the i-th of the present 32.
  int range_begin, range_end, mine, issued, issue_slot;
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
    prefix = totals + 2 * kWarps + 4;
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

  // Copies ids and page table to shared memory where they are small.
  __device__ __forceinline__ void Stage(int rows) {
    const int num_ids = kSparse ? rows * p.capacity : 0, num = num_ids + p.batch * p.page_table_stride;
    constexpr int kEach = 4;
    static_assert(kEach * Shape::kThreads * 4 <= Shape::kSumsBytes);
    if (num > kEach * Shape::kThreads) return;  // a second round would cost what it saves
    int* staged = reinterpret_cast<int*>(merge);
    int v[kEach];
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      const int at = threadIdx.x + i * Shape::kThreads;
      v[i] = at < num_ids ? p.ids[at] : at < num ? p.page_table[at - num_ids] : 0;
    }
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      const int at = threadIdx.x + i * Shape::kThreads;
      if (at < num) staged[at] = v[i];
    }
    ids = staged;
    pages = staged + num_ids;
  }

  // n / d for n below 2^20 (the plan sees to it): the half keeps rounding away from whole numbers.
  __device__ __forceinline__ static int Quotient(int n, int d) {
    return static_cast<int>(__fdividef(static_cast<float>(n) + 0.5f, static_cast<float>(d)));
  }

  // Up to 32 parts meet at once; more meet in groups first, which pays only for long rows.
  __device__ __forceinline__ int PartsOf(int units, int most) const {
    return min(min(most, units < 2048 * 128 / kD ? 32 : p.max_parts), Quotient(units + p.min_units - 1, p.min_units));
  }

  // Few rows: each gets CTAs of its own, in proportion to its units. Lane r knows row r.
  struct Share {
    int row, units, parts, first_cta;
  };
  __device__ __forceinline__ Share FewRows(int rows) {
    const int n = lane < rows ? UnitsOf(lane) : 0;
    Stage(rows);
    Share share;
    const int first = __shfl_sync(~0u, n, 0);
    if (first > 0 && __all_sync(~0u, lane >= rows || n == first)) {  // no need to add up and to search
      share.parts = PartsOf(first, Quotient(gridDim.x, rows));
      const int row = Quotient(blockIdx.x, share.parts);
      share.row = row < rows ? row : 32;
      share.first_cta = row * share.parts;
      share.units = first;
      __syncthreads();
      return share;
    }
    int total = n;
#pragma unroll
    for (int lanes = 16; lanes > 0; lanes /= 2) total += __shfl_xor_sync(~0u, total, lanes);
    // 1 + floor(n * spare / total) adds up to the grid at most; the factor below 1 keeps rounding on the safe side.
    const float spare = static_cast<float>(static_cast<int>(gridDim.x) - rows) * 0.99999f;
    int parts = n == 0 ? 0 : 1 + static_cast<int>(__fdividef(static_cast<float>(n) * spare, static_cast<float>(total)));
    parts = PartsOf(n, parts);
    int end = parts;
#pragma unroll
    for (int step = 1; step < 32; step *= 2) {
      const int y = __shfl_up_sync(~0u, end, step);
      if (lane >= step) end += y;
    }
    const unsigned empty = __ballot_sync(~0u, lane < rows && n == 0);
    if (blockIdx.x < 32 && (empty >> blockIdx.x & 1) != 0) ZeroRow(blockIdx.x);
    share.row = __popc(__ballot_sync(~0u, end <= static_cast<int>(blockIdx.x)));
    if (share.row >= 32) return share;
    share.parts = __shfl_sync(~0u, parts, share.row);
    share.first_cta = __shfl_sync(~0u, end, share.row) - share.parts;
    share.units = __shfl_sync(~0u, n, share.row);
    __syncthreads();
    return share;
  }

  __device__ __forceinline__ void ZeroRow(int row) {
#pragma unroll 1
    for (int head = warp; head < p.group; head += kWarps) Store(row, head, Columns{}, ptx::kNegInf, 0.0f);
  }

  // Fills prefix[]; returns the number of units, and in *longest those of the longest row.
  __device__ __forceinline__ int CountUnits(int rows, int* longest) {
    int before = 0, most = 0;
    if (threadIdx.x == 0) prefix[0] = 0;
#pragma unroll 1
    for (int base = 0; base < rows; base += Shape::kThreads) {
      const int row = base + threadIdx.x;
      const int own = row < rows ? UnitsOf(row) : 0;
      int x = own;
#pragma unroll
      for (int step = 1; step < 32; step *= 2) {
        const int y = __shfl_up_sync(~0u, x, step);
        if (lane >= step) x += y;
      }
      const int here = static_cast<int>(__reduce_max_sync(~0u, static_cast<unsigned>(own)));
      if (lane == 31) totals[warp] = x, totals[kWarps + 4 + warp] = here;
      __syncthreads();
      int all = 0;
#pragma unroll
      for (int w = 0; w < kWarps; ++w) {
        if (w < warp) x += totals[w];
        all += totals[w];
        most = max(most, totals[kWarps + 4 + w]);
      }
      if (row < rows) prefix[row + 1] = before + x;
      before += all;
      __syncthreads();
    }
    *longest = most;
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
      const int row = one_row >= 0 ? one_row : RowOf(unit), b = SequenceOf(row), head = row - b * p.kv_heads;
      int at = one_row >= 0 ? first_unit + unit * unit_step : unit - prefix[row];
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
    if (issued >= mine) {
      ptx::CpAsyncCommit();
      return;
    }
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
    const ptx::u32 k_row = k + lane % 16 * kD * 2 + ((lane / 16) ^ (lane % 8)) * 16;
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
      ptx::u32 a[4];
      ptx::LdMatrix4(a, k_row ^ (step * 32));
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
        x[i] = kSoftCap ? SoftCapped(x[i], p.cap_in, p.cap_out) : x[i] * p.scale_log2;
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
    const ptx::u32 v_row = v + (lane % 8 + lane / 16 * 8) * kD * 2 + ((lane / 8 % 2) ^ (lane % 8)) * 16;
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
      ptx::u32 a[4];
      ptx::LdMatrix4Trans(a, v_row ^ (step * 32));
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

  // A lane's columns of one query head.
  using Columns = ptx::Vector<kColumns>;
  __device__ __forceinline__ void Store(int row, int head, const Columns& x, float peak, float sum) const {
    const ptx::i64 at = static_cast<ptx::i64>(row) * p.group + head;
    const float inverse = sum == 0.0f ? 0.0f : 1.0f / sum;
    ptx::u32* out = static_cast<ptx::u32*>(p.out) + at * (kD / 2) + lane * (kColumns / 2);
#pragma unroll
    for (int i = 0; i < kColumns / 2; ++i) out[i] = Element::Pack(x.v[2 * i] * inverse, x.v[2 * i + 1] * inverse);
    if (p.lse != nullptr && lane == 0) {
      p.lse[at] = sum == 0.0f ? ptx::kNegInf : (peak + log2f(sum)) * 0.69314718055994531f;
    }
  }

  // Adds `count` parts of one query head. sums(i) fetches a lane's columns of part i, state(i) its peak and sum: lane i
  // fetches the latter, so that the weights are worked out once.
  template <int kAhead, class Sums, class State>
  __device__ __forceinline__ void AddParts(int count, const Sums& sums, const State& state, Columns* total, float* top, float* sum) {
#pragma unroll 1
    for (int base = 0; base < count; base += kAhead) {
      Columns x[kAhead];
#pragma unroll
      for (int i = 0; i < kAhead; ++i) {
        x[i] = Columns{};
        if (base + i < count) x[i] = sums(base + i);
      }
      const float2 s = lane < kAhead && base + lane < count ? state(base + lane) : make_float2(ptx::kNegInf, 0.0f);
      float higher = s.x;
#pragma unroll
      for (int lanes = kAhead / 2; lanes > 0; lanes /= 2) higher = fmaxf(higher, __shfl_xor_sync(~0u, higher, lanes));
      higher = fmaxf(*top, __shfl_sync(~0u, higher, 0));
      const float keep = PartWeight(*top, higher), weight = PartWeight(s.x, higher);
      float more = weight * s.y;
#pragma unroll
      for (int lanes = kAhead / 2; lanes > 0; lanes /= 2) more += __shfl_xor_sync(~0u, more, lanes);
      *sum = *sum * keep + __shfl_sync(~0u, more, 0);
      *top = higher;
#pragma unroll
      for (int c = 0; c < kColumns; ++c) total->v[c] *= keep;
#pragma unroll
      for (int i = 0; i < kAhead; ++i) {
        const float w = __shfl_sync(~0u, weight, i);
#pragma unroll
        for (int c = 0; c < kColumns; ++c) total->v[c] += w * x[i].v[c];
      }
    }
  }

  // The end of a row's segment. A query head of several parts is finished by the warp that comes last with it. Part i of the row
  // lies in slot first_slot + i * slot_step, less one from the second part on where `tail_first`.
  __device__ __forceinline__ void FinishSegment(int row, int parts, int slot, int first_slot, int slot_step, bool tail_first) {
    __syncthreads();  // the last of the staged ids has been read
    Publish();
    __syncthreads();
    // Many parts of one row meet in groups first: one warp alone would read them for longer than a second meeting takes.
    constexpr int kGroup = 8;
    const bool groups = one_row >= 0 && parts > 4 * kGroup;
    const int group_first = first_slot + (slot - first_slot) / kGroup * kGroup;
#pragma unroll 1
    for (int head = warp; head < p.group; head += kWarps) {
      Columns total{};
      float top = ptx::kNegInf, sum = 0.0f;
      const float* warps = merge + head * Shape::kMergeStride + lane * kColumns;
      AddParts<kWarps>(
          kWarps, [&](int w) { return *reinterpret_cast<const Columns*>(warps + w * Shape::kRows * Shape::kMergeStride); },
          [&](int w) { return stats[w * Shape::kRows + head]; }, &total, &top, &sum);
      float* sums = p.part_out + head * kD + lane * kColumns;
      float2* states = reinterpret_cast<float2*>(p.part_stats) + head;
      bool tree = groups, whole = parts == 1;
      int to = slot, count = tree ? min(kGroup, first_slot + parts - group_first) : parts, first = tree ? group_first : first_slot, step = slot_step;
      int counter = tree ? p.batch * p.kv_heads + group_first : row;
#pragma unroll 1
      while (!whole) {
        *reinterpret_cast<Columns*>(sums + static_cast<ptx::u32>(to * p.group * kD)) = total;
        if (lane == 0) states[to * p.group] = make_float2(top, sum);
        __syncwarp();
        ptx::u32 before = 0;
        if (lane == 0) {
          ptx::u32* at = p.counters + counter * p.group + head;
          before = ptx::AddAcqRel(at, 1u);
          if (before == count - 1u) *at = 0;
        }
        if (__shfl_sync(~0u, before, 0) != count - 1u) break;
        const auto slot_of = [&](int i) { return first + i * step - (tail_first && i > 0 ? 1 : 0); };
        const auto fetch = [&](int i) { return ptx::LoadL2(reinterpret_cast<const Columns*>(sums + static_cast<ptx::u32>(slot_of(i) * p.group * kD))); };
        const auto state = [&](int i) { return ptx::LoadL2(states + slot_of(i) * p.group); };
        total = Columns{};
        top = ptx::kNegInf, sum = 0.0f;
#ifdef __CUDACC_RTC__  // half the code of a rare case: the kernel must compile within a second
        AddParts<kPartsAhead>(count, fetch, state, &total, &top, &sum);
#else
        if (count <= 16 || kRowTiles > 1 || (kSparse && kD > 64)) {
          AddParts<kPartsAhead>(count, fetch, state, &total, &top, &sum);
        } else {  // where registers allow
          AddParts<32>(count, fetch, state, &total, &top, &sum);
        }
#endif
        whole = !tree;
        tree = false;
        to = gridDim.x + group_first;  // the slots of a line's tails are free here
        count = (parts + kGroup - 1) / kGroup;
        first = gridDim.x + first_slot;
        step = kGroup;
        counter = row;
      }
      if (whole) Store(row, head, total, top, sum);
    }
    __syncthreads();
  }

  // The units [begin, end): of one row, counted from its start, or of the line, where they may cross rows.
  __device__ __forceinline__ void Run(int begin, int end, const Share& share, int units, int parts_of_line) {
    range_begin = begin;
    range_end = end;
    issued = issue_slot = 0;
    mine = end - begin > warp ? (end - begin - warp + kWarps - 1) / kWarps : 0;
    int row = one_row >= 0 ? one_row : RowOf(begin), stop = one_row >= 0 ? end : min(end, prefix[row + 1]), at = begin, slot = 0;
    bool starts = true;  // its queries are fetched while the first keys are on their way
#pragma unroll 1
    for (int done = -kStages;;) {
      if (done >= 0) {
        if (starts) StartRow(row);
        starts = false;
        if (done >= mine || begin + warp + done * kWarps >= stop) {
          int parts = share.parts, slot_of_part = blockIdx.x, first = share.first_cta, step = 1;
          if (one_row < 0) {
            const int row_begin = prefix[row], row_end = prefix[row + 1];
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
          }
          FinishSegment(row, parts, slot_of_part, first, step, step == 2);
          at = stop;
          if (at >= end) break;
          do {
            ++row;
          } while (prefix[row + 1] <= at);
          stop = min(end, prefix[row + 1]);
          starts = true;
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
    const int rows = p.batch * p.kv_heads;
    Share share{};
    int begin, end, item = blockIdx.x, items, units = 0, busy = 1;
    const bool few = rows <= Shape::kFewRows && p.chunk_units == 0 && rows <= static_cast<int>(gridDim.x);
    if (few) {
      share = FewRows(rows);
      if (share.row >= 32) return;
      one_row = share.row;
      first_unit = item - share.first_cta;
      unit_step = share.parts;
      begin = 0;
      end = (share.units - first_unit + share.parts - 1) / share.parts;
      items = item + 1;
    } else {
      int longest;
      units = CountUnits(rows, &longest);
#pragma unroll 1
      for (int row = blockIdx.x; row < rows; row += gridDim.x) {
        if (prefix[row] == prefix[row + 1]) ZeroRow(row);
      }
      if (units == 0) return;
      const int ctas = gridDim.x;
      if (p.chunk_units == 0 && rows <= ctas && longest * ctas <= units + kMeeting * ctas) {
        // Rows about as many as CTAs, and about equally long: nothing is gained by sharing one.
        if (item >= rows || prefix[item] == prefix[item + 1]) return;
        one_row = item;
        share.parts = 1;
        begin = 0;
        end = prefix[item + 1] - prefix[item];
        items = item + 1;
      } else {
        busy = min(ctas, max(1, units / p.min_units));
        items = p.chunk_units > 0 ? units / p.chunk_units : busy;
      }
    }
#pragma unroll 1
    for (; item < items; item += p.chunk_units > 0 ? gridDim.x : 1 << 30) {
      if (one_row < 0) {
        const auto start = [&](int i) {
          if (p.chunk_units > 0) return i * p.chunk_units;
          return static_cast<int>(static_cast<ptx::u32>(i) * units / static_cast<ptx::u32>(busy));
        };
        begin = start(item);
        end = start(item + 1);
      }
      Run(begin, end, share, units, busy);
    }
  }
};

// Registers: the gate's selector and the block-sparse kernel stand on a processor together, so that it has begun when the
// list is there: 192 a thread beside 256 threads of 64, and `kLean` 160 beside the 512 of 48 that choose among many blocks.
template <class Element, int kD, int kRowTiles, int kStages, int kWarps, bool kSparse, bool kSoftCap, bool kLean>
__global__ void __maxnreg__(kLean ? 160 : kSparse && kRowTiles == 1 && kWarps == 8 ? 192 : 255) DecodeKernel(const __grid_constant__ DecodeParams params) {
  extern __shared__ __align__(1024) char shared[];
  DecodeCta<Element, kD, kRowTiles, kStages, kWarps, kSparse, kSoftCap, kLean> cta(params, shared);
  cta.Main();
}

}  // namespace lectern::attention
