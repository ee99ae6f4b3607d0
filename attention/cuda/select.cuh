// attention/cuda/select.cuh: scores the blocks of a (sequence, KV head) row and keeps the best, in one launch.
//
// Dataflow  grid = kv_head * batch clusters of kCtas. Passes go round the CTAs; descriptors are in flight before the query is
//           known. The gate's projection is cut over the CTAs by rows of its weights, and the pieces go to every CTA's shared memory.
//           Scores (score.cuh) go to that of rank 0, which chooses (choose.cuh). What is sent is counted in bytes (mbarrier).
// Ahead     Before the kernels ahead have ended: descriptors are asked for (L2) by a length and pages as they are then, and these pages
//           are where the first ones are read from behind the wait, if the page table says the same there. Weights are read for good.
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

// Of a thread. The gate from its query leaves room for the decode kernel that reads its list, where rows are few; 128 let two CTAs of 8 warps share a
// processor.
#ifdef __CUDACC_RTC__
inline constexpr int kGateRegisters = 72;  // run-time compilation spills with 64
#else
inline constexpr int kGateRegisters = 64;
#endif
template <ScoreKind kKind, int kCtas, int kWarps>
inline constexpr int kSelectRegisters = kKind != ScoreKind::kGateQuery ? 128 : kCtas == 2 && kWarps == 8 ? 80 : kGateRegisters;

// The pieces of shared memory; SelectSharedBytes counts them.
template <ScoreKind kKind, int kD, int kCtas, int kWarps>
struct SelectShared {
  int *hist, *scratch;  // the choice's
  uint2* ends;          // [kCtas * kWarps]
  ptx::u16* query;      // [QueryRows, D]
  float* pieces;        // [kCtas, D] of the projection, then [kWarps, D], then [D + kWarps]
  float2* rotation;     // [D / 2]: cosine, sine
  unsigned *keys, *marks;
  static constexpr bool kProjects = kKind == ScoreKind::kGateProject;
  static constexpr int kQueryRows = QueryRows(kKind);
  __device__ __forceinline__ SelectShared(char* at, int max_blocks) {
    hist = reinterpret_cast<int*>(at);
    scratch = hist + kDigits;
    ends = reinterpret_cast<uint2*>(scratch + kSelectScratch);
    query = reinterpret_cast<ptx::u16*>(ends + kCtas * kWarps);
    pieces = reinterpret_cast<float*>(query + kQueryRows * kD);
    rotation = reinterpret_cast<float2*>(pieces + (kProjects ? (kCtas + kWarps + 1) * kD + kWarps : 0));
    keys = reinterpret_cast<unsigned*>(rotation + (kProjects ? kD / 2 : 0));
    marks = keys + max_blocks;
  }
  // Barriers that count bytes: of what rank 0 is sent, and of the projection's pieces.
  __device__ __forceinline__ ptx::u32 Met() const { return ptx::SharedAddress(scratch + kSelectScratch - 2); }
  __device__ __forceinline__ ptx::u32 Joined() const { return ptx::SharedAddress(scratch + kSelectScratch - 4); }
};

// The gate's query of a row. A warp takes sixteen rows of the weights at a time, those of a CTA in turn, as the product W^T u: columns of the gate on the
// side of 16, u in the first of eight columns. Lane l has columns l / 4 * kColumns and on of rows l % 4 * 2, the next, and the two eight further on.
template <class Element, int kD, int kCtas, int kWarps, bool kThere>
struct Projection {
  static constexpr int kColumns = kD / 8, kTiles = kD / 16, kStep = kWarps * 16;
  const SelectParams& p;
  int at, last;  // of this warp's rows of the weights
  const char* weights;
  ptx::u32 w[kTiles][4];
  float norm = 1, other_norm = 1, frequency = 0;  // of this thread's column, of the one it turns with, of both

