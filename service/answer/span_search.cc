#include "service/answer/span_search.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <queue>

namespace lectern::service::answer {
namespace {

struct Partial {
  double logprob = 0;
  int64_t order = 0;
  std::vector<int32_t> tokens;
  std::vector<float> token_logprobs;
  SpanAutomaton::State state;
};

struct Later {  // the queue's top: highest log-probability, then the oldest
  bool operator()(const Partial& a, const Partial& b) const {
    return a.logprob != b.logprob ? a.logprob < b.logprob : a.order > b.order;
  }
};

double LogSumExp(std::span<const float> logits) {
  const float peak = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (float x : logits) sum += std::exp(static_cast<double>(x - peak));
  return peak + std::log(sum);
}

}  // namespace

absl::StatusOr<SpanSearchResult> SearchSpans(LanguageModel& model, std::span<const int32_t> prompt,
                                             const SpanAutomaton& automaton, const VocabularyTrie& vocabulary,
                                             const SpanSearchOptions& options) {
  std::vector<int32_t> end_ids = options.end_ids;
  if (end_ids.empty()) end_ids.assign(model.tokenizer().end_ids().begin(), model.tokenizer().end_ids().end());
  SpanSearchResult result;
  std::priority_queue<Partial, std::vector<Partial>, Later> queue;
  Partial start;
  start.state = automaton.Start();
  queue.push(std::move(start));
  int64_t order = 0;
  double best = -std::numeric_limits<double>::infinity();
  std::vector<int32_t> tokens(prompt.begin(), prompt.end());
  while (!queue.empty() && result.expansions < options.max_expansions) {
    RETURN_IF_ERROR(CheckCancel(options.cancel));
    const Partial path = queue.top();
    queue.pop();
    if (path.logprob < best - options.max_gap) break;
    tokens.resize(prompt.size());
    tokens.insert(tokens.end(), path.tokens.begin(), path.tokens.end());
    ASSIGN_OR_RETURN(const std::vector<float> logits, model.NextLogits(tokens, options.cancel));
    ++result.expansions;
    const double norm = LogSumExp(logits);
    if (automaton.CanEnd(path.state)) {
      float end = -std::numeric_limits<float>::infinity();
      for (int32_t id : end_ids) end = std::max(end, logits[id]);
      const double end_logprob = end - norm;
      SpanCandidate found{automaton.Text(path.state), automaton.Occurrences(path.state, /*must_end=*/true),
                          path.logprob + end_logprob, end_logprob, path.token_logprobs};
      best = std::max(best, found.logprob);
      // Two tokenisations of one text are one candidate: the more probable stays.
      const auto same = std::find_if(result.candidates.begin(), result.candidates.end(),
                                     [&](const SpanCandidate& c) { return c.text == found.text; });
      if (same == result.candidates.end()) {
        result.candidates.push_back(std::move(found));
      } else if (same->logprob < found.logprob) {
        *same = std::move(found);
      }
    }
    if (static_cast<int>(path.tokens.size()) >= options.max_span_tokens) continue;
    std::vector<LegalToken> legal = vocabulary.Legal(automaton, path.state);
    const auto keep = std::min<size_t>(legal.size(), options.max_branch);
    std::partial_sort(legal.begin(), legal.begin() + keep, legal.end(), [&](const LegalToken& a, const LegalToken& b) {
      return logits[a.id] != logits[b.id] ? logits[a.id] > logits[b.id] : a.id < b.id;
    });
    for (size_t i = 0; i < keep; ++i) {
      const double logprob = logits[legal[i].id] - norm;
      if (path.logprob + logprob < best - options.max_gap) break;
      Partial next;
      next.logprob = path.logprob + logprob;
      next.order = ++order;
      next.tokens = path.tokens;
      next.tokens.push_back(legal[i].id);
      next.token_logprobs = path.token_logprobs;
      next.token_logprobs.push_back(static_cast<float>(logprob));
      next.state = legal[i].next;
      queue.push(std::move(next));
    }
  }
  std::stable_sort(result.candidates.begin(), result.candidates.end(),
                   [](const SpanCandidate& a, const SpanCandidate& b) { return a.logprob > b.logprob; });
  if (static_cast<int>(result.candidates.size()) > options.max_candidates) result.candidates.resize(options.max_candidates);
  return result;
}

}  // namespace lectern::service::answer
