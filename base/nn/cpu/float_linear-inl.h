// base/nn/cpu/float_linear-inl.h: y = x W^T over packed fp32 or bf16 panels, sums in fp32.
//
// Dataflow  T tokens x one or two panels of 16 rows stay in registers over all columns; a step loads one vector of
//           each panel and broadcasts T activations. Two panels x 12 tokens = 24 accumulators.
// Bytes     a panel streams from L2 once per T tokens: 128 B per 24 multiply-adds.
// Order     one running sum per result, in column order, whatever T is.
// The includer has included a simd_*-inl.h and defines LECTERN_TARGET.
#include "base/nn/cpu/linear_kernels.h"

namespace lectern::nn::LECTERN_TARGET {
namespace {

// Bytes. At 2 KiB (200 ns of one core) a product waited for memory and memory for the product: 10 GB/s a core, here 15.
constexpr int64_t kPrefetchAhead = 8192;

SIMD_INLINE void StoreRows(float* y, const Floats& v, int rows, const float* bias) {
  float out[16];
  StoreFloats(out, v);
  if (bias != nullptr) {
    for (int i = 0; i < rows; ++i) out[i] += bias[i];
  }
  __builtin_memcpy(y, out, static_cast<size_t>(rows) * sizeof(float));
}

template <bool kIsBf16, int kPanels, int kTokens>
void FloatGemm(const FloatTask& task) {
  Floats sums[kPanels][kTokens];
#pragma GCC unroll 2
  for (int p = 0; p < kPanels; ++p) {
#pragma GCC unroll 12
    for (int t = 0; t < kTokens; ++t) sums[p][t] = ZeroFloats();
  }
  const uint8_t* w0 = task.w;
  const uint8_t* w1 = task.w + task.panel_bytes;
  const uint8_t* x = task.x;
  for (int64_t step = 0; step < task.steps; ++step, w0 += 64, w1 += 64, x += 4 * kTokens) {
    if constexpr (kTokens <= 2) {  // few tokens: a stream from memory
      Prefetch(w0 + kPrefetchAhead);
      if constexpr (kPanels == 2) Prefetch(w1 + kPrefetchAhead);
    }
    if constexpr (kIsBf16) {
      const Pairs a = LoadPairs(w0), b = LoadPairs(kPanels == 2 ? w1 : w0);
#pragma GCC unroll 12
      for (int t = 0; t < kTokens; ++t) {
        sums[0][t] = DotPairs(sums[0][t], a, x + 4 * t);
        if constexpr (kPanels == 2) sums[1][t] = DotPairs(sums[1][t], b, x + 4 * t);
      }
    } else {
      const Floats a = LoadFloats(reinterpret_cast<const float*>(w0));
      const Floats b = LoadFloats(reinterpret_cast<const float*>(kPanels == 2 ? w1 : w0));
#pragma GCC unroll 12
      for (int t = 0; t < kTokens; ++t) {
        const Floats value = SplatFloat(reinterpret_cast<const float*>(x)[t]);
        sums[0][t] = MulAdd(a, value, sums[0][t]);
        if constexpr (kPanels == 2) sums[1][t] = MulAdd(b, value, sums[1][t]);
      }
    }
  }
  const int rows0 = task.rows < 16 ? task.rows : 16;
#pragma GCC unroll 12
  for (int t = 0; t < kTokens; ++t) {
    float* y = task.y + t * task.y_stride;
    StoreRows(y, sums[0][t], rows0, task.bias);
    if constexpr (kPanels == 2) {
      StoreRows(y + 16, sums[1][t], task.rows - 16, task.bias == nullptr ? nullptr : task.bias + 16);
    }
  }
}

// float [token, col] to bf16 [col / 2][token][2], rounded to nearest even; an odd last column is padded with 0.
inline uint16_t RoundToBf16(float value) {
  const uint32_t bits = __builtin_bit_cast(uint32_t, value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<uint16_t>(bits >> 16 | 0x40u);
  return static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}
void ToBf16Block(const float* x, int64_t x_stride, int tokens, int64_t cols, uint8_t* out) {
  for (int t = 0; t < tokens; ++t, x += x_stride) {
    uint8_t* to = out + 4 * t;
    int64_t col = 0;
    for (; col + 1 < cols; col += 2, to += 4 * tokens) {
      const uint32_t pair = uint32_t{RoundToBf16(x[col])} | uint32_t{RoundToBf16(x[col + 1])} << 16;
      __builtin_memcpy(to, &pair, 4);
    }
    if (col < cols) {
      const uint32_t pair = RoundToBf16(x[col]);
      __builtin_memcpy(to, &pair, 4);
    }
  }
}
[[maybe_unused]] void ToFloatBlock(const float* x, int64_t x_stride, int tokens, int64_t cols, uint8_t* out) {
  for (int t = 0; t < tokens; ++t, x += x_stride) {
    uint8_t* to = out + 4 * t;
    for (int64_t col = 0; col < cols; ++col, to += 4 * tokens) __builtin_memcpy(to, x + col, 4);
  }
}

template <bool kIsBf16, int kPanels, int kTokens>
constexpr FloatKernel FloatEntry() {
  if constexpr (kTokens <= kFloatTile) return FloatGemm<kIsBf16, kPanels, kTokens>;
  return nullptr;
}
#define LECTERN_FLOAT_ROW(is_bf16, panels)                                                                       \
  {FloatEntry<is_bf16, panels, 1>(), FloatEntry<is_bf16, panels, 2>(), FloatEntry<is_bf16, panels, 3>(),         \
   FloatEntry<is_bf16, panels, 4>(), FloatEntry<is_bf16, panels, 5>(), FloatEntry<is_bf16, panels, 6>(),         \
   FloatEntry<is_bf16, panels, 7>(), FloatEntry<is_bf16, panels, 8>(), FloatEntry<is_bf16, panels, 9>(),         \
   FloatEntry<is_bf16, panels, 10>(), FloatEntry<is_bf16, panels, 11>(), FloatEntry<is_bf16, panels, 12>()}

}  // namespace
}  // namespace lectern::nn::LECTERN_TARGET
