// service/eval/manifold/growing.h: does a fit that grew with its collection search as well as one made anew?
//
//   ASSIGN_OR_RETURN(GrowingReport report, MeasureGrowing(data, raw, queries, dim, params, {.seed = 1}, pool));
//
// Shapes:  raw [documents, dim] and queries [topics, dim], in the order of `data`; report.recall: against the ten nearest raw
//          vectors of what is there at the end, a value a query; report.judged: recall@10 of the judged documents that are left.
// Threads: one; parts use the pool.
// Errors:  kInvalidArgument (too few documents); those of the parts; kCancelled.
// Cost:    two fits of the whole and one of each change.
#pragma once

#include <cstdint>
#include <span>

#include "base/cancel.h"
#include "base/json_fwd.h"
#include "manifold/fitter.h"
#include "service/eval/manifold/collection.h"
#include "service/eval/stats.h"

namespace lectern::eval {

struct GrowingOptions {
  double share = 0.1;        // deleted, and added, of the documents at the start
  int64_t steps = 10;        // changes that bring them
  uint64_t seed = 1;
  const CancelToken* cancel = nullptr;
};

struct GrowingReport {
  int64_t start = 0, deleted = 0, added = 0, lists = 0, refitted_lists = 0, refitted_rows = 0;
  double moved = 0;                                   // mean ||grown - rebuilt|| of a document
  int64_t queries = 0, judged_queries = 0, same_top = 0;
  double recall_grown = 0, recall_rebuilt = 0;        // of the ten nearest raw vectors
  double judged_grown = 0, judged_rebuilt = 0;
  PairedDifference recall, judged;                    // grown - rebuilt
};

absl::StatusOr<GrowingReport> MeasureGrowing(const CollectionData& data, std::span<const float> raw, std::span<const float> queries,
                                             int64_t dim, const manifold::FitParams& params, const GrowingOptions& options,
                                             ThreadPool& pool);
Json GrowingJson(const GrowingReport& report);

}  // namespace lectern::eval
