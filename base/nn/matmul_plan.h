// base/nn/matmul_plan.h: one product y = x W^T for several W: rounds x once, cuts the panels into work, runs the kernels.
//
//   Matmul(kernels, operands, x, n, pool, scratch);
//
// Shapes:  x [n, cols]; each operand's y [n, rows]; all operands share cols.
// Threads: uses all threads of the pool; work is taken from a counter, so a slow core takes less. Every result is
//          computed whole by one thread: bits do not depend on the number of threads.
// Errors:  none; shapes are checked by Linear.
// Cost:    one fork and join for n up to a tile of tokens, two above; no allocation once `scratch` has grown.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/dtype.h"
#include "base/nn/cpu/linear_kernels.h"
#include "base/nn/pack.h"
#include "base/thread_pool.h"

namespace lectern::nn {

constexpr size_t kMaxOperands = 8;

struct MatmulOperand {
  const PackedMatrix* packed = nullptr;  // or, dequantised on the fly:
  const std::byte* source = nullptr;
  DType type = DType::kF32;
  int64_t rows = 0, cols = 0;
  float* y = nullptr;
  const float* bias = nullptr;  // float formats only
};

void Matmul(const LinearKernels& kernels, std::span<const MatmulOperand> operands, const float* x, int64_t n,
            ThreadPool& pool, std::vector<std::byte>& scratch);

}  // namespace lectern::nn
