#include "decoder/tokenizer/sentencepiece.h"

#include <algorithm>
#include <array>
#include <bitset>
#include <cmath>

#include "decoder/tokenizer/merge_words.h"
#include "decoder/tokenizer/token_map.h"
#include "decoder/tokenizer/unicode.h"
#include "decoder/tokenizer/vocabulary_tokenizer.h"

namespace lectern::tokenizer {
namespace {

constexpr std::string_view kBlankMark = "\xE2\x96\x81";  // U+2581 in the file, a blank in the text

std::string WithBlanks(std::string_view text) {
  std::string out;
  for (size_t at = 0; at < text.size();) {
    if (text.substr(at).starts_with(kBlankMark)) {
      out.push_back(' ');
      at += kBlankMark.size();
    } else {
      out.push_back(text[at++]);
    }
  }
  return out;
}

// The byte that "<0x0A>" names, or -1.
int ByteNamed(std::string_view text) {
  if (text.size() != 6 || !text.starts_with("<0x") || text[5] != '>') return -1;
  const auto digit = [](char c) { return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1; };
  const int high = digit(text[3]), low = digit(text[4]);
  return high < 0 || low < 0 ? -1 : high * 16 + low;
}

class SentencePieceTokenizer : public VocabularyTokenizer {
 public:
  absl::Status Build(const GgufTokenizerSpec& spec);

 private:
  absl::Status AddToken(std::string_view text, int32_t type);
  absl::Status RankScores(std::span<const double> scores);
  void EncodeText(std::string_view part, int64_t begin, bool after_special, const TokenSink& sink) const override;
  struct Scratch {
    std::vector<Symbol> symbols;
    Merger merger;
  };
  // Tokens of text[first, last), at `offset` from where they lie in the source.
  void EncodePiece(std::string_view text, size_t first, size_t last, Scratch& scratch, const TokenSink& sink) const;

