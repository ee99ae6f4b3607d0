#include "decoder/tokenizer/tokenizer.h"

#include "decoder/tokenizer/bpe.h"
#include "decoder/tokenizer/json_reader.h"
#include "decoder/tokenizer/sentencepiece.h"
#include "decoder/tokenizer/wordpiece.h"

namespace lectern::tokenizer {

absl::StatusOr<std::unique_ptr<Tokenizer>> Tokenizer::FromJson(std::string_view tokenizer_json,
                                                               std::string_view tokenizer_config_json) {
  ASSIGN_OR_RETURN(const TokenizerJson parts, ReadTokenizerJson(tokenizer_json));
  if (parts.model == TokenizerJson::Model::kWordPiece) return MakeWordPiece(parts);
  ASSIGN_OR_RETURN(const TokenizerConfig config, ReadTokenizerConfig(tokenizer_config_json));
  return MakeBpe(parts, config);
}

absl::StatusOr<std::unique_ptr<Tokenizer>> Tokenizer::FromSpec(const GgufTokenizerSpec& spec) {
  if (!spec.token_types.empty() && spec.token_types.size() != spec.tokens.size()) {
    return DataLoss("the tokenizer has ", spec.tokens.size(), " tokens and ", spec.token_types.size(), " token types");
  }
  if (spec.model == "gpt2") return MakeBpe(spec);
  if (spec.model == "llama") return MakeSentencePiece(spec);
  return NotSupported("tokenizer model '", spec.model.substr(0, 48), "'; known are gpt2 (byte-level BPE) and llama (SentencePiece)");
}

}  // namespace lectern::tokenizer
