// Any bytes as a GGUF file: a status, or a parse whose every tensor byte and key can be read.
#include <cstddef>
#include <cstdint>

#include "base/check.h"
#include "decoder/model_file/gguf.h"

using lectern::model_file::Metadata;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto contents = lectern::model_file::ParseGguf({reinterpret_cast<const std::byte*>(data), size});
  if (!contents.ok()) {
    CHECK(!contents.status().message().empty());
    return 0;
  }
  uint64_t sum = 0;
  for (const auto& tensor : contents->tensors) {
    CHECK(!tensor.bytes.empty());
    sum += static_cast<uint64_t>(tensor.bytes.front()) + static_cast<uint64_t>(tensor.bytes.back());
  }
  const Metadata& metadata = contents->metadata;
  for (const char* key : {"general.architecture", "tokenizer.ggml.tokens", "tokenizer.ggml.scores", "tokenizer.ggml.token_type"}) {
    (void)metadata.String(key).status();
    (void)metadata.Strings(key).status();
    (void)metadata.Numbers(key).status();
    (void)metadata.Ints(key).status();
  }
  CHECK(sum <= 510 * contents->tensors.size());
  return 0;
}
