// attention/cpu/rows-inl.h: single rows, written once, compiled for each CPU target: the gate's projections, the scores
// of block descriptors, and what an appended token goes through.
//
// Dataflow  Project: accumulators of 8 vectors of outputs stay in registers while the inputs go by. Dots: one descriptor
//           against up to 4 queries, vectors along the width, one sum across lanes a score.
// Bytes     Project: weights once. Dots: each descriptor once; they lie page by page in no order, so that those of the
//           blocks kAhead further on are prefetched.
// Flops     2 a weight; 2 * queries a descriptor element: 1 to 8 a byte in bf16, below what memory delivers.
//
// The including file defines F and its functions (vector_*-inl.h).

#include "attention/cpu/exp2-inl.h"

constexpr int64_t kAhead = 8;  // blocks: 2 KiB of descriptors at width 64

struct F32Row {
  using Element = float;
  static F Full(const Element* p) { return Load(p); }
  static float One(const Element* p) { return *p; }
  static void PutFull(Element* p, F v) { Store(p, v); }
  static void PutOne(Element* p, float v) { *p = v; }
};
struct Bf16Row {
  using Element = uint16_t;
  static F Full(const Element* p) { return LoadBf16(p); }
  static float One(const Element* p) {
    const uint32_t bits = static_cast<uint32_t>(*p) << 16;
    float v;
    __builtin_memcpy(&v, &bits, sizeof(v));
    return v;
  }
  static void PutFull(Element* p, F v) { StoreBf16(p, v); }
  static void PutOne(Element* p, float v) { *p = RoundBf16(v); }
};

// The first `left` elements, at most a vector; zero behind them.
template <class Row>
inline F Some(const typename Row::Element* p, int64_t left) {
  if (left >= kLanes) return Row::Full(p);
  alignas(64) float part[kLanes] = {};
  for (int64_t i = 0; i < left; ++i) part[i] = Row::One(p + i);
  return Load(part);
}
template <class Row>
inline void PutSome(typename Row::Element* p, F v, int64_t left) {
  if (left >= kLanes) return Row::PutFull(p, v);
  alignas(64) float part[kLanes];
  Store(part, v);
  for (int64_t i = 0; i < left; ++i) Row::PutOne(p + i, part[i]);
}

template <class Row, int V>
inline void ProjectColumns(const ProjectArgs& a, int64_t column) {
  const auto* weights = static_cast<const typename Row::Element*>(a.weights) + column;
  const int64_t left = a.width - column;
  F sum[V];
#pragma GCC unroll 8
  for (int v = 0; v < V; ++v) sum[v] = Set(0.0f);
  for (int64_t i = 0; i < a.inputs; ++i) {
    const F x = Set(a.x[i]);
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) {
      const auto* w = weights + i * a.width + v * kLanes;
      sum[v] = Fma(x, V == 1 ? Some<Row>(w, left) : Row::Full(w), sum[v]);
    }
  }
#pragma GCC unroll 8
  for (int v = 0; v < V; ++v) PutSome<F32Row>(a.out + column + v * kLanes, sum[v], V == 1 ? left : kLanes);
}

template <class Row>
void ProjectRow(const ProjectArgs& a) {
  int64_t column = 0;
  for (; column + 8 * kLanes <= a.width; column += 8 * kLanes) ProjectColumns<Row, 8>(a, column);
  for (; column + 4 * kLanes <= a.width; column += 4 * kLanes) ProjectColumns<Row, 4>(a, column);
  for (; column < a.width; column += kLanes) ProjectColumns<Row, 1>(a, column);
}

template <class Row, int R>
inline void DotsOf(const DotsArgs& a, int64_t query, const typename Row::Element* descriptor, float* scores) {
  F sum[R];
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) sum[r] = Set(0.0f);
  const float* q = a.query + query * a.width;
  for (int64_t c = 0; c < a.width; c += kLanes) {
    const int64_t left = a.width - c;
    const F x = Some<Row>(descriptor + c, left);
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) sum[r] = Fma(x, Some<F32Row>(q + r * a.width + c, left), sum[r]);
  }
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) {
    const float score = ReduceAdd(sum[r]) * a.scale;
    float* to = a.largest ? scores : scores + (query + r) * a.stride;
    *to = !a.largest || query + r == 0 || score > *to ? score : *to;
  }
}

