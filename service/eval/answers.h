// service/eval/answers.h: measures of answers, and of when to give none.
//
//   double em = ExactMatch("the Nile", golds);  double f1 = TokenF1("River Nile", golds);
//   RiskCoverage curve = RiskCoverageOf(trusts, right);     // curve.points, curve.area
//
// Shapes:  golds are the accepted answers; the best over them counts. Values are 0..1.
// Threads: pure functions.
// Errors:  none; no golds gives 0.
// Cost:    linear in the texts; n log n for the curve.
//
// Normalisation is the SQuAD script's: lower case, ASCII punctuation away, no a/an/the, single blanks. Citation measures: a
// citation counts where its span lies in a gold passage or its quote holds an accepted answer (so normalised).
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace lectern::eval {

std::string NormaliseAnswer(std::string_view text);
double ExactMatch(std::string_view answer, std::span<const std::string> golds);
double TokenF1(std::string_view answer, std::span<const std::string> golds);
// Lenient: a normalised gold answer stands in the normalised reply.
double ContainsAnswer(std::string_view answer, std::span<const std::string> golds);
// The SQuAD peers' sign of a refusal: "not found", "not mentioned", "cannot be determined", ...
bool IsRefusal(std::string_view answer);

struct CitedSpan {
  std::string doc_id, quote;
  int64_t begin = 0, end = 0;
};
struct GoldPassage {
  std::string doc_id;
  int64_t begin = 0, end = -1;   // end -1: the whole document
};
struct CitationCounts {
  int64_t cited = 0, good = 0;   // citations; of these, good ones
  bool any_good = false;
};
CitationCounts CountCitations(std::span<const CitedSpan> cited, std::span<const GoldPassage> gold,
                              std::span<const std::string> golds);

struct RiskPoint {
  double coverage = 0;   // share of questions answered
  double risk = 0;       // share of these answered wrongly
  double threshold = 0;  // trust from which they were answered
};
struct RiskCoverage {
  std::vector<RiskPoint> points;   // by coverage, rising; one a distinct trust
  double area = 0;                 // under the curve, lower is better
};
RiskCoverage RiskCoverageOf(std::span<const double> trust, const std::vector<bool>& right);

// What abstaining below a threshold does to answerable and unanswerable questions.
struct AbstentionPoint {
  double threshold = 0;
  double kept_right = 0;            // share of right answers kept
  double abstained_unanswerable = 0;
  double abstained_answerable = 0;
};
// At the highest threshold that keeps at least `keep` of the right answers.
AbstentionPoint AbstentionAt(double keep, std::span<const double> trust, const std::vector<bool>& right,
                             const std::vector<bool>& unanswerable);
AbstentionPoint AbstentionFrom(double threshold, std::span<const double> trust, const std::vector<bool>& right,
                               const std::vector<bool>& unanswerable);

}  // namespace lectern::eval
