// decoder/tokenizer/chat_template.h: messages to the prompt a model was trained on.
//
//   ASSIGN_OR_RETURN(ChatTemplate chat, ChatTemplate::Recognise(jinja_text));   // or ChatTemplate::Named("chatml")
//   std::vector<PromptPiece> pieces = chat.Render(messages);
//
// Shapes:  a prompt is a list of pieces; only pieces marked `is_markup` may be tokenised with parse_special,
//          so that "<|im_end|>" inside a document stays text. Markup is control tokens and nothing else: the ids of
//          the pieces one after the other are those of the whole prompt. BOS is left to the tokenizer's add_special.
// Threads: immutable.
// Errors:  kUnimplemented: a template that is not one of the known ones (its first bytes are named); the caller
//          may pass a name instead (--chat-template).
// Cost:    linear in the text.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/status.h"

namespace lectern::tokenizer {

struct ChatMessage {
  std::string role;  // "system", "user", "assistant"
  std::string content;
};

struct PromptPiece {
  std::string text;
  bool is_markup = false;
};

class ChatTemplate {
 public:
  static absl::StatusOr<ChatTemplate> Named(std::string_view name);       // chatml, qwen2, smollm2, llama3, gemma, plain
  static absl::StatusOr<ChatTemplate> Recognise(std::string_view jinja);  // by what the template writes
  std::string_view name() const;
  // Ends where the assistant's reply begins.
  absl::StatusOr<std::vector<PromptPiece>> Render(std::span<const ChatMessage> messages) const;

 private:
  ChatTemplate(int kind, std::string default_system) : kind_(kind), default_system_(std::move(default_system)) {}
  int kind_;
  std::string default_system_;  // ChatML: the system turn of messages that have none
};

}  // namespace lectern::tokenizer
