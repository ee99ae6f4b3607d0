// service/answer/span_search.h: the most probable spans of the passages under the reader.
//
//   ASSIGN_OR_RETURN(auto candidates, SearchSpans(model, prompt, automaton, vocabulary, {.max_expansions = 24}));
//   // candidates[0].text: the span with the highest P(span, end | prompt) among all spans
//
// Shapes:  candidates by log-probability, highest first; ties by order of discovery.
// Threads: one call at a time on a model.
// Errors:  those of the model; kCancelled.
// Cost:    one decode step an expansion, plus the tokens of the path not shared with the one before.
//
// Best first: log-probabilities only fall along a path, so the first finished span taken from the queue is the best of
// all; the search goes on to fill the list of candidates until the queue is too far behind or max_expansions is spent.
#pragma once

#include <string>
#include <vector>

#include "service/answer/language_model.h"
#include "service/answer/span_automaton.h"

namespace lectern::service::answer {

struct SpanSearchOptions {
  int max_expansions = 16;      // decode steps: about 0.5 s at 35 tokens/s
  int max_candidates = 8;
  int max_span_tokens = 24;
  int max_branch = 8;           // continuations kept of one step
  double max_gap = 5;           // stop once the queue is this far (natural log) behind the best finished span
  const CancelToken* cancel = nullptr;
  std::vector<int32_t> end_ids; // empty: the tokenizer's
};

struct SpanCandidate {
  std::string text;
  std::vector<SpanAutomaton::Occurrence> occurrences;
  double logprob = 0;           // of the tokens and the end
  double end_logprob = 0;       // of the end alone
  std::vector<float> token_logprobs;
};

struct SpanSearchResult {
  std::vector<SpanCandidate> candidates;
  int expansions = 0;
};

absl::StatusOr<SpanSearchResult> SearchSpans(LanguageModel& model, std::span<const int32_t> prompt,
                                             const SpanAutomaton& automaton, const VocabularyTrie& vocabulary,
                                             const SpanSearchOptions& options);

}  // namespace lectern::service::answer
