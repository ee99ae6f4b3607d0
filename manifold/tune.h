// manifold/tune.h: k, d and the kept share chosen without the truth: data fission, or two real encodings.
//
//   ASSIGN_OR_RETURN(Tuning tuning, TuneByFission(raw, 384, sigma2, TuneOptions(), pool));
//   params.k = tuning.k;  params.d = tuning.d;
//
// Shapes:  raw [n, dim]; replicas [m, dim] each, rows[i] the corpus row they encode.
// Threads: the pool's; the same seed gives the same bits.
// Errors:  those of the parts; kInvalidArgument (no setting of the grid fits the corpus).
// Cost:    sample * |ks| * |ds| planes. The risk ranks settings; its absolute value is too low where noise is strong.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/status.h"
#include "base/thread_pool.h"

namespace lectern::manifold {

struct TuneOptions {
  std::vector<int64_t> ks = {16, 32, 64, 128};
  std::vector<int64_t> ds = {2, 4, 8, 12, 16, 24, 32, 48};
  int64_t sample = 2000;
  double alpha = 0.5;   // x' = x + alpha w, x'' = x - w / alpha: independent errors
  uint64_t seed = 1;
};

struct TuneRow {
  int64_t k = 0, d = 0;
  double s = 0, risk = 0;
};

struct Tuning {
  int64_t k = 0, d = 0;
  double s = 0, risk = 0;
  double raw_risk = 0;          // of leaving x' as it is
  std::vector<TuneRow> table;   // by k, then d
};

absl::StatusOr<Tuning> TuneByFission(std::span<const float> raw, int64_t dim, double sigma2, const TuneOptions& options,
                                     ThreadPool& pool);
absl::StatusOr<Tuning> TuneByReplicas(std::span<const float> raw, int64_t dim, std::span<const float> first,
                                      std::span<const float> second, std::span<const int32_t> rows, const TuneOptions& options,
                                      ThreadPool& pool);

}  // namespace lectern::manifold
