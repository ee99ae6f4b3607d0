// manifold/cpu/plane-inl.h: the local planes of kBatch points: gather, Gram matrix, leading eigenvectors, projection.
//
// Dataflow  z_i = neighbour_i - neighbour_0; G = (z_i . z_j) centred by its row means, over its trace; Q = orth(G Q)
//           kSubspaceSteps times from a fixed block; Rayleigh-Ritz in the block gives (l, S);
//           X - mean = sum of c_i z_i with c = centred Q S L^-1 S^T Q^T (Z (point - mean)) / trace.
//           The wide steps go point by point; the small dense ones, which are chains of divisions, take all points at once.
// Bytes     Z is k * dim * 4 (98 KiB at 64 x 384) a point; each neighbour is gathered once, each z read twice.
// Flops     k^2 dim for G's lower half, 2 k^2 block + 4 k block^2 a step, 4 k dim to apply: about 5 M at 64, 384, 16.
// Budget    tiles of 4 x 2 (G) and 4 x 3 registers (block): 12 accumulators of 16.
// Included by the target files only, which define LECTERN_TARGET_NAMESPACE and LECTERN_TARGET_FLOATS (of a register) before.
#include <cstdint>

namespace lectern::manifold::LECTERN_TARGET_NAMESPACE {
namespace {

constexpr int64_t kFloats = LECTERN_TARGET_FLOATS;
typedef float Vec __attribute__((vector_size(4 * kFloats)));
typedef float VecAnywhere __attribute__((vector_size(4 * kFloats), aligned(4), may_alias));
typedef float Half __attribute__((vector_size(32)));

inline Vec Load(const float* p) { return *reinterpret_cast<const VecAnywhere*>(p); }
inline void Store(float* p, Vec v) { *reinterpret_cast<VecAnywhere*>(p) = v; }
inline Vec Splat(float x) { return x - Vec{}; }   // 0 + x would be an addition: it turns -0 into 0

// Sums of pairs of neighbouring lanes: (a0+a1, a2+a3, ..., b0+b1, ...).
inline Half AddPairs(Half a, Half b) {
  return __builtin_shufflevector(a, b, 0, 2, 4, 6, 8, 10, 12, 14) + __builtin_shufflevector(a, b, 1, 3, 5, 7, 9, 11, 13, 15);
}
inline Half Fold(Vec v) {
#if LECTERN_TARGET_FLOATS == 16
  return __builtin_shufflevector(v, v, 0, 1, 2, 3, 4, 5, 6, 7) + __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15);
#else
  return v;
#endif
}
inline float Sum(Vec v) {
  Half h = Fold(v);
  h = AddPairs(h, h);
  h = AddPairs(h, h);
  return h[0] + h[1];
}
inline float Dot(const float* a, const float* b, int64_t n) {  // n a multiple of kPad
  Vec s0 = {}, s1 = {};
  int64_t i = 0;
  for (; i + 2 * kFloats <= n; i += 2 * kFloats) {
    s0 += Load(a + i) * Load(b + i);
    s1 += Load(a + i + kFloats) * Load(b + i + kFloats);
  }
  if (i < n) s0 += Load(a + i) * Load(b + i);
  return Sum(s0 + s1);
}

#include "manifold/cpu/small_dense-inl.h"

// g[i.., j..] of four rows by two.
inline void GramTile(const float* a, const float* b, int64_t dim, int64_t n, float* g) {
  Vec s[8] = {};
  for (int64_t t = 0; t < dim; t += kFloats) {
    const Vec b0 = Load(b + t), b1 = Load(b + dim + t);
#pragma GCC unroll 4
    for (int r = 0; r < 4; ++r) {
      const Vec x = Load(a + r * dim + t);
      s[2 * r] += x * b0;
      s[2 * r + 1] += x * b1;
    }
  }
  const Half low = AddPairs(AddPairs(Fold(s[0]), Fold(s[1])), AddPairs(Fold(s[2]), Fold(s[3])));
  const Half high = AddPairs(AddPairs(Fold(s[4]), Fold(s[5])), AddPairs(Fold(s[6]), Fold(s[7])));
  const Half sums = AddPairs(low, high);
#pragma GCC unroll 4
  for (int r = 0; r < 4; ++r) {
    g[r * n] = sums[2 * r];
    g[r * n + 1] = sums[2 * r + 1];
  }
}

// The lower half of z z^T and what of the upper lies in its tiles. Two groups of four rows share each pair of others while it
// is in the first-level cache: Z is three times its size.
inline void Gram(const float* z, int64_t k, int64_t dim, float* g) {
  for (int64_t i = 0; i < k; i += 8) {
    const int64_t groups = i + 4 < k ? 2 : 1;
    for (int64_t j = 0; j < i + 4 * groups; j += 2) {
      for (int64_t r = j < i + 4 ? 0 : 1; r < groups; ++r) {
        GramTile(z + (i + 4 * r) * dim, z + j * dim, dim, k, g + (i + 4 * r) * k + j);
      }
    }
  }
}

// c[rows, kFloats kVecs] = sum_t a(row, t) b[t, ..], a(row, t) = a[row * row_stride + t * inner_stride].
template <int kRows, int kVecs>
inline void ProductTile(const float* a, int64_t row_stride, int64_t inner_stride, int64_t inner, const float* b, int64_t b_stride,
                        float* c, int64_t c_stride) {
  Vec s[kRows][kVecs] = {};
  for (int64_t t = 0; t < inner; ++t) {
    Vec bv[kVecs];
#pragma GCC unroll 3
    for (int v = 0; v < kVecs; ++v) bv[v] = Load(b + t * b_stride + v * kFloats);
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) {
      const Vec x = Splat(a[r * row_stride + t * inner_stride]);
#pragma GCC unroll 3
      for (int v = 0; v < kVecs; ++v) s[r][v] += x * bv[v];
    }
  }
#pragma GCC unroll 4
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 3
    for (int v = 0; v < kVecs; ++v) Store(c + r * c_stride + v * kFloats, s[r][v]);
  }
}

