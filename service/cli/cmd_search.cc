// search: one query, or a topics file to a run.
#include <algorithm>
#include <fstream>

#include "base/file.h"
#include "service/cli/app.h"
#include "service/cli/search_flags.h"
#include "service/eval/trec_io.h"

namespace lectern::cli {
namespace {

struct Args {
  std::string collection, query, topics, run, tag = "lectern";
  SearchFlags search;
};

// A chunk's text on one line with the matched words bold.
std::string Highlighted(const Terminal& terminal, const index::SearchHit& hit, size_t width) {
  std::string out;
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
      out += terminal.Bold(hit.text.substr(at, length));
      at += length;
      used += length;
      ++next;
      continue;
    }
    const char c = hit.text[at++];
    if (c == '\n' || c == '\t' || c == ' ') {
      if (!out.empty() && out.back() != ' ') out += ' ';
    } else {
      out += c;
    }
    if ((static_cast<unsigned char>(c) & 0xc0) != 0x80) ++used;
  }
  while (at < hit.text.size() && (static_cast<unsigned char>(hit.text[at]) & 0xc0) == 0x80) out += hit.text[at++];
  if (at < hit.text.size()) out += " …";
  return out;
}

void Print(const Terminal& terminal, const index::SearchResponse& response, bool explain) {
  for (const index::SearchHit& hit : response.hits) {
    std::string head = internal::Concat(hit.rank, ". ");
    head += terminal.Bold(hit.title.empty() ? hit.doc_id : hit.title);
    std::string where = internal::Concat("  ", hit.chunk_id, "  ", hit.score);
    for (const index::RetrieverScore& source : hit.sources) where += internal::Concat("  ", source.retriever, " ", source.rank);
    terminal.Line(head + terminal.Dim(where));
    terminal.Line("   " + Highlighted(terminal, hit, 220));
    if (explain && !hit.explanation.is_null()) terminal.Line(DumpJson(hit.explanation, 2));
  }
}

absl::StatusOr<int> RunTopics(Context& context, const Args& args, const index::Corpus& corpus, index::Encoder* encoder) {
  ASSIGN_OR_RETURN(const auto topics, eval::ReadTopics(args.topics));
  std::vector<std::pair<std::string, std::vector<eval::RunEntry>>> run;
  Progress progress(*context.terminal, "search", static_cast<int64_t>(topics.size()), "topics");
  for (size_t i = 0; i < topics.size(); ++i) {
    ASSIGN_OR_RETURN(index::SearchRequest request, MakeRequest(args.search, context.config(), topics[i].text));
    request.with_text = request.highlight = false;
    ASSIGN_OR_RETURN(const index::SearchResponse response, corpus.Search(request, encoder));
    std::vector<eval::RunEntry> entries;
    for (const index::SearchHit& hit : response.hits) entries.push_back({hit.doc_id, hit.score});
    run.emplace_back(topics[i].id, std::move(entries));
    RETURN_IF_ERROR(CheckCancel(&InterruptToken()));
    progress.Update(static_cast<int64_t>(i) + 1);
  }
  const std::string text = eval::FormatRun(run, eval::RunFormat::kTrec, args.tag);
  if (args.run.empty() || args.run == "-") context.terminal->Out(text);
  else RETURN_IF_ERROR(WriteFileAtomically(FileSystem::Posix(), args.run, text));
  context.terminal->Note(internal::Concat("searched ", topics.size(), " topics", args.run.empty() ? "" : ", run in " + args.run));
  return kOk;
}

absl::StatusOr<int> Search(Context& context, const Args& args) {
  // The request is checked before anything is opened: a usage error costs nothing.
  if (args.query.empty() == args.topics.empty()) return InvalidArgument("give a QUERY or --topics FILE, one of the two");
  ASSIGN_OR_RETURN(index::SearchRequest request, MakeRequest(args.search, context.config(), args.query));
  ASSIGN_OR_RETURN(const auto corpus, context.engine->OpenCorpus(args.collection));
  std::string why;
  index::Encoder* encoder = nullptr;
  if (NeedsEncoder(request, *corpus)) {
    ASSIGN_OR_RETURN(encoder, context.engine->EncoderOf(*corpus, &why));
  }
  if (!args.topics.empty()) return RunTopics(context, args, *corpus, encoder);
  request.cancel = &InterruptToken();
  ASSIGN_OR_RETURN(index::SearchResponse response, SearchAndRerank(context, args.search, *corpus, request, encoder));
  const std::optional<int64_t> behind = ChangesBehind(*context.engine, args.collection, *corpus);
  if (context.flags.json) {
    context.terminal->Json(SearchResponseJson(response, behind));
    return kOk;
  }
  Print(*context.terminal, response, args.search.explain);
  for (const std::string& reason : response.degraded) {
    context.terminal->Note("degraded: " + reason + (why.empty() ? "" : " (" + why + ")"));
  }
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
  CLI::App* search = registry.Add("search", "find documents", [args](Context& c) { return Search(c, *args); });
  search->add_option("COLLECTION", args->collection, "collection or alias")->required();
  search->add_option("QUERY", args->query, "a bag of words; \"phrase\" and -term are understood");
  search->add_option("--topics", args->topics, "search every query of this file (JSONL, or id TAB text) and write a run");
  search->add_option("--run", args->run, "where the TREC run goes; default stdout");
  search->add_option("--tag", args->tag, "tag of the run");
  AddSearchFlags(search, args->search);
  RegisterAsk(registry);
}

}  // namespace lectern::cli
