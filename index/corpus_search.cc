// One request: parse, restrict, retrieve, fuse, group, fetch. SearchPass has a method a stage, called in this order.
#include <chrono>
#include <cmath>
#include <numeric>
#include <unordered_set>

#include "base/check.h"
#include "base/json.h"
#include "base/problem.h"
#include "index/corpus-inl.h"
#include "index/highlight.h"
#include "index/query.h"
#include "index/schema.h"

namespace lectern::index {
namespace {

constexpr int64_t kDefaultCandidates = 200;
static_assert(4 * kMaxTopK <= kMaxCandidates);

double MillisecondsSince(std::chrono::steady_clock::time_point begin) {
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin).count();
}

}  // namespace

double WeightOf(const RetrieverSpec& spec, FusionMethod method) {
  if (spec.weight >= 0) return spec.weight;
  if (method != kDefaultFusion) return 1;
  return spec.type == RetrieverSpec::Type::kBm25 ? kDefaultBm25Weight : kDefaultDenseWeight;
}

class SearchPass {
 public:
  SearchPass(const CorpusImpl& corpus, const SearchRequest& request, Encoder* encoder)
      : corpus_(corpus), request_(request), encoder_(encoder) {}

  absl::StatusOr<SearchResponse> Run() {
    const auto begin = std::chrono::steady_clock::now();
    response_.generation = corpus_.generation_;
    RETURN_IF_ERROR(Timed("parse", [this] { return Parse(); }));
    RETURN_IF_ERROR(Timed("filter", [this] { return Restrict(); }));
    RETURN_IF_ERROR(RetrieveUntilEnough());
    RETURN_IF_ERROR(Timed("fetch", [this] { return Fetch(); }));
    response_.took_ms["total"] = MillisecondsSince(begin);
    return std::move(response_);
  }

 private:
  template <class Fn>
  absl::Status Timed(const char* stage, Fn&& fn) {
    const auto begin = std::chrono::steady_clock::now();
    const absl::Status status = fn();
    response_.took_ms[stage] += MillisecondsSince(begin);
    return status;
  }
  void Degrade(std::string reason) {
    if (std::find(response_.degraded.begin(), response_.degraded.end(), reason) == response_.degraded.end()) {
      response_.degraded.push_back(std::move(reason));
    }
  }

  absl::Status Parse();
  absl::Status ChooseRetrievers();
  absl::Status Restrict();
  absl::Status CheckFilter() const;
  void RestrictToPhrases();
  bool AcceptsPhrases(ChunkPlace place);
  absl::Status RetrieveUntilEnough();
  absl::Status RetrieveBm25(const RetrieverSpec& spec, int64_t k, RankedList& list);
  absl::Status EncodeQuery();
  absl::Status RetrieveDense(const RetrieverSpec& spec, int64_t k, RankedList& list);
  void ScoreOthers();
  absl::Status OnStop(const char* retriever);
  std::string_view DocumentOf(ChunkPlace place) const;
  absl::Status Fetch();
  Json Explain(const FusedHit& hit) const;
  const CorpusSegment& SegmentOf(ChunkPlace place) const { return corpus_.segments_[place.segment]; }
  Bm25Params ParamsOf(const RetrieverSpec& spec) const {
    Bm25Params params;
    if (spec.k1.has_value()) params.k1 = *spec.k1;
    if (spec.b.has_value()) params.b = *spec.b;
    return params;
  }

  const CorpusImpl& corpus_;
  const SearchRequest& request_;
  Encoder* const encoder_;
  SearchResponse response_;
  Query query_;
  std::vector<RetrieverSpec> retrievers_;
  std::vector<ChunkSet> allowed_;               // a segment each; empty: what is alive
  struct PhraseCandidates { const QueryPhrase* phrase; std::vector<ChunkSet> chunks; };
  std::vector<PhraseCandidates> phrases_;       // of two words or more: chunks with all of them
  std::unordered_map<uint64_t, bool> phrase_verdicts_;
  int64_t phrase_checks_ = 0;
  ChunkPlace text_place_{~uint32_t{0}, 0};      // whose document's text is at hand
  int32_t text_document_ = -1;
  std::string text_;
  std::vector<float> query_vector_;
  bool cut_short_ = false;                      // by a deadline or a limit: the count of documents is a lower bound
  std::vector<RankedList> lists_;
  std::vector<FusedHit> page_;
};

