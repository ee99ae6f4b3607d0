// base/nn/float_matmul.h: c = a b + bias in float32 or bf16; a row gets the same bits whatever rows stand beside it.
//
//   const FloatMatmul& matmul = ActiveFloatMatmul();
//   std::vector<float> panels(matmul.PanelElements(in, out));                 // a linear layer's weight [out, in]
//   matmul.pack_f32(weight, /*inner_stride=*/1, /*col_stride=*/in, in, out, panels.data());
//   matmul.f32(x, in, rows, panels.data(), in, out, bias, y, out);            // y [rows, out]
//
// Shapes:  a [rows, inner] and c [rows, cols] row-major with their strides in elements; b [inner, cols] is kept as panels
//          of the target's panel_cols columns, each [inner, panel_cols] (bf16: [inner / 2, panel_cols, 2]). A panel starts at
//          a multiple of inner * panel_cols elements, so a thread may compute some panels only: offset panels, bias and c.
// Threads: pure functions; none takes a lock or a thread.
// Errors:  none; sizes are the caller's. REQUIRES: inner even for bf16, all counts >= 0.
// Cost:    2 * rows * inner * cols operations near the processor's FMA peak from about 8 rows on; fewer rows are bound
//          by reading the panels. Each element is one chain of fused multiply-adds over inner, in order, so bits do
//          not depend on rows, on the panels computed beside it, or on threads; they do depend on the CPU target.
#pragma once

#include <cstdint>
#include <span>

#include "base/cpu_target.h"

namespace lectern::nn {

struct FloatMatmul {
  CpuTarget target;
  int64_t panel_cols;   // as many vectors as fill the register file with the rows of a tile
  int64_t NumPanels(int64_t cols) const { return (cols + panel_cols - 1) / panel_cols; }
  int64_t PanelElements(int64_t inner, int64_t cols) const { return NumPanels(cols) * panel_cols * inner; }
  // b(k, j) = src[k * inner_stride + j * col_stride]; the columns that fill the last panel are zero.
  void (*pack_f32)(const float* src, int64_t inner_stride, int64_t col_stride, int64_t inner, int64_t cols, float* panels);
  // c[i, j] = bias[j] + sum_k a[i, k] b(k, j); a null bias is zero.
  void (*f32)(const float* a, int64_t a_stride, int64_t rows, const float* panels, int64_t inner, int64_t cols,
              const float* bias, float* c, int64_t c_stride);
  // The same with both operands rounded to bf16 and sums in float32; null where the target has no bf16 products.
  // pack_bf16 reads bf16; b's rows past `inner`, where it is odd, are zero, and `bf16` is then given inner + 1.
  void (*pack_bf16)(const uint16_t* src, int64_t inner_stride, int64_t col_stride, int64_t inner, int64_t cols,
                    uint16_t* panels);
  void (*bf16)(const uint16_t* a, int64_t a_stride, int64_t rows, const uint16_t* panels, int64_t inner, int64_t cols,
               const float* bias, float* c, int64_t c_stride);
  void (*round_bf16)(const float* x, int64_t n, uint16_t* out);  // to nearest even; NaN stays NaN
};

std::span<const FloatMatmul> AllFloatMatmuls();  // those this processor can run, best first
const FloatMatmul& ActiveFloatMatmul();          // of ActiveCpuTarget()

}  // namespace lectern::nn
