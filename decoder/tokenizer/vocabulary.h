// decoder/tokenizer/vocabulary.h: tokens, their bytes and what kind each is; the part all tokenizers share.
//
//   Vocabulary vocabulary;
//   RETURN_IF_ERROR(vocabulary.Add("<|im_end|>", TokenKind::kControl));   // id 0, then 1, ...
//   RETURN_IF_ERROR(vocabulary.Finish());
//
// Shapes:  ids are dense from 0. Text is as the model file writes it; Piece is the bytes it stands for.
// Threads: immutable after Finish.
// Errors:  kDataLoss (an id outside the vocabulary), kResourceExhausted (too many tokens or bytes, with the limit).
// Cost:    about 13 bytes a token and its text, twice where piece and text differ.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/status.h"

namespace lectern::tokenizer {

// The numbers GGUF gives them.
enum class TokenKind : uint8_t { kNormal = 1, kUnknown = 2, kControl = 3, kUserDefined = 4, kUnused = 5, kByte = 6 };

constexpr int64_t kMaxTokens = int64_t{1} << 22;          // 16 times the largest vocabulary in use
constexpr int64_t kMaxVocabularyBytes = (1 << 24) - 1;    // ByteTrie numbers its nodes in 24 bits

// True for names such as "<|im_end|>" that end a turn or a text in the models that have them.
bool IsEndName(std::string_view name);

class Vocabulary {
 public:
  // `piece` is what Decode writes; control tokens have none.
  absl::Status Add(std::string_view text, std::string_view piece, TokenKind kind);
  // Decides bos and the end ids: those given, and control tokens with a name known to end a turn or a text.
  absl::Status Finish(int64_t bos_id, std::span<const int64_t> end_ids);

  int64_t size() const { return static_cast<int64_t>(kinds_.size()); }
  bool Contains(int64_t id) const { return id >= 0 && id < size(); }
  std::string_view Piece(int32_t id) const { return Contains(id) ? Slice(pieces_, piece_ends_, id) : std::string_view(); }
  TokenKind Kind(int32_t id) const { return Contains(id) ? kinds_[id] : TokenKind::kUnused; }
  std::string_view SpecialName(int32_t id) const;
  int32_t SpecialId(std::string_view name) const;
  int32_t bos_id() const { return bos_id_; }
  std::span<const int32_t> end_ids() const { return end_ids_; }

 private:
  static std::string_view Slice(const std::string& all, const std::vector<uint32_t>& ends, int32_t id) {
    const uint32_t begin = id == 0 ? 0 : ends[id - 1];
    return std::string_view(all).substr(begin, ends[id] - begin);
  }
  std::string pieces_;
  std::vector<uint32_t> piece_ends_;  // [token]
  std::vector<TokenKind> kinds_;      // [token]
  std::unordered_map<int32_t, std::string> special_names_;  // control, unknown and user-defined tokens
  std::unordered_map<std::string, int32_t> special_ids_;
  std::vector<int32_t> end_ids_;
  int32_t bos_id_ = -1;
};

}  // namespace lectern::tokenizer
