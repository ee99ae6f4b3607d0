// attention/cuda/score.cuh: the scores of sixteen blocks a warp, as a product of matrices.
//
// Dataflow  A pass is kStride blocks, dealt over the CTAs of a cluster, sixteen a warp: kSets sets of 32 / kLanes, kPieces of 16 bytes of each in a lane,
//           kPieceBytes apart. A product does not mind in which order its inner index comes, so that what lies together in memory is a
//           fragment as it is.
// Products  m16n8k16 with descriptors on the side of 16 and queries on the side of 8.
//           OneQuery: the gate's, or ReSA's mean. Eight lanes read a line of 128 bytes, which is two rows of the product, its halves: the even columns
//           have what meets a first half, the odd ones what meets a second. A query in floats is three numbers of two bytes, each the rest of those
//           before it: their sum errs as floats do.
//           EightQueries: Quest's query heads, by sum over c of max(q lo, q hi) = min(q, 0) . lo + max(q, 0) . hi. Four lanes read half a line, one row.
#pragma once

#include "attention/cuda/ptx.cuh"
#include "attention/cuda/select_params.h"

namespace lectern::attention {

template <int kCtas, int kWarps>
struct BlockRows {
  static constexpr int kStride = kCtas * kWarps * 16;
  __device__ __forceinline__ static int Lane() { return static_cast<int>(threadIdx.x) % 32; }
  // The first block of this warp.
  __device__ __forceinline__ static int First(int rank) { return (static_cast<int>(threadIdx.x) / 32 * kCtas + rank) * 16; }
};

// kParts: two-byte numbers of the query an element.
template <class Element, int kD, bool kPairs, int kParts, int kCtas, int kWarps>
struct OneQuery : BlockRows<kCtas, kWarps> {
  using Base = BlockRows<kCtas, kWarps>;
  static constexpr int kLanes = 8, kSets = 4, kPieces = kD / 64 * (kPairs ? 2 : 1), kPieceBytes = 128;
  uint4 rows[kSets][kPieces];

  // query: [of pieces of kD, kParts, kD]. Afterwards lane l has in *x the score of block l / 8 of set l % 4.
  __device__ __forceinline__ void Score(const ptx::u16* query, float* x) const {
    const int lane = Base::Lane(), column = lane / 4, half = column % 2;
    float s[2][4] = {};  // of two sets each
#pragma unroll
    for (int c = 0; c < kPieces; ++c) {
      uint4 of = make_uint4(0, 0, 0, 0);
      if (column < 2 * kParts) {
        of = *reinterpret_cast<const uint4*>(query + (c / (kD / 64) * kParts + column / 2) * kD + c % (kD / 64) * 64 + half * 32 + lane % 4 * 8);
      }
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const uint4 &a = rows[2 * i][c], &b = rows[2 * i + 1][c];
        const ptx::u32 first[4] = {a.x, b.x, a.y, b.y}, then[4] = {a.z, b.z, a.w, b.w};
        Element::Mma(s[i], first, of.x, of.y);
        Element::Mma(s[i], then, of.z, of.w);
      }
    }
    float score[kSets];
#pragma unroll
    for (int i = 0; i < kSets; ++i) {
      score[i] = half == 0 ? s[i / 2][i % 2 * 2] : s[i / 2][i % 2 * 2 + 1];
      if (kParts > 1) {  // columns that are not there are zero
        score[i] += __shfl_xor_sync(~0u, score[i], 1);
        score[i] += __shfl_xor_sync(~0u, score[i], 2);
      } else {
        score[i] = __shfl_sync(~0u, score[i], lane / 4 * 4);
      }
      score[i] += __shfl_xor_sync(~0u, score[i], 4);
    }
    *x = lane % 4 == 0 ? score[0] : lane % 4 == 1 ? score[1] : lane % 4 == 2 ? score[2] : score[3];
  }
};

template <class Element, int kD, int kCtas, int kWarps>
struct EightQueries : BlockRows<kCtas, kWarps> {
  using Base = BlockRows<kCtas, kWarps>;
  static constexpr int kLanes = 4, kSets = 2, kChunks = kD / 32, kPieces = 2 * kChunks, kPieceBytes = 64;
  uint4 rows[kSets][kPieces];

  // query: [group, kD]. Afterwards lane l has the scores of block l / 4 of the first set with heads l % 4 * 2 and the next, then of the other set.
  __device__ __forceinline__ void Score(const ptx::u16* query, int group, float (&x)[4]) const {
    const int lane = Base::Lane(), head = lane / 4;
    float s[2][4] = {};  // two chains, so that products overlap
#pragma unroll
    for (int c = 0; c < kPieces; ++c) {
      uint4 of = make_uint4(0, 0, 0, 0);
      if (head < group) of = *reinterpret_cast<const uint4*>(query + head * kD + c % kChunks * 32 + lane % 4 * 8);
      const auto half = [&](ptx::u32 q) { return c < kChunks ? Element::Min(q, 0u) : Element::Max(q, 0u); };
      const ptx::u32 a0[4] = {rows[0][c].x, rows[1][c].x, rows[0][c].y, rows[1][c].y}, a1[4] = {rows[0][c].z, rows[1][c].z, rows[0][c].w, rows[1][c].w};
      Element::Mma(s[0], a0, half(of.x), half(of.y));
      Element::Mma(s[1], a1, half(of.z), half(of.w));
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) x[i] = lane % 4 * 2 + i % 2 < group ? s[0][i] + s[1][i] : ptx::kNegInf;
  }
};

template <class Element, int kD, ScoreKind kKind, int kCtas, int kWarps>
struct RowsOf {
  using Type = OneQuery<Element, kD, kKind == ScoreKind::kResa, kKind == ScoreKind::kGateQuery ? 1 : 3, kCtas, kWarps>;
};
template <class Element, int kD, int kCtas, int kWarps>
struct RowsOf<Element, kD, ScoreKind::kQuest, kCtas, kWarps> {
  using Type = EightQueries<Element, kD, kCtas, kWarps>;
};
template <class Element, int kD, int kCtas, int kWarps>
struct RowsOf<Element, kD, ScoreKind::kQuestHeads, kCtas, kWarps> {
  using Type = EightQueries<Element, kD, kCtas, kWarps>;
};

// x as three two-byte numbers, `apart` elements one from the other.
template <class Element>
__device__ __forceinline__ void StoreParts(ptx::u16* to, int apart, float x) {
#pragma unroll
  for (int i = 0; i < 3; ++i) {
    const ptx::u32 word = Element::Pack(x, 0.0f);
    to[i * apart] = static_cast<ptx::u16>(word);
    x -= Element::Low(word);
  }
}

}  // namespace lectern::attention
