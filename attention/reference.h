// attention/reference.h: the plain fp64 truth.
//
//   Reference(problem, variant, queries, kv);
//
// Shapes:  as attention/attention.h; any block layout, any head counts and widths.
// Threads: any; writes out and lse only.
// Errors:  none.
// Cost:    queries * keys * heads * width multiplications in double, one thread: tests only.
#pragma once

#include "attention/attention.h"

namespace lectern::attention {

void Reference(const Problem& problem, const Variant& variant, const Queries& queries, const PagedKv& kv);

}  // namespace lectern::attention
