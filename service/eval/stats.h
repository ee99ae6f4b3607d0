// service/eval/stats.h: is a difference real? Paired bootstrap intervals and sign-flip permutation tests.
//
//   Interval i = BootstrapMean(values);                     // mean with its 95 % interval
//   PairedDifference d = ComparePaired(baseline, candidate); // per-query values, same order
//
// Shapes:  one value a query.
// Threads: pure functions; the same seed gives the same bits.
// Errors:  CHECK on different lengths; empty input gives zeros.
// Cost:    rounds * n additions (10,000 rounds by default).
//
// Percentile bootstrap (Efron and Tibshirani 1993), two-sided sign-flip permutation test (Smucker, Allan, Carterette 2007),
// Holm's correction (1979).
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace lectern::eval {

struct Interval {
  double mean = 0, low = 0, high = 0;   // 95 %
};

struct PairedDifference {
  Interval difference;    // candidate - baseline
  double p = 1;           // two-sided
  int64_t wins = 0, losses = 0, ties = 0;
};

Interval BootstrapMean(std::span<const double> values, uint64_t seed = 1, int rounds = 10000);
PairedDifference ComparePaired(std::span<const double> baseline, std::span<const double> candidate, uint64_t seed = 1,
                               int rounds = 10000);
// Adjusted p values, in the order given.
std::vector<double> HolmAdjust(std::span<const double> p_values);

}  // namespace lectern::eval
