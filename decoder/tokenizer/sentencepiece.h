// decoder/tokenizer/sentencepiece.h: SentencePiece by scores, with byte fallback, as GGUF files keep it (model "llama").
//
//   ASSIGN_OR_RETURN(auto tokenizer, MakeSentencePiece(spec));
//
// Shapes:  as tokenizer.h. A blank is written U+2581 in the file; here it is a blank throughout, so U+2581 in a text
//          decodes as a blank: the vocabulary cannot tell them apart.
// Threads: immutable; any thread.
// Errors:  kDataLoss (scores or ids that contradict the vocabulary, a byte without its token).
// Cost:    text falls apart where no token holds two neighbouring bytes; inside a piece n log n lookups.
#pragma once

#include <memory>

#include "base/status.h"
#include "decoder/tokenizer/tokenizer.h"

namespace lectern::tokenizer {

absl::StatusOr<std::unique_ptr<Tokenizer>> MakeSentencePiece(const GgufTokenizerSpec& spec);

}  // namespace lectern::tokenizer
