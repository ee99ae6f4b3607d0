// eval answers: read every question, score the answers, lay them beside another system's.
#include "service/cli/cmd_eval_answers.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <optional>

#include "base/file.h"
#include "base/json.h"
#include "base/problem.h"
#include "service/cli/answering.h"
#include "service/eval/answer_report.h"

namespace lectern::cli {
namespace answer = service::answer;
namespace {

constexpr size_t kCurveRows = 21;   // printed: steps of 5 % answered

struct Args {
  std::string collection, questions, only = "all", shard, out, predictions, baseline, curve, format = "text";
  int64_t limit = 0;
  uint32_t seed = 7;
  int half = -1;
  bool resume = false, per_query = false, rejudge = false;
  std::vector<std::string> fail_under;
  SearchFlags search;
};

std::string Fixed(double value, int digits = 4) {
  char text[32];
  std::snprintf(text, sizeof(text), "%.*f", digits, value);
  return text;
}

absl::StatusOr<std::vector<eval::EvalQuestion>> DrawQuestions(const Args& args) {
  ASSIGN_OR_RETURN(std::vector<eval::EvalQuestion> questions, eval::ReadQuestions(args.questions));
  if (args.half >= 0) std::erase_if(questions, [&](const auto& q) { return q.half != args.half; });
  if (args.only != "all") std::erase_if(questions, [&](const auto& q) { return !q.judged || q.unanswerable != (args.only == "unanswerable"); });
  if (args.limit > 0) questions = eval::SampleQuestions(std::move(questions), args.limit, args.seed);
  if (!args.shard.empty()) {
    ASSIGN_OR_RETURN(questions, eval::ShardOf(questions, args.shard));
  }
  if (questions.empty()) return InvalidArgument("no question of ", args.questions, " is left to ask");
  return questions;
}

// How the answers are made, every default filled in: a run can only be taken up again by the same.
absl::StatusOr<Json> RunSettings(const Context& context, const Args& args, const answer::AnswerOptions& options, Json search) {
  const service::Config& config = context.config();
  ASSIGN_OR_RETURN(const std::string sha256, context.engine->models().Sha256(config.String("reader.model")));
  return Json{{"engine", context.version}, {"reader", config.String("reader.model")}, {"reader_sha256", sha256}, {"chat_template", config.String("reader.chat_template")},
          {"answer_mode", answer::AnswerModeName(options.mode)}, {"citations", config.String("reader.citations")},
          {"instruction", options.instruction}, {"max_context_tokens", options.max_context_tokens}, {"max_tokens", options.max_tokens},
          {"search", std::move(search)}, {"questions", args.questions},
          {"only", args.only}, {"half", args.half}, {"limit", args.limit}, {"seed", args.seed}, {"shard", args.shard}};
}

Json FeaturesJson(const answer::AnswerResult& r) {
  Json candidates = Json::array();
  for (const auto& candidate : r.candidates) {
    Json row = {{"text", candidate.text}, {"judged", candidate.judged}, {"chosen", candidate.chosen}, {"rank", candidate.features}};
    if (candidate.judged) row["trust"] = candidate.trust;
    candidates.push_back(std::move(row));
  }
  return {{"trust", r.trust_features}, {"candidates", candidates}};
}

Json RecordJson(const eval::EvalQuestion& question, const answer::AnswerResult& r, double took_ms) {
  Json citations = Json::array(), removed = Json::array();
  for (const auto& c : r.citations) {
    citations.push_back({{"doc_id", c.doc_id}, {"start", c.start}, {"end", c.end}, {"quote", c.quote}});
  }
  for (const auto& sentence : r.removed) removed.push_back({{"text", sentence.text}, {"reason", sentence.reason}});
  const bool abstained = r.outcome == answer::Outcome::kAbstained;
  Json row = {{"id", question.id}, {"question", question.question}, {"outcome", answer::OutcomeName(r.outcome)},
              {"answer", abstained ? Json(nullptr) : Json(r.given)}, {"reply", r.plain}, {"reason", r.reason},
              {"mode", answer::AnswerModeName(r.mode)}};
  if (r.mode == answer::AnswerMode::kSpan) row["trust"] = r.trust;
  row["citations"] = citations;
  if (!removed.empty()) row["removed"] = removed;
  row["prompt_tokens"] = r.prompt_tokens;
  row["took_ms"] = took_ms;
  if (!r.candidates.empty()) row["features"] = FeaturesJson(r);   // all of them, also those that the weights do not use
  return row;
}

// The answers file: lines appended as they come, so that a stopped run loses at most the question it was at.
class AnswersOut {
 public:
  static absl::StatusOr<AnswersOut> Open(const std::string& path, bool resume, const Json& run) {
    AnswersOut out;
    std::error_code error;
    const bool there = std::filesystem::exists(path, error) && std::filesystem::file_size(path, error) > 0;
    if (there && !resume) return InvalidArgument(path, " is there already: --resume goes on with it, or name another file");
    if (there) {
      ASSIGN_OR_RETURN(std::string text, ReadFile(path));
      text.resize(text.rfind('\n') == std::string::npos ? 0 : text.rfind('\n') + 1);   // a line cut off is asked again
      ASSIGN_OR_RETURN(out.done_, eval::ParseAnswers(text, path));
      for (const auto& [key, value] : run.items()) {
        const Json before = out.done_.run->is_object() && out.done_.run->contains(key) ? (*out.done_.run)[key] : Json(nullptr);
        if (before != value) {
          return InvalidArgument("--resume: ", path, " was made with ", key, " ", DumpJson(before), ", now it is ", DumpJson(value));
        }
      }
      std::filesystem::resize_file(path, text.size(), error);
      if (error) return ErrnoStatus(error.value(), "cut the unfinished line of", path);
    }
    out.stream_.open(path, std::ios::app | std::ios::binary);
    if (!out.stream_) return ErrnoStatus(errno, "open", path);
    out.path_ = path;
    if (!there) RETURN_IF_ERROR(out.Write({{"run", run}}));
    return out;
  }
  absl::Status Write(const Json& row) {
    stream_ << DumpJson(row) << '\n' << std::flush;
    if (!stream_) return ErrnoStatus(errno, "write", path_);
    return absl::OkStatus();
  }
  bool Has(const std::string& id) const { return done_.answers.contains(id); }
  size_t size() const { return done_.answers.size(); }

