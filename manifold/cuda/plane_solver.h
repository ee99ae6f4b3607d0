// manifold/cuda/plane_solver.h: from the Gram matrix of a neighbourhood to the coefficients of a point's foot on its plane.
//
//   Solve<64, 24>(team, memory, start, total, count, d);   // memory.coefficient[row], memory.rank, memory.gap
//
// The steps of cpu/plane-inl.h, in the same order on the same start block: y = G start; five times y = G orth(y); orth twice;
// Rayleigh-Ritz; back to the rows. Written over a team, so that the same code runs on a block of threads and, in tests,
// in a plain loop: Each(count, f) runs f(0..count-1) in any order and meets; what passes between two of them is in `memory`.
//
// Shapes:  G [kRows, kRows] symmetric with trace 1, zero beyond the neighbours; blocks [kRows, kBlock], kBlock = d + 8 rounded
//          up to 8; rows and kBlock multiples of 4.
// Threads: a team is one CTA of 3 * kRows threads, or one host thread.
// Errors:  none; directions that depend on others drop out.
// Cost:    7 * 2 kRows^2 kBlock + 9 * 3 kRows kBlock^2 operations: 2 M at 64 and 24. What bounds it is latency: 7 factorisations
//          and the rotations are one warp's.
#pragma once

#include "manifold/cpu/plane_kernels.h"

#ifdef __CUDACC__
#define LECTERN_TEAM __device__ __forceinline__
#else
#include <cmath>
#define LECTERN_TEAM inline
#endif

