// base/check.h: CHECK, for our own bugs only.
//
//   CHECK(page < num_pages);                 // always on
//   DCHECK(row < rows);                      // debug builds
//
// Shapes:  one condition.
// Threads: any.
// Errors:  a false condition prints file, line and condition, then aborts. Never for input.
// Cost:    one predictable branch.
#pragma once

#include <cstdio>
#include <cstdlib>

namespace lectern::internal {
[[noreturn]] inline void CheckFailed(const char* file, int line, const char* condition) {
  std::fprintf(stderr, "%s:%d: bug: CHECK(%s) failed\n", file, line, condition);
  std::abort();
}
}  // namespace lectern::internal

#define CHECK(condition) \
  ((condition) ? (void)0 : ::lectern::internal::CheckFailed(__FILE__, __LINE__, #condition))
#ifdef NDEBUG
#define DCHECK(condition) ((void)sizeof(!(condition)))
#else
#define DCHECK(condition) CHECK(condition)
#endif
