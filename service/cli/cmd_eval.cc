// eval: score, search, compare; answers and citations have files of their own.
#include <algorithm>

#include "base/file.h"
#include "base/json.h"
#include "service/cli/app.h"
#include "service/cli/cmd_eval_answers.h"
#include "service/cli/search_flags.h"
#include "service/cli/tables.h"
#include "service/eval/stats.h"
#include "service/eval/trec_io.h"

namespace lectern::cli {
namespace {

struct Args {
  std::string collection, qrels, topics, run, save_run, measures = "nDCG@10 R@100 RR@10", format = "text", tag = "lectern", syntax = "words";
  std::vector<std::string> runs, fail_under;
  bool per_query = false;
  SearchFlags search;
};

Json ScoresJson(const eval::Scores& scores, bool per_query) {
  Json mean = Json::object();
  for (size_t m = 0; m < scores.measures.size(); ++m) mean[scores.measures[m].name] = scores.mean[m];
  Json out = {{"queries", scores.per_query.size()}, {"missing_queries", scores.missing_queries},
              {"unjudged_queries", scores.unjudged_queries}, {"mean", mean}};
  if (per_query) {
    Json rows = Json::array();
    for (const auto& row : scores.per_query) {
      Json values = Json::object();
      for (size_t m = 0; m < scores.measures.size(); ++m) values[scores.measures[m].name] = row.values[m];
      rows.push_back({{"query_id", row.query_id}, {"values", values}});
    }
    out["per_query"] = rows;
  }
  return out;
}

std::string Table(const eval::Scores& scores, const std::string& format, bool per_query) {
  std::vector<std::vector<std::string>> rows = {{"query"}};
  for (const auto& measure : scores.measures) rows[0].push_back(measure.name);
  const auto add = [&rows](const std::string& name, const std::vector<double>& values) {
    rows.push_back({name});
    for (const double value : values) rows.back().push_back(Fixed(value, 4));
  };
  if (per_query) {
    for (const auto& query : scores.per_query) add(query.query_id, query.values);
  }
  add("all", scores.mean);
  return FormatTable(rows, format);
}

// What is asked of the scores; a mistake in it costs no search.
struct What {
  std::vector<eval::Measure> measures;
  std::vector<FailUnder> fail_under;
};
absl::StatusOr<What> ParseWhat(const Args& args) {
  What what;
  ASSIGN_OR_RETURN(what.measures, eval::ParseMeasures(args.measures));
  ASSIGN_OR_RETURN(what.fail_under, ParseFailUnder(args.fail_under));
  for (const FailUnder& rule : what.fail_under) {
    if (std::none_of(what.measures.begin(), what.measures.end(), [&](const auto& m) { return m.name == rule.measure; })) {
      return InvalidArgument("--fail-under names ", rule.measure, ", which is not among --measures");
    }
  }
  return what;
}

// `about`: what else is known of the run, added to the JSON form.
absl::StatusOr<int> Report(Context& context, const Args& args, const What& what, const eval::Scores& scores, const Json& about = Json::object()) {
  if (context.flags.json || args.format == "json") {
    Json out = ScoresJson(scores, args.per_query);
    out.update(about);
    context.terminal->Line(DumpJson(out));
  } else {
    context.terminal->Out(Table(scores, args.format, args.per_query));
  }
  context.terminal->Note(internal::Concat(scores.per_query.size(), " judged queries, ", scores.missing_queries,
                                          " of them missing in the run (counted as 0), ", scores.unjudged_queries, " unjudged queries left out"));
  return CheckFailUnder(*context.terminal, what.fail_under, [&scores](const std::string& name) -> std::optional<double> {
    for (size_t m = 0; m < scores.measures.size(); ++m) {
      if (scores.measures[m].name == name) return scores.mean[m];
    }
    return std::nullopt;
  });
}

absl::StatusOr<int> Score(Context& context, const Args& args) {
  ASSIGN_OR_RETURN(const What what, ParseWhat(args));
  ASSIGN_OR_RETURN(const auto qrels, eval::ReadQrels(args.qrels));
  ASSIGN_OR_RETURN(const auto run, eval::ReadRun(args.run));
  return Report(context, args, what, eval::Evaluate(qrels, run, what.measures));
}

absl::StatusOr<int> SearchAndScore(Context& context, const Args& args) {
  ASSIGN_OR_RETURN(const What what, ParseWhat(args));
  ASSIGN_OR_RETURN(const auto qrels, eval::ReadQrels(args.qrels));
  ASSIGN_OR_RETURN(const auto topics, eval::ReadTopics(args.topics));
  ASSIGN_OR_RETURN(const auto corpus, context.engine->OpenCorpus(args.collection));
  SearchFlags flags = args.search;
  if (flags.k < 0) flags.k = 1000;
  ASSIGN_OR_RETURN(const index::SearchRequest probe, MakeRequest(flags, context.config(), "x"));
  if (flags.chunks) return InvalidArgument("--chunks: judgements are of documents, so are the runs that are scored");
  std::string why;
  index::Encoder* encoder = nullptr;
  if (NeedsEncoder(probe, *corpus)) {
    ASSIGN_OR_RETURN(encoder, context.engine->EncoderOf(*corpus, &why));
  }
  eval::RunMap run;
  std::string ordered;   // the run to save
  Progress progress(*context.terminal, "search", static_cast<int64_t>(topics.size()), "topics");
  std::vector<double> took;
  std::map<std::string, int64_t> degraded;
  for (const eval::Topic& topic : topics) {
    if (!qrels.contains(topic.id)) continue;
    ASSIGN_OR_RETURN(index::SearchRequest request, MakeRequest(flags, context.config(), topic.text));
    request.with_text = request.highlight = false;
    request.operators = args.syntax == "operators";
    request.cancel = &InterruptToken();
    auto searched = SearchAndRerank(context, flags, *corpus, request, encoder);
    if (!searched.ok()) return Annotate(searched.status(), "topic " + topic.id);
    RETURN_IF_ERROR(CheckTimeLeft(context));
    index::SearchResponse& response = *searched;
    took.push_back(response.took_ms["total"]);
    for (const std::string& reason : response.degraded) ++degraded[reason];
    std::vector<eval::RunEntry> entries;
    // The rank decides, as search shows it: equal scores keep our order under any scorer.
    for (const index::SearchHit& hit : response.hits) entries.push_back({hit.doc_id, -static_cast<double>(entries.size())});
    run[topic.id] = entries;
    if (!args.save_run.empty()) {
      for (size_t i = 0; i < entries.size(); ++i) entries[i].score = response.hits[i].score;
      auto lines = eval::FormatRun({{topic.id, std::move(entries)}}, eval::RunFormat::kTrec, args.tag);
      if (!lines.ok()) return Annotate(lines.status(), "--save-run, topic " + topic.id);
      ordered += *lines;
    }
    progress.Update(static_cast<int64_t>(took.size()));
  }
  if (took.empty()) return InvalidArgument("no topic of ", args.topics, " is judged in ", args.qrels, ": the ids of the two do not meet");
  if (!args.save_run.empty()) {
    RETURN_IF_ERROR(WriteFileAtomically(FileSystem::Posix(), args.save_run, ordered));
    RETURN_IF_ERROR(WriteRunMeta(context, *corpus, args.save_run, flags, args.tag, args.topics));
  }
  Json cut_short = Json::object();
  for (const auto& [reason, count] : degraded) {
    cut_short[reason] = count;
    context.terminal->Note(internal::Concat("degraded in ", count, " of ", took.size(), " searches: ", DegradedSentence(reason, why)));
  }
  context.terminal->Note(LatencyLine(took));
  const Latency latency = LatencyOf(took);
  return Report(context, args, what, eval::Evaluate(qrels, run, what.measures),
                {{"engine", {{"version", context.version}}}, {"generation", corpus->generation()}, {"documents", corpus->num_documents()},
                 {"chunks", corpus->num_chunks()}, {"degraded", cut_short},
                 {"latency_ms", {{"median", latency.median}, {"p95", latency.p95}, {"p99", latency.p99}, {"max", latency.longest}}}});
}

absl::StatusOr<int> Compare(Context& context, const Args& args) {
  ASSIGN_OR_RETURN(const auto measures, eval::ParseMeasures(args.measures));
  ASSIGN_OR_RETURN(const auto qrels, eval::ReadQrels(args.qrels));
  if (args.runs.size() < 2) return InvalidArgument("eval compare needs a baseline run and at least one other");
  std::vector<eval::Scores> scores;
  for (const std::string& path : args.runs) {
    ASSIGN_OR_RETURN(const auto run, eval::ReadRun(path));
    scores.push_back(eval::Evaluate(qrels, run, measures));
  }
  struct Row { std::string run, measure; double base, value; eval::PairedDifference d; };
  std::vector<Row> rows;
  std::vector<double> p_values;
  for (size_t r = 1; r < scores.size(); ++r) {
    for (size_t m = 0; m < measures.size(); ++m) {
      std::vector<double> base, other;
      for (size_t q = 0; q < scores[0].per_query.size(); ++q) {
        base.push_back(scores[0].per_query[q].values[m]);
        other.push_back(scores[r].per_query[q].values[m]);
      }
      rows.push_back({args.runs[r], measures[m].name, scores[0].mean[m], scores[r].mean[m], eval::ComparePaired(base, other)});
      p_values.push_back(rows.back().d.p);
    }
  }
  const std::vector<double> adjusted = eval::HolmAdjust(p_values);
  const bool json = context.flags.json || args.format == "json";
  std::vector<std::vector<std::string>> table = {{"run", "measure", "baseline", "value", "difference", "95 % interval", "p", "p (Holm)", "wins/losses/ties"}};
  for (size_t i = 0; i < rows.size(); ++i) {
    const Row& row = rows[i];
    if (json) {
      context.terminal->Line(DumpJson({{"run", row.run}, {"measure", row.measure}, {"baseline", row.base}, {"value", row.value},
                                       {"difference", row.d.difference.mean}, {"low", row.d.difference.low}, {"high", row.d.difference.high},
                                       {"p", row.d.p}, {"p_holm", adjusted[i]}, {"wins", row.d.wins}, {"losses", row.d.losses}, {"ties", row.d.ties}}));
      continue;
    }
    table.push_back({row.run, row.measure, Fixed(row.base, 4), Fixed(row.value, 4), Fixed(row.d.difference.mean, 4),
                     "[" + Fixed(row.d.difference.low, 4) + ", " + Fixed(row.d.difference.high, 4) + "]", Fixed(row.d.p, 4), Fixed(adjusted[i], 4),
                     internal::Concat(row.d.wins, "/", row.d.losses, "/", row.d.ties)});
  }
  if (!json) context.terminal->Out(FormatTable(table, args.format));
  return kOk;
}

void AddMeasureFlags(CommandLine command, Args& args) {
  command.Option("--qrels", args.qrels, "judgements: TREC, BEIR or MS MARCO; gz, zst, xz or - allowed").Required();
  command.Option("--measures", args.measures, "AP nDCG@k RR@k P@k R@k Success@k Rprec Bpref RBP(p=0.8) ERR@k Judged@k").ShowDefault();
  command.Option("--format", args.format, "text, json, csv or markdown").OneOf({"text", "json", "csv", "markdown"});
}

void AddScoreFlags(CommandLine command, Args& args) {
  AddMeasureFlags(command, args);
  command.Flag("--per-query", args.per_query, "a row a query");
  command.Option("--fail-under", args.fail_under, "MEASURE=NUMBER: exit 9 where the mean is below");
}

}  // namespace

void RegisterEval(Registry& registry) {
  auto args = std::make_shared<Args>();
  CommandLine eval = registry.Add("eval", "measure search and answers", nullptr);
  CommandLine score = registry.Add("score", "score a run file", [args](Context& c) { return Score(c, *args); }, eval);
  score.Option("--run", args->run, "TREC or MS MARCO run; gz, zst, xz or - allowed").Required();
  AddScoreFlags(score, *args);
  CommandLine search = registry.Add("search", "search every judged topic and score the result", [args](Context& c) { return SearchAndScore(c, *args); }, eval);
  search.Option("COLLECTION", args->collection, "collection or alias").Required();
  search.Option("--topics", args->topics, "JSONL, or id TAB text").Required();
  search.Option("--save-run", args->save_run, "also write the TREC run here");
  search.Option("--tag", args->tag, "tag of the run");
  search.Option("--syntax", args->syntax, "words, or operators: \"phrase\" and -term").OneOf({"operators", "words"});
  AddScoreFlags(search, *args);
  AddSearchFlags(registry, search, args->search);
  CommandLine compare = registry.Add("compare", "paired differences of runs from the first", [args](Context& c) { return Compare(c, *args); }, eval);
  compare.Option("RUNS", args->runs, "baseline first").Required();
  AddMeasureFlags(compare, *args);
  compare.Refuse("--baseline", "the first RUN is the baseline");
  for (CommandLine command : {score, search, compare}) command.Refuse("--preset", "this build has no presets");

  RegisterEvalAnswers(registry, eval);
  RegisterEvalCitations(registry, eval);
  RegisterEvalManifold(registry, eval);
  for (const char* name : {"ann", "plot"}) {
    registry.Add(name, "", [name](Context&) -> absl::StatusOr<int> { return NotSupported("`lectern eval ", name, "` is not part of this build"); }, eval).TakeExtras();
  }
}

}  // namespace lectern::cli
