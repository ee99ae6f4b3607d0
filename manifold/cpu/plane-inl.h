// manifold/cpu/plane-inl.h: one point's local plane: gather, Gram matrix, leading eigenvectors, projection.
//
// Dataflow  Z = neighbours - point, then minus its mean; G = Z Z^T / trace; Q = orth(G Q) kSubspaceSteps times from a fixed block;
//           Rayleigh-Ritz in the block gives (l, S); X - mean = Z^T (Q S L^-1 S^T Q^T Z (point - mean)) / trace.
// Bytes     Z is k * dim * 4 (98 KiB at 64 x 384) and stays in L2; each row is gathered once.
// Flops     k^2 dim for G's upper half, 2 k^2 block + 4 k block^2 a step, 4 k dim to apply: about 5 M at 64, 384, 16.
// Budget    tiles of 4 x 2 (G) and 4 x 3 vectors (block): 12 accumulators of 16 registers.
// Included by the target files only, which define LECTERN_TARGET_NAMESPACE before.
#pragma once

namespace lectern::manifold::LECTERN_TARGET_NAMESPACE {
namespace {

typedef float Vec __attribute__((vector_size(32)));
typedef float VecAnywhere __attribute__((vector_size(32), aligned(4), may_alias));

inline Vec Load(const float* p) { return *reinterpret_cast<const VecAnywhere*>(p); }
inline void Store(float* p, Vec v) { *reinterpret_cast<VecAnywhere*>(p) = v; }
inline Vec Splat(float x) { return Vec{} + x; }

// Sums of pairs of neighbouring lanes: (a0+a1, a2+a3, ..., b0+b1, ...).
inline Vec AddPairs(Vec a, Vec b) {
  return __builtin_shufflevector(a, b, 0, 2, 4, 6, 8, 10, 12, 14) + __builtin_shufflevector(a, b, 1, 3, 5, 7, 9, 11, 13, 15);
}
inline float Sum(Vec v) {
  v = AddPairs(v, v);
  v = AddPairs(v, v);
  return v[0] + v[1];
}
inline float Dot(const float* a, const float* b, int64_t n) {  // n a multiple of kLanes
  Vec s0 = {}, s1 = {};
  int64_t i = 0;
  for (; i + 2 * kLanes <= n; i += 2 * kLanes) {
    s0 += Load(a + i) * Load(b + i);
    s1 += Load(a + i + kLanes) * Load(b + i + kLanes);
  }
  if (i < n) s0 += Load(a + i) * Load(b + i);
  return Sum(s0 + s1);
}
inline float Root(float x) { return __builtin_sqrtf(x); }

// g[i.., j..] of four rows by two.
inline void GramTile(const float* a, const float* b, int64_t dim, float scale, int64_t n, float* g) {
  Vec s[8] = {};
  for (int64_t t = 0; t < dim; t += kLanes) {
    const Vec b0 = Load(b + t), b1 = Load(b + dim + t);
#pragma GCC unroll 4
    for (int r = 0; r < 4; ++r) {
      const Vec x = Load(a + r * dim + t);
      s[2 * r] += x * b0;
      s[2 * r + 1] += x * b1;
    }
  }
  const Vec low = AddPairs(AddPairs(s[0], s[1]), AddPairs(s[2], s[3]));
  const Vec high = AddPairs(AddPairs(s[4], s[5]), AddPairs(s[6], s[7]));
  const Vec sums = AddPairs(low, high) * Splat(scale);
#pragma GCC unroll 4
  for (int r = 0; r < 4; ++r) {
    g[r * n] = sums[2 * r];
    g[r * n + 1] = sums[2 * r + 1];
  }
}

// c[rows, 8 kVecs] = sum_t a(row, t) b[t, ..], a(row, t) = a[row * row_stride + t * inner_stride].
template <int kRows, int kVecs>
inline void ProductTile(const float* a, int64_t row_stride, int64_t inner_stride, int64_t inner, const float* b, int64_t b_stride,
                        float* c, int64_t c_stride) {
  Vec s[kRows][kVecs] = {};
  for (int64_t t = 0; t < inner; ++t) {
    Vec bv[kVecs];
#pragma GCC unroll 3
    for (int v = 0; v < kVecs; ++v) bv[v] = Load(b + t * b_stride + v * kLanes);
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
    for (int v = 0; v < kVecs; ++v) Store(c + r * c_stride + v * kLanes, s[r][v]);
  }
}

// rows and cols multiples of 4 and kLanes.
inline void Product(const float* a, int64_t row_stride, int64_t inner_stride, int64_t rows, int64_t inner, const float* b,
                    int64_t cols, float* c) {
  for (int64_t j = 0; j < cols;) {
    const int64_t vecs = (cols - j) / kLanes >= 3 ? 3 : (cols - j) / kLanes;
    for (int64_t i = 0; i < rows; i += 4) {
      const float* at = a + i * row_stride;
      float* out = c + i * cols + j;
      if (vecs == 3) ProductTile<4, 3>(at, row_stride, inner_stride, inner, b + j, cols, out, cols);
      else if (vecs == 2) ProductTile<4, 2>(at, row_stride, inner_stride, inner, b + j, cols, out, cols);
      else ProductTile<4, 1>(at, row_stride, inner_stride, inner, b + j, cols, out, cols);
    }
    j += vecs * kLanes;
  }
}

// s [n, n] symmetric -> r upper triangular with s = r^T r, and w = r^-1. A column that depends on those before it gets a
// zero column in w, so that its direction drops out instead of blowing up.
inline void InverseRoot(float* s, int64_t n, float* w) {
  bool dead[kMaxBlock];
  for (int64_t i = 0; i < n; ++i) {  // row i of r, its sums in registers
    float* row = s + i * n;
    const float first = row[i];
    for (int64_t j = i / kLanes * kLanes; j < n; j += kLanes) {
      Vec sum = Load(row + j);
      for (int64_t t = 0; t < i; ++t) sum -= Splat(s[t * n + i]) * Load(s + t * n + j);
      Store(row + j, sum);
    }
    const float pivot = row[i];
    dead[i] = !(pivot > 1e-6f * first) || !(pivot > 1e-30f);
    const Vec scale = Splat(dead[i] ? 0.0f : 1 / Root(pivot));
    for (int64_t j = i / kLanes * kLanes; j < n; j += kLanes) Store(row + j, Load(row + j) * scale);
    if (dead[i]) row[i] = 1;
  }
  for (int64_t i = n - 1; i >= 0; --i) {  // row i of w = (e_i - sum_t r(i, t) w_t) / r(i, i)
    float* out = w + i * n;
    for (int64_t j = 0; j < n; j += kLanes) Store(out + j, Vec{});
    out[i] = dead[i] ? 0 : 1;
    const Vec scale = Splat(1 / s[i * n + i]);
    for (int64_t j = i / kLanes * kLanes; j < n; j += kLanes) {
      Vec sum = Load(out + j);
      const int64_t end = j + kLanes < n ? j + kLanes : n;  // w_t is zero left of t
      for (int64_t t = i + 1; t < end; ++t) sum -= Splat(s[i * n + t]) * Load(w + t * n + j);
      Store(out + j, sum * scale);
    }
  }
}

// y [k, n] -> q [k, n] with orthonormal (or zero) columns.
inline void Orthonormalise(const float* y, int64_t k, int64_t n, float* small, float* inverse, float* q) {
  Product(y, 1, n, n, k, y, n, small);
  InverseRoot(small, n, inverse);
  Product(y, n, 1, k, n, inverse, n, q);
}

// Rows of a symmetric positive t [n, n] -> l_i v_i, by one-sided Jacobi; order[i] ranks them, greatest first.
inline void Ritz(float* t, int64_t n, float* values, int64_t* order) {
  float norms[kMaxBlock];
  for (int sweep = 0; sweep < 12; ++sweep) {
    for (int64_t i = 0; i < n; ++i) norms[i] = Dot(t + i * n, t + i * n, n);
    float worst = 0;  // greatest squared cosine met; convergence is quadratic, so a small one leaves none
    // Rounds of n / 2 pairs that share no row, as in a tournament: their latencies overlap.
    for (int64_t round = 0; round < n - 1; ++round) {
      for (int64_t i = 0; i < n / 2; ++i) {
        int64_t p = round + i, q = round + n - 1 - i;  // modulo n - 1; row n - 1 stays in its place
        if (p >= n - 1) p -= n - 1;
        if (q >= n - 1) q -= n - 1;
        if (i == 0) p = n - 1;
        if (p > q) {
          const int64_t swapped = p;
          p = q;
          q = swapped;
        }
        float *x = t + p * n, *y = t + q * n;
        const float cross = Dot(x, y, n);
        const float both = norms[p] * norms[q], squared = cross * cross;
        if (!(squared > 1e-9f * both)) continue;
        if (squared > worst * both) worst = squared / both;
        const float zeta = (norms[q] - norms[p]) / (2 * cross);
        const float size = zeta < 0 ? -zeta : zeta;
        const float tangent = (zeta < 0 ? -1.0f : 1.0f) / (size + Root(1 + zeta * zeta));
        const float c = 1 / Root(1 + tangent * tangent), s = c * tangent;
        const Vec vc = Splat(c), vs = Splat(s);
        for (int64_t j = 0; j < n; j += kLanes) {
          const Vec a = Load(x + j), b = Load(y + j);
          Store(x + j, vc * a - vs * b);
          Store(y + j, vs * a + vc * b);
        }
        norms[p] -= tangent * cross;
        norms[q] += tangent * cross;
      }
    }
    if (worst < 1e-5f) break;
  }
  for (int64_t i = 0; i < n; ++i) {
    values[i] = Root(Dot(t + i * n, t + i * n, n));
    int64_t at = i;
    while (at > 0 && values[order[at - 1]] < values[i]) order[at] = order[at - 1], --at;
    order[at] = i;
  }
}

}  // namespace

void FitPlane(PlaneArgs& args) {
  const int64_t k = args.k_padded, dim = args.dim_padded, n = args.block, real = args.dim;
  float* z = args.scratch;             // [k, dim]
  float* g = z + k * dim;              // [k, k]
  float* y = g + k * k;                // [k, n]
  float* q = y + k * n;                // [k, n]
  float* small = q + k * n;            // [n, n]
  float* inverse = small + n * n;      // [n, n]
  float* ritz = inverse + n * n;       // [n, n]
  float* shift = ritz + n * n;         // [dim] mean of the plane's neighbours - point
  float* mean = shift + dim;           // [dim] the plane's foot - point
  float* along = mean + dim;           // [dim]
  float* at = along + dim;             // [k]
  float* coefficients = at + k;        // [k]
  float* in_block = coefficients + k;  // [n]
  float* values = in_block + n;        // [n]

  // Differences first: the Gram matrix of the raw rows would lose the local variance.
  for (int64_t j = 0; j < dim; j += kLanes) Store(shift + j, Vec{}), Store(mean + j, Vec{}), Store(along + j, Vec{});
  for (int64_t j = args.k * dim; j < k * dim; j += kLanes) Store(z + j, Vec{});
  const int64_t whole = real / kLanes * kLanes;
  for (int64_t i = 0; i < args.k; ++i) {
    const float* from = args.planes + int64_t{args.ids[i]} * real;
    float* row = z + i * dim;
    for (int64_t j = 0; j < whole; j += kLanes) {
      const Vec v = Load(from + j) - Load(args.point + j);
      Store(row + j, v);
      Store(shift + j, Load(shift + j) + v);
    }
    if (whole < real) Store(row + whole, Vec{});
    for (int64_t j = whole; j < real; ++j) shift[j] += row[j] = from[j] - args.point[j];
  }
  const Vec share = Splat(1.0f / static_cast<float>(args.k));
  for (int64_t j = 0; j < dim; j += kLanes) Store(shift + j, Load(shift + j) * share);
  if (args.means == args.planes) {
    for (int64_t j = 0; j < dim; j += kLanes) Store(mean + j, Load(shift + j));
  } else {
    for (int64_t i = 0; i < args.k; ++i) {
      const float* from = args.means + int64_t{args.ids[i]} * real;
      for (int64_t j = 0; j < real; ++j) mean[j] += from[j] - args.point[j];
    }
    for (int64_t j = 0; j < dim; j += kLanes) Store(mean + j, Load(mean + j) * share);
  }
  for (int64_t i = 0; i < args.k; ++i) {
    for (int64_t j = 0; j < dim; j += kLanes) Store(z + i * dim + j, Load(z + i * dim + j) - Load(shift + j));
  }
  // G is divided by its trace, so that no scale of the data over- or underflows.
  float total = 0;
  for (int64_t i = 0; i < args.k; ++i) total += Dot(z + i * dim, z + i * dim, dim);
  const float scale = total > 1e-36f ? 1 / total : 0;
  for (int64_t i = 0; i < k; i += 4) {
    for (int64_t j = 0; j < i + 4; j += 2) GramTile(z + i * dim, z + j * dim, dim, scale, k, g + i * k + j);
  }
  for (int64_t i = 0; i < k; ++i) {
    for (int64_t j = i / 4 * 4 + 4; j < k; ++j) g[i * k + j] = g[j * k + i];
  }

  Product(g, k, 1, k, k, args.start, n, y);
  for (int step = 1; step < kSubspaceSteps; ++step) {
    Orthonormalise(y, k, n, small, inverse, q);
    Product(g, k, 1, k, k, q, n, y);
  }
  Orthonormalise(y, k, n, small, inverse, q);
  Orthonormalise(q, k, n, small, inverse, y);  // once more: the first leaves errors of the condition number squared
  Product(g, k, 1, k, k, y, n, q);
  Product(y, 1, n, n, k, q, n, ritz);
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t j = 0; j < i; ++j) ritz[i * n + j] = ritz[j * n + i] = 0.5f * (ritz[i * n + j] + ritz[j * n + i]);
  }
  int64_t order[kMaxBlock];
  Ritz(ritz, n, values, order);
  const float least = 1e-6f * values[order[0]];
  int64_t rank = 0;
  while (rank < args.d && values[order[rank]] > least && values[order[rank]] > 1e-30f) ++rank;
  args.rank = rank;
  args.gap = rank < args.d ? 0 : (values[order[rank - 1]] - values[order[rank]]) / values[order[rank - 1]];

  // point - foot, in the plane's coordinates, and back.
  for (int64_t i = 0; i < k; ++i) at[i] = -Dot(z + i * dim, mean, dim);
  for (int64_t c = 0; c < n; ++c) in_block[c] = 0;
  for (int64_t i = 0; i < args.k; ++i) {
    const Vec x = Splat(at[i]);
    for (int64_t c = 0; c < n; c += kLanes) Store(in_block + c, Load(in_block + c) + x * Load(y + i * n + c));
  }
  float* back = small;  // [n]
  for (int64_t c = 0; c < n; ++c) back[c] = 0;
  for (int64_t r = 0; r < rank; ++r) {
    const float* row = ritz + order[r] * n;  // l v
    const float l = values[order[r]];
    const Vec x = Splat(Dot(row, in_block, n) / l / l / (l * total));
    for (int64_t c = 0; c < n; c += kLanes) Store(back + c, Load(back + c) + x * Load(row + c));
  }
  for (int64_t i = 0; i < args.k; ++i) coefficients[i] = Dot(y + i * n, back, n);
  for (int64_t i = 0; i < args.k; ++i) {
    const Vec x = Splat(coefficients[i]);
    for (int64_t j = 0; j < dim; j += kLanes) Store(along + j, Load(along + j) + x * Load(z + i * dim + j));
  }
  for (int64_t j = 0; j < dim; j += kLanes) Store(along + j, Load(along + j) + Load(mean + j));
  args.residual2 = Dot(along, along, dim);
  for (int64_t j = 0; j < real; ++j) args.offset[j] = along[j];

  if (args.basis == nullptr) return;
  for (int64_t r = 0; r < args.d; ++r) {
    for (int64_t j = 0; j < dim; j += kLanes) Store(along + j, Vec{});
    if (r < rank) {
      const float* row = ritz + order[r] * n;
      for (int64_t i = 0; i < args.k; ++i) {
        const Vec x = Splat(Dot(y + i * n, row, n));
        for (int64_t j = 0; j < dim; j += kLanes) Store(along + j, Load(along + j) + x * Load(z + i * dim + j));
      }
      const Vec unit = Splat(1 / Root(Dot(along, along, dim)));
      for (int64_t j = 0; j < dim; j += kLanes) Store(along + j, Load(along + j) * unit);
    }
    for (int64_t j = 0; j < real; ++j) args.basis[r * real + j] = along[j];
  }
}

}  // namespace lectern::manifold::LECTERN_TARGET_NAMESPACE
