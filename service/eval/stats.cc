#include "service/eval/stats.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/check.h"
#include "base/rng.h"

namespace lectern::eval {

Interval BootstrapMean(std::span<const double> values, uint64_t seed, int rounds) {
  Interval interval;
  const int64_t n = static_cast<int64_t>(values.size());
  if (n == 0) return interval;
  interval.mean = std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(n);
  Rng rng(seed, /*stream=*/0);
  std::vector<double> means(static_cast<size_t>(rounds));
  for (double& mean : means) {
    double sum = 0;
    for (int64_t i = 0; i < n; ++i) sum += values[static_cast<size_t>(rng.Below(n))];
    mean = sum / static_cast<double>(n);
  }
  std::sort(means.begin(), means.end());
  interval.low = means[static_cast<size_t>(0.025 * (rounds - 1))];
  interval.high = means[static_cast<size_t>(std::ceil(0.975 * (rounds - 1)))];
  return interval;
}

PairedDifference ComparePaired(std::span<const double> baseline, std::span<const double> candidate, uint64_t seed, int rounds) {
  CHECK(baseline.size() == candidate.size());
  PairedDifference result;
  std::vector<double> differences(baseline.size());
  for (size_t i = 0; i < baseline.size(); ++i) {
    differences[i] = candidate[i] - baseline[i];
    if (std::abs(differences[i]) < 1e-12) ++result.ties;
    else if (differences[i] > 0) ++result.wins;
    else ++result.losses;
  }
  result.difference = BootstrapMean(differences, seed, rounds);
  if (differences.empty()) return result;
  const double observed = std::abs(result.difference.mean) * static_cast<double>(differences.size());
  Rng rng(seed, /*stream=*/1);
  int at_least = 0;
  for (int round = 0; round < rounds; ++round) {
    double sum = 0;
    uint64_t bits = 0;
    for (size_t i = 0; i < differences.size(); ++i) {
      if (i % 64 == 0) bits = rng.Next();
      sum += (bits & 1) != 0 ? differences[i] : -differences[i];
      bits >>= 1;
    }
    at_least += std::abs(sum) >= observed - 1e-12;
  }
  result.p = (at_least + 1.0) / (rounds + 1.0);
  return result;
}

std::vector<double> HolmAdjust(std::span<const double> p_values) {
  const size_t n = p_values.size();
  std::vector<size_t> order(n);
  std::iota(order.begin(), order.end(), size_t{0});
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) { return p_values[a] < p_values[b]; });
  std::vector<double> adjusted(n);
  double last = 0;
  for (size_t i = 0; i < n; ++i) {
    last = std::max(last, std::min(1.0, p_values[order[i]] * static_cast<double>(n - i)));
    adjusted[order[i]] = last;
  }
  return adjusted;
}

}  // namespace lectern::eval
