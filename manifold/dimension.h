// manifold/dimension.h: how many dimensions a cloud has, from the distances to its neighbours.
//
//   TwoNn two = TwoNnDimension(ratios);            // ratios of second to first neighbour distance, above 1
//   double d = MleDimension(distances, /*k=*/20);  // [n, k] ascending, pooled by averaging inverses
//
// Shapes:  ratios [n]; distances [n, k] row-major, ascending in a row, the point itself left out.
// Threads: pure functions.
// Errors:  a row with a zero distance (a duplicate) is left out; no usable row: NaN.
// Cost:    a sort of n, or one pass. Noise inflates both: a TwoNN well above the MLE means noise rules at that scale.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace lectern::manifold {

struct TwoNn {
  double least_squares = 0;  // fit of -ln(1 - i/n) = d ln m_i through the origin, the top tenth dropped
  double closed_form = 0;    // (n - 1) / sum ln m_i
};

TwoNn TwoNnDimension(std::vector<double> ratios);
double MleDimension(std::span<const double> distances, int64_t k);

}  // namespace lectern::manifold
