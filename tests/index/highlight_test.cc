#include "index/highlight.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/rng.h"

namespace lectern::index {
namespace {

using ::testing::ElementsAre;

TEST(Highlight, MarksWordsWhoseTermsAreAskedForAndJoinsNeighbours) {
  const auto analyzer = *Analyzer::Named("en");
  const std::vector<QueryTerm> terms = {{"white", 1}, {"whale", 1}};
  EXPECT_THAT(Highlight(*analyzer, "The White  whales, white", terms, 100), ElementsAre(Span{104, 117}, Span{119, 124}));
  EXPECT_TRUE(Highlight(*analyzer, "", terms, 0).empty());
}

TEST(Highlight, StaysInsideTheTextOnCharacterBoundariesInOrder) {
  const auto analyzer = *Analyzer::Named("icu");
  const std::vector<std::string> kPieces = {"é", "日", "本", "a", " ", "ß", "-", "\u2019", "x", "ｶ"};
  for (uint64_t seed = 0; seed < 1000; ++seed) {
    Rng rng(seed, 41);
    std::string text;
    for (int64_t n = rng.Below(60); n > 0; --n) text += kPieces[static_cast<size_t>(rng.Below(10))];
    std::vector<QueryTerm> terms;
    for (const std::string& term : analyzer->Terms(text)) {
      if (rng.Below(2) == 0) terms.push_back({term, 1});
    }
    int64_t before = 0;
    for (const Span& span : Highlight(*analyzer, text, terms, 7)) {
      ASSERT_GE(span.begin - 7, before);
      ASSERT_LT(span.begin, span.end);
      ASSERT_LE(span.end - 7, static_cast<int64_t>(text.size()));
      for (const int64_t at : {span.begin - 7, span.end - 7}) {
        ASSERT_TRUE(at == static_cast<int64_t>(text.size()) || (static_cast<unsigned char>(text[static_cast<size_t>(at)]) & 0xC0) != 0x80);
      }
      before = span.end - 7;
    }
  }
}

}  // namespace
}  // namespace lectern::index
