#include "manifold/dimension.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace lectern::manifold {

TwoNn TwoNnDimension(std::vector<double> ratios) {
  std::erase_if(ratios, [](double m) { return !(m >= 1) || !std::isfinite(m); });
  std::sort(ratios.begin(), ratios.end());
  const int64_t n = static_cast<int64_t>(ratios.size());
  constexpr double kNone = std::numeric_limits<double>::quiet_NaN();
  if (n < 2) return {kNone, kNone};
  double sum = 0, xy = 0, xx = 0;
  const int64_t kept = std::min(n - 1, n - n / 10);  // the last has F = 1
  for (int64_t i = 0; i < n; ++i) {
    const double x = std::log(ratios[i]);
    sum += x;
    if (i >= kept) continue;
    xy += x * -std::log(1 - static_cast<double>(i + 1) / static_cast<double>(n));
    xx += x * x;
  }
  return {xx > 0 ? xy / xx : kNone, sum > 0 ? static_cast<double>(n - 1) / sum : kNone};
}

double MleDimension(std::span<const double> distances, int64_t k) {
  const int64_t n = k > 0 ? static_cast<int64_t>(distances.size()) / k : 0;
  double inverses = 0;
  int64_t used = 0;
  for (int64_t i = 0; i < n && k >= 2; ++i) {
    const double* row = &distances[i * k];
    if (!(row[0] > 0) || !(row[k - 1] > row[0])) continue;
    double sum = 0;
    for (int64_t j = 0; j + 1 < k; ++j) sum += std::log(row[k - 1] / row[j]);
    inverses += sum / static_cast<double>(k - 1);
    ++used;
  }
  return used == 0 ? std::numeric_limits<double>::quiet_NaN() : static_cast<double>(used) / inverses;
}

}  // namespace lectern::manifold
