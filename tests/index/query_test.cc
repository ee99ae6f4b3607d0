#include "index/query.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/rng.h"

namespace lectern::index {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

std::vector<std::string> TermsOf(const Query& query) {
  std::vector<std::string> terms;
  for (const QueryTerm& term : query.terms) terms.push_back(term.term + ":" + std::to_string(term.count));
  return terms;
}

class QueryTest : public ::testing::Test {
 protected:
  Query Parse(std::string_view text) {
    auto query = ParseQuery(*analyzer_, text);
    EXPECT_TRUE(query.ok()) << query.status();
    return query.ok() ? *query : Query{};
  }
  std::shared_ptr<const Analyzer> analyzer_ = *Analyzer::Named("en");
};

TEST_F(QueryTest, IsABagOfWordsThatCountsRepeats) {
  EXPECT_THAT(TermsOf(Parse("whale Whales hunting whale")), ElementsAre("whale:3", "hunt:1"));
}

TEST_F(QueryTest, KeepsFunctionWords) {
  EXPECT_THAT(TermsOf(Parse("the whale and the sea")), ElementsAre("the:2", "whale:1", "and:1", "sea:1"));
  EXPECT_THAT(TermsOf(Parse("to be or not to be")), ElementsAre("to:2", "be:2", "or:1", "not:1"));
}

TEST_F(QueryTest, RefusesInvalidUtf8ByItsByte) {
  for (const std::string_view text : {std::string_view("caf\xe9"), std::string_view("\"caf\xe9 noir\""), std::string_view("caf\xc3")}) {
    const absl::Status status = ParseQuery(*analyzer_, text).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()), HasSubstr(text[0] == '"' ? "byte 4" : "byte 3"));
  }
}

TEST_F(QueryTest, ReadsPhrasesAndExclusions) {
  const Query query = Parse("white \"Moby Dick\" -film -\"John Huston\" co-op");
  EXPECT_THAT(TermsOf(query), ElementsAre("white:1", "mobi:1", "dick:1", "co:1", "op:1"));
  ASSERT_EQ(query.phrases.size(), 3u);
  EXPECT_THAT(query.phrases[0].terms, ElementsAre("mobi", "dick"));
  EXPECT_FALSE(query.phrases[0].excluded);
  EXPECT_THAT(query.phrases[1].terms, ElementsAre("film"));
  EXPECT_TRUE(query.phrases[1].excluded);
  EXPECT_THAT(query.phrases[2].terms, ElementsAre("john", "huston"));
  EXPECT_TRUE(query.phrases[2].excluded);
  EXPECT_THAT(query.plain_text, HasSubstr("Moby Dick"));
  EXPECT_THAT(query.plain_text, ::testing::Not(HasSubstr("film")));
}

TEST_F(QueryTest, ReadsOddQuotesDashesAndNegativeNumbersAsPunctuation) {
  for (const char* text : {"5\" pipe", "pipe - 5", "pipe -5", "pipe --", "- pipe 5"}) {
    EXPECT_THAT(Parse(text).phrases, IsEmpty()) << text;
    EXPECT_EQ(Parse(text).terms.size(), std::string_view(text).find('5') == std::string_view::npos ? 1u : 2u) << text;
  }
  EXPECT_EQ(Parse("pipe -\"5\"").phrases.size(), 1u);
}

TEST_F(QueryTest, TakesOperatorsAsPunctuationWhereAskedTo) {
  const auto query = PlainQuery(*analyzer_, "\"moby dick\" -film");
  ASSERT_TRUE(query.ok());
  EXPECT_THAT(query->phrases, IsEmpty());
  EXPECT_THAT(TermsOf(*query), ElementsAre("mobi:1", "dick:1", "film:1"));
}

TEST_F(QueryTest, RefusesWhatItCannotDoNamingTheLimit) {
  EXPECT_THAT(std::string(ParseQuery(*analyzer_, "-film").status().message()), HasSubstr("beside"));
  EXPECT_THAT(std::string(ParseQuery(*analyzer_, "a \"...\"").status().message()), HasSubstr("a word"));
  std::string many, quotes, repeated;
  for (int i = 0; i < 1025; ++i) many += "t" + std::to_string(i) + " ";
  for (int i = 0; i < 65; ++i) quotes += "\"x\" ";
  while (repeated.size() < 100 << 10) repeated += "same word again ";
  EXPECT_THAT(std::string(ParseQuery(*analyzer_, many).status().message()), HasSubstr("1024"));
  EXPECT_THAT(std::string(ParseQuery(*analyzer_, quotes).status().message()), HasSubstr("64"));
  EXPECT_EQ(Parse(repeated).terms.size(), 3u);
  EXPECT_FALSE(ParseQuery(*analyzer_, std::string(kMaxQueryBytes + 1, 'x')).ok());
}

TEST_F(QueryTest, FindsPhrasesAsTheAnalyzerCutsThem) {
  EXPECT_TRUE(ContainsPhrase(*analyzer_, "the Moby-Dicks of old", {"mobi", "dick"}));
  EXPECT_FALSE(ContainsPhrase(*analyzer_, "Moby and Dick", {"mobi", "dick"}));
  EXPECT_TRUE(ContainsPhrase(*analyzer_, "a a a b", {"a", "a", "b"}));
  EXPECT_FALSE(ContainsPhrase(*analyzer_, "a", {"a", "b"}));
}

TEST_F(QueryTest, NeverCrashesOnAnyText) {
  const std::vector<std::string> kPieces = {"\"", "-", "a", " ", "5", "é", "\xFF", "日", "'", "\t", "the"};
  for (uint64_t seed = 0; seed < 3000; ++seed) {
    Rng rng(seed, 31);
    std::string text;
    for (int64_t n = rng.Below(30); n > 0; --n) text += kPieces[static_cast<size_t>(rng.Below(11))];
    const auto query = ParseQuery(*analyzer_, text);
    if (query.ok()) {
      for (const QueryTerm& term : query->terms) ASSERT_FALSE(term.term.empty());
    }
  }
}

}  // namespace
}  // namespace lectern::index