// rows a multiple of 4; columns from..cols (cols a multiple of kFloats) of c [rows, stride].
inline void Product(const float* a, int64_t row_stride, int64_t inner_stride, int64_t rows, int64_t inner, const float* b,
                    int64_t cols, int64_t stride, bool upper, float* c) {
  for (int64_t i = 0; i < rows; i += 4) {
    const float* at = a + i * row_stride;
    for (int64_t j = upper ? i / kFloats * kFloats : 0; j < cols;) {
      const int64_t vecs = (cols - j) / kFloats >= 3 ? 3 : (cols - j) / kFloats;
      float* out = c + i * stride + j;
      if (vecs == 3) ProductTile<4, 3>(at, row_stride, inner_stride, inner, b + j, stride, out, stride);
      else if (vecs == 2) ProductTile<4, 2>(at, row_stride, inner_stride, inner, b + j, stride, out, stride);
      else ProductTile<4, 1>(at, row_stride, inner_stride, inner, b + j, stride, out, stride);
      j += vecs * kFloats;
    }
  }
}

struct Workspace {
  Workspace(const PlaneArgs& args)
      : k(args.k_padded), dim(args.dim_padded), n(args.block), stride(args.block_padded), cols((args.block + kFloats - 1) / kFloats * kFloats) {
    float* at = args.scratch;
    const auto take = [&](int64_t floats) { float* taken = at; at += floats; return taken; };
    s = reinterpret_cast<Lane*>(take(kBatch * n * n));
    w = reinterpret_cast<Lane*>(take(kBatch * n * n));
    inside = reinterpret_cast<Lane*>(take(kBatch * n));
    values = reinterpret_cast<Lane*>(take(kBatch * n));
    beside = reinterpret_cast<Lane*>(take(kBatch * n));
    back = reinterpret_cast<Lane*>(take(kBatch * n));
    ranks = reinterpret_cast<Mask*>(take(kBatch * n));
    small = take(stride * stride);
    inverse = take(stride * stride);
    row = take(stride);
    for (int64_t p = 0; p < kBatch; ++p) {
      z[p] = take(k * dim);
      g[p] = take(k * k);
      y[p] = take(k * stride);
      q[p] = take(k * stride);
      foot[p] = take(dim);
      across[p] = take(k);
      weight[p] = take(k);
    }
  }
  int64_t k, dim, n, stride, cols;
  Lane *s, *w, *inside, *values, *beside, *back;
  Mask* ranks;
  float *small, *inverse, *row;
  float *z[kBatch], *g[kBatch], *y[kBatch], *q[kBatch], *foot[kBatch], *across[kBatch], *weight[kBatch], total[kBatch];
};

