// service/answer/language_model.h: what the answerer asks of a reader, so that tests can stand in for it.
//
//   ReaderModel model(*reader);
//   ASSIGN_OR_RETURN(auto prompt, model.EncodeChat(messages));
//   ASSIGN_OR_RETURN(auto logits, model.NextLogits(prompt, cancel));
//
// Shapes:  as decoder/reader.h.
// Threads: one call at a time.
// Errors:  those of decoder::Reader.
// Cost:    a virtual call.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string_view>
#include <vector>

#include "decoder/reader.h"

namespace lectern::service::answer {

class LanguageModel {
 public:
  virtual ~LanguageModel() = default;
  virtual const tokenizer::Tokenizer& tokenizer() const = 0;
  virtual int64_t max_context_tokens() const = 0;
  virtual absl::StatusOr<std::vector<int32_t>> EncodeChat(std::span<const tokenizer::ChatMessage> messages) const = 0;
  virtual absl::StatusOr<std::vector<float>> NextLogits(std::span<const int32_t> tokens, const CancelToken* cancel) = 0;
  virtual absl::StatusOr<decoder::ContinuationScore> Score(std::span<const int32_t> prompt, std::span<const int32_t> continuation,
                                                           const CancelToken* cancel) = 0;
  virtual absl::StatusOr<decoder::Generation> Generate(std::span<const int32_t> prompt, const decoder::GenerateOptions& options,
                                                       const std::function<void(std::string_view piece)>& on_text) = 0;
};

class ReaderModel : public LanguageModel {
 public:
  explicit ReaderModel(decoder::Reader& reader) : reader_(reader) {}
  const tokenizer::Tokenizer& tokenizer() const override { return reader_.tokenizer(); }
  int64_t max_context_tokens() const override { return reader_.max_context_tokens(); }
  absl::StatusOr<std::vector<int32_t>> EncodeChat(std::span<const tokenizer::ChatMessage> messages) const override {
    return reader_.EncodeChat(messages);
  }
  absl::StatusOr<std::vector<float>> NextLogits(std::span<const int32_t> tokens, const CancelToken* cancel) override {
    return reader_.NextLogits(tokens, cancel);
  }
  absl::StatusOr<decoder::ContinuationScore> Score(std::span<const int32_t> prompt, std::span<const int32_t> continuation,
                                                   const CancelToken* cancel) override {
    return reader_.Score(prompt, continuation, cancel);
  }
  absl::StatusOr<decoder::Generation> Generate(std::span<const int32_t> prompt, const decoder::GenerateOptions& options,
                                               const std::function<void(std::string_view piece)>& on_text) override {
    return reader_.Generate(prompt, options, on_text);
  }

 private:
  decoder::Reader& reader_;
};

}  // namespace lectern::service::answer
