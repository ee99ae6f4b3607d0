// Any bytes as a safetensors file, and as its index.
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "base/check.h"
#include "decoder/model_file/safetensors.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace lectern::model_file;
  std::vector<TensorInfo> tensors;
  if (ParseSafetensors({reinterpret_cast<const std::byte*>(data), size}, &tensors).ok()) {
    uint64_t total = 0;
    for (const TensorInfo& tensor : tensors) total += tensor.bytes.size();
    CHECK(total < size);
  } else {
    CHECK(tensors.empty());
  }
  const auto index = ParseShardIndex({reinterpret_cast<const char*>(data), size});
  if (index.ok()) {
    for (const ShardEntry& entry : *index) CHECK(IsPlainFileName(entry.file));
  }
  return 0;
}
