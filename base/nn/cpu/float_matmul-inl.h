// base/nn/cpu/float_matmul-inl.h: the register-tiled product, once for all CPU targets.
//
// Dataflow  for each panel, for each tile of kRows rows: kRows * kVecs accumulators stay in registers while k runs over the
//           whole inner axis; one load of b a vector and one broadcast of a a row feed kRows * kVecs FMAs.
// Bytes     a panel (inner * 128 bytes: 48 KiB at 384 with 32 columns) stays in L2 while the rows stream past it.
// Budget    avx512: 14 x 2 accumulators + 2 of b + 1 of a = 31 registers, 16 loads for 28 FMAs; avx2: 4 x 3 + 3 + 1 = 16, 7
//           loads for 12 FMAs (6 x 2 needs 8, and is 18 % slower on Zen 3); scalar (SSE): 6 x 2.
// Included by the target files only, which define kLanes, kRows, kVecs, kPanel and LECTERN_TARGET_NAMESPACE before.
#pragma once

namespace lectern::nn::LECTERN_TARGET_NAMESPACE {
namespace {

constexpr int kTileCols = kLanes * kVecs;
static_assert(kPanel % kTileCols == 0);

typedef float Vec __attribute__((vector_size(kLanes * 4)));
typedef float VecAnywhere __attribute__((vector_size(kLanes * 4), aligned(4), may_alias));

inline Vec Load(const float* p) { return *reinterpret_cast<const VecAnywhere*>(p); }
inline void Store(float* p, Vec v) { *reinterpret_cast<VecAnywhere*>(p) = v; }
inline Vec Broadcast(float x) { return x - Vec{}; }   // 0 + x would be an addition: it turns -0 into 0

// Writes a tile's sums plus bias; `cols` < V * kLanes only in the last tile of a matrix.
template <int R, int V>
inline void StoreTile(const Vec (&sum)[R][V], const float* bias, int64_t cols, float* c, int64_t c_stride) {
  if (cols >= V * kLanes) {
    Vec add[V] = {};
    if (bias != nullptr) {
      for (int v = 0; v < V; ++v) add[v] = Load(bias + v * kLanes);
    }
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) Store(c + r * c_stride + v * kLanes, sum[r][v] + add[v]);
    }
    return;
  }
  for (int r = 0; r < R; ++r) {
    float row[V * kLanes];
    for (int v = 0; v < V; ++v) Store(row + v * kLanes, sum[r][v]);
    for (int64_t j = 0; j < cols; ++j) c[r * c_stride + j] = row[j] + (bias != nullptr ? bias[j] : 0.0f);
  }
}

template <int R, int V>
inline void TileF32(const float* a, int64_t a_stride, const float* b, int64_t inner, const float* bias, int64_t cols,
                    float* c, int64_t c_stride) {
  Vec sum[R][V] = {};
  for (int64_t k = 0; k < inner; ++k) {
    Vec bv[V];
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) bv[v] = Load(b + k * kPanel + v * kLanes);
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      const Vec av = Broadcast(a[r * a_stride + k]);
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) sum[r][v] += av * bv[v];
    }
  }
  StoreTile<R, V>(sum, bias, cols, c, c_stride);
}

// Calls Tile<R, V> with R = rows, 1..kRows, and the fewest vectors that hold the columns left.
template <int R, int V, class Call>
inline void WithTile(int64_t rows, int64_t cols, const Call& call) {
  if constexpr (V > 1) {
    if (cols <= (V - 1) * kLanes) return WithTile<R, V - 1>(rows, cols, call);
  }
  if (rows == R) {
    call.template operator()<R, V>();
  } else if constexpr (R > 1) {
    WithTile<R - 1, V>(rows, cols, call);
  }
}

template <class Element, class TileCall>
inline void ForEachTile(const Element* a, int64_t a_stride, int64_t rows, const Element* panels, int64_t inner,
                        int64_t cols, const float* bias, float* c, int64_t c_stride, int pack, const TileCall& tile) {
  for (int64_t col = 0; col < cols; col += kTileCols) {
    const Element* b = panels + col / kPanel * kPanel * inner + col % kPanel * pack;
    const float* tile_bias = bias == nullptr ? nullptr : bias + col;
    for (int64_t row = 0; row < rows; row += kRows) {
      const int64_t count = rows - row < kRows ? rows - row : kRows;
      tile(count, a + row * a_stride, b, tile_bias, cols - col, c + row * c_stride + col);
    }
  }
}

void MatmulF32(const float* a, int64_t a_stride, int64_t rows, const float* panels, int64_t inner, int64_t cols,
               const float* bias, float* c, int64_t c_stride) {
  ForEachTile(a, a_stride, rows, panels, inner, cols, bias, c, c_stride, 1,
              [&](int64_t count, const float* ta, const float* tb, const float* tbias, int64_t tcols, float* tc) {
                WithTile<kRows, kVecs>(count, tcols, [&]<int R, int V>() {
                  TileF32<R, V>(ta, a_stride, tb, inner, tbias, tcols, tc, c_stride);
                });
              });
}

void PackF32(const float* src, int64_t inner_stride, int64_t col_stride, int64_t inner, int64_t cols, float* panels) {
  for (int64_t col = 0; col < cols; col += kPanel) {
    const int64_t width = cols - col < kPanel ? cols - col : kPanel;
    for (int64_t k = 0; k < inner; ++k, panels += kPanel) {
      const float* from = src + k * inner_stride + col * col_stride;
      for (int64_t j = 0; j < width; ++j) panels[j] = from[j * col_stride];
      for (int64_t j = width; j < kPanel; ++j) panels[j] = 0;
    }
  }
}

}  // namespace
}  // namespace lectern::nn::LECTERN_TARGET_NAMESPACE
