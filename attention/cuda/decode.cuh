// attention/cuda/decode.cuh: one new query per sequence against its paged keys, all of them or the listed blocks.
//
// Dataflow  A unit is 16 keys of one (sequence, KV head) row: contiguous in K and in V. Up to 32 rows each get CTAs of
//           their own, in proportion, which take the row's units in turn: together they read on as one; the units of more rows
//           stand in one line, of which CTA c of C takes the range [c N / C, (c + 1) N / C); with fixed chunks a CTA takes whole
//           chunks in turn. In a CTA, warp w takes every kWarps-th unit, through a ring of its own: no barrier stands between
//           loads and products. At the end of a row the warps merge in shared memory, one a query head; a row that several
//           CTAs share goes through partial sums in L2, and of each head the warp that arrives last adds them up, in a fixed order.
//           Or the CTAs of a row are a cluster (kCluster: one sequence, short lists): sums go straight to the shared memory of one of them.
// Products  S^T[16 keys, 8 rows] = K Q^T and O^T[16 d, 8 rows] += V^T P^T, as m16n8k16 with keys (or d) on the side of 16
//           and the query heads of the group on the side of 8: a group of 8 wastes nothing, 7 an eighth.
// Shapes    q, out [batch, q_head, D]; k, v: 16 x D blocks of two-byte elements at (page, head, slot / 16).
// Bytes     4 * keys * kv_heads * D. Partials: 2 * C * group * D floats at most, 1 MiB at 132 CTAs, 8 x 128: L2.
// In flight kWarps rings of kStages units of 64 * D bytes: 128 KiB an SM (two stages at D = 128, four at 64); as PTX 96 KiB.
//           (Little's law asks for 24 KiB: 3.1 TB/s x 1 us / 132.)
// Latency   What counts below 10 MB. Lengths, counts, ids, page table and queries come in one round trip where they are small, asked for
//           ahead of the kernel before; keys come before values, and are weighed meanwhile. A load into registers behind the copies
//           would come back behind them. Few rows are dealt ahead of the wait, by lengths and counts as they are then, and their first
//           keys asked for (Guess): a hint, behind the wait all is read again and dealt anew if it is not the same.
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
  static_assert(kRows * kMergeStride * 4 <= kRingBytes);
  static_assert(DecodeSharedBytes(kD, kRowTiles, kStages, kWarps, 0) ==
                kWarps * kRingBytes + kSumsBytes + kStateBytes + kWarps * kStages * 4 + (2 * kWarps + 4) * 4 + 4);
};

template <int n>
struct Number { static constexpr int value = n; };

template <class Element, int kD, int kRowTiles, int kStages, int kWarps, bool kSparse, bool kSoftCap, bool kCluster>
struct DecodeCta {
  using Shape = DecodeShape<kD, kRowTiles, kStages, kWarps>;
  static constexpr int kSteps = kD / 16;   // of 16 columns
  static constexpr int kChunks = kD / 8;   // of 16 bytes in a key
  static constexpr int kCopies = kD / 16;  // 16-byte copies of a lane, for K and for V
  static constexpr int kColumns = kD / 32; // of a lane, where a warp adds up a query head

  const DecodeParams& p;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  ptx::u32 ring;      // shared address of this warp's ring
  float* ring_memory; // of all warps
  float* merge;       // the warps' sums, merge_step apart: [row, kMergeStride]; before that, what is staged
  char* met;          // where parts of a cluster meet: barriers, sums, states
  bool meets = false; // they do
  int merge_step = Shape::kRows * Shape::kMergeStride;
  float2* stats;      // [warp, row]: peak, sum
  int* ring_valid;    // [kStages] of this warp
  int* totals;        // [kWarps], one flag, [kWarps] maxima
  int* prefix;        // [rows + 1] units before each row
  const int* ids;     // in memory or staged
  const int* pages;
  ptx::u32 staged_q = 0;  // queries of all rows, of a cluster its row's; 0: they are not there
  ptx::u64 policy;

