// decoder/tokenizer/wordpiece.h: BERT's tokenizer: clean, strip accents, lower-case, split, longest pieces first.
//
//   ASSIGN_OR_RETURN(auto tokenizer, MakeWordPiece(std::move(parts)));   // parts of a tokenizer.json
//
// Shapes:  as tokenizer.h; offsets are those of the characters a piece came from, removed ones not counted.
// Threads: immutable; any thread.
// Errors:  kDataLoss where the unknown token is not in the vocabulary.
// Cost:    one pass; ASCII takes no Unicode table. A word past max_word_chars becomes one unknown token.
#pragma once

#include <memory>

#include "base/status.h"
#include "decoder/tokenizer/json_reader.h"
#include "decoder/tokenizer/tokenizer.h"

namespace lectern::tokenizer {

absl::StatusOr<std::unique_ptr<Tokenizer>> MakeWordPiece(const TokenizerJson& parts);

}  // namespace lectern::tokenizer
