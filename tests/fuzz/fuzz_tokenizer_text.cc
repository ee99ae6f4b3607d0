// Any bytes as text for each tokenizer: offsets in order, and the bytes back where the tokenizer promises them.
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/check.h"
#include "decoder/tokenizer/tokenizer.h"
#include "tests/decoder/small_models.h"

namespace {
using namespace lectern::tokenizer;

std::unique_ptr<Tokenizer> Bpe(const char* pre) {
  GgufTokenizerSpec spec;
  spec.model = "gpt2";
  spec.pre = pre;
  spec.tokens = lectern::testing::ByteAlphabetTokens();
  for (const char* token : {"th", "the", "\xC4\xA0t", "\xC4\xA0the", "\xC4\x8A\xC4\x8A"}) spec.tokens.emplace_back(token);
  spec.merges = {"t h", "th e", "\xC4\xA0 t", "\xC4\xA0 the", "\xC4\x8A \xC4\x8A"};
  auto tokenizer = Tokenizer::FromSpec(spec);
  CHECK(tokenizer.ok());
  return *std::move(tokenizer);
}

void Check(const Tokenizer& tokenizer, std::string_view text, bool lossless) {
  std::vector<TokenOffset> offsets;
  const std::vector<int32_t> ids = tokenizer.EncodeWithOffsets(text, {}, &offsets);
  CHECK(ids.size() == offsets.size());
  int64_t at = 0;
  for (const TokenOffset& offset : offsets) {
    CHECK(offset.begin <= offset.end && offset.end <= static_cast<int64_t>(text.size()));
    if (lossless) CHECK(offset.begin == at);
    at = offset.end;
  }
  if (lossless) CHECK(tokenizer.Decode(ids) == text);
}
}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const std::unique_ptr<Tokenizer> qwen = Bpe("qwen2"), smollm = Bpe("smollm"), llama = Bpe("llama-bpe");
  static const std::unique_ptr<Tokenizer> wordpiece = *Tokenizer::FromJson(lectern::testing::SmallWordPieceJson());
  static const std::unique_ptr<Tokenizer> nfc = *Tokenizer::FromJson(lectern::testing::SmallBpeJson());
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  Check(*qwen, text, true);
  Check(*smollm, text, true);
  Check(*llama, text, true);
  Check(*wordpiece, text, false);
  Check(*nfc, text, false);
  return 0;
}
