// Any bytes as bm25.bin: a status, or a segment over which every strategy finds the same.
#include <cstddef>
#include <cstdint>
#include <string>

#include "base/check.h"
#include "index/wand.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace lectern::index;
  const auto segment = Bm25Segment::FromBytes(std::string(reinterpret_cast<const char*>(data), size));
  if (!segment.ok()) {
    CHECK(!segment.status().message().empty());
    return 0;
  }
  const Bm25Searcher searcher({{*segment, std::nullopt}});
  std::vector<QueryTerm> terms;
  for (uint32_t term = 0; term < (*segment)->num_terms() && terms.size() < 20; ++term) {
    terms.push_back({std::string((*segment)->TermText(term)), 1});
  }
  for (const auto strategy : {Bm25Strategy::kExhaustive, Bm25Strategy::kMaxScore, Bm25Strategy::kBlockMaxWand}) {
    const auto found = searcher.Search(terms, {.k = 5, .strategy = strategy});
    CHECK(found.ok());
    for (const Bm25Hit& hit : found->hits) CHECK(hit.place.chunk < (*segment)->num_chunks());
  }
  return 0;
}
