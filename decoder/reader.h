// decoder/reader.h: a language model that continues a prompt, with what the answerer needs to judge it.
//
//   ASSIGN_OR_RETURN(auto reader, Reader::Open("qwen.gguf", {.num_threads = 2}));
//   std::vector<int32_t> prompt = reader->EncodeChat(messages);
//   ASSIGN_OR_RETURN(Generation g, reader->Generate(prompt, {.max_tokens = 64}, on_token));
//   ASSIGN_OR_RETURN(ContinuationScore s, reader->Score(prompt, ids));   // reuses the cached prefix
//
// Shapes:  token ids int32; logits float [vocab].
// Threads: one call at a time (it locks); Cancel through GenerateOptions::cancel from any thread.
// Errors:  kResourceExhausted (prompt + max_tokens over the context: needed, allowed, setting), kUnimplemented
//          (architecture, chat template), kCancelled, kDeadlineExceeded.
// Cost:    prefill linear in the tokens not already in the cache; a decode step streams the weights once and the
//          cache of the sequence. Nothing in a step allocates.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/cancel.h"
#include "base/nn/linear.h"
#include "base/status.h"
#include "decoder/tokenizer/chat_template.h"
#include "decoder/tokenizer/tokenizer.h"

namespace lectern::decoder {

struct ReaderOptions {
  int num_threads = 0;                 // 0: all the process may use
  int64_t max_context_tokens = 0;      // 0: what the model allows, at most 32768
  int64_t kv_bytes = 0;                // 0: sized by max_context_tokens
  nn::Arithmetic arithmetic = nn::Arithmetic::kFast;
  std::string chat_template;           // empty: recognised from the model file
  const CancelToken* cancel = nullptr;  // of opening
};

// Restricts which tokens may come next. State advances with Accept.
class TokenConstraint {
 public:
  virtual ~TokenConstraint() = default;
  virtual void Mask(std::span<float> logits) = 0;  // sets illegal tokens to -infinity; at least one stays legal
  virtual void Accept(int32_t token) = 0;
};

struct GenerateOptions {
  int64_t max_tokens = 128;
  double temperature = 0;              // 0: greedy, ties to the lowest id
  double top_p = 1;
  uint64_t seed = 0;
  std::vector<std::string> stop;       // the text ends before the first of these
  TokenConstraint* constraint = nullptr;
  bool capture_attention = false;      // see Generation::prompt_attention
  const CancelToken* cancel = nullptr;
  std::function<void(int64_t done, int64_t total)> on_prefill;  // progress, once a chunk
};

struct Generation {
  std::string text;
  std::vector<int32_t> tokens;
  std::vector<float> logprobs;                 // of each token under the unconstrained softmax at temperature 1
  std::vector<float> prompt_attention;         // [prompt token]: attention mass from generated tokens, mean over heads and layers
  enum class Stop { kEnd, kStopString, kLength } stop = Stop::kEnd;
  int64_t prompt_tokens = 0, cached_tokens = 0;
  double prefill_ms = 0, decode_ms = 0;
};

struct ContinuationScore {
  double logprob = 0;                 // sum over the continuation, natural log
  std::vector<float> token_logprobs;
};

class Reader {
 public:
  static absl::StatusOr<std::unique_ptr<Reader>> Open(const std::string& path, const ReaderOptions& options);
  ~Reader();

  const tokenizer::Tokenizer& tokenizer() const;
  bool has_chat_template() const;
  std::string architecture() const;
  int64_t max_context_tokens() const;
  int64_t vocab_size() const;
  absl::StatusOr<std::string> Sha256() const;
  // Messages to ids: markup is parsed for control tokens, content never is.
  absl::StatusOr<std::vector<int32_t>> EncodeChat(std::span<const tokenizer::ChatMessage> messages) const;

  absl::StatusOr<Generation> Generate(std::span<const int32_t> prompt, const GenerateOptions& options,
                                      const std::function<void(std::string_view piece)>& on_text = nullptr);
  absl::StatusOr<ContinuationScore> Score(std::span<const int32_t> prompt, std::span<const int32_t> continuation,
                                          const CancelToken* cancel = nullptr);
  // Logits of the position after `tokens`, [vocab]. Golden tests and constrained decoding outside Generate.
  absl::StatusOr<std::vector<float>> NextLogits(std::span<const int32_t> tokens, const CancelToken* cancel = nullptr);

 private:
  Reader();
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace lectern::decoder