  TokenMap tokens_;
  std::vector<int32_t> mergeable_;
  std::vector<uint32_t> ranks_;                    // [token]: 0 for the best score
  std::array<int32_t, 256> byte_ids_;              // [byte]
  std::vector<std::bitset<256>> together_;         // [byte][byte]: some token holds them side by side
  size_t longest_ = 0;                             // bytes of the longest token that merges make
  bool space_prefix_ = false;
};

absl::Status SentencePieceTokenizer::AddToken(std::string_view text, int32_t type) {
  const auto id = static_cast<int32_t>(vocabulary_.size());
  if (type == 0) type = 1;
  if (type < 1 || type > 6) return DataLoss("token ", id, " has the type ", type, ", known are 0..6");
  const auto kind = static_cast<TokenKind>(type);
  if (kind == TokenKind::kByte) {
    const int byte = ByteNamed(text);
    if (byte < 0 || byte_ids_[byte] >= 0) return DataLoss("token ", id, " must name one byte as <0x00>, once each");
    byte_ids_[byte] = id;
    const char piece = static_cast<char>(byte);
    return vocabulary_.Add(text, std::string_view(&piece, 1), kind);
  }
  if (kind == TokenKind::kControl || kind == TokenKind::kUserDefined || kind == TokenKind::kUnknown) {
    // Gemma has "</s>" as a tag of HTML. llama.cpp, whose ids we keep to, takes any token of such a name for control.
    specials_.Add(text, id, /*control=*/kind != TokenKind::kUserDefined || IsEndName(text));
  }
  if (kind != TokenKind::kControl && kind != TokenKind::kUnknown && !text.empty()) mergeable_.push_back(id);
  // A token that is recognised whole stands for its text as it is.
  return vocabulary_.Add(text, kind == TokenKind::kNormal ? WithBlanks(text) : std::string(text), kind);
}

// Scores to ranks: equal scores share one, so that the leftmost pair goes first.
absl::Status SentencePieceTokenizer::RankScores(std::span<const double> scores) {
  std::vector<double> sorted(scores.begin(), scores.end());
  for (const double score : sorted) {
    if (!std::isfinite(score)) return DataLoss("a token's score must be finite");
  }
  std::sort(sorted.begin(), sorted.end(), std::greater<>());
  sorted.erase(std::unique(sorted.begin(), sorted.end()), sorted.end());
  ranks_.resize(scores.size());
  for (size_t id = 0; id < scores.size(); ++id) {
    ranks_[id] = static_cast<uint32_t>(std::lower_bound(sorted.begin(), sorted.end(), scores[id], std::greater<>()) - sorted.begin());
  }
  return absl::OkStatus();
}

absl::Status SentencePieceTokenizer::Build(const GgufTokenizerSpec& spec) {
  const auto size = static_cast<int64_t>(spec.tokens.size());
  if (spec.scores.size() != spec.tokens.size()) {
    return DataLoss("a SentencePiece model needs a score a token: ", size, " tokens, ", spec.scores.size(), " scores");
  }
  byte_ids_.fill(-1);
  for (size_t id = 0; id < spec.tokens.size(); ++id) {
    RETURN_IF_ERROR(AddToken(spec.tokens[id], spec.token_types.empty() ? 1 : spec.token_types[id]));
  }
  for (int byte = 0; byte < 256; ++byte) {
    if (byte_ids_[byte] < 0) return DataLoss("a SentencePiece vocabulary without a token for the byte ", byte, " cannot spell every text");
  }
  RETURN_IF_ERROR(RankScores(spec.scores));
  tokens_.Reserve(static_cast<int64_t>(mergeable_.size()));
  together_.resize(256);
  for (const int32_t id : mergeable_) {
    const std::string_view piece = vocabulary_.Piece(id);
    if (const int32_t other = tokens_.Insert(vocabulary_, id); other >= 0) {
      // "  " may be there as text and as two marks; what is recognised whole is taken before any merge.
      if (vocabulary_.Kind(other) == TokenKind::kUserDefined || vocabulary_.Kind(id) == TokenKind::kUserDefined) continue;
      return DataLoss("tokens ", other, " and ", id, " stand for the same text");
    }
    longest_ = std::max(longest_, piece.size());
    for (size_t i = 1; i < piece.size(); ++i) together_[static_cast<uint8_t>(piece[i - 1])].set(static_cast<uint8_t>(piece[i]));
  }
  mergeable_ = {};
  space_prefix_ = spec.add_space_prefix;
  if ((spec.add_bos && !vocabulary_.Contains(spec.bos_id)) || (spec.add_eos && !vocabulary_.Contains(spec.eos_id))) {
    return DataLoss("the tokenizer adds BOS ", spec.bos_id, " or EOS ", spec.eos_id, ", the vocabulary has ", size, " tokens");
  }
  if (spec.add_bos) prefix_ids_ = {static_cast<int32_t>(spec.bos_id)};
  if (spec.add_eos) suffix_ids_ = {static_cast<int32_t>(spec.eos_id)};
  const std::array<int64_t, 2> ends = {spec.eos_id, spec.eot_id};
  return vocabulary_.Finish(spec.bos_id, ends);
}

void SentencePieceTokenizer::EncodePiece(std::string_view text, size_t first, size_t last, Scratch& scratch,
                                         const TokenSink& sink) const {
  std::vector<Symbol>& symbols = scratch.symbols;
  const std::string_view piece = text.substr(first, last - first);
  symbols.clear();
  for (size_t at = 0; at < piece.size();) {
    const size_t end = std::min(piece.size(), at + Utf8Length(piece[at]));
    symbols.push_back({-1, static_cast<uint32_t>(at), static_cast<uint32_t>(end)});
    at = end;
  }
  scratch.merger.Run(symbols, [&](const Symbol& a, const Symbol& b) -> Merge {
    if (b.end - a.begin > longest_) return {};
    const int32_t id = tokens_.Find(vocabulary_, piece.substr(a.begin, b.end - a.begin));
    return id < 0 ? Merge{} : Merge{ranks_[id], id};
  });
  for (const Symbol& symbol : symbols) {
    const std::string_view bytes = piece.substr(symbol.begin, symbol.end - symbol.begin);
    const int32_t id = symbol.id >= 0 ? symbol.id : tokens_.Find(vocabulary_, bytes);
    if (id >= 0) {
      sink.Put(id, static_cast<int64_t>(first + symbol.begin), static_cast<int64_t>(first + symbol.end));
      continue;
    }
    // A character that is no token: its bytes. A blank stands for the mark, which has three.
    const std::string_view spelled = bytes == " " ? kBlankMark : bytes;
    for (size_t i = 0; i < spelled.size(); ++i) {
      const size_t at = first + symbol.begin + std::min(i, bytes.size() - 1);
      sink.Put(byte_ids_[static_cast<uint8_t>(spelled[i])], static_cast<int64_t>(at), static_cast<int64_t>(at) + 1);
    }
  }
}

void SentencePieceTokenizer::EncodeText(std::string_view part, int64_t begin, bool after_special, const TokenSink& sink) const {
  // Most text can be read where it lies. A mark in it, or a blank put before it, needs a copy.
  const bool prefix = space_prefix_ && after_special;
  const bool marks = part.find(kBlankMark) != std::string_view::npos;
  std::string copy;
  std::vector<int64_t> source;  // [byte of copy, and one past]: where it was in `part`
  std::string_view text = part;
  if (prefix || marks) {
    if (prefix) {
      copy.push_back(' ');
      source.push_back(0);
    }
    for (size_t at = 0; at < part.size();) {
      const bool mark = part.substr(at).starts_with(kBlankMark);
      copy.push_back(mark ? ' ' : part[at]);
      source.push_back(static_cast<int64_t>(at));
      at += mark ? kBlankMark.size() : 1;
    }
    source.push_back(static_cast<int64_t>(part.size()));
    text = copy;
  }

  const size_t first_offset = sink.offsets != nullptr ? sink.offsets->size() : 0;
  Scratch scratch;
  size_t first = 0;
  for (size_t at = 1; at <= text.size(); ++at) {
    if (at < text.size()) {
      const auto here = static_cast<uint8_t>(text[at]);
      const bool inside_character = (here & 0xC0) == 0x80;
      if (inside_character || together_[static_cast<uint8_t>(text[at - 1])].test(here)) continue;
      // A stray lead byte swallows what follows it, as one character: never cut behind a byte past ASCII
      // unless a whole character ends there.
      if (static_cast<uint8_t>(text[at - 1]) >= 0x80) {
        size_t lead = at - 1;
        while (lead > first && (static_cast<uint8_t>(text[lead]) & 0xC0) == 0x80) --lead;
        if (lead + Utf8Length(text[lead]) != at) continue;
      }
    }
    EncodePiece(text, first, at, scratch, sink);
    first = at;
  }
  if (sink.offsets == nullptr) return;
  for (size_t i = first_offset; i < sink.offsets->size(); ++i) {
    TokenOffset& offset = (*sink.offsets)[i];
    if (!source.empty()) offset = {source[offset.begin], source[offset.end]};
    offset = {offset.begin + begin, offset.end + begin};
  }
}

}  // namespace

absl::StatusOr<std::unique_ptr<Tokenizer>> MakeSentencePiece(const GgufTokenizerSpec& spec) {
  auto out = std::make_unique<SentencePieceTokenizer>();
  RETURN_IF_ERROR(out->Build(spec));
  return out;
}

}  // namespace lectern::tokenizer
