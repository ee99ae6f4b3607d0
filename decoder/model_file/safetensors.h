// decoder/model_file/safetensors.h: the safetensors container.
//
//   std::vector<TensorInfo> tensors;
//   RETURN_IF_ERROR(ParseSafetensors(map.bytes(), &tensors));
//
// Shapes:  tensors in the header's order; their bytes point into the input. Extents of 0 and scalars are allowed.
// Threads: a pure function.
// Errors:  kDataLoss (truncated, overflowing, overlapping, misaligned, holes, malformed header); kUnimplemented
//          names an element type that is none of F32 F16 BF16 I64 I32 I8 U8.
// Cost:    parses the header (100 MB at most, the format's own limit); no tensor byte is read.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "decoder/model_file/model_file.h"

namespace lectern::model_file {

absl::Status ParseSafetensors(std::span<const std::byte> bytes, std::vector<TensorInfo>* tensors);  // appends

struct ShardEntry {
  std::string tensor, file;  // a file name, never a path
};
// model.safetensors.index.json: which file holds which tensor.
absl::StatusOr<std::vector<ShardEntry>> ParseShardIndex(std::string_view json);
bool IsPlainFileName(std::string_view name);

}  // namespace lectern::model_file
