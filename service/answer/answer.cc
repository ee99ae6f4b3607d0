#include "service/answer/answer.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <limits>

#include "service/answer/calibration.h"
#include "service/answer/span_judge.h"
#include "service/answer/span_search.h"

namespace lectern::service::answer {
namespace {

constexpr int64_t kMaxQuoteBytes = 320;   // a longer sentence is quoted in part, around the answer

double Milliseconds(std::chrono::steady_clock::time_point since) {
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - since).count();
}

// The part of `sentence` worth quoting: all of it, or whole words around `answer`.
ByteRange QuoteRange(std::string_view text, ByteRange sentence, ByteRange answer) {
  sentence = {std::min(sentence.begin, answer.begin), std::max(sentence.end, answer.end)};
  if (sentence.end - sentence.begin <= kMaxQuoteBytes) return sentence;
  const int64_t room = std::max<int64_t>(kMaxQuoteBytes - (answer.end - answer.begin), 0) / 2;
  ByteRange quote = {std::max(sentence.begin, answer.begin - room), std::min(sentence.end, answer.end + room)};
  while (quote.begin < answer.begin && quote.begin > sentence.begin && !IsWordStart(text, quote.begin)) ++quote.begin;
  while (quote.end > answer.end && quote.end < sentence.end && !IsWordEnd(text, quote.end)) --quote.end;
  return quote;
}

}  // namespace

absl::StatusOr<CitationMode> ParseCitationMode(std::string_view name) {
  if (name == "required") return CitationMode::kRequired;
  if (name == "preferred") return CitationMode::kPreferred;
  if (name == "off") return CitationMode::kOff;
  return InvalidArgument("citations must be required, preferred or off, got '", name, "'");
}

absl::StatusOr<AnswerMode> ParseAnswerMode(std::string_view name) {
  if (name == "auto") return AnswerMode::kAuto;
  if (name == "span") return AnswerMode::kSpan;
  if (name == "prose") return AnswerMode::kProse;
  return InvalidArgument("answer_mode must be auto, span or prose, got '", name, "'");
}

std::string_view OutcomeName(Outcome outcome) {
  return outcome == Outcome::kAnswered ? "answered" : outcome == Outcome::kPartial ? "partial" : "abstained";
}

std::string_view AnswerModeName(AnswerMode mode) {
  return mode == AnswerMode::kAuto ? "auto" : mode == AnswerMode::kSpan ? "span" : "prose";
}

absl::StatusOr<int64_t> VerifyCitations(const AnswerRequest& request, std::vector<Citation>* citations) {
  std::map<std::string, std::vector<std::string>> texts;   // of each document: as the passages had it, and as it is now
  const auto read = [](const auto& source, const std::string& doc_id) -> absl::StatusOr<std::string> {
    absl::StatusOr<std::string> text = source(doc_id);
    if (text.status().code() == absl::StatusCode::kNotFound) return std::string();   // deleted meanwhile: nothing to cite
    return text;
  };
  int64_t removed = 0;
  std::vector<Citation> kept;
  for (Citation& citation : *citations) {
    auto at = texts.find(citation.doc_id);
    if (at == texts.end()) {
      std::string text;
      if (request.read_document) {
        ASSIGN_OR_RETURN(text, read(request.read_document, citation.doc_id));
      } else {
        for (const Passage& passage : request.passages) {
          if (passage.doc_id == citation.doc_id) text = passage.text;
        }
      }
      at = texts.emplace(citation.doc_id, std::vector{std::move(text)}).first;
      if (request.read_current) {
        ASSIGN_OR_RETURN(std::string now, read(request.read_current, citation.doc_id));
        at->second.push_back(std::move(now));
      }
    }
    const bool equal = std::all_of(at->second.begin(), at->second.end(), [&](const std::string& text) {
      return !citation.quote.empty() && citation.start >= 0 && citation.start < citation.end && citation.end <= static_cast<int64_t>(text.size()) &&
             std::string_view(text).substr(citation.start, citation.end - citation.start) == citation.quote &&
             ConvertOffset(text, citation.start, OffsetUnit::kUtf8).ok() && ConvertOffset(text, citation.end, OffsetUnit::kUtf8).ok();
    });
    if (!equal) {
      ++removed;
      continue;
    }
    citation.verified = true;
    kept.push_back(std::move(citation));
  }
  *citations = std::move(kept);
  return removed;
}

