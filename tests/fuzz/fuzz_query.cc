// Any bytes as a query, a text and a title: parsing ends in a status, the two word paths agree, highlights stay inside.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/check.h"
#include "index/highlight.h"
#include "index/query.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace lectern::index;
  static const auto analyzers = [] {
    return std::vector<std::shared_ptr<const Analyzer>>{*Analyzer::Named("en"), *Analyzer::Named("icu"),
                                                        *Analyzer::Named("fr"), *Analyzer::Named("tr")};
  }();
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  for (const auto& analyzer : analyzers) {
    std::vector<std::string> fast, through_icu;
    analyzer->Analyze(text, [&](std::string_view term, int64_t begin, int64_t end) {
      CHECK(begin >= 0 && begin < end && end <= static_cast<int64_t>(size));
      CHECK(!term.empty());
      fast.emplace_back(term);
    });
    analyzer->AnalyzeThroughIcuForTest(text, [&](std::string_view term, int64_t, int64_t) { through_icu.emplace_back(term); });
    CHECK(fast == through_icu);
    const auto query = ParseQuery(*analyzer, text);
    if (!query.ok()) {
      CHECK(!query.status().message().empty());
      continue;
    }
    CHECK(static_cast<int64_t>(query->terms.size()) <= kMaxQueryTerms);
    for (const auto& span : Highlight(*analyzer, text, query->terms, 0)) {
      CHECK(span.begin < span.end && span.end <= static_cast<int64_t>(size));
    }
    for (const QueryPhrase& phrase : query->phrases) (void)ContainsPhrase(*analyzer, text, phrase.terms);
  }
  return 0;
}
