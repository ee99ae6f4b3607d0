#include "service/eval/answer_report.h"

#include <algorithm>
#include <numeric>

#include "base/json.h"
#include "index/readers/byte_source.h"
#include "service/answer/calibration.h"

namespace lectern::eval {
namespace {

constexpr double kGoodF1 = 0.5;

absl::StatusOr<CitedSpan> ParseCitation(const Json& row) {
  CitedSpan span;
  ASSIGN_OR_RETURN(span.doc_id, JsonString(row, "doc_id"));
  ASSIGN_OR_RETURN(span.quote, JsonString(row, "quote"));
  ASSIGN_OR_RETURN(span.begin, JsonInt(row, "start"));
  ASSIGN_OR_RETURN(span.end, JsonInt(row, "end"));
  return span;
}

absl::StatusOr<std::pair<std::string, AnswerRecord>> ParseRecord(const Json& row) {
  std::string id;
  for (const char* key : {"id", "_id", "query_id"}) {
    if (id.empty() && row.contains(key)) {
      ASSIGN_OR_RETURN(id, JsonString(row, key));
    }
  }
  if (id.empty()) return InvalidArgument("an answer needs an id (id, _id or query_id)");
  AnswerRecord record;
  if (row.contains("outcome")) {
    ASSIGN_OR_RETURN(const std::string outcome, JsonString(row, "outcome"));
    record.abstained = outcome == "abstained";
    if (!record.abstained) {
      ASSIGN_OR_RETURN(record.answer, JsonString(row, "answer"));
    }
    ASSIGN_OR_RETURN(record.reply, JsonString(row, "reply"));
  } else {
    bool found = false;
    for (const char* key : {"answer", "reply", "prediction"}) {
      if (found || !row.contains(key)) continue;
      found = true;
      if (row[key].is_null()) continue;   // said nothing: abstained
      ASSIGN_OR_RETURN(record.reply, JsonString(row, key));
    }
    if (!found) return InvalidArgument("an answer needs a text (answer, reply or prediction)");
    record.abstained = IsRefusal(record.reply);
    if (!record.abstained) record.answer = record.reply;
  }
  if (row.contains("trust") && row["trust"].is_number()) record.trust = row["trust"].get<double>();
  if (row.contains("features") && row["features"].contains("trust") && row["features"]["trust"].is_array()) {
    for (const Json& value : row["features"]["trust"]) {
      if (!value.is_number()) return InvalidArgument("'features.trust' must be a list of numbers");
      record.trust_features.push_back(value.get<double>());
    }
  }
  if (row.contains("citations")) {
    if (!row["citations"].is_array()) return InvalidArgument("'citations' must be a list");
    for (const Json& citation : row["citations"]) {
      ASSIGN_OR_RETURN(CitedSpan span, ParseCitation(citation));
      record.citations.push_back(std::move(span));
    }
  }
  return std::make_pair(std::move(id), std::move(record));
}

double Mean(std::span<const double> values) {
  return values.empty() ? 0 : std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

struct Scored {
  const EvalQuestion* question;
  const AnswerRecord* record;
  double reply_em = 0, reply_f1 = 0;
};

std::vector<Scored> Pair(const std::vector<EvalQuestion>& questions, const AnswerFile& file, int64_t* missing) {
  std::vector<Scored> out;
  *missing = 0;
  for (const EvalQuestion& question : questions) {
    const auto at = file.answers.find(question.id);
    if (at == file.answers.end()) {
      ++*missing;
      continue;
    }
    Scored scored{&question, &at->second};
    scored.reply_em = ExactMatch(at->second.reply, question.answers);
    scored.reply_f1 = TokenF1(at->second.reply, question.answers);
    out.push_back(scored);
  }
  return out;
}

std::vector<CurvePoint> Curve(const std::vector<Scored>& scored, double* area) {
  std::vector<const Scored*> order;
  int64_t answerable = 0, unanswerable = 0, rights = 0, goods = 0;
  for (const Scored& s : scored) {
    if (!s.question->judged) continue;
    if (!s.record->trust) return {};
    order.push_back(&s);
    (s.question->unanswerable ? unanswerable : answerable) += 1;
    rights += s.reply_em == 1;
    goods += s.reply_f1 >= kGoodF1;
  }
  std::stable_sort(order.begin(), order.end(), [](const Scored* a, const Scored* b) { return *a->record->trust > *b->record->trust; });
  const auto share = [](int64_t part, int64_t whole) { return whole == 0 ? 0.0 : static_cast<double>(part) / static_cast<double>(whole); };
  std::vector<CurvePoint> out;
  int64_t wrong = 0, right = 0, good = 0, no = 0, yes = 0;
  double before = 0;
  for (size_t i = 0; i < order.size(); ++i) {
    const Scored& s = *order[i];
    (s.question->unanswerable ? no : yes) += 1;
    right += s.reply_em == 1;
    good += s.reply_f1 >= kGoodF1;
    wrong += s.reply_em != 1;
    if (i + 1 < order.size() && *order[i + 1]->record->trust == *s.record->trust) continue;   // ties are answered together
    const auto answered = static_cast<int64_t>(i) + 1;
    const double risk = share(wrong, answered), coverage = share(answered, static_cast<int64_t>(order.size()));
    *area += risk * (coverage - before);
    before = coverage;
    out.push_back({*s.record->trust, coverage, risk, share(right, rights), share(good, goods), 1 - share(no, unanswerable), 1 - share(yes, answerable)});
    if (unanswerable == 0) out.back().abstained_unanswerable = 0;
    if (answerable == 0) out.back().abstained_answerable = 0;
  }
  std::reverse(out.begin(), out.end());
  return out;
}

// What answers depend on. Which questions were drawn from which file says nothing of it, and a model is its checksum, not its path.
Json HowMade(Json run) {
  if (!run.is_object()) return run;
  for (const char* key : {"questions", "only", "half", "limit", "seed", "shard"}) run.erase(key);
  if (run.contains("reader_sha256")) run.erase("reader");
  return run;
}

}  // namespace

absl::StatusOr<AnswerFile> ReadAnswers(const std::string& path) {
  ASSIGN_OR_RETURN(const auto source, index::ByteSource::Open(path));
  std::string text, piece;
  while (source->ReadSome(size_t{1} << 20, &piece)) text += piece;
  RETURN_IF_ERROR(source->status());
  return ParseAnswers(text, path);
}

absl::StatusOr<AnswerFile> ParseAnswers(std::string_view text, const std::string& name) {
  AnswerFile file;
  int64_t number = 0;
  for (size_t at = 0; at < text.size();) {
    const size_t end = text.find('\n', at);
    const bool whole = end != std::string_view::npos;
    const std::string_view line = text.substr(at, whole ? end - at : std::string_view::npos);
    at = whole ? end + 1 : text.size();
    ++number;
    const auto where = [&] { return internal::Concat(name, ":", number); };
    if (line.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    const absl::StatusOr<Json> row = ParseJson(line);
    if (!row.ok() && !whole) break;
    if (!row.ok()) return Annotate(row.status(), where());
    if (!row->is_object()) return Annotate(InvalidArgument("an answer is a JSON object"), where());
    if (row->contains("run")) {
      const Json run = HowMade((*row)["run"]), before = HowMade(*file.run);
      if (!before.is_null() && before != run) return InvalidArgument(where(), ": these answers were made otherwise than those before: ", DumpJson(run), ", then ", DumpJson(before));
      if (file.run->is_null()) file.run = (*row)["run"];
    } else {
      absl::StatusOr<std::pair<std::string, AnswerRecord>> record = ParseRecord(*row);
      if (!record.ok()) return Annotate(record.status(), where());
      if (!file.answers.insert(*std::move(record)).second) {
        return InvalidArgument(where(), ": the id ", row->value("id", ""), " comes twice");
      }
    }
  }
  return file;
}

absl::Status Rejudge(AnswerFile* file) {
  int64_t judged = 0;
  for (auto& [id, record] : file->answers) {
    service::answer::TrustFeatures features;
    if (record.trust_features.size() != features.size()) continue;
    std::copy(record.trust_features.begin(), record.trust_features.end(), features.begin());
    record.trust = service::answer::TrustProbability(features);
    record.abstained = *record.trust < service::answer::kDefaultTrust;
    record.answer = record.abstained ? "" : record.reply;
    if (record.abstained) record.citations.clear();
    ++judged;
  }
  if (judged == 0) return InvalidArgument("no answer on file has the features of this build (answers of --answer-mode span have them)");
  return absl::OkStatus();
}

const AnswerMeasure* AnswerReport::Find(std::string_view name) const {
  for (const AnswerMeasure& measure : measures) {
    if (measure.name == name) return &measure;
  }
  return nullptr;
}

AnswerReport ScoreAnswers(const std::vector<EvalQuestion>& questions, const AnswerFile& file, bool closed) {
  AnswerReport report;
  const std::vector<Scored> scored = Pair(questions, file, &report.missing);
  AnswerMeasure em{"EM"}, f1{"F1"}, contains{"Contains"}, reply_em{"EM-reply"}, reply_f1{"F1-reply"}, answered{"Answered"},
      abstained{"Abstain-Acc"}, precision{"CitP"}, recall{"CitR"};
  bool cites = false;
  for (const Scored& s : scored) {
    const EvalQuestion& question = *s.question;
    const AnswerRecord& record = *s.record;
    if (!question.judged) continue;
    const auto add = [&](AnswerMeasure& measure, double value) {
      measure.ids.push_back(question.id);
      measure.values.push_back(value);
    };
    std::vector<GoldPassage> gold;
    if (!closed && !question.doc_id.empty()) gold.push_back({question.doc_id, 0, -1});
    cites = cites || !record.citations.empty();
    bool any_good = false;
    for (const CitedSpan& citation : record.citations) {
      const CitationCounts counts = CountCitations({&citation, 1}, gold, question.answers);
      add(precision, static_cast<double>(counts.good));
      any_good = any_good || counts.any_good;
    }
    if (question.unanswerable) {
      ++report.unanswerable;
      add(abstained, record.abstained ? 1 : 0);
      continue;
    }
    ++report.answerable;
    add(em, record.abstained ? 0 : ExactMatch(record.answer, question.answers));
    add(f1, record.abstained ? 0 : TokenF1(record.answer, question.answers));
    add(contains, record.abstained ? 0 : ContainsAnswer(record.answer, question.answers));
    add(reply_em, s.reply_em);
    add(reply_f1, s.reply_f1);
    add(answered, record.abstained ? 0 : 1);
    add(recall, any_good ? 1 : 0);
  }
  for (AnswerMeasure* measure : {&em, &f1, &contains, &reply_em, &reply_f1, &answered, &abstained, &precision, &recall}) {
    const bool about_citations = measure == &precision || measure == &recall;
    if (measure->values.empty() || (about_citations && !cites)) continue;
    measure->mean = BootstrapMean(measure->values);
    report.measures.push_back(std::move(*measure));
  }
  report.curve = Curve(scored, &report.risk_coverage_area);
  return report;
}

std::vector<CurvePoint> ThinCurve(const std::vector<CurvePoint>& curve, size_t rows) {
  if (curve.size() <= rows || rows < 2) return curve;
  std::vector<CurvePoint> out;
  size_t at = 0;
  for (size_t r = 0; r < rows; ++r) {
    const double wanted = 1 - static_cast<double>(r) / static_cast<double>(rows - 1);   // share answered, falling along the curve
    while (at + 1 < curve.size() && curve[at].answered > wanted) ++at;
    if (r + 1 == rows) at = curve.size() - 1;
    if (out.empty() || out.back().threshold != curve[at].threshold) out.push_back(curve[at]);
  }
  return out;
}

std::vector<AnswerComparison> CompareAnswers(const std::vector<EvalQuestion>& questions, const AnswerFile& baseline, const AnswerFile& mine,
                                             bool closed) {
  std::vector<EvalQuestion> both;
  for (const EvalQuestion& question : questions) {
    if (baseline.answers.contains(question.id) && mine.answers.contains(question.id)) both.push_back(question);
  }
  const AnswerReport theirs = ScoreAnswers(both, baseline, closed), ours = ScoreAnswers(both, mine, closed);
  std::vector<AnswerComparison> rows;
  const auto compare = [&](std::string name, std::span<const double> base, std::span<const double> value) {
    AnswerComparison row{std::move(name), static_cast<int64_t>(value.size())};
    row.difference = ComparePaired(base, value);
    row.baseline = Mean(base);
    row.value = Mean(value);
    rows.push_back(std::move(row));
  };
  for (const AnswerMeasure& measure : ours.measures) {
    const AnswerMeasure* other = theirs.Find(measure.name);
    if (measure.name == "CitP" || other == nullptr) continue;   // one value a citation: nothing to pair
    compare(measure.name, other->values, measure.values);
  }
  const AnswerMeasure* answered = theirs.Find("Answered");
  const AnswerMeasure* refused = theirs.Find("Abstain-Acc");
  if (answered != nullptr && refused != nullptr && !ours.curve.empty()) {
    double threshold = 0;   // the highest that answers no fewer
    for (const CurvePoint& point : ours.curve) {
      if (1 - point.abstained_answerable >= answered->mean.mean) threshold = point.threshold;
    }
    std::vector<double> value;
    for (const std::string& id : refused->ids) value.push_back(*mine.answers.at(id).trust < threshold ? 1 : 0);
    compare("Abstain-Acc at equal Answered", refused->values, value);
  }
  return rows;
}

}  // namespace lectern::eval
