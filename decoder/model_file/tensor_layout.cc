#include "decoder/model_file/tensor_layout.h"

#include <algorithm>

#include "decoder/model_file/metadata.h"

namespace lectern::model_file {

absl::StatusOr<int64_t> TensorBytes(std::string_view name, DType type, std::span<const int64_t> shape) {
  int64_t rows = 1;
  for (size_t axis = 0; axis + 1 < shape.size(); ++axis) {
    if (shape[axis] < 0 || __builtin_mul_overflow(rows, shape[axis], &rows)) {
      return DataLoss("tensor '", Printable(name), "': its extents multiply past 64 bits");
    }
  }
  const int64_t cols = shape.empty() ? 1 : shape.back();
  if (cols < 0 || cols % BlockSize(type) != 0) {
    return DataLoss("tensor '", Printable(name), "': rows of ", cols, " are no whole number of ", BlockSize(type),
                    "-element blocks of ", DTypeName(type));
  }
  int64_t row_bytes = 0, bytes = 0;
  if (__builtin_mul_overflow(cols / BlockSize(type), BlockBytes(type), &row_bytes) ||
      __builtin_mul_overflow(rows, row_bytes, &bytes)) {
    return DataLoss("tensor '", Printable(name), "': its size passes 64 bits");
  }
  return bytes;
}

absl::Status CheckNoOverlap(std::span<const TensorInfo> tensors, const std::byte* file_begin) {
  std::vector<const TensorInfo*> sorted;
  for (const TensorInfo& tensor : tensors) {
    if (!tensor.bytes.empty()) sorted.push_back(&tensor);
  }
  std::sort(sorted.begin(), sorted.end(),
            [](const TensorInfo* a, const TensorInfo* b) { return a->bytes.data() < b->bytes.data(); });
  for (size_t i = 1; i < sorted.size(); ++i) {
    const TensorInfo& before = *sorted[i - 1];
    const TensorInfo& after = *sorted[i];
    if (before.bytes.data() + before.bytes.size() > after.bytes.data()) {
      return DataLoss("tensors '", Printable(before.name), "' and '", Printable(after.name), "' overlap at byte ",
                      after.bytes.data() - file_begin);
    }
  }
  return absl::OkStatus();
}

}  // namespace lectern::model_file
