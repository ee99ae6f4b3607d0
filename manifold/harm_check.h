// manifold/harm_check.h: does fitting help searching here? Decided on replicas, before anybody searches.
//
//   ASSIGN_OR_RETURN(HarmCheck check, CheckHarm({first, second, raw_rows, fitted_rows, 384}, pool));
//   if (check.helps) ...      // the lower 95 % bound of the gain in recall is above 0
//
// Shapes:  held-out documents [m, dim] each: two replicas, the stored vector, the fitted vector; list [m] or empty.
// Threads: the pool's; the same seed gives the same bits.
// Errors:  kInvalidArgument (shapes, fewer than 20 documents).
// Cost:    three exact searches of m queries in m vectors, and 2,000 resamples.
//
// A document's truth is the k nearest of the others by averaged replicas, which know nothing of the noise in the stored
// vectors. The stored vector of a document searches the stored, then the fitted vectors of the others: queries are never
// fitted. Truth and corpus are the held-out documents, so that neither side has noise of the other.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/status.h"
#include "base/thread_pool.h"

namespace lectern::manifold {

struct HarmCheckRequest {
  std::span<const float> first, second;   // replicas
  std::span<const float> raw, fitted;     // of the same documents
  int64_t dim = 0;
  std::span<const int32_t> list;          // of each document; lists may only veto
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
  bool helps = false;
  std::vector<ListVerdict> lists;
};

absl::StatusOr<HarmCheck> CheckHarm(const HarmCheckRequest& request, ThreadPool& pool);

// Mean of a [n, k] ids against b [n, k]: the share of b's ids that a has, a value a row. -1 is no id.
std::vector<double> RecallRows(std::span<const int32_t> found, std::span<const int32_t> truth, int64_t k);

}  // namespace lectern::manifold
