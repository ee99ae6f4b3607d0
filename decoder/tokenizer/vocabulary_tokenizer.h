// decoder/tokenizer/vocabulary_tokenizer.h: what every tokenizer does alike: specials first, then the model's own rule.
//
//   class BpeTokenizer : public VocabularyTokenizer { void EncodeText(...) const override; };
//
// Shapes:  as tokenizer.h.
// Threads: immutable once built.
// Errors:  none after construction.
// Cost:    one pass for specials, then EncodeText over each part between them.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "decoder/tokenizer/special_tokens.h"
#include "decoder/tokenizer/tokenizer.h"
#include "decoder/tokenizer/vocabulary.h"

namespace lectern::tokenizer {

// Where ids go, with the bytes they came from if someone wants them.
struct TokenSink {
  std::vector<int32_t>* ids = nullptr;
  std::vector<TokenOffset>* offsets = nullptr;  // may be null
  void Put(int32_t id, int64_t begin, int64_t end) const {
    ids->push_back(id);
    if (offsets != nullptr) offsets->push_back({begin, end});
  }
};

class VocabularyTokenizer : public Tokenizer {
 public:
  std::vector<int32_t> Encode(std::string_view text, const EncodeOptions& options) const override;
  std::vector<int32_t> EncodeWithOffsets(std::string_view text, const EncodeOptions& options,
                                         std::vector<TokenOffset>* offsets) const override;
  std::string Decode(std::span<const int32_t> ids) const override;
  std::string_view Piece(int32_t id) const override { return vocabulary_.Piece(id); }
  int64_t vocab_size() const override { return vocabulary_.size(); }
  bool IsControl(int32_t id) const override { return vocabulary_.Kind(id) == TokenKind::kControl; }
  std::string_view SpecialName(int32_t id) const override { return vocabulary_.SpecialName(id); }
  int32_t SpecialId(std::string_view name) const override { return vocabulary_.SpecialId(name); }
  int32_t bos_id() const override { return vocabulary_.bos_id(); }
  std::span<const int32_t> end_ids() const override { return vocabulary_.end_ids(); }

 protected:
  // Tokens of one part without specials. `begin` is where the part lies in the whole text; `after_special`
  // is true at the start and behind a token that was recognised whole.
  virtual void EncodeText(std::string_view part, int64_t begin, bool after_special, const TokenSink& sink) const = 0;

  Vocabulary vocabulary_;
  SpecialTokens specials_;
  std::vector<int32_t> prefix_ids_, suffix_ids_;  // what add_special adds
};

}  // namespace lectern::tokenizer
