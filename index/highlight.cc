#include "index/highlight.h"

#include <algorithm>
#include <string>
#include <unordered_set>

#include "index/analyzer-inl.h"

namespace lectern::index {

std::vector<Span> Highlight(const Analyzer& analyzer, std::string_view text, std::span<const QueryTerm> terms,
                            int64_t offset, bool* cut) {
  std::unordered_set<std::string_view> wanted;
  for (const QueryTerm& term : terms) wanted.insert(term.term);
  std::vector<Span> spans;
  std::string scratch;
  ForEachWord(analyzer.impl(), text, [&](std::string_view folded, int64_t begin, int64_t end) {
    if (wanted.count(analyzer.impl().TermOf(folded, scratch)) == 0) return;
    begin += offset;
    end += offset;
    if (!spans.empty()) {
      Span& last = spans.back();
      bool joined = begin <= last.end;  // bigrams overlap
      if (!joined) {
        const std::string_view between =
            text.substr(static_cast<size_t>(last.end - offset), static_cast<size_t>(begin - last.end));
        joined = between.find_first_not_of(" \t\r\n") == std::string_view::npos;
      }
      if (joined) {
        last.end = std::max(last.end, end);
        return;
      }
    }
    if (spans.size() < kMaxHighlights) spans.push_back({begin, end});
    else if (cut != nullptr) *cut = true;
  });
  return spans;
}

}  // namespace lectern::index
