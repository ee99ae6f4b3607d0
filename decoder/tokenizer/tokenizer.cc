#include "decoder/tokenizer/tokenizer.h"

#include "decoder/tokenizer/json_reader.h"
#include "decoder/tokenizer/wordpiece.h"

namespace lectern::tokenizer {

absl::StatusOr<std::unique_ptr<Tokenizer>> Tokenizer::FromJson(std::string_view tokenizer_json,
                                                               std::string_view tokenizer_config_json) {
  ASSIGN_OR_RETURN(const TokenizerJson parts, ReadTokenizerJson(tokenizer_json));
  (void)tokenizer_config_json;
  if (parts.model == TokenizerJson::Model::kWordPiece) return MakeWordPiece(parts);
  return NotSupported("tokenizer.json: byte-level BPE");
}

absl::StatusOr<std::unique_ptr<Tokenizer>> Tokenizer::FromSpec(const GgufTokenizerSpec& spec) {
  return NotSupported("tokenizer model '", spec.model, "'");
}

}  // namespace lectern::tokenizer
