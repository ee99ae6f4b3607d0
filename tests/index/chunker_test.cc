#include "index/chunker.h"

#include <gtest/gtest.h>

#include "base/rng.h"
#include "tests/support/temp_dir.h"

namespace lectern::index {
namespace {

bool IsContinuation(char c) { return (static_cast<unsigned char>(c) & 0xc0) == 0x80; }

std::string RandomText(Rng& rng, int64_t pieces) {
  static const std::vector<std::string> kPieces = {"whale", "a", "sea", "préfère", "漢", "字", "。", ". ", "! ", "\n", "\n\n", " ", "  ", "\t",
                                                   "incomprehensibilities-of-the-very-longest-kind", "😀", "e\xcc\x81", "3.14", "(so) ", "\"Yes.\" "};
  std::string text;
  for (int64_t i = 0; i < pieces; ++i) {
    text += kPieces[static_cast<size_t>(rng.Below(static_cast<int64_t>(kPieces.size())))];
    if (rng.Below(2) == 0) text += " ";
  }
  return text;
}

// What must hold whatever the text; returns the number of units in the largest chunk.
void CheckChunks(std::string_view text, const std::vector<Span>& chunks) {
  std::vector<bool> covered(text.size());
  Span before{-1, -1};
  for (const Span& span : chunks) {
    ASSERT_LE(0, span.begin);
    ASSERT_LE(span.begin, span.end);
    ASSERT_LE(span.end, static_cast<int64_t>(text.size()));
    ASSERT_GT(span.begin, before.begin);
    ASSERT_GT(span.end, before.end);
    before = span;
    if (span.begin < static_cast<int64_t>(text.size())) {
      ASSERT_FALSE(IsContinuation(text[static_cast<size_t>(span.begin)]));
    }
    if (span.end < static_cast<int64_t>(text.size())) {
      ASSERT_FALSE(IsContinuation(text[static_cast<size_t>(span.end)]));
    }
    for (int64_t i = span.begin; i < span.end; ++i) covered[static_cast<size_t>(i)] = true;
  }
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (!covered[i]) {
      ASSERT_TRUE(c == ' ' || (c >= '\t' && c <= '\r')) << "byte " << i << " is in no chunk";
    }
  }
}

TEST(Chunker, CoversEveryWordWithoutATokenizer) {
  for (uint64_t seed = 0; seed < 400; ++seed) {
    Rng rng(seed);
    const std::string text = RandomText(rng, rng.Below(seed % 20 == 0 ? 30000 : 300));
    const int64_t tokens = 16 + rng.Below(60);
    auto chunker = Chunker::Create({.tokens = tokens, .overlap = rng.Below(tokens / 2 + 1)}, nullptr);
    ASSERT_TRUE(chunker.ok()) << chunker.status();
    CheckChunks(text, chunker->Chunk(seed % 2 == 0 ? "" : "a title of words", text));
    if (HasFatalFailure()) FAIL() << "seed " << seed;
  }
}

TEST(Chunker, CountsTheEncodersTokens) {
  const std::string path = testing::SourcePath("data/tiny/encoder/tokenizer.json");
  if (!std::filesystem::exists(path)) GTEST_SKIP() << "left out: the tiny encoder's tokenizer is not there";
  auto tokenizer = tokenizer::Tokenizer::FromJson(testing::ReadBytes(path));
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  for (uint64_t seed = 0; seed < 200; ++seed) {
    Rng rng(seed);
    const std::string text = RandomText(rng, rng.Below(seed % 20 == 0 ? 8000 : 400));
    const int64_t tokens = 32 + rng.Below(100);
    const std::string title = seed % 2 == 0 ? "" : "a title";
    auto chunker = Chunker::Create({.tokens = tokens, .overlap = rng.Below(tokens / 2 + 1)}, tokenizer->get());
    ASSERT_TRUE(chunker.ok());
    const std::vector<Span> chunks = chunker->Chunk(title, text);
    // Bytes of tokens, from one tokenisation of the whole.
    std::vector<tokenizer::TokenOffset> offsets;
    (*tokenizer)->EncodeWithOffsets(text, {}, &offsets);
    std::vector<bool> covered(text.size());
    for (const Span& span : chunks) {
      for (int64_t i = span.begin; i < span.end; ++i) covered[static_cast<size_t>(i)] = true;
    }
    for (const auto& t : offsets) {
      for (int64_t i = t.begin; i < t.end; ++i) ASSERT_TRUE(covered[static_cast<size_t>(i)]) << "seed " << seed << " byte " << i;
    }
    for (const Span& span : chunks) {
      const bool whole_words = (span.begin == 0 || text[static_cast<size_t>(span.begin) - 1] == ' ') &&
                               (span.end == static_cast<int64_t>(text.size()) || text[static_cast<size_t>(span.end)] == ' ');
      if (!whole_words) continue;   // a word cut in two may become more tokens than it was
      const std::string input = EmbeddingText(title, std::string_view(text).substr(static_cast<size_t>(span.begin), static_cast<size_t>(span.end - span.begin)));
      EXPECT_LE(static_cast<int64_t>((*tokenizer)->Encode(input, {.add_special = true}).size()), tokens) << "seed " << seed;
    }
  }
}

TEST(Chunker, EndsAtSentencesWhereItCan) {
  std::string text;
  for (int i = 0; i < 40; ++i) text += "This sentence number " + std::to_string(i) + " has eight words in. ";
  auto chunker = Chunker::Create({.tokens = 50, .overlap = 10}, nullptr);
  const std::vector<Span> chunks = chunker->Chunk("", text);
  ASSERT_GT(chunks.size(), 5u);
  for (const Span& span : chunks) {
    EXPECT_EQ(text[static_cast<size_t>(span.end) - 1], '.');
    EXPECT_EQ(text.substr(static_cast<size_t>(span.begin), 4), "This");
  }
  for (size_t i = 1; i < chunks.size(); ++i) EXPECT_LT(chunks[i].begin, chunks[i - 1].end) << "neighbours overlap";
}

TEST(Chunker, MakesOneChunkADocumentWhenAskedTo) {
  auto chunker = Chunker::Create({.tokens = 0}, nullptr);
  const std::string text = "  one two\n\nthree  ";
  EXPECT_EQ(chunker->Chunk("", text), (std::vector<Span>{{2, 16}}));
}

TEST(Chunker, GivesADocumentWithoutTextAChunkOnlyForItsTitle) {
  for (const int64_t tokens : {0, 256}) {
    auto chunker = Chunker::Create({.tokens = tokens}, nullptr);
    EXPECT_EQ(chunker->Chunk("title", " \n"), (std::vector<Span>{{0, 0}}));
    EXPECT_TRUE(chunker->Chunk("", " \n").empty());
  }
  EXPECT_EQ(EmbeddingText("T", "x"), "T x");
  EXPECT_EQ(EmbeddingText("", "x"), "x");
  EXPECT_EQ(EmbeddingText("T", ""), "T");
}

TEST(Chunker, NamesItsLimits) {
  EXPECT_FALSE(Chunker::Create({.tokens = 15}, nullptr).ok());
  EXPECT_FALSE(Chunker::Create({.tokens = kMaxChunkTokens + 1}, nullptr).ok());
  EXPECT_FALSE(Chunker::Create({.tokens = 100, .overlap = 51}, nullptr).ok());
  EXPECT_FALSE(Chunker::Create({.tokens = -1}, nullptr).ok());
}

}  // namespace
}  // namespace lectern::index
