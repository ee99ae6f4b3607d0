// index/cpu/bert_kernels.h: the row operations of a BERT network, one table a CPU target. Plain C++ only.
//
// Every function computes a row from that row alone, in a fixed order, so that a text gets the same bits in any batch.
#pragma once

#include <cstdint>

namespace lectern::index {

struct BertKernels {
  // out = (v - mean) / sqrt(variance + eps) * weight + bias with v = x + add, row by row; add may be null, out may be x.
  void (*layer_norm)(const float* x, const float* add, int64_t rows, int64_t cols, const float* weight, const float* bias,
                     float eps, float* out);
  // x = x * Phi(x), the exact form through erf: absolute error below 1e-7 * max(1, |x|).
  void (*gelu)(float* x, int64_t n);
  // Rows of scores to rows of weights that sum to one: exp(scale * (x - max)) / sum over the first `cols`; the rest up to
  // `stride` becomes zero. REQUIRES: stride a multiple of 16.
  void (*softmax)(float* x, int64_t rows, int64_t cols, int64_t stride, float scale);
  // out = the sum of three rows (word, position, token type).
  void (*add3)(const float* a, const float* b, const float* c, int64_t n, float* out);
  // out = mean over rows, each column summed from the first row to the last.
  void (*mean)(const float* x, int64_t rows, int64_t cols, float* out);
};

namespace scalar { BertKernels BertTable(); }
namespace avx2 { BertKernels BertTable(); }
namespace avx512 { BertKernels BertTable(); }

const BertKernels& ActiveBertKernels();  // of ActiveCpuTarget()

}  // namespace lectern::index