  __device__ __forceinline__ Projection(const SelectParams& params, int head, int rank) : p(params) {
    const int rows = p.group * kD, each = (rows + kCtas - 1) / kCtas, lane = threadIdx.x % 32;
    at = rank * each + static_cast<int>(threadIdx.x) / 32 * 16;
    last = min(rows, rank * each + each);
    weights = static_cast<const char*>(p.gate_weights) + (static_cast<ptx::i64>(head) * rows + lane % 4 * 2) * kD * 2 + lane / 4 * kColumns * 2;
    Load(at, w);
    const int column = static_cast<int>(threadIdx.x) % kD;
    if (p.gate_norm != nullptr) norm = p.gate_norm[column], other_norm = p.gate_norm[column ^ kD / 2];
    if (p.frequencies != nullptr) frequency = p.frequencies[column % (kD / 2)];
  }
  __device__ __forceinline__ void Load(int row, ptx::u32 (&to)[kTiles][4]) const {
    uint4 x[4][kD / 64];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int of = i / 2 * 8 + i % 2;
#pragma unroll
      for (int c = 0; c < kD / 64; ++c) {
        x[i][c] = make_uint4(0, 0, 0, 0);
        if (row + of + static_cast<int>(threadIdx.x) % 4 * 2 < last) x[i][c] = *reinterpret_cast<const uint4*>(weights + static_cast<ptx::i64>(row + of) * kD * 2 + c * 16);
      }
    }
#pragma unroll
    for (int t = 0; t < kTiles; ++t) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const ptx::u32 even = Word(x[2 * half], t), odd = Word(x[2 * half + 1], t);
        to[t][2 * half] = (even & 0xffffu) | odd << 16;
        to[t][2 * half + 1] = even >> 16 | (odd & 0xffff0000u);
      }
    }
  }
  __device__ __forceinline__ static ptx::u32 Word(const uint4 (&x)[kD / 64], int t) {
    const uint4& four = x[t / 4];
    return t % 4 == 0 ? four.x : t % 4 == 1 ? four.y : t % 4 == 2 ? four.z : four.w;
  }

  // The row's query, normed and rotated, to shared.query. Calls meanwhile() while the pieces are on their way.
  template <class Shared, class Meanwhile>
  __device__ __forceinline__ void Run(const Shared& shared, int row, int rank, int length, const Meanwhile& meanwhile) {
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, column = threadIdx.x;
    const char* u = static_cast<const char*>(p.q) + (static_cast<ptx::i64>(row) * p.group * kD + lane % 4 * 2) * 2;
    float sum[kTiles][4] = {};
#pragma unroll 1
    while (at < last) {
      ptx::u32 b[2] = {0, 0};
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        if (lane < 4 && at + lane * 2 + i * 8 < last) b[i] = *reinterpret_cast<const ptx::u32*>(u + (at + i * 8) * 2);
      }
      at += kStep;
      ptx::u32 next[kTiles][4];
      if (at < last) Load(at, next);
#pragma unroll
      for (int t = 0; t < kTiles; ++t) Element::Mma(sum[t], w[t], b[0], b[1]);
      if (at >= last) break;
#pragma unroll
      for (int t = 0; t < kTiles; ++t) {
#pragma unroll
        for (int i = 0; i < 4; ++i) w[t][i] = next[t][i];
      }
    }
    float* of_warp = shared.pieces + kCtas * kD;
    if (lane % 4 == 0) {
#pragma unroll
      for (int t = 0; t < kTiles; ++t) *reinterpret_cast<float2*>(of_warp + warp * kD + lane / 4 * kColumns + 2 * t) = make_float2(sum[t][0], sum[t][2]);
    }
    __syncthreads();
    if (column < kD) {  // every CTA of the cluster gets every piece
      float x = 0;
#pragma unroll
      for (int w = 0; w < kWarps; ++w) x += of_warp[w * kD + column];
      const ptx::u32 mine = ptx::SharedAddress(shared.pieces + rank * kD + column);
#pragma unroll
      for (int to = 0; to < kCtas; ++to) ptx::StoreAsync(ptx::MapToRank(mine, to), __float_as_uint(x), ptx::MapToRank(shared.Joined(), to));
    }
    if (threadIdx.x == 0) ptx::BarrierExpect(shared.Joined(), kCtas * kD * 4);
    meanwhile();
    if (p.frequencies != nullptr && column < kD / 2) {
      float cosine, sine;
      Rotation(length - 1, frequency, p.rope_scale, &cosine, &sine);
      shared.rotation[column] = make_float2(cosine, sine);
    }
    ptx::BarrierWaitFirst(shared.Joined());
    float* line = of_warp + kWarps * kD;
    float x = 0;
    if (column < kD) {
#pragma unroll
      for (int r = 0; r < kCtas; ++r) x += shared.pieces[r * kD + column];
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
    const float inverse = p.gate_norm == nullptr ? 1.0f : rsqrtf(squares / kD + p.norm_eps);
    float y = line[column] * inverse * norm;
    if (p.frequencies != nullptr) {
      const float other = line[column ^ kD / 2] * inverse * other_norm;
      const float2 turn = shared.rotation[column % (kD / 2)];
      y = y * turn.x + (column < kD / 2 ? -other : other) * turn.y;
    }
    StoreParts<Element>(shared.query + column, kD, y);
  }
};
template <class Element, int kD, int kCtas, int kWarps>
struct Projection<Element, kD, kCtas, kWarps, false> {
  __device__ __forceinline__ Projection(const SelectParams&, int, int) {}
};

