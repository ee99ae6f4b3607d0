// index/cpu/bert-inl.h: layer norm, GELU, softmax and pooling on vectors of kLanes floats, once for all CPU targets.
//
// Included by the target files only, which define kLanes and LECTERN_TARGET_NAMESPACE before.
// Tails shorter than a vector are padded into one, so that every element goes through the same instructions.
#pragma once

namespace lectern::index::LECTERN_TARGET_NAMESPACE {
namespace {

typedef float Vec __attribute__((vector_size(kLanes * 4)));
typedef uint32_t BitsVec __attribute__((vector_size(kLanes * 4)));   // unsigned: of broken weights the sum may run over
typedef float VecAnywhere __attribute__((vector_size(kLanes * 4), aligned(4), may_alias));

inline Vec Load(const float* p) { return *reinterpret_cast<const VecAnywhere*>(p); }
inline void Store(float* p, Vec v) { *reinterpret_cast<VecAnywhere*>(p) = v; }
inline Vec Broadcast(float x) { return x - Vec{}; }   // 0 + x would be an addition: it turns -0 into 0
inline Vec LoadTail(const float* p, int64_t n, float fill) {
  float lanes[kLanes];
  for (int64_t i = 0; i < kLanes; ++i) lanes[i] = i < n ? p[i] : fill;
  return Load(lanes);
}
inline void StoreTail(float* p, int64_t n, Vec v) {
  float lanes[kLanes];
  Store(lanes, v);
  for (int64_t i = 0; i < n; ++i) p[i] = lanes[i];
}
inline float Sum(Vec v) {  // halves, then halves of halves
  float lanes[kLanes];
  Store(lanes, v);
  for (int width = kLanes / 2; width > 0; width /= 2) {
    for (int i = 0; i < width; ++i) lanes[i] += lanes[i + width];
  }
  return lanes[0];
}
inline float Max(Vec v) {
  float lanes[kLanes];
  Store(lanes, v);
  float most = lanes[0];
  for (int i = 1; i < kLanes; ++i) most = lanes[i] > most ? lanes[i] : most;
  return most;
}

// exp(x) for x <= 0, relative error about 1e-7; 0 below -87. x = n ln 2 + r, |r| <= ln 2 / 2, Taylor to r^7.
inline Vec ExpOfNegative(Vec x) {
  const Vec magic = Broadcast(12582912.0f);  // 1.5 * 2^23: adding it rounds to a whole number, kept in the low bits
  const Vec shifted = x * Broadcast(1.44269504f) + magic;
  const Vec n = shifted - magic;
  const Vec r = (x - n * Broadcast(0.693359375f)) - n * Broadcast(-2.12194440e-4f);
  Vec p = Broadcast(1.0f / 5040);
  p = p * r + Broadcast(1.0f / 720);
  p = p * r + Broadcast(1.0f / 120);
  p = p * r + Broadcast(1.0f / 24);
  p = p * r + Broadcast(1.0f / 6);
  p = p * r + Broadcast(0.5f);
  p = p * r + Broadcast(1.0f);
  p = p * r + Broadcast(1.0f);
  const Vec scaled = (Vec)((BitsVec)p + ((BitsVec)shifted << 23));
  return x < Broadcast(-87.0f) ? Vec{} : scaled;
}

// x * Phi(x). Phi(-u) = exp(-g(u)) / 2 for u >= 0 with g(u) = -log(erfc(u / sqrt 2)); g is the polynomial that minimises the
// greatest error of erf on [0, 6.5] (2.2e-9, fitted by reweighted least squares in double). Beyond, Phi(-u) < 5e-11.
inline Vec Gelu(Vec x) {
  const Vec limit = Broadcast(6.5f);
  const Vec size = x < Vec{} ? -x : x;
  const Vec u = size < limit ? size : limit;
  Vec g = Broadcast(-3.554900160906982e-07f);
  g = g * u + Broadcast(6.6266647991142236e-06f);
  g = g * u + Broadcast(-5.196798520046286e-05f);
  g = g * u + Broadcast(0.00019709499611053616f);
  g = g * u + Broadcast(-1.0391177056590095e-05f);
  g = g * u + Broadcast(-0.004804285708814859f);
  g = g * u + Broadcast(0.03634500876069069f);
  g = g * u + Broadcast(0.3183080554008484f);
  g = g * u + Broadcast(0.7978847026824951f);
  const Vec tail = x * (Broadcast(0.5f) * ExpOfNegative(-(g * u)));
  return x < Vec{} ? tail : x - tail;
}

void GeluRow(float* x, int64_t n) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) Store(x + i, Gelu(Load(x + i)));
  if (i < n) StoreTail(x + i, n - i, Gelu(LoadTail(x + i, n - i, 0)));
}

