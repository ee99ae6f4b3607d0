// attention/cuda/select.cuh: scores the blocks of a (sequence, KV head) row and keeps the best, in one launch.
//
// Dataflow  grid = kv_head * batch clusters of kCtas. Passes go round the CTAs; descriptors are in flight before the query is
//           known. The gate's projection is cut over the CTAs by rows of its weights, and the pieces meet over distributed
//           shared memory. Scores (score.cuh) go to rank 0, which chooses (choose.cuh).
// Shapes    descriptors: D (gate) or 2 D (minimum, maximum) two-byte elements a block; ids [row, capacity].
// Bytes     blocks * D * 2 (gate; 4.2 MB at 131072 keys, 8 heads, block 64), twice that for pairs; the gate's weights
//           group * D * D * 2 a KV head (0.26 MB at 8 x 128 x 128), once a batch from memory and then from L2.
// Heads     where each query head chooses (kQuestHeads), CTA h of the cluster gets the scores of head h and chooses beside the
//           others; their choices meet as bits in rank 0, which lists them.
#pragma once

#include "attention/cuda/choose.cuh"
#include "attention/cuda/ptx.cuh"
#include "attention/cuda/rotation.cuh"
#include "attention/cuda/score.cuh"
#include "attention/cuda/select_params.h"