  static constexpr int kPartsAhead = 16;  // parts of a query head on their way to a lane
  static constexpr int kMeeting = 32;  // units a CTA reads in the time that parts take to meet
  int one_row = -1;   // all of this CTA's units are of this row: the first_unit-th, and every unit_step-th after it; -1: not so
  int first_unit = 0, unit_step = 1, row_length, row_count;
  // The units this warp has yet to load: lane i knows the i-th of the present 32.
  int range_begin, range_end, mine;
  const char* lane_k;
  const char* lane_v;
  int lane_valid;

  __device__ __forceinline__ DecodeCta(const DecodeParams& params, char* shared) : p(params) {
    ring_memory = reinterpret_cast<float*>(shared);
    ring = ptx::SharedAddress(shared) + warp * Shape::kRingBytes;
    char* at = shared + kWarps * Shape::kRingBytes;
    merge = reinterpret_cast<float*>(at);
    met = at + kStagedVectors * Shape::kThreads * 16;  // behind what is staged
    static_assert(!kCluster || (kStagedVectors * Shape::kThreads * 16 + 64 + kMostParts * (kD * 4 + 8) <= Shape::kSumsBytes && kWarps == 8 && kRowTiles == 1));
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

  __device__ __forceinline__ int UnitsOf(int length, int count) const {
    const int units = kSparse && count >= 0 ? count * p.block_units : (length + kUnitKeys - 1) / kUnitKeys;
    return p.chunk_units > 0 ? (units + p.chunk_units - 1) / p.chunk_units * p.chunk_units : units;
  }
  __device__ __forceinline__ int LengthOf(int row) const { return p.lengths[SequenceOf(row)]; }
  __device__ __forceinline__ int CountOf(int row) const { return kSparse ? p.counts[row] : -1; }

  // Four words of an array of n, the w-th and on.
  __device__ __forceinline__ static int4 Four(const int* from, int w, int n) {
    if (w + 4 <= n) return *reinterpret_cast<const int4*>(from + w);
    return make_int4(from[w], w + 1 < n ? from[w + 1] : 0, w + 2 < n ? from[w + 2] : 0, 0);
  }

  // Copies ids, page table and queries to shared memory where they are small: they come in one round trip, with what `meanwhile` asks for.
  template <class Meanwhile>
  __device__ __forceinline__ void Stage(int rows, const Meanwhile& meanwhile) {
    constexpr int kEach = kStagedVectors;
    static_assert(kEach * Shape::kThreads * 16 <= Shape::kSumsBytes);
    int4 v[kEach];
    const int queries = p.staged_ids + p.staged_pages;
    const int4* const q_from = static_cast<const int4*>(p.q) + (kCluster ? ClusterRow() * p.group * kChunks : 0) - queries;
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      if (i * Shape::kThreads >= p.staged) break;
      const int at = threadIdx.x + i * Shape::kThreads;
      if (at >= p.staged) continue;
      if (at >= queries) {
        v[i] = q_from[at];
      } else {
        const bool of_ids = kSparse && at < p.staged_ids;
        v[i] = Four(of_ids ? p.ids : p.page_table, (of_ids ? at : at - p.staged_ids) * 4, of_ids ? rows * p.capacity : p.batch * p.page_table_stride);
      }
    }
    meanwhile();
    if (p.staged == 0) return;
    int4* const staged = reinterpret_cast<int4*>(merge);
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      if (i * Shape::kThreads >= p.staged) break;
      const int at = threadIdx.x + i * Shape::kThreads, of_q = at - queries;
      if (at < p.staged) staged[at < queries ? at : queries + (of_q ^ (of_q / kChunks % 8))] = v[i];  // as keys lie
    }
    ids = reinterpret_cast<const int*>(staged);
    pages = ids + p.staged_ids * 4;
    if (p.staged > queries) staged_q = ptx::SharedAddress(staged + queries);
  }

  // n / d for n below 2^20 (the plan sees to it): the half keeps rounding away from whole numbers.
  __device__ __forceinline__ static int Quotient(int n, int d) {
    return static_cast<int>(__fdividef(static_cast<float>(n) + 0.5f, static_cast<float>(d)));
  }

  // Up to 32 parts meet at once; more meet in groups first, which pays only for long rows.
  __device__ __forceinline__ int PartsOf(int units, int most) const {
    return min(min(most, units < 2048 * 128 / kD ? 32 : p.max_parts), Quotient(units + p.min_units - 1, p.min_units));
  }

  __device__ __forceinline__ static int ClusterRow() { return static_cast<int>(blockIdx.x) / ClusterCtas(); }
  __device__ __forceinline__ static int ClusterCtas() {
    if constexpr (kCluster) return static_cast<int>(ptx::ClusterSize());
    return 1;
  }

  // Few rows: each gets CTAs of its own, in proportion to its units. Lane r knows row r.
  struct Share {
    int row = 32, units = 0, parts = 0, first_cta = 0;
    unsigned empty = 0;  // rows without a key
  };
  struct Sizes {
    int length, count;
  };
  // Which row this CTA has, and which part of it, if any: parts > 0 then. row_length and row_count are that row's.
  __device__ __forceinline__ Share Deal(int rows, const Sizes& sizes) {
    const int n = lane < rows ? UnitsOf(sizes.length, sizes.count) : 0;
    Share share;
    const int first = __shfl_sync(~0u, n, 0);
    meets = false;
    if (first > 0 && __all_sync(~0u, lane >= rows || n == first)) {  // no need to add up and to search
      const int ctas = kCluster ? ClusterCtas() : Quotient(gridDim.x, rows);
      share.parts = PartsOf(first, ctas);
      const int row = Quotient(blockIdx.x, kCluster ? ctas : share.parts);
      share.first_cta = row * (kCluster ? ctas : share.parts);
      meets = kCluster;
      if (row < rows && static_cast<int>(blockIdx.x) - share.first_cta < share.parts) share.row = row;
    } else {
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
      share.empty = __ballot_sync(~0u, lane < rows && n == 0);
      share.row = __popc(__ballot_sync(~0u, end <= static_cast<int>(blockIdx.x)));
      share.parts = __shfl_sync(~0u, parts, share.row);
      share.first_cta = __shfl_sync(~0u, end, share.row) - share.parts;
    }
    share.units = __shfl_sync(~0u, n, share.row);
    row_length = __shfl_sync(~0u, sizes.length, share.row);
    row_count = __shfl_sync(~0u, sizes.count, share.row);
    return share;
  }

  // Ahead of the wait, by lengths, counts and pages that may be a step old or no such things at all: who would have what, and of it the first
  // keys and values asked for, an eighth of a warp's but for the ends. Read past L1, which would keep what is old.
  __device__ __forceinline__ Sizes Guess(int rows, Share* share) {
    const int of_lane = min(lane, rows - 1);
    const Sizes sizes{max(min(ptx::LoadL2(p.lengths + SequenceOf(of_lane)), p.guess_keys), 0),
                      kSparse ? max(min(ptx::LoadL2(p.counts + of_lane), p.guess_blocks), -1) : -1};
    *share = Deal(rows, sizes);
    if (kSparse || p.num_pages == 0 || share->row >= rows) return sizes;
    const int per_warp = Quotient(share->units, max(share->parts, 1) * kWarps), asked = min(kStages, max(kStages / 2, per_warp / 8));
    const int unit = static_cast<int>(blockIdx.x) - share->first_cta + (warp + lane / 2 * kWarps) * share->parts, in_page = unit % (64 / kUnitKeys);
    if (lane >= 2 * asked || unit >= share->units) return sizes;
    const int b = SequenceOf(share->row), head = share->row - b * p.kv_heads;
    const int page = ptx::LoadL2(p.page_table + b * p.page_table_stride + unit / (64 / kUnitKeys));
    if (static_cast<unsigned>(page) >= static_cast<unsigned>(p.num_pages)) return sizes;  // nothing is there
    const char* from = lane % 2 == 0 ? p.k + page * p.k_page_bytes + head * p.k_head_bytes : p.v + page * p.v_page_bytes + head * p.v_head_bytes;
    ptx::PrefetchL2Run(from + in_page * Shape::kUnitBytes, Shape::kUnitBytes);
    return sizes;
  }

  // Behind the wait: the guess if it was right. Each warp compares its own.
  __device__ __forceinline__ Share FewRows(int rows, Share share, const Sizes& guess) {
    const int of_lane = min(lane, rows - 1);
    const Sizes sizes{LengthOf(of_lane), CountOf(of_lane)};
    bool same = false;
    Stage(rows, [&] { same = __all_sync(~0u, sizes.length == guess.length && sizes.count == guess.count); });
    if (!same) share = Deal(rows, sizes);
    if (kCluster && !meets) staged_q = 0;  // the row will be another than the cluster's
    if (blockIdx.x < 32 && (share.empty >> blockIdx.x & 1) != 0) ZeroRow(blockIdx.x);
    if (share.row < 32) __syncthreads();
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
      const int own = row < rows ? UnitsOf(LengthOf(row), CountOf(row)) : 0;
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
      const int count = one_row >= 0 ? row_count : CountOf(row), length = one_row >= 0 ? row_length : p.lengths[b];
      int at = one_row >= 0 ? first_unit + unit * unit_step : unit - prefix[row];
      if (kSparse && count >= 0) {
        const int block = ptx::Divide(at, p.block_magic);
        const int id = block < count ? ids[row * p.capacity + block] : -1;
        at = id < 0 ? 1 << 26 : id * p.block_units + at - block * p.block_units;
      }
      const int key = at * kUnitKeys;
      lane_valid = min(kUnitKeys, length - key);
      if (lane_valid > 0) {
        const ptx::i64 page = pages[b * p.page_table_stride + key / 64];
        const int in_page = key % 64 * kD * 2;
        lane_k = p.k + page * p.k_page_bytes + head * p.k_head_bytes + in_page;
        lane_v = p.v + page * p.v_page_bytes + head * p.v_head_bytes + in_page;
      }
    }
  }

  // Starts the copies of the K (or V) of this warp's n-th unit into a slot of the ring; K come in order, and a V before the K of 32 units on.
  // What lies behind the last key becomes zero: it may be anything, and 0 * NaN is NaN.
  static constexpr bool kSplit = kD > 64;  // K and V apart; of small units both at once, by the call for K
  template <bool kOfV>
  __device__ __forceinline__ void Issue(int n, int slot) {
    if (kOfV && !kSplit) return;
    if (n < mine) {
      const int from = n % 32;
      if (!kOfV && from == 0) LookUp(range_begin + warp + (n + lane) * kWarps);
      const char* at = reinterpret_cast<const char*>(__shfl_sync(~0u, reinterpret_cast<ptx::u64>(kOfV ? lane_v : lane_k), from));
      const int valid = __shfl_sync(~0u, lane_valid, from);
      if (!kOfV && lane == 0) ring_valid[slot] = valid;
      if (valid > 0) {
        constexpr int kKeysACopy = 32 / kChunks;
        const int key = lane / kChunks, chunk = lane % kChunks;
        const ptx::u32 to = ring + slot * 2 * Shape::kUnitBytes + (kOfV ? Shape::kUnitBytes : 0);
#pragma unroll
        for (int i = 0; i < kCopies; ++i) {
          const int t = i * kKeysACopy + key;
          ptx::CpAsync16OrZero(to + t * kD * 2 + (chunk ^ (t % 8)) * 16, at + (i * 32 + lane) * 16, t < valid, policy);
        }
        if (!kSplit) {
          const char* of_v = reinterpret_cast<const char*>(__shfl_sync(~0u, reinterpret_cast<ptx::u64>(lane_v), from));
#pragma unroll
          for (int i = 0; i < kCopies; ++i) {
            const int t = i * kKeysACopy + key;
            ptx::CpAsync16OrZero(to + Shape::kUnitBytes + t * kD * 2 + (chunk ^ (t % 8)) * 16, of_v + (i * 32 + lane) * 16, t < valid, policy);
          }
        }
      }
    }
    ptx::CpAsyncCommit();
  }

  ptx::u32 q[kRowTiles][kSteps][2];
  float acc[kRowTiles][kSteps][4];
  OnlineSoftmax softmax[kRowTiles];

  __device__ __forceinline__ void StartRow(int row) {
    const char* base = static_cast<const char*>(p.q) + static_cast<ptx::i64>(row) * p.group * kD * 2 + lane % 4 * 4;
#pragma unroll
    for (int tile = 0; tile < kRowTiles; ++tile) {
      const int head = tile * 8 + lane / 4;
      if (staged_q != 0) {  // lane l names the line of head l % 8; one that is not there is never asked for
        const int line = (kCluster ? 0 : row * p.group) + min(tile * 8 + lane % 8, p.group - 1);
        const ptx::u32 from = staged_q + line * kD * 2;
#pragma unroll
        for (int step = 0; step < kSteps; step += 2) {
          ptx::u32 four[4];
          ptx::LdMatrix4(four, from + ((step * 2 + lane / 8) ^ (line % 8)) * 16);
          q[tile][step][0] = four[0], q[tile][step][1] = four[1], q[tile][step + 1][0] = four[2], q[tile][step + 1][1] = four[3];
        }
      } else {
#pragma unroll
        for (int step = 0; step < kSteps; ++step) {
          const char* from = base + head * kD * 2 + step * 32;
          q[tile][step][0] = head < p.group ? *reinterpret_cast<const ptx::u32*>(from) : 0u;
          q[tile][step][1] = head < p.group ? *reinterpret_cast<const ptx::u32*>(from + 16) : 0u;
        }
      }
#pragma unroll
      for (int step = 0; step < kSteps; ++step) {
#pragma unroll
        for (int i = 0; i < 4; ++i) acc[tile][step][i] = 0.0f;
      }
      softmax[tile] = OnlineSoftmax();
    }
  }

  ptx::u32 weights[kRowTiles][2];  // of the present unit

  __device__ __forceinline__ void Weigh(int slot, int valid) {
    const ptx::u32 k = ring + slot * 2 * Shape::kUnitBytes;
    float s[kRowTiles][2][4] = {};  // two chains, so that products overlap
    const ptx::u32 k_row = k + lane % 16 * kD * 2 + ((lane / 16) ^ (lane % 8)) * 16;
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
      ptx::u32 a[4];
      ptx::LdMatrix4(a, k_row ^ (step * 32));
#pragma unroll
      for (int tile = 0; tile < kRowTiles; ++tile) Element::Mma(s[tile][step % 2], a, q[tile][step][0], q[tile][step][1]);
    }
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
  }

  __device__ __forceinline__ void AddValues(int slot) {
    const ptx::u32 v = ring + slot * 2 * Shape::kUnitBytes + Shape::kUnitBytes;
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
        const int row = tile * 8 + lane % 4 * 2 + j;
        if (lane < 4) stats[warp * Shape::kRows + row] = make_float2(softmax[tile].peak[j], softmax[tile].sum[j]);
        float* to = merge + warp * merge_step + row * Shape::kMergeStride + lane / 4;
#pragma unroll
        for (int step = 0; step < kSteps; ++step) {
          to[step * 16] = acc[tile][step][j];
          to[step * 16 + 8] = acc[tile][step][j + 2];
        }
      }
    }
  }

  // A lane's columns of one query head.
  using Columns = ptx::Vector<kColumns>;
  __device__ __forceinline__ void Store(int row, int head, const Columns& x, float peak, float sum) const {
    const ptx::i64 at = static_cast<ptx::i64>(row) * p.group + head;
    const float inverse = sum == 0.0f ? 0.0f : __fdividef(1.0f, sum);
    ptx::u32* out = static_cast<ptx::u32*>(p.out) + at * (kD / 2) + lane * (kColumns / 2);
#pragma unroll
    for (int i = 0; i < kColumns / 2; ++i) out[i] = Element::Pack(x.v[2 * i] * inverse, x.v[2 * i + 1] * inverse);
    if (p.lse != nullptr && lane == 0) {
      p.lse[at] = sum == 0.0f ? ptx::kNegInf : (peak + log2f(sum)) * 0.69314718055994531f;
    }
  }

  // Adds n states of one query head that lie in shared memory. Each lane weighs all of them: that takes no exchange.
  template <int n, class Sums, class State>
  __device__ __forceinline__ void AddHere(const Sums& sums, const State& state, Columns* total, float* top, float* sum) const {
    float2 s[n];
    Columns x[n];
    *top = ptx::kNegInf;
#pragma unroll
    for (int i = 0; i < n; ++i) s[i] = state(i);
#pragma unroll
    for (int i = 0; i < n; ++i) x[i] = sums(i);
#pragma unroll
    for (int i = 0; i < n; ++i) *top = fmaxf(*top, s[i].x);
    const float base = *top == ptx::kNegInf ? 0.0f : *top;
    *sum = 0.0f;
    *total = Columns{};
#pragma unroll
    for (int i = 0; i < n; ++i) {
      const float weight = ptx::Exp2(s[i].x - base);
      *sum += weight * s[i].y;
#pragma unroll
      for (int c = 0; c < kColumns; ++c) total->v[c] += weight * x[i].v[c];
    }
  }
  __device__ __forceinline__ void AddWarps(int head, Columns* total, float* top, float* sum) const {
    AddHere<kWarps>([&](int w) { return *reinterpret_cast<const Columns*>(merge + w * merge_step + head * Shape::kMergeStride + lane * kColumns); },
                    [&](int w) { return stats[w * Shape::kRows + head]; }, total, top, sum);
  }

  // A row whose parts are the first of a cluster: they meet in shared memory, query head h in that of part h % parts.
  static constexpr int kMostParts = 16;
  __device__ __forceinline__ void FinishInCluster(int row, int parts, int part) {
    merge = ring_memory;  // nothing else will come into the ring
    merge_step = Shape::kRingBytes / 4;
    Publish();
    __syncthreads();
    const int head = warp;
    if (head >= p.group) return;
    Columns total;
    float top, sum;
    AddWarps(head, &total, &top, &sum);
    const int of_owner = Quotient(head, parts), owner = head - of_owner * parts, first = of_owner * parts;
    const ptx::u32 barrier = ptx::SharedAddress(met) + head * 8, there = ptx::MapToRank(barrier, owner);
    const char* sums = met + 64;
    const char* states = sums + kMostParts * kD * 4;
    ptx::StoreAsync(ptx::MapToRank(ptx::SharedAddress(sums) + (first + part) * kD * 4 + lane * sizeof(Columns), owner), total, there);
    if (lane == 0) ptx::StoreAsync(ptx::MapToRank(ptx::SharedAddress(states) + (first + part) * 8, owner), ptx::Vector<2>{{top, sum}}, there);
    if (owner != part) return;
    if (lane == 0) ptx::BarrierExpect(barrier, parts * (kD * 4 + 8));
    ptx::BarrierWaitFirst(barrier);
    const auto sums_of = [&](int i) { return *reinterpret_cast<const Columns*>(sums + (first + min(i, parts - 1)) * kD * 4 + lane * sizeof(Columns)); };
    const auto state_of = [&](int i) { return i < parts ? *reinterpret_cast<const float2*>(states + (first + i) * 8) : make_float2(ptx::kNegInf, 0.0f); };
    AddHere<kMostParts>(sums_of, state_of, &total, &top, &sum);
    Store(row, head, total, top, sum);
  }

  // Adds `count` parts of one query head. at[i] is where part i begins, or the last one, which counts once: where to
  // read is known before there is something to read. Lane i works out the weight of part i.
  template <int kAhead, class SlotOf>
  __device__ __forceinline__ void AddParts(int head, int count, const SlotOf& slot_of, ptx::u32 (&at)[kAhead], Columns* total, float* top, float* sum) {
    const float* sums = p.part_out + head * kD + lane * kColumns;
    const float2* states = reinterpret_cast<const float2*>(p.part_stats) + head;
    *top = ptx::kNegInf;
    *sum = 0.0f;
    *total = Columns{};
#pragma unroll 1
    for (int base = 0;;) {
      float2 s = ptx::LoadL2(states + static_cast<ptx::u32>(slot_of(min(base + lane, count - 1)) * p.group));
      Columns x[kAhead];
#pragma unroll
      for (int i = 0; i < kAhead; ++i) x[i] = ptx::LoadL2(reinterpret_cast<const Columns*>(sums + at[i]));
      if (lane >= kAhead || base + lane >= count) s = make_float2(ptx::kNegInf, 0.0f);
      float higher = s.x;
#pragma unroll
      for (int lanes = kAhead / 2; lanes > 0; lanes /= 2) higher = fmaxf(higher, __shfl_xor_sync(~0u, higher, lanes));
      higher = fmaxf(*top, __shfl_sync(~0u, higher, 0));
      const float zero = higher == ptx::kNegInf ? 0.0f : higher, keep = ptx::Exp2(*top - zero), weight = ptx::Exp2(s.x - zero);
      float more = weight * s.y;
#pragma unroll
      for (int c = 0; c < kColumns; ++c) total->v[c] *= keep;
#pragma unroll
      for (int i = 0; i < kAhead; ++i) {
        const float w = __shfl_sync(~0u, weight, i);
#pragma unroll
        for (int c = 0; c < kColumns; ++c) total->v[c] += w * x[i].v[c];
      }
#pragma unroll
      for (int lanes = kAhead / 2; lanes > 0; lanes /= 2) more += __shfl_xor_sync(~0u, more, lanes);
      *sum = *sum * keep + __shfl_sync(~0u, more, 0);
      *top = higher;
      base += kAhead;
      if (base >= count) break;
#pragma unroll
      for (int i = 0; i < kAhead; ++i) at[i] = slot_of(min(base + i, count - 1)) * (p.group * kD);
    }
  }

  // The end of a row's segment. A query head of several parts is finished by the warp that comes last with it. Part i of the row
  // lies in slot first_slot + i * slot_step, less one from the second part on where `tail_first`.
  __device__ __forceinline__ void FinishSegment(int row, int parts, int slot, int first_slot, int slot_step, bool tail_first) {
    if (one_row >= 0) {  // nothing else will come into the ring
      merge = ring_memory;
      merge_step = Shape::kRingBytes / 4;
    } else {
      __syncthreads();  // the last of the staged ids has been read
    }
    Publish();
    __syncthreads();
    // Many parts of one row meet in groups first: one warp alone would read them for longer than a second meeting takes.
    constexpr int kGroup = 8;
    const bool groups = one_row >= 0 && parts > 4 * kGroup;
    const int group_first = first_slot + (slot - first_slot) / kGroup * kGroup;
#pragma unroll 1
    for (int head = warp; head < p.group; head += kWarps) {
      Columns total;
      float top, sum;
      AddWarps(head, &total, &top, &sum);
      bool tree = groups, whole = parts == 1;
      int to = slot, count = tree ? min(kGroup, first_slot + parts - group_first) : parts, first = tree ? group_first : first_slot, step = slot_step;
      int counter = tree ? p.batch * p.kv_heads + group_first : row;
#pragma unroll 1
      while (!whole) {
        *reinterpret_cast<Columns*>(p.part_out + static_cast<ptx::u32>((to * p.group + head) * kD + lane * kColumns)) = total;
        if (lane == 0) reinterpret_cast<float2*>(p.part_stats)[static_cast<ptx::u32>(to * p.group + head)] = make_float2(top, sum);
        __syncwarp();
        const auto slot_of = [&](int i) { return first + i * step - (tail_first && i > 0 ? 1 : 0); };
        const auto meet = [&](auto ahead) {
          ptx::u32 at[decltype(ahead)::value], before = 0;
          ptx::u32* const arrived = p.counters + counter * p.group + head;
          if (lane == 0) before = ptx::AddAcqRel(arrived, 1u);
#pragma unroll
          for (int i = 0; i < decltype(ahead)::value; ++i) {
            at[i] = slot_of(min(i, count - 1)) * (p.group * kD);
            asm volatile("" : "+r"(at[i]));  // meanwhile
          }
          if (__shfl_sync(~0u, before, 0) != count - 1u) return false;
          if (lane == 0) *arrived = 0;
          AddParts(head, count, slot_of, at, &total, &top, &sum);
          return true;
        };
        bool last;
#ifdef __CUDACC_RTC__  // half the code of a rare case: the kernel must compile within a second
        last = meet(Number<kPartsAhead>{});
#else
        if (count <= 16 || kRowTiles > 1 || (kSparse && kD > 64)) {
          last = meet(Number<kPartsAhead>{});
        } else {  // where registers allow
          last = meet(Number<32>{});
        }
#endif
        if (!last) break;
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
    if (one_row < 0) __syncthreads();
  }

  // The units [begin, end): of one row, counted from its start, or of the line, where they may cross rows.
  __device__ __forceinline__ void Run(int begin, int end, const Share& share, int units, int parts_of_line) {
    range_begin = begin;
    range_end = end;
    mine = end - begin > warp ? (end - begin - warp + kWarps - 1) / kWarps : 0;
    int row = one_row >= 0 ? one_row : RowOf(begin), stop = one_row >= 0 ? end : min(end, prefix[row + 1]), at = begin, slot = 0;
    bool starts = true;  // its queries are fetched while the first keys are on their way
    // The first keys come before the first values: they are weighed meanwhile.
#pragma unroll 1
    for (int i = 0; i < kStages; ++i) Issue<false>(i, i);
#pragma unroll 1
    for (int i = 0; i < kStages; ++i) Issue<true>(i, i);
#pragma unroll 1
    for (int done = 0;;) {
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
        if constexpr (kCluster) {
          if (meets) return FinishInCluster(row, parts, slot_of_part - first);
        }
        FinishSegment(row, parts, slot_of_part, first, step, step == 2);
        if (one_row >= 0) return;
        at = stop;
        if (at >= end) break;
        do {
          ++row;
        } while (prefix[row + 1] <= at);
        stop = min(end, prefix[row + 1]);
        starts = true;
        continue;
      }
      ptx::CpAsyncWait<kSplit ? 2 * kStages - 1 : kStages - 1>();
      __syncwarp();
      const int valid = ring_valid[slot];
      if (valid > 0) Weigh(slot, valid);
      if (kSplit) {
        __syncwarp();
        Issue<false>(done + kStages, slot);
        if (done < kStages - 1) {
          ptx::CpAsyncWait<kStages>();
        } else {
          ptx::CpAsyncWait<2 * kStages - 1>();
        }
        __syncwarp();
      }
      if (valid > 0) AddValues(slot);
      __syncwarp();
      if (kSplit) {
        Issue<true>(done + kStages, slot);
      } else {
        Issue<false>(done + kStages, slot);
      }
      slot = slot + 1 == kStages ? 0 : slot + 1;
      ++done;
    }
    ptx::CpAsyncWait<0>();
    __syncthreads();
  }

  // Ahead of the wait: of an array of few bytes, all.
  __device__ __forceinline__ static void Ahead(const void* from, int bytes) {
    const int at = threadIdx.x * 128;
    if (at < bytes) ptx::PrefetchL2(static_cast<const char*>(from) + at);
  }

  __device__ __forceinline__ void Main() {
    ptx::LaunchDependents();
    Ahead(p.lengths, p.batch * 4);
    Ahead(p.page_table, p.batch * p.page_table_stride * 4);
    Ahead(p.q, p.batch * p.kv_heads * p.group * kD * 2);
    if (kSparse) {
      Ahead(p.counts, p.batch * p.kv_heads * 4);
      Ahead(p.ids, p.batch * p.kv_heads * p.capacity * 4);
    }
    asm volatile("" ::"r"(p.staged), "r"(p.min_units));  // parameters come from memory too
    const int rows = p.batch * p.kv_heads;
    const bool few = rows <= Shape::kFewRows && p.chunk_units == 0 && rows <= static_cast<int>(gridDim.x);
    Share share;
    Sizes guess{};
    if constexpr (kSoftCap) {  // compiled at run time, within a second
      guess.length = -1;
    } else if (few) {
      guess = Guess(rows, &share);
    }
    if constexpr (kCluster) {
      if (threadIdx.x == 0) {
#pragma unroll
        for (int i = 0; i < kWarps; ++i) ptx::BarrierInit(ptx::SharedAddress(met) + i * 8);
        ptx::BarriersBegin();
      }
      ptx::ClusterArriveRelaxed();
    }
    ptx::WaitForPredecessors();
    if constexpr (kCluster) ptx::ClusterWait();
    int begin, end, item = blockIdx.x, items, units = 0, busy = 1;
    if (few) {
      share = FewRows(rows, share, guess);
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
        row_length = LengthOf(item);
        row_count = CountOf(item);
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
// list is there: 192 a thread beside 256 threads of 64.
template <class Element, int kD, int kRowTiles, int kStages, int kWarps, bool kSparse, bool kSoftCap, bool kCluster>
__global__ void __maxnreg__(kSparse && kRowTiles == 1 && kWarps == 8 ? 192 : 255) DecodeKernel(const __grid_constant__ DecodeParams params) {
  extern __shared__ __align__(1024) char shared[];
  DecodeCta<Element, kD, kRowTiles, kStages, kWarps, kSparse, kSoftCap, kCluster> cta(params, shared);
  cta.Main();
}

}  // namespace lectern::attention