template <class Row>
void DotsRow(const DotsArgs& a) {
  const auto at = [&](int64_t block) {
    const int64_t token = block * a.block_tokens;
    return a.descriptors + a.pages[token / 64] * a.page_bytes + token % 64 / a.block_tokens * a.block_bytes;
  };
  const int64_t bytes = a.width * static_cast<int64_t>(sizeof(typename Row::Element));
  for (int64_t block = a.begin; block < a.end; ++block) {
    if (block + kAhead < a.end) {
      const char* ahead = at(block + kAhead);
      for (int64_t i = 0; i < bytes; i += 64) __builtin_prefetch(ahead + i, 0, 3);
    }
    const auto* descriptor = reinterpret_cast<const typename Row::Element*>(at(block));
    float* scores = a.scores + block;
    int64_t query = 0;
    for (; query + 4 <= a.queries; query += 4) DotsOf<Row, 4>(a, query, descriptor, scores);
    if (query + 2 <= a.queries) DotsOf<Row, 2>(a, query, descriptor, scores), query += 2;
    if (query < a.queries) DotsOf<Row, 1>(a, query, descriptor, scores);
  }
}

template <class Row>
void MinMaxRow(const MinMaxArgs& a) {
  auto* low = static_cast<typename Row::Element*>(a.descriptor);
  auto* high = low + a.width;
  for (int64_t c = 0; c < a.width; c += kLanes) {
    const int64_t left = a.width - c;
    const F x = Some<F32Row>(a.key + c, left), minus = Set(-1.0f);
    F least = x, most = x;
    if (!a.first) {
      least = Mul(minus, Max(Mul(minus, Some<Row>(low + c, left)), Mul(minus, x)));
      most = Max(Some<Row>(high + c, left), x);
    }
    PutSome<Row>(low + c, least, left);
    PutSome<Row>(high + c, most, left);
  }
}

inline void PoolRow(const PoolArgs& a) {
  float* high = a.pool;
  float* low = high + a.width;
  float* sum = low + a.width;
  for (int64_t c = 0; c < a.width; c += kLanes) {
    const int64_t left = a.width - c;
    const F x = Some<F32Row>(a.key + c, left), minus = Set(-1.0f);
    F least = x, most = x, total = x;
    if (!a.first) {
      most = Max(Some<F32Row>(high + c, left), x);
      least = Mul(minus, Max(Mul(minus, Some<F32Row>(low + c, left)), Mul(minus, x)));
      total = Add(Some<F32Row>(sum + c, left), x);
    }
    PutSome<F32Row>(high + c, most, left);
    PutSome<F32Row>(low + c, least, left);
    PutSome<F32Row>(sum + c, total, left);
  }
}

inline float ExponentialsRow(float* x, int64_t n, float* to) {
  if (n == 0) return 0;
  float peak = x[0];
  for (int64_t i = 1; i < n; ++i) peak = x[i] > peak ? x[i] : peak;
  float sum = 0;
  for (int64_t i = 0; i < n; i += kLanes) {
    const int64_t left = n - i;
    alignas(64) float part[kLanes];
    Store(part, Exp2(Mul(Add(Some<F32Row>(x + i, left), Set(-peak)), Set(kLog2e))));
    for (int64_t j = 0; j < kLanes && j < left; ++j) {
      to[i + j] = part[j];
      sum += part[j];
    }
  }
  return sum;
}

inline void NormRow(const NormArgs& a) {
  F squares = Set(0.0f);
  for (int64_t c = 0; c < a.width; c += kLanes) {
    const int64_t left = a.width - c;
    F x = Some<F32Row>(a.x + c, left);
    if (a.bias != nullptr) x = Add(x, Some<F32Row>(a.bias + c, left));
    squares = Fma(x, x, squares);
    PutSome<F32Row>(a.out + c, x, left);
  }
  const float inverse = a.norm == nullptr ? 1.0f : 1.0f / __builtin_sqrtf(ReduceAdd(squares) / static_cast<float>(a.width) + a.eps);
  if (a.norm == nullptr && !a.round_bf16) return;
  for (int64_t c = 0; c < a.width; c += kLanes) {
    const int64_t left = a.width - c;
    F x = Some<F32Row>(a.out + c, left);
    if (a.norm != nullptr) x = Mul(Mul(x, Set(inverse)), Some<F32Row>(a.norm + c, left));
    if (a.round_bf16) {
      uint16_t rounded[kLanes];
      StoreBf16(rounded, x);
      x = LoadBf16(rounded);
    }
    PutSome<F32Row>(a.out + c, x, left);
  }
}

inline void RotateRow(const RotateArgs& a) {
  const int64_t half = a.width / 2;
  for (int64_t i = 0; i < half; i += kLanes) {
    const int64_t left = half - i;
    const F x = Some<F32Row>(a.x + i, left), y = Some<F32Row>(a.x + half + i, left);
    const F c = Some<F32Row>(a.cosines + i, left), s = Some<F32Row>(a.sines + i, left);
    PutSome<F32Row>(a.out + i, Fma(x, c, Mul(Set(-1.0f), Mul(y, s))), left);
    PutSome<F32Row>(a.out + half + i, Fma(y, c, Mul(x, s)), left);
  }
}
