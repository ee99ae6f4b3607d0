#include "service/eval/answers.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "base/json.h"
#include "service/answer/calibration.h"
#include "service/eval/answer_report.h"
#include "service/eval/questions.h"
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
  std::vector<EvalQuestion> many(10570);
  for (size_t i = 0; i < many.size(); ++i) {
    char id[24];
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

constexpr std::string_view kSquad = R"({"data":[{"title":"T","paragraphs":[{"context":"C.","qas":[
      {"id":"1","question":"Q?","answers":[{"text":"C","answer_start":0}]},
      {"id":"2","question":"R?","answers":[],"is_impossible":true}]}]}]})";

TEST(Shards, TogetherAreAllQuestionsAndNoneTwice) {
  std::vector<EvalQuestion> all(10);
  for (int i = 0; i < 10; ++i) all[i].id = std::to_string(i);
  std::multiset<std::string> seen;
  for (const char* shard : {"0/3", "1/3", "2/3"}) {
    const auto part = ShardOf(all, shard);
    ASSERT_TRUE(part.ok());
    EXPECT_GE(part->size(), 3u);
    for (const EvalQuestion& question : *part) seen.insert(question.id);
  }
  EXPECT_EQ(seen.size(), 10u);
  EXPECT_EQ(std::set<std::string>(seen.begin(), seen.end()).size(), 10u);
  for (const char* bad : {"", "1", "3/3", "-1/3", "1/0", "a/3", "1/b", "0/3x"}) {
    EXPECT_NE(std::string(ShardOf(all, bad).status().message()).find("I/N"), std::string::npos) << bad;
  }
}

TEST(AnswerReport, ShardsOfOneRunMayFollowEachOtherAndRunsOfTwoKindsMayNot) {
  const std::string first = R"({"run":{"k":10,"shard":"0/2"}})" "\n" R"({"id":"a","answer":"x"})" "\n";
  const auto both = ParseAnswers(first + R"({"run":{"k":10,"shard":"1/2"}})" "\n" R"({"id":"b","answer":"y"})" "\n", "f");
  ASSERT_TRUE(both.ok()) << both.status();
  EXPECT_EQ(both->answers.size(), 2u);
  const std::string here = R"({"run":{"reader":"/a/m.gguf","reader_sha256":"5","questions":"q","seed":7}})" "\n";
  EXPECT_TRUE(ParseAnswers(here + R"({"run":{"reader":"m","reader_sha256":"5","questions":"r","seed":8}})" "\n", "f").ok());
  EXPECT_FALSE(ParseAnswers(here + R"({"run":{"reader":"/a/m.gguf","reader_sha256":"6","questions":"q","seed":7}})" "\n", "f").ok());
  const auto mixed = ParseAnswers(first + R"({"run":{"k":20,"shard":"1/2"}})" "\n", "f");
  EXPECT_NE(std::string(mixed.status().message()).find("f:3"), std::string::npos);
}

TEST(AnswerReport, RejudgingTakesTrustFromTheFeaturesOnFile) {
  service::answer::TrustFeatures strong{}, weak{};
  const auto at = [](std::string_view name) {
    return std::find(service::answer::kTrustNames.begin(), service::answer::kTrustNames.end(), name) - service::answer::kTrustNames.begin();
  };
  strong[at("coverage")] = 1;
  weak[at("gap")] = 1;
  weak[at("missing_names")] = 3;
  weak[at("logprob")] = -10;
  const auto line = [](const char* id, const service::answer::TrustFeatures& features) {
    return DumpJson({{"id", id}, {"outcome", "partial"}, {"answer", "Nile"}, {"reply", "Nile"}, {"trust", 0.5}, {"features", {{"trust", features}}}}) + "\n";
  };
  auto file = ParseAnswers(line("strong", strong) + line("weak", weak), "f");
  ASSERT_TRUE(file.ok()) << file.status();
  ASSERT_TRUE(Rejudge(&*file).ok());
  EXPECT_FALSE(file->answers["strong"].abstained);
  EXPECT_TRUE(file->answers["weak"].abstained);
  EXPECT_EQ(file->answers["strong"].trust, service::answer::TrustProbability(strong));
  auto other = ParseAnswers(R"({"id":"a","reply":"x"})", "f");
  EXPECT_FALSE(Rejudge(&*other).ok());
}

