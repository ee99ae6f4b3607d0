#include "service/cli/answering.h"

#include <utility>

#include "base/json.h"
#include "index/bm25.h"

namespace lectern::cli {
namespace answer = service::answer;

void AddAnswerFlags(Registry& registry, CommandLine command) {
  registry.Setting(command, "--citations", "reader.citations", "required: every sentence has a verified quote; preferred, off");
  registry.Setting(command, "--answer-mode", "reader.answer_mode", "span: the documents' own words; prose: sentences; auto: by the question");
  registry.Setting(command, "--instruction", "reader.instruction", "system message in place of the built-in one");
  registry.Setting(command, "--max-context-tokens", "reader.max_context_tokens", "tokens of packed passages");
  registry.Setting(command, "--max-tokens", "reader.max_tokens", "tokens of a prose answer at most");
  registry.Setting(command, "--reader", "reader.model", "language model: id or path");
  registry.Setting(command, "--chat-template", "reader.chat_template", "chatml, qwen2, smollm2, llama3, gemma or plain");
}

absl::StatusOr<answer::AnswerOptions> AnswerOptionsOf(const service::Config& config) {
  answer::AnswerOptions options;
  ASSIGN_OR_RETURN(options.citations, answer::ParseCitationMode(config.String("reader.citations")));
  ASSIGN_OR_RETURN(options.mode, answer::ParseAnswerMode(config.String("reader.answer_mode")));
  options.instruction = config.String("reader.instruction");
  options.max_context_tokens = config.Int("reader.max_context_tokens");
  options.max_tokens = config.Int("reader.max_tokens");
  options.cancel = &InterruptToken();
  return options;
}

absl::StatusOr<PassageSearch> PassageSearch::Open(Context& context, const SearchFlags& flags, const std::string& collection) {
  ASSIGN_OR_RETURN(std::string name, context.engine->ResolveAlias(collection));
  PassageSearch search(context, flags, std::move(name));
  if (search.flags_.k < 0) search.flags_.k = 10;
  ASSIGN_OR_RETURN(search.corpus_, context.engine->OpenCorpus(search.collection_));
  ASSIGN_OR_RETURN(const index::SearchRequest probe, MakeRequest(search.flags_, context.config(), "x"));
  if (NeedsEncoder(probe, *search.corpus_)) {
    ASSIGN_OR_RETURN(search.encoder_, context.engine->EncoderOf(*search.corpus_, &search.why_));
  }
  return search;
}

absl::StatusOr<Json> PassageSearch::Settings() const {
  ASSIGN_OR_RETURN(const index::SearchRequest request, MakeRequest(flags_, context_->config(), "x"));
  Json retrievers = Json::array();
  for (const index::RetrieverSpec& spec : request.retrievers) {
    const bool bm25 = spec.type == index::RetrieverSpec::Type::kBm25;
    Json one = {{"type", bm25 ? "bm25" : "dense"}, {"candidates", spec.k}, {"weight", index::WeightOf(spec, *request.fusion)}};
    if (bm25) one.update({{"k1", spec.k1.value_or(index::Bm25Params().k1)}, {"b", spec.b.value_or(index::Bm25Params().b)}});
    else one["ef"] = spec.ef;
    retrievers.push_back(std::move(one));
  }
  return Json{{"collection", collection_}, {"generation", corpus_->generation()}, {"encoder", encoder_ == nullptr ? Json(nullptr) : Json(encoder_->fingerprint())},
              {"k", request.k}, {"offset", request.offset}, {"retrievers", retrievers}, {"fusion", index::FusionMethodName(*request.fusion)},
              {"rrf_k", request.rrf_k}, {"filter", flags_.filter}, {"chunks", flags_.chunks}, {"rerank", flags_.rerank},
              {"rerank_depth", flags_.rerank_depth ? Json(*flags_.rerank_depth) : Json(nullptr)}};
}

absl::StatusOr<index::SearchResponse> PassageSearch::Find(const std::string& question, answer::AnswerRequest* request) const {
  ASSIGN_OR_RETURN(index::SearchRequest search, MakeRequest(flags_, context_->config(), question));
  search.operators = false;
  search.highlight = false;
  search.cancel = &InterruptToken();
  ASSIGN_OR_RETURN(index::SearchResponse found, SearchAndRerank(*context_, flags_, *corpus_, search, encoder_));
  RETURN_IF_ERROR(CheckCancel(&InterruptToken()));
  for (const index::SearchHit& hit : found.hits) {
    request->passages.push_back({hit.doc_id, hit.chunk_id, hit.title, hit.uri, hit.doc_sha256, hit.text, hit.span.begin, hit.score});
  }
  request->read_document = [corpus = corpus_](const std::string& doc_id) { return corpus->DocumentText(doc_id); };
  request->read_current = [this](const std::string& doc_id) { return CurrentText(doc_id); };
  return found;
}

absl::StatusOr<std::string> PassageSearch::CurrentText(const std::string& doc_id) const {
  absl::Status status;
  for (int attempt = 0; attempt < 3; ++attempt) {   // the store may be compacting under us
    if (store_ == nullptr) {
      auto opened = context_->engine->OpenFollower();
      status = opened.status();
      if (!status.ok()) continue;
      store_ = *std::move(opened);
    } else if (status = store_->CatchUp(); !status.ok()) {
      store_.reset();
      continue;
    }
    absl::StatusOr<index::StoredDocument> stored = store_->Get(collection_, doc_id);
    if (stored.ok()) return std::move(stored->document.text);
    status = stored.status();
    if (status.code() == absl::StatusCode::kNotFound) return status;
    store_.reset();
  }
  return Annotate(status, internal::Concat("check the citation of document '", doc_id, "' against the store"));
}

}  // namespace lectern::cli
