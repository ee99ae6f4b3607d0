// index/highlight.h: where a text has the words of a query.
//
//   std::vector<Span> spans = Highlight(*analyzer, chunk_text, query.terms, chunk_span.begin);
//
// Shapes:  spans in order, disjoint, on word boundaries (so on UTF-8 boundaries), `offset` added to each. Words that
//          stand in the query with nothing but blanks between them become one span.
// Threads: pure.
// Errors:  none.
// Cost:    one analysis of the text; at most kMaxHighlights spans, the first ones.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "index/analyzer.h"
#include "index/document.h"
#include "index/query.h"

namespace lectern::index {

inline constexpr size_t kMaxHighlights = 100;

// *cut: whether spans were left out.
std::vector<Span> Highlight(const Analyzer& analyzer, std::string_view text, std::span<const QueryTerm> terms,
                            int64_t offset, bool* cut = nullptr);

}  // namespace lectern::index
