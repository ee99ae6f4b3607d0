#include "service/cli/search_flags.h"

#include <algorithm>
#include <chrono>
#include <cmath>

namespace lectern::cli {
namespace {

std::vector<std::string> SplitComma(const std::string& text) {
  std::vector<std::string> parts;
  size_t at = 0;
  while (at <= text.size()) {
    const size_t end = std::min(text.find(',', at), text.size());
    if (end > at) parts.push_back(text.substr(at, end - at));
    at = end + 1;
  }
  return parts;
}

}  // namespace

void AddSearchFlags(CLI::App* command, SearchFlags& flags) {
  command->add_option("--k", flags.k, "hits, 1..10000 (setting search.k)");
  command->add_option("--offset", flags.offset, "skip this many hits");
  command->add_option("--retrievers", flags.retrievers, "bm25, dense or both, separated by commas");
  command->add_option("--fusion", flags.fusion, "rrf, linear or relative");
  command->add_option("--weights", flags.weights, "weights in the fusion: bm25=1,dense=1");
  command->add_option("--rrf-k", flags.rrf_k, "the constant of reciprocal rank fusion");
  command->add_option("--candidates", flags.candidates, "candidates of each retriever");
  command->add_option("--k1", flags.k1, "BM25 k1");
  command->add_option("--b", flags.b, "BM25 b");
  command->add_option("--ef", flags.ef, "HNSW search width");
  command->add_option("--filter", flags.filter, "condition on fields: lang = 'en' and year >= 2015");
  command->add_option("--rerank", flags.rerank, "cross-encoder that orders the best hits again: id or path");
  command->add_option("--rerank-depth", flags.rerank_depth, "hits that the cross-encoder scores");
  command->add_flag("--chunks", flags.chunks, "list every chunk instead of the best of each document");
  command->add_flag("--explain", flags.explain, "how each score came about");
}

absl::StatusOr<index::SearchRequest> MakeRequest(const SearchFlags& flags, const service::Config& config, const std::string& query) {
  index::SearchRequest request;
  request.query = query;
  request.k = flags.k >= 0 ? flags.k : config.Int("search.k");
  if (request.k < 1 || request.k > index::kMaxTopK) {
    return InvalidArgument("k must be in 1..", index::kMaxTopK, ", got ", request.k);
  }
  if (flags.offset < 0 || flags.offset > index::kMaxTopK) {
    return InvalidArgument("--offset must be in 0..", index::kMaxTopK, ", got ", flags.offset);
  }
  request.offset = flags.offset;
  request.rrf_k = flags.rrf_k;
  request.explain = flags.explain;
  request.group_by_document = !flags.chunks;
  if (!flags.rerank.empty()) {
    if (flags.rerank_depth < 1 || flags.rerank_depth > 1000) return InvalidArgument("--rerank-depth must be in 1..1000, got ", flags.rerank_depth);
    if (flags.offset > 0) return NotSupported("--offset together with --rerank");
  }
  std::map<std::string, double> weights;
  for (const std::string& part : SplitComma(flags.weights)) {
    const size_t equals = part.find('=');
    char* end = nullptr;
    const double weight = equals == std::string::npos ? -1 : std::strtod(part.c_str() + equals + 1, &end);
    if (end == nullptr || *end != '\0' || !std::isfinite(weight) || weight < 0) {
      return InvalidArgument("--weights takes NAME=NUMBER pairs from 0 up, got '", part, "'");
    }
    weights[part.substr(0, equals)] = weight;
  }
  for (const auto& [name, weight] : weights) {
    if (name != "bm25" && name != "dense") return InvalidArgument("--weights knows bm25 and dense, got '", name, "'");
  }
  const bool both = flags.retrievers.empty();
  const bool shaped = flags.k1 >= 0 || flags.b >= 0 || flags.ef != 128 || flags.candidates != 0 || !weights.empty();
  std::vector<std::string> names = SplitComma(flags.retrievers);
  if (both && shaped) names = {"bm25", "dense"};
  for (const std::string& name : names) {
    index::RetrieverSpec spec;
    if (name == "nci") return NotSupported("the retriever nci is not part of this build");
    if (name != "bm25" && name != "dense") return InvalidArgument("--retrievers knows bm25 and dense, got '", name, "'");
    spec.type = name == "bm25" ? index::RetrieverSpec::Type::kBm25 : index::RetrieverSpec::Type::kDense;
    if (flags.candidates < 0 || flags.candidates > index::kMaxTopK) {
      return InvalidArgument("--candidates must be in 1..", index::kMaxTopK, ", got ", flags.candidates);
    }
    spec.k = flags.candidates;
    if (flags.k1 >= 0) spec.k1 = flags.k1;
    if (flags.b >= 0) spec.b = flags.b;
    spec.ef = flags.ef;
    if (const auto it = weights.find(name); it != weights.end()) spec.weight = it->second;
    request.retrievers.push_back(spec);
  }
  if (flags.fusion == "rrf") request.fusion = index::FusionMethod::kRrf;
  else if (flags.fusion == "linear") request.fusion = index::FusionMethod::kLinear;
  else if (flags.fusion == "relative") request.fusion = index::FusionMethod::kRelativeScore;
  else if (!flags.fusion.empty()) return InvalidArgument("--fusion must be rrf, linear or relative, got '", flags.fusion, "'");
  if (!flags.filter.empty()) {
    ASSIGN_OR_RETURN(request.filter, index::Filter::Parse(flags.filter));
  }
  return request;
}

bool NeedsEncoder(const index::SearchRequest& request, const index::Corpus& corpus) {
  if (!corpus.has_vectors()) return false;
  if (request.retrievers.empty()) return true;
  return std::any_of(request.retrievers.begin(), request.retrievers.end(),
                     [](const auto& spec) { return spec.type == index::RetrieverSpec::Type::kDense; });
}

absl::StatusOr<index::SearchResponse> SearchAndRerank(Context& context, const SearchFlags& flags, const index::Corpus& corpus,
                                                      const index::SearchRequest& request, index::Encoder* encoder) {
  if (flags.rerank.empty()) return corpus.Search(request, encoder);
  ASSIGN_OR_RETURN(index::CrossEncoder * reranker, context.engine->Reranker(flags.rerank));
  index::SearchRequest wider = request;
  wider.k = std::max(request.k, flags.rerank_depth);
  ASSIGN_OR_RETURN(index::SearchResponse response, corpus.Search(wider, encoder));
  const auto start = std::chrono::steady_clock::now();
  const size_t depth = std::min<size_t>(response.hits.size(), static_cast<size_t>(flags.rerank_depth));
  std::vector<std::string_view> texts;
  for (size_t i = 0; i < depth; ++i) texts.push_back(response.hits[i].text);
  index::EncodeStats stats;
  ASSIGN_OR_RETURN(const std::vector<float> scores, reranker->Score(request.query, texts, &stats, request.cancel));
  for (size_t i = 0; i < depth; ++i) {
    response.hits[i].sources.push_back({"rerank", 0, scores[i]});
    response.hits[i].score = scores[i];
  }
  std::stable_sort(response.hits.begin(), response.hits.begin() + static_cast<std::ptrdiff_t>(depth), [](const auto& x, const auto& y) {
    return x.score != y.score ? x.score > y.score : x.doc_id < y.doc_id;
  });
  if (response.hits.size() > static_cast<size_t>(request.k)) response.hits.resize(static_cast<size_t>(request.k));
  for (size_t i = 0; i < response.hits.size(); ++i) {
    response.hits[i].rank = static_cast<int64_t>(i) + 1;
    for (auto& source : response.hits[i].sources) {
      if (source.retriever == "rerank") source.rank = response.hits[i].rank;
    }
  }
  if (stats.cut_texts > 0) response.degraded.push_back(internal::Concat("rerank-cut:", stats.cut_texts));
  response.took_ms["rerank"] = std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
  return response;
}

std::optional<int64_t> ChangesBehind(const service::Engine& engine, const std::string& collection, const index::Corpus& corpus) {
  // The store may be compacting under us; the hits do not depend on it, so a miss is tried again and then left unsaid.
  for (int attempt = 0; attempt < 3; ++attempt) {
    auto name = engine.ResolveAlias(collection);
    if (!name.ok()) return std::nullopt;
    auto store = engine.OpenFollower();
    if (!store.ok()) continue;
    int64_t behind = 0;
    const absl::Status status = (*store)->ScanChanges(*name, corpus.indexed_seq(), [&](const index::Change&) {
      ++behind;
      return absl::OkStatus();
    });
    if (status.ok()) return behind;
  }
  return std::nullopt;
}

Json SearchResponseJson(const index::SearchResponse& response, std::optional<int64_t> changes_behind) {
  Json hits = Json::array();
  for (const index::SearchHit& hit : response.hits) {
    Json highlights = Json::array(), sources = Json::object();
    for (const index::Span& span : hit.highlights) highlights.push_back({{"start", span.begin}, {"end", span.end}});
    for (const auto& source : hit.sources) sources[source.retriever] = {{"rank", source.rank}, {"score", source.score}};
    Json out = {{"rank", hit.rank}, {"doc_id", hit.doc_id}, {"chunk_id", hit.chunk_id}, {"score", hit.score},
                {"title", hit.title}, {"uri", hit.uri}, {"text", hit.text},
                {"span", {{"start", hit.span.begin}, {"end", hit.span.end}}}, {"offset_unit", "utf8"},
                {"highlights", highlights}, {"sources", sources}};
    if (!hit.explanation.is_null()) out["explanation"] = hit.explanation;
    hits.push_back(std::move(out));
  }
  Json took = Json::object();
  for (const auto& [stage, ms] : response.took_ms) took[stage] = ms;
  return {{"hits", hits},
          {"total", {{"value", response.total}, {"relation", response.total_is_exact ? "eq" : "gte"}}},
          {"generation", response.generation},
          {"changes_not_indexed", changes_behind ? Json(*changes_behind) : Json(nullptr)},
          {"degraded", response.degraded.empty() ? Json(nullptr) : Json{{"reasons", response.degraded}}},
          {"took_ms", took}};
}

}  // namespace lectern::cli
