// Any bytes as tokenizer.json: a status, or a tokenizer whose ids lie in its vocabulary.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/check.h"
#include "decoder/tokenizer/tokenizer.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace lectern::tokenizer;
  const std::string_view json(reinterpret_cast<const char*>(data), size);
  const auto tokenizer = Tokenizer::FromJson(json, json);
  if (!tokenizer.ok()) return 0;
  for (const bool special : {false, true}) {
    const std::vector<int32_t> ids = (*tokenizer)->Encode("the caf\xC3\xA9 <|im_end|>[SEP] \xFF\n", {special, special});
    for (const int32_t id : ids) CHECK(id >= 0 && id < (*tokenizer)->vocab_size());
    (void)(*tokenizer)->Decode(ids);
  }
  return 0;
}