// Z of point p, G / trace, and across = Z centred times (point - foot's mean).
inline void Neighbourhood(const PlaneArgs& args, Workspace& work, int64_t p) {
  const int64_t k = work.k, dim = work.dim, real = args.dim, count = args.k[p], whole = real / kFloats * kFloats;
  float *z = work.z[p], *g = work.g[p], *foot = work.foot[p], *u = work.across[p];
  // Differences first, from a row of the neighbourhood: the Gram matrix of raw rows would lose the local variance, and so
  // would differences from a point that lies far off.
  const float* centre = args.planes + int64_t{args.ids[p][0]} * real;
  for (int64_t i = 0; i < count; ++i) {
    const float* from = args.planes + int64_t{args.ids[p][i]} * real;
    float* row = z + i * dim;
    for (int64_t j = 0; j < whole; j += kFloats) Store(row + j, Load(from + j) - Load(centre + j));
    for (int64_t j = whole; j < real; ++j) row[j] = from[j] - centre[j];
    for (int64_t j = real; j < dim; ++j) row[j] = 0;
  }
  for (int64_t j = count * dim; j < k * dim; ++j) z[j] = 0;
  // foot: where sums of weights on z start, relative to the point; with one set of neighbours the mean is part of the weights.
  const bool same = args.means == args.planes;
  const float share = 1.0f / static_cast<float>(count);
  for (int64_t j = 0; j < dim; ++j) foot[j] = 0;
  if (same) {
    for (int64_t j = 0; j < real; ++j) foot[j] = centre[j] - args.point[p][j];
  } else {
    for (int64_t i = 0; i < count; ++i) {
      const float* from = args.means + int64_t{args.ids[p][i]} * real;
      for (int64_t j = 0; j < real; ++j) foot[j] += from[j] - args.point[p][j];
    }
    for (int64_t j = 0; j < real; ++j) foot[j] *= share;
  }
  Gram(z, k, dim, g);
  for (int64_t i = 0; i < k; ++i) {
    for (int64_t j = i / 4 * 4 + 4; j < k; ++j) g[i * k + j] = g[j * k + i];
  }
  // Row means; then u = z . (point - mean) = -(z . foot) - mean row where the mean is the plane's own.
  float means[kMaxNeighbours], mean = 0, mean_u = 0, total = 0;
  for (int64_t i = 0; i < count; ++i) {
    float sum = 0;
    for (int64_t j = 0; j < k; ++j) sum += g[i * k + j];
    means[i] = sum * share;
    mean += means[i] * share;
    u[i] = -Dot(z + i * dim, foot, dim) - (same ? means[i] : 0);
    mean_u += u[i] * share;
  }
  for (int64_t i = 0; i < count; ++i) {
    u[i] -= mean_u;
    total += g[i * k + i] - 2 * means[i] + mean;
  }
  work.total[p] = total;
  // Divided by the trace, so that no scale of the data over- or underflows.
  const float scale = total > 1e-36f ? 1 / total : 0;
  for (int64_t i = 0; i < count; ++i) {
    for (int64_t j = 0; j < count; ++j) g[i * k + j] = (g[i * k + j] - (means[i] + means[j] - mean)) * scale;
  }
}

inline void ToLanes(const float* from, int64_t n, int64_t stride, int64_t p, Lane* to) {  // the upper half
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t j = i; j < n; ++j) reinterpret_cast<float*>(to + i * n + j)[p] = from[i * stride + j];
  }
}

