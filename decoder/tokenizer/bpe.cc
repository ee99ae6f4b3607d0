#include "decoder/tokenizer/bpe.h"

#include <unicode/bytestream.h>
#include <unicode/edits.h>
#include <unicode/normalizer2.h>

#include <array>
#include <optional>

#include "decoder/tokenizer/merge_words.h"
#include "decoder/tokenizer/pair_table.h"
#include "decoder/tokenizer/split.h"
#include "decoder/tokenizer/token_map.h"
#include "decoder/tokenizer/unicode.h"
#include "decoder/tokenizer/vocabulary_tokenizer.h"

namespace lectern::tokenizer {
namespace {

std::string Shown(std::string_view text) {
  std::string out;
  for (const char c : text.substr(0, 48)) out.push_back(c >= 0x20 && c < 0x7f ? c : '?');
  return out;
}

// GPT-2 writes a byte as a printable character: itself, or U+0100 and up for those that do not print.
class ByteAlphabet {
 public:
  ByteAlphabet() {
    bytes_.fill(-1);
    int next = 256;
    for (int byte = 0; byte < 256; ++byte) {
      const bool prints = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
      bytes_[prints ? byte : next++] = static_cast<int16_t>(byte);
    }
  }
  // The bytes that `text` spells; nothing where a character is outside the alphabet.
  std::optional<std::string> Bytes(std::string_view text) const {
    std::string out;
    for (size_t at = 0; at < text.size();) {
      const CodePoint c = NextCodePoint(text, at);
      if (!c.valid || c.value >= bytes_.size() || bytes_[c.value] < 0) return std::nullopt;
      out.push_back(static_cast<char>(bytes_[c.value]));
      at += c.bytes;
    }
    return out;
  }

 private:
  std::array<int16_t, 324> bytes_;  // 256 + the 68 bytes that do not print
};

class BpeTokenizer : public VocabularyTokenizer {
 public:
  struct Settings {
    SplitRule rule = SplitRule::kGpt2;
    bool nfc = false;
    bool ignore_merges = false;  // a word that is a token is that token, whatever its merges say
    OverlapRule overlap = OverlapRule::kLongestFirst;
    int64_t bos_id = -1;
    std::vector<int64_t> end_ids;
    std::vector<int32_t> prefix_ids, suffix_ids;
  };
  explicit BpeTokenizer(Settings settings) : settings_(std::move(settings)) {}

  absl::Status AddToken(std::string_view text, TokenKind kind);
  absl::Status FinishTokens();
  absl::Status AddMerge(std::string_view left, std::string_view right);
  void ReserveMerges(size_t count) { merges_ = PairTable(count); }

 private:
  struct Scratch {
    std::vector<Symbol> symbols;
    Merger merger;
  };
  void EncodeText(std::string_view part, int64_t begin, bool after_special, const TokenSink& sink) const override;
  void EncodeNormalised(std::string_view part, int64_t begin, const TokenSink& sink) const;
  void EncodeWord(std::string_view word, int64_t begin, Scratch& scratch, const TokenSink& sink) const;

