#include "service/cli/search_flags.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <map>

#include "base/file.h"
#include "base/json.h"
#include "base/problem.h"
#include "index/bm25.h"
#include "index/chunker.h"

namespace lectern::cli {
namespace {

constexpr int64_t kDefaultRerankDepth = 50, kMaxRerankDepth = 1000;

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

void AddSearchFlags(Registry& registry, CommandLine command, SearchFlags& flags) {
  command.Option("--k", flags.k_flag, "hits, 1..10000");
  command.Option("--offset", flags.offset, "skip this many hits");
  command.Option("--retrievers", flags.retrievers, "bm25, dense or both, separated by commas");
  command.Option("--fusion", flags.fusion, "rrf, linear or relative");
  command.Option("--weights", flags.weights, "weights in the fusion: bm25=1,dense=1");
  command.Option("--rrf-k", flags.rrf_k, "the constant of --fusion rrf");
  command.Option("--candidates", flags.candidates, "candidates of each retriever; default max(200, offset + k)");
  command.Option("--k1", flags.k1, "BM25 k1");
  command.Option("--b", flags.b, "BM25 b");
  command.Option("--ef", flags.ef, "HNSW search width");
  command.Flag("--denoise", flags.denoise, "dense: search the fitted vectors of `index build --denoise`");
  command.Option("--filter", flags.filter, "condition on fields: lang = 'en' and year >= 2015; or its JSON form");
  command.Option("--rerank", flags.rerank, "cross-encoder that orders the best hits again: id or path");
  command.Option("--rerank-depth", flags.rerank_depth, "hits that the cross-encoder scores, 1..1000; default 50");
  command.Flag("--chunks", flags.chunks, "list every chunk instead of the best of each document");
  registry.Means(command, "--k", "search.k");
  registry.Means(command, "--retrievers", "search.default_retrievers");
  registry.Means(command, "--fusion", "search.fusion");
  registry.Means(command, "--rrf-k", "search.rrf_k");
}

namespace {

absl::StatusOr<std::map<std::string, double>> ParseWeights(const std::string& text) {
  std::map<std::string, double> weights;
  for (const std::string& part : SplitComma(text)) {
    const size_t equals = part.find('=');
    char* end = nullptr;
    const double weight = equals == std::string::npos ? -1 : std::strtod(part.c_str() + equals + 1, &end);
    if (end == nullptr || end == part.c_str() + equals + 1 || *end != '\0' || !std::isfinite(weight) || weight < 0) {
      return InvalidArgument("--weights takes NAME=NUMBER pairs from 0 up, got '", part, "'");
    }
    const std::string name = part.substr(0, equals);
    if (name != "bm25" && name != "dense") return InvalidArgument("--weights knows bm25 and dense, got '", name, "'");
    weights[name] = weight;
  }
  return weights;
}

absl::StatusOr<index::Filter> ParseFilter(const std::string& text) {
  const size_t first = text.find_first_not_of(" \t\n");
  if (first == std::string::npos || text[first] != '{') return index::Filter::Parse(text);
  auto json = ParseJson(text);
  if (!json.ok()) return Annotate(json.status(), "--filter");
  return index::Filter::FromJson(*json);
}

absl::StatusOr<index::FusionMethod> ParseFusion(const std::string& name, const char* where) {
  if (name == "rrf") return index::FusionMethod::kRrf;
  if (name == "linear") return index::FusionMethod::kLinear;
  if (name == "relative") return index::FusionMethod::kRelativeScore;
  return InvalidArgument(where, " must be rrf, linear or relative, got '", name, "'");
}

}  // namespace

absl::StatusOr<index::SearchRequest> MakeRequest(const SearchFlags& flags, const service::Config& config, const std::string& query) {
  index::SearchRequest request;
  request.query = query;
  request.k = flags.k_flag.value_or(flags.k >= 0 ? flags.k : config.Int("search.k"));
  RETURN_IF_ERROR(CheckRange("k", request.k, 1, index::kMaxTopK, "search.k"));
  RETURN_IF_ERROR(CheckRange("--offset", flags.offset, 0, index::kMaxTopK));
  request.offset = flags.offset;
  request.explain = flags.explain;
  request.group_by_document = !flags.chunks;
  if (flags.rerank_depth.has_value()) {
    if (flags.rerank.empty()) return InvalidArgument("--rerank-depth without --rerank MODEL has nothing to score");
    RETURN_IF_ERROR(CheckRange("--rerank-depth", *flags.rerank_depth, 1, kMaxRerankDepth));
  }
  if (flags.candidates.has_value()) RETURN_IF_ERROR(CheckRange("--candidates", *flags.candidates, 1, index::kMaxTopK));
  if (flags.ef.has_value()) RETURN_IF_ERROR(CheckRange("--ef", *flags.ef, 1, index::kMaxTopK));
  ASSIGN_OR_RETURN(const auto weights, ParseWeights(flags.weights));

  const std::string wanted = flags.retrievers.empty() ? config.String("search.default_retrievers") : flags.retrievers;
  const std::vector<std::string> names = SplitComma(wanted == "auto" ? "bm25,dense" : wanted);
  if (names.empty()) return InvalidArgument("--retrievers names none; it knows bm25 and dense");
  bool bm25 = false, dense = false;
  for (const std::string& name : names) {
    if (name == "nci") return NotSupported("the retriever nci is not part of this build");
    if (name != "bm25" && name != "dense") return InvalidArgument("--retrievers knows bm25 and dense, got '", name, "'");
    (name == "bm25" ? bm25 : dense) = true;
    index::RetrieverSpec spec;
    spec.type = name == "bm25" ? index::RetrieverSpec::Type::kBm25 : index::RetrieverSpec::Type::kDense;
    spec.k = flags.candidates.value_or(0);
    spec.k1 = flags.k1;
    spec.b = flags.b;
    if (flags.ef.has_value()) spec.ef = static_cast<int>(*flags.ef);
    spec.denoise = flags.denoise;
    if (const auto it = weights.find(name); it != weights.end()) spec.weight = it->second;
    request.retrievers.push_back(spec);
  }
  if (!bm25 && (flags.k1.has_value() || flags.b.has_value())) return InvalidArgument("--k1 and --b are BM25's; --retrievers is ", wanted);
  if (!dense && flags.denoise) return InvalidArgument("--denoise is of the dense retriever; --retrievers is ", wanted);
  if (!dense && flags.ef.has_value()) return InvalidArgument("--ef is of the dense retriever; --retrievers is ", wanted);
  if (!(bm25 && dense) && !(flags.fusion.empty() && flags.weights.empty() && !flags.rrf_k.has_value())) {
    return InvalidArgument("--fusion, --weights and --rrf-k need two retrievers; --retrievers is ", wanted);
  }
  if (!flags.fusion.empty()) {
    ASSIGN_OR_RETURN(request.fusion, ParseFusion(flags.fusion, "--fusion"));
  } else {
    ASSIGN_OR_RETURN(request.fusion, ParseFusion(config.String("search.fusion"), "search.fusion"));
  }
  if (flags.rrf_k.has_value() && request.fusion != index::FusionMethod::kRrf) return InvalidArgument("--rrf-k is of --fusion rrf, the fusion is ", index::FusionMethodName(*request.fusion));
  const int64_t rrf_k = flags.rrf_k.value_or(config.Int("search.rrf_k"));
  RETURN_IF_ERROR(CheckRange("rrf_k", rrf_k, 1, index::kMaxRrfK, "search.rrf_k"));
  request.rrf_k = static_cast<int>(rrf_k);
  if (!flags.filter.empty()) {
    auto filter = ParseFilter(flags.filter);
    if (!filter.ok()) return WithCode(filter.status(), "bad-filter");
    request.filter = *std::move(filter);
  }
  return request;
}

namespace {

// The time that search.timeout_ms allows from here on, within --timeout; afterwards only --timeout counts again.
class QueryClock {
 public:
  explicit QueryClock(const Context& context) : deadline_(context.deadline) {
    const int64_t limit = context.config().Int("search.timeout_ms");
    if (limit == 0) return;
    const auto end = CancelToken::Clock::now() + std::chrono::milliseconds(limit);
    InterruptToken().SetDeadline(deadline_.has_value() ? std::min(end, *deadline_) : end);
  }
  ~QueryClock() { InterruptToken().SetDeadline(deadline_.value_or(CancelToken::Clock::time_point{})); }
  QueryClock(const QueryClock&) = delete;
  QueryClock& operator=(const QueryClock&) = delete;