// from [k, block] of each point -> to, with orthonormal (or zero) columns.
inline void Orthonormalise(const PlaneArgs& args, Workspace& work, float* const* from, float* const* to) {
  const int64_t k = work.k, n = work.n, stride = work.stride;
  for (int64_t p = 0; p < args.points; ++p) {
    Product(from[p], 1, stride, n, k, from[p], work.cols, stride, /*upper=*/true, work.small);
    ToLanes(work.small, n, stride, p, work.s);
  }
  InverseRoot(work.s, n, work.w);
  for (int64_t i = 0; i < n * stride; ++i) work.inverse[i] = 0;
  for (int64_t p = 0; p < args.points; ++p) {
    for (int64_t i = 0; i < n; ++i) {
      for (int64_t j = i; j < n; ++j) work.inverse[i * stride + j] = work.w[i * n + j][p];
    }
    Product(from[p], stride, 1, k, n, work.inverse, work.cols, stride, false, to[p]);
  }
}

inline void Times(const PlaneArgs& args, Workspace& work, const float* const* g, const float* const* from, float* const* to) {
  for (int64_t p = 0; p < args.points; ++p) {
    Product(g[p], work.k, 1, work.k, work.k, from[p], work.cols, work.stride, false, to[p]);
  }
}

// Eigenvalues, vectors and the ranks of the block's matrix; back = S L^-1 S^T inside, of the first d.
inline void Ritz(PlaneArgs& args, Workspace& work) {
  const int64_t n = work.n;
  Lane *l = work.values, *v = work.w;
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t j = 0; j < i; ++j) work.s[i * n + j] = work.s[j * n + i];
  }
  Tridiagonal(work.s, n, l, work.beside, v);
  TridiagonalEigen(l, work.beside, n, v);
  Lane greatest = {}, last = {}, after = {};
  for (int64_t i = 0; i < n; ++i) greatest = l[i] > greatest ? l[i] : greatest;
  Mask kept = {};
  for (int64_t i = 0; i < n; ++i) work.back[i] = Lane{};
  const int32_t d = static_cast<int32_t>(args.d);
  for (int64_t i = 0; i < n; ++i) {
    Mask rank = {};
    for (int64_t j = 0; j < n; ++j) rank -= j < i ? l[j] >= l[i] : l[j] > l[i];
    const Mask positive = (l[i] > 1e-6f * greatest) & (l[i] > 1e-30f), used = (rank < d) & positive;
    work.ranks[i] = used ? rank : Mask{} - 1;
    kept -= used;
    last = rank == d - 1 ? l[i] : last;
    after = rank == d ? l[i] : after;
    Lane along = {};
    for (int64_t j = 0; j < n; ++j) along += v[i * n + j] * work.inside[j];
    along = used ? along / (used ? l[i] : SplatLane(1)) : Lane{};
    for (int64_t j = 0; j < n; ++j) work.back[j] += along * v[i * n + j];
  }
  for (int64_t p = 0; p < args.points; ++p) args.gap[p] = kept[p] < d ? 0 : (last[p] - after[p]) / last[p];
}

// out [dim] = sum of weight_i z_i, eight rows at a time.
inline void Combine(const float* z, const float* weight, int64_t count, int64_t dim, float* out) {
  for (int64_t i = 0; i < count; i += 8) {
    const float* row = z + i * dim;
    Vec x[8];
    for (int64_t r = 0; r < 8; ++r) x[r] = Splat(i + r < count ? weight[i + r] : 0);
    if (i + 8 <= count) {
      for (int64_t j = 0; j < dim; j += kFloats) {
        Vec even = Load(out + j), odd = {};
#pragma GCC unroll 4
        for (int64_t r = 0; r < 8; r += 2) {
          even += x[r] * Load(row + r * dim + j);
          odd += x[r + 1] * Load(row + (r + 1) * dim + j);
        }
        Store(out + j, even + odd);
      }
    } else {
      for (int64_t r = 0; i + r < count; ++r) {
        for (int64_t j = 0; j < dim; j += kFloats) Store(out + j, Load(out + j) + x[r] * Load(row + r * dim + j));
      }
    }
  }
}

