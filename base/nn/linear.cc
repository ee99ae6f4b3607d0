#include "base/nn/linear.h"

#include <algorithm>
#include <atomic>
#include <functional>

#include "base/check.h"
#include "base/cpu_target.h"
#include "base/nn/cpu/linear_kernels.h"
#include "base/nn/dequantize.h"
#include "base/nn/matmul_plan.h"
#include "base/nn/pack.h"

namespace lectern::nn {

struct Linear::Impl {
  DType type = DType::kF32;
  int64_t rows = 0, cols = 0;
  const LinearKernels* kernels = nullptr;
  PackedMatrix packed;                    // kFast
  std::vector<std::byte> copy;            // kExact
  std::span<const std::byte> source;      // kExact: `copy`, or the caller's bytes (Refer)
  bool is_exact() const { return !source.empty(); }

  MatmulOperand Operand() const {
    MatmulOperand operand;
    if (is_exact()) {
      operand.source = source.data();
      operand.type = type;
      operand.rows = rows;
      operand.cols = cols;
    } else {
      operand.packed = &packed;
      operand.rows = rows;
      operand.cols = cols;
    }
    return operand;
  }
};

Linear::Linear() = default;
Linear::Linear(Linear&&) noexcept = default;
Linear& Linear::operator=(Linear&&) noexcept = default;
Linear::~Linear() = default;

absl::StatusOr<Linear> Linear::Pack(DType type, std::span<const std::byte> bytes, int64_t rows, int64_t cols,
                                    Arithmetic arithmetic, ThreadPool& pool) {
  if (arithmetic == Arithmetic::kExact) {
    ASSIGN_OR_RETURN(Linear linear, Refer(type, bytes, rows, cols));
    linear.impl_->copy.assign(bytes.begin(), bytes.end());
    linear.impl_->source = linear.impl_->copy;
    return linear;
  }
  RETURN_IF_ERROR(CheckMatrix(type, bytes, rows, cols));
  Linear linear;
  linear.impl_ = std::make_unique<Impl>();
  Impl& impl = *linear.impl_;
  impl.type = type;
  impl.rows = rows;
  impl.cols = cols;
  impl.kernels = &ActiveLinearKernels();
  ASSIGN_OR_RETURN(impl.packed, PackMatrix(type, bytes, rows, cols, PackFormatOf(type), pool));
  return linear;
}

absl::StatusOr<Linear> Linear::Refer(DType type, std::span<const std::byte> bytes, int64_t rows, int64_t cols) {
  RETURN_IF_ERROR(CheckMatrix(type, bytes, rows, cols));
  Linear linear;
  linear.impl_ = std::make_unique<Impl>();
  Impl& impl = *linear.impl_;
  impl.type = type;
  impl.rows = rows;
  impl.cols = cols;
  impl.kernels = &ActiveLinearKernels();
  impl.source = bytes;
  return linear;
}

int64_t Linear::rows() const { return impl_ == nullptr ? 0 : impl_->rows; }
int64_t Linear::cols() const { return impl_ == nullptr ? 0 : impl_->cols; }
int64_t Linear::packed_bytes() const {
  if (impl_ == nullptr) return 0;
  return impl_->packed.bytes.size() + static_cast<int64_t>(impl_->copy.size());
}

void Linear::Apply(const float* x, int64_t n, float* y, ThreadPool& pool, LinearScratch& scratch) const {
  const Linear* self = this;
  ApplyMany({&self, 1}, x, n, {&y, 1}, pool, scratch);
}

void Linear::ApplyMany(std::span<const Linear* const> weights, const float* x, int64_t n, std::span<float* const> ys,
                       ThreadPool& pool, LinearScratch& scratch) {
  CHECK(weights.size() == ys.size() && weights.size() <= kMaxOperands);
  if (weights.empty() || n <= 0) return;
  MatmulOperand operands[kMaxOperands];
  for (size_t i = 0; i < weights.size(); ++i) {
    CHECK(weights[i]->impl_ != nullptr && weights[i]->cols() == weights[0]->cols());
    CHECK(weights[i]->impl_->kernels == weights[0]->impl_->kernels);
    operands[i] = weights[i]->impl_->Operand();
    operands[i].y = ys[i];
  }
  Matmul(*weights[0]->impl_->kernels, {operands, weights.size()}, x, n, pool, scratch.bytes);
}

void Linear::DequantizeRow(int64_t row, float* out) const {
  CHECK(impl_ != nullptr && row >= 0 && row < impl_->rows);
  if (!impl_->is_exact()) return UnpackRow(impl_->packed, row, out);
  Dequantize(impl_->type, impl_->source.data() + row * RowBytes(impl_->type, impl_->cols), impl_->cols, out);
}

}  // namespace lectern::nn