 private:
  std::optional<CancelToken::Clock::time_point> deadline_;
};

// Orders the best `depth` hits by the cross-encoder's scores; what it did not see stays behind, in its own order.
void OrderByScores(const std::vector<float>& scores, std::vector<index::SearchHit>& hits) {
  for (size_t i = 0; i < scores.size(); ++i) {
    hits[i].sources.push_back({"rerank", 0, scores[i]});
    hits[i].score = scores[i];
  }
  std::stable_sort(hits.begin(), hits.begin() + static_cast<std::ptrdiff_t>(scores.size()), [](const auto& x, const auto& y) {
    return x.score != y.score ? x.score > y.score : x.doc_id < y.doc_id;
  });
  for (size_t i = 0; i < hits.size(); ++i) {
    hits[i].rank = static_cast<int64_t>(i) + 1;
    for (auto& source : hits[i].sources) {
      if (source.retriever == "rerank") source.rank = hits[i].rank;
    }
  }
}

}  // namespace

bool NeedsEncoder(const index::SearchRequest& request, const index::Corpus& corpus) {
  if (!corpus.has_vectors()) return false;
  if (request.retrievers.empty()) return true;
  return std::any_of(request.retrievers.begin(), request.retrievers.end(),
                     [](const auto& spec) { return spec.type == index::RetrieverSpec::Type::kDense; });
}

absl::StatusOr<index::SearchResponse> SearchAndRerank(Context& context, const SearchFlags& flags, const index::Corpus& corpus,
                                                      const index::SearchRequest& request, index::Encoder* encoder) {
  index::CrossEncoder* reranker = nullptr;
  if (!flags.rerank.empty()) {
    ASSIGN_OR_RETURN(reranker, context.engine->Reranker(flags.rerank));
  }
  const QueryClock clock(context);
  if (reranker == nullptr) return corpus.Search(request, encoder);
  const int64_t asked_depth = flags.rerank_depth.value_or(kDefaultRerankDepth);
  index::SearchRequest wider = request;
  wider.offset = 0;
  wider.with_text = true;
  wider.k = std::max(request.offset + request.k, asked_depth);
  ASSIGN_OR_RETURN(index::SearchResponse response, corpus.Search(wider, encoder));
  const auto start = std::chrono::steady_clock::now();
  const size_t depth = std::min<size_t>(response.hits.size(), static_cast<size_t>(asked_depth));
  std::vector<std::string> texts;   // as the encoder read them: the title first
  for (size_t i = 0; i < depth; ++i) {
    const index::SearchHit& hit = response.hits[i];
    texts.push_back(index::EmbeddingText(hit.title, hit.text));
  }
  const std::vector<std::string_view> views(texts.begin(), texts.end());
  index::EncodeStats stats;
  const auto scores = reranker->Score(request.query, views, &stats, request.cancel);
  if (scores.ok()) {
    OrderByScores(*scores, response.hits);
  } else if (scores.status().code() == absl::StatusCode::kDeadlineExceeded) {
    response.degraded.push_back("timeout:rerank");   // the order stays that of the retrievers
  } else {
    return scores.status();
  }
  const size_t begin = std::min(response.hits.size(), static_cast<size_t>(request.offset));
  const size_t end = std::min(response.hits.size(), static_cast<size_t>(request.offset + request.k));
  response.hits.erase(response.hits.begin() + static_cast<std::ptrdiff_t>(end), response.hits.end());
  response.hits.erase(response.hits.begin(), response.hits.begin() + static_cast<std::ptrdiff_t>(begin));
  if (stats.cut_texts > 0) response.degraded.push_back(internal::Concat("rerank-cut:", stats.cut_texts));
  response.took_ms["rerank"] = std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
  response.took_ms["total"] += response.took_ms["rerank"];
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

absl::Status CheckTimeLeft(const Context& context) {
  if (InterruptToken().cancelled()) return CheckCancel(&InterruptToken());
  if (context.deadline.has_value() && CancelToken::Clock::now() > *context.deadline) return DeadlineExceeded("the time of --timeout has passed");
  return absl::OkStatus();
}

static Json EncoderJson(const index::Corpus& corpus) {
  const auto encoder = corpus.settings().find("encoder");
  if (encoder == corpus.settings().end() || !encoder->is_object()) return nullptr;
  return {{"id", corpus.settings().value("embed_model", std::string())}, {"fingerprint", encoder->value("fingerprint", std::string())}};
}

absl::Status WriteRunMeta(const Context& context, const index::Corpus& corpus, const std::string& run, const SearchFlags& flags,
                          const std::string& tag, const std::string& topics) {
  ASSIGN_OR_RETURN(const index::SearchRequest request, MakeRequest(flags, context.config(), "x"));
  Json retrievers = Json::array();
  for (const auto& spec : request.retrievers) {
    if (spec.type == index::RetrieverSpec::Type::kBm25) {
      const index::Bm25Params shipped;
      retrievers.push_back({{"type", "bm25"}, {"k1", spec.k1.value_or(shipped.k1)}, {"b", spec.b.value_or(shipped.b)},
                            {"weight", index::WeightOf(spec, *request.fusion)}});
    } else {
      retrievers.push_back({{"type", "dense"}, {"ef", spec.ef}, {"denoise", spec.denoise}, {"weight", index::WeightOf(spec, *request.fusion)}});
    }
  }
  const Json meta = {{"engine", {{"version", context.version}}}, {"generation", corpus.generation()}, {"encoder", EncoderJson(corpus)},
                     {"documents", corpus.num_documents()}, {"chunks", corpus.num_chunks()}, {"tag", tag}, {"topics", topics},
                     {"k", request.k}, {"retrievers", retrievers},
                     {"fusion", request.retrievers.size() > 1 ? Json(index::FusionMethodName(*request.fusion)) : Json(nullptr)},
                     {"filter", flags.filter.empty() ? Json(nullptr) : Json(flags.filter)}, {"rerank", flags.rerank.empty() ? Json(nullptr) : Json(flags.rerank)}};
  return WriteFileAtomically(FileSystem::Posix(), run + ".meta.json", DumpJson(meta, 2) + "\n");
}

Latency LatencyOf(std::vector<double> took_ms) {
  if (took_ms.empty()) return {};
  std::sort(took_ms.begin(), took_ms.end());
  const auto at = [&](double share) { return took_ms[std::min(took_ms.size() - 1, static_cast<size_t>(share * static_cast<double>(took_ms.size())))]; };
  return {at(0.5), at(0.95), at(0.99), took_ms.back()};
}

std::string LatencyLine(const std::vector<double>& took_ms) {
  const Latency l = LatencyOf(took_ms);
  char text[96];
  std::snprintf(text, sizeof(text), "latency ms: median %.2f, p95 %.2f, p99 %.2f, longest %.2f", l.median, l.p95, l.p99, l.longest);
  return text;
}

std::string DegradedSentence(const std::string& reason, const std::string& why) {
  const auto after = [&reason](std::string_view prefix) { return reason.substr(prefix.size()); };
  if (reason == "no-vectors") return "BM25 alone: the collection has no vectors" + (why.empty() || why == "the collection has no vectors" ? "" : " (" + why + ")");
  if (reason == "no-encoder") return "BM25 alone: the collection's encoder is not at hand" + (why.empty() ? "" : " (" + why + ")");
  if (reason == "no-terms") return "BM25 looks for no word of this query: it is punctuation, or stop words that the collection's analyzer leaves out";
  if (reason == "not-denoised") return "not every chunk has a fitted vector; the encoder's own were searched (`lectern index build --denoise`)";
  if (reason == "timeout:rerank") return "the time allowed passed in the cross-encoder; the order is that of the retrievers (search.timeout_ms, --timeout)";
  if (reason.starts_with("timeout:")) return "the time allowed passed in " + after("timeout:") + "; what it had found by then was used (search.timeout_ms, --timeout)";
  if (reason == "query-cut") return "the query is longer than the encoder reads; its vector stands for the beginning, BM25 used every word";
  if (reason == "phrase-limit") return internal::Concat("a phrase was looked for in the first ", index::kMaxPhraseChecks, " chunks with its words; later ones were left out");
  if (reason == "candidate-limit") return internal::Concat("the best ", index::kMaxCandidates, " chunks belong to fewer documents than were asked for; there may be more");
  if (reason.starts_with("rerank-cut:")) return after("rerank-cut:") + " passages were longer than the cross-encoder reads; it scored their beginning";
  if (reason == "damaged-text") return "a document's stored text is damaged and was left out; `lectern index verify` says more";
  return reason;
}

Json SearchResponseJson(const Context& context, const index::Corpus& corpus, const index::SearchResponse& response,
                        std::optional<int64_t> changes_behind) {
  Json hits = Json::array();
  for (const index::SearchHit& hit : response.hits) {
    Json highlights = Json::array(), sources = Json::object();
    for (const index::Span& span : hit.highlights) highlights.push_back({{"start", span.begin}, {"end", span.end}});
    for (const auto& source : hit.sources) {
      sources[source.retriever] = {{"rank", source.rank == 0 ? Json(nullptr) : Json(source.rank)}, {"score", source.score}};
    }
    Json out = {{"rank", hit.rank}, {"doc_id", hit.doc_id}, {"chunk_id", hit.chunk_id}, {"score", hit.score},
                {"title", hit.title}, {"uri", hit.uri}, {"text", hit.text},
                {"span", {{"start", hit.span.begin}, {"end", hit.span.end}}}, {"offset_unit", "utf8"},
                {"highlights", highlights}, {"highlights_cut", hit.highlights_cut}, {"sources", sources}};
    if (!hit.explanation->is_null()) out["explanation"] = *hit.explanation;
    hits.push_back(std::move(out));
  }
  Json took = Json::object(), skipped = Json::array();
  for (const auto& [stage, ms] : response.took_ms) took[stage] = ms;
  for (const std::string& reason : response.degraded) {
    if (reason == "no-vectors" || reason == "no-encoder") skipped.push_back("dense");
    if (reason == "no-terms") skipped.push_back("bm25");
    if (reason.starts_with("timeout:") && reason != "timeout:rerank") skipped.push_back(reason.substr(8));
  }
  return {{"hits", hits},
          {"total", {{"value", response.total}, {"relation", response.total_is_exact ? "eq" : "gte"}}},
          {"generation", response.generation},
          {"changes_not_indexed", changes_behind ? Json(*changes_behind) : Json(nullptr)},
          {"degraded", response.degraded.empty() ? Json(nullptr) : Json{{"reasons", response.degraded}, {"skipped_retrievers", skipped}}},
          {"engine", {{"version", context.version}}},
          {"encoder", EncoderJson(corpus)},
          {"took_ms", took}};
}

}  // namespace lectern::cli
