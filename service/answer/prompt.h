// service/answer/prompt.h: the messages put before the reader.
//
//   std::vector<tokenizer::ChatMessage> messages = AnswerPrompt(AnswerMode::kSpan, packed, "Who wrote it?");
//
// Shapes:  a system message and a user message: the passages, then the question. An only passage without a title is put there bare,
//          several are numbered.
// Threads: pure functions.
// Errors:  none.
// Cost:    a copy of the packed text.
#pragma once

#include <string_view>
#include <vector>

#include "decoder/tokenizer/chat_template.h"
#include "service/answer/pack.h"

namespace lectern::service::answer {

enum class AnswerMode { kAuto, kSpan, kProse };

struct PromptText {
  AnswerMode mode = AnswerMode::kSpan;
  std::string_view instruction;   // the system message; empty: the built-in one of the mode
  std::string_view afterwards;    // follows the question, so that what stands before it is read once for several prompts
};
std::vector<tokenizer::ChatMessage> AnswerPrompt(const Packed& packed, std::string_view question, const PromptText& text);

}  // namespace lectern::service::answer
