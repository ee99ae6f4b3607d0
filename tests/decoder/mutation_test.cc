// Damaged model files: each gives a status or a valid parse, never a crash. Run under ASan and
// UBSan by the asan preset.
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>

#include "decoder/load_tokenizer.h"
#include "decoder/model_file/gguf.h"
#include "decoder/model_file/metadata.h"
#include "decoder/model_file/safetensors.h"
#include "decoder/tokenizer/chat_template.h"
#include "tests/decoder/small_models.h"
#include "tests/support/mutations.h"
#include "tests/support/temp_dir.h"

namespace lectern {
namespace {

using model_file::ModelFile;
using model_file::TensorInfo;
using testing::Exact;
using testing::Mutations;
using testing::TempDir;
using testing::WriteBytes;

void TouchTensors(std::span<const TensorInfo> tensors) {
  uint64_t sum = 0;
  for (const TensorInfo& tensor : tensors) {
    for (const std::byte byte : tensor.bytes) sum += static_cast<uint64_t>(byte);
  }
  EXPECT_LE(sum, uint64_t{1} << 32);
}

void UseTokenizer(const tokenizer::Tokenizer& tokenizer) {
  const std::string text = "the th\xC3\xA9 <|im_end|>[CLS] \n\n 12\xFF caf\xC3\xA9";
  for (const bool special : {false, true}) {
    std::vector<tokenizer::TokenOffset> offsets;
    const std::vector<int32_t> ids = tokenizer.EncodeWithOffsets(
        text, {.parse_special = special, .add_special = special}, &offsets);
    ASSERT_EQ(ids.size(), offsets.size());
    for (size_t i = 0; i < ids.size(); ++i) {
      ASSERT_GE(ids[i], 0);
      ASSERT_LT(ids[i], tokenizer.vocab_size());
      ASSERT_GE(offsets[i].begin, 0);
      ASSERT_LE(offsets[i].begin, offsets[i].end);
      ASSERT_LE(offsets[i].end, static_cast<int64_t>(text.size()));
    }
    EXPECT_LE(tokenizer.Decode(ids).size(), 1u << 20);
  }
}

void MutateGguf(const std::string& valid, Mutations& mutations) {
  TempDir dir;
  while (mutations.Next()) {
    const std::string bytes = mutations.Of(valid);
    const Exact exact(bytes);
    auto parsed = model_file::ParseGguf(exact.span());
    mutations.Count(parsed.status());
    if (parsed.ok()) TouchTensors(parsed->tensors);
    if (mutations.seed() % 10 != 0)
      continue;  // through a file as well: the same answer, and the tokenizer it holds
    WriteBytes(dir / "m.gguf", bytes);
    auto file = ModelFile::Open(dir / "m.gguf");
    EXPECT_EQ(file.ok(), parsed.ok()) << mutations.seed();
    if (!file.ok()) continue;
    TouchTensors((*file)->tensors());
    auto tokenizer = decoder::LoadTokenizer(**file);
    if (tokenizer.ok()) UseTokenizer(**tokenizer);
    (void)decoder::LoadChatTemplate(**file, "").status();
  }
  EXPECT_GT(mutations.read(), 20);
  EXPECT_GT(mutations.refused(), 100);
}

TEST(Mutations, OfAGgufFileGiveAStatusOrAValidParse) {
  Mutations mutations("GGUF, byte-level BPE");
  MutateGguf(testing::SmallGguf(), mutations);
}

TEST(Mutations, OfASentencePieceGgufFileGiveAStatusOrAValidParse) {
  Mutations mutations("GGUF, SentencePiece");
  MutateGguf(testing::SmallSentencePieceGguf(), mutations);
}

TEST(Mutations, OfASafetensorsFileGiveAStatusOrAValidParse) {
  Mutations mutations("safetensors");
  while (mutations.Next()) {
    const Exact exact(mutations.Of(testing::SmallSafetensors()));
    std::vector<TensorInfo> tensors;
    mutations.Count(model_file::ParseSafetensors(exact.span(), &tensors));
    TouchTensors(tensors);
  }
  EXPECT_GT(mutations.read(), 20);
  EXPECT_GT(mutations.refused(), 500);
}

TEST(Mutations, OfAConfigGiveAStatusOrAValidParse) {
  Mutations mutations("config.json");
  while (mutations.Next()) {
    const Exact exact(mutations.Of(testing::SmallConfig()));
    model_file::Metadata metadata;
    mutations.Count(model_file::ParseConfig(exact.text(), &metadata));
    for (const char* key : {"hidden_size", "rope_theta", "architectures", "eos_token_id",
                            "rope_scaling.factor", "y"}) {
      (void)metadata.Int(key).status();
      (void)metadata.Number(key).status();
      (void)metadata.Strings(key).status();
      (void)metadata.Ints(key).status();
      (void)metadata.Numbers(key).status();
    }
  }
  EXPECT_GT(mutations.read(), 50);
  EXPECT_GT(mutations.refused(), 500);
}

void MutateTokenizerJson(const std::string& valid, Mutations& mutations) {
  while (mutations.Next()) {
    const Exact exact(mutations.Of(valid));
    auto tokenizer = tokenizer::Tokenizer::FromJson(exact.text());
    mutations.Count(tokenizer.status());
    if (tokenizer.ok()) UseTokenizer(**tokenizer);
  }
  EXPECT_GT(mutations.read(), 20);
  EXPECT_GT(mutations.refused(), 500);
}

TEST(Mutations, OfAWordPieceTokenizerGiveAStatusOrAWorkingTokenizer) {
  Mutations mutations("tokenizer.json, WordPiece");
  MutateTokenizerJson(testing::SmallWordPieceJson(), mutations);
}

TEST(Mutations, OfABpeTokenizerGiveAStatusOrAWorkingTokenizer) {
  Mutations mutations("tokenizer.json, byte-level BPE");
  MutateTokenizerJson(testing::SmallBpeJson(), mutations);
}

// A template is recognised or refused, never guessed: what a mutated one renders is what a known
// one renders.
TEST(Mutations, OfAChatTemplateAreRecognisedOrRefused) {
  Mutations mutations("chat template");
  const std::vector<tokenizer::ChatMessage> chat = {{"system", "Be brief."},
                                                    {"user", "Who? <|im_end|>"}};
  std::vector<std::string> valid, known;
  for (const char* name : {"chatml", "gemma", "llama3"}) {
    valid.push_back(
        testing::ReadBytes(testing::SourcePath(std::string("data/fuzz/chat_template/") + name)));
  }
  const auto text_of = [&](const tokenizer::ChatTemplate& chat_template) {
    const auto pieces = chat_template.Render(chat);
    EXPECT_TRUE(pieces.ok()) << pieces.status();
    std::string text;
    for (const tokenizer::PromptPiece& piece : *pieces) text += piece.text;
    return text;
  };
  for (const char* name : {"chatml", "qwen2", "smollm2", "llama3", "gemma", "plain"})
    known.push_back(text_of(*tokenizer::ChatTemplate::Named(name)));
  while (mutations.Next()) {
    const Exact exact(mutations.Of(valid[static_cast<size_t>(mutations.seed()) % valid.size()]));
    const auto recognised = tokenizer::ChatTemplate::Recognise(exact.text());
    mutations.Count(recognised.status());
    if (recognised.ok()) {
      EXPECT_NE(std::find(known.begin(), known.end(), text_of(*recognised)), known.end())
          << exact.text();
    }
  }
  EXPECT_GT(mutations.refused(), 100);
}

TEST(Mutations, OfAFolderGiveAStatusOrAValidParse) {
  TempDir dir;
  Mutations mutations("model folder of four files");
  while (mutations.Next()) {
    const int which = mutations.seed() % 4;
    const auto maybe = [&](int turn, const std::string& valid) {
      return which == turn ? mutations.Of(valid) : valid;
    };
    WriteBytes(dir / "config.json", maybe(0, testing::SmallConfig()));
    WriteBytes(dir / "model-1.safetensors", maybe(1, testing::SmallSafetensors()));
    WriteBytes(dir / "tokenizer.json", maybe(2, testing::SmallWordPieceJson()));
    WriteBytes(
        dir / "model.safetensors.index.json",
        maybe(
            3,
            R"({"metadata":{},"weight_map":{"a":"model-1.safetensors","b":"model-1.safetensors","c":"model-1.safetensors"}})"));
    auto file = ModelFile::Open(dir.path());
    mutations.Count(file.status());
    if (!file.ok()) continue;
    TouchTensors((*file)->tensors());
    auto tokenizer = decoder::LoadTokenizer(**file);
    if (tokenizer.ok()) UseTokenizer(**tokenizer);
  }
  EXPECT_GT(mutations.read(), 100);
  EXPECT_GT(mutations.refused(), 100);
}

}  // namespace
}  // namespace lectern