struct Answerer::Work {
  const AnswerRequest& request;
  AnswerResult result;
  Packed packed;
  std::vector<int32_t> prompt;
  std::chrono::steady_clock::time_point started = std::chrono::steady_clock::now();

  const AnswerOptions& options() const { return request.options; }
  const Passage& PassageOf(int64_t number) const { return request.passages[packed.passages[number].input]; }
  void Progress(std::string_view stage, int64_t done, int64_t total) const {
    if (options().progress) options().progress(stage, done, total);
  }
  Citation Cite(int64_t number, ByteRange quote) const {
    const Passage& passage = PassageOf(number);
    Citation citation;
    citation.doc_id = passage.doc_id;
    citation.chunk_id = passage.chunk_id;
    citation.title = passage.title;
    citation.uri = passage.uri;
    citation.doc_sha256 = passage.doc_sha256;
    citation.quote = passage.text.substr(quote.begin, quote.end - quote.begin);
    citation.start = passage.begin + quote.begin;
    citation.end = passage.begin + quote.end;
    return citation;
  }
};

Answerer::Answerer(LanguageModel& model, index::Encoder* encoder)
    : model_(model), encoder_(encoder), vocabulary_(model.tokenizer()) {}

absl::StatusOr<AnswerResult> Answerer::Answer(const AnswerRequest& request) {
  const AnswerOptions& options = request.options;
  const auto bytes = static_cast<int64_t>(request.question.size());
  if (request.question.find_first_not_of(" \t\r\n") == std::string::npos) return InvalidArgument("the question is empty");
  if (bytes > kMaxQuestionBytes) {
    return InvalidArgument("a question may have ", kMaxQuestionBytes, " bytes, this one has ", bytes);
  }
  if (options.max_context_tokens < 1) {
    return InvalidArgument("reader.max_context_tokens must be 1 or more, got ", options.max_context_tokens);
  }
  if (options.max_tokens < 1) return InvalidArgument("max_tokens must be 1 or more, got ", options.max_tokens);
  if (!(options.temperature >= 0)) return InvalidArgument("temperature must be 0 or more, got ", options.temperature);
  if (!(options.top_p > 0 && options.top_p <= 1)) return InvalidArgument("top_p must be above 0 and at most 1, got ", options.top_p);
  RETURN_IF_ERROR(CheckCancel(options.cancel));

  Work work{request};
  AnswerResult& result = work.result;
  result.budget_tokens = options.max_context_tokens;
  result.mode = options.mode;
  if (options.mode == AnswerMode::kAuto) {
    switch (ReadQuestion(request.question).kind) {
      case QuestionKind::kReason:
      case QuestionKind::kYesNo:
      case QuestionKind::kDescribe: result.mode = AnswerMode::kProse; break;
      default: result.mode = AnswerMode::kSpan;
    }
  }
  if (request.passages.empty()) {
    result.reason = "the search found no passage";
    return std::move(result);
  }
  work.Progress("pack", 0, 1);
  ASSIGN_OR_RETURN(work.packed, PackPassages(request.passages, model_.tokenizer(),
                                             {.budget_tokens = options.max_context_tokens,
                                              .overflow_is_error = options.overflow_is_error,
                                              .allow_trim = options.allow_trim}));
  result.used_tokens = work.packed.tokens;
  result.dropped = work.packed.dropped;
  for (const PackedPassage& passage : work.packed.passages) {
    result.packed.emplace_back(request.passages[passage.input].chunk_id, passage.tokens);
  }
  result.took_ms["pack"] = Milliseconds(work.started);
  if (work.packed.passages.empty()) {
    result.reason = "nothing in the passages found can be used; see the reasons under dropped";
    return std::move(result);
  }
  const bool span = result.mode == AnswerMode::kSpan;
  ASSIGN_OR_RETURN(work.prompt, model_.EncodeChat(AnswerPrompt(work.packed, request.question, {.mode = result.mode, .instruction = options.instruction})));
  result.prompt_tokens = static_cast<int64_t>(work.prompt.size());
  const int64_t needed = result.prompt_tokens + (span ? SpanSearchOptions().max_span_tokens : options.max_tokens);
  if (needed > model_.max_context_tokens()) {
    return ResourceExhausted("context-overflow: the prompt needs ", needed, " tokens with its answer, the model allows ",
                             model_.max_context_tokens(), " (reader.max_context_tokens, max_tokens)");
  }
  RETURN_IF_ERROR(span ? AnswerSpan(work) : AnswerProse(work));
  if (result.outcome == Outcome::kAbstained) {
    result.answer.reset();
    result.given.clear();
    result.citations.clear();
  }
  result.took_ms["total"] = Milliseconds(work.started);
  return std::move(result);
}

