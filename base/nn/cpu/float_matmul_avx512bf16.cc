// base/nn/cpu/float_matmul_avx512bf16.cc: the avx512bf16 target of float_matmul: VDPBF16PS does two products a lane.
#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "base/nn/cpu/float_matmul_targets.h"

#define LECTERN_TARGET_NAMESPACE avx512bf16
namespace lectern::nn::avx512bf16 {
namespace {
constexpr int kLanes = 16;
constexpr int kRows = 14;
constexpr int kVecs = 2;
constexpr int64_t kPanel = 32;
}  // namespace
}  // namespace lectern::nn::avx512bf16

#include "base/nn/cpu/float_matmul-inl.h"

namespace lectern::nn::avx512bf16 {
namespace {

typedef int32_t PairAnywhere __attribute__((aligned(2), may_alias));  // two bf16, read as one 32-bit lane

template <int R>
inline void TileBf16(const uint16_t* a, int64_t a_stride, const uint16_t* b, int64_t inner, const float* bias,
                     int64_t cols, float* c, int64_t c_stride) {
  Vec sum[R][kVecs] = {};
  for (int64_t k = 0; k < inner; k += 2) {
    const __m512bh b0 = (__m512bh)_mm512_loadu_si512(b + k * kPanel);
    const __m512bh b1 = (__m512bh)_mm512_loadu_si512(b + k * kPanel + 32);
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      const __m512bh av = (__m512bh)_mm512_set1_epi32(*reinterpret_cast<const PairAnywhere*>(a + r * a_stride + k));
      sum[r][0] = (Vec)_mm512_dpbf16_ps((__m512)sum[r][0], av, b0);
      sum[r][1] = (Vec)_mm512_dpbf16_ps((__m512)sum[r][1], av, b1);
    }
  }
  StoreTile<R, kVecs>(sum, bias, cols, c, c_stride);
}

void MatmulBf16(const uint16_t* a, int64_t a_stride, int64_t rows, const uint16_t* panels, int64_t inner, int64_t cols,
                const float* bias, float* c, int64_t c_stride) {
  ForEachTile(a, a_stride, rows, panels, inner, cols, bias, c, c_stride, 2,
              [&](int64_t count, const uint16_t* ta, const uint16_t* tb, const float* tbias, int64_t tcols, float* tc) {
                WithTile<kRows, kVecs>(count, kTileCols, [&]<int R, int>() {
                  TileBf16<R>(ta, a_stride, tb, inner, tbias, tcols, tc, c_stride);
                });
              });
}

// The general form, and the one that attention packs values with: columns one after the other, rows in pairs.
void PackBf16(const uint16_t* src, int64_t inner_stride, int64_t col_stride, int64_t inner, int64_t cols,
              uint16_t* panels) {
  for (int64_t col = 0; col < cols; col += kPanel) {
    const int64_t width = cols - col < kPanel ? cols - col : kPanel;
    for (int64_t k = 0; k < inner; k += 2, panels += 2 * kPanel) {
      const uint16_t* even = src + k * inner_stride + col * col_stride;
      const bool has_odd = k + 1 < inner;
      if (width == kPanel && has_odd && inner_stride == 1) {  // pairs lie together: 32-bit moves
        for (int64_t j = 0; j < kPanel; ++j) {
          reinterpret_cast<PairAnywhere*>(panels)[j] = *reinterpret_cast<const PairAnywhere*>(even + j * col_stride);
        }
        continue;
      }
      if (width == kPanel && has_odd && col_stride == 1) {  // interleave two rows
        const __m512i lo = _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(even)));
        const __m512i lo2 = _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(even + 16)));
        const uint16_t* odd = even + inner_stride;
        const __m512i hi = _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(odd)));
        const __m512i hi2 = _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(odd + 16)));
        _mm512_storeu_si512(panels, _mm512_or_si512(lo, _mm512_slli_epi32(hi, 16)));
        _mm512_storeu_si512(panels + 32, _mm512_or_si512(lo2, _mm512_slli_epi32(hi2, 16)));
        continue;
      }
      for (int64_t j = 0; j < kPanel; ++j) {
        panels[2 * j] = j < width ? even[j * col_stride] : uint16_t{0};
        panels[2 * j + 1] = j < width && has_odd ? even[inner_stride + j * col_stride] : uint16_t{0};
      }
    }
  }
}

void RoundBf16(const float* x, int64_t n, uint16_t* out) {
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) {
    const __m256bh rounded = _mm512_cvtneps_pbh(_mm512_loadu_ps(x + i));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + i), (__m256i)rounded);
  }
  if (i < n) {
    const __mmask16 mask = static_cast<__mmask16>((1u << (n - i)) - 1);
    const __m256bh rounded = _mm512_cvtneps_pbh(_mm512_maskz_loadu_ps(mask, x + i));
    _mm256_mask_storeu_epi16(out + i, mask, (__m256i)rounded);
  }
}

}  // namespace

FloatMatmulFns FloatMatmulTable() { return {kPanel, PackF32, MatmulF32, PackBf16, MatmulBf16, RoundBf16}; }
}  // namespace lectern::nn::avx512bf16