template <class Element, int kD, ScoreKind kKind, int kCtas, int kWarps>
__global__ void __maxnreg__((kSelectRegisters<kKind, kCtas, kWarps>)) SelectKernel(const __grid_constant__ SelectParams p) {
  constexpr bool kPerHead = kKind == ScoreKind::kQuestHeads, kQuest = kPerHead || kKind == ScoreKind::kQuest, kProjects = kKind == ScoreKind::kGateProject;
  constexpr bool kPairs = kKind == ScoreKind::kResa || kQuest;
  using Rows = typename RowsOf<Element, kD, kKind, kCtas, kWarps>::Type;
  constexpr int kThreads = kWarps * 32, kAPiece = 16;
  static_assert(!kPerHead || kCtas >= 8, "a CTA a head");
  static_assert(kThreads >= kD, "a thread a column");
  extern __shared__ __align__(16) char shared[];
  const SelectShared<kKind, kD, kCtas, kWarps> at(shared, p.max_blocks);

  // A crowd of later kernels that wait beside this one slows it down: they are let go behind the wait, but where none fits beside it.
  constexpr bool kAlone = kSelectRegisters<kKind, kCtas, kWarps> * kThreads > 32768;
  if (kAlone) ptx::LaunchDependents();
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, thread = threadIdx.x;
  const int row = blockIdx.x / kCtas, b = ptx::Divide(row, p.heads_magic), head = row - b * p.kv_heads;
  const int rank = static_cast<int>(ptx::ClusterRank()), first = Rows::First(rank);
  const int* pages = p.page_table + static_cast<ptx::i64>(b) * p.page_table_stride;
  const char* descriptors = p.descriptors + head * p.head_bytes;
  // Lane l % 16 looks up the l-th block of its warp.
  const auto page_at = [&](int pass) { return pages + min(ptx::Divide((pass + first + lane % 16) * p.block_units, p.page_magic), p.page_table_stride - 1); };
  const auto address_of = [&](int pass, int page) {
    const int block = pass + first + lane % 16;
    return descriptors + static_cast<ptx::u64>(static_cast<unsigned>(page)) * static_cast<unsigned>(p.page_bytes) +
           static_cast<unsigned>(block & p.in_page_mask) * static_cast<unsigned>(p.block_bytes);
  };
  // Ahead of the wait, by a length and pages that may be a step old or no such things at all: a pass's descriptors asked for. Read past L1, which would
  // keep what is old. The page, or -1 where nothing is.
  const int blocks_then = ptx::Divide(max(0, min(ptx::LoadL2(p.lengths + b), kMostKeys)), p.block_magic) + 1;
  const auto ask = [&](int pass) {
    const int page = ptx::LoadL2(page_at(pass));
    const bool there = static_cast<unsigned>(page) < static_cast<unsigned>(p.num_pages);
    if (there && lane < 16 && pass + first + lane < blocks_then) ptx::PrefetchL2Run(address_of(pass, page), (kPairs ? 4 : 2) * kD);
    return there ? page : -1;
  };
  const int guess = ask(0);
  ask(Rows::kStride);
  if (kPerHead) {
    for (int i = threadIdx.x; i < (p.max_blocks + 31) / 32; i += kThreads) at.marks[i] = 0;
  }
  if (rank == 0 || kPerHead) Chooser<kWarps>::Clear(at.hist, at.scratch);
  // What one CTA is sent is counted in bytes: it waits for nothing else, and the others end.
  const ptx::u32 met = at.Met();
  if (threadIdx.x == 0) {
    ptx::BarrierInit(met);
    if (kProjects) ptx::BarrierInit(at.Joined());
    ptx::BarriersBegin();
  }
  ptx::ClusterArriveRelaxed();  // who writes into a neighbour waits for it to have begun
  // Ahead of the wait: what is read first. All that a predecessor may yet write is read behind it; weights it may not.
  const auto ahead = [](const void* from, int bytes) {
    for (int at = threadIdx.x * 128; at < bytes; at += kThreads * 128) ptx::PrefetchL2(static_cast<const char*>(from) + at);
  };
  const int q_bytes = (kKind == ScoreKind::kGateQuery ? 1 : p.group) * kD * 2;
  const char* q = static_cast<const char*>(p.q) + static_cast<ptx::i64>(row) * q_bytes;
  ahead(q, q_bytes);
  Projection<Element, kD, kCtas, kWarps, kProjects> projection(p, head, rank);
  asm volatile("" ::"l"(p.ids), "r"(p.budget_blocks), "f"(p.threshold));  // parameters come from memory too
  ptx::ClusterWait();
  ptx::WaitForPredecessors();
  if (!kAlone) ptx::LaunchDependents();

  Rows rows;
  const auto load = [&](const char* own) {
#pragma unroll
    for (int i = 0; i < Rows::kSets; ++i) {
      constexpr int kEach = 32 / Rows::kLanes;
      const char* from = reinterpret_cast<const char*>(__shfl_sync(~0u, reinterpret_cast<ptx::u64>(own), i * kEach + lane / Rows::kLanes)) + lane % Rows::kLanes * kAPiece;
#pragma unroll
      for (int c = 0; c < Rows::kPieces; ++c) rows.rows[i][c] = ptx::LoadOnce(from + c * Rows::kPieceBytes);
    }
  };
  const auto own_of = [&](int pass, int page, int end) { return pass + first + lane % 16 < end ? address_of(pass, page) : descriptors; };  // there, if anywhere
  uint4 of_q = make_uint4(0, 0, 0, 0);
  if ((kKind == ScoreKind::kGateQuery || kQuest) && thread * kAPiece < q_bytes) of_q = *reinterpret_cast<const uint4*>(q + thread * kAPiece);
  const int length = p.lengths[b], page = *page_at(0);
  ptx::PrefetchL1(page_at(Rows::kStride));
  if (!kProjects) load(guess < 0 ? descriptors : address_of(0, guess));
  int whole = ptx::Divide(length, p.block_magic);  // too many by one at most
  whole -= whole * p.block_tokens > length ? 1 : 0;
  const int num_blocks = whole + (whole * p.block_tokens < length ? 1 : 0);
  Chooser<kWarps, kProjects ? 16 : 8> chooser{p, at.keys, at.ends, kCtas * kWarps, at.hist, at.scratch, num_blocks, kPairs ? num_blocks : whole};
  if (length <= p.dense_below || num_blocks > p.max_blocks || (p.mode != 2 && num_blocks <= chooser.Keep())) {
    if (rank == 0 && threadIdx.x == 0) p.counts[row] = -1;
    return;  // the whole cluster
  }
  const int end = chooser.scored;
  if (!kProjects && __any_sync(~0u, first + lane % 16 < end && page != guess)) load(own_of(0, page, end));

  if constexpr (kProjects) {
    projection.Run(at, row, rank, length, [&] { load(own_of(0, page, end)); });
  } else if constexpr (kKind == ScoreKind::kResa) {
    if (threadIdx.x < kD) {  // the mean of the group
      ptx::u16 u[16];
#pragma unroll
      for (int h = 0; h < 16; ++h) u[h] = h < p.group ? *reinterpret_cast<const ptx::u16*>(q + (h * kD + threadIdx.x) * 2) : ptx::u16{0};
      float mean = 0;
#pragma unroll
      for (int h = 0; h < 16; ++h) mean += Element::Widen(u[h]);
      mean /= static_cast<float>(p.group);
      StoreParts<Element>(at.query + threadIdx.x, kD, fminf(mean, 0.0f));
      StoreParts<Element>(at.query + 3 * kD + threadIdx.x, kD, fmaxf(mean, 0.0f));
    }
  } else {
    if (thread * kAPiece < q_bytes) *reinterpret_cast<uint4*>(at.query + thread * 8) = of_q;
  }
  __syncthreads();

  const ptx::u32 key_address = ptx::SharedAddress(at.keys), end_address = ptx::SharedAddress(at.ends + rank * kWarps + warp);
  const auto send = [&](float x, int block, int to, unsigned* lowest, unsigned* highest) {
    if (block >= end) return;
    const unsigned key = OrderedKey(x * p.score_scale);
    const ptx::u32 where = ptx::MapToRank(key_address, to) + block * 4;
    ptx::StoreAsync(where, key, ptx::MapToRank(met, to));
    *lowest = min(*lowest, key);
    *highest = max(*highest, key);
  };
  constexpr int kEnds = kPerHead ? 2 : 1;
  unsigned lowest[kEnds], highest[kEnds];
#pragma unroll
  for (int j = 0; j < kEnds; ++j) lowest[j] = ~0u, highest[j] = 0u;
  const auto more = [&](int pass) {
    if (pass >= end) return;
    load(own_of(pass, *page_at(pass), end));
    ptx::PrefetchL1(page_at(pass + Rows::kStride));
  };
#pragma unroll 1
  for (int pass = 0; pass < end;) {
    const int block = pass + first;
    pass += Rows::kStride;
    if constexpr (kQuest) {
      float x[4];
      rows.Score(at.query, p.group, x);
      more(pass);
      if constexpr (kPerHead) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const int to = lane % 4 * 2 + i % 2;
          if (to < p.group) send(x[i], block + i / 2 * 8 + lane / 4, to, lowest + i % 2, highest + i % 2);
        }
      } else {  // the best of the heads
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          x[i] = fmaxf(x[2 * i], x[2 * i + 1]);
          x[i] = fmaxf(x[i], __shfl_xor_sync(~0u, x[i], 1));
          x[i] = fmaxf(x[i], __shfl_xor_sync(~0u, x[i], 2));
        }
        if (lane % 4 < 2) send(lane % 4 == 0 ? x[0] : x[1], block + lane % 4 * 8 + lane / 4, 0, lowest, highest);
      }
    } else {
      float x;
      rows.Score(at.query, &x);
      more(pass);
      if (lane % 8 < 4) send(x, block + lane % 4 * 4 + lane / 8, 0, lowest, highest);
    }
  }
  const auto send_ends = [&](unsigned low, unsigned high, int to) { ptx::StoreAsync(ptx::MapToRank(end_address, to), make_uint2(low, high), ptx::MapToRank(met, to)); };
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
  const bool chooses = kPerHead ? rank < p.group : rank == 0;
  if (!kPerHead && !chooses) return;
  if (chooses) {
    if (threadIdx.x == 0) ptx::BarrierExpect(met, end * 4 + kCtas * kWarps * 8);
    ptx::BarrierWaitFirst(met);
    __syncthreads();  // and what the choice needs is cleared
  }
  if constexpr (kPerHead) {
    if (chooses) chooser.Mark(ptx::MapToRank(ptx::SharedAddress(at.marks), 0));
    ptx::ClusterArrive();
    ptx::ClusterWait();
    if (rank == 0) chooser.ListBits(at.marks, p.ids + static_cast<ptx::i64>(row) * p.capacity, p.counts + row);
    return;
  }
  if (p.zero_placeholder && end < num_blocks) {  // the open block takes part with score 0
    if (threadIdx.x == 0) {
      at.keys[end] = OrderedKey(0.0f);
      at.ends[0] = make_uint2(min(at.ends[0].x, OrderedKey(0.0f)), max(at.ends[0].y, OrderedKey(0.0f)));
    }
    ++chooser.scored;
    __syncthreads();
  }
  chooser.List(p.ids + static_cast<ptx::i64>(row) * p.capacity, p.counts + row);
}

}  // namespace lectern::attention
