// index/vector_table.h: the vectors of a segment as float32 and as bytes, in memory or in a mapped vectors.bin.
//
//   ASSIGN_OR_RETURN(VectorTable table, VectorTable::Make(std::move(vectors), dim, pool));
//   const CodedQuery query(table, q);
//   float score = table.Dot(q, row);                  // exact; |score - approximate| <= the bound
//
// Shapes:  vectors [rows, dim] float32; codes [rows, code_bytes] with x = scale * (code - 128) + residual vector, whose
//          length is kept: |q x - approximate| <= |q| residual + |query residual| norm, a bound and not an estimate.
// Threads: immutable; any thread.
// Errors:  kInvalidArgument (dim, a value that is not finite: row and column), kDataLoss (file).
// Cost:    5.03 bytes a value where dim is a multiple of 64; Open maps and reads nothing but the checksum's pass.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "base/status.h"
#include "base/thread_pool.h"
#include "index/cpu/dense_kernels.h"
#include "index/data_directory.h"

namespace lectern::index {

inline constexpr int64_t kMaxDenseDim = 16384;
inline constexpr float kMaxDenseValue = 1e6f;  // products of such rows stay finite

class VectorTable {
 public:
  static absl::StatusOr<VectorTable> Make(std::vector<float> vectors, int64_t dim, ThreadPool& pool);
  static absl::StatusOr<VectorTable> Open(SegmentFiles& files, std::string_view name = "vectors.bin");
  absl::StatusOr<FileEntry> Write(SegmentFolder& folder, std::string_view name = "vectors.bin") const;

  int64_t rows() const { return rows_; }
  int64_t dim() const { return dim_; }
  int64_t code_bytes() const { return code_bytes_; }  // dim rounded up to 64
  const float* Row(int64_t row) const { return vectors_ + row * dim_; }
  const uint8_t* codes() const { return codes_; }
  const float* scale() const { return scale_; }        // [rows]
  const float* residual() const { return residual_; }  // [rows]
  const float* norm() const { return norm_; }          // [rows]: length of scale * (code - 128)
  float Dot(const float* query, int64_t row) const { return kernels_->dot(query, Row(row), dim_); }
  const DenseKernels& kernels() const { return *kernels_; }

  VectorTable(VectorTable&&) noexcept = default;
  VectorTable& operator=(VectorTable&&) noexcept = default;

 private:
  VectorTable();
  int64_t rows_ = 0, dim_ = 0, code_bytes_ = 0;
  const float *vectors_ = nullptr, *scale_ = nullptr, *residual_ = nullptr, *norm_ = nullptr;
  const uint8_t* codes_ = nullptr;
  const DenseKernels* kernels_;
  // What the pointers lead into: either the four, or the mapping.
  std::vector<float> owned_vectors_, owned_sides_;
  std::vector<uint8_t> owned_codes_;
  MappedFile map_;
};

struct CodedQuery {
  CodedQuery(const VectorTable& table, std::span<const float> query);
  std::vector<int8_t> codes;  // [code_bytes]
  float scale = 0;
  int32_t offset = 0;         // 128 * sum of codes
  float by_residual = 0, by_norm = 0;  // |approximate - Dot| <= by_residual * residual + by_norm * norm, rounding included
};

}  // namespace lectern::index
