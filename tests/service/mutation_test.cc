// Damaged settings, judgements, runs, topics, questions and answers: each is refused with a clear
// message or read as it stands.
#include <gtest/gtest.h>

#include <functional>
#include <string>

#include "service/config.h"
#include "service/eval/answer_report.h"
#include "service/eval/measures.h"
#include "service/eval/questions.h"
#include "service/eval/trec_io.h"
#include "tests/support/mutations.h"
#include "tests/support/temp_dir.h"

namespace lectern::eval {
namespace {

using testing::Exact;
using testing::Mutations;

// Through a file, as these are read. `least`: refusals below which the reader would be too lenient
// to mean anything.
void MutateFile(const std::string& kind, const std::string& valid, int least,
                const std::function<absl::Status(const std::string& path)>& read) {
  testing::TempDir dir;
  const std::string path = dir / "file";
  testing::WriteBytes(path, valid);
  ASSERT_TRUE(read(path).ok()) << kind << ": " << read(path);
  Mutations mutations(kind);
  while (mutations.Next()) {
    testing::WriteBytes(path, mutations.Of(valid));
    mutations.Count(read(path));
  }
  EXPECT_GT(mutations.refused(), least) << kind;
}

const std::vector<Measure>& SomeMeasures() {
  static const std::vector<Measure> kMeasures = *ParseMeasures("nDCG@10, AP, RR@10, R@100, P@5");
  return kMeasures;
}

absl::Status UseQrels(const std::string& path) {
  ASSIGN_OR_RETURN(const Qrels qrels, ReadQrels(path));
  const Scores scores = Evaluate(qrels, {{"q1", {{"d1", 2.0}, {"d2", 1.0}}}}, SomeMeasures());
  for (const double mean : scores.mean) {
    EXPECT_GE(mean, 0.0);
    EXPECT_LE(mean, 1.0);
  }
  return absl::OkStatus();
}

absl::Status UseRun(const std::string& path) {
  ASSIGN_OR_RETURN(const RunMap run, ReadRun(path));
  const Scores scores =
      Evaluate({{"q1", {{"d1", 1}, {"d7", 2}}}, {"q2", {{"d2", 1}}}}, run, SomeMeasures());
  for (const double mean : scores.mean) {
    EXPECT_GE(mean, 0.0);
    EXPECT_LE(mean, 1.0);
  }
  return absl::OkStatus();
}

TEST(MutatedJudgements, AreRefusedOrScoredWithinTheirRange) {
  MutateFile("qrels, TREC", "q1 0 d1 1\nq1 0 d2 0\nq2 0 d7 2\nq2 0 d9 3\n", 200, UseQrels);
  MutateFile("qrels, BEIR", "query-id\tcorpus-id\tscore\nq1\td1\t1\nq1\td2\t0\nq2\td7\t2\n", 200,
             UseQrels);
}

TEST(MutatedRuns, AreRefusedOrScoredWithinTheirRange) {
  MutateFile("run, TREC",
             "q1 Q0 d1 1 12.5 tag\nq1 Q0 d2 2 11.25 tag\nq2 Q0 d7 1 3e-2 tag\nq2 Q0 d9 2 -1 tag\n",
             200, UseRun);
  MutateFile("run, MS MARCO", "q1\td1\t1\nq1\td2\t2\nq2\td7\t1\nq2\td9\t2\n", 200, UseRun);
}

TEST(MutatedTopics, AreRefusedOrRead) {
  const auto read = [](const std::string& path) { return ReadTopics(path).status(); };
  MutateFile("topics, JSON lines",
             "{\"_id\":\"q1\",\"text\":\"old "
             "bridge\",\"answers\":[\"stone\"]}\n{\"_id\":\"q2\",\"text\":\"whale\"}\n",
             200, read);
  MutateFile("topics, tabs", "q1\told bridge of stone\nq2\twhite whale\nq3\tferns\n", 50, read);
}

TEST(MutatedQuestions, AreRefusedOrRead) {
  const auto read = [](const std::string& path) { return ReadQuestions(path).status(); };
  MutateFile(
      "questions, SQuAD",
      R"({"version":"v2.0","data":[{"title":"Bridge","paragraphs":[{"context":"It was built in 1779.","qas":[)"
      R"({"id":"a","question":"When?","is_impossible":false,"answers":[{"text":"1779","answer_start":16}]},)"
      R"({"id":"b","question":"Who?","is_impossible":true,"answers":[]}]}]}]})",
      300, read);
  MutateFile("questions, JSON lines",
             "{\"id\":\"a\",\"question\":\"When?\",\"answers\":[\"1779\"],\"doc_id\":\"bridge\"}\n{"
             "\"id\":\"b\",\"question\":\"Who?\",\"answers\":[]}\n",
             200, read);
}

TEST(MutatedAnswers, AreRefusedOrScored) {
  const auto questions = ParseQuestions(
      "{\"id\":\"a\",\"question\":\"When?\",\"answers\":[\"1779\"],\"doc_id\":\"bridge\"}\n{\"id\":"
      "\"b\",\"question\":\"Who?\",\"answers\":[]}\n",
      "q");
  ASSERT_TRUE(questions.ok()) << questions.status();
  MutateFile("answers on file",
             "{\"run\":{\"k\":10,\"reader\":\"small\"}}\n"
             "{\"id\":\"a\",\"outcome\":\"answered\",\"answer\":\"in 1779\",\"reply\":\"in "
             "1779\",\"trust\":0.75,\"citations\":[{\"doc_id\":\"bridge\",\"start\":7,\"end\":20,"
             "\"quote\":\"built in 1779\"}]}\n"
             "{\"id\":\"b\",\"outcome\":\"abstained\",\"answer\":null,\"reply\":\"not "
             "found\",\"trust\":0.1,\"citations\":[]}\n",
             200, [&](const std::string& path) -> absl::Status {
               ASSIGN_OR_RETURN(const AnswerFile answers, ReadAnswers(path));
               for (const bool closed : {false, true})
                 (void)ScoreAnswers(*questions, answers, closed);
               return absl::OkStatus();
             });
}

TEST(MutatedSettings, AreRefusedOrRoundTrip) {
  MutateFile("settings, TOML",
             "[search]\nk = 3\n\n[reader]\nmax_tokens = 7\nmodel = "
             "\"my.gguf\"\n\n[index]\nmemory_bytes = \"1GiB\"\nthreads = 2\n",
             300, [](const std::string& path) -> absl::Status {
               ASSIGN_OR_RETURN(const service::Config config,
                                service::Config::Load({.file = path, .read_environment = false}));
               testing::TempDir dir;
               testing::WriteBytes(dir / "again.toml", config.ToToml(/*with_origin=*/false));
               const auto again =
                   service::Config::Load({.file = dir / "again.toml", .read_environment = false});
               EXPECT_TRUE(again.ok()) << again.status();
               return absl::OkStatus();
             });
}

}  // namespace
}  // namespace lectern::eval