void LayerNorm(const float* x, const float* add, int64_t rows, int64_t cols, const float* weight, const float* bias,
               float eps, float* out) {
  const float inverse = 1.0f / static_cast<float>(cols);
  const int64_t whole = cols / kLanes * kLanes, rest = cols - whole;
  for (int64_t row = 0; row < rows; ++row, x += cols, out += cols) {
    const float* plus = add == nullptr ? nullptr : add + row * cols;
    Vec sum = {};
    for (int64_t i = 0; i < whole; i += kLanes) {
      const Vec v = plus == nullptr ? Load(x + i) : Load(x + i) + Load(plus + i);
      Store(out + i, v);
      sum += v;
    }
    Vec last = {};
    if (rest > 0) {
      last = LoadTail(x + whole, rest, 0);
      if (plus != nullptr) last += LoadTail(plus + whole, rest, 0);
      sum += last;
    }
    const float mean = Sum(sum) * inverse;
    Vec squares = {};
    for (int64_t i = 0; i < whole; i += kLanes) {
      const Vec d = Load(out + i) - mean;
      squares += d * d;
    }
    if (rest > 0) {
      StoreTail(out + whole, rest, last);
      last = LoadTail(out + whole, rest, mean) - mean;  // the padding adds nothing
      squares += last * last;
    }
    const float scale = 1.0f / __builtin_sqrtf(Sum(squares) * inverse + eps);
    for (int64_t i = 0; i < whole; i += kLanes) {
      Store(out + i, (Load(out + i) - mean) * scale * Load(weight + i) + Load(bias + i));
    }
    if (rest > 0) {
      StoreTail(out + whole, rest, last * scale * LoadTail(weight + whole, rest, 0) + LoadTail(bias + whole, rest, 0));
    }
  }
}

void Softmax(float* x, int64_t rows, int64_t cols, int64_t stride, float scale) {
  constexpr float kLowest = -3.0e38f;
  const int64_t whole = cols / kLanes * kLanes, rest = cols - whole;
  for (int64_t row = 0; row < rows; ++row, x += stride) {
    for (int64_t i = cols; i < stride; ++i) x[i] = 0;
    Vec most = Broadcast(kLowest);
    for (int64_t i = 0; i < whole; i += kLanes) {
      const Vec v = Load(x + i);
      most = v > most ? v : most;
    }
    if (rest > 0) {
      const Vec v = LoadTail(x + whole, rest, kLowest);
      most = v > most ? v : most;
    }
    const float peak = Max(most);
    Vec sum = {};
    for (int64_t i = 0; i < whole; i += kLanes) {
      const Vec e = ExpOfNegative((Load(x + i) - peak) * scale);
      Store(x + i, e);
      sum += e;
    }
    if (rest > 0) {
      const Vec e = ExpOfNegative((LoadTail(x + whole, rest, kLowest) - peak) * scale);
      StoreTail(x + whole, rest, e);
      sum += LoadTail(x + whole, rest, 0);
    }
    const float inverse = 1.0f / Sum(sum);
    for (int64_t i = 0; i < stride; i += kLanes) Store(x + i, Load(x + i) * inverse);
  }
}

void Add3(const float* a, const float* b, const float* c, int64_t n, float* out) {
  for (int64_t i = 0; i < n; ++i) out[i] = a[i] + b[i] + c[i];
}

void Mean(const float* x, int64_t rows, int64_t cols, float* out) {
  for (int64_t i = 0; i < cols; ++i) out[i] = 0;
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t i = 0; i < cols; ++i) out[i] += x[row * cols + i];
  }
  const float inverse = 1.0f / static_cast<float>(rows);
  for (int64_t i = 0; i < cols; ++i) out[i] *= inverse;
}

}  // namespace

BertKernels BertTable() { return {LayerNorm, GeluRow, Softmax, Add3, Mean}; }

}  // namespace lectern::index::LECTERN_TARGET_NAMESPACE
