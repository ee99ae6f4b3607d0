// Against the `tokenizers` package: data/golden/tokenizers.json.xz, made by scripts/make_golden_tokenizers.py.
#include <gtest/gtest.h>
#include <unicode/uchar.h>

#include "base/json.h"
#include "decoder/tokenizer/split.h"
#include "decoder/tokenizer/tokenizer.h"
#include "decoder/tokenizer/unicode.h"
#include "tests/support/temp_dir.h"

namespace lectern::tokenizer {
namespace {

Json Golden() {
  const std::string text = testing::ReadXz(testing::SourcePath("data/golden/tokenizers.json.xz"));
  auto json = ParseJson(text);
  EXPECT_TRUE(json.ok()) << json.status();
  return *json;
}

// Calls f(code point, value) for every code point of a run-length encoded golden; surrogates are left out. A character
// younger than this ICU is a symbol to us and may be a letter to the reference.
template <class F>
void ForEachKnownCodePoint(const Json& runs, const F& f) {
  char32_t c = 0;
  for (const Json& run : runs) {
    const auto value = run[1].get<std::vector<int32_t>>();
    for (const char32_t last = run[0].get<uint32_t>(); c <= last; ++c) {
      if (c >= 0xD800 && c < 0xE000) continue;
      if (u_charType(static_cast<UChar32>(c)) == U_UNASSIGNED) continue;
      f(c, value);
    }
  }
  EXPECT_EQ(c, 0x110000u);
}

class GoldenBpe : public ::testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(Rules, GoldenBpe, ::testing::Values("llama3", "qwen2"));

TEST_P(GoldenBpe, EqualsTheTokenizersPackageOnATrainedVocabulary) {
  const Json golden = Golden()["bpe"][GetParam()];
  auto tokenizer = Tokenizer::FromJson(DumpJson(golden["tokenizer"]));
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  EXPECT_EQ(golden["vectors"].size(), 900u);
  for (const Json& vector : golden["vectors"]) {
    const std::string text = vector[0];
    const auto wanted = vector[1].get<std::vector<int32_t>>();
    // The package always recognises special tokens.
    std::vector<TokenOffset> offsets;
    EXPECT_EQ((*tokenizer)->EncodeWithOffsets(text, {.parse_special = true, .add_special = true}, &offsets), wanted) << text;
    int64_t at = 0;
    for (const TokenOffset& offset : offsets) {
      if (offset.begin == 0 && offset.end == 0) continue;
      EXPECT_EQ(offset.begin, at) << text;
      at = offset.end;
    }
    EXPECT_EQ(at, static_cast<int64_t>(text.size())) << text;
  }
}

// The same vocabulary as a GGUF file keeps it.
TEST_P(GoldenBpe, GivesTheSameIdsFromAGgufSpec) {
  const Json golden = Golden()["bpe"][GetParam()];
  const Json& model = golden["tokenizer"]["model"];
  GgufTokenizerSpec spec;
  spec.model = "gpt2";
  spec.pre = GetParam() == std::string("llama3") ? "llama-bpe" : "qwen2";
  const Json& added = golden["tokenizer"]["added_tokens"];
  spec.tokens.resize(model["vocab"].size() + added.size());
  spec.token_types.assign(spec.tokens.size(), 1);
  for (const auto& [token, id] : model["vocab"].items()) spec.tokens[id.get<size_t>()] = token;
  for (const Json& token : added) {
    spec.tokens[token["id"].get<size_t>()] = token["content"];
    spec.token_types[token["id"].get<size_t>()] = token["special"].get<bool>() ? 3 : 4;
  }
  for (const Json& merge : model["merges"]) {
    spec.merges.push_back(merge.is_string() ? merge.get<std::string>()
                                            : merge[0].get<std::string>() + " " + merge[1].get<std::string>());
  }
  auto from_spec = Tokenizer::FromSpec(spec);
  ASSERT_TRUE(from_spec.ok()) << from_spec.status();
  auto from_json = Tokenizer::FromJson(DumpJson(golden["tokenizer"]));
  ASSERT_TRUE(from_json.ok()) << from_json.status();
  for (const Json& vector : golden["vectors"]) {
    const std::string text = vector[0];
    const std::vector<int32_t> ids = (*from_spec)->Encode(text, {.parse_special = true});
    EXPECT_EQ((*from_spec)->Decode((*from_spec)->Encode(text)), text);
    if (GetParam() == std::string("qwen2")) continue;  // its tokenizer.json asks for NFC, a GGUF file cannot
    EXPECT_EQ((*from_json)->Encode(text, {.parse_special = true}), ids) << text;
  }
}

class GoldenSplit : public ::testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(Rules, GoldenSplit, ::testing::Values("llama3", "qwen2", "smollm"));

TEST_P(GoldenSplit, CutsEveryCodePointAsTheRegularExpressionDoes) {
  const Json golden = Golden()["split"][GetParam()];
  const SplitRule rule = *SplitRuleNamed(GetParam());
  int different = 0;
  ForEachKnownCodePoint(golden, [&](char32_t c, const std::vector<int32_t>& wanted) {
    std::string text = "a";
    AppendUtf8(c, &text);
    AppendUtf8(c, &text);
    text += "1 ";
    AppendUtf8(c, &text);
    text += "\n";
    std::vector<int32_t> got;  // characters a word
    for (size_t at = 0; at < text.size();) {
      const size_t end = WordEnd(rule, text, at);
      int32_t characters = 0;
      for (; at < end; at += NextCodePoint(text, at).bytes) ++characters;
      got.push_back(characters);
    }
    if (got != wanted && ++different < 10) ADD_FAILURE() << "U+" << std::hex << static_cast<uint32_t>(c);
  });
  EXPECT_EQ(different, 0);
}

TEST(GoldenWordPiece, NormalisesEveryCodePointAsTheTokenizersPackageDoes) {
  const Json golden = Golden()["wordpiece"];
  auto tokenizer = Tokenizer::FromJson(DumpJson(golden["tokenizer"]));
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  int different = 0;
  std::string text;
  ForEachKnownCodePoint(golden["runs"], [&](char32_t c, const std::vector<int32_t>& wanted) {
    text = "a";
    AppendUtf8(c, &text);
    text += "b";
    if ((*tokenizer)->Encode(text) != wanted && ++different < 10) ADD_FAILURE() << "U+" << std::hex << static_cast<uint32_t>(c);
  });
  EXPECT_EQ(different, 0);
}

}  // namespace
}  // namespace lectern::tokenizer
