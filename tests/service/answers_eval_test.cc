#include "service/eval/answers.h"

#include <gtest/gtest.h>

#include "service/eval/squad.h"
#include "tests/support/temp_dir.h"

namespace lectern::eval {
namespace {

// Left: the text; right: what the SQuAD script (Python 3.11) makes of it.
TEST(Normalise, EqualsTheSquadScript) {
  EXPECT_EQ(NormaliseAnswer("The  Nile, a river!"), "nile river");
  EXPECT_EQ(NormaliseAnswer("An apple-a-day"), "appleaday");
  EXPECT_EQ(NormaliseAnswer("É. Zola’s “the” book"), "é zola’s “ ” book");
  EXPECT_EQ(NormaliseAnswer("ÀÉÎ ŽČ ΑΒΩ АБЯЁ"), "àéî žč αβω абяё");
  EXPECT_EQ(NormaliseAnswer("a"), "");
  EXPECT_EQ(NormaliseAnswer("3,000 m²"), "3000 m²");
  EXPECT_EQ(NormaliseAnswer("U.S. (the)"), "us");
  EXPECT_EQ(NormaliseAnswer("thé a"), "thé");
  EXPECT_EQ(NormaliseAnswer("x\u00a0the\u2003y"), "x y");
}

TEST(Measures, OfAnswersAreTheBestOverTheGolds) {
  const std::vector<std::string> golds = {"Denver Broncos", "the Broncos"};
  EXPECT_EQ(ExactMatch("Broncos", golds), 1);
  EXPECT_EQ(ExactMatch("Denver", golds), 0);
  EXPECT_DOUBLE_EQ(TokenF1("Denver", golds), 2.0 / 3);
  EXPECT_EQ(ContainsAnswer("It was the Denver Broncos.", golds), 1);
  EXPECT_EQ(TokenF1("", golds), 0);
  EXPECT_EQ(ExactMatch("x", {}), 0);
  EXPECT_TRUE(IsRefusal("Not found."));
  EXPECT_TRUE(IsRefusal("  "));
  EXPECT_FALSE(IsRefusal("found in 1902"));
}

TEST(Citations, AreGoodInTheGoldPassageOrWithAnAcceptedAnswer) {
  const std::vector<std::string> golds = {"1931"};
  const std::vector<GoldPassage> gold = {{"d1", 10, 50}};
  const std::vector<CitedSpan> cited = {{"d1", "built here", 12, 22}, {"d1", "elsewhere", 60, 69}, {"d2", "in 1931.", 0, 8}};
  const CitationCounts counts = CountCitations(cited, gold, golds);
  EXPECT_EQ(counts.cited, 3);
  EXPECT_EQ(counts.good, 2);
  EXPECT_TRUE(counts.any_good);
}

TEST(RiskCoverage, FallsAsTheLeastTrustedAreLeftOut) {
  const std::vector<double> trust = {0.9, 0.8, 0.8, 0.1};
  const std::vector<bool> right = {true, true, false, false};
  const RiskCoverage curve = RiskCoverageOf(trust, right);
  ASSERT_EQ(curve.points.size(), 3u);   // the tie enters as one
  EXPECT_DOUBLE_EQ(curve.points[0].coverage, 0.25);
  EXPECT_DOUBLE_EQ(curve.points[0].risk, 0);
  EXPECT_DOUBLE_EQ(curve.points[1].risk, 1.0 / 3);
  EXPECT_DOUBLE_EQ(curve.points[2].risk, 0.5);
}

TEST(Abstention, KeepsTheShareOfRightAnswersAskedFor) {
  const std::vector<double> trust = {0.9, 0.7, 0.5, 0.3, 0.6, 0.2};
  const std::vector<bool> right = {true, true, true, true, false, false};
  const std::vector<bool> impossible = {false, false, false, false, true, true};
  const AbstentionPoint at = AbstentionAt(0.75, trust, right, impossible);
  EXPECT_DOUBLE_EQ(at.threshold, 0.5);
  EXPECT_DOUBLE_EQ(at.kept_right, 0.75);
  EXPECT_DOUBLE_EQ(at.abstained_unanswerable, 0.5);
  EXPECT_DOUBLE_EQ(at.abstained_answerable, 0.25);
}

TEST(Sample, DrawsWhatPythonDraws) {
  std::vector<SquadQuestion> many(10570);
  for (size_t i = 0; i < many.size(); ++i) {
    char id[16];
    std::snprintf(id, sizeof(id), "%05zu", i);
    many[i].id = id;
  }
  const auto five = SampleQuestions(many, 5, 7);
  EXPECT_EQ(five[0].id, "05305");
  EXPECT_EQ(five[1].id, "02471");
  EXPECT_EQ(five[4].id, "01186");
  many.resize(30);
  const auto ten = SampleQuestions(many, 10, 7);
  EXPECT_EQ(ten[0].id, "00010");
  EXPECT_EQ(ten[2].id, "00012");
  EXPECT_EQ(ten[9].id, "00018");
}

TEST(Squad, ReadsQuestionsAndRefusesOtherJsonByName) {
  const auto read = ParseSquad(R"({"data":[{"title":"T","paragraphs":[{"context":"C.","qas":[
      {"id":"1","question":"Q?","answers":[{"text":"C","answer_start":0}]},
      {"id":"2","question":"R?","answers":[],"is_impossible":true}]}]}]})");
  ASSERT_TRUE(read.ok()) << read.status();
  ASSERT_EQ(read->size(), 2u);
  EXPECT_EQ((*read)[0].answers[0], "C");
  EXPECT_TRUE((*read)[1].impossible);
  EXPECT_EQ(ParseSquad("{}").status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(ParseSquad(R"({"data":[{"title":"T"}]})").status().code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace lectern::eval
