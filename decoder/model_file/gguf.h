// decoder/model_file/gguf.h: the GGUF container, versions 2 and 3, little-endian.
//
//   ASSIGN_OR_RETURN(GgufContents contents, ParseGguf(map.bytes()));
//
// Shapes:  tensors in file order, shapes outermost first; their bytes point into the input.
// Threads: a pure function.
// Errors:  kDataLoss with the offset (truncated, overflowing, overlapping, misaligned, twice the same name);
//          kUnimplemented naming the version, value type or tensor type; split files.
// Cost:    one walk over the header; no tensor byte is read. What it allocates is bounded by the file's size.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "base/status.h"
#include "decoder/model_file/metadata.h"
#include "decoder/model_file/model_file.h"

namespace lectern::model_file {

struct GgufContents {
  Metadata metadata;
  std::vector<TensorInfo> tensors;
};

absl::StatusOr<GgufContents> ParseGguf(std::span<const std::byte> bytes);

}  // namespace lectern::model_file
