// decoder/tokenizer/bpe.h: byte-level byte-pair encoding (GPT-2's alphabet), from a GGUF file or a tokenizer.json.
//
//   ASSIGN_OR_RETURN(auto tokenizer, MakeBpe(spec));
//
// Shapes:  as tokenizer.h. Decode(Encode(s)) == s for every byte string, but for text that NFC changes where a
//          tokenizer.json asks for NFC, and for bytes that the vocabulary has no token for (SmolLM2 lacks 20 control
//          and invalid bytes): the model cannot be told of those, they give no id, as in llama.cpp.
// Threads: immutable; any thread.
// Errors:  kUnimplemented (pre-tokenizer, by name), kDataLoss (a merge that names no token).
// Cost:    one hash lookup a byte and about two a merge.
#pragma once

#include <memory>

#include "base/status.h"
#include "decoder/tokenizer/json_reader.h"
#include "decoder/tokenizer/tokenizer.h"

namespace lectern::tokenizer {

absl::StatusOr<std::unique_ptr<Tokenizer>> MakeBpe(const GgufTokenizerSpec& spec);
absl::StatusOr<std::unique_ptr<Tokenizer>> MakeBpe(const TokenizerJson& parts, const TokenizerConfig& config);

}  // namespace lectern::tokenizer
