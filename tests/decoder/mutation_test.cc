// Damaged model files: each gives a status or a valid parse, never a crash. Run under ASan and UBSan by the asan preset.
#include <gtest/gtest.h>

#include <memory>

#include "decoder/load_tokenizer.h"
#include "decoder/model_file/gguf.h"
#include "decoder/model_file/metadata.h"
#include "decoder/model_file/safetensors.h"
#include "tests/decoder/small_models.h"
#include "tests/support/temp_dir.h"

namespace lectern {
namespace {

using model_file::ModelFile;
using model_file::TensorInfo;
using testing::Mutated;
using testing::TempDir;
using testing::WriteBytes;

constexpr uint64_t kMutations = 1000;

struct Outcome {
  int opened = 0, refused = 0;
};

// Bytes on the heap at their exact size, so that a read past the end is seen.
struct Exact {
  explicit Exact(std::string_view text) : size(text.size()), data(new std::byte[text.size()]) {
    std::memcpy(data.get(), text.data(), text.size());
  }
  std::span<const std::byte> span() const { return {data.get(), size}; }
  std::string_view text() const { return {reinterpret_cast<const char*>(data.get()), size}; }
  size_t size;
  std::unique_ptr<std::byte[]> data;
};

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
    const std::vector<int32_t> ids =
        tokenizer.EncodeWithOffsets(text, {.parse_special = special, .add_special = special}, &offsets);
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

void Count(const absl::Status& status, Outcome* outcome) {
  if (status.ok()) {
    ++outcome->opened;
    return;
  }
  ++outcome->refused;
  EXPECT_FALSE(status.message().empty());
  for (const char c : status.message()) ASSERT_TRUE(c >= 0x20 && c < 0x7f) << "a message with a byte that does not print";
}

Outcome MutateGguf(const std::string& valid) {
  Outcome outcome;
  TempDir dir;
  for (uint64_t seed = 0; seed < kMutations; ++seed) {
    const std::string bytes = Mutated(valid, seed);
    const Exact exact(bytes);
    auto parsed = model_file::ParseGguf(exact.span());
    Count(parsed.status(), &outcome);
    if (parsed.ok()) TouchTensors(parsed->tensors);
    if (seed % 10 != 0) continue;  // through a file as well: the same answer, and the tokenizer it holds
    WriteBytes(dir / "m.gguf", bytes);
    auto file = ModelFile::Open(dir / "m.gguf");
    EXPECT_EQ(file.ok(), parsed.ok()) << seed;
    if (!file.ok()) continue;
    TouchTensors((*file)->tensors());
    auto tokenizer = decoder::LoadTokenizer(**file);
    if (tokenizer.ok()) UseTokenizer(**tokenizer);
    (void)decoder::LoadChatTemplate(**file, "").status();
  }
  return outcome;
}

TEST(Mutations, OfAGgufFileGiveAStatusOrAValidParse) {
  const Outcome outcome = MutateGguf(testing::SmallGguf());
  EXPECT_GT(outcome.opened, 20);
  EXPECT_GT(outcome.refused, 100);
}

TEST(Mutations, OfASentencePieceGgufFileGiveAStatusOrAValidParse) {
  const Outcome outcome = MutateGguf(testing::SmallSentencePieceGguf());
  EXPECT_GT(outcome.opened, 20);
  EXPECT_GT(outcome.refused, 100);
}

TEST(Mutations, OfASafetensorsFileGiveAStatusOrAValidParse) {
  Outcome outcome;
  for (uint64_t seed = 0; seed < kMutations; ++seed) {
    const Exact exact(Mutated(testing::SmallSafetensors(), seed));
    std::vector<TensorInfo> tensors;
    Count(model_file::ParseSafetensors(exact.span(), &tensors), &outcome);
    TouchTensors(tensors);
  }
  EXPECT_GT(outcome.opened, 20);
  EXPECT_GT(outcome.refused, 500);
}

TEST(Mutations, OfAConfigGiveAStatusOrAValidParse) {
  Outcome outcome;
  for (uint64_t seed = 0; seed < kMutations; ++seed) {
    const Exact exact(Mutated(testing::SmallConfig(), seed));
    model_file::Metadata metadata;
    Count(model_file::ParseConfig(exact.text(), &metadata), &outcome);
    for (const char* key : {"hidden_size", "rope_theta", "architectures", "eos_token_id", "rope_scaling.factor", "y"}) {
      (void)metadata.Int(key).status();
      (void)metadata.Number(key).status();
      (void)metadata.Strings(key).status();
      (void)metadata.Ints(key).status();
      (void)metadata.Numbers(key).status();
    }
  }
  EXPECT_GT(outcome.opened, 50);
  EXPECT_GT(outcome.refused, 500);
}

TEST(Mutations, OfATokenizerJsonGiveAStatusOrAWorkingTokenizer) {
  for (const std::string& valid : {testing::SmallWordPieceJson(), testing::SmallBpeJson()}) {
    Outcome outcome;
    for (uint64_t seed = 0; seed < kMutations; ++seed) {
      const Exact exact(Mutated(valid, seed));
      auto tokenizer = tokenizer::Tokenizer::FromJson(exact.text());
      Count(tokenizer.status(), &outcome);
      if (tokenizer.ok()) UseTokenizer(**tokenizer);
    }
    EXPECT_GT(outcome.opened, 20);
    EXPECT_GT(outcome.refused, 500);
  }
}

TEST(Mutations, OfAFolderGiveAStatusOrAValidParse) {
  TempDir dir;
  Outcome outcome;
  for (uint64_t seed = 0; seed < 100; ++seed) {
    const uint64_t which = seed % 4;
    const auto maybe = [&](uint64_t turn, const std::string& valid) { return which == turn ? Mutated(valid, seed) : valid; };
    WriteBytes(dir / "config.json", maybe(0, testing::SmallConfig()));
    WriteBytes(dir / "model-1.safetensors", maybe(1, testing::SmallSafetensors()));
    WriteBytes(dir / "tokenizer.json", maybe(2, testing::SmallWordPieceJson()));
    WriteBytes(dir / "model.safetensors.index.json",
               maybe(3, R"({"metadata":{},"weight_map":{"a":"model-1.safetensors","b":"model-1.safetensors","c":"model-1.safetensors"}})"));
    auto file = ModelFile::Open(dir.path());
    Count(file.status(), &outcome);
    if (!file.ok()) continue;
    TouchTensors((*file)->tensors());
    auto tokenizer = decoder::LoadTokenizer(**file);
    if (tokenizer.ok()) UseTokenizer(**tokenizer);
  }
  EXPECT_GT(outcome.opened, 10);
  EXPECT_GT(outcome.refused, 10);
}

}  // namespace
}  // namespace lectern
