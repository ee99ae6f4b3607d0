// tests/manifold/halves.h: vectors as the CUDA search sees them.
//
//   const std::vector<float> v = Rounded(cloud.noisy);
//
// Shapes:  any.
// Threads: any.
// Errors:  none.
// Cost:    a few instructions an element.
#pragma once

#include <vector>

#include "base/dtype.h"

namespace lectern::manifold {

inline std::vector<float> Rounded(std::vector<float> v) {
  for (float& x : v) x = ToFloat(ToFp16(x));
  return v;
}

}  // namespace lectern::manifold
