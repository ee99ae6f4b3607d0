#include "service/eval/measures.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <functional>

namespace lectern::eval {
namespace {

constexpr const char* kKnown = "AP nDCG@k RR@k P@k R@k Success@k Rprec Bpref RBP(p=0.8) ERR@k Judged@k";

struct Ranked {
  std::vector<int> grades;      // in rank order; unjudged counts 0
  std::vector<bool> judged;
  std::vector<int> ideal;       // positive grades, descending
  int num_relevant = 0;
  int num_nonrelevant = 0;      // judged, grade below 1
};

int64_t Depth(const Ranked& r, int cutoff) {
  const int64_t n = static_cast<int64_t>(r.grades.size());
  return cutoff > 0 ? std::min<int64_t>(n, cutoff) : n;
}

int RelevantWithin(const Ranked& r, int64_t depth) {
  int found = 0;
  for (int64_t i = 0; i < depth; ++i) found += r.grades[i] >= 1;
  return found;
}

double AveragePrecision(const Ranked& r, int cutoff) {
  if (r.num_relevant == 0) return 0;
  double sum = 0;
  int found = 0;
  for (int64_t i = 0; i < Depth(r, cutoff); ++i) {
    if (r.grades[i] >= 1) sum += ++found / static_cast<double>(i + 1);
  }
  return sum / r.num_relevant;
}

double Ndcg(const Ranked& r, int cutoff) {
  double dcg = 0, ideal = 0;
  for (int64_t i = 0; i < Depth(r, cutoff); ++i) {
    if (r.grades[i] > 0) dcg += r.grades[i] / std::log2(i + 2.0);
  }
  const size_t n = cutoff > 0 ? std::min<size_t>(r.ideal.size(), cutoff) : r.ideal.size();
  for (size_t i = 0; i < n; ++i) ideal += r.ideal[i] / std::log2(i + 2.0);
  return ideal == 0 ? 0 : dcg / ideal;
}

double ReciprocalRank(const Ranked& r, int cutoff) {
  for (int64_t i = 0; i < Depth(r, cutoff); ++i) {
    if (r.grades[i] >= 1) return 1.0 / (i + 1.0);
  }
  return 0;
}

double Bpref(const Ranked& r) {
  if (r.num_relevant == 0) return 0;
  double sum = 0;
  int nonrelevant_above = 0;
  for (size_t i = 0; i < r.grades.size(); ++i) {
    if (!r.judged[i]) continue;
    if (r.grades[i] < 1) {
      ++nonrelevant_above;
    } else if (nonrelevant_above == 0) {
      sum += 1;
    } else {
      sum += 1.0 - static_cast<double>(std::min(nonrelevant_above, r.num_relevant)) /
                       std::min(r.num_relevant, r.num_nonrelevant);
    }
  }
  return sum / r.num_relevant;
}

double RankBiasedPrecision(const Ranked& r, double p) {
  double sum = 0, weight = 1 - p;
  for (int grade : r.grades) {
    if (grade >= 1) sum += weight;
    weight *= p;
  }
  return sum;
}

double ExpectedReciprocalRank(const Ranked& r, int cutoff) {
  double sum = 0, reach = 1;
  for (int64_t i = 0; i < Depth(r, cutoff); ++i) {
    const double stop = (std::exp2(std::max(0, r.grades[i])) - 1) / 16;
    sum += reach * stop / (i + 1.0);
    reach *= 1 - stop;
  }
  return sum;
}

double JudgedShare(const Ranked& r, int cutoff) {
  const int64_t depth = Depth(r, cutoff);
  if (depth == 0) return 0;
  return static_cast<double>(std::count(r.judged.begin(), r.judged.begin() + depth, true)) / depth;
}

double Value(const Measure& m, const Ranked& r) {
  switch (m.kind) {
    case Measure::Kind::kAp: return AveragePrecision(r, m.cutoff);
    case Measure::Kind::kNdcg: return Ndcg(r, m.cutoff);
    case Measure::Kind::kRr: return ReciprocalRank(r, m.cutoff);
    case Measure::Kind::kP: return static_cast<double>(RelevantWithin(r, Depth(r, m.cutoff))) / m.cutoff;
    case Measure::Kind::kR:
      return r.num_relevant == 0 ? 0 : static_cast<double>(RelevantWithin(r, Depth(r, m.cutoff))) / r.num_relevant;
    case Measure::Kind::kSuccess: return RelevantWithin(r, Depth(r, m.cutoff)) > 0;
    case Measure::Kind::kRprec:
      return r.num_relevant == 0
                 ? 0
                 : static_cast<double>(RelevantWithin(r, Depth(r, r.num_relevant))) / r.num_relevant;
    case Measure::Kind::kBpref: return Bpref(r);
    case Measure::Kind::kRbp: return RankBiasedPrecision(r, m.p);
    case Measure::Kind::kErr: return ExpectedReciprocalRank(r, m.cutoff);
    case Measure::Kind::kJudged: return JudgedShare(r, m.cutoff);
  }
  return 0;
}

Ranked Judge(const std::map<std::string, int>& grades, const std::vector<RunEntry>& entries) {
  Ranked r;
  for (const auto& [doc, grade] : grades) {
    if (grade >= 1) {
      ++r.num_relevant;
      r.ideal.push_back(grade);
    } else {
      ++r.num_nonrelevant;
    }
  }
  std::sort(r.ideal.begin(), r.ideal.end(), std::greater<int>());
  for (const RunEntry& entry : TrecOrder(entries)) {
    const auto it = grades.find(entry.doc_id);
    r.judged.push_back(it != grades.end());
    r.grades.push_back(it == grades.end() ? 0 : it->second);
  }
  return r;
}

struct MeasureName {
  const char* name;
  Measure::Kind kind;
  enum { kNone, kOptional, kRequired } cutoff;
};
constexpr MeasureName kNames[] = {
    {"AP", Measure::Kind::kAp, MeasureName::kOptional},
    {"MAP", Measure::Kind::kAp, MeasureName::kOptional},
    {"nDCG", Measure::Kind::kNdcg, MeasureName::kOptional},
    {"RR", Measure::Kind::kRr, MeasureName::kOptional},
    {"MRR", Measure::Kind::kRr, MeasureName::kOptional},
    {"P", Measure::Kind::kP, MeasureName::kRequired},
    {"R", Measure::Kind::kR, MeasureName::kRequired},
    {"Recall", Measure::Kind::kR, MeasureName::kRequired},
    {"Success", Measure::Kind::kSuccess, MeasureName::kRequired},
    {"Rprec", Measure::Kind::kRprec, MeasureName::kNone},
    {"Bpref", Measure::Kind::kBpref, MeasureName::kNone},
    {"RBP", Measure::Kind::kRbp, MeasureName::kNone},
    {"ERR", Measure::Kind::kErr, MeasureName::kRequired},
    {"Judged", Measure::Kind::kJudged, MeasureName::kRequired},
};

absl::StatusOr<Measure> ParseMeasure(std::string_view token) {
  Measure measure;
  measure.name = std::string(token);
  std::string_view name = token;
  if (const size_t at = name.find('@'); at != std::string_view::npos) {
    const std::string_view digits = name.substr(at + 1);
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), measure.cutoff);
    if (error != std::errc() || end != digits.data() + digits.size() || measure.cutoff < 1) {
      return InvalidArgument("the cutoff of measure '", token, "' must be a number from 1 up");
    }
    name = name.substr(0, at);
  }
  if (const size_t open = name.find('('); open != std::string_view::npos && name.starts_with("RBP(p=") && name.ends_with(")")) {
    const std::string value(name.substr(6, name.size() - 7));
    char* end = nullptr;
    measure.p = std::strtod(value.c_str(), &end);
    if (end == value.c_str() || *end != '\0' || !(measure.p > 0 && measure.p < 1)) {
      return InvalidArgument("p of '", token, "' must lie between 0 and 1");
    }
    name = name.substr(0, open);
  }
  for (const MeasureName& known : kNames) {
    if (name != known.name) continue;
    if (known.cutoff == MeasureName::kRequired && measure.cutoff == 0) {
      return InvalidArgument("measure '", token, "' needs a cutoff, as in ", token, "@10");
    }
    if (known.cutoff == MeasureName::kNone && measure.cutoff != 0) {
      return InvalidArgument("measure '", name, "' takes no cutoff, got '", token, "'");
    }
    measure.kind = known.kind;
    return measure;
  }
  return InvalidArgument("unknown measure '", token, "'; known: ", kKnown);
}

}  // namespace

