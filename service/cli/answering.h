// service/cli/answering.h: what ask and eval answers share: settings, the search of a question, the answer as JSON.
//
//   AddAnswerFlags(registry, command);
//   ASSIGN_OR_RETURN(answer::AnswerOptions options, AnswerOptionsOf(config));
//   ASSIGN_OR_RETURN(PassageSearch search, PassageSearch::Open(context, flags, "books"));
//   ASSIGN_OR_RETURN(auto response, search.Find("Who wrote it?", &request));
//
// Shapes:  see service/answer/answer.h.
// Threads: one command's.
// Errors:  those of the settings, the collection and the encoder.
// Cost:    Open maps the collection and loads the encoder where the search needs one.
#pragma once

#include <memory>
#include <string>

#include "index/corpus.h"
#include "service/answer/answer.h"
#include "service/cli/app.h"
#include "service/cli/search_flags.h"

namespace lectern::cli {

// Flags of the reader's settings.
void AddAnswerFlags(Registry& registry, CommandLine command);
absl::StatusOr<service::answer::AnswerOptions> AnswerOptionsOf(const service::Config& config);

// The passages of a collection for one question after another.
class PassageSearch {
 public:
  static absl::StatusOr<PassageSearch> Open(Context& context, const SearchFlags& flags, const std::string& collection);
  // Fills request->passages, read_document and read_current, which must not outlive this object. The question is prose: no operators.
  absl::StatusOr<index::SearchResponse> Find(const std::string& question, service::answer::AnswerRequest* request) const;
  // All that decides what Find finds: collection, generation, encoder, and the request with its defaults filled in.
  absl::StatusOr<Json> Settings() const;
  const index::Corpus& corpus() const { return *corpus_; }
  index::Encoder* encoder() const { return encoder_; }      // null: none at hand, see why
  const std::string& why() const { return why_; }

 private:
  PassageSearch(Context& context, SearchFlags flags, std::string collection)
      : context_(&context), flags_(std::move(flags)), collection_(std::move(collection)) {}
  // The text of a document in the store, as the writer last committed it.
  absl::StatusOr<std::string> CurrentText(const std::string& doc_id) const;
  Context* context_;
  SearchFlags flags_;
  std::string collection_;
  std::shared_ptr<const index::Corpus> corpus_;
  mutable std::unique_ptr<index::DocumentStore> store_;   // opened for the first citation
  index::Encoder* encoder_ = nullptr;
  std::string why_;
};

}  // namespace lectern::cli
