// index/corpus.h: one published generation of a collection, opened for searching.
//
//   ASSIGN_OR_RETURN(auto corpus, Corpus::Open(data_dir, "books"));
//   SearchRequest request{.query = "white whale", .k = 10};
//   ASSIGN_OR_RETURN(SearchResponse found, corpus->Search(request, encoder.get()));
//
// Shapes:  hits in rank order: score descending, then doc_id ascending, then chunk order.
// Threads: immutable; Search from any thread.
// Errors:  kNotFound (collection), kDataLoss (a damaged or missing file: which one, and what to do), kInvalidArgument (k, filter, query
//          syntax, with the limit), kFailedPrecondition (encoder's fingerprint differs from the index's),
//          kDeadlineExceeded (with partial_is_error).
// Cost:    one pass a retriever; a request allocates its result and its heaps. A phrase is looked for in the stored text
//          of chunks that have all its words and would be found, at most kMaxPhraseChecks of them: past that the rest is
//          taken to lack it, and `degraded` says "phrase-limit".
// Degraded reasons: no-encoder, no-vectors, not-denoised (not every chunk has a fitted vector), timeout:RETRIEVER, query-cut (the
//          encoder read only its beginning), phrase-limit, candidate-limit (the kMaxCandidates best chunks belong to fewer
//          documents than were asked for).
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/cancel.h"
#include "base/json_fwd.h"
#include "base/status.h"
#include "index/data_directory.h"
#include "index/document.h"
#include "index/encoder.h"
#include "index/filter.h"
#include "index/fusion.h"

namespace lectern::index {

inline constexpr int64_t kMaxTopK = 10000;          // of offset + k, and of a retriever's own k
inline constexpr int64_t kMaxPhraseChecks = 20000;  // about a second of reading stored text

struct RetrieverSpec {
  enum class Type { kBm25, kDense } type = Type::kBm25;
  int64_t k = 0;                       // candidates; 0: max(200, offset + k of the request), more where documents have many
  std::optional<double> k1, b;         // bm25; unset: the shipped defaults
  int ef = 128;                        // dense, HNSW
  bool denoise = false;                // dense: fitted vectors if every chunk has one, else raw ones: beside a fitted vector a raw one is not found
  double weight = -1;                  // in the fusion; below 0: the shipped default, which is 1 but in kLinear
};

// The fusion that is used where a request names none: the best mean gain over four sets (scripts/choose_fusion.py, bench/REPORT.md).
inline constexpr FusionMethod kDefaultFusion = FusionMethod::kLinear;
inline constexpr double kDefaultBm25Weight = 0.7;
inline constexpr double kDefaultDenseWeight = 1.3;
double WeightOf(const RetrieverSpec& spec, FusionMethod method);   // its own, or the default

struct SearchRequest {
  std::string query;                       // a bag of words with "phrases" and -exclusions (query.h)
  bool operators = true;                   // false: quotation marks and minus signs are punctuation (a question of prose)
  int64_t k = 10, offset = 0;
  std::vector<RetrieverSpec> retrievers;   // empty: bm25, and dense where the collection has vectors and an encoder is at hand
  std::optional<FusionMethod> fusion;      // unset: the shipped default
  int rrf_k = 60;
  std::optional<Filter> filter;
  bool group_by_document = true;           // best chunk of each document
  bool highlight = true, explain = false, with_text = true;
  bool partial_is_error = false;           // past the deadline: kDeadlineExceeded instead of a degraded response
  const CancelToken* cancel = nullptr;
};

struct RetrieverScore {
  std::string retriever;   // "bm25", "dense"
  int64_t rank = 0;        // 1-based; 0: scored, but not among the retriever's own candidates
  double score = 0;
};

struct SearchHit {
  int64_t rank = 0;
  std::string doc_id, chunk_id, title, uri, text;   // text: of the chunk
  std::string doc_sha256;
  Span span;                                        // of the chunk in the document's text, bytes
  double score = 0;
  std::vector<Span> highlights;                     // in the document's text, bytes
  bool highlights_cut = false;                      // more than kMaxHighlights; the first ones are here
  std::vector<RetrieverScore> sources;
  JsonBox explanation;                              // null unless asked for
};

struct SearchResponse {
  std::vector<SearchHit> hits;
  int64_t total = 0;  bool total_is_exact = true;   // matching documents seen
  uint64_t generation = 0;
  std::vector<std::string> degraded;                // "no-encoder", "timeout:dense", ...; empty: none
  std::map<std::string, double> took_ms;            // per stage, and "total"
};

class Corpus {
 public:
  static absl::StatusOr<std::shared_ptr<const Corpus>> Open(const std::string& data_dir, std::string_view collection);
  virtual ~Corpus() = default;
  virtual absl::StatusOr<SearchResponse> Search(const SearchRequest& request, Encoder* encoder) const = 0;
  virtual uint64_t generation() const = 0;
  virtual uint64_t indexed_seq() const = 0;
  virtual int64_t num_documents() const = 0;       // alive
  virtual int64_t num_chunks() const = 0;
  virtual bool has_vectors() const = 0;
  virtual const Json& settings() const = 0;
  virtual absl::StatusOr<std::string> DocumentText(std::string_view doc_id) const = 0;   // of this generation
  virtual absl::StatusOr<std::string> DocumentTitle(std::string_view doc_id) const = 0;
  // The encoder's own vectors of its chunks, [chunks, dim]; empty where the collection has none.
  virtual absl::StatusOr<std::vector<float>> DocumentVectors(std::string_view doc_id) const = 0;
  // Inverse document frequency of the analysed term over all live chunks; 0 for unknown terms.
  virtual double TermIdf(std::string_view analysed_term) const = 0;
};

}  // namespace lectern::index
