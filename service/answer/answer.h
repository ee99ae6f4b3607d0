// service/answer/answer.h: a question and passages in, an answer with citations that cannot be wrong out.
//
//   Answerer answerer(model, encoder);                    // encoder may be null
//   AnswerRequest request{.question = "Who built the dam?", .passages = passages, .read_document = read};
//   ASSIGN_OR_RETURN(AnswerResult result, answerer.Answer(request));
//
// Shapes:  spans are UTF-8 bytes: of the document (start, end), of AnswerResult::answer (answer_spans). text_units.h
//          converts them. One passage (closed questions) and packed search hits (open ones) take the same path.
// Threads: one Answer at a time on a model; cancel from any thread.
// Errors:  kInvalidArgument (empty or oversized question, options), kResourceExhausted (context-overflow: needed,
//          allowed, setting), kCancelled, kDeadlineExceeded, those of the model and of read_document.
// Cost:    span: the prefill, about 16 decode steps, five prefills of 20 to 100 tokens to judge. prose: the prefill and one decode step
//          a token.
//
// Modes: span gives words of a passage, chosen among the most probable spans; prose writes sentences and keeps those a
// passage supports. auto takes prose for why, how, yes-no and "describe ..." questions, span for all others.
// A citation is given only if its quote equals the document at its span, read again after the answer is made: the text the
// passages came from and, where read_current is given, the store's own as it is by then.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/cancel.h"
#include "index/encoder.h"
#include "service/answer/evidence.h"
#include "service/answer/language_model.h"
#include "service/answer/pack.h"
#include "service/answer/prompt.h"
#include "service/answer/support.h"

namespace lectern::service::answer {

inline constexpr int64_t kMaxQuestionBytes = 8192;

enum class CitationMode { kRequired, kPreferred, kOff };
enum class Outcome { kAnswered, kAbstained, kPartial };

absl::StatusOr<CitationMode> ParseCitationMode(std::string_view name);   // required, preferred, off
absl::StatusOr<AnswerMode> ParseAnswerMode(std::string_view name);       // auto, span, prose
std::string_view OutcomeName(Outcome outcome);                           // answered, abstained, partial
std::string_view AnswerModeName(AnswerMode mode);

struct AnswerOptions {
  CitationMode citations = CitationMode::kRequired;
  AnswerMode mode = AnswerMode::kAuto;
  int64_t max_context_tokens = 1024;   // of packed passages
  int64_t max_tokens = 160;            // prose
  double temperature = 0;              // prose; a span is always the best one
  double top_p = 1;                    // prose, above temperature 0
  uint64_t seed = 1;
  std::vector<std::string> stop;       // prose: the reply ends before the first of these
  bool overflow_is_error = false;      // default: the lowest passages are dropped, and listed
  bool allow_trim = true;              // cut the last passage at a sentence end, and say so
  double min_trust = -1;               // span: abstain below; under 0: the shipped default
  std::string instruction;             // the system message; empty: the built-in one of the mode
  int max_expansions = 16;             // span: decode steps of the search
  bool keep_candidates = false;        // fill AnswerResult::candidates and every feature, for evaluation
  const CancelToken* cancel = nullptr;
  std::function<void(std::string_view stage, int64_t done, int64_t total)> progress;
  // The answer in pieces: whole sentences, or the span. Called once the outcome is settled: what it was given stays.
  std::function<void(std::string_view text)> on_text;
};

struct AnswerRequest {
  std::string question;
  std::vector<Passage> passages;       // best first
  // The stored text of a document. Null: the passages' own text is the document (their begin must be 0).
  std::function<absl::StatusOr<std::string>(const std::string& doc_id)> read_document;
  // The text of a document now, which may be newer than the passages; kNotFound: deleted. Null: read_document tells.
  std::function<absl::StatusOr<std::string>(const std::string& doc_id)> read_current;
  AnswerOptions options;
};

struct Citation {
  int64_t id = 0;                      // [id] in the answer
  std::string doc_id, chunk_id, title, uri, doc_sha256;
  std::string quote;
  int64_t start = 0, end = 0;          // bytes of the document
  std::vector<ByteRange> answer_spans; // bytes of the answer this citation stands for, in order; at least one
  bool verified = false;
};

struct Removed {                       // a sentence taken out of the answer
  std::string text, reason;
};

struct CandidateRecord {
  std::string text;
  RankFeatures features{};
  TrustFeatures trust{};               // where it was judged
  bool judged = false, chosen = false;
};

struct AnswerResult {
  std::optional<std::string> answer;   // with [id] marks; unset where abstained
  std::string given;                   // the same without marks; empty where abstained
  std::string plain;                   // what the reader said, also when abstained
  Outcome outcome = Outcome::kAbstained;
  std::string reason;                  // where not answered
  AnswerMode mode = AnswerMode::kSpan; // the one used
  std::vector<Citation> citations;
  int64_t dropped_citations = 0;       // made, but not equal to the stored text, or no longer
  std::vector<Removed> removed;
  int64_t budget_tokens = 0, used_tokens = 0;
  std::vector<std::pair<std::string, int64_t>> packed;   // chunk_id, tokens
  std::vector<DroppedPassage> dropped;
  int64_t prompt_tokens = 0, completion_tokens = 0, cached_tokens = 0;
  double trust = 0;                    // span: chance that the answer is right
  std::map<std::string, double> took_ms;   // pack, ttft, generate, judge, verify, total
  std::vector<CandidateRecord> candidates;
  TrustFeatures trust_features{};
};

class Answerer {
 public:
  explicit Answerer(LanguageModel& model, index::Encoder* encoder = nullptr);
  absl::StatusOr<AnswerResult> Answer(const AnswerRequest& request);

 private:
  struct Work;
  absl::Status AnswerSpan(Work& work);
  absl::Status AnswerProse(Work& work);
  LanguageModel& model_;
  index::Encoder* encoder_;
  VocabularyTrie vocabulary_;
};

// Removes each citation whose quote is not the text at [start, end), of read_document and of read_current; returns how many.
absl::StatusOr<int64_t> VerifyCitations(const AnswerRequest& request, std::vector<Citation>* citations);

}  // namespace lectern::service::answer
