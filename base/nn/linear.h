// base/nn/linear.h: y = x W^T over a weight matrix that keeps its quantised form.
//
//   ASSIGN_OR_RETURN(Linear w, Linear::Pack(DType::kQ4_K, bytes, rows, cols, Arithmetic::kFast, pool));
//   w.Apply(x, n, y, pool, scratch);            // x [n, cols] float, y [n, rows] float
//   w.DequantizeRow(token, out);                // embedding tables
//
// Shapes:  W is [rows = out features, cols = in features], row-major in the file; x, y row-major float.
// Threads: immutable after Pack; Apply uses the pool it is given; one LinearScratch per concurrent caller.
// Errors:  kInvalidArgument (bytes do not match the shape), kUnimplemented (type).
//          A result does not depend on n, on the other matrices of ApplyMany (at most 8), nor on the thread count.
// Cost:    n = 1 streams the packed weights once (memory-bound); large n is blocked for the caches.
//          kExact computes in float32 on the dequantised weights (the golden path); kFast rounds activations to
//          16 bits in blocks of 32 (quantised types) or to bf16 (float types) and runs the best kernel of ActiveCpuTarget().
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/dtype.h"
#include "base/status.h"
#include "base/thread_pool.h"

namespace lectern::nn {

enum class Arithmetic { kExact, kFast };

class LinearScratch {  // grows on first use, never shrinks; reuse it so that the hot loop does not allocate
 public:
  std::vector<std::byte> bytes;
};

class Linear {
 public:
  // Repacks for the active CPU target (kFast) or copies (kExact); `bytes` are not needed afterwards.
  static absl::StatusOr<Linear> Pack(DType type, std::span<const std::byte> bytes, int64_t rows, int64_t cols,
                                     Arithmetic arithmetic, ThreadPool& pool);
  // Keeps a view of `bytes`, which must outlive it, and copies nothing: an embedding table of which few rows are read.
  // Apply works as under kExact.
  static absl::StatusOr<Linear> Refer(DType type, std::span<const std::byte> bytes, int64_t rows, int64_t cols);
  Linear();
  Linear(Linear&&) noexcept;
  Linear& operator=(Linear&&) noexcept;
  ~Linear();

  int64_t rows() const;
  int64_t cols() const;
  int64_t packed_bytes() const;
  void Apply(const float* x, int64_t n, float* y, ThreadPool& pool, LinearScratch& scratch) const;
  // Several matrices over the same x (q, k, v; gate, up): activations are rounded once.
  static void ApplyMany(std::span<const Linear* const> weights, const float* x, int64_t n, std::span<float* const> ys,
                        ThreadPool& pool, LinearScratch& scratch);
  void DequantizeRow(int64_t row, float* out) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace lectern::nn
