// service/cli/search_flags.h: the flags that search and ask share, and the request they make.
//
//   AddSearchFlags(command, flags);
//   ASSIGN_OR_RETURN(index::SearchRequest request, MakeRequest(flags, config, query));
//
// Shapes:  see index/corpus.h.
// Threads: one command's.
// Errors:  kInvalidArgument names the flag, the value and the limit.
// Cost:    none worth a word.
#pragma once

#include <CLI/CLI.hpp>
#include <optional>
#include <string>

#include "index/corpus.h"
#include "service/cli/app.h"

namespace lectern::cli {

struct SearchFlags {
  std::string retrievers, fusion, filter, rerank, weights;
  int64_t k = -1, offset = 0, candidates = 0, rerank_depth = 50;
  int rrf_k = 60, ef = 128;
  double k1 = -1, b = -1;
  bool explain = false, chunks = false;
};

void AddSearchFlags(CLI::App* command, SearchFlags& flags);
absl::StatusOr<index::SearchRequest> MakeRequest(const SearchFlags& flags, const service::Config& config, const std::string& query);
bool NeedsEncoder(const index::SearchRequest& request, const index::Corpus& corpus);
absl::StatusOr<index::SearchResponse> SearchAndRerank(Context& context, const SearchFlags& flags, const index::Corpus& corpus,
                                                      const index::SearchRequest& request, index::Encoder* encoder);
// Changes in the store that the corpus does not have yet; nullopt where the store cannot be read just now.
std::optional<int64_t> ChangesBehind(const service::Engine& engine, const std::string& collection, const index::Corpus& corpus);
Json SearchResponseJson(const index::SearchResponse& response, std::optional<int64_t> changes_behind);

}  // namespace lectern::cli