  ByteAlphabet alphabet_;
  Settings settings_;
  TokenMap tokens_;                     // ordinary tokens by their bytes
  std::vector<int32_t> ordinary_;       // waits for FinishTokens
  std::array<int32_t, 256> byte_ids_;   // [byte]; -1 where the vocabulary cannot spell it
  PairTable merges_;
  uint32_t next_rank_ = 0;
};

absl::Status BpeTokenizer::AddToken(std::string_view text, TokenKind kind) {
  const auto id = static_cast<int32_t>(vocabulary_.size());
  const bool special = kind == TokenKind::kControl || kind == TokenKind::kUserDefined || kind == TokenKind::kUnknown;
  if (special) specials_.Add(text, id, /*control=*/kind != TokenKind::kUserDefined || IsEndName(text));
  if (special || kind == TokenKind::kUnused) return vocabulary_.Add(text, text, kind);
  const std::optional<std::string> bytes = alphabet_.Bytes(text);
  if (bytes.has_value() && !bytes->empty()) ordinary_.push_back(id);
  return vocabulary_.Add(text, bytes.has_value() ? std::string_view(*bytes) : text, kind);
}

absl::Status BpeTokenizer::FinishTokens() {
  tokens_.Reserve(static_cast<int64_t>(ordinary_.size()));
  for (const int32_t id : ordinary_) {
    if (const int32_t other = tokens_.Insert(vocabulary_, id); other >= 0) {
      return DataLoss("tokens ", other, " and ", id, " stand for the same bytes '", Shown(vocabulary_.Piece(id)), "'");
    }
  }
  ordinary_ = {};
  for (int byte = 0; byte < 256; ++byte) {
    const char text = static_cast<char>(byte);
    byte_ids_[byte] = tokens_.Find(vocabulary_, std::string_view(&text, 1));
  }
  specials_.set_rule(settings_.overlap);
  prefix_ids_ = settings_.prefix_ids;
  suffix_ids_ = settings_.suffix_ids;
  return vocabulary_.Finish(settings_.bos_id, settings_.end_ids);
}

absl::Status BpeTokenizer::AddMerge(std::string_view left, std::string_view right) {
  const std::optional<std::string> left_bytes = alphabet_.Bytes(left), right_bytes = alphabet_.Bytes(right);
  if (!left_bytes.has_value() || !right_bytes.has_value()) {
    return DataLoss("merge ", next_rank_, " holds a character outside the byte alphabet");
  }
  const int32_t left_id = tokens_.Find(vocabulary_, *left_bytes), right_id = tokens_.Find(vocabulary_, *right_bytes);
  const int32_t result = tokens_.Find(vocabulary_, *left_bytes + *right_bytes);
  if (left_id < 0 || right_id < 0 || result < 0) {
    return DataLoss("merge ", next_rank_, " of '", Shown(left), "' and '", Shown(right), "' names what is no token");
  }
  if (!merges_.Insert(left_id, right_id, {next_rank_, result})) {
    return DataLoss("merge ", next_rank_, " of '", Shown(left), "' and '", Shown(right), "' is there twice");
  }
  ++next_rank_;
  return absl::OkStatus();
}

void BpeTokenizer::EncodeWord(std::string_view word, int64_t begin, Scratch& scratch, const TokenSink& sink) const {
  if (word.size() == 1) {
    const int32_t id = byte_ids_[static_cast<uint8_t>(word[0])];
    if (id >= 0) sink.Put(id, begin, begin + 1);
    return;
  }
  if (settings_.ignore_merges) {
    if (const int32_t id = tokens_.Find(vocabulary_, word); id >= 0) {
      return sink.Put(id, begin, begin + static_cast<int64_t>(word.size()));
    }
  }
  scratch.symbols.resize(word.size());
  for (uint32_t i = 0; i < word.size(); ++i) scratch.symbols[i] = {byte_ids_[static_cast<uint8_t>(word[i])], i, i + 1};
  scratch.merger.Run(scratch.symbols, [this](const Symbol& a, const Symbol& b) { return merges_.Find(a.id, b.id); });
  for (const Symbol& symbol : scratch.symbols) {
    if (symbol.id >= 0) sink.Put(symbol.id, begin + symbol.begin, begin + symbol.end);
  }
}

void BpeTokenizer::EncodeNormalised(std::string_view part, int64_t begin, const TokenSink& sink) const {
  Scratch scratch;
  for (size_t at = 0; at < part.size();) {
    const size_t end = WordEnd(settings_.rule, part, at);
    EncodeWord(part.substr(at, end - at), begin + static_cast<int64_t>(at), scratch, sink);
    at = end;
  }
}

bool IsAscii(std::string_view text) {
  for (const char c : text) {
    if (static_cast<uint8_t>(c) >= 0x80) return false;
  }
  return true;
}

void BpeTokenizer::EncodeText(std::string_view part, int64_t begin, bool, const TokenSink& sink) const {
  if (!settings_.nfc || IsAscii(part)) return EncodeNormalised(part, begin, sink);
  UErrorCode error = U_ZERO_ERROR;
  const icu::Normalizer2* nfc = icu::Normalizer2::getNFCInstance(error);
  // Bytes that are no UTF-8 stay as they are; what lies between is normalised run by run into one text.
  std::string normal;
  std::vector<TokenOffset> source;  // [byte of normal]: only where offsets are asked for
  for (size_t at = 0; at < part.size() && U_SUCCESS(error);) {
    size_t end = at;
    while (end < part.size()) {
      const CodePoint c = NextCodePoint(part, end);
      if (!c.valid) break;
      end += c.bytes;
    }
    if (end == at) {
      normal.push_back(part[at]);
      if (sink.offsets != nullptr) source.push_back({begin + static_cast<int64_t>(at), begin + static_cast<int64_t>(at) + 1});
      ++at;
      continue;
    }
    const size_t before = normal.size();
    icu::Edits edits;
    icu::StringByteSink<std::string> out(&normal);
    nfc->normalizeUTF8(0, icu::StringPiece(part.data() + at, static_cast<int32_t>(end - at)), out,
                       sink.offsets != nullptr ? &edits : nullptr, error);
    if (sink.offsets != nullptr && U_SUCCESS(error)) {
      // A character that normalisation changed is covered whole by its first byte; the rest covers nothing.
      icu::Edits::Iterator it = edits.getFineIterator();
      for (size_t i = before; i < normal.size(); ++i) {
        const auto from = [&](size_t index) {
          const int32_t found = it.sourceIndexFromDestinationIndex(static_cast<int32_t>(index - before), error);
          return begin + static_cast<int64_t>(at) + found;
        };
        const int64_t first = from(i);
        source.push_back({first, from(i + 1)});
      }
    }
    at = end;
  }
  if (U_FAILURE(error)) return EncodeNormalised(part, begin, sink);  // ICU without its data: as it stands
  if (sink.offsets == nullptr) return EncodeNormalised(normal, begin, sink);
  const size_t first = sink.offsets->size();
  EncodeNormalised(normal, 0, sink);
  for (size_t i = first; i < sink.offsets->size(); ++i) {
    TokenOffset& offset = (*sink.offsets)[i];
    offset = {source[offset.begin].begin, source[offset.end - 1].end};
  }
}

absl::StatusOr<TokenKind> KindOf(int32_t number, size_t id) {
  if (number == 0) return TokenKind::kNormal;
  if (number < 0 || number > 6) return DataLoss("token ", id, " has the type ", number, ", known are 0..6");
  return static_cast<TokenKind>(number);
}

}  // namespace

absl::StatusOr<std::unique_ptr<Tokenizer>> MakeBpe(const GgufTokenizerSpec& spec) {
  BpeTokenizer::Settings settings;
  ASSIGN_OR_RETURN(settings.rule, SplitRuleNamed(spec.pre));
  settings.ignore_merges = settings.rule == SplitRule::kLlama3;  // as that family was trained
  settings.bos_id = spec.bos_id;
  settings.end_ids = {spec.eos_id, spec.eot_id};
  const auto vocabulary = static_cast<int64_t>(spec.tokens.size());
  if ((spec.add_bos && (spec.bos_id < 0 || spec.bos_id >= vocabulary)) ||
      (spec.add_eos && (spec.eos_id < 0 || spec.eos_id >= vocabulary))) {
    return DataLoss("the tokenizer adds BOS ", spec.bos_id, " or EOS ", spec.eos_id, ", the vocabulary has ", vocabulary, " tokens");
  }
  if (spec.add_bos) settings.prefix_ids = {static_cast<int32_t>(spec.bos_id)};
  if (spec.add_eos) settings.suffix_ids = {static_cast<int32_t>(spec.eos_id)};

  auto out = std::make_unique<BpeTokenizer>(std::move(settings));
  for (size_t id = 0; id < spec.tokens.size(); ++id) {
    ASSIGN_OR_RETURN(const TokenKind kind, KindOf(spec.token_types.empty() ? 1 : spec.token_types[id], id));
    RETURN_IF_ERROR(out->AddToken(spec.tokens[id], kind));
  }
  RETURN_IF_ERROR(out->FinishTokens());
  out->ReserveMerges(spec.merges.size());
  for (const std::string& merge : spec.merges) {
    const size_t blank = merge.find(' ', 1);
    if (blank == std::string::npos) return DataLoss("a merge must be two tokens with a blank between, got '", Shown(merge), "'");
    RETURN_IF_ERROR(out->AddMerge(std::string_view(merge).substr(0, blank), std::string_view(merge).substr(blank + 1)));
  }
  return out;
}

absl::StatusOr<std::unique_ptr<Tokenizer>> MakeBpe(const TokenizerJson& parts, const TokenizerConfig& config) {
  BpeTokenizer::Settings settings;
  ASSIGN_OR_RETURN(settings.rule, SplitRuleNamed(parts.pre));
  settings.nfc = parts.nfc;
  settings.ignore_merges = parts.ignore_merges;
  settings.overlap = OverlapRule::kLeftmostLongest;
  settings.prefix_ids = parts.prefix_ids;
  settings.suffix_ids = parts.suffix_ids;
  std::vector<TokenKind> kinds(parts.tokens.size(), TokenKind::kNormal);
  for (const AddedToken& added : parts.added) {
    kinds[added.id] = added.special ? TokenKind::kControl : TokenKind::kUserDefined;
    if (added.lstrip || added.rstrip) return NotSupported("tokenizer.json: lstrip or rstrip of an added token");
    if (!config.bos_token.empty() && added.text == config.bos_token) settings.bos_id = added.id;
    if (!config.eos_token.empty() && added.text == config.eos_token) settings.end_ids.push_back(added.id);
  }
  if (settings.bos_id < 0 && !parts.prefix_ids.empty()) settings.bos_id = parts.prefix_ids[0];
  auto out = std::make_unique<BpeTokenizer>(std::move(settings));
  for (size_t id = 0; id < parts.tokens.size(); ++id) {
    RETURN_IF_ERROR(out->AddToken(parts.tokens[id], parts.tokens[id].empty() ? TokenKind::kUnused : kinds[id]));
  }
  RETURN_IF_ERROR(out->FinishTokens());
  out->ReserveMerges(parts.merges.size());
  for (const auto& [left, right] : parts.merges) RETURN_IF_ERROR(out->AddMerge(left, right));
  return out;
}

}  // namespace lectern::tokenizer
