// index/wand.h: the top k chunks by BM25 without scoring everything, over all segments of a corpus.
//
//   Bm25Searcher searcher({{.segment = segment, .live = std::nullopt}});
//   ASSIGN_OR_RETURN(Bm25Result found, searcher.Search(query.terms, {.k = 10}));
//
// Shapes:  hits by score descending, then by `order`. Every strategy gives the same hits with the same scores: sums are
//          integers (bm25.h), bounds are never below them, and a chunk whose bound equals the k-th sum is still scored.
// Threads: immutable to the eye; any thread.
// Errors:  kInvalidArgument (k, k1, b); a stop by `cancel` is no error: what was found comes back with `stopped` set.
// Cost:    kMaxScore: windows of kWindow chunks; terms whose bounds together cannot reach the k-th score are only looked
//          up for chunks that the others brought close. kBlockMaxWand: one chunk at a time. kAuto is kMaxScore: the
//          faster of the two on every set measured (bench/bench_bm25).
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/cancel.h"
#include "base/status.h"
#include "index/bm25.h"
#include "index/bm25_segment.h"
#include "index/chunk_set.h"
#include "index/query.h"
#include "index/top_k.h"

namespace lectern::index {

enum class Bm25Strategy { kAuto, kExhaustive, kMaxScore, kBlockMaxWand };

struct Bm25Part {
  std::shared_ptr<const Bm25Segment> segment;
  std::optional<ChunkSet> live;   // nullopt: all
};

struct Bm25SearchOptions {
  int64_t k = 10;
  Bm25Params params;
  Bm25Strategy strategy = Bm25Strategy::kAuto;
  // For each segment the chunks that may be found, in place of its live ones; empty: the live ones.
  std::span<const ChunkSet> allowed;
  // Asked last, and only of chunks that would enter the top k. Null: all may.
  std::function<bool(ChunkPlace)> accepts;
  const ChunkOrder* order = nullptr;       // null: segments, then chunks
  const CancelToken* cancel = nullptr;
};

struct Bm25Hit {
  ChunkPlace place;
  double score = 0;
};

struct Bm25Result {
  std::vector<Bm25Hit> hits;
  int64_t postings_scored = 0;
  bool stopped = false;            // by `cancel`, before all windows were seen
};

struct Bm25TermPart {              // of an explanation
  std::string term;
  int64_t count = 0;               // in the query
  int64_t document_frequency = 0;  // over all live chunks
  double idf = 0;
  uint32_t frequency = 0, length = 0;
  double contribution = 0;
};

class Bm25Searcher {
 public:
  explicit Bm25Searcher(std::vector<Bm25Part> parts);
  ~Bm25Searcher();

  absl::StatusOr<Bm25Result> Search(std::span<const QueryTerm> terms, const Bm25SearchOptions& options) const;
  // Each query term's part in the chunk's score; they add up to the score of Search.
  std::vector<Bm25TermPart> Explain(std::span<const QueryTerm> terms, const Bm25Params& params, ChunkPlace place) const;

  // The scores, as Search gives them, of chunks that another retriever found; 0 where a chunk has no term of the query.
  std::vector<double> ScoresOf(std::span<const QueryTerm> terms, const Bm25Params& params,
                               std::span<const ChunkPlace> places) const;

  const Bm25Statistics& statistics() const;
  int64_t DocumentFrequency(std::string_view term) const;   // in live chunks
  // The chunks of a segment that hold the term, dead ones included.
  ChunkSet ChunksWith(uint32_t segment, std::string_view term) const;
  const std::vector<Bm25Part>& parts() const;

  struct Impl;

 private:
  std::unique_ptr<Impl> impl_;
};

}  // namespace lectern::index