TEST(Questions, AreReadFromSquadAndFromJsonLines) {
  const auto squad = ParseQuestions(kSquad, "f");
  ASSERT_TRUE(squad.ok()) << squad.status();
  ASSERT_EQ(squad->size(), 2u);
  EXPECT_EQ((*squad)[0].answers[0], "C");
  EXPECT_EQ((*squad)[0].context, "C.");
  EXPECT_FALSE((*squad)[0].unanswerable);
  EXPECT_TRUE((*squad)[1].unanswerable);
  const auto lines = ParseQuestions("{\"_id\":\"a\",\"text\":\"Q?\",\"answers\":[\"x\",\"y\"]}\n\n"
                                    "{\"question\":\"R?\",\"answer\":[]}\n{\"id\":\"c\",\"question\":\"S?\",\"doc_id\":null}\n", "f");
  ASSERT_TRUE(lines.ok()) << lines.status();
  ASSERT_EQ(lines->size(), 3u);
  EXPECT_EQ((*lines)[0].answers.size(), 2u);
  EXPECT_EQ((*lines)[1].id, "3") << "the line's number, where the file has no ids";
  EXPECT_TRUE((*lines)[1].unanswerable);
  EXPECT_FALSE((*lines)[2].judged) << "no answers given is not the same as none accepted";
}

TEST(Questions, ABlankFirstLineIsSkippedLikeAnyOther) {
  const auto lines = ParseQuestions("\r\n \n{\"question\":\"Q?\"}\n", "f");
  ASSERT_TRUE(lines.ok()) << lines.status();
  ASSERT_EQ(lines->size(), 1u);
  EXPECT_EQ((*lines)[0].id, "3");
}

TEST(Questions, BadFilesAreRefusedWithTheLine) {
  const auto message = [](std::string_view text) { return std::string(ParseQuestions(text, "f").status().message()); };
  EXPECT_NE(message("{}").find("f:1"), std::string::npos);
  EXPECT_NE(message("[1]").find("neither SQuAD"), std::string::npos);
  EXPECT_EQ(message(""), "f holds no question");
  EXPECT_EQ(message(" \r\n\n"), "f holds no question");
  EXPECT_NE(message(R"({"data":[{"title":"T"}]})").find("paragraphs"), std::string::npos);
  EXPECT_NE(message("{\"id\":\"a\",\"text\":\"Q\"}\n{\"id\":\"a\",\"text\":\"R\"}\n").find("twice"), std::string::npos);
  EXPECT_NE(message("{\"id\":\"a\",\"text\":\"Q\"}\n{\"id\":\"b\"}\n").find("f:2"), std::string::npos);
  EXPECT_NE(message("{\"id\":\"a\",\"text\":\"Q\",\"answers\":[3]}\n").find("strings"), std::string::npos);
  EXPECT_NE(message("{\"id\":\"a\",\"text\":\"Q\"}\nnot json\n").find("f:2"), std::string::npos);
  EXPECT_EQ(ReadQuestions("/nonexistent/x.json").status().code(), absl::StatusCode::kNotFound);
}

std::vector<EvalQuestion> FourQuestions() {
  return *ParseQuestions("{\"id\":\"a\",\"text\":\"A?\",\"answers\":[\"red\"],\"doc_id\":\"d1\"}\n{\"id\":\"b\",\"text\":\"B?\",\"answers\":[\"blue\"],\"doc_id\":\"d2\"}\n"
                         "{\"id\":\"c\",\"text\":\"C?\",\"answers\":[]}\n{\"id\":\"d\",\"text\":\"D?\",\"answers\":[]}\n", "q");
}

AnswerFile FourAnswers() {
  return *ParseAnswers(
      "{\"run\":{\"reader\":\"r\"}}\n"
      R"({"id":"a","outcome":"answered","answer":"red","reply":"red","trust":0.9,"citations":[{"doc_id":"d1","start":0,"end":9,"quote":"it is big"}]})" "\n"
      R"({"id":"b","outcome":"answered","answer":"dark blue","reply":"dark blue","trust":0.6,"citations":[{"doc_id":"d9","start":0,"end":5,"quote":"green"}]})" "\n"
      R"({"id":"c","outcome":"answered","answer":"pink","reply":"pink","trust":0.5,"citations":[]})" "\n"
      R"({"id":"d","outcome":"abstained","answer":null,"reply":"grey","trust":0.1,"citations":[]})" "\n", "mine");
}

