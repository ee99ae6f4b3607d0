#include "service/eval/measures.h"

#include <gtest/gtest.h>

#include "base/file.h"
#include "base/json.h"
#include "service/eval/trec_io.h"
#include "tests/support/temp_dir.h"

namespace lectern::eval {
namespace {

TEST(Measures, EqualTrecEvalToFourDecimalsTiesIncluded) {
  const std::string text = testing::ReadBytes(testing::SourcePath("data/golden/measures.json"));
  auto golden = ParseJson(text);
  ASSERT_TRUE(golden.ok()) << golden.status();
  Qrels qrels;
  RunMap run;
  for (const auto& [query, grades] : (*golden)["qrels"].items()) {
    for (const auto& [doc, grade] : grades.items()) qrels[query][doc] = grade;
  }
  for (const auto& [query, docs] : (*golden)["run"].items()) {
    for (const auto& [doc, score] : docs.items()) run[query].push_back({doc, score});
  }
  int compared = 0;
  for (const auto& [query, values] : (*golden)["values"].items()) {
    for (const auto& [name, value] : values.items()) {
      auto measures = ParseMeasures(name);
      ASSERT_TRUE(measures.ok()) << measures.status();
      const Scores scores = Evaluate({{query, qrels[query]}}, run, *measures);
      EXPECT_NEAR(scores.mean[0], value.get<double>(), 5e-5) << query << " " << name;
      ++compared;
    }
  }
  EXPECT_GE(compared, 150);
}

TEST(Measures, CountAQueryTheRunLacksAsZero) {
  const Qrels qrels = {{"a", {{"x", 1}}}, {"b", {{"x", 1}}}};
  const RunMap run = {{"a", {{"x", 1.0}}}, {"c", {{"x", 1.0}}}};
  const Scores scores = Evaluate(qrels, run, *ParseMeasures("nDCG@10, RBP(p=0.5)"));
  EXPECT_DOUBLE_EQ(scores.mean[0], 0.5);
  EXPECT_DOUBLE_EQ(scores.mean[1], 0.25);
  EXPECT_EQ(scores.missing_queries, 1);
  EXPECT_EQ(scores.unjudged_queries, 1);
}

TEST(Measures, NameAnUnknownMeasureAndTheKnownOnes) {
  const auto status = ParseMeasures("nDCG@10 Magic@3").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_NE(std::string(status.message()).find("Magic@3"), std::string::npos);
  EXPECT_FALSE(ParseMeasures("P").ok());
  EXPECT_FALSE(ParseMeasures("P@0").ok());
  EXPECT_FALSE(ParseMeasures("Rprec@3").ok());
  EXPECT_FALSE(ParseMeasures("RBP(p=1)").ok());
  EXPECT_FALSE(ParseMeasures("").ok());
}

TEST(TrecIo, ReadsWhatItWritesInTheSameOrderDespiteTies) {
  testing::TempDir dir;
  const std::vector<std::pair<std::string, std::vector<RunEntry>>> ranked = {
      {"q1", {{"b", 1.5}, {"a", 1.5}, {"c", 1.5}, {"d", 0.25}}}};
  testing::WriteBytes(dir / "run", *FormatRun(ranked, RunFormat::kTrec, "t"));
  auto run = ReadRun(dir / "run");
  ASSERT_TRUE(run.ok()) << run.status();
  std::string order;
  for (const RunEntry& entry : TrecOrder((*run)["q1"])) order += entry.doc_id;
  EXPECT_EQ(order, "bacd");
}

TEST(TrecIo, ReadsThreeKindsOfJudgements) {
  testing::TempDir dir;
  testing::WriteBytes(dir / "beir", "query-id\tcorpus-id\tscore\nq1\td1\t2\n");
  testing::WriteBytes(dir / "trec", "# a comment\nq1 0 d1 2\r\n");
  for (const char* name : {"beir", "trec"}) {
    auto qrels = ReadQrels(dir / name);
    ASSERT_TRUE(qrels.ok()) << qrels.status();
    EXPECT_EQ((*qrels)["q1"]["d1"], 2);
  }
  testing::WriteBytes(dir / "bad", "q1 0 d1 2\nq1 0 d2 x\n");
  const auto status = ReadQrels(dir / "bad").status();
  EXPECT_NE(std::string(status.message()).find("bad:2"), std::string::npos) << status;
}

TEST(TrecIo, WritesNoIdThatItCouldNotReadAgain) {
  const auto run = [](const char* query, const char* document) {
    return std::vector<std::pair<std::string, std::vector<RunEntry>>>{{query, {{document, 1.0}}}};
  };
  for (const auto& status : {FormatRun(run("q", "my file"), RunFormat::kTrec, "t").status(), FormatRun(run("q 1", "d"), RunFormat::kTrec, "t").status(),
                             FormatRun(run("q", "d"), RunFormat::kTrec, "a tag").status(), FormatRun(run("q", "a\tb"), RunFormat::kMsMarco, "").status()}) {
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
  }
  EXPECT_NE(std::string(FormatRun(run("q", "my file"), RunFormat::kTrec, "t").status().message()).find("'my file'"), std::string::npos);
  EXPECT_EQ(*FormatRun(run("q", "my file"), RunFormat::kMsMarco, ""), "q\tmy file\t1\n");
}

TEST(TrecIo, ReadsIdsWithBlanksBetweenTabs) {
  testing::TempDir dir;
  testing::WriteBytes(dir / "qrels", "query-id\tcorpus-id\tscore\nq1\tmy file.md\t2\nq1 0 d1 1\nq1\t\t0  d2\t1\n");
  auto qrels = ReadQrels(dir / "qrels");
  ASSERT_TRUE(qrels.ok()) << qrels.status();
  EXPECT_EQ((*qrels)["q1"], (std::map<std::string, int>{{"d1", 1}, {"d2", 1}, {"my file.md", 2}}));
  testing::WriteBytes(dir / "run", "q1\tmy file.md\t1\nq1\tQ0\td1\t2\t0.5\ttag\n");
  auto run = ReadRun(dir / "run");
  ASSERT_TRUE(run.ok()) << run.status();
  EXPECT_EQ((*run)["q1"][0].doc_id, "my file.md");
  EXPECT_EQ((*run)["q1"][1].doc_id, "d1");
}

TEST(TrecIo, ATopicOfThreeColumnsIsRefusedNotCut) {
  testing::TempDir dir;
  testing::WriteBytes(dir / "t", "1\twho\n2\twhat\twhere\n");
  const auto status = ReadTopics(dir / "t").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_NE(std::string(status.message()).find("t:2"), std::string::npos) << status;
}

TEST(TrecIo, RefusesWhatWouldCountTwice) {
  testing::TempDir dir;
  testing::WriteBytes(dir / "run", "q1 Q0 d1 1 3 t\nq2 Q0 d1 1 3 t\nq1 Q0 d2 2 2 t\nq1 Q0 d1 3 1 t\n");
  EXPECT_NE(std::string(ReadRun(dir / "run").status().message()).find("query q1 has document d1 more than once"), std::string::npos);
  testing::WriteBytes(dir / "topics", "1\twho\n1\twhat\n");
  EXPECT_NE(std::string(ReadTopics(dir / "topics").status().message()).find("topics:2: the topic id 1 came before"), std::string::npos);
}

TEST(TrecIo, ReadsTopicsAsJsonLinesOrTabs) {
  testing::TempDir dir;
  testing::WriteBytes(dir / "a", "{\"_id\": \"1\", \"text\": \"who\", \"answers\": [\"x\", \"y\"]}\n");
  testing::WriteBytes(dir / "b", "1\twho\n");
  for (const char* name : {"a", "b"}) {
    auto topics = ReadTopics(dir / name);
    ASSERT_TRUE(topics.ok()) << topics.status();
    EXPECT_EQ(topics->at(0).id, "1");
    EXPECT_EQ(topics->at(0).text, "who");
  }
}

}  // namespace
}  // namespace lectern::eval
