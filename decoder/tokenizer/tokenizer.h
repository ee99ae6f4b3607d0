// decoder/tokenizer/tokenizer.h: text to token ids and back.
//
//   ASSIGN_OR_RETURN(auto tokenizer, Tokenizer::FromJson(tokenizer_json));   // or FromSpec(gguf_spec)
//   std::vector<int32_t> ids = tokenizer->Encode("a document", {.parse_special = false});
//   std::string text = tokenizer->Decode(ids);
//
// Shapes:  ids in 0..vocab_size()-1. Piece(id) is the raw bytes a token stands for; a piece may hold part of a
//          UTF-8 character. Control tokens have an empty Piece() and their name in SpecialName().
// Threads: immutable; any thread.
// Errors:  kUnimplemented names an unknown model type, pre-tokenizer, normaliser or template; kDataLoss where
//          merges or ids contradict the vocabulary.
// Cost:    Encode is linear in the text but for the merges inside one word (n log n).
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace lectern::tokenizer {

struct EncodeOptions {
  bool parse_special = false;  // true: control tokens named in the text become control ids (templates only, never documents)
  bool add_special = false;    // true: add BOS/EOS, or [CLS]/[SEP], as the model asks
};

// What a GGUF file says of its tokenizer (keys tokenizer.ggml.*).
struct GgufTokenizerSpec {
  std::string model;            // "gpt2" (byte-level BPE), "llama" (SentencePiece), "bert" (WordPiece)
  std::string pre;              // "qwen2", "smollm", "llama-bpe", "default", ...
  std::vector<std::string> tokens;
  std::vector<int32_t> token_types;  // 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte
  std::vector<double> scores;
  std::vector<std::string> merges;
  int64_t bos_id = -1, eos_id = -1, eot_id = -1, unknown_id = -1, padding_id = -1;
  bool add_bos = false, add_eos = false, add_space_prefix = true;
};

struct TokenOffset {   // bytes of the input text a token came from
  int64_t begin = 0, end = 0;
};

class Tokenizer {
 public:
  virtual ~Tokenizer() = default;
  static absl::StatusOr<std::unique_ptr<Tokenizer>> FromSpec(const GgufTokenizerSpec& spec);
  static absl::StatusOr<std::unique_ptr<Tokenizer>> FromJson(std::string_view tokenizer_json,
                                                             std::string_view tokenizer_config_json = {});

  virtual std::vector<int32_t> Encode(std::string_view text, const EncodeOptions& options = {}) const = 0;
  // As Encode, with the bytes each id covers; specials that were added cover [0, 0).
  virtual std::vector<int32_t> EncodeWithOffsets(std::string_view text, const EncodeOptions& options,
                                                 std::vector<TokenOffset>* offsets) const = 0;
  virtual std::string Decode(std::span<const int32_t> ids) const = 0;  // control tokens left out
  virtual std::string_view Piece(int32_t id) const = 0;
  virtual int64_t vocab_size() const = 0;
  virtual bool IsControl(int32_t id) const = 0;
  virtual std::string_view SpecialName(int32_t id) const = 0;          // empty for ordinary tokens
  virtual int32_t SpecialId(std::string_view name) const = 0;          // -1 where unknown
  virtual int32_t bos_id() const = 0;                                  // -1 where the model has none
  virtual std::span<const int32_t> end_ids() const = 0;                // every token that ends a turn or text
};

}  // namespace lectern::tokenizer