 private:
  std::string path_;
  std::ofstream stream_;
  eval::AnswerFile done_;
};

absl::StatusOr<std::string> ReadAll(Context& context, const Args& args, const std::vector<eval::EvalQuestion>& questions) {
  ASSIGN_OR_RETURN(const answer::AnswerOptions options, AnswerOptionsOf(context.config()));
  std::optional<PassageSearch> search;
  if (!args.collection.empty()) {
    ASSIGN_OR_RETURN(search, PassageSearch::Open(context, args.search, args.collection));
  } else {
    for (const eval::EvalQuestion& question : questions) {
      if (question.context.empty()) {
        return InvalidArgument("question ", question.id, " has no passage of its own (context): name a COLLECTION to search");
      }
    }
  }
  const std::string path = args.out.empty() ? internal::Concat(args.questions == "-" ? "questions" : args.questions, ".answers.jsonl") : args.out;
  Json settings;   // null: closed
  if (search) {
    ASSIGN_OR_RETURN(settings, search->Settings());
  }
  ASSIGN_OR_RETURN(const Json run, RunSettings(context, args, options, std::move(settings)));
  ASSIGN_OR_RETURN(AnswersOut out, AnswersOut::Open(path, args.resume, run));
  const std::optional<int64_t> behind = search ? ChangesBehind(*context.engine, args.collection, search->corpus()) : std::nullopt;
  if (behind.value_or(0) > 0) context.terminal->Note(internal::Concat(*behind, " newer changes are not in the generation that is searched; documents that changed are not cited"));
  ASSIGN_OR_RETURN(decoder::Reader * reader, context.engine->Reader(&InterruptToken()));
  answer::ReaderModel model(*reader);
  answer::Answerer answerer(model, search ? search->encoder() : nullptr);
  Progress progress(*context.terminal, "read", static_cast<int64_t>(questions.size()), "questions");
  int64_t done = 0;
  for (const eval::EvalQuestion& question : questions) {
    progress.Update(done++);
    if (out.Has(question.id)) continue;
    const auto start = std::chrono::steady_clock::now();
    answer::AnswerRequest request;
    request.question = question.question;
    request.options = options;
    request.options.keep_candidates = true;
    const absl::StatusOr<answer::AnswerResult> result = [&]() -> absl::StatusOr<answer::AnswerResult> {
      if (search) RETURN_IF_ERROR(search->Find(question.question, &request).status());
      else request.passages.push_back({.doc_id = question.id, .chunk_id = question.id, .text = question.context});
      return answerer.Answer(request);
    }();
    if (!result.ok()) {
      const absl::Status status = Annotate(result.status(), internal::Concat("question ", question.id));
      if (!WasStopped(status)) return status;
      return Resumable(status, internal::Concat("stopped after ", done - 1, " of ", questions.size(), " questions; the same command with --out ", ShellQuoted(path), " --resume goes on"));
    }
    const double took_ms = std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
    RETURN_IF_ERROR(out.Write(RecordJson(question, *result, took_ms)));
  }
  return path;
}

Json MeanJson(const eval::AnswerReport& report) {
  Json measures = Json::object();
  for (const auto& m : report.measures) {
    measures[m.name] = {{"value", m.mean.mean}, {"low", m.mean.low}, {"high", m.mean.high}, {"n", m.values.size()}};
  }
  return measures;
}

Json CurveJson(const eval::CurvePoint& p) {
  return {{"threshold", p.threshold}, {"answered", p.answered}, {"risk", p.risk}, {"kept_right", p.kept_right}, {"kept_good", p.kept_good},
          {"abstained_unanswerable", p.abstained_unanswerable}, {"abstained_answerable", p.abstained_answerable}};
}

// Rows of one table in the format asked for.
class Table {
 public:
  Table(std::string format, std::vector<std::string> head) : format_(std::move(format)) {
    Row(head);
    if (format_ == "markdown") Row(std::vector<std::string>(head.size(), "---"));
  }
  void Row(const std::vector<std::string>& cells) {
    const bool markdown = format_ == "markdown";
    if (markdown) text_ += "| ";
    for (size_t i = 0; i < cells.size(); ++i) text_ += (i ? (format_ == "csv" ? "," : markdown ? " | " : "\t") : "") + cells[i];
    text_ += markdown ? " |\n" : "\n";
  }
  const std::string& text() const { return text_; }

