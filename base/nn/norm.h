// base/nn/norm.h: RMS norm and layer norm over the last axis.
//
//   RmsNorm(x, tokens, model_dim, weight, /*epsilon=*/1e-6f, y);
//   LayerNorm(x, tokens, model_dim, weight, bias, 1e-12f, y);
//
// Shapes:  x, y [token, dim] float, row-major; weight, bias [dim]. y may be x. A null weight is all ones, a null
//          bias all zeros. Gemma's (1 + weight) is the loader's business.
// Threads: any; pure functions.
// Errors:  none.
// Cost:    two passes over each row; sums in fp32 over 16 lanes.
#pragma once

#include <cstdint>

namespace lectern::nn {

// y = x / sqrt(mean(x^2) + epsilon) * weight.
void RmsNorm(const float* x, int64_t tokens, int64_t dim, const float* weight, float epsilon, float* y);
// y = (x - mean) / sqrt(variance + epsilon) * weight + bias.
void LayerNorm(const float* x, int64_t tokens, int64_t dim, const float* weight, const float* bias, float epsilon,
               float* y);

}  // namespace lectern::nn
