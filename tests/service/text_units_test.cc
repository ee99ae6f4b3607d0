#include "service/answer/text_units.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "base/rng.h"

namespace lectern::service::answer {
namespace {

std::vector<std::string> Sentences(std::string_view text) {
  std::vector<std::string> out;
  for (const ByteRange& r : SplitSentences(text)) out.emplace_back(text.substr(r.begin, r.end - r.begin));
  return out;
}

std::string RandomText(Rng& rng, int length) {
  static const std::vector<std::string> characters = {"a", "Z", " ", ".", "\n", "é", "Ω", "中", "ह", "ि", "😀", "\xF0\x9D\x94\x84", "7", "-", "'"};
  std::string text;
  for (int i = 0; i < length; ++i) text += characters[rng.Below(static_cast<int64_t>(characters.size()))];
  return text;
}

TEST(SplitSentences, KeepsAbbreviationsInitialsAndNumbersTogether) {
  EXPECT_EQ(Sentences("Dr. Hale met J. R. Orr on 3.5 acres. They left."),
            (std::vector<std::string>{"Dr. Hale met J. R. Orr on 3.5 acres.", "They left."}));
  EXPECT_EQ(Sentences("The U.S. Army came. No. 7 won vs. No. 8."),
            (std::vector<std::string>{"The U.S. Army came.", "No. 7 won vs. No. 8."}));
}

TEST(SplitSentences, EndsAtQuestionsExclamationsQuotesAndLineBreaks) {
  EXPECT_EQ(Sentences("\"Is it?\" he asked. Yes! A heading\nand a line"),
            (std::vector<std::string>{"\"Is it?\" he asked.", "Yes!", "A heading", "and a line"}));
}

TEST(SplitSentences, WorksWithoutBlanksAndInOtherScripts) {
  EXPECT_EQ(Sentences("東京は日本の首都です。人口は多い。"), (std::vector<std::string>{"東京は日本の首都です。", "人口は多い。"}));
  EXPECT_EQ(Sentences("यह एक वाक्य है। यह दूसरा है।"), (std::vector<std::string>{"यह एक वाक्य है।", "यह दूसरा है।"}));
  EXPECT_TRUE(Sentences("").empty());
  EXPECT_TRUE(Sentences(" \n\t ").empty());
}

TEST(SplitSentences, CoversEveryNonBlankByteOnceWhateverTheText) {
  for (uint64_t seed = 0; seed < 300; ++seed) {
    Rng rng(seed);
    const std::string text = RandomText(rng, 60);
    int64_t at = 0;
    for (const ByteRange& r : SplitSentences(text)) {
      ASSERT_GE(r.begin, at);
      ASSERT_LT(r.begin, r.end);
      for (int64_t i = at; i < r.begin; ++i) EXPECT_TRUE(text[i] == ' ' || text[i] == '\n') << seed;
      at = r.end;
    }
    for (int64_t i = at; i < static_cast<int64_t>(text.size()); ++i) EXPECT_TRUE(text[i] == ' ' || text[i] == '\n') << seed;
  }
}

TEST(SplitWords, KnowsNumbersNamesNegationsAndStems) {
  const std::vector<Word> words = SplitWords("Darwin's 1,024 ships didn't sail to mother-in-law Ōtaki seven times");
  ASSERT_EQ(words.size(), 10u);
  EXPECT_EQ(words[0].lower, "darwin");
  EXPECT_TRUE(words[0].capital);
  EXPECT_TRUE(words[1].number);
  EXPECT_EQ(words[2].stem, "ship");
  EXPECT_TRUE(words[3].negation);
  EXPECT_EQ(words[6].lower, "mother-in-law");
  EXPECT_EQ(words[7].lower, "\xC5\x8Dtaki");   // Ō was put in lower case; "seven" below is a number word
  EXPECT_TRUE(words[8].number);
}

TEST(SplitWords, GivesOneWordACharacterWhereNoBlanksAreWritten) {
  EXPECT_EQ(SplitWords("東京 is big").size(), 4u);
}

TEST(Offsets, AgreeWithACharacterByCharacterCountInEveryUnit) {
  for (uint64_t seed = 0; seed < 200; ++seed) {
    Rng rng(seed, 1);
    const std::string text = RandomText(rng, 40);
    int64_t points = 0, units = 0;
    for (int64_t at = 0; at <= static_cast<int64_t>(text.size()); ++at) {
      const bool inside = at < static_cast<int64_t>(text.size()) && (static_cast<uint8_t>(text[at]) & 0xC0) == 0x80;
      for (OffsetUnit unit : {OffsetUnit::kUtf8, OffsetUnit::kCodepoint, OffsetUnit::kUtf16}) {
        const auto got = ConvertOffset(text, at, unit);
        if (inside) {
          EXPECT_FALSE(got.ok());
          continue;
        }
        const int64_t want = unit == OffsetUnit::kUtf8 ? at : unit == OffsetUnit::kCodepoint ? points : units;
        ASSERT_TRUE(got.ok());
        EXPECT_EQ(*got, want);
        const auto back = ByteOffset(text, want, unit);
        ASSERT_TRUE(back.ok());
        EXPECT_EQ(*back, at);
      }
      if (!inside && at < static_cast<int64_t>(text.size())) {
        ++points;
        units += static_cast<uint8_t>(text[at]) >= 0xF0 ? 2 : 1;
      }
    }
    EXPECT_FALSE(ByteOffset(text, points + 1, OffsetUnit::kCodepoint).ok());
  }
}

TEST(Offsets, RefuseTheMiddleOfASurrogatePairAndUnknownUnits) {
  EXPECT_FALSE(ByteOffset("😀", 1, OffsetUnit::kUtf16).ok());
  EXPECT_EQ(*ByteOffset("😀", 2, OffsetUnit::kUtf16), 4);
  EXPECT_FALSE(ParseOffsetUnit("utf-32").ok());
  EXPECT_EQ(ConvertOffset("abc", 4, OffsetUnit::kUtf8).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(WordBounds, NeverFallInsideAWordOrACharacter) {
  const std::string text = "été 12kg, 東京";
  std::string starts, ends;
  for (int64_t i = 0; i <= static_cast<int64_t>(text.size()); ++i) {
    if (IsWordStart(text, i)) starts += std::to_string(i) + " ";
    if (IsWordEnd(text, i)) ends += std::to_string(i) + " ";
  }
  EXPECT_EQ(starts, "0 6 10 12 15 ");
  EXPECT_EQ(ends, "5 10 11 15 18 ");
}

TEST(WithoutLooseEnds, LeavesWhatBelongsToTheSpan) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"7.6% a year'", "7.6% a year"}, {"poverty,", "poverty"}, {"(the second", "the second"}, {"\"No, that's no good\"", "\"No, that's no good\""},
      {"\"blurring of\" lines", "\"blurring of\" lines"}, {"three bodies of water:", "three bodies of water"}, {"6'2\"", "6'2\""},
      {"\u201Cnew deal", "new deal"}, {"it\u2019s \u2018fine\u2019", "it\u2019s \u2018fine\u2019"}, {"Al2O3 (s)", "Al2O3 (s)"},
      {"f(x)", "f(x)"}, {"the war).", "the war)."}, {" \"a ,", "a"}, {"\",", "\","}, {"", ""}};
  for (const auto& [text, want] : cases) EXPECT_EQ(WithoutLooseEnds(text), want) << text;
}

TEST(WithoutLooseEnds, GivesAPieceOfTheTextAndHasNothingMoreToTakeAway) {
  Rng rng(5);
  for (int i = 0; i < 2000; ++i) {
    const std::string text = RandomText(rng, static_cast<int>(rng.Below(12)));
    const std::string_view rest = WithoutLooseEnds(text);
    EXPECT_NE(text.find(rest), std::string::npos);
    EXPECT_EQ(WithoutLooseEnds(rest), rest);
    EXPECT_EQ(rest.empty(), text.empty());
  }
}

}  // namespace
}  // namespace lectern::service::answer