std::vector<RunEntry> TrecOrder(std::vector<RunEntry> entries) {
  std::sort(entries.begin(), entries.end(), [](const RunEntry& a, const RunEntry& b) {
    const float x = static_cast<float>(a.score), y = static_cast<float>(b.score);
    return x != y ? x > y : a.doc_id > b.doc_id;
  });
  return entries;
}

absl::StatusOr<std::vector<Measure>> ParseMeasures(std::string_view text) {
  std::vector<Measure> measures;
  size_t at = 0;
  while (at < text.size()) {
    const size_t begin = text.find_first_not_of(" ,\t", at);
    if (begin == std::string_view::npos) break;
    const size_t end = std::min(text.find_first_of(" ,\t", begin), text.size());
    ASSIGN_OR_RETURN(Measure measure, ParseMeasure(text.substr(begin, end - begin)));
    measures.push_back(std::move(measure));
    at = end;
  }
  if (measures.empty()) return InvalidArgument("no measure given; known: ", kKnown);
  return measures;
}

Scores Evaluate(const Qrels& qrels, const RunMap& run, const std::vector<Measure>& measures) {
  Scores scores;
  scores.measures = measures;
  scores.mean.assign(measures.size(), 0);
  for (const auto& [query, grades] : qrels) {
    QueryScores row;
    row.query_id = query;
    const auto it = run.find(query);
    row.in_run = it != run.end();
    scores.missing_queries += !row.in_run;
    const Ranked ranked = Judge(grades, row.in_run ? it->second : std::vector<RunEntry>());
    for (size_t m = 0; m < measures.size(); ++m) {
      row.values.push_back(Value(measures[m], ranked));
      scores.mean[m] += row.values.back();
    }
    scores.per_query.push_back(std::move(row));
  }
  for (double& mean : scores.mean) mean = qrels.empty() ? 0 : mean / static_cast<double>(qrels.size());
  for (const auto& [query, entries] : run) scores.unjudged_queries += !qrels.contains(query);
  return scores;
}

}  // namespace lectern::eval
