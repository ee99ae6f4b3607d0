// base/nn/pack.h: a weight matrix in the packed form the kernels read (cpu/linear_kernels.h describes the bytes).
//
//   ASSIGN_OR_RETURN(PackedMatrix m, PackMatrix(DType::kQ5_0, bytes, rows, cols, PackFormatOf(DType::kQ5_0), pool));
//
// Shapes:  bytes: the file's rows, RowBytes(type, cols) each.
// Threads: immutable once packed.
// Errors:  kInvalidArgument (size, shape), kUnimplemented (type), kResourceExhausted (memory).
// Cost:    reads the file's bytes once, about 1 ns a weight and thread; the packed form is within 3 % of the file's.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "base/dtype.h"
#include "base/nn/cpu/linear_kernels.h"
#include "base/status.h"
#include "base/thread_pool.h"

namespace lectern::nn {

// Bytes of no known value, aligned to 64; from 2 MiB on aligned to and advised for large pages, so that a stream of weights
// rarely misses the page cache of the processor.
class AlignedBytes {
 public:
  static absl::StatusOr<AlignedBytes> Allocate(int64_t size);
  uint8_t* data() const { return data_.get(); }
  int64_t size() const { return size_; }

 private:
  struct Free {
    void operator()(uint8_t* p) const;
  };
  std::unique_ptr<uint8_t[], Free> data_;
  int64_t size_ = 0;
};

struct PackedMatrix {
  PackFormat format = PackFormat::kF32;
  int64_t rows = 0, cols = 0;
  int64_t panels = 0;       // of 16 rows
  int64_t code_bytes = 0;   // of one panel; its scales follow
  int64_t panel_bytes = 0;  // a multiple of 64
  AlignedBytes bytes;

  const uint8_t* Panel(int64_t panel) const { return bytes.data() + panel * panel_bytes; }
  int PanelRows(int64_t panel) const {
    return static_cast<int>(rows - panel * kPanelRows < kPanelRows ? rows - panel * kPanelRows : kPanelRows);
  }
  bool IsQuantised() const { return format < PackFormat::kBf16; }
};

absl::Status CheckMatrix(DType type, std::span<const std::byte> bytes, int64_t rows, int64_t cols);
PackFormat PackFormatOf(DType type);  // bf16 for the float types
absl::StatusOr<PackedMatrix> PackMatrix(DType type, std::span<const std::byte> bytes, int64_t rows, int64_t cols,
                                        PackFormat format, ThreadPool& pool);
// Sixteen rows of any type as one fp32 panel [col][16]; rows past `rows` become zeros.
void DequantizePanel(DType type, const std::byte* bytes, int64_t rows, int64_t cols, float* row_buffer, float* out);
// One row of a packed matrix back to float. Quantised formats are exact; kBf16 gives the rounded weights.
void UnpackRow(const PackedMatrix& m, int64_t row, float* out);

}  // namespace lectern::nn
