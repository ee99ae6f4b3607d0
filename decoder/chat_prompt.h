// decoder/chat_prompt.h: the pieces of a rendered chat to token ids, so that a document cannot forge a turn.
//
//   std::vector<int32_t> ids = EncodePieces(*tokenizer, *chat.Render(messages));
//
// Shapes:  control tokens are recognised in markup pieces only; the plain text between two of them is tokenised as one
//          run, whatever pieces it came from, as the model saw it in training.
// Threads: any; pure function.
// Errors:  none.
// Cost:    one pass of the tokenizer.
#pragma once

#include <span>
#include <vector>

#include "decoder/tokenizer/chat_template.h"
#include "decoder/tokenizer/tokenizer.h"

namespace lectern::decoder {

std::vector<int32_t> EncodePieces(const tokenizer::Tokenizer& tokenizer, std::span<const tokenizer::PromptPiece> pieces);

}  // namespace lectern::decoder
