// ask: search, pack, read, judge, cite.
#include <chrono>
#include <cstdio>
#include <future>
#include <map>
#include <optional>

#include "base/json.h"
#include "service/cli/answering.h"

namespace lectern::cli {
namespace answer = service::answer;
namespace {

struct Args {
  std::string collection, question, offset_unit = "codepoint", overflow = "drop_lowest";
  double temperature = 0, top_p = 1;
  uint64_t seed = 1;
  std::vector<std::string> stop;
  bool stream = false;
  SearchFlags search;
};

double MsSince(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
}

Json CitationJson(const answer::Citation& c, const std::string& document, const std::string& text, answer::OffsetUnit unit) {
  auto at = [&](const std::string& in, int64_t byte) { return answer::ConvertOffset(in, byte, unit).value_or(byte); };
  Json spans = Json::array();
  for (const answer::ByteRange& span : c.answer_spans) spans.push_back({{"start", at(text, span.begin)}, {"end", at(text, span.end)}});
  return {{"id", c.id}, {"doc_id", c.doc_id}, {"chunk_id", c.chunk_id}, {"title", c.title}, {"uri", c.uri}, {"quote", c.quote},
          {"start", at(document, c.start)}, {"end", at(document, c.end)},
          {"answer_span", spans[0]}, {"answer_spans", spans},   // the first; every sentence that rests on this quote
          {"doc_sha256", c.doc_sha256}, {"verified", c.verified}};
}

// `search`: the response of the search as `search --json` prints it, of which the answer keeps what it rests on.
absl::StatusOr<Json> ResultJson(const answer::AnswerResult& r, const index::Corpus& corpus, answer::OffsetUnit unit, const std::string& unit_name,
                                const Json& search, const Json& reader) {
  Json citations = Json::array(), packed = Json::array(), dropped = Json::array(), removed = Json::array(), took = Json::object();
  for (const auto& citation : r.citations) {
    ASSIGN_OR_RETURN(const std::string document, corpus.DocumentText(citation.doc_id));
    citations.push_back(CitationJson(citation, document, r.answer.value_or(""), unit));
  }
  for (const auto& [chunk, tokens] : r.packed) packed.push_back({{"chunk_id", chunk}, {"tokens", tokens}});
  for (const auto& passage : r.dropped) {
    dropped.push_back({{"chunk_id", passage.chunk_id}, {"reason", passage.reason}, {"bytes", {{"start", passage.at.begin}, {"end", passage.at.end}}}});
  }
  for (const auto& sentence : r.removed) removed.push_back({{"text", sentence.text}, {"reason", sentence.reason}});
  for (const auto& [stage, ms] : r.took_ms) took[stage] = ms;
  return Json{{"answer", r.answer ? Json(*r.answer) : Json(nullptr)},
              {"outcome", answer::OutcomeName(r.outcome)},
              {"reason", r.reason.empty() ? Json(nullptr) : Json(r.reason)},
              {"answer_mode", answer::AnswerModeName(r.mode)},
              {"trust", r.trust},
              {"citations", citations},
              {"dropped_citations", r.dropped_citations},
              {"removed", removed},
              {"offset_unit", unit_name},
              {"context", {{"budget_tokens", r.budget_tokens}, {"used_tokens", r.used_tokens}, {"packed", packed}, {"dropped", dropped}}},
              {"usage", {{"prompt_tokens", r.prompt_tokens}, {"completion_tokens", r.completion_tokens}, {"cached_tokens", r.cached_tokens}}},
              {"generation", corpus.generation()},
              {"changes_not_indexed", search["changes_not_indexed"]},
              {"degraded", search["degraded"]},
              {"engine", search["engine"]},
              {"encoder", search["encoder"]},
              {"model", reader},
              {"took_ms", took}};
}

void Print(const Terminal& terminal, const answer::AnswerResult& result, const std::string& collection) {
  if (result.outcome == answer::Outcome::kAbstained) {
    terminal.Line("No answer: " + result.reason);
  } else {
    terminal.Line(terminal.Bold(Printable(result.answer.value_or(""))));
  }
  for (const auto& c : result.citations) {
    terminal.Line(internal::Concat("  [", c.id, "] ", PrintableLine(c.title.empty() ? c.doc_id : c.title), terminal.Dim(internal::Concat("  ", PrintableLine(c.doc_id), " ", c.start, ":", c.end))));
    terminal.Line("      \"" + PrintableLine(c.quote) + "\"");
  }
  for (const auto& sentence : result.removed) terminal.Note("removed: " + PrintableLine(sentence.text) + " (" + sentence.reason + ")");
  if (result.outcome == answer::Outcome::kPartial) terminal.Note("partial: " + result.reason);
  std::map<std::string, int> reasons;
  for (const auto& passage : result.dropped) ++reasons[passage.reason];
  std::string left;
  for (const auto& [reason, count] : reasons) left += internal::Concat(left.empty() ? "" : ", ", count, " by ", reason);
  const auto took = [&](const char* stage) {
    const auto it = result.took_ms.find(stage);
    return it == result.took_ms.end() ? 0.0 : it->second / 1000;
  };
  char times[64];
  std::snprintf(times, sizeof(times), "first token %.1f s, total %.1f s", took("ttft"), took("total"));
  terminal.Note(internal::Concat("read ", result.packed.size(), " passages, ", result.used_tokens, " of ", result.budget_tokens, " tokens",
                                 left.empty() ? "" : " (left out: " + left + ")", "; ", answer::AnswerModeName(result.mode), "; ", times));
  if (!result.citations.empty()) {
    const auto& c = result.citations[0];
    terminal.Note(internal::Concat("open a citation: lectern document get ", collection, " ", PrintableLine(ShellQuoted(c.doc_id)), " --span ", c.start, ":", c.end));
  }
}

absl::StatusOr<int> Ask(Context& context, const Args& args) {
  const auto start = std::chrono::steady_clock::now();
  const service::Config& config = context.config();
  answer::AnswerRequest request;
  request.question = args.question;
  ASSIGN_OR_RETURN(request.options, AnswerOptionsOf(config));
  answer::AnswerOptions& options = request.options;
  ASSIGN_OR_RETURN(const answer::OffsetUnit unit, answer::ParseOffsetUnit(args.offset_unit));
  if (args.overflow != "error" && args.overflow != "drop_lowest") return InvalidArgument("--overflow must be error or drop_lowest, got '", args.overflow, "'");
  options.overflow_is_error = args.overflow == "error";
  options.temperature = args.temperature;
  options.top_p = args.top_p;
  options.stop = args.stop;
  options.seed = args.seed;
  if (args.stream && !context.flags.json) return InvalidArgument("--stream writes events and needs --json");
  if (args.question.empty()) return InvalidArgument("the question is empty");
  if (static_cast<int64_t>(args.question.size()) > answer::kMaxQuestionBytes) {
    return InvalidArgument("a question has at most ", answer::kMaxQuestionBytes, " bytes, got ", args.question.size());
  }

  ASSIGN_OR_RETURN(const std::string name, context.engine->ResolveAlias(args.collection));
  ASSIGN_OR_RETURN(const index::Manifest manifest, index::DataDirectory::ReadManifest(context.engine->data_dir()));
  absl::StatusOr<std::string> sha256 = std::string();   // before the reader is there: hashing maps the whole file the first time
  if (context.flags.json) sha256 = context.engine->models().Sha256(config.String("reader.model"));
  // The reader loads while the passages are searched for. Where there is nothing to search it does not; an error of the search comes first.
  std::future<absl::StatusOr<decoder::Reader*>> loading =
      std::async(manifest.collections.contains(name) ? std::launch::async : std::launch::deferred,
                 [&context] { return context.engine->Reader(&InterruptToken()); });
  ASSIGN_OR_RETURN(const PassageSearch search, PassageSearch::Open(context, args.search, args.collection));
  const index::Corpus& corpus = search.corpus();
  ASSIGN_OR_RETURN(const index::SearchResponse found, search.Find(args.question, &request));
  for (const std::string& reason : found.degraded) context.terminal->Note("degraded: " + DegradedSentence(reason, search.why()));
  const double search_ms = MsSince(start);
  if (args.stream && context.flags.json) context.terminal->Json({{"event", "search"}, {"hits", found.hits.size()}, {"took_ms", search_ms}});

  const auto load_start = std::chrono::steady_clock::now();
  RETURN_IF_ERROR(sha256.status());
  const Json reader_json = {{"id", config.String("reader.model")}, {"sha256", *sha256}};
  ASSIGN_OR_RETURN(decoder::Reader * reader, loading.get());
  const double load_ms = MsSince(load_start);
  answer::ReaderModel model(*reader);
  answer::AnswerResult result;
  {
    Progress progress(*context.terminal, "read", 0);
    options.progress = [&](std::string_view stage, int64_t done, int64_t total) {
      progress.SetLabel(std::string(stage));
      progress.Update(done, total);
    };
    if (args.stream && context.flags.json) {
      options.on_text = [&](std::string_view text) { context.terminal->Json({{"event", "token"}, {"t", std::string(text)}}); };
    }
    answer::Answerer answerer(model, search.encoder());
    ASSIGN_OR_RETURN(result, answerer.Answer(request));
  }
  result.took_ms["search"] = search_ms;
  result.took_ms["load"] = load_ms;
  result.took_ms["total"] = MsSince(start);
  const std::optional<int64_t> behind = ChangesBehind(*context.engine, args.collection, corpus);
  if (context.flags.json) {
    ASSIGN_OR_RETURN(const Json json, ResultJson(result, corpus, unit, args.offset_unit, SearchResponseJson(context, corpus, found, behind), reader_json));
    context.terminal->Json(json);
  } else {
    Print(*context.terminal, result, args.collection);
  }
  if (result.dropped_citations > 0) {
    context.terminal->Note(internal::Concat("citations left out: ", result.dropped_citations, "; the stored document does not say so, or no longer"));
  }
  if (behind.value_or(0) > 0) {
    context.terminal->Note(internal::Concat(*behind, " newer changes are not in generation ", corpus.generation(), " yet; `lectern index update ", args.collection, "` adds them"));
  }
  return kOk;
}

}  // namespace

void RegisterAsk(Registry& registry) {
  auto args = std::make_shared<Args>();
  CommandLine ask = registry.Add("ask", "answer a question from the documents, with citations", [args](Context& c) { return Ask(c, *args); });
  ask.Option("COLLECTION", args->collection, "collection or alias").Required();
  ask.Option("QUESTION", args->question, "a question").Required();
  AddAnswerFlags(registry, ask);
  ask.Option("--overflow", args->overflow, "drop_lowest or error, where the passages exceed the budget").ShowDefault();
  ask.Option("--offset-unit", args->offset_unit, "of spans in --json: utf8, codepoint or utf16").ShowDefault();
  ask.Option("--temperature", args->temperature, "prose: 0 is greedy");
  ask.Option("--top-p", args->top_p, "prose, above temperature 0: of the likeliest tokens that make up this share");
  ask.Option("--seed", args->seed, "prose, above temperature 0");
  ask.Option("--stop", args->stop, "prose: end before this text; several may be given").TakesOne();
  registry.Setting(ask, "--sparse", "reader.sparse", "auto or off; ratios need a build with sparse decoding");
  ask.Flag("--stream", args->stream, "events as they come; needs --json");
  AddSearchFlags(registry, ask, args->search);
}

}  // namespace lectern::cli
