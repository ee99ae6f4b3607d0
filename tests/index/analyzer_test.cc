#include "index/analyzer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>
#include <thread>

#include "base/json.h"
#include "base/rng.h"
#include "tests/support/temp_dir.h"

namespace lectern::index {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::lectern::testing::ReadXz;
using ::lectern::testing::SharedPath;

std::shared_ptr<const Analyzer> Get(std::string_view name) {
  auto analyzer = Analyzer::Named(name);
  EXPECT_TRUE(analyzer.ok()) << analyzer.status();
  return *analyzer;
}

struct Token {
  std::string term;
  int64_t begin, end;
  bool operator==(const Token&) const = default;
};
void PrintTo(const Token& token, std::ostream* out) { *out << token.term << "@" << token.begin << ":" << token.end; }

std::vector<Token> Tokens(const Analyzer& analyzer, std::string_view text, bool through_icu = false) {
  std::vector<Token> tokens;
  const auto sink = [&](std::string_view term, int64_t begin, int64_t end) {
    tokens.push_back({std::string(term), begin, end});
  };
  through_icu ? analyzer.AnalyzeThroughIcuForTest(text, sink) : analyzer.Analyze(text, sink);
  return tokens;
}

TEST(Analyzer, RefusesAnUnknownNameAndListsTheKnownOnes) {
  const auto analyzer = Analyzer::Named("klingon");
  ASSERT_EQ(analyzer.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(analyzer.status().message()), HasSubstr("klingon"));
  EXPECT_THAT(std::string(analyzer.status().message()), HasSubstr("en, en-stop, es"));
}

TEST(Analyzer, OpensByItsVersionedNameAndRefusesAnotherVersion) {
  EXPECT_EQ(Get("en")->name(), "en/1");
  EXPECT_EQ(Get("en/1")->name(), "en/1");
  EXPECT_FALSE(Analyzer::Named("en/9").ok());
}

TEST(Analyzer, EveryKnownNameOpensAndAnalyses) {
  for (const std::string& name : Analyzer::KnownNames()) {
    EXPECT_THAT(Get(name)->Terms("x 1"), ElementsAre("x", "1")) << name;
  }
}

TEST(Analyzer, FoldsCaseStemsAndKeepsSpans) {
  EXPECT_THAT(Tokens(*Get("en"), "The Whales, swimming!"),
              ElementsAre(Token{"the", 0, 3}, Token{"whale", 4, 10}, Token{"swim", 12, 20}));
}

TEST(Analyzer, DropsLucenesStopWordsWhereAskedTo) {
  const auto keeps = Get("en"), drops = Get("en-stop");
  EXPECT_EQ(drops->name(), "en-stop/1");
  for (const bool through_icu : {false, true}) {
    EXPECT_THAT(Tokens(*drops, "The Whales, swimming!", through_icu), ElementsAre(Token{"whale", 4, 10}, Token{"swim", 12, 20}));
    EXPECT_THAT(Tokens(*drops, "To be, or not to be: that is it.", through_icu), IsEmpty());
  }
  EXPECT_THAT(drops->Terms("thee isn't an Ａ caf\u00e9"), ElementsAre("thee", "isn't", "cafe"));
  const std::string all = "a an and are as at be but by for if in into is it no not of on or such that the their then there these they this to was will with";
  EXPECT_EQ(keeps->Terms(all).size(), 33u);
  EXPECT_THAT(drops->Terms(all), IsEmpty());
}

TEST(Analyzer, StemsAsSnowballDoes) {
  const std::pair<const char*, const char*> kKnown[] = {
      {"caresses", "caress"},   {"ponies", "poni"},      {"relational", "relat"}, {"generalizations", "general"},
      {"hopping", "hop"},       {"john's", "john"},      {"dying", "die"},        {"skies", "sky"},
      {"consolidate", "consolid"}, {"knightly", "knight"}};
  for (const auto& [word, stem] : kKnown) EXPECT_THAT(Get("en")->Terms(word), ElementsAre(stem)) << word;
  EXPECT_THAT(Get("icu")->Terms("Relational whales"), ElementsAre("relational", "whales"));
  EXPECT_THAT(Get("de")->Terms("Häuser"), ElementsAre("haus"));
}

TEST(Analyzer, JoinsApostrophesInEnglishAndSplitsElisionsInFrench) {
  EXPECT_THAT(Get("icu")->Terms("don't o'clock 'quoted' rock'n'roll"),
              ElementsAre("don't", "o'clock", "quoted", "rock'n'roll"));
  EXPECT_THAT(Get("icu")->Terms("don\u2019t"), ElementsAre("don't"));
  EXPECT_THAT(Get("fr")->Terms("l'homme l\u2019homme"), ElementsAre("l", "homm", "l", "homm"));
}

TEST(Analyzer, FoldsCompatibilityFormsAndDropsAccentsInEnglishOnly) {
  EXPECT_THAT(Get("en")->Terms("ＡＢＣ caf\u00e9 cafe\u0301 ﬁnd x²"),
              ElementsAre("abc", "cafe", "cafe", "find", "x2"));
  EXPECT_THAT(Get("icu")->Terms("caf\u00e9 cafe\u0301"), ElementsAre("caf\u00e9", "caf\u00e9"));
  EXPECT_THAT(Get("en")->Terms("½"), ElementsAre("1", "2"));
}

TEST(Analyzer, LowersTurkishDottedAndDotlessI) {
  EXPECT_EQ(Get("tr")->Terms("IŞIK"), Get("tr")->Terms("ışık"));
  EXPECT_EQ(Get("tr")->Terms("İZMİR"), Get("tr")->Terms("izmir"));
}

TEST(Analyzer, CutsChineseJapaneseAndKoreanIntoBigrams) {
  EXPECT_THAT(Tokens(*Get("icu"), "北京大学 x"), ElementsAre(Token{"北京", 0, 6}, Token{"京大", 3, 9},
                                                            Token{"大学", 6, 12}, Token{"x", 13, 14}));
  EXPECT_THAT(Get("icu")->Terms("人"), ElementsAre("人"));
  EXPECT_THAT(Get("icu")->Terms("ｶﾞｽ"), ElementsAre("ガス"));
}

TEST(Analyzer, FindsThaiWordsWithADictionary) {
  EXPECT_THAT(Get("icu")->Terms("ภาษาไทย"), ElementsAre("ภาษา", "ไทย"));
}

TEST(Analyzer, CutsAnEndlessWordIntoTermsOfAtMost255Bytes) {
  for (const std::string unit : {"a", "é", "日"}) {
    std::string text;
    while (text.size() < 2000) text += unit;
    size_t bytes = 0;
    for (const std::string& term : Get("icu")->Terms(text)) {
      EXPECT_LE(term.size(), 255u);
      bytes += term.size();
    }
    EXPECT_GE(bytes, text.size());
  }
}

TEST(Analyzer, TreatsBrokenUtf8AsSeparators) {
  EXPECT_THAT(Get("en")->Terms("one\xFFtwo\xE2\x80 three\xC3"), ElementsAre("one", "two", "three"));
  EXPECT_THAT(Get("en")->Terms(std::string(3, '\x80')), IsEmpty());
}

TEST(Analyzer, GivesTheSameTermsThroughTheFastPathAndThroughIcu) {
  constexpr std::string_view kAscii = "aAbBzZ09'' -.,_\"()\n\tIi's";
  const std::vector<std::string> kMixed = {"a", "B", "'", " ", "\u2019", "é", "\u201d", "—", "9", "日", "ß", "\xFF", "ก", "\u00AD"};
  for (const char* name : {"en", "icu", "fr", "tr"}) {
    const auto analyzer = Get(name);
    for (uint64_t seed = 0; seed < 1000; ++seed) {
      Rng rng(seed, 1);
      std::string ascii, mixed;
      const uint64_t size = rng.Next() % (seed % 50 == 0 ? 600 : 40);
      for (uint64_t i = 0; i < size; ++i) ascii += seed % 50 == 0 ? 'x' : kAscii[rng.Next() % kAscii.size()];
      for (uint64_t i = 0; i < size; ++i) mixed += kMixed[rng.Next() % kMixed.size()];
      ASSERT_EQ(Tokens(*analyzer, ascii), Tokens(*analyzer, ascii, true)) << name << ": " << ascii;
      ASSERT_EQ(Tokens(*analyzer, mixed), Tokens(*analyzer, mixed, true)) << name << ": " << mixed;
    }
  }
}

TEST(Analyzer, GivesTheSameStemsFromManyThreads) {
  const auto analyzer = Get("en");
  std::vector<std::string> words;
  for (int i = 0; i < 40000; ++i) words.push_back("word" + std::to_string(i % 5000) + "ings");
  std::vector<std::vector<std::string>> got(4);
  std::vector<std::thread> threads;
  for (auto& mine : got) {
    threads.emplace_back([&] {
      for (const std::string& word : words) mine.push_back(analyzer->Terms(word).front());
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const auto& mine : got) EXPECT_EQ(mine, got[0]);
}

// A smoke test: in each of twelve languages most content of a question's answer is found in its own paragraph.
TEST(Analyzer, FindsEachAnswersWordsInItsParagraphInTwelveLanguages) {
  const std::string folder = SharedPath("data/xquad");
  LECTERN_NEED(folder);
  for (const std::string language : {"ar", "de", "el", "en", "es", "hi", "ro", "ru", "th", "tr", "vi", "zh"}) {
    const std::set<std::string> stemmed = {"ar", "de", "el", "en", "es", "hi", "ro", "ru", "tr"};
    const auto analyzer = Get(stemmed.count(language) ? language : "icu");
    const auto json = ParseJson(ReadXz(folder + "/xquad." + language + ".json.xz"), {});
    ASSERT_TRUE(json.ok()) << language;
    int64_t answers = 0, whole = 0, paragraphs = 0;
    for (const Json& article : (*json)["data"]) {
      for (const Json& paragraph : article["paragraphs"]) {
        if (++paragraphs % 6 != 0) continue;  // every sixth keeps this short
        const std::string context = paragraph["context"];
        const std::vector<std::string> terms = analyzer->Terms(context);
        const std::set<std::string> known(terms.begin(), terms.end());
        EXPECT_GT(terms.size(), 20u);
        for (const Json& qa : paragraph["qas"]) {
          ++answers;
          bool all = true;
          for (const std::string& term : analyzer->Terms(std::string(qa["answers"][0]["text"]))) {
            all &= known.count(term) > 0;
          }
          whole += all;
        }
      }
    }
    EXPECT_GE(whole, answers * 85 / 100) << language << ": " << whole << " of " << answers;
  }
}

}  // namespace
}  // namespace lectern::index
