// index/bm25.h: the score.
//
//   score(q, chunk) = sum over terms of  idf * n * tf / (tf + k1 * (1 - b + b * length / average length))
//   idf = ln(1 + (N - df + 0.5) / (df + 0.5))
//
//   const Bm25Scale scale = ScaleFor(idfs_times_counts);
//   ScoreTerms terms = TermsOf(params, statistics, idf * count, scale);
//
// Shapes:  n is how often the query has the term; tf and length count a title's terms kTitleWeight times. N, df and the
//          average length are over the live chunks of all segments, so that neither segments nor deletes change a score.
// Threads: pure functions.
// Errors:  CheckBm25Params gives kInvalidArgument with the limits.
// Cost:    a contribution is one division. It is cut to a multiple of 2^-bits of the query's own choosing, so that sums
//          are sums of integers: the same whatever the order, the algorithm or the CPU, which makes "the same top k as
//          exhaustive scoring" literal. At 2^-24 for an ordinary query the cut is below float's own rounding.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <span>

#include "base/status.h"
#include "index/cpu/postings_kernels.h"

namespace lectern::index {

struct Bm25Params {
  double k1 = 1.2;   // with b and the title's weight the best mean over five sets (bench/REPORT.md)
  double b = 0.6;
};
inline constexpr int kTitleWeight = 3;
inline constexpr double kMaxK1 = 1000;

absl::Status CheckBm25Params(const Bm25Params& params);

struct Bm25Statistics {
  int64_t num_chunks = 0;
  uint64_t total_length = 0;
  double average_length() const {
    return num_chunks == 0 || total_length == 0 ? 1.0
                                                : static_cast<double>(total_length) / static_cast<double>(num_chunks);
  }
};

double Bm25Idf(int64_t document_frequency, int64_t num_chunks);

// Contributions are integers in units of 1 / unit(); their sum over any chunk stays below 2^31.
struct Bm25Scale {
  int bits = 0;
  // Exact: a product with a power of two.
  double ToScore(uint32_t sum) const { return sum * std::bit_cast<double>(static_cast<uint64_t>(1023 - bits) << 52); }
};
// A bound from (frequency, length) pairs: rounding may lift a smaller frequency's quotient a few last places above a
// larger one's (always at k1 = 0), so a bound is 2^-20 of itself higher than the pairs' own contribution.
constexpr uint32_t BoundOf(uint32_t contribution) { return contribution + (contribution >> 20) + 1; }
Bm25Scale ScaleFor(std::span<const double> weights);   // idf * count of every term

ScoreTerms TermsOf(const Bm25Params& params, const Bm25Statistics& statistics, double weight, Bm25Scale scale);

}  // namespace lectern::index
