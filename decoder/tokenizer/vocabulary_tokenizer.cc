#include "decoder/tokenizer/vocabulary_tokenizer.h"

namespace lectern::tokenizer {

std::vector<int32_t> VocabularyTokenizer::Encode(std::string_view text, const EncodeOptions& options) const {
  return EncodeWithOffsets(text, options, nullptr);
}

std::vector<int32_t> VocabularyTokenizer::EncodeWithOffsets(std::string_view text, const EncodeOptions& options,
                                                            std::vector<TokenOffset>* offsets) const {
  std::vector<int32_t> ids;
  ids.reserve(text.size() / 4 + 8);  // English has about four bytes a token
  if (offsets != nullptr) offsets->clear();
  const TokenSink sink{&ids, offsets};
  if (options.add_special) {
    for (const int32_t id : prefix_ids_) sink.Put(id, 0, 0);
  }
  bool after_special = true;
  specials_.Split(text, options.parse_special, [&](std::string_view part, int32_t id) {
    const int64_t begin = part.data() - text.data();
    if (id != SpecialTokens::kNone) {
      sink.Put(id, begin, begin + static_cast<int64_t>(part.size()));
    } else {
      EncodeText(part, begin, after_special, sink);
    }
    after_special = id != SpecialTokens::kNone;
  });
  if (options.add_special) {
    for (const int32_t id : suffix_ids_) sink.Put(id, 0, 0);
  }
  return ids;
}

std::string VocabularyTokenizer::Decode(std::span<const int32_t> ids) const {
  std::string text;
  for (const int32_t id : ids) text += vocabulary_.Piece(id);
  return text;
}

}  // namespace lectern::tokenizer
