// manifold/harm_check.h: does fitting help searching here? Decided on replicas and questions, before anybody searches.
//
//   ASSIGN_OR_RETURN(HarmCheck check, CheckHarm({.first = e, .second = e2, .rows = rows, .raw = raw, .fitted = fitted, .dim = 384}, pool));
//   if (check.helps) ...      // neighbours are found better for certain, and documents are still found by their questions
//
// Shapes:  raw, fitted [n, dim]; two replicas [m, dim] of the documents `rows`; list [m] or empty; questions [q, dim], each asking
//          for the document answers[i], or none: then the replicas ask.
// Threads: the pool's; the same seed gives the same bits.
// Errors:  kInvalidArgument (shapes, a row out of range, fewer than 20 documents).
// Cost:    three exact searches of m in m, two of q in n vectors, and 2,000 resamples each; a packed copy of n vectors.
//
// Neighbours: a document's truth is the k nearest of the others by averaged replicas, which know nothing of the noise in the
// stored vectors. The stored vector searches the stored, then the fitted vectors of the others. Truth and corpus are the held-out
// documents, so that neither side has noise of the other; they lie further apart than the whole corpus does, so what keeps
// siblings apart is not seen here. Questions see it: each looks for its own document among all. Queries are never fitted.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/status.h"
#include "base/thread_pool.h"

namespace lectern::manifold {

// The loss in nDCG@10 that is tolerated, and the gain in recall that is worth a second table of vectors: a lower 95 % bound each.
inline constexpr double kHarmTolerance = 0.002;

struct HarmCheckRequest {
  std::span<const float> first, second;     // replicas
  std::span<const int32_t> rows;            // whose
  std::span<const float> raw, fitted;       // of the whole corpus
  int64_t dim = 0;
  std::span<const int32_t> list;            // of each held-out document; lists may only veto
  std::span<const float> questions;
  std::span<const int32_t> answers;
  int64_t k = 10;
  uint64_t seed = 1;
};

struct ListVerdict {
  int32_t list = 0;
  int64_t documents = 0;
  double gain = 0, high = 0;   // high: upper 95 % bound
  bool vetoed = false;         // the list loses for certain: high < 0
};

struct HarmCheck {
  int64_t documents = 0;
  double recall_raw = 0, recall_fitted = 0;
  double gain = 0, low = 0, high = 0;   // mean and 95 % percentile bootstrap
  double detectable = 0;                // the least gain this many documents would show: what `off` rules out above
  int64_t questions = 0;
  double found_raw = 0, found_fitted = 0;                 // nDCG@10 of the one document that a question asks for
  double found_gain = 0, found_low = 0, found_high = 0;
  bool finds_neighbours = false, keeps_answers = false;   // low > kHarmTolerance; found_low >= -kHarmTolerance
  bool helps = false;                                     // both
  std::vector<ListVerdict> lists;
};

absl::StatusOr<HarmCheck> CheckHarm(const HarmCheckRequest& request, ThreadPool& pool);

// Mean of a [n, k] ids against b [n, k]: the share of b's ids that a has, a value a row. -1 is no id.
std::vector<double> RecallRows(std::span<const int32_t> found, std::span<const int32_t> truth, int64_t k);

}  // namespace lectern::manifold
