// decoder/model_file/tensor_layout.h: the checks every container makes before a tensor's bytes are used.
//
//   ASSIGN_OR_RETURN(int64_t bytes, TensorBytes(name, type, shape));
//   RETURN_IF_ERROR(CheckNoOverlap(tensors, file_begin));
//
// Shapes:  shape is outermost first.
// Threads: pure functions.
// Errors:  kDataLoss, naming the tensor and the numbers that do not fit.
// Cost:    CheckNoOverlap sorts the tensors.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/status.h"
#include "decoder/model_file/model_file.h"

namespace lectern::model_file {

// Bytes that a tensor takes; every product is checked in 64 bits.
absl::StatusOr<int64_t> TensorBytes(std::string_view name, DType type, std::span<const int64_t> shape);
absl::Status CheckNoOverlap(std::span<const TensorInfo> tensors, const std::byte* file_begin);

}  // namespace lectern::model_file