 private:
  std::string format_, text_;
};

std::string CurveTable(const std::string& format, const std::vector<eval::CurvePoint>& curve) {
  Table table(format, {"threshold", "answered", "risk", "kept right", "kept F1>=.5", "abstained unanswerable", "abstained answerable"});
  for (const auto& p : curve) {
    table.Row({Fixed(p.threshold), Fixed(p.answered), Fixed(p.risk), Fixed(p.kept_right), Fixed(p.kept_good), Fixed(p.abstained_unanswerable), Fixed(p.abstained_answerable)});
  }
  return table.text();
}

absl::StatusOr<int> FailUnder(Context& context, const Args& args, const eval::AnswerReport& report) {
  for (const std::string& rule : args.fail_under) {
    const size_t equals = rule.find('=');
    char* end = nullptr;
    const double least = equals == std::string::npos ? 0 : std::strtod(rule.c_str() + equals + 1, &end);
    if (end == nullptr || *end != '\0') return InvalidArgument("--fail-under takes MEASURE=NUMBER, got '", rule, "'");
    const eval::AnswerMeasure* measure = report.Find(rule.substr(0, equals));
    if (measure == nullptr) return InvalidArgument("--fail-under names ", rule.substr(0, equals), ", which was not measured here");
    if (measure->mean.mean < least) {
      context.terminal->Warn(internal::Concat(measure->name, " is ", Fixed(measure->mean.mean), ", below ", least));
      return kThresholdNotMet;
    }
  }
  return kOk;
}

absl::StatusOr<int> Report(Context& context, const Args& args, const std::vector<eval::EvalQuestion>& questions, const std::string& path) {
  ASSIGN_OR_RETURN(eval::AnswerFile mine, eval::ReadAnswers(path));
  if (args.rejudge) RETURN_IF_ERROR(Annotate(eval::Rejudge(&mine), path));
  const bool closed = args.collection.empty();
  const eval::AnswerReport report = eval::ScoreAnswers(questions, mine, closed);
  std::vector<eval::AnswerComparison> rows;
  if (!args.baseline.empty()) {
    ASSIGN_OR_RETURN(const eval::AnswerFile baseline, eval::ReadAnswers(args.baseline));
    rows = eval::CompareAnswers(questions, baseline, mine, closed);
    if (rows.empty()) return InvalidArgument(args.baseline, " answers none of these questions");
  }
  const bool json = context.flags.json || args.format == "json";
  if (!args.curve.empty()) {
    RETURN_IF_ERROR(WriteFileAtomically(FileSystem::Posix(), args.curve, CurveTable("csv", report.curve)));
  }
  std::string per_query;
  if (json) {
    Json curve = Json::array(), comparisons = Json::array();
    for (const auto& point : eval::ThinCurve(report.curve, kCurveRows)) curve.push_back(CurveJson(point));
    for (const auto& row : rows) {
      const auto& d = row.difference;
      comparisons.push_back({{"measure", row.measure}, {"n", row.questions}, {"baseline", row.baseline}, {"value", row.value},
                             {"difference", d.difference.mean}, {"low", d.difference.low}, {"high", d.difference.high}, {"p", d.p},
                             {"wins", d.wins}, {"losses", d.losses}, {"ties", d.ties}});
    }
    Json out = {{"answers", path}, {"answerable", report.answerable}, {"unanswerable", report.unanswerable}, {"missing", report.missing},
                {"measures", MeanJson(report)}, {"curve", curve}, {"risk_coverage_area", report.risk_coverage_area}, {"baseline", comparisons}};
    if (args.per_query) {
      Json per = Json::object();
      for (const auto& m : report.measures) {
        for (size_t i = 0; i < m.ids.size() && m.name != "CitP"; ++i) per[m.ids[i]][m.name] = m.values[i];
      }
      out["per_query"] = per;
    }
    context.terminal->Line(DumpJson(out));
  } else {
    Table table(args.format, {"measure", "value", "95 % interval", "n"});
    for (const auto& m : report.measures) {
      table.Row({m.name, Fixed(m.mean.mean), internal::Concat("[", Fixed(m.mean.low), " ", Fixed(m.mean.high), "]"), std::to_string(m.values.size())});
    }
    std::string text = table.text();
    if (args.per_query) {
      Table per(args.format, {"question", "measure", "value"});
      for (const auto& m : report.measures) {
        for (size_t i = 0; i < m.ids.size(); ++i) per.Row({m.ids[i], m.name, Fixed(m.values[i])});
      }
      text += "\n" + per.text();
    }
    if (!report.curve.empty()) text += "\n" + CurveTable(args.format, eval::ThinCurve(report.curve, kCurveRows));
    if (!rows.empty()) {
      Table compared(args.format, {"measure", "n", "baseline", "value", "difference", "95 % interval", "p", "wins/losses/ties"});
      for (const auto& row : rows) {
        const auto& d = row.difference;
        compared.Row({row.measure, std::to_string(row.questions), Fixed(row.baseline), Fixed(row.value), Fixed(d.difference.mean),
                      internal::Concat("[", Fixed(d.difference.low), " ", Fixed(d.difference.high), "]"), Fixed(d.p),
                      internal::Concat(d.wins, "/", d.losses, "/", d.ties)});
      }
      text += "\n" + compared.text();
    }
    context.terminal->Out(text);
  }
  context.terminal->Note(internal::Concat(report.answerable, " answerable and ", report.unanswerable, " unanswerable questions",
                                          report.missing > 0 ? internal::Concat(", ", report.missing, " without an answer on file (left out)") : "",
                                          "; answers in ", path));
  return FailUnder(context, args, report);
}

absl::StatusOr<int> Run(Context& context, const Args& args) {
  if (args.limit < 0) return InvalidArgument("--limit must be 0 or more, got ", args.limit);
  if (!args.shard.empty() && args.out.empty() && args.predictions.empty()) return InvalidArgument("--shard needs --out: each shard writes a file of its own");
  if (!args.predictions.empty() && (!args.out.empty() || args.resume)) {
    return InvalidArgument("--predictions scores answers that are on file: --out and --resume have no place beside it");
  }
  if (args.rejudge && args.predictions.empty()) return InvalidArgument("--rejudge is of --predictions: what is read now is judged by this build's weights anyway");
  ASSIGN_OR_RETURN(const std::vector<eval::EvalQuestion> questions, DrawQuestions(args));
  if (!args.predictions.empty()) return Report(context, args, questions, args.predictions);
  absl::StatusOr<std::string> path = ReadAll(context, args, questions);
  RETURN_IF_ERROR(path.status());
  return Report(context, args, questions, *path);
}

}  // namespace

void RegisterEvalAnswers(Registry& registry, CommandLine eval) {
  auto args = std::make_shared<Args>();
  CommandLine answers = registry.Add("answers", "answer questions, score them, compare with another system's answers",
                                   [args](Context& c) { return Run(c, *args); }, eval);
  answers.Option("COLLECTION", args->collection, "collection or alias to search; none: each question's own passage (SQuAD's paragraphs)");
  answers.Option("--questions", args->questions, "SQuAD JSON, or JSON lines {id, question, answers, doc_id}; gz, zst, xz or -").Required();
  answers.Option("--limit", args->limit, "draw this many questions; 0: all");
  answers.Option("--seed", args->seed, "of the draw").ShowDefault();
  answers.Option("--shard", args->shard, "I/N: only every N-th question, after the draw; the N files, one after the other, are the whole run");
  answers.Option("--only", args->only, "all, answerable or unanswerable").OneOf({"all", "answerable", "unanswerable"});
  answers.Option("--half", args->half, "0 or 1: half of the titles, by checksum").OneOf({"0", "1"});
  answers.Option("--out", args->out, "JSON lines, an answer a line, written as they come (default: QUESTIONS.answers.jsonl)");
  answers.Flag("--resume", args->resume, "go on with the file of --out where a run was stopped");
  answers.Option("--predictions", args->predictions, "score these answers instead of reading: ours, or {id, answer|reply|prediction}");
  answers.Flag("--rejudge", args->rejudge, "with --predictions: trust and abstention by this build's weights, from the features on file");
  answers.Option("--baseline", args->baseline, "another system's answers to the same questions: paired differences");
  answers.Option("--curve", args->curve, "write the whole abstention curve here, as CSV");
  answers.Flag("--per-query", args->per_query, "values of each question");
  answers.Option("--format", args->format, "text, json, csv or markdown").OneOf({"text", "json", "csv", "markdown"});
  answers.Option("--fail-under", args->fail_under, "MEASURE=NUMBER: exit 9 where the mean is below");
  AddAnswerFlags(registry, answers);
  AddSearchFlags(registry, answers, args->search);
}

}  // namespace lectern::cli
