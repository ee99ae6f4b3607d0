#include "decoder/tokenizer/vocabulary.h"

#include <algorithm>

namespace lectern::tokenizer {
namespace {

// Control tokens of these names end a turn or a text, whatever id a file calls its EOS.
constexpr std::string_view kEndNames[] = {
    "<|im_end|>", "<|endoftext|>", "<|eot_id|>", "<|end_of_text|>", "<|eom_id|>", "<end_of_turn>", "<eos>", "</s>",
};

}  // namespace

bool IsEndName(std::string_view name) {
  return std::find(std::begin(kEndNames), std::end(kEndNames), name) != std::end(kEndNames);
}

absl::Status Vocabulary::Add(std::string_view text, std::string_view piece, TokenKind kind) {
  if (size() == kMaxTokens) return ResourceExhausted("a vocabulary has at most ", kMaxTokens, " tokens");
  if (pieces_.size() + piece.size() > static_cast<size_t>(kMaxVocabularyBytes)) {
    return ResourceExhausted("the tokens of a vocabulary have at most ", kMaxVocabularyBytes, " bytes together");
  }
  const auto id = static_cast<int32_t>(size());
  if (kind == TokenKind::kControl || kind == TokenKind::kUserDefined || kind == TokenKind::kUnknown) {
    special_names_.emplace(id, text);
    special_ids_.emplace(text, id);
  }
  if (kind != TokenKind::kControl) pieces_ += piece;
  piece_ends_.push_back(static_cast<uint32_t>(pieces_.size()));
  kinds_.push_back(kind);
  return absl::OkStatus();
}

absl::Status Vocabulary::Finish(int64_t bos_id, std::span<const int64_t> end_ids) {
  if (bos_id >= 0) {
    if (!Contains(bos_id)) return DataLoss("the BOS id is ", bos_id, ", the vocabulary has ", size(), " tokens");
    bos_id_ = static_cast<int32_t>(bos_id);
  }
  const auto add_end = [&](int32_t id) {
    if (std::find(end_ids_.begin(), end_ids_.end(), id) == end_ids_.end()) end_ids_.push_back(id);
  };
  for (const int64_t id : end_ids) {
    if (id < 0) continue;
    if (!Contains(id)) return DataLoss("an end-of-text id is ", id, ", the vocabulary has ", size(), " tokens");
    add_end(static_cast<int32_t>(id));
  }
  for (const std::string_view name : kEndNames) {
    const int32_t id = SpecialId(name);
    if (id >= 0 && Kind(id) == TokenKind::kControl) add_end(id);
  }
  return absl::OkStatus();
}

std::string_view Vocabulary::SpecialName(int32_t id) const {
  const auto it = special_names_.find(id);
  return it == special_names_.end() ? std::string_view() : it->second;
}

int32_t Vocabulary::SpecialId(std::string_view name) const {
  const auto it = special_ids_.find(std::string(name));
  return it == special_ids_.end() ? -1 : it->second;
}

}  // namespace lectern::tokenizer
