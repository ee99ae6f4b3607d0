// tests/service/fake_model.h: a reader of a few lines, whose wishes a test writes down.
//
//   FakeModel model([](std::string_view prompt) { return prompt.find("HACKED") < prompt.size() ? "HACKED" : "Ruth Calder"; });
//
// Shapes:  token ids: 0..255 bytes, then whole words, then 3 control tokens.
// Threads: one test.
// Errors:  none.
// Cost:    none worth a word.
#pragma once

#include <algorithm>
#include <functional>
#include <string>
#include <vector>

#include "service/answer/language_model.h"

namespace lectern::testing {

class FakeTokenizer : public tokenizer::Tokenizer {
 public:
  explicit FakeTokenizer(std::vector<std::string> words = {}) {
    for (int b = 0; b < 256; ++b) pieces_.push_back(std::string(1, static_cast<char>(b)));
    for (std::string& word : words) pieces_.push_back(std::move(word));
    open_ = static_cast<int32_t>(pieces_.size());
    ends_ = {open_ + 1, open_ + 2};
    pieces_.insert(pieces_.end(), 3, "");
  }
  std::vector<int32_t> Encode(std::string_view text, const tokenizer::EncodeOptions& = {}) const override {
    std::vector<int32_t> ids;
    while (!text.empty()) {
      int32_t best = static_cast<uint8_t>(text[0]);
      for (int32_t id = 256; id < open_; ++id) {
        if (text.starts_with(pieces_[id]) && pieces_[id].size() > pieces_[best].size()) best = id;
      }
      ids.push_back(best);
      text.remove_prefix(pieces_[best].size());
    }
    return ids;
  }
  std::vector<int32_t> EncodeWithOffsets(std::string_view text, const tokenizer::EncodeOptions& options,
                                         std::vector<tokenizer::TokenOffset>* offsets) const override {
    std::vector<int32_t> ids = Encode(text, options);
    int64_t at = 0;
    for (int32_t id : ids) {
      const auto size = static_cast<int64_t>(pieces_[id].size());
      offsets->push_back({at, at + size});
      at += size;
    }
    return ids;
  }
  std::string Decode(std::span<const int32_t> ids) const override {
    std::string text;
    for (int32_t id : ids) text += pieces_[id];
    return text;
  }
  std::string_view Piece(int32_t id) const override { return pieces_[id]; }
  int64_t vocab_size() const override { return static_cast<int64_t>(pieces_.size()); }
  bool IsControl(int32_t id) const override { return id >= open_; }
  std::string_view SpecialName(int32_t) const override { return {}; }
  int32_t SpecialId(std::string_view) const override { return -1; }
  int32_t bos_id() const override { return -1; }
  std::span<const int32_t> end_ids() const override { return ends_; }
  int32_t open_id() const { return open_; }

 private:
  std::vector<std::string> pieces_;
  int32_t open_ = 0;
  std::vector<int32_t> ends_;
};

class FakeModel : public service::answer::LanguageModel {
 public:
  using Wish = std::function<std::string(std::string_view prompt)>;
  explicit FakeModel(Wish wish, std::vector<std::string> words = {}) : wish_(std::move(wish)), tokenizer_(std::move(words)) {}

  const FakeTokenizer& tokenizer() const override { return tokenizer_; }
  int64_t max_context_tokens() const override { return max_context_tokens_; }
  absl::StatusOr<std::vector<int32_t>> EncodeChat(std::span<const tokenizer::ChatMessage> messages) const override {
    std::vector<int32_t> ids;
    for (const auto& message : messages) {
      ids.push_back(tokenizer_.open_id());
      for (int32_t id : tokenizer_.Encode(message.role + "\n" + message.content)) ids.push_back(id);
    }
    ids.push_back(tokenizer_.open_id());
    return ids;
  }
  absl::StatusOr<std::vector<float>> NextLogits(std::span<const int32_t> tokens, const CancelToken* cancel) override {
    RETURN_IF_ERROR(CheckCancel(cancel));
    ++steps;
    const auto open = std::find(tokens.rbegin(), tokens.rend(), tokenizer_.open_id());
    const auto begin = tokens.rend() - open;
    const std::string prompt = tokenizer_.Decode(tokens.first(begin));
    const std::string said = tokenizer_.Decode(tokens.subspan(begin));
    last_prompt = prompt;
    const std::string want = wish_(prompt);
    std::vector<float> logits(tokenizer_.vocab_size(), 0.0f);
    const std::string_view plain = said.starts_with(' ') && !want.starts_with(' ') ? std::string_view(said).substr(1) : said;
    if (plain == want) {
      logits[tokenizer_.end_ids()[0]] = 12;
    } else if (want.starts_with(plain)) {
      logits[tokenizer_.Encode(std::string_view(want).substr(plain.size()))[0]] = 12;
    }
    return logits;
  }
  absl::StatusOr<decoder::ContinuationScore> Score(std::span<const int32_t> prompt, std::span<const int32_t> continuation,
                                                   const CancelToken*) override {
    const std::string text = tokenizer_.Decode(prompt);
    const float each = tokenizer_.Decode(continuation) == "not found" ? -2.0f : question_logprob;
    return decoder::ContinuationScore{each * static_cast<double>(continuation.size()), std::vector<float>(continuation.size(), each)};
  }
  absl::StatusOr<decoder::Generation> Generate(std::span<const int32_t> prompt, const decoder::GenerateOptions& options,
                                               const std::function<void(std::string_view)>& on_text) override {
    RETURN_IF_ERROR(CheckCancel(options.cancel));
    decoder::Generation out;
    last_prompt = tokenizer_.Decode(prompt);
    last_options = options;
    out.text = wish_(last_prompt);
    for (const std::string& stop : options.stop) out.text.resize(std::min(out.text.size(), out.text.find(stop)));
    out.tokens = tokenizer_.Encode(out.text);
    if (static_cast<int64_t>(out.tokens.size()) > options.max_tokens) {
      out.tokens.resize(options.max_tokens);
      out.text = tokenizer_.Decode(out.tokens);
      out.stop = decoder::Generation::Stop::kLength;
    }
    out.prompt_tokens = static_cast<int64_t>(prompt.size());
    if (on_text) on_text(out.text);
    return out;
  }

  int64_t max_context_tokens_ = 100000;
  float question_logprob = -1;
  int steps = 0;
  std::string last_prompt;
  decoder::GenerateOptions last_options;

 private:
  Wish wish_;
  FakeTokenizer tokenizer_;
};

}  // namespace lectern::testing
