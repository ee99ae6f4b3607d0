// base/nn/activations.h: the element-wise functions between the matrices, softmax, log-sum-exp and argmax.
//
//   SiluMul(gate, up, n, out);                       // SwiGLU
//   GeluTanhMul(gate, up, n, out);                   // Gemma's GeGLU
//   const int64_t token = ArgMax(logits, vocab);
//
// Shapes:  n floats each; out may be any of the inputs.
// Threads: any; pure functions.
// Errors:  none. Softmax of nothing but -inf is all zeros, never NaN.
// Cost:    one vectorised pass (softmax: three; argmax, log-sum-exp: two); exp within 2 ulp, erf within 2e-7.
#pragma once

#include <cstdint>

namespace lectern::nn {

void SiluMul(const float* gate, const float* up, int64_t n, float* out);      // gate / (1 + e^-gate) * up
void GeluTanhMul(const float* gate, const float* up, int64_t n, float* out);  // tanh form of GELU, times up
void GeluErf(const float* x, int64_t n, float* out);                          // x / 2 * (1 + erf(x / sqrt 2))
void GeluTanh(const float* x, int64_t n, float* out);
void Add(const float* a, const float* b, int64_t n, float* out);              // residuals and biases
void Softmax(float* x, int64_t n);                                            // in place
double LogSumExp(const float* x, int64_t n);                                  // log(sum(e^x)); -inf of nothing but -inf
// The index of the greatest value, the lowest of equals; NaN never wins. -1 where n is 0 or all are NaN.
int64_t ArgMax(const float* x, int64_t n);

}  // namespace lectern::nn