// Weights on the block's columns -> centred weights on the neighbours, times `scale`; `mean_share` is added to each.
inline void Weights(const Workspace& work, int64_t p, int64_t count, const float* in_block, float scale, float mean_share, float* weight) {
  float sum = 0;
  for (int64_t i = 0; i < count; ++i) sum += weight[i] = Dot(work.y[p] + i * work.stride, in_block, work.cols) * scale;
  for (int64_t i = 0; i < count; ++i) weight[i] += mean_share - sum / static_cast<float>(count);
}

}  // namespace

void FitPlanes(PlaneArgs& args) {
  Workspace work(args);
  const int64_t k = work.k, n = work.n, stride = work.stride, real = args.dim;
  for (int64_t i = 0; i < n * n; ++i) work.s[i] = Lane{};   // lanes without a point stay zero: nothing is alive in them
  for (int64_t i = 0; i < n; ++i) work.inside[i] = Lane{};
  const float* start[kBatch];
  for (int64_t p = 0; p < args.points; ++p) {
    Neighbourhood(args, work, p);
    start[p] = args.start;
  }
  Times(args, work, work.g, start, work.y);
  for (int step = 1; step < kSubspaceSteps; ++step) {
    Orthonormalise(args, work, work.y, work.q);
    Times(args, work, work.g, work.q, work.y);
  }
  Orthonormalise(args, work, work.y, work.q);
  Orthonormalise(args, work, work.q, work.y);  // once more: the first leaves errors of the condition number squared
  Times(args, work, work.g, work.y, work.q);
  for (int64_t p = 0; p < args.points; ++p) {
    Product(work.y[p], 1, stride, n, k, work.q[p], work.cols, stride, false, work.small);
    for (int64_t i = 0; i < n; ++i) {
      for (int64_t j = i; j < n; ++j) {
        reinterpret_cast<float*>(work.s + i * n + j)[p] = 0.5f * (work.small[i * stride + j] + work.small[j * stride + i]);
      }
    }
    for (int64_t j = 0; j < work.cols; j += kFloats) {
      Vec sum = {};
      for (int64_t i = 0; i < args.k[p]; ++i) sum += Splat(work.across[p][i]) * Load(work.y[p] + i * stride + j);
      Store(work.row + j, sum);
    }
    for (int64_t j = 0; j < n; ++j) reinterpret_cast<float*>(work.inside + j)[p] = work.row[j];
  }
  Ritz(args, work);
  for (int64_t j = 0; j < stride; ++j) work.row[j] = 0;
  for (int64_t p = 0; p < args.points; ++p) {
    const int64_t count = args.k[p];
    float *foot = work.foot[p], *weight = work.weight[p];
    for (int64_t j = 0; j < n; ++j) work.row[j] = work.back[j][p];
    Weights(work, p, count, work.row, work.total[p] > 1e-36f ? 1 / work.total[p] : 0,
            args.means == args.planes ? 1.0f / static_cast<float>(count) : 0, weight);
    Combine(work.z[p], weight, count, work.dim, foot);
    args.residual2[p] = Dot(foot, foot, work.dim);
    for (int64_t j = 0; j < real; ++j) args.offset[p][j] = foot[j];
    if (args.basis[p] == nullptr) continue;
    for (int64_t j = 0; j < args.d * real; ++j) args.basis[p][j] = 0;
    for (int64_t c = 0; c < n; ++c) {
      const int64_t rank = work.ranks[c][p];
      if (rank < 0) continue;
      for (int64_t j = 0; j < n; ++j) work.row[j] = work.w[c * n + j][p];
      Weights(work, p, count, work.row, 1, 0, weight);
      for (int64_t j = 0; j < work.dim; ++j) foot[j] = 0;
      Combine(work.z[p], weight, count, work.dim, foot);
      const float unit = 1 / __builtin_sqrtf(Dot(foot, foot, work.dim));
      for (int64_t j = 0; j < real; ++j) args.basis[p][rank * real + j] = foot[j] * unit;
    }
  }
}

}  // namespace lectern::manifold::LECTERN_TARGET_NAMESPACE
