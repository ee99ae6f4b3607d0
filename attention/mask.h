// attention/mask.h: which keys a query may see.
//
//   const KeyRange range = VisibleKeys({.kind = MaskKind::kSlidingWindow, .window = 512}, /*position=*/700, 701);
//
// Shapes:  a query at position p of a sequence of num_keys sees the keys [begin, end).
// Threads: pure functions.
// Errors:  none; window >= 1 is checked by Plan().
// Cost:    a few comparisons.
#pragma once

#include <algorithm>
#include <cstdint>

namespace lectern::attention {

enum class MaskKind { kFull, kCausal, kSlidingWindow };  // a sliding window is causal too

struct Mask {
  MaskKind kind = MaskKind::kCausal;
  int64_t window = 0;  // kSlidingWindow: the query itself and the window - 1 keys before it
};

struct KeyRange {
  int64_t begin = 0, end = 0;
};

inline KeyRange VisibleKeys(const Mask& mask, int64_t position, int64_t num_keys) {
  KeyRange range{0, num_keys};
  if (mask.kind != MaskKind::kFull) range.end = std::clamp<int64_t>(position + 1, 0, num_keys);
  if (mask.kind == MaskKind::kSlidingWindow) range.begin = std::max<int64_t>(0, position - mask.window + 1);
  return range;
}

}  // namespace lectern::attention