absl::Status SearchPass::Parse() {
  if (request_.k < 1 || request_.k > kMaxTopK) return InvalidArgument("k must be in 1..", kMaxTopK, ", got ", request_.k);
  if (request_.offset < 0 || request_.offset > kMaxTopK - request_.k) {
    return WithLimit(InvalidArgument("offset must be 0 or more and offset + k at most ", kMaxTopK, ", got offset ", request_.offset,
                                     " and k ", request_.k), "--offset", request_.offset < 0 ? 0 : kMaxTopK - request_.k, request_.offset);
  }
  if (request_.query.find_first_not_of(" \t\r\n") == std::string::npos) return InvalidArgument("the query is empty");
  ASSIGN_OR_RETURN(query_, request_.operators ? ParseQuery(*corpus_.analyzer_, request_.query)
                                              : PlainQuery(*corpus_.analyzer_, request_.query));
  return ChooseRetrievers();
}

absl::Status SearchPass::ChooseRetrievers() {
  using Type = RetrieverSpec::Type;
  std::vector<RetrieverSpec> asked = request_.retrievers;
  if (asked.empty()) asked = {{.type = Type::kBm25}, {.type = Type::kDense}};
  if (encoder_ != nullptr && corpus_.has_vectors() && encoder_->fingerprint() != corpus_.fingerprint_) {
    return FailedPrecondition("the index was made with encoder ", corpus_.fingerprint_, ", the one at hand is ",
                              encoder_->fingerprint(), "; open the former, or `lectern index build` encodes anew");
  }
  for (const RetrieverSpec& spec : asked) {
    const char* name = spec.type == Type::kBm25 ? "bm25" : "dense";
    for (const RetrieverSpec& other : retrievers_) {
      if (other.type == spec.type) return InvalidArgument("retriever ", name, " is named twice");
    }
    if (spec.k < 0 || spec.k > kMaxTopK) {
      return InvalidArgument("a retriever's k must be in 1..", kMaxTopK, ", got ", spec.k, " for ", name);
    }
    if (spec.type == Type::kDense) {
      if (spec.ef < 1 || spec.ef > kMaxTopK) return InvalidArgument("ef must be in 1..", kMaxTopK, ", got ", spec.ef);
      if (!corpus_.has_vectors() || encoder_ == nullptr) {
        const char* reason = corpus_.has_vectors() ? "no-encoder" : "no-vectors";
        if (asked.size() == 1) {
          return FailedPrecondition(corpus_.has_vectors()
                                        ? "the dense retriever needs the collection's encoder, which is not at hand"
                                        : "the collection has no vectors; `lectern index build` with an encoder makes them");
        }
        Degrade(reason);
        continue;
      }
    }
    RETURN_IF_ERROR(CheckBm25Params(ParamsOf(spec)));
    if (spec.type == Type::kBm25 && query_.terms.empty()) Degrade("no-terms");
    retrievers_.push_back(spec);
    RankedList list;
    list.name = name;
    list.weight = WeightOf(spec, request_.fusion.value_or(kDefaultFusion));
    lists_.push_back(std::move(list));
  }
  return CheckFusion(lists_, {request_.fusion.value_or(kDefaultFusion), request_.rrf_k});
}

absl::Status SearchPass::CheckFilter() const {
  const auto stored = corpus_.settings_.find("schema");
  if (stored == corpus_.settings_.end()) return absl::OkStatus();
  ASSIGN_OR_RETURN(const Schema schema, Schema::FromJson(*stored));
  return request_.filter->Check(schema);
}