absl::Status Answerer::AnswerSpan(Work& work) {
  AnswerResult& result = work.result;
  const AnswerOptions& options = work.options();
  // Every segment is a passage of its own to the automaton: a span never crosses what was cut out.
  std::vector<std::string_view> texts;
  std::vector<std::pair<int64_t, ByteRange>> origin;   // packed passage, bytes of its text
  std::vector<PassageWords> words;
  for (size_t p = 0; p < work.packed.passages.size(); ++p) {
    const Passage& passage = work.PassageOf(static_cast<int64_t>(p));
    for (const ByteRange& segment : work.packed.passages[p].segments) {
      texts.push_back(std::string_view(passage.text).substr(segment.begin, segment.end - segment.begin));
      origin.emplace_back(static_cast<int64_t>(p), segment);
      words.push_back(ReadPassage(work.packed.passages[p].title, texts.back()));
    }
  }
  const SpanAutomaton automaton(texts, SpanAutomaton::Bounds::kWords);

  auto since = std::chrono::steady_clock::now();
  decoder::GenerateOptions prefill;   // the prompt, apart, so that it can be timed
  prefill.max_tokens = 1;
  prefill.cancel = options.cancel;
  prefill.on_prefill = [&](int64_t done, int64_t total) { work.Progress("read", done, total); };
  ASSIGN_OR_RETURN(const decoder::Generation read, model_.Generate(work.prompt, prefill, nullptr));
  result.cached_tokens = read.cached_tokens;
  result.took_ms["prefill"] = Milliseconds(since);
  result.took_ms["ttft"] = Milliseconds(work.started);
  since = std::chrono::steady_clock::now();
  SpanSearchOptions search;
  search.max_expansions = options.max_expansions;
  search.cancel = options.cancel;
  ASSIGN_OR_RETURN(SpanSearchResult found, SearchSpans(model_, work.prompt, automaton, vocabulary_, search));
  result.completion_tokens = found.expansions;
  result.took_ms["generate"] = Milliseconds(since);
  if (found.candidates.empty()) {
    result.reason = "the reader found no span to answer with";
    return absl::OkStatus();
  }

  since = std::chrono::steady_clock::now();
  work.Progress("judge", 0, kJudgedCandidates);
  const Question question = ReadQuestion(work.request.question);
  ASSIGN_OR_RETURN(const std::vector<JudgedSpan> judged,
                   JudgeSpans(model_, {work.packed, question, options.instruction, work.prompt, options.cancel,
                                       [&](int64_t done) { work.Progress("judge", done, kJudgedCandidates); }, options.keep_candidates},
                              found.candidates, words));
  const JudgedSpan& chosen = judged.front();
  const SpanCandidate& answer = found.candidates[chosen.candidate];
  const SpanAutomaton::Occurrence at = answer.occurrences[chosen.place.occurrence];
  result.trust_features = FeaturesForTrust(question, words[at.passage], answer, chosen.place, chosen.scores);
  result.trust = TrustProbability(result.trust_features);
  result.plain = WithoutLooseEnds(answer.text);
  if (options.keep_candidates) {
    for (const JudgedSpan& j : judged) {
      const SpanCandidate& candidate = found.candidates[j.candidate];
      const bool asked = &j - judged.data() < kJudgedCandidates;
      result.candidates.push_back({candidate.text, j.features, {}, asked, &j == &chosen});
      if (!asked) continue;
      const PassageWords& passage = words[candidate.occurrences[j.place.occurrence].passage];
      result.candidates.back().trust = FeaturesForTrust(question, passage, candidate, j.place, j.scores);
    }
  }
  result.took_ms["judge"] = Milliseconds(since);

  since = std::chrono::steady_clock::now();
  const auto& [packed, segment] = origin[at.passage];
  const ByteRange sentence = words[at.passage].sentences[chosen.place.sentence];
  const ByteRange quote = QuoteRange(texts[at.passage], sentence, {at.begin, at.end});
  if (options.citations != CitationMode::kOff) {
    result.citations.push_back(work.Cite(packed, {segment.begin + quote.begin, segment.begin + quote.end}));
    ASSIGN_OR_RETURN(result.dropped_citations, VerifyCitations(work.request, &result.citations));
  }
  result.took_ms["verify"] = Milliseconds(since);
  const double least = options.min_trust < 0 ? kDefaultTrust : options.min_trust;
  std::string text = result.plain;
  if (!result.citations.empty()) {
    result.citations[0].id = 1;
    result.citations[0].answer_spans = {{0, static_cast<int64_t>(text.size())}};
    text += " [1]";
  }
  result.outcome = Outcome::kAnswered;
  if (options.citations == CitationMode::kRequired && result.citations.empty()) {
    result.outcome = Outcome::kAbstained;
    result.reason = "the quote of the answer is not, or no longer, in the stored document";
  } else if (options.citations != CitationMode::kOff && result.trust < least) {
    char line[128];
    std::snprintf(line, sizeof(line), "the evidence is too weak: chance of being right %.2f, needed %.2f", result.trust, least);
    result.reason = line;
    result.outcome = options.citations == CitationMode::kRequired ? Outcome::kAbstained : Outcome::kPartial;
  }
  if (result.outcome != Outcome::kAbstained) {
    result.answer = text;
    result.given = answer.text;
    if (options.on_text) options.on_text(text);
  }
  return absl::OkStatus();
}

