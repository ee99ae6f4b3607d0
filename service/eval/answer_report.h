// service/eval/answer_report.h: answers on file, and the figures they come to.
//
//   ASSIGN_OR_RETURN(AnswerFile mine, ReadAnswers("answers.jsonl"));       // ours, or another system's
//   AnswerReport report = ScoreAnswers(questions, mine);
//   std::vector<AnswerComparison> rows = CompareAnswers(questions, theirs, mine);
//
// Shapes:  one JSON line an answer. Ours: id, outcome, answer (null where it abstained), reply, trust, citations. Another system's:
//          id|_id|query_id and answer|reply|prediction, where a refusal ("not found", ...) counts as abstaining. A line
//          {"run": ...} tells how the answers were made; several (shards, runs over other questions) must agree in all that answers
//          depend on: the model by its checksum, not the questions. Citation offsets are bytes.
// Threads: pure functions.
// Errors:  kInvalidArgument with file, line and what is missing; an id that comes twice.
// Cost:    everything in memory; 10,000 bootstrap rounds a measure.
//
// Measures, each the mean over the questions named:
//   EM F1 Contains            answerable questions; an abstention counts 0
//   EM-reply F1-reply         the same, of what the reader would have said without abstaining
//   Answered                  answerable questions that were answered
//   Abstain-Acc               unanswerable questions that were abstained from
//   CitP                      citations that are good, over all given for judged questions; CitR: answerable questions with a good one
// A citation is good where it lies in the document that answers, or its quote holds an accepted answer. In a closed test the only
// passage is that document, so there only the second counts.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json_fwd.h"
#include "service/eval/answers.h"
#include "service/eval/questions.h"
#include "service/eval/stats.h"

namespace lectern::eval {

struct AnswerRecord {
  std::string answer, reply;
  bool abstained = false;
  std::optional<double> trust;
  std::vector<double> trust_features;   // of the chosen span, where the file has them
  std::vector<CitedSpan> citations;
};

struct AnswerFile {
  JsonBox run;                                  // null where the file has no such line
  std::map<std::string, AnswerRecord> answers;  // by question id
};

// A last line that was cut off is passed over: a run may be going on, or have been stopped.
absl::StatusOr<AnswerFile> ReadAnswers(const std::string& path);
absl::StatusOr<AnswerFile> ParseAnswers(std::string_view text, const std::string& name);

// Trust anew, by the weights of this build, from the features on file; a reply below the shipped threshold is abstained from, as
// `--citations required` does, the others are given. kInvalidArgument where no answer has this build's features.
absl::Status Rejudge(AnswerFile* file);

struct AnswerMeasure {
  std::string name;
  std::vector<std::string> ids;    // questions it was taken over
  std::vector<double> values;      // one a question (CitP: one a citation, each with its question's id)
  Interval mean;
};

struct CurvePoint {                // abstaining below `threshold`
  double threshold = 0;
  double answered = 0;             // share of all questions
  double risk = 0;                 // share of the answered that are wrong (EM; answering an unanswerable one is wrong)
  double kept_right = 0;           // share of the right replies (EM 1) that are given
  double kept_good = 0;            // share of the good replies (F1 >= 0.5) that are given
  double abstained_unanswerable = 0, abstained_answerable = 0;
};

struct AnswerReport {
  int64_t answerable = 0, unanswerable = 0;
  int64_t missing = 0;             // questions without an answer on file: left out, and counted here
  std::vector<AnswerMeasure> measures;
  std::vector<CurvePoint> curve;   // by rising threshold; empty where no answer has a trust
  double risk_coverage_area = 0;
  const AnswerMeasure* Find(std::string_view name) const;
};

AnswerReport ScoreAnswers(const std::vector<EvalQuestion>& questions, const AnswerFile& file, bool closed);
// At most `rows` of the curve, spread over the share answered, its ends among them.
std::vector<CurvePoint> ThinCurve(const std::vector<CurvePoint>& curve, size_t rows);

struct AnswerComparison {
  std::string measure;
  int64_t questions = 0;
  double baseline = 0, value = 0;
  PairedDifference difference;     // value - baseline
};
// Over the questions both files answer. Where both sides abstain or ours has trusts, "Abstain-Acc at equal Answered" lowers or raises
// our threshold until we answer no smaller share of the answerable questions than the baseline does.
std::vector<AnswerComparison> CompareAnswers(const std::vector<EvalQuestion>& questions, const AnswerFile& baseline, const AnswerFile& mine,
                                             bool closed);

}  // namespace lectern::eval