// What may be found at all, known before retrieval: alive, passing the filter, with every required word, without any
// excluded one. Phrases of several words are looked at in AcceptsPhrases, for the few chunks that would be found.
absl::Status SearchPass::Restrict() {
  if (!request_.filter.has_value() && query_.phrases.empty()) return absl::OkStatus();
  if (request_.filter.has_value()) RETURN_IF_ERROR(WithCode(CheckFilter(), "bad-filter"));
  for (const CorpusSegment& segment : corpus_.segments_) {
    ChunkSet set = segment.live.has_value() ? *segment.live : ChunkSet(segment.documents->num_chunks(), /*all=*/true);
    if (request_.filter.has_value()) {
      for (int32_t document = 0; document < segment.documents->num_documents(); ++document) {
        if (segment.dead.Contains(document)) continue;
        const auto values = [&](std::string_view field) { return segment.documents->FieldValues(document, field); };
        if (request_.filter->Matches(values)) continue;
        const auto [first, last] = segment.documents->ChunksOf(document);
        for (int64_t chunk = first; chunk < last; ++chunk) set.Remove(static_cast<uint32_t>(chunk));
      }
    }
    allowed_.push_back(std::move(set));
  }
  RestrictToPhrases();
  return absl::OkStatus();
}

void SearchPass::RestrictToPhrases() {
  for (const QueryPhrase& phrase : query_.phrases) {
    PhraseCandidates candidates{&phrase, {}};
    for (uint32_t s = 0; s < corpus_.segments_.size(); ++s) {
      ChunkSet with_all = corpus_.searcher_->ChunksWith(s, phrase.terms[0]);
      for (size_t t = 1; t < phrase.terms.size(); ++t) {
        with_all.Intersect(corpus_.searcher_->ChunksWith(s, phrase.terms[t]));
      }
      if (!phrase.excluded) allowed_[s].Intersect(with_all);
      else if (phrase.terms.size() == 1) allowed_[s].Subtract(with_all);
      candidates.chunks.push_back(std::move(with_all));
    }
    if (phrase.terms.size() > 1) phrases_.push_back(std::move(candidates));
  }
}

bool SearchPass::AcceptsPhrases(ChunkPlace place) {
  if (phrases_.empty()) return true;
  const auto [verdict, is_new] = phrase_verdicts_.try_emplace(place.key(), true);
  if (!is_new) return verdict->second;
  const SegmentDocuments& documents = *SegmentOf(place).documents;
  const ChunkRef chunk = documents.ChunkAt(place.chunk);
  for (const PhraseCandidates& candidates : phrases_) {
    if (!candidates.chunks[place.segment].Has(place.chunk)) {
      if (candidates.phrase->excluded) continue;
      return verdict->second = false;
    }
    // Past the limit, or the deadline, a chunk is left out whether the phrase is wanted or not.
    if (++phrase_checks_ > kMaxPhraseChecks) {
      Degrade("phrase-limit");
      cut_short_ = true;
      return verdict->second = false;
    }
    if (!CheckCancel(request_.cancel).ok()) return verdict->second = false;  // the retriever reports the stop
    if (text_place_.segment != place.segment || text_document_ != chunk.document) {
      auto text = documents.Text(chunk.document);
      if (!text.ok()) {
        Degrade("damaged-text");
        return verdict->second = false;
      }
      text_ = *std::move(text);
      text_place_ = place;
      text_document_ = chunk.document;
    }
    const std::string_view own =
        std::string_view(text_).substr(static_cast<size_t>(chunk.span.begin), static_cast<size_t>(chunk.span.end - chunk.span.begin));
    const bool found = ContainsPhrase(*corpus_.analyzer_, own, candidates.phrase->terms) ||
                       ContainsPhrase(*corpus_.analyzer_, documents.Title(chunk.document), candidates.phrase->terms);
    if (found == candidates.phrase->excluded) return verdict->second = false;
  }
  return true;
}

