// service/cli/search_flags.h: the flags that search and ask share, and the request they make.
//
//   AddSearchFlags(registry, command, flags);
//   ASSIGN_OR_RETURN(index::SearchRequest request, MakeRequest(flags, config, query));
//
// Shapes:  see index/corpus.h.
// Threads: one command's.
// Errors:  kInvalidArgument names the flag, the value and the limit.
// Cost:    none worth a word.
#pragma once

#include <optional>
#include <string>

#include "index/corpus.h"
#include "service/cli/app.h"

namespace lectern::cli {

struct SearchFlags {
  std::string retrievers, fusion, filter, rerank, weights;
  int64_t k = -1, offset = 0;            // k below 0: setting search.k, unless k_flag was given
  std::optional<int64_t> k_flag, candidates, rerank_depth, rrf_k, ef;
  std::optional<double> k1, b;           // unset: the shipped defaults
  bool explain = false, chunks = false, denoise = false;
};

void AddSearchFlags(Registry& registry, CommandLine command, SearchFlags& flags);
// A flag that the request would not use (--ef without dense, --fusion of one retriever, ...) is refused, never ignored.
absl::StatusOr<index::SearchRequest> MakeRequest(const SearchFlags& flags, const service::Config& config, const std::string& query);
bool NeedsEncoder(const index::SearchRequest& request, const index::Corpus& corpus);
// A search within search.timeout_ms; the time counts from when the models are loaded.
absl::StatusOr<index::SearchResponse> SearchAndRerank(Context& context, const SearchFlags& flags, const index::Corpus& corpus,
                                                      const index::SearchRequest& request, index::Encoder* encoder);
// An error once the caller stopped or --timeout passed; search.timeout_ms alone only degrades the search it cut.
absl::Status CheckTimeLeft(const Context& context);
// FILE.meta.json beside a run: engine, generation, encoder, request.
absl::Status WriteRunMeta(const Context& context, const index::Corpus& corpus, const std::string& run, const SearchFlags& flags,
                          const std::string& tag, const std::string& topics);
struct Latency { double median = 0, p95 = 0, p99 = 0, longest = 0; };   // milliseconds
Latency LatencyOf(std::vector<double> took_ms);
std::string LatencyLine(const std::vector<double>& took_ms);
// Changes in the store that the corpus does not have yet; nullopt where the store cannot be read just now.
std::optional<int64_t> ChangesBehind(const service::Engine& engine, const std::string& collection, const index::Corpus& corpus);
Json SearchResponseJson(const Context& context, const index::Corpus& corpus, const index::SearchResponse& response,
                        std::optional<int64_t> changes_behind);
// A reason of `degraded` as a sentence; `why` says why no encoder is at hand, where that is the reason.
std::string DegradedSentence(const std::string& reason, const std::string& why);

}  // namespace lectern::cli
