// Any bytes as config.json.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "decoder/model_file/metadata.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  lectern::model_file::Metadata metadata;
  (void)lectern::model_file::ParseConfig({reinterpret_cast<const char*>(data), size}, &metadata);
  for (const char* key : {"hidden_size", "architectures", "rope_scaling.factor", "eos_token_id"}) {
    (void)metadata.Int(key).status();
    (void)metadata.Number(key).status();
    (void)metadata.Bool(key).status();
    (void)metadata.Strings(key).status();
    (void)metadata.Ints(key).status();
  }
  return 0;
}