// A deadline leaves what was found so far; a caller who stops gets nothing.
absl::Status SearchPass::OnStop(const char* retriever) {
  const absl::Status stop = CheckCancel(request_.cancel);
  if (stop.code() == absl::StatusCode::kCancelled) return stop;
  if (request_.partial_is_error) {
    return DeadlineExceeded("the time allowed passed in ", retriever, " (partial results are an error by request)");
  }
  cut_short_ = true;
  Degrade(std::string("timeout:") + retriever);
  return absl::OkStatus();
}

absl::Status SearchPass::RetrieveBm25(const RetrieverSpec& spec, int64_t k, RankedList& list) {
  Bm25SearchOptions options;
  options.k = k;
  options.params = ParamsOf(spec);
  options.allowed = allowed_;
  options.order = corpus_.order_.get();
  options.cancel = request_.cancel;
  if (!phrases_.empty()) options.accepts = [this](ChunkPlace place) { return AcceptsPhrases(place); };
  ASSIGN_OR_RETURN(const Bm25Result found, corpus_.searcher_->Search(query_.terms, options));
  list.hits.clear();
  for (const Bm25Hit& hit : found.hits) list.hits.push_back({hit.place, hit.score});
  return found.stopped ? OnStop("bm25") : absl::OkStatus();
}

absl::Status SearchPass::EncodeQuery() {
  if (!query_vector_.empty()) return absl::OkStatus();
  const std::string_view text = query_.plain_text;
  EncodeStats stats;
  ASSIGN_OR_RETURN(query_vector_, encoder_->Encode(std::span(&text, 1), /*cut=*/true, &stats, request_.cancel));
  if (stats.cut_texts > 0) Degrade("query-cut");
  return absl::OkStatus();
}

absl::Status SearchPass::RetrieveDense(const RetrieverSpec& spec, int64_t k, RankedList& list) {
  list.hits.clear();
  const absl::Status encoded = Timed("embed", [this] { return EncodeQuery(); });
  if (encoded.code() == absl::StatusCode::kDeadlineExceeded) return OnStop("dense");
  RETURN_IF_ERROR(encoded);
  return Timed("dense", [&]() -> absl::Status {
    const bool fitted = std::any_of(corpus_.segments_.begin(), corpus_.segments_.end(),
                                    [](const CorpusSegment& segment) { return segment.fitted != nullptr; });
    if (spec.denoise && !fitted) Degrade("not-denoised");
    for (uint32_t s = 0; s < corpus_.segments_.size(); ++s) {
      const CorpusSegment& segment = corpus_.segments_[s];
      if (segment.vectors == nullptr) continue;
      if (!CheckCancel(request_.cancel).ok()) return OnStop("dense");
      DenseSearchOptions options;
      options.k = std::min<int64_t>(k, segment.documents->num_chunks());
      options.ef = spec.ef;
      if (!allowed_.empty()) {
        options.allowed = [this, s](int64_t chunk) {
          const ChunkPlace place{s, static_cast<uint32_t>(chunk)};
          return allowed_[s].Has(place.chunk) && AcceptsPhrases(place);
        };
      } else if (segment.live.has_value()) {
        options.allowed = [&segment](int64_t chunk) { return segment.live->Has(static_cast<uint32_t>(chunk)); };
      }
      ASSIGN_OR_RETURN(const std::vector<DenseHit> found, segment.VectorsFor(spec).Search(query_vector_, options));
      for (const DenseHit& hit : found) list.hits.push_back({{s, static_cast<uint32_t>(hit.chunk)}, hit.score});
    }
    std::sort(list.hits.begin(), list.hits.end(), [this](const RankedChunk& a, const RankedChunk& b) {
      return a.score != b.score ? a.score > b.score : corpus_.order_->Before(a.place, b.place);
    });
    if (static_cast<int64_t>(list.hits.size()) > k) list.hits.resize(static_cast<size_t>(k));
    return absl::OkStatus();
  });
}