absl::Status Answerer::AnswerProse(Work& work) {
  AnswerResult& result = work.result;
  const AnswerOptions& options = work.options();
  std::vector<Source> sources;
  for (size_t p = 0; p < work.packed.passages.size(); ++p) {
    const Passage& passage = work.PassageOf(static_cast<int64_t>(p));
    sources.push_back({work.packed.passages[p].title, passage.text, work.packed.passages[p].segments});
  }
  const Similarity similarity = EncoderSimilarity(encoder_);
  decoder::GenerateOptions generate;
  generate.max_tokens = options.max_tokens;
  generate.temperature = options.temperature;
  generate.top_p = options.top_p;
  generate.stop = options.stop;
  generate.seed = options.seed;
  generate.cancel = options.cancel;
  generate.on_prefill = [&](int64_t done, int64_t total) { work.Progress("read", done, total); };
  bool first = true;
  const auto since = std::chrono::steady_clock::now();
  ASSIGN_OR_RETURN(const decoder::Generation generation, model_.Generate(work.prompt, generate, [&](std::string_view) {
                     if (first) result.took_ms["ttft"] = Milliseconds(work.started);
                     first = false;
                   }));
  result.took_ms["generate"] = Milliseconds(since);
  result.completion_tokens = static_cast<int64_t>(generation.tokens.size());
  result.cached_tokens = generation.cached_tokens;
  result.plain = generation.text;

  const auto judging = std::chrono::steady_clock::now();
  std::string text;
  std::vector<int64_t> settled;   // where the text of each kept sentence ends, its mark included
  int64_t sentences = 0;
  const Question question = ReadQuestion(work.request.question);
  const std::vector<ByteRange> ranges = SplitSentences(generation.text);
  for (size_t i = 0; i < ranges.size(); ++i) {
    const std::string sentence = generation.text.substr(ranges[i].begin, ranges[i].end - ranges[i].begin);
    ++sentences;
    const bool cut = generation.stop == decoder::Generation::Stop::kLength && i + 1 == ranges.size() &&
                     !sentence.ends_with('.') && !sentence.ends_with('!') && !sentence.ends_with('?');
    if (cut) {
      result.removed.push_back({sentence, "the sentence is unfinished: max_tokens is " + std::to_string(options.max_tokens)});
      continue;
    }
    std::vector<Citation> own;
    std::string why;
    if (options.citations != CitationMode::kOff) {
      const Support support = JudgeSupport(sentence, sources, similarity);
      why = support.why;
      if (support.supported) {
        own.push_back(work.Cite(support.source, support.quote));
        ASSIGN_OR_RETURN(const int64_t dropped, VerifyCitations(work.request, &own));
        result.dropped_citations += dropped;
        if (own.empty()) why = "its quote is not, or no longer, in the stored document";
      }
    }
    if (own.empty() && options.citations == CitationMode::kRequired) {
      result.removed.push_back({sentence, why});
      continue;
    }
    if (!text.empty()) text += " ";
    const auto begin = static_cast<int64_t>(text.size());
    text += sentence;
    result.given += (result.given.empty() ? "" : " ") + sentence;
    if (!own.empty()) {
      Citation& citation = own.front();
      const ByteRange span = {begin, static_cast<int64_t>(text.size())};
      auto at = std::find_if(result.citations.begin(), result.citations.end(), [&](const Citation& c) {
        return c.doc_id == citation.doc_id && c.start == citation.start && c.end == citation.end;
      });
      if (at == result.citations.end()) {
        citation.id = static_cast<int64_t>(result.citations.size()) + 1;
        at = result.citations.insert(at, std::move(citation));
      }
      at->answer_spans.push_back(span);
      text += " [" + std::to_string(at->id) + "]";
    } else if (options.citations == CitationMode::kPreferred) {
      result.removed.push_back({sentence, "kept without a citation: " + why});
    }
    settled.push_back(static_cast<int64_t>(text.size()));
  }
  result.took_ms["judge"] = Milliseconds(judging);
  if (options.citations == CitationMode::kRequired && !text.empty()) {
    // An answer about something else than was asked for is none: a name in the question must stand in what is cited.
    for (const Word& word : question.words) {
      const bool name = word.capital && !word.stop && word.at.begin > 0;
      if (!name) continue;
      bool found = false;
      for (const Citation& citation : result.citations) {
        for (const Source& source : sources) {   // the title, or the passage around the quote, may name it
          if (source.text.find(citation.quote) == std::string_view::npos) continue;
          for (const std::string_view part : {source.title, source.text}) {
            for (const Word& have : SplitWords(part)) found = found || have.stem == word.stem;
          }
        }
      }
      if (!found) {
        result.reason = "the cited passages do not speak of '" + work.request.question.substr(word.at.begin, word.at.end - word.at.begin) + "'";
        return absl::OkStatus();   // abstained
      }
    }
  }
  if (text.empty()) {
    result.reason = sentences == 0 ? "the reader wrote nothing" : "no sentence of the answer is supported by the passages: " + result.removed.front().reason;
    return absl::OkStatus();
  }
  result.answer = text;
  result.outcome = result.removed.empty() ? Outcome::kAnswered : Outcome::kPartial;
  if (!result.removed.empty()) result.reason = "some sentences are not supported by the passages";
  if (options.on_text) {
    int64_t from = 0;
    for (const int64_t end : settled) {
      options.on_text(std::string_view(text).substr(from, end - from));
      from = end;
    }
  }
  return absl::OkStatus();
}

}  // namespace lectern::service::answer