namespace lectern::attention {

// Of a thread. The gate from its query leaves room for the decode kernel that reads its list; 128 let two CTAs of 8 warps share a
// processor.
template <ScoreKind kKind, int kWarps>
inline constexpr int kSelectRegisters = kKind == ScoreKind::kGateQuery ? (kWarps == 16 ? 48 : 64)
                                        : kKind == ScoreKind::kResa    ? 64
                                        : kKind == ScoreKind::kGateProject && kWarps == 8 ? 168 : 128;

// The pieces of shared memory; SelectSharedBytes counts them.
template <ScoreKind kKind, int kD, int kCtas, int kWarps>
struct SelectShared {
  int *hist, *scratch;  // the choice's
  uint2* ends;          // [kCtas * kWarps]
  float* query;         // [D], where it is not read as it is
  float* pieces;        // [kCtas, D] of the projection, then [kWarps, D]
  float2* rotation;     // [D / 2]: cosine, sine
  unsigned *keys, *marks;
  static constexpr bool kProjects = kKind == ScoreKind::kGateProject;
  __device__ __forceinline__ SelectShared(char* at, int max_blocks) {
    hist = reinterpret_cast<int*>(at);
    scratch = hist + kDigits;
    ends = reinterpret_cast<uint2*>(scratch + kSelectScratch);
    query = reinterpret_cast<float*>(ends + kCtas * kWarps);
    pieces = query + kD;
    rotation = reinterpret_cast<float2*>(pieces + (kProjects ? (kCtas + kWarps) * kD : 0));
    keys = reinterpret_cast<unsigned*>(rotation + (kProjects ? kD / 2 : 0));
    marks = keys + max_blocks;
  }
};

// The gate's query of a row: this CTA's rows of the weights, then the cluster's sum, norm and rotation, to `at.query`. Calls
// load() when the weights are on their way. Waits for the cluster to have begun.
template <class Element, int kD, int kCtas, int kWarps, class Shared, class Load>
__device__ __forceinline__ void Project(const SelectParams& p, const Shared& at, int row, int head, int rank, int length, const Load& load) {
  constexpr int kLanes = kD / 8;  // that share a row of weights, 16 bytes each
  constexpr int kRowsAWarp = 32 / kLanes, kRowsAPass = kRowsAWarp * kWarps, kRowsAhead = kWarps == 8 ? 16 : 8;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, part = lane % kLanes, column = threadIdx.x;
  const int rows = p.group * kD, each = (rows + kCtas - 1) / kCtas, first = rank * each, last = min(rows, first + each);
  const char* weights = static_cast<const char*>(p.gate_weights) + static_cast<ptx::i64>(head) * rows * kD * 2 + part * 16;
  const ptx::u16* u = static_cast<const ptx::u16*>(p.q) + static_cast<ptx::i64>(row) * rows;
  float sum[8] = {};
  bool loaded = false;
  if (p.frequencies != nullptr && column < kD / 2) {
    float cosine, sine;
    Rotation(length - 1, p.frequencies[column], p.rope_scale, &cosine, &sine);
    at.rotation[column] = make_float2(cosine, sine);
  }
#pragma unroll 1
  for (int i = first + warp * kRowsAWarp + lane / kLanes; i < last || !loaded; i += kRowsAhead * kRowsAPass) {
    uint4 w[kRowsAhead];
    ptx::u16 x[kRowsAhead];
#pragma unroll
    for (int j = 0; j < kRowsAhead; ++j) {
      const int from = i + j * kRowsAPass;
      w[j] = make_uint4(0, 0, 0, 0);
      x[j] = 0;
      if (from < last) {
        w[j] = *reinterpret_cast<const uint4*>(weights + static_cast<ptx::i64>(from) * kD * 2);
        x[j] = u[from];
      }
    }
    if (!loaded) load();  // behind the weights, which are needed first
    loaded = true;
#pragma unroll
    for (int j = 0; j < kRowsAhead; ++j) {
      float y[8];
      Unpack<Element>(w[j], y);
      const float input = Element::Widen(x[j]);
#pragma unroll
      for (int c = 0; c < 8; ++c) sum[c] += input * y[c];
    }
  }
  float* of_warp = at.pieces + kCtas * kD;
#pragma unroll
  for (int c = 0; c < 8; ++c) {
#pragma unroll
    for (int lanes = kLanes; lanes < 32; lanes *= 2) sum[c] += __shfl_xor_sync(~0u, sum[c], lanes);
  }
  if (lane < kLanes) {
    *reinterpret_cast<float4*>(of_warp + warp * kD + part * 8) = make_float4(sum[0], sum[1], sum[2], sum[3]);
    *reinterpret_cast<float4*>(of_warp + warp * kD + part * 8 + 4) = make_float4(sum[4], sum[5], sum[6], sum[7]);
  }
  __syncthreads();
  ptx::ClusterWait();
  float x = 0;
  if (column < kD) {  // every CTA of the cluster gets every piece
#pragma unroll
    for (int w = 0; w < kWarps; ++w) x += of_warp[w * kD + column];
    const ptx::u32 mine = ptx::SharedAddress(at.pieces + rank * kD + column);
#pragma unroll
    for (int to = 0; to < kCtas; ++to) ptx::StoreCluster(ptx::MapToRank(mine, to), __float_as_uint(x));
  }
  ptx::ClusterArrive();
  ptx::ClusterWait();
  float* line = of_warp;  // free again: [D], and the squares of each warp behind it
  x = 0;
  if (column < kD) {
#pragma unroll
    for (int r = 0; r < kCtas; ++r) x += at.pieces[r * kD + column];
    line[column] = x;
  }
  float squares = x * x;
#pragma unroll
  for (int lanes = 16; lanes > 0; lanes /= 2) squares += __shfl_xor_sync(~0u, squares, lanes);
  if (lane == 0) line[kD + warp] = squares;
  __syncthreads();
  if (column >= kD) return;
  squares = 0;
#pragma unroll
  for (int w = 0; w < kD / 32; ++w) squares += line[kD + w];
  const float inverse = rsqrtf(squares / kD + p.norm_eps);
  const auto normed = [&](int c) { return p.gate_norm == nullptr ? line[c] : line[c] * inverse * p.gate_norm[c]; };
  float y = normed(column);
  if (p.frequencies != nullptr) {
    const float other = normed(column ^ kD / 2);
    const float2 turn = at.rotation[column % (kD / 2)];
    y = y * turn.x + (column < kD / 2 ? -other : other) * turn.y;
  }
  at.query[column] = y;
}

template <class Element, int kD, ScoreKind kKind, int kCtas, int kWarps>
__global__ void __maxnreg__((kSelectRegisters<kKind, kWarps>)) SelectKernel(const __grid_constant__ SelectParams p) {
  constexpr bool kPerHead = kKind == ScoreKind::kQuestHeads, kQuest = kPerHead || kKind == ScoreKind::kQuest;
  constexpr bool kPairs = kKind == ScoreKind::kResa || kQuest;
  using Rows = typename RowsOf<Element, kD, kKind, kCtas, kWarps>::Type;
  constexpr int kThreads = kWarps * 32;
  static_assert(!kPerHead || kCtas >= 8, "a CTA a head");
  static_assert(kThreads >= kD, "a thread a column");
  extern __shared__ __align__(16) char shared[];
  const SelectShared<kKind, kD, kCtas, kWarps> at(shared, p.max_blocks);

  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int row = blockIdx.x / kCtas, b = ptx::Divide(row, p.heads_magic), head = row - b * p.kv_heads;
  const int rank = static_cast<int>(ptx::ClusterRank());
  ptx::LaunchDependents();
  const ptx::u64 policy = ptx::EvictFirst();
  if (kPerHead) {
    for (int i = threadIdx.x; i < (p.max_blocks + 31) / 32; i += kThreads) at.marks[i] = 0;
  }
  if (rank == 0 || kPerHead) Chooser<kWarps>::Clear(at.hist, at.scratch);
  // What one CTA is sent is counted in bytes: it waits for nothing else, and the others end.
  const ptx::u32 met = ptx::SharedAddress(at.scratch + kSelectScratch - 2);
  if (!kPerHead && rank == 0 && threadIdx.x == 0) {
    ptx::BarrierInit(met);
    ptx::BarriersBegin();
  }
  ptx::ClusterArriveRelaxed();  // who writes into a neighbour waits for it to have begun
  // Ahead of the wait: what is read first. All that a predecessor may yet write is read behind it.
  const auto ahead = [](const void* from, int bytes) {
    for (int at = threadIdx.x * 128; at < bytes; at += kThreads * 128) ptx::PrefetchL2(static_cast<const char*>(from) + at);
  };
  ahead(p.lengths + b, 4);
  ahead(p.page_table + static_cast<ptx::i64>(b) * p.page_table_stride, p.page_table_stride * 4);
  if constexpr (kKind == ScoreKind::kGateQuery) {
    ahead(static_cast<const char*>(p.q) + static_cast<ptx::i64>(row) * kD * 2, kD * 2);
  } else {
    ahead(static_cast<const char*>(p.q) + static_cast<ptx::i64>(row) * p.group * kD * 2, p.group * kD * 2);
  }
  if (kKind == ScoreKind::kGateProject && b == 0) {  // this CTA's rows of the weights
    const int rows_all = p.group * kD, each = (rows_all + kCtas - 1) / kCtas, from = rank * each;
    ahead(static_cast<const char*>(p.gate_weights) + (static_cast<ptx::i64>(head) * rows_all + from) * kD * 2, (min(rows_all, from + each) - from) * kD * 2);
    if (p.gate_norm != nullptr) ahead(p.gate_norm, kD * 4);
    if (p.frequencies != nullptr) ahead(p.frequencies, kD * 2);
  }
  asm volatile("" ::"l"(p.descriptors), "l"(p.ids), "r"(p.budget_blocks), "f"(p.threshold));  // parameters come from memory too
  ptx::WaitForPredecessors();
  // Which pages this thread needs first does not wait for the length.
  const int first = Rows::First(rank), length = p.lengths[b];
  const int* pages = p.page_table + static_cast<ptx::i64>(b) * p.page_table_stride;
  int page[Rows::kRows];
  const auto load_pages = [&](int pass) {
#pragma unroll
    for (int i = 0; i < Rows::kRows; ++i) {
      page[i] = pages[min(ptx::Divide((pass + first + i * Rows::kApart) * p.block_units, p.page_magic), p.page_table_stride - 1)];
    }
  };
  load_pages(0);
  int whole = ptx::Divide(length, p.block_magic);  // too many by one at most
  whole -= whole * p.block_tokens > length ? 1 : 0;
  const int num_blocks = whole + (whole * p.block_tokens < length ? 1 : 0);
  Chooser<kWarps> chooser{p, at.keys, at.ends, kCtas * kWarps, at.hist, at.scratch, num_blocks, kPairs ? num_blocks : whole};
  if (length <= p.dense_below || num_blocks > p.max_blocks || (p.mode != 2 && num_blocks <= chooser.Keep())) {
    if (rank == 0 && threadIdx.x == 0) p.counts[row] = -1;
    ptx::ClusterWait();
    return;  // the whole cluster
  }
  const int end = chooser.scored;
  const bool counted = !kPerHead && (p.mode == 2 || num_blocks > Chooser<kWarps>::kFew);  // fewer are chosen later that way: measured

  Rows rows;
  const char* descriptors = p.descriptors + head * p.head_bytes + rows.part * 16;
  const auto load = [&](int pass) {
    if (!kQuest && pass > 0) load_pages(pass);
#pragma unroll
    for (int i = 0; i < Rows::kRows; ++i) {
      const int block = pass + first + i * Rows::kApart;
      const char* from = descriptors + page[i] * p.page_bytes + (block & p.in_page_mask) * p.block_bytes;
#pragma unroll
      for (int c = 0; c < Rows::kPieces; ++c) rows.rows[i][c] = make_uint4(0, 0, 0, 0);
      if (block < end) {
#pragma unroll
        for (int c = 0; c < Rows::kPieces; ++c) rows.rows[i][c] = ptx::LoadOnce(from + c * Rows::kPieceBytes, policy);
      }
    }
    if (kQuest && pass + Rows::kStride < end) load_pages(pass + Rows::kStride);  // ahead, where there are registers
  };
  const char* q = static_cast<const char*>(p.q);
  if constexpr (kKind == ScoreKind::kGateProject) {
    Project<Element, kD, kCtas, kWarps>(p, at, row, head, rank, length, [&] { load(0); });
    __syncthreads();
    rows.Query(at.query);
  } else {
    load(0);
    if constexpr (kKind == ScoreKind::kResa) {
      if (threadIdx.x < kD) {  // the mean of the group
        const ptx::u16* u = reinterpret_cast<const ptx::u16*>(q) + static_cast<ptx::i64>(row) * p.group * kD + threadIdx.x;
        ptx::u16 x[16];
#pragma unroll
        for (int h = 0; h < 16; ++h) x[h] = h < p.group ? u[h * kD] : ptx::u16{0};
        float sum = 0;
#pragma unroll
        for (int h = 0; h < 16; ++h) sum += Element::Widen(x[h]);
        at.query[threadIdx.x] = sum / static_cast<float>(p.group);
      }
      __syncthreads();
      rows.Query(at.query);
    } else if constexpr (kQuest) {
      rows.Query(q + static_cast<ptx::i64>(row) * p.group * kD * 2, p.group);
    } else {
      Unpack<Element>(*reinterpret_cast<const uint4*>(q + (static_cast<ptx::i64>(row) * kD + rows.part * 8) * 2), rows.query);
    }
  }
  if constexpr (kKind != ScoreKind::kGateProject) ptx::ClusterWait();

  const ptx::u32 key_address = ptx::SharedAddress(at.keys), end_address = ptx::SharedAddress(at.ends + rank * kWarps + warp);
  const auto send = [&](float x, int block, int to, unsigned* lowest, unsigned* highest) {
    const unsigned key = OrderedKey(x * p.score_scale);
    if (block >= end) return;
    const ptx::u32 where = ptx::MapToRank(key_address, to) + block * 4;
    if (counted) {
      ptx::StoreAsync(where, key, ptx::MapToRank(met, to));
    } else {
      ptx::StoreCluster(where, key);
    }
    *lowest = min(*lowest, key);
    *highest = max(*highest, key);
  };
  const auto send_ends = [&](unsigned lowest, unsigned highest, int to) {
    const ptx::u32 where = ptx::MapToRank(end_address, to);
    if (counted) {
      ptx::StoreAsync(where, make_uint2(lowest, highest), ptx::MapToRank(met, to));
    } else {
      ptx::StoreCluster(where, lowest);
      ptx::StoreCluster(where + 4, highest);
    }
  };
  constexpr int kEnds = kPerHead ? 2 : 1;
  unsigned lowest[kEnds], highest[kEnds];
#pragma unroll
  for (int j = 0; j < kEnds; ++j) lowest[j] = ~0u, highest[j] = 0u;
#pragma unroll 1
  for (int pass = 0; pass < end; pass += Rows::kStride) {
    if (pass > 0) load(pass);
    const int block = pass + first;
    if constexpr (kQuest) {
      float x[4];
      rows.Score(p.group, x);
      if constexpr (kPerHead) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          if (rows.part * 2 + i % 2 < p.group) send(x[i], block + i / 2 * 8, rows.part * 2 + i % 2, lowest + i % 2, highest + i % 2);
        }
      } else {  // the best of the heads
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          x[i] = fmaxf(x[2 * i], x[2 * i + 1]);
          x[i] = fmaxf(x[i], __shfl_xor_sync(~0u, x[i], 1));
          x[i] = fmaxf(x[i], __shfl_xor_sync(~0u, x[i], 2));
        }
        if (rows.part < 2) send(rows.part == 0 ? x[0] : x[1], block + rows.part * 8, 0, lowest, highest);
      }
    } else {
      float x;
      int beyond;
      if (rows.Score(&x, &beyond)) send(x, block + beyond, 0, lowest, highest);
    }
  }
  if constexpr (kPerHead) {
#pragma unroll
    for (int j = 0; j < kEnds; ++j) {
#pragma unroll
      for (int lanes = 4; lanes < 32; lanes *= 2) {
        lowest[j] = min(lowest[j], __shfl_xor_sync(~0u, lowest[j], lanes));
        highest[j] = max(highest[j], __shfl_xor_sync(~0u, highest[j], lanes));
      }
      if (lane < 4 && lane * 2 + j < p.group) send_ends(lowest[j], highest[j], lane * 2 + j);
    }
  } else {
    lowest[0] = __reduce_min_sync(~0u, lowest[0]);
    highest[0] = __reduce_max_sync(~0u, highest[0]);
    if (lane == 0) send_ends(lowest[0], highest[0], 0);
  }
  int* ids = p.ids + static_cast<ptx::i64>(row) * p.capacity;
  if (!counted) {
    ptx::ClusterArrive();
    ptx::ClusterWait();
  }
  if constexpr (kPerHead) {
    if (rank < p.group) chooser.Mark(ptx::MapToRank(ptx::SharedAddress(at.marks), 0));
    ptx::ClusterArrive();
    ptx::ClusterWait();
    if (rank == 0) chooser.ListBits(at.marks, ids, p.counts + row);
    return;
  }
  if (rank != 0) return;
  if (counted) {
    if (threadIdx.x == 0) ptx::BarrierExpect(met, end * 4 + kCtas * kWarps * 8);
    __syncthreads();  // what the choice needs is cleared
    ptx::BarrierWaitFirst(met);
  }
  if (p.zero_placeholder && end < num_blocks) {  // the open block takes part with score 0
    if (threadIdx.x == 0) {
      at.keys[end] = OrderedKey(0.0f);
      at.ends[0] = make_uint2(min(at.ends[0].x, OrderedKey(0.0f)), max(at.ends[0].y, OrderedKey(0.0f)));
    }
    ++chooser.scored;
    __syncthreads();
  }
  chooser.List(ids, p.counts + row);
}

}  // namespace lectern::attention