// Every candidate gets the score of every retriever, found by it or not: a score that is missing would say how deep the
// lists were cut, not how good the chunk is.
void SearchPass::ScoreOthers() {
  for (size_t l = 0; l < lists_.size(); ++l) {
    RankedList& list = lists_[l];
    list.others.clear();
    const bool dense = retrievers_[l].type == RetrieverSpec::Type::kDense;
    if (dense && query_vector_.empty()) continue;   // the time allowed passed before it was made
    std::unordered_set<uint64_t> own;
    for (const RankedChunk& hit : list.hits) own.insert(hit.place.key());
    std::vector<ChunkPlace> places;
    for (const RankedList& other : lists_) {
      for (const RankedChunk& hit : other.hits) {
        if (own.insert(hit.place.key()).second) places.push_back(hit.place);
      }
    }
    if (dense) {
      for (const ChunkPlace place : places) list.others.push_back({place, SegmentOf(place).VectorsFor(retrievers_[l]).Score(query_vector_, place.chunk)});
      continue;
    }
    const std::vector<double> scores = corpus_.searcher_->ScoresOf(query_.terms, ParamsOf(retrievers_[l]), places);
    for (size_t i = 0; i < places.size(); ++i) list.others.push_back({places[i], scores[i]});
  }
}

std::string_view SearchPass::DocumentOf(ChunkPlace place) const {
  const SegmentDocuments& documents = *SegmentOf(place).documents;
  return documents.Id(documents.ChunkAt(place.chunk).document);
}

// Candidates are chunks; where grouping leaves fewer documents than the page needs, more are fetched, unless the request
// named their number itself.
absl::Status SearchPass::RetrieveUntilEnough() {
  const int64_t wanted = request_.offset + request_.k;
  // One retriever alone needs no more candidates than the page, where documents are single chunks or not grouped.
  const bool exact = retrievers_.size() == 1 && (!request_.group_by_document || corpus_.single_chunks_);
  const int64_t first = exact ? wanted : retrievers_.size() == 1 ? 4 * wanted : std::max(kDefaultCandidates, wanted);
  for (int64_t k = first;; k = std::min(4 * k, kMaxCandidates)) {   // first: at most 4 * kMaxTopK
    bool fixed = true, exhausted = true;
    for (size_t r = 0; r < retrievers_.size(); ++r) {
      const RetrieverSpec& spec = retrievers_[r];
      const int64_t own_k = spec.k > 0 ? spec.k : k;
      fixed &= spec.k > 0;
      if (spec.type == RetrieverSpec::Type::kBm25) {
        RETURN_IF_ERROR(Timed("bm25", [&] { return RetrieveBm25(spec, own_k, lists_[r]); }));
      } else {
        RETURN_IF_ERROR(RetrieveDense(spec, own_k, lists_[r]));
      }
      exhausted &= static_cast<int64_t>(lists_[r].hits.size()) < own_k;
    }
    const auto begin = std::chrono::steady_clock::now();
    if (lists_.size() > 1) ScoreOthers();
    std::vector<FusedHit> fused =
        Fuse(lists_, {request_.fusion.value_or(kDefaultFusion), request_.rrf_k}, *corpus_.order_);
    page_.clear();
    std::unordered_set<std::string_view> seen;
    std::unordered_set<std::string_view> documents;
    int64_t rank = 0;
    for (FusedHit& hit : fused) {
      const std::string_view document = DocumentOf(hit.place);
      const bool first = documents.insert(document).second;
      if (request_.group_by_document && !first) continue;
      if (rank >= request_.offset && rank < wanted) page_.push_back(std::move(hit));
      ++rank;
    }
    response_.total = static_cast<int64_t>(documents.size());
    const bool found_all = exhausted || response_.total == corpus_.num_documents();
    response_.total_is_exact = found_all && !cut_short_;
    response_.took_ms["fusion"] += MillisecondsSince(begin);
    const bool stopped = !CheckCancel(request_.cancel).ok();
    const bool enough = rank >= wanted || (found_all && request_.group_by_document);
    if (enough || exhausted || fixed || stopped || k >= corpus_.num_chunks()) return absl::OkStatus();
    if (k == kMaxCandidates) {   // a few documents have more chunks than that
      Degrade("candidate-limit");
      return absl::OkStatus();
    }
  }
}

