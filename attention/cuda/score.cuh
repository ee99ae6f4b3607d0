// attention/cuda/score.cuh: what a warp has of the descriptors of a pass and of the query, and the scores it makes of them.
//
// A pass is kStride blocks, dealt over the CTAs of a cluster; a lane has rows First(rank) + i * kApart of it, kPieces of 16 bytes
// of each, kPieceBytes apart, the first at 16 * part.
#pragma once

#include "attention/cuda/ptx.cuh"
#include "attention/cuda/select_params.h"

namespace lectern::attention {

// Sums each of n values over kLanes lanes: afterwards lane `part` of a row holds value part / (kLanes / n) in v[0].
template <int kLanes, int n>
__device__ __forceinline__ void ReduceAcross(float (&v)[n], int part) {
  int left = n;
#pragma unroll
  for (int step = kLanes / 2; step > 0; step /= 2) {
    if (left > 1) {
      left /= 2;
#pragma unroll
      for (int i = 0; i < n / 2; ++i) {
        if (i < left) {
          const bool upper = (part & step) != 0;
          const float keep = upper ? v[i + left] : v[i], send = upper ? v[i] : v[i + left];
          v[i] = keep + __shfl_xor_sync(~0u, send, step);
        }
      }
    } else {
      v[0] += __shfl_xor_sync(~0u, v[0], step);
    }
  }
}

template <class Element>
__device__ __forceinline__ void Unpack(const uint4& from, float (&to)[8]) {
  const ptx::u32 words[4] = {from.x, from.y, from.z, from.w};
#pragma unroll
  for (int i = 0; i < 4; ++i) to[2 * i] = Element::Low(words[i]), to[2 * i + 1] = Element::High(words[i]);
}

// One query (the gate's, or ReSA's mean): D / 8 lanes share a descriptor, several rows of a lane are in flight, and sums are exchanged so
// that each lane ends with one block's score.
template <class Element, int kD, ScoreKind kKind, int kCtas, int kWarps>
struct OneQuery {
  static constexpr bool kPairs = kKind == ScoreKind::kResa;
  static constexpr int kLanes = kD / 8, kAhead = kPairs || (kKind == ScoreKind::kGateQuery && kWarps == 16) ? 4 : 8;  // rows in flight
  static constexpr int kApart = kCtas * kWarps * 32 / kLanes, kStride = kAhead * kApart, kShare = kLanes / kAhead > 0 ? kLanes / kAhead : 1;
  static constexpr int kRows = kAhead, kPieces = kPairs ? 2 : 1;  // of 16 bytes, D * 2 bytes apart
  static constexpr int kPieceBytes = kD * 2;
  const int part = threadIdx.x % kLanes;
  uint4 rows[kRows][kPieces];
  float query[8];

  __device__ __forceinline__ static int First(int rank) { return (rank * kWarps * 32 + static_cast<int>(threadIdx.x)) / kLanes; }
  __device__ __forceinline__ void Query(const float* from) {
#pragma unroll
    for (int i = 0; i < 8; ++i) query[i] = from[part * 8 + i];
  }
  // The score of one block; its number in the pass is *block. True where this lane has one.
  __device__ __forceinline__ bool Score(float* x, int* block) const {
    float score[kAhead];
#pragma unroll
    for (int i = 0; i < kAhead; ++i) {
      float a[8], z[8];
      Unpack<Element>(rows[i][0], a);
      if (kPairs) Unpack<Element>(rows[i][kPieces - 1], z);
      score[i] = 0;
#pragma unroll
      for (int c = 0; c < 8; ++c) score[i] += kPairs ? fmaxf(query[c] * a[c], query[c] * z[c]) : query[c] * a[c];
    }
    ReduceAcross<kLanes, kAhead>(score, part);
    *x = score[0];
    *block = part / kShare * kApart;
    return part % kShare == 0;
  }
};

// Quest: the query heads are the eight columns of a matrix product with 16 blocks, sum over c of max(q lo, q hi) =
// min(q, 0) . lo + max(q, 0) . hi. A product does not mind in which order its inner index comes: a lane takes 16 contiguous bytes of a
// row (eight of it), two words of them a step, and the same of a query head. Lane l has blocks l / 4 and l / 4 + 8, and head l / 4.
template <class Element, int kD, int kCtas, int kWarps>
struct EightQueries {
  static constexpr int kLanes = 4, kApart = 8, kStride = kCtas * kWarps * 16, kChunks = kD / 32;
  static constexpr int kRows = 2, kPieces = 2 * kChunks, kPieceBytes = 64;
  const int part = threadIdx.x % 4;
  uint4 rows[kRows][kPieces];
  uint4 query[kChunks];

  __device__ __forceinline__ static int First(int rank) {
    return (static_cast<int>(threadIdx.x) / 32 * kCtas + rank) * 16 + static_cast<int>(threadIdx.x) % 32 / 4;
  }
  __device__ __forceinline__ void Query(const char* from, int group) {
    const int h = threadIdx.x % 32 / 4;
#pragma unroll
    for (int c = 0; c < kChunks; ++c) {
      query[c] = make_uint4(0, 0, 0, 0);
      if (h < group) query[c] = *reinterpret_cast<const uint4*>(from + h * kD * 2 + c * 64 + part * 16);
    }
  }
  // Of blocks l / 4 (0, 1) and l / 4 + 8 (2, 3) with heads part * 2 and the next; -inf where there is no such head.
  __device__ __forceinline__ void Score(int group, float (&x)[4]) const {
    float s[2][4] = {};
#pragma unroll
    for (int c = 0; c < kPieces; ++c) {
      const uint4& of = query[c % kChunks];
      const auto half = [&](ptx::u32 q) { return c < kChunks ? Element::Min(q, 0u) : Element::Max(q, 0u); };
      const ptx::u32 a0[4] = {rows[0][c].x, rows[1][c].x, rows[0][c].y, rows[1][c].y}, a1[4] = {rows[0][c].z, rows[1][c].z, rows[0][c].w, rows[1][c].w};
      Element::Mma(s[0], a0, half(of.x), half(of.y));
      Element::Mma(s[1], a1, half(of.z), half(of.w));
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) x[i] = part * 2 + i % 2 < group ? s[0][i] + s[1][i] : ptx::kNegInf;
  }
};

template <class Element, int kD, ScoreKind kKind, int kCtas, int kWarps>
struct RowsOf {
  using Type = OneQuery<Element, kD, kKind, kCtas, kWarps>;
};
template <class Element, int kD, int kCtas, int kWarps>
struct RowsOf<Element, kD, ScoreKind::kQuest, kCtas, kWarps> {
  using Type = EightQueries<Element, kD, kCtas, kWarps>;
};
template <class Element, int kD, int kCtas, int kWarps>
struct RowsOf<Element, kD, ScoreKind::kQuestHeads, kCtas, kWarps> {
  using Type = EightQueries<Element, kD, kCtas, kWarps>;
};

}  // namespace lectern::attention
