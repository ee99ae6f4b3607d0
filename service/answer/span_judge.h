// service/answer/span_judge.h: puts the candidates of the span search before the reader again, and ranks them.
//
//   ASSIGN_OR_RETURN(auto judged, JudgeSpans(model, {packed, question, "", prompt, cancel}, candidates, passages));
//   const SpanCandidate& best = candidates[judged.front().candidate];
//
// Shapes:  every candidate once, best first; the reader was asked of the first kJudgedCandidates only.
// Threads: one call at a time on a model.
// Errors:  those of the model; kCancelled.
// Cost:    five prefills of 20 to 100 tokens, seven more where the weights use them or all features are wanted: what begins with
//          the packed passages finds them in the cache.
#pragma once

#include <functional>
#include <span>
#include <string_view>
#include <vector>

#include "service/answer/evidence.h"
#include "service/answer/language_model.h"
#include "service/answer/pack.h"
#include "service/answer/span_search.h"

namespace lectern::service::answer {

inline constexpr int kJudgedCandidates = 3;   // each costs four short prefills

struct SpanJudging {
  const Packed& packed;
  const Question& question;
  std::string_view instruction;               // as of the prompt
  std::span<const int32_t> prompt;            // the one the candidates were found with
  const CancelToken* cancel = nullptr;
  std::function<void(int64_t done)> progress; // candidates judged
  bool all_features = false;                  // also those that the shipped weights do not use
};

struct JudgedSpan {
  size_t candidate = 0;
  Placed place;
  ReaderScores scores;
  RankFeatures features{};
  double score = 0;
};

// REQUIRES: candidates is not empty.
absl::StatusOr<std::vector<JudgedSpan>> JudgeSpans(LanguageModel& model, const SpanJudging& judging,
                                                   std::span<const SpanCandidate> candidates, std::span<const PassageWords> passages);

}  // namespace lectern::service::answer
