#include "service/cli/answering.h"

#include <utility>

namespace lectern::cli {
namespace answer = service::answer;

void AddAnswerFlags(Registry& registry, CLI::App* command) {
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
  PassageSearch search(context, flags);
  if (search.flags_.k < 0) search.flags_.k = 10;
  ASSIGN_OR_RETURN(search.corpus_, context.engine->OpenCorpus(collection));
  ASSIGN_OR_RETURN(const index::SearchRequest probe, MakeRequest(search.flags_, context.config(), "x"));
  if (NeedsEncoder(probe, *search.corpus_)) {
    ASSIGN_OR_RETURN(search.encoder_, context.engine->EncoderOf(*search.corpus_, &search.why_));
  }
  return search;
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
  return found;
}

}  // namespace lectern::cli
