// search: one query, or a topics file to a run.
#include <algorithm>
#include <cstdio>
#include <map>

#include "base/file.h"
#include "base/json.h"
#include "service/cli/app.h"
#include "service/cli/search_flags.h"
#include "service/eval/trec_io.h"

namespace lectern::cli {
namespace {

struct Args {
  std::string collection, query, topics, run, tag = "lectern", syntax;
  SearchFlags search;
};

// A chunk's text on one line with the matched words bold, no control character left in it.
std::string Highlighted(const Terminal& terminal, const index::SearchHit& hit, size_t width) {
  std::string out, plain;   // plain: what follows out and is not cleaned yet
  const auto flush = [&] {
    out += PrintableLine(plain);
    plain.clear();
  };
  const int64_t begin = hit.span.begin;
  // The window starts a little before the first match.
  int64_t from = 0;
  if (!hit.highlights.empty()) from = std::max<int64_t>(0, hit.highlights[0].begin - begin - 60);
  while (from > 0 && from < static_cast<int64_t>(hit.text.size()) && hit.text[from - 1] != ' ' && hit.text[from - 1] != '\n') --from;
  size_t used = 0;
  size_t at = static_cast<size_t>(from), next = 0;
  while (next < hit.highlights.size() && hit.highlights[next].begin - begin < from) ++next;
  if (from > 0) out += "… ";
  while (at < hit.text.size() && used < width) {
    if (next < hit.highlights.size() && static_cast<int64_t>(at) == hit.highlights[next].begin - begin) {
      const size_t length = static_cast<size_t>(hit.highlights[next].end - hit.highlights[next].begin);
      flush();
      out += terminal.Bold(PrintableLine(hit.text.substr(at, length)));
      at += length;
      used += length;
      ++next;
      continue;
    }
    const char c = hit.text[at++];
    if (c == '\n' || c == '\t' || c == ' ') {
      const std::string& before = plain.empty() ? out : plain;
      if (!before.empty() && before.back() != ' ') plain += ' ';
    } else {
      plain += c;
    }
    if ((static_cast<unsigned char>(c) & 0xc0) != 0x80) ++used;
  }
  while (at < hit.text.size() && (static_cast<unsigned char>(hit.text[at]) & 0xc0) == 0x80) plain += hit.text[at++];
  flush();
  if (at < hit.text.size()) out += " …";
  return out;
}

std::string Number(const Json& value, const char* format = "%.4g") {
  char text[32];
  std::snprintf(text, sizeof(text), format, value.get<double>());
  return text;
}

// The arithmetic of a score, a line a term; --json has the same as numbers.
void PrintExplanation(const Terminal& terminal, const Json& explanation) {
  const Json& fusion = explanation["fusion"];
  if (fusion["parts"].size() > 1) {
    std::string line = "   " + Number(fusion["score"]) + " by " + fusion["method"].get<std::string>() + " fusion =";
    for (const Json& part : fusion["parts"]) {
      line += (&part == &fusion["parts"][0] ? " " : " + ") + part["retriever"].get<std::string>() + " " + Number(part["contribution"]) +
              " (weight " + Number(part["weight"]) + ")";
    }
    terminal.Line(line);
  }
  for (const auto& [name, one] : explanation.items()) {
    if (name == "fusion") continue;
    std::string head = "   " + name + ": ";
    if (one["score"].is_null()) {
      terminal.Line(head + "not scored");
      continue;
    }
    head += Number(one["score"]) + (one["rank"].is_null() ? ", not among its candidates" : internal::Concat(", rank ", one["rank"].get<int64_t>()));
    if (!one.contains("terms")) {
      terminal.Line(head);
      continue;
    }
    terminal.Line(head + "; k1 " + Number(one["k1"]) + ", b " + Number(one["b"]) +
                  (one.contains("length") ? ", length " + Number(one["length"], "%.0f") : "") + " (average " + Number(one["average_length"], "%.1f") + ")");
    for (const Json& term : one["terms"]) {
      if (term["frequency"].get<int64_t>() == 0) {
        terminal.Line("     " + term["term"].get<std::string>() + ": not in the chunk, in " + Number(term["chunks_with_term"], "%.0f") + " of " + Number(one["chunks"], "%.0f"));
        continue;
      }
      terminal.Line("     " + term["term"].get<std::string>() + ": " + Number(term["contribution"]) + " = idf " + Number(term["idf"]) + " (in " +
                    Number(term["chunks_with_term"], "%.0f") + " of " + Number(one["chunks"], "%.0f") + ") x " + Number(term["in_query"], "%.0f") +
                    " in query x tf " + Number(term["frequency"], "%.0f") + " / (" + Number(term["frequency"], "%.0f") + " + " + Number(term["length_norm"]) + ")");
    }
  }
}

void Print(const Terminal& terminal, const index::SearchResponse& response, bool explain) {
  for (const index::SearchHit& hit : response.hits) {
    std::string head = internal::Concat(hit.rank, ". ");
    head += terminal.Bold(PrintableLine(hit.title.empty() ? hit.doc_id : hit.title));
    std::string where = internal::Concat("  ", PrintableLine(hit.chunk_id), "  ", hit.score);
    for (const index::RetrieverScore& source : hit.sources) {
      where += "  " + source.retriever + (source.rank == 0 ? std::string(" -") : internal::Concat(" ", source.rank));
    }
    terminal.Line(head + terminal.Dim(where));
    terminal.Line("   " + Highlighted(terminal, hit, 220));
    if (explain && !hit.explanation->is_null()) PrintExplanation(terminal, *hit.explanation);
  }
}

// A TREC run of all topics, or with --json a response a line. What was cut short is counted and said at the end.
absl::StatusOr<int> RunTopics(Context& context, const Args& args, const index::Corpus& corpus, index::Encoder* encoder, const std::string& why) {
  const Terminal& terminal = *context.terminal;
  const bool run_to_stdout = args.run.empty() || args.run == "-";
  if (context.flags.json && args.run == "-") return InvalidArgument("--json and --run - both print on stdout; give --run a file");
  ASSIGN_OR_RETURN(const auto topics, eval::ReadTopics(args.topics));
  const bool want_run = !(run_to_stdout && context.flags.json);
  std::string run;   // in the format of a run: an id that it cannot hold ends the command at its topic
  std::map<std::string, int64_t> degraded;
  std::vector<double> took;
  {
    Progress progress(terminal, "search", static_cast<int64_t>(topics.size()), "topics");
    for (const eval::Topic& topic : topics) {
      auto made = MakeRequest(args.search, context.config(), topic.text);
      RETURN_IF_ERROR(made.status());
      made->operators = args.syntax == "operators";
      made->with_text = made->highlight = false;
      made->cancel = &InterruptToken();
      auto found = SearchAndRerank(context, args.search, corpus, *made, encoder);
      if (!found.ok()) return Annotate(found.status(), "topic " + topic.id);
      RETURN_IF_ERROR(CheckTimeLeft(context));
      for (const std::string& reason : found->degraded) ++degraded[reason];
      took.push_back(found->took_ms["total"]);
      if (context.flags.json) {
        Json line = SearchResponseJson(context, corpus, *found, std::nullopt);
        line["query_id"] = topic.id;
        terminal.Json(line);
      }
      if (want_run) {
        std::vector<eval::RunEntry> entries;
        for (const index::SearchHit& hit : found->hits) entries.push_back({hit.doc_id, hit.score});
        auto lines = eval::FormatRun({{topic.id, std::move(entries)}}, eval::RunFormat::kTrec, args.tag);
        if (!lines.ok()) return Annotate(lines.status(), internal::Concat("topic ", topic.id, " (--json without --run prints what a run cannot hold)"));
        run += *lines;
      }
      progress.Update(static_cast<int64_t>(took.size()));
    }
  }
  if (want_run) {
    if (run_to_stdout) {
      terminal.Out(run);
    } else {
      RETURN_IF_ERROR(WriteFileAtomically(FileSystem::Posix(), args.run, run));
      RETURN_IF_ERROR(WriteRunMeta(context, corpus, args.run, args.search, args.tag, args.topics));
    }
  }
  for (const auto& [reason, count] : degraded) terminal.Note(internal::Concat("degraded in ", count, " of ", topics.size(), " topics: ", DegradedSentence(reason, why)));
  terminal.Note(internal::Concat("searched ", topics.size(), " topics", run_to_stdout ? "" : ", run in " + args.run, "; ", LatencyLine(took)));
  return kOk;
}

absl::StatusOr<int> Search(Context& context, const Args& args) {
  // The request is checked before anything is opened: a usage error costs nothing.
  if (args.query.empty() == args.topics.empty()) return InvalidArgument("give a QUERY or --topics FILE, one of the two");
  if (args.topics.empty() && !args.run.empty()) return InvalidArgument("--run writes the run of --topics FILE; one query prints its hits");
  std::string query = args.query;
  if (query == "-") {
    ASSIGN_OR_RETURN(query, eval::ReadUnpacked("-", &InterruptToken()));
  }
  ASSIGN_OR_RETURN(index::SearchRequest request, MakeRequest(args.search, context.config(), query));
  ASSIGN_OR_RETURN(const auto corpus, context.engine->OpenCorpus(args.collection));
  std::string why;
  index::Encoder* encoder = nullptr;
  if (NeedsEncoder(request, *corpus)) {
    ASSIGN_OR_RETURN(encoder, context.engine->EncoderOf(*corpus, &why));
  }
  if (!args.topics.empty()) return RunTopics(context, args, *corpus, encoder, why);
  request.operators = args.syntax != "words";
  request.cancel = &InterruptToken();
  ASSIGN_OR_RETURN(index::SearchResponse response, SearchAndRerank(context, args.search, *corpus, request, encoder));
  const std::optional<int64_t> behind = ChangesBehind(*context.engine, args.collection, *corpus);
  if (context.flags.json) context.terminal->Json(SearchResponseJson(context, *corpus, response, behind));
  else Print(*context.terminal, response, args.search.explain);
  for (const std::string& reason : response.degraded) context.terminal->Note("degraded: " + DegradedSentence(reason, why));
  if (context.flags.json) return kOk;
  if (behind.value_or(0) > 0) context.terminal->Note(internal::Concat(*behind, " newer changes are not in generation ", response.generation, " yet; `lectern index update ", args.collection, "` adds them"));
  char took[64];
  std::snprintf(took, sizeof(took), "%.1f ms", response.took_ms["total"]);
  context.terminal->Note(internal::Concat(response.hits.size(), " of ", response.total_is_exact ? "" : "at least ", response.total, " documents, generation ", response.generation, ", ", took));
  return kOk;
}

}  // namespace

void RegisterAsk(Registry& registry);

void RegisterSearch(Registry& registry) {
  auto args = std::make_shared<Args>();
  CommandLine search = registry.Add("search", "find documents", [args](Context& c) { return Search(c, *args); });
  search.Option("COLLECTION", args->collection, "collection or alias").Required();
  search.Option("QUERY", args->query, "a bag of words; \"phrase\" and -term are understood; - reads it from stdin");
  search.Option("--topics", args->topics, "search every query of this file (JSONL, or id TAB text; gz, zst, xz or -): a TREC run, or with --json a response a line");
  search.Option("--run", args->run, "where the TREC run goes, with FILE.meta.json beside it; default stdout");
  search.Option("--syntax", args->syntax, "operators: \"phrase\" and -term (default of QUERY); words: they are punctuation (default of --topics)")
      .OneOf({"operators", "words"});
  search.Option("--tag", args->tag, "tag of the run");
  AddSearchFlags(registry, search, args->search);
  search.Flag("--explain", args->search.explain, "how each score came about");
  RegisterAsk(registry);
}

}  // namespace lectern::cli
