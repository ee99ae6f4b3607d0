// tests/attention/pairwise_cover.h: few cases in which every two values of two factors meet.
//
//   for (const std::vector<int>& row : PairwiseCover({kinds, sizes, modes}, /*seed=*/11)) Try(kind[row[0]], size[row[1]], mode[row[2]]);
//
// Shapes:  a row has an index for each factor, below the factor's size.
// Threads: pure.
// Errors:  none.
// Cost:    tests only.
#pragma once

#include <cstdint>
#include <vector>

#include "base/rng.h"

namespace lectern::attention {

// Rows of values of `sizes.size()` factors in which every pair of values of two factors occurs.
inline std::vector<std::vector<int>> PairwiseCover(const std::vector<int>& sizes, uint64_t seed) {
  Rng rng(seed);
  const size_t n = sizes.size();
  std::vector<std::vector<std::vector<bool>>> seen(n * n);
  int64_t left = 0;
  for (size_t i = 0; i < n; ++i) {
    for (size_t j = i + 1; j < n; ++j) {
      seen[i * n + j].assign(sizes[i], std::vector<bool>(sizes[j], false));
      left += sizes[i] * sizes[j];
    }
  }
  std::vector<std::vector<int>> rows;
  while (left > 0) {
    std::vector<int> best;
    int64_t most = -1;
    for (int attempt = 0; attempt < 200; ++attempt) {
      std::vector<int> row(n);
      for (size_t i = 0; i < n; ++i) row[i] = static_cast<int>(rng.Below(sizes[i]));
      int64_t gain = 0;
      for (size_t i = 0; i < n; ++i) {
        for (size_t j = i + 1; j < n; ++j) gain += !seen[i * n + j][row[i]][row[j]];
      }
      if (gain > most) most = gain, best = row;
    }
    for (size_t i = 0; i < n; ++i) {
      for (size_t j = i + 1; j < n; ++j) {
        left -= !seen[i * n + j][best[i]][best[j]];
        seen[i * n + j][best[i]][best[j]] = true;
      }
    }
    if (most > 0) rows.push_back(best);
  }
  return rows;
}

}  // namespace lectern::attention
