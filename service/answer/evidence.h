// service/answer/evidence.h: what in a question and a passage speaks for an answer, as numbers.
//
//   Question question = ReadQuestion("Who wrote the origin of species?");     // kWho; content words: wrote, origin, species
//   PassageWords passage = ReadPassage(title, text);
//   CandidateFeatures f = FeaturesOf(question, passage, candidate, occurrence);
//
// Shapes:  features are plain doubles, in the order of their names tables; the coefficients stand in calibration.cc.
// Threads: pure functions.
// Errors:  none.
// Cost:    a few passes over the words of the passage.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "service/answer/span_search.h"
#include "service/answer/text_units.h"

namespace lectern::service::answer {

enum class QuestionKind { kWho, kWhen, kWhere, kNumber, kWhat, kReason, kYesNo, kDescribe };

struct Question {
  std::string text;
  QuestionKind kind = QuestionKind::kWhat;
  std::vector<Word> words;
  std::vector<std::string> content;      // stems of content words, in order
  std::vector<std::string> entities;     // stems of capitalised words and numbers, the first word left out
  bool negated = false;
};

struct PassageWords {
  std::string_view text;                 // the caller keeps it
  std::vector<ByteRange> sentences;
  std::vector<std::unordered_set<std::string>> stems;   // of each sentence
  std::vector<bool> negated;             // of each sentence
  std::unordered_set<std::string> title;
};

Question ReadQuestion(std::string_view text);
PassageWords ReadPassage(std::string_view title, std::string_view text);
std::string_view KindName(QuestionKind kind);
// Does `answer` look like an answer to that kind? Unset: the kind asks for no form.
std::optional<bool> FitsKind(QuestionKind kind, const std::vector<Word>& answer_words);

// Features the candidates of one question are ranked by.
inline constexpr std::array<std::string_view, 12> kRankNames = {
    "logprob", "tokens", "log_tokens", "end_logprob", "coverage", "in_question", "fits", "misfits", "punctuation", "empty",
    "question_logprob", "yes"};
using RankFeatures = std::array<double, kRankNames.size()>;

// Features the chance that the chosen answer is right is judged by.
inline constexpr std::array<std::string_view, 18> kTrustNames = {
    "logprob", "not_found", "tokens", "coverage", "gap", "missing_names", "in_question", "negated", "negation_differs",
    "question_words", "question_logprob", "worst_question_word", "worst_gain", "refusal", "yes", "gain", "worst_word_gain", "unexplained"};
using TrustFeatures = std::array<double, kTrustNames.size()>;

struct Placed {            // a candidate at its best place
  int64_t occurrence = 0;  // of SpanCandidate::occurrences
  int64_t sentence = 0;    // of the passage
  double coverage = 0;     // share of the question's content words in that sentence or the title, the answer's own left out
};

// The occurrence whose sentence covers most of the question; ties to the first.
Placed BestPlace(const Question& question, std::span<const PassageWords> passages, const SpanCandidate& candidate);

// What the reader says of a candidate beyond its own probability. Zeros until it was asked.
struct ReaderScores {
  std::vector<float> given;      // log-probability of each question token given the candidate's sentence and the candidate
  std::vector<float> alone;      // and without them
  std::vector<int32_t> word;     // the word of the question that each of these tokens is part of; -1: none
  double not_found = 0;          // log-probability of "not found" as the answer
  double refusal = 0;            // log-odds of "not found" against the candidate where the reader was offered to say so
  double yes = 0;                // log-odds of yes against no, asked whether the passages give the candidate as the answer
};

RankFeatures FeaturesForRank(const Question& question, const SpanCandidate& candidate, const Placed& place, const ReaderScores& scores);
TrustFeatures FeaturesForTrust(const Question& question, const PassageWords& passage, const SpanCandidate& candidate,
                               const Placed& place, const ReaderScores& scores);

}  // namespace lectern::service::answer