namespace lectern::manifold::cuda {

struct alignas(16) Quad {
  float v[4];
};

LECTERN_TEAM Quad Load4(const float* p) { return *reinterpret_cast<const Quad*>(p); }
LECTERN_TEAM void Store4(float* p, const Quad& x) { *reinterpret_cast<Quad*>(p) = x; }
LECTERN_TEAM float InverseRootOf(float x) {
#ifdef __CUDACC__
  return rsqrtf(x);
#else
  return 1 / std::sqrt(x);
#endif
}
// On the card to 2 units in the last place, as the reciprocal root: exact ones are chains of 20 instructions.
LECTERN_TEAM float RootOf(float x) {
#ifdef __CUDACC__
  float root;
  asm("sqrt.approx.f32 %0, %1;" : "=f"(root) : "f"(x));
  return root;
#else
  return std::sqrt(x);
#endif
}
LECTERN_TEAM float Quotient(float x, float y) {  // |y| within 2^+-126
#ifdef __CUDACC__
  return __fdividef(x, y);
#else
  return x / y;
#endif
}

// A team of one host thread.
struct LoopTeam {
  template <class F>
  LECTERN_TEAM void Each(int count, const F& f) const {
    for (int i = 0; i < count; ++i) f(i);
  }
  template <class F>
  LECTERN_TEAM void OneWarp(const F& f) const { f(*this); }
  LECTERN_TEAM void Meet() const {}
};

template <int kRows_, int kBlock_>
struct SolverMemory {
  static constexpr int kRows = kRows_, kBlock = kBlock_, kThreads = 3 * kRows;
  static constexpr int kStride = kRows + 4;              // of G: rows of 16-byte pieces on different banks
  static constexpr int kTiles = kRows / 4 * (kBlock / 4);  // of 4 x 4 outputs of G times a block
  static constexpr int kHalves = 2 * kTiles <= kThreads ? 2 : 1;
  static constexpr int kUpper = kBlock / 4 * (kBlock / 4 + 1) / 2;  // tiles of a symmetric product of two blocks
  static constexpr int kSlices = 4 * kUpper <= kThreads ? 4 : 2;
  static constexpr int kRitzStride = kBlock + 1;         // odd: lanes own rows
  static constexpr int kParts = kRows > kSlices * kBlock ? kRows * kBlock : kSlices * kBlock * kBlock;
  alignas(16) float g[kRows * kStride];
  alignas(16) float y[kRows * kBlock];
  alignas(16) float q[kRows * kBlock];
  alignas(16) float part[kParts];
  alignas(16) float small[kBlock * kBlock];
  alignas(16) float root[kBlock * kBlock];
  float ritz[kBlock * kRitzStride];
  alignas(16) float inverse[kBlock];
  float norms[2][kBlock], cross[kBlock], worst[kBlock / 2], values[kBlock], in_block[kBlock], along[kBlock], back[kBlock];
  int order[kBlock];
};

// What outlives the Gram matrix's own scratch.
template <int kRows>
struct SolverResult {
  float at[kRows];           // in: -z_i . mean
  float coefficient[kRows];  // out: foot = mean + sum_i coefficient_i z_i
  float gap;
  int rank;
};

// y = G x.
template <class Team, class Memory>
LECTERN_TEAM void Multiply(const Team& team, Memory& m, const float* x, float* y) {
  constexpr int kRows = Memory::kRows, kBlock = Memory::kBlock, kDepth = kRows / Memory::kHalves;
  team.Each(Memory::kTiles * Memory::kHalves, [&](int e) {
    const int row = e % (kRows / 4) * 4, column = e / (kRows / 4) % (kBlock / 4) * 4, half = e / Memory::kTiles;
    float s[4][4] = {};
#pragma unroll 4
    for (int k = half * kDepth; k < (half + 1) * kDepth; ++k) {
      const Quad a = Load4(m.g + k * Memory::kStride + row), b = Load4(x + k * kBlock + column);
#pragma unroll
      for (int i = 0; i < 4; ++i) {
#pragma unroll
        for (int j = 0; j < 4; ++j) s[i][j] += a.v[i] * b.v[j];
      }
    }
    float* to = half == 0 ? y : m.part;
#pragma unroll
    for (int i = 0; i < 4; ++i) Store4(to + (row + i) * kBlock + column, {s[i][0], s[i][1], s[i][2], s[i][3]});
  });
  if constexpr (Memory::kHalves == 2) {
    team.Each(kRows * kBlock / 4, [&](int e) {
      Quad a = Load4(y + 4 * e);
      const Quad b = Load4(m.part + 4 * e);
#pragma unroll
      for (int i = 0; i < 4; ++i) a.v[i] += b.v[i];
      Store4(y + 4 * e, a);
    });
  }
}

// out(i, j) = column i of a . column j of b, which is symmetric.
template <class Team, class Memory>
LECTERN_TEAM void ProductOfColumns(const Team& team, Memory& m, const float* a, const float* b, float* out, int stride) {
  constexpr int kBlock = Memory::kBlock, kDepth = Memory::kRows / Memory::kSlices;
  team.Each(Memory::kUpper * Memory::kSlices, [&](int e) {
    const int tile = e % Memory::kUpper, slice = e / Memory::kUpper;
    int tj = 0;
    while (tile >= (tj + 1) * (tj + 2) / 2) ++tj;
    const int i0 = 4 * (tile - tj * (tj + 1) / 2), j0 = 4 * tj;
    float s[4][4] = {};
#pragma unroll 4
    for (int k = slice * kDepth; k < (slice + 1) * kDepth; ++k) {
      const Quad x = Load4(a + k * kBlock + i0), y = Load4(b + k * kBlock + j0);
#pragma unroll
      for (int i = 0; i < 4; ++i) {
#pragma unroll
        for (int j = 0; j < 4; ++j) s[i][j] += x.v[i] * y.v[j];
      }
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) Store4(m.part + (slice * kBlock + i0 + i) * kBlock + j0, {s[i][0], s[i][1], s[i][2], s[i][3]});
  });
  team.Each(kBlock * kBlock, [&](int e) {
    const int i = e / kBlock, j = e % kBlock, low = i < j ? i : j, high = i < j ? j : i;
    float sum = 0;
#pragma unroll
    for (int s = 0; s < Memory::kSlices; ++s) sum += m.part[(s * kBlock + low) * kBlock + high];
    out[i * stride + j] = sum;
  });
}

// `to` = `from` with orthonormal columns; a column that depends on those before it becomes zero.
template <class Team, class Memory>
LECTERN_TEAM void Orthonormalise(const Team& team, Memory& m, const float* from, float* to) {
  constexpr int kBlock = Memory::kBlock;
  ProductOfColumns(team, m, from, from, m.small, kBlock);
  team.OneWarp([&](const auto& warp) {
#pragma unroll 1
    for (int i = 0; i < kBlock; i += 4) {  // rows i..i+3 of r, small = r^T r; each lane finds their 4 x 4 corner by itself
      warp.Each(kBlock - i, [&](int lane) {
        const int j = i + lane;
        float corner[4][4], sum[4];
#pragma unroll
        for (int p = 0; p < 4; ++p) {
          const Quad row = Load4(m.small + (i + p) * kBlock + i);
#pragma unroll
          for (int q = p; q < 4; ++q) corner[p][q] = row.v[q];
          sum[p] = m.small[(i + p) * kBlock + j];
        }
        const float first[4] = {corner[0][0], corner[1][1], corner[2][2], corner[3][3]};
#pragma unroll 4
        for (int t = 0; t < i; ++t) {
          const Quad r = Load4(m.root + t * kBlock + i);
          const float own = m.root[t * kBlock + j];
#pragma unroll
          for (int p = 0; p < 4; ++p) {
#pragma unroll
            for (int q = p; q < 4; ++q) corner[p][q] -= r.v[p] * r.v[q];
            sum[p] -= r.v[p] * own;
          }
        }
        Quad scale;
#pragma unroll
        for (int p = 0; p < 4; ++p) {
          const bool dead = !(corner[p][p] > 1e-6f * first[p]) || !(corner[p][p] > 1e-30f);
          scale.v[p] = dead ? 0.0f : InverseRootOf(corner[p][p]);
          sum[p] *= scale.v[p];
#pragma unroll
          for (int q = p + 1; q < 4; ++q) corner[p][q] *= scale.v[p];
#pragma unroll
          for (int s = p + 1; s < 4; ++s) {
#pragma unroll
            for (int q = s; q < 4; ++q) corner[s][q] -= corner[p][s] * corner[p][q];
            sum[s] -= corner[p][s] * sum[p];
          }
        }
#pragma unroll
        for (int p = 0; p < 4; ++p) m.root[(i + p) * kBlock + j] = sum[p];  // nothing reads those below the diagonal
        if (lane == 0) Store4(m.inverse + i, scale);
      });
    }
  });
  team.Each(Memory::kRows, [&](int row) {  // q r = y, from the left
    float v[kBlock];
#pragma unroll
    for (int j = 0; j < kBlock; j += 4) {
      const Quad x = Load4(from + row * kBlock + j);
#pragma unroll
      for (int c = 0; c < 4; ++c) v[j + c] = x.v[c];
    }
#pragma unroll
    for (int t = 0; t < kBlock; ++t) {
      v[t] *= m.inverse[t];
#pragma unroll
      for (int j = t / 4 * 4; j < kBlock; j += 4) {
        if (j + 3 <= t) continue;
        const Quad r = Load4(m.root + t * kBlock + j);
#pragma unroll
        for (int c = 0; c < 4; ++c) {
          if (j + c > t) v[j + c] -= v[t] * r.v[c];
        }
      }
    }
#pragma unroll
    for (int j = 0; j < kBlock; j += 4) Store4(to + row * kBlock + j, {v[j], v[j + 1], v[j + 2], v[j + 3]});
  });
}

// Rows of m.ritz, symmetric and positive, -> l_i v_i by one-sided Jacobi. Rounds of kBlock / 2 pairs that share no row, two lanes
// a pair, each with half of the columns.
template <class Team, class Memory>
LECTERN_TEAM void Rotate(const Team& warp, Memory& m) {
  constexpr int n = Memory::kBlock, kStride = Memory::kRitzStride, kPairs = n / 2, kHalf = n / 2;
  const auto rows = [](int round, int pair, int* p, int* q) {  // modulo n - 1; row n - 1 stays in its place
    *p = round + pair, *q = round + n - 1 - pair;
    if (*p >= n - 1) *p -= n - 1;
    if (*q >= n - 1) *q -= n - 1;
    if (pair == 0) *p = n - 1;
  };
  for (int sweep = 0; sweep < 12; ++sweep) {
    warp.Each(n, [&](int i) {
      float sum = 0;
#pragma unroll 8
      for (int j = 0; j < n; ++j) sum += m.ritz[i * kStride + j] * m.ritz[i * kStride + j];
      m.norms[0][i] = sum;
      if (i < kPairs) m.worst[i] = 0;
    });
#pragma unroll 1
    for (int round = 0; round < n - 1; ++round) {
      const float* norms = m.norms[round % 2];
      float* next = m.norms[(round + 1) % 2];  // the other lane of the pair reads the former
      warp.Each(n, [&](int lane) {
        const int pair = lane % kPairs, from = lane / kPairs * kHalf;
        int p, q;
        rows(round, pair, &p, &q);
        const float *x = m.ritz + p * kStride + from, *y = m.ritz + q * kStride + from;
        float part[2] = {};
#pragma unroll
        for (int j = 0; j < kHalf; ++j) part[j % 2] += x[j] * y[j];
        m.cross[lane] = part[0] + part[1];
      });
      warp.Each(n, [&](int lane) {
        const int pair = lane % kPairs, from = lane / kPairs * kHalf;
        int p, q;
        rows(round, pair, &p, &q);
        float *x = m.ritz + p * kStride + from, *y = m.ritz + q * kStride + from;
        float a[kHalf], b[kHalf];
#pragma unroll
        for (int j = 0; j < kHalf; ++j) a[j] = x[j], b[j] = y[j];
        const float cross = m.cross[pair] + m.cross[kPairs + pair], of_p = norms[p], of_q = norms[q], both = of_p * of_q;
        const float squared = cross * cross;
        const bool turns = squared > 1e-9f * both && squared > 1e-36f;
        const float zeta = turns ? Quotient(of_q - of_p, 2 * cross) : 0.0f, size = zeta < 0 ? -zeta : zeta;
        const float tangent = turns ? Quotient(zeta < 0 ? -1.0f : 1.0f, size + RootOf(1 + zeta * zeta)) : 0.0f;
        if (from == 0) {
          next[p] = of_p - tangent * cross;
          next[q] = of_q + tangent * cross;
          if (turns && squared > m.worst[pair] * both) m.worst[pair] = Quotient(squared, both);
        }
        if (!turns) return;
        const float c = InverseRootOf(1 + tangent * tangent), s = c * tangent;
#pragma unroll
        for (int j = 0; j < kHalf; ++j) x[j] = c * a[j] - s * b[j], y[j] = s * a[j] + c * b[j];
      });
    }
    float worst = 0;  // greatest squared cosine met; convergence is quadratic, so a small one leaves none
    for (int i = 0; i < kPairs; ++i) worst = m.worst[i] > worst ? m.worst[i] : worst;
    warp.Meet();  // before the next sweep clears what was read
    if (worst < 1e-5f) break;
  }
}

template <class Team, class Memory>
LECTERN_TEAM void Solve(const Team& team, Memory& m, SolverResult<Memory::kRows>& result, const float* start, float total, int d) {
  constexpr int kRows = Memory::kRows, n = Memory::kBlock, kStride = Memory::kRitzStride;
  Multiply(team, m, start, m.y);
  for (int step = 1; step < kSubspaceSteps; ++step) {
    Orthonormalise(team, m, m.y, m.q);
    Multiply(team, m, m.q, m.y);
  }
  Orthonormalise(team, m, m.y, m.q);
  Orthonormalise(team, m, m.q, m.y);  // once more: the first leaves errors of the condition number squared
  Multiply(team, m, m.y, m.q);
  ProductOfColumns(team, m, m.y, m.q, m.ritz, kStride);
  team.OneWarp([&](const auto& warp) {
    Rotate(warp, m);
    warp.Each(n, [&](int i) {
      float sum = 0, in_block = 0;
#pragma unroll 8
      for (int j = 0; j < n; ++j) sum += m.ritz[i * kStride + j] * m.ritz[i * kStride + j];
      m.values[i] = RootOf(sum);
#pragma unroll 8
      for (int row = 0; row < kRows; ++row) in_block += result.at[row] * m.y[row * n + i];
      m.in_block[i] = in_block;
    });
    warp.Each(n, [&](int i) {
      int place = 0;
      for (int j = 0; j < n; ++j) place += m.values[j] > m.values[i] || (m.values[j] == m.values[i] && j < i);
      m.order[place] = i;
    });
    warp.Each(1, [&](int) {
      const float least = 1e-6f * m.values[m.order[0]];
      int rank = 0;
      while (rank < d && m.values[m.order[rank]] > least && m.values[m.order[rank]] > 1e-30f) ++rank;
      result.rank = rank;
      const float last = rank < d ? 1.0f : m.values[m.order[rank - 1]];
      result.gap = rank < d ? 0.0f : (last - m.values[m.order[rank]]) / last;
    });
    warp.Each(n, [&](int r) {
      if (r >= result.rank) return;
      const float* row = m.ritz + m.order[r] * kStride;  // l v
      const float l = m.values[m.order[r]];
      float dot = 0;
#pragma unroll 8
      for (int j = 0; j < n; ++j) dot += row[j] * m.in_block[j];
      m.along[r] = dot / l / l / (l * total);
    });
    warp.Each(n, [&](int j) {
      float sum = 0;
      for (int r = 0; r < result.rank; ++r) sum += m.along[r] * m.ritz[m.order[r] * kStride + j];
      m.back[j] = sum;
    });
  });
  team.Each(kRows, [&](int row) {
    float sum = 0;
#pragma unroll 8
    for (int j = 0; j < n; ++j) sum += m.y[row * n + j] * m.back[j];
    result.coefficient[row] = sum;
  });
}

}  // namespace lectern::manifold::cuda