Json SearchPass::Explain(const FusedHit& hit) const {
  Json out = Json::object();
  for (const FusionPart& part : hit.parts) {
    const RankedList& list = lists_[part.list];
    Json one = {{"rank", part.rank == 0 ? Json(nullptr) : Json(part.rank)}, {"score", part.scored ? Json(part.score) : Json(nullptr)}};
    const RetrieverSpec& spec = retrievers_[part.list];
    if (spec.type == RetrieverSpec::Type::kBm25) {
      const Bm25Params params = ParamsOf(spec);
      const Bm25Statistics& statistics = corpus_.searcher_->statistics();
      one["k1"] = params.k1;
      one["b"] = params.b;
      one["chunks"] = statistics.num_chunks;
      one["average_length"] = statistics.average_length();
      one["terms"] = Json::array();
      for (const Bm25TermPart& term : corpus_.searcher_->Explain(query_.terms, params, hit.place)) {
        one["length"] = term.length;
        one["terms"].push_back({{"term", term.term},
                                {"in_query", term.count},
                                {"chunks_with_term", term.document_frequency},
                                {"idf", term.idf},
                                {"frequency", term.frequency},
                                {"length_norm", params.k1 * (1 - params.b + params.b * term.length / statistics.average_length())},
                                {"contribution", term.contribution}});
      }
    }
    out[list.name] = std::move(one);
  }
  Json fusion = {{"method", hit.parts.size() == 1 ? "none" : FusionMethodName(request_.fusion.value_or(kDefaultFusion))},
                 {"score", hit.score},
                 {"parts", Json::array()}};
  for (const FusionPart& part : hit.parts) {
    fusion["parts"].push_back({{"retriever", lists_[part.list].name}, {"weight", lists_[part.list].weight}, {"contribution", part.contribution}});
  }
  out["fusion"] = std::move(fusion);
  return out;
}

absl::Status SearchPass::Fetch() {
  std::string text;
  ChunkPlace held{~uint32_t{0}, 0};
  int32_t held_document = -1;
  for (size_t i = 0; i < page_.size(); ++i) {
    const FusedHit& found = page_[i];
    const SegmentDocuments& documents = *SegmentOf(found.place).documents;
    const ChunkRef chunk = documents.ChunkAt(found.place.chunk);
    SearchHit hit;
    hit.rank = request_.offset + static_cast<int64_t>(i) + 1;
    hit.doc_id = documents.Id(chunk.document);
    hit.chunk_id = internal::Concat(hit.doc_id, "#", chunk.number);
    hit.title = documents.Title(chunk.document);
    hit.uri = documents.Uri(chunk.document);
    hit.doc_sha256 = documents.SourceSha256(chunk.document);
    hit.span = chunk.span;
    hit.score = found.score;
    for (const FusionPart& part : found.parts) {
      if (part.scored) hit.sources.push_back({lists_[part.list].name, part.rank, part.score});
    }
    if (request_.with_text || request_.highlight) {
      if (held.segment != found.place.segment || held_document != chunk.document) {
        ASSIGN_OR_RETURN(text, documents.Text(chunk.document));
        held = found.place;
        held_document = chunk.document;
      }
      const std::string_view own =
          std::string_view(text).substr(static_cast<size_t>(chunk.span.begin), static_cast<size_t>(chunk.span.end - chunk.span.begin));
      if (request_.highlight) hit.highlights = Highlight(*corpus_.analyzer_, own, query_.terms, chunk.span.begin, &hit.highlights_cut);
      if (request_.with_text) hit.text = own;
    }
    if (request_.explain) hit.explanation = Explain(found);
    response_.hits.push_back(std::move(hit));
  }
  return absl::OkStatus();
}

absl::StatusOr<SearchResponse> CorpusImpl::Search(const SearchRequest& request, Encoder* encoder) const {
  return SearchPass(*this, request, encoder).Run();
}

}  // namespace lectern::index
