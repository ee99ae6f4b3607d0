// The parts of the tokenizers, and what is refused by name.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <map>

#include "base/rng.h"
#include "decoder/tokenizer/merge_words.h"
#include "decoder/tokenizer/special_tokens.h"
#include "decoder/tokenizer/tokenizer.h"
#include "tests/decoder/small_models.h"

namespace lectern::tokenizer {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::vector<std::string> Parts(const SpecialTokens& specials, std::string_view text, bool parse_control) {
  std::vector<std::string> parts;
  specials.Split(text, parse_control, [&](std::string_view part, int32_t id) {
    parts.push_back(std::string(part) + (id == SpecialTokens::kNone ? "" : "=" + std::to_string(id)));
  });
  return parts;
}

TEST(SpecialTokens, TakeTheLongestOfARegionOrTheLeftmostAsTheRuleSays) {
  SpecialTokens specials;
  specials.Add("ab", 1, false);
  specials.Add("bcd", 2, false);
  specials.Add("<c>", 3, true);
  EXPECT_THAT(Parts(specials, "xabcd<c>y", false), ElementsAre("xa", "bcd=2", "<c>y"));
  specials.set_rule(OverlapRule::kLeftmostLongest);
  EXPECT_THAT(Parts(specials, "xabcd<c>y", true), ElementsAre("x", "ab=1", "cd", "<c>=3", "y"));
  EXPECT_THAT(Parts(specials, "", true), ElementsAre());
}

// The obvious algorithm: look at all pairs, merge the best leftmost, begin again.
std::vector<Symbol> MergedNaively(std::vector<Symbol> symbols, const std::map<std::pair<int, int>, Merge>& merges) {
  while (true) {
    size_t best = symbols.size();
    Merge found;
    for (size_t i = 0; i + 1 < symbols.size(); ++i) {
      const auto it = merges.find({symbols[i].id, symbols[i + 1].id});
      if (it != merges.end() && it->second.rank < found.rank) best = i, found = it->second;
    }
    if (best == symbols.size()) return symbols;
    symbols[best].id = found.id;
    symbols[best].end = symbols[best + 1].end;
    symbols.erase(symbols.begin() + static_cast<ptrdiff_t>(best) + 1);
  }
}

TEST(Merger, EqualsTheObviousAlgorithmAtEveryLength) {
  for (uint64_t seed = 0; seed < 1000; ++seed) {
    Rng rng(seed, 3);
    std::map<std::pair<int, int>, Merge> merges;
    const int letters = 2 + static_cast<int>(rng.Below(4));
    int tokens = letters;
    for (int i = 0; i < 12; ++i) {
      const std::pair<int, int> pair(static_cast<int>(rng.Below(tokens)), static_cast<int>(rng.Below(tokens)));
      // Ranks repeat, as scores do; results are new tokens.
      if (merges.emplace(pair, Merge{static_cast<uint32_t>(rng.Below(8)), tokens}).second) ++tokens;
    }
    std::vector<Symbol> symbols(static_cast<size_t>(rng.Below(120)));
    for (uint32_t i = 0; i < symbols.size(); ++i) symbols[i] = {static_cast<int32_t>(rng.Below(letters)), i, i + 1};
    const std::vector<Symbol> wanted = MergedNaively(symbols, merges);
    Merger merger;
    merger.Run(symbols, [&](const Symbol& a, const Symbol& b) {
      const auto it = merges.find({a.id, b.id});
      return it == merges.end() ? Merge{} : it->second;
    });
    ASSERT_EQ(symbols.size(), wanted.size()) << seed;
    for (size_t i = 0; i < symbols.size(); ++i) {
      EXPECT_EQ(symbols[i].id, wanted[i].id) << seed;
      EXPECT_EQ(symbols[i].begin, wanted[i].begin) << seed;
      EXPECT_EQ(symbols[i].end, wanted[i].end) << seed;
    }
  }
}

GgufTokenizerSpec SmallSpec() {
  GgufTokenizerSpec spec;
  spec.model = "gpt2";
  spec.pre = "qwen2";
  spec.tokens = testing::ByteAlphabetTokens();
  spec.tokens.insert(spec.tokens.end(), {"th", "the", "<|im_end|>"});
  spec.token_types.assign(spec.tokens.size(), 1);
  spec.token_types.back() = 3;
  spec.merges = {"t h", "th e"};
  return spec;
}

TEST(Tokenizer, RefusesUnknownModelsAndPreTokenizersByName) {
  GgufTokenizerSpec spec = SmallSpec();
  spec.pre = "tekken";
  EXPECT_EQ(Tokenizer::FromSpec(spec).status().code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(std::string(Tokenizer::FromSpec(spec).status().message()), HasSubstr("'tekken'"));
  spec.model = "rwkv";
  EXPECT_THAT(std::string(Tokenizer::FromSpec(spec).status().message()), HasSubstr("'rwkv'"));
  std::string json = testing::SmallBpeJson();
  json.replace(json.find("\\\\p{N}|"), 8, "\\\\p{N}{1,2}|");
  EXPECT_EQ(Tokenizer::FromJson(json).status().code(), absl::StatusCode::kUnimplemented);
  EXPECT_EQ(Tokenizer::FromJson(R"({"model":{"type":"Unigram","vocab":{}}})").status().code(), absl::StatusCode::kUnimplemented);
}

TEST(Tokenizer, RefusesMergesAndIdsThatContradictTheVocabulary) {
  ASSERT_TRUE(Tokenizer::FromSpec(SmallSpec()).ok());
  const auto broken = [](auto&& change) {
    GgufTokenizerSpec spec = SmallSpec();
    change(spec);
    return Tokenizer::FromSpec(spec).status().code();
  };
  EXPECT_EQ(broken([](auto& s) { s.merges.push_back("x y"); }), absl::StatusCode::kDataLoss);
  EXPECT_EQ(broken([](auto& s) { s.merges.push_back("t h"); }), absl::StatusCode::kDataLoss);
  EXPECT_EQ(broken([](auto& s) { s.merges.push_back("th"); }), absl::StatusCode::kDataLoss);
  EXPECT_EQ(broken([](auto& s) { s.token_types.pop_back(); }), absl::StatusCode::kDataLoss);
  EXPECT_EQ(broken([](auto& s) { s.token_types[3] = 9; }), absl::StatusCode::kDataLoss);
  EXPECT_EQ(broken([](auto& s) { s.tokens[257] = "th"; }), absl::StatusCode::kDataLoss);
  EXPECT_EQ(broken([](auto& s) { s.eos_id = 1000; }), absl::StatusCode::kDataLoss);
  EXPECT_EQ(broken([](auto& s) { s.add_bos = true; }), absl::StatusCode::kDataLoss);
}

TEST(Tokenizer, RecognisesControlNamesOnlyWhereAsked) {
  auto tokenizer = Tokenizer::FromSpec(SmallSpec());
  ASSERT_TRUE(tokenizer.ok());
  EXPECT_THAT((*tokenizer)->Encode("the<|im_end|>", {.parse_special = true}), ElementsAre(257, 258));
  for (const int32_t id : (*tokenizer)->Encode("the<|im_end|>")) EXPECT_FALSE((*tokenizer)->IsControl(id));
  EXPECT_EQ((*tokenizer)->Decode(std::vector<int32_t>{257, 258}), "the");
  EXPECT_EQ((*tokenizer)->SpecialName(258), "<|im_end|>");
  EXPECT_THAT((*tokenizer)->end_ids(), ElementsAre(258));
  // Ids outside the vocabulary stand for nothing.
  EXPECT_EQ((*tokenizer)->Piece(-1), "");
  EXPECT_EQ((*tokenizer)->Piece(1 << 30), "");
}

TEST(WordPieceRules, CountsCharactersOfALongWordAndReordersMarks) {
  auto tokenizer = Tokenizer::FromJson(testing::SmallWordPieceJson());
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  const std::string bs(99, 'b');
  EXPECT_EQ((*tokenizer)->Encode("a" + bs).size(), 100u);
  EXPECT_THAT((*tokenizer)->Encode("a" + bs + "b"), ElementsAre(0));  // 101 characters: one unknown token
  EXPECT_THAT((*tokenizer)->Encode("CAFE\xCC\x81 the", {.add_special = true}), ElementsAre(1, 6, 5, 2));
  std::vector<TokenOffset> offsets;
  EXPECT_THAT((*tokenizer)->EncodeWithOffsets("  caf\xC3\xA9 the", {}, &offsets), ElementsAre(6, 5));
  EXPECT_EQ(offsets[0].begin, 2);
  EXPECT_EQ(offsets[0].end, 7);
  EXPECT_EQ(offsets[1].begin, 8);
}

// What an attacker would send: one word, one run, one character for ever. Quadratic work would take minutes.
TEST(Tokenizer, TakesLongRunsInItsStride) {
  constexpr int kLength = 300000;
  auto bpe = Tokenizer::FromSpec(SmallSpec());
  auto wordpiece = Tokenizer::FromJson(testing::SmallWordPieceJson());
  GgufTokenizerSpec pieces;
  pieces.model = "llama";
  const auto add = [&](std::string text, int32_t type, double score) {
    pieces.tokens.push_back(std::move(text));
    pieces.token_types.push_back(type);
    pieces.scores.push_back(score);
  };
  constexpr char kHex[] = "0123456789ABCDEF";
  for (int byte = 0; byte < 256; ++byte) add(std::string("<0x") + kHex[byte >> 4] + kHex[byte & 15] + ">", 6, 0);
  for (const char* text : {"t", "h", "e", "th", "the", "tt", "tttt", "\xE2\x96\x81"}) add(text, 1, -static_cast<double>(std::strlen(text)));
  for (int length = 1; length <= 31; ++length) add(std::string(static_cast<size_t>(length), '\n'), 4, -1000);
  add("\n<", 4, -1000);
  pieces.add_space_prefix = false;
  auto sentencepiece = Tokenizer::FromSpec(pieces);
  ASSERT_TRUE(bpe.ok() && wordpiece.ok());
  ASSERT_TRUE(sentencepiece.ok()) << sentencepiece.status();
  std::string marks, thes;
  for (int i = 0; i < kLength; ++i) marks += i % 2 == 0 ? "\xCC\x81" : "\xCC\xA7", thes += "the";
  const std::string inputs[] = {std::string(kLength, 't'), std::string(kLength, ' '), std::string(kLength, '\n'),
                                std::string(kLength, '<'), std::string(kLength, '\xFF'), marks, thes};
  for (const std::string& input : inputs) {
    EXPECT_EQ((*bpe)->Decode((*bpe)->Encode(input)), input);
    EXPECT_EQ((*sentencepiece)->Decode((*sentencepiece)->Encode(input)), input);
    EXPECT_LE((*wordpiece)->Encode(input).size(), input.size());
  }
}

}  // namespace
}  // namespace lectern::tokenizer