TEST(AnswerReport, EachMeasureIsOverTheQuestionsItIsAbout) {
  const AnswerReport report = ScoreAnswers(FourQuestions(), FourAnswers(), /*closed=*/false);
  EXPECT_EQ(report.answerable, 2);
  EXPECT_EQ(report.unanswerable, 2);
  EXPECT_EQ(report.missing, 0);
  EXPECT_DOUBLE_EQ(report.Find("EM")->mean.mean, 0.5);
  EXPECT_DOUBLE_EQ(report.Find("F1")->mean.mean, (1 + 2.0 / 3) / 2);
  EXPECT_DOUBLE_EQ(report.Find("Contains")->mean.mean, 1);
  EXPECT_DOUBLE_EQ(report.Find("Abstain-Acc")->mean.mean, 0.5);
  EXPECT_DOUBLE_EQ(report.Find("CitP")->mean.mean, 0.5) << "one lies in the gold document, the other nowhere";
  EXPECT_DOUBLE_EQ(report.Find("CitR")->mean.mean, 0.5);
  const AnswerReport closed = ScoreAnswers(FourQuestions(), FourAnswers(), /*closed=*/true);
  EXPECT_DOUBLE_EQ(closed.Find("CitP")->mean.mean, 0) << "in the only passage every span lies: the answer must be in the quote";
}

TEST(AnswerReport, TheCurveGoesFromAllAnsweredToFew) {
  const AnswerReport report = ScoreAnswers(FourQuestions(), FourAnswers(), false);
  ASSERT_EQ(report.curve.size(), 4u);
  EXPECT_DOUBLE_EQ(report.curve.front().threshold, 0.1);
  EXPECT_DOUBLE_EQ(report.curve.front().answered, 1);
  EXPECT_DOUBLE_EQ(report.curve.front().risk, 0.75);
  EXPECT_DOUBLE_EQ(report.curve.back().answered, 0.25);
  EXPECT_DOUBLE_EQ(report.curve.back().risk, 0);
  EXPECT_DOUBLE_EQ(report.curve.back().abstained_unanswerable, 1);
  EXPECT_DOUBLE_EQ(report.curve[2].threshold, 0.6);
  EXPECT_DOUBLE_EQ(report.curve[2].kept_right, 1);
  EXPECT_DOUBLE_EQ(report.curve[2].abstained_answerable, 0);
  const auto thin = ThinCurve(report.curve, 2);
  ASSERT_EQ(thin.size(), 2u);
  EXPECT_DOUBLE_EQ(thin[1].answered, 0.25);
}

TEST(AnswerReport, AnotherSystemIsComparedQuestionByQuestion) {
  const auto theirs = ParseAnswers("{\"id\":\"a\",\"reply\":\"not found\"}\n{\"id\":\"b\",\"reply\":\"blue\"}\n{\"id\":\"c\",\"reply\":\"pink\"}\n{\"id\":\"d\",\"reply\":\"Not found.\"}\n", "t");
  ASSERT_TRUE(theirs.ok()) << theirs.status();
  const auto rows = CompareAnswers(FourQuestions(), *theirs, FourAnswers(), false);
  const auto row = [&](std::string_view name) {
    for (const auto& r : rows) {
      if (r.measure == name) return r;
    }
    return AnswerComparison{};
  };
  EXPECT_EQ(row("EM").questions, 2);
  EXPECT_DOUBLE_EQ(row("EM").difference.difference.mean, 0);
  EXPECT_EQ(row("EM").difference.wins, 1);
  EXPECT_EQ(row("EM").difference.losses, 1);
  EXPECT_DOUBLE_EQ(row("Answered").baseline, 0.5);
  // They answer half of the answerable questions. Ours at that share: only the most trusted answer, so both unanswerable ones are refused.
  EXPECT_DOUBLE_EQ(row("Abstain-Acc at equal Answered").value, 1);
  EXPECT_DOUBLE_EQ(row("Abstain-Acc at equal Answered").baseline, 0.5);
}

TEST(AnswerReport, AStoppedFileIsReadUpToItsLastWholeLine) {
  const auto file = ParseAnswers("{\"run\":{}}\n{\"id\":\"a\",\"reply\":\"x\"}\n{\"id\":\"b\",\"rep", "f");
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ(file->answers.size(), 1u);
  EXPECT_FALSE(ParseAnswers("{\"id\":\"a\",\"reply\":\"x\"}\nbroken\n", "f").ok());
  EXPECT_FALSE(ParseAnswers("{\"id\":\"a\"}\n", "f").ok());
  EXPECT_FALSE(ParseAnswers("{\"id\":\"a\",\"reply\":\"x\"}\n{\"id\":\"a\",\"reply\":\"y\"}\n", "f").ok());
}

}  // namespace
}  // namespace lectern::eval
