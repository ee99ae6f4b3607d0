// decoder/tokenizer/json_reader.h: tokenizer.json into the parts a tokenizer is built from.
//
//   ASSIGN_OR_RETURN(TokenizerJson parts, ReadTokenizerJson(text));
//
// Shapes:  tokens by id, holes empty; merges as pairs of token texts.
// Threads: a pure function.
// Errors:  kDataLoss (malformed, ids twice or out of range); kUnimplemented names a component that is not known.
// Cost:    one parse; linear in the text.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/status.h"

namespace lectern::tokenizer {

struct AddedToken {
  std::string text;
  int32_t id = 0;
  bool special = false, lstrip = false, rstrip = false;
};

struct TokenizerJson {
  enum class Model { kWordPiece, kBpe } model = Model::kWordPiece;
  std::vector<std::string> tokens;  // [id]; an empty text is a hole
  std::vector<std::pair<std::string, std::string>> merges;
  std::vector<AddedToken> added;
  std::string unknown_token;
  std::string continuing_prefix;    // "##" of WordPiece
  int64_t max_word_chars = 100;
  bool ignore_merges = false;
  // Normaliser. BERT's flags, or `nfc` for byte-level BPE.
  bool bert_normalizer = false, clean_text = false, chinese_chars = false, strip_accents = false, lowercase = false;
  bool nfc = false;
  // Pre-tokeniser: "bert", or the name of a byte-level splitting rule.
  std::string pre;
  std::vector<int32_t> prefix_ids, suffix_ids;  // of the post-processor, for one text
};

absl::StatusOr<TokenizerJson> ReadTokenizerJson(std::string_view json);

struct TokenizerConfig {
  std::string bos_token, eos_token;
};
// tokenizer_config.json, where there is one; an empty text gives an empty answer.
absl::StatusOr<TokenizerConfig> ReadTokenizerConfig(std::string_view json);

}  // namespace lectern::tokenizer
