#include "index/bm25.h"

#include <algorithm>

#include "base/problem.h"

namespace lectern::index {

absl::Status CheckBm25Params(const Bm25Params& params) {
  RETURN_IF_ERROR(CheckRange("k1", params.k1, 0, kMaxK1, "--k1"));
  return CheckRange("b", params.b, 0, 1, "--b");
}

double Bm25Idf(int64_t document_frequency, int64_t num_chunks) {
  const double df = static_cast<double>(document_frequency);
  const double n = static_cast<double>(std::max(num_chunks, document_frequency));
  return std::log1p((n - df + 0.5) / (df + 0.5));
}

Bm25Scale ScaleFor(std::span<const double> weights) {
  double sum = 0;
  for (const double weight : weights) sum += weight;
  // tf / (tf + norm) <= 1, so sum * 2^bits <= 2^30 bounds the products; each term then adds at most 1 for its cut.
  const int bits = sum <= 0 ? 24 : 30 - static_cast<int>(std::ceil(std::log2(sum)));
  return {std::clamp(bits, -30, 24)};
}

ScoreTerms TermsOf(const Bm25Params& params, const Bm25Statistics& statistics, double weight, Bm25Scale scale) {
  return {static_cast<float>(std::ldexp(weight, scale.bits)), static_cast<float>(params.k1 * (1 - params.b)),
          static_cast<float>(params.k1 * params.b / statistics.average_length())};
}

}  // namespace lectern::index
