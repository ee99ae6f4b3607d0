#include "decoder/tokenizer/tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "base/json.h"
#include "base/rng.h"
#include "decoder/load_tokenizer.h"
#include "tests/support/temp_dir.h"

namespace lectern::tokenizer {
namespace {

using ::lectern::testing::ModelPath;
using ::lectern::testing::ReadBytes;
using ::lectern::testing::SharedPath;
using ::testing::ElementsAre;

struct Vector {
  std::string id, text;
  std::vector<int32_t> special, plain;
};

std::vector<Vector> VectorsOf(const std::string& path, const std::string& model) {
  std::vector<Vector> out;
  std::istringstream lines(ReadBytes(path));
  for (std::string line; std::getline(lines, line);) {
    auto row = ParseJson(line);
    EXPECT_TRUE(row.ok()) << row.status();
    const Json& ids = (*row)["ids"][model];
    Vector vector{(*row)["id"], (*row)["text"], ids["special"].get<std::vector<int32_t>>(), {}};
    vector.plain = ids.contains("plain") ? ids["plain"].get<std::vector<int32_t>>() : vector.special;
    out.push_back(std::move(vector));
  }
  return out;
}

TEST(WordPiece, EqualsTheTokenizersLibraryOnEveryVector) {
  const std::string vectors = SharedPath("fixtures/real-models/tokenizer_vectors.jsonl");
  const std::string json = ModelPath("all-minilm-l6-v2/tokenizer.json");
  LECTERN_NEED(vectors);
  LECTERN_NEED(json);
  auto tokenizer = Tokenizer::FromJson(ReadBytes(json));
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  const std::vector<Vector> all = VectorsOf(vectors, "minilm");
  EXPECT_EQ(all.size(), 454u);
  for (const Vector& v : all) {
    EXPECT_EQ((*tokenizer)->Encode(v.text, {.parse_special = true, .add_special = true}), v.special) << v.id;
    EXPECT_EQ((*tokenizer)->Encode(v.text, {.parse_special = true}), v.plain) << v.id;
  }
}

TEST(WordPiece, LeavesControlNamesInADocumentAsText) {
  const std::string json = ModelPath("all-minilm-l6-v2/tokenizer.json");
  LECTERN_NEED(json);
  auto tokenizer = Tokenizer::FromJson(ReadBytes(json));
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  for (const int32_t id : (*tokenizer)->Encode("see [CLS] and [SEP] here")) EXPECT_FALSE((*tokenizer)->IsControl(id));
}

// A GGUF model, and the ids that may differ in its `special` vectors: names llama.cpp takes for control tokens.
struct RealModel {
  const char* file;
  const char* name;
  std::vector<std::string> quirks;
};
const RealModel kRealModels[] = {
    {"qwen2.5-coder-0.5b-instruct-q4_k_m.gguf", "qwen2.5-coder-0.5b", {"</s>"}},
    {"smollm2-135m-instruct-q4_1.gguf", "smollm2-135m", {}},
    {"gemma3-270m-q4_k_m.gguf", "gemma3-270m", {}},
};

class RealTokenizer : public ::testing::TestWithParam<RealModel> {
 protected:
  void SetUp() override {
    const std::string path = ModelPath(GetParam().file);
    LECTERN_NEED(path);
    auto file = model_file::ModelFile::Open(path);
    ASSERT_TRUE(file.ok()) << file.status();
    auto tokenizer = decoder::LoadTokenizer(**file);
    ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
    tokenizer_ = *std::move(tokenizer);
  }
  // U+2581 is how SentencePiece spells a blank: it comes back as one.
  static bool HasBlankMark(const std::string& text) {
    return std::string(GetParam().name) == "gemma3-270m" && text.find("\xE2\x96\x81") != std::string::npos;
  }
  std::unique_ptr<Tokenizer> tokenizer_;
};
INSTANTIATE_TEST_SUITE_P(Models, RealTokenizer, ::testing::ValuesIn(kRealModels),
                         [](const auto& info) { return std::string(info.param.name).substr(0, 4); });

TEST_P(RealTokenizer, EqualsLlamaCppOnEveryVector) {
  const std::string vectors = SharedPath("fixtures/real-models/tokenizer_vectors.jsonl");
  LECTERN_NEED(vectors);
  const std::vector<Vector> all = VectorsOf(vectors, GetParam().name);
  EXPECT_EQ(all.size(), 454u);
  for (const Vector& v : all) {
    EXPECT_EQ(tokenizer_->Encode(v.text), v.plain) << v.id << " plain";
    bool quirk = false;
    for (const std::string& name : GetParam().quirks) quirk = quirk || v.text.find(name) != std::string::npos;
    if (quirk) continue;
    EXPECT_EQ(tokenizer_->Encode(v.text, {.parse_special = true}), v.special) << v.id << " special";
  }
}

TEST_P(RealTokenizer, DecodesWhatItEncodes) {
  const std::string vectors = SharedPath("fixtures/real-models/tokenizer_vectors.jsonl");
  LECTERN_NEED(vectors);
  for (const Vector& v : VectorsOf(vectors, GetParam().name)) {
    if (HasBlankMark(v.text)) continue;
    EXPECT_EQ(tokenizer_->Decode(tokenizer_->Encode(v.text)), v.text) << v.id;
  }
  // Any bytes at all, but those the vocabulary has no token for.
  std::set<char> missing;
  for (int byte = 0; byte < 256; ++byte) {
    const char text = static_cast<char>(byte);
    if (tokenizer_->Encode(std::string_view(&text, 1)).empty()) missing.insert(text);
  }
  EXPECT_EQ(missing.empty(), std::string(GetParam().name) != "smollm2-135m");
  for (uint64_t seed = 0; seed < 1000; ++seed) {
    Rng rng(seed, 0);
    std::string text;
    for (const int64_t length = rng.Below(60); static_cast<int64_t>(text.size()) < length;) {
      text.push_back(static_cast<char>(rng.Below(4) == 0 ? rng.Below(256) : " abc\n'1e<|>."[rng.Below(13)]));
    }
    std::erase_if(text, [&](char c) { return missing.contains(c); });
    EXPECT_EQ(tokenizer_->Decode(tokenizer_->Encode(text)), text) << seed;
  }
}

TEST_P(RealTokenizer, OffsetsCoverTheTextInOrder) {
  // SmolLM2 has no token for some bytes: there the text has gaps.
  const bool gaps = std::string(GetParam().name) == "smollm2-135m";
  const std::string vectors = SharedPath("fixtures/real-models/tokenizer_vectors.jsonl");
  LECTERN_NEED(vectors);
  for (const Vector& v : VectorsOf(vectors, GetParam().name)) {
    if (HasBlankMark(v.text)) continue;
    std::vector<TokenOffset> offsets;
    const std::vector<int32_t> ids = tokenizer_->EncodeWithOffsets(v.text, {}, &offsets);
    EXPECT_EQ(ids, v.plain);
    ASSERT_EQ(offsets.size(), ids.size());
    int64_t at = 0;
    for (size_t i = 0; i < ids.size(); ++i) {
      EXPECT_TRUE(offsets[i].begin == at || (gaps && offsets[i].begin > at)) << v.id;
      at = offsets[i].end;
      EXPECT_EQ(v.text.substr(offsets[i].begin, offsets[i].end - offsets[i].begin), tokenizer_->Piece(ids[i])) << v.id;
    }
    EXPECT_TRUE(gaps || at == static_cast<int64_t>(v.text.size())) << v.id;
  }
}

TEST_P(RealTokenizer, EndsTurnsWithItsOwnTokens) {
  for (const int32_t id : tokenizer_->end_ids()) {
    EXPECT_TRUE(tokenizer_->IsControl(id));
    EXPECT_EQ(tokenizer_->SpecialId(tokenizer_->SpecialName(id)), id);
    EXPECT_TRUE(tokenizer_->Piece(id).empty());
  }
  const bool gemma = std::string(GetParam().name) == "gemma3-270m";
  for (const char* name : gemma ? std::vector<const char*>{"<eos>", "<end_of_turn>"}
                                : std::vector<const char*>{"<|im_end|>", "<|endoftext|>"}) {
    EXPECT_THAT(tokenizer_->end_ids(), ::testing::Contains(tokenizer_->SpecialId(name))) << name;
  }
}

}  // namespace
}  // namespace lectern::tokenizer
