#include "decoder/chat_prompt.h"

#include <string>

namespace lectern::decoder {

std::vector<int32_t> EncodePieces(const tokenizer::Tokenizer& tokenizer,
                                  std::span<const tokenizer::PromptPiece> pieces) {
  std::vector<int32_t> ids;
  std::string plain;  // since the last control token
  const auto flush = [&] {
    const std::vector<int32_t> run = tokenizer.Encode(plain, {.parse_special = false});
    ids.insert(ids.end(), run.begin(), run.end());
    plain.clear();
  };
  for (const tokenizer::PromptPiece& piece : pieces) {
    if (!piece.is_markup) {
      plain += piece.text;
      continue;
    }
    std::vector<tokenizer::TokenOffset> offsets;
    const std::vector<int32_t> markup = tokenizer.EncodeWithOffsets(piece.text, {.parse_special = true}, &offsets);
    size_t done = 0;  // bytes of the piece already in `plain` or in `ids`
    for (size_t i = 0; i < markup.size(); ++i) {
      if (tokenizer.SpecialName(markup[i]).empty()) continue;
      const auto begin = static_cast<size_t>(offsets[i].begin), end = static_cast<size_t>(offsets[i].end);
      plain.append(piece.text, done, begin - done);
      flush();
      ids.push_back(markup[i]);
      done = end;
    }
    plain.append(piece.text, done, std::string::npos);
  }
  flush();
  // A model that asks for a first token gets it once, whether or not the template writes it.
  const std::vector<int32_t> added = tokenizer.Encode("", {.add_special = true});
  if (tokenizer.bos_id() >= 0 && !added.empty() && added[0] == tokenizer.bos_id() &&
      (ids.empty() || ids[0] != tokenizer.bos_id())) {
    ids.insert(ids.begin(), tokenizer.bos_id());
  }
  return ids;
}

}  // namespace lectern::decoder
