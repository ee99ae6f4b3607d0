// service/eval/measures.h: ranking measures, equal to trec_eval's to four decimals, ties included.
//
//   ASSIGN_OR_RETURN(std::vector<Measure> measures, ParseMeasures("nDCG@10 R@100 RR@10"));
//   Scores scores = Evaluate(qrels, run, measures);   // scores.mean["nDCG@10"], scores.per_query[i].values[m]
//
// Shapes:  names follow ir_measures: AP nDCG nDCG@k RR RR@k P@k R@k Success@k Rprec Bpref RBP(p=0.8) ERR@k Judged@k.
// Threads: pure functions.
// Errors:  kInvalidArgument names an unknown measure and lists the known ones.
// Cost:    n log n a query for the sort.
//
// A run is sorted by score (as float32, like trec_eval) descending, then document id descending. Gains are linear;
// a document is relevant from grade 1. Means are over all judged queries (trec_eval -c): a query the run lacks counts 0.
// Sources: trec_eval 9.0.8 (AP, nDCG, RR, P, R, Rprec, Bpref, success); Chapelle et al. 2009 with the maximum grade 4
// of gdeval (ERR); Moffat and Zobel 2008 (RBP).
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace lectern::eval {

using Qrels = std::map<std::string, std::map<std::string, int>>;       // query -> document -> grade
struct RunEntry {
  std::string doc_id;
  double score = 0;
};
using RunMap = std::map<std::string, std::vector<RunEntry>>;              // query -> retrieved, any order

struct Measure {
  enum class Kind { kAp, kNdcg, kRr, kP, kR, kSuccess, kRprec, kBpref, kRbp, kErr, kJudged } kind = Kind::kNdcg;
  int cutoff = 0;      // 0: none
  double p = 0.8;      // RBP
  std::string name;    // as printed
};

struct QueryScores {
  std::string query_id;
  std::vector<double> values;   // one a measure
  bool in_run = true;
};

struct Scores {
  std::vector<Measure> measures;
  std::vector<QueryScores> per_query;   // judged queries, by id
  std::vector<double> mean;
  int64_t missing_queries = 0;          // judged, not in the run
  int64_t unjudged_queries = 0;         // in the run, not judged: left out
};

absl::StatusOr<std::vector<Measure>> ParseMeasures(std::string_view text);   // separated by blanks or commas
Scores Evaluate(const Qrels& qrels, const RunMap& run, const std::vector<Measure>& measures);
// The order trec_eval scores a query's documents in.
std::vector<RunEntry> TrecOrder(std::vector<RunEntry> entries);

}  // namespace lectern::eval
