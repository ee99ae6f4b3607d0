#include "decoder/tokenizer/wordpiece.h"

#include <unicode/uchar.h>
#include <unicode/unorm2.h>
#include <unicode/utf16.h>

#include <algorithm>
#include <array>

#include "decoder/tokenizer/unicode.h"
#include "decoder/tokenizer/vocabulary_tokenizer.h"

namespace lectern::tokenizer {
namespace {

// The `tokenizers` library, which made every vocabulary in use, classifies by the tables of Unicode 8. A younger
// character is no mark, no punctuation and no format character there; a few changed their category since.
bool AssignedInUnicode8(char32_t c) {
  UVersionInfo age;
  u_charAge(static_cast<UChar32>(c), age);
  return age[0] != 0 && age[0] <= 8;
}

bool IsRemovedByCleaning(char32_t c) {
  if (c == 0 || c == 0xFFFD) return true;
  if (c == '\t' || c == '\n' || c == '\r') return false;
  const uint32_t mask = U_MASK(u_charType(static_cast<UChar32>(c)));
  if ((mask & (U_GC_CC_MASK | U_GC_CO_MASK)) != 0) return true;
  // U+180E was a blank until Unicode 6.3 and is a format character in both tables.
  return (mask & U_GC_CF_MASK) != 0 && AssignedInUnicode8(c);
}

bool IsNonspacingMark(char32_t c) {
  if (c == 0x1734) return true;                                  // a spacing mark since Unicode 14
  if (c == 0x1885 || c == 0x1886 || c == 0xA9BD || c == 0x111C9) return false;  // letters, a spacing mark, punctuation
  return u_charType(static_cast<UChar32>(c)) == U_NON_SPACING_MARK && AssignedInUnicode8(c);
}

bool IsPunctuation(char32_t c) {
  if (c < 0x80) return (c >= 33 && c <= 47) || (c >= 58 && c <= 64) || (c >= 91 && c <= 96) || (c >= 123 && c <= 126);
  if (c == 0x166D || c == 0x111C9) return true;
  return (U_MASK(u_charType(static_cast<UChar32>(c))) & U_GC_P_MASK) != 0 && AssignedInUnicode8(c);
}

bool IsChinese(char32_t c) {
  return (c >= 0x4E00 && c <= 0x9FFF) || (c >= 0x3400 && c <= 0x4DBF) || (c >= 0x20000 && c <= 0x2A6DF) ||
         (c >= 0x2A700 && c <= 0x2B73F) || (c >= 0x2B740 && c <= 0x2B81F) || (c >= 0x2B920 && c <= 0x2CEAF) ||
         (c >= 0xF900 && c <= 0xFAFF) || (c >= 0x2F800 && c <= 0x2FA1F);
}

// What an ASCII byte is once normalised.
enum class AsciiKind : uint8_t { kLetter, kBlank, kPunctuation, kRemoved };

struct Rules {
  bool clean_text = false, chinese_chars = false, strip_accents = false, lowercase = false;
  std::array<AsciiKind, 128> ascii_kind{};
  std::array<char, 128> ascii_lower{};
};

struct Span {
  int64_t begin = 0, end = 0;
};

class WordPieceTokenizer : public VocabularyTokenizer {
 public:
  static absl::StatusOr<std::unique_ptr<Tokenizer>> Make(const TokenizerJson& parts);

 private:
  friend class Pass;
  void EncodeText(std::string_view part, int64_t begin, bool after_special, const TokenSink& sink) const override;
  std::string Decode(std::span<const int32_t> ids) const override;

  Rules rules_;
  ByteTrie trie_;
  int32_t continuing_root_ = ByteTrie::kNone;  // the node behind "##"
  int32_t unknown_id_ = 0;
  int64_t max_word_chars_ = 100;
  std::vector<bool> continues_;  // [token]: written without a blank before it
};

// One walk over one part of text. Holds the word being built; blanks and punctuation end it.
class Pass {
 public:
  Pass(const WordPieceTokenizer& tokenizer, const TokenSink& sink)
      : tokenizer_(tokenizer), rules_(tokenizer.rules_), sink_(sink) {}

  void Run(std::string_view text, int64_t begin) {
    for (size_t at = 0; at < text.size();) {
      const auto lead = static_cast<uint8_t>(text[at]);
      if (lead < 0x80 && marks_.empty()) {
        Ascii(lead, begin + static_cast<int64_t>(at));
        ++at;
        continue;
      }
      const CodePoint c = NextCodePoint(text, at);
      const auto where = begin + static_cast<int64_t>(at);
      Character(c.value, {where, where + c.bytes});
      at += c.bytes;
    }
    FlushMarks();
    EndWord();
  }

 private:
  void Ascii(uint8_t byte, int64_t at) {
    switch (rules_.ascii_kind[byte]) {
      case AsciiKind::kLetter: Append(rules_.ascii_lower[byte], {at, at + 1}); break;
      case AsciiKind::kBlank: EndWord(); break;
      case AsciiKind::kRemoved: break;
      case AsciiKind::kPunctuation:
        EndWord();
        Append(static_cast<char>(byte), {at, at + 1});
        EndWord();
        break;
    }
  }

  // Normalisation of one source character, in the order of the `tokenizers` library.
  void Character(char32_t c, Span from) {
    if (rules_.clean_text) {
      if (IsRemovedByCleaning(c)) return;
      if (u_isUWhiteSpace(static_cast<UChar32>(c))) c = ' ';
    }
    const bool alone = rules_.chinese_chars && IsChinese(c);
    if (alone) Starter(' ', from);
    if (rules_.strip_accents) Decompose(c, from);
    else Starter(c, from);
    if (alone) Starter(' ', from);
  }

  // Canonical decomposition; combining characters wait until their order is known.
  void Decompose(char32_t c, Span from) {
    std::array<UChar, 32> decomposed;  // the longest canonical decomposition has four characters
    UErrorCode error = U_ZERO_ERROR;
    const UNormalizer2* nfd = unorm2_getNFDInstance(&error);
    int32_t length = -1;
    if (U_SUCCESS(error)) {
      length = unorm2_getDecomposition(nfd, static_cast<UChar32>(c), decomposed.data(), decomposed.size(), &error);
    }
    if (U_FAILURE(error) || length < 0) return Decomposed(c, from);
    for (int32_t i = 0; i < length;) {
      UChar32 next;
      U16_NEXT(decomposed.data(), i, length, next);
      Decomposed(static_cast<char32_t>(next), from);
    }
  }

  void Decomposed(char32_t c, Span from) {
    const uint8_t combining = c < 0x300 ? 0 : u_getCombiningClass(static_cast<UChar32>(c));
    if (combining != 0) {
      marks_.push_back({c, combining, from});
      return;
    }
    Starter(c, from);
  }

  void Starter(char32_t c, Span from) {
    FlushMarks();
    Emit(c, from);
  }

  void FlushMarks() {
    if (marks_.empty()) return;
    if (marks_.size() > 1) {
      std::stable_sort(marks_.begin(), marks_.end(), [](const Mark& a, const Mark& b) { return a.combining < b.combining; });
    }
    for (const Mark& mark : marks_) Emit(mark.value, mark.from);
    marks_.clear();
  }

  // Accents go, letters become small, words end.
  void Emit(char32_t c, Span from) {
    if (rules_.strip_accents && c >= 0x80 && IsNonspacingMark(c)) return;
    if (rules_.lowercase && c == 0x130) {  // the one letter whose small form is two characters
      Place('i', from);
      Place(0x307, from);
      return;
    }
    Place(rules_.lowercase ? static_cast<char32_t>(u_tolower(static_cast<UChar32>(c))) : c, from);
  }

  void Place(char32_t c, Span from) {
    if (u_isUWhiteSpace(static_cast<UChar32>(c))) return EndWord();
    const bool alone = IsPunctuation(c);
    if (alone) EndWord();
    encoded_.clear();
    AppendUtf8(c, &encoded_);
    if (chars_ < tokenizer_.max_word_chars_) {
      for (const char byte : encoded_) {
        word_.push_back(byte);
        from_.push_back(from);
      }
    }
    Count(from);
    if (alone) EndWord();
  }

  void Append(char byte, Span from) {
    if (chars_ < tokenizer_.max_word_chars_) {
      word_.push_back(byte);
      from_.push_back(from);
    }
    Count(from);
  }
  void Count(Span from) {
    if (chars_ == 0) whole_ = from;
    whole_.begin = std::min(whole_.begin, from.begin);
    whole_.end = std::max(whole_.end, from.end);
    ++chars_;
  }

  void EndWord() {
    if (chars_ == 0) return;
    const size_t ids_before = sink_.ids->size();
    if (chars_ > tokenizer_.max_word_chars_ || !LongestPieces()) {
      sink_.ids->resize(ids_before);
      if (sink_.offsets != nullptr) sink_.offsets->resize(ids_before);
      sink_.Put(tokenizer_.unknown_id_, whole_.begin, whole_.end);
    }
    word_.clear();
    from_.clear();
    chars_ = 0;
  }

  bool LongestPieces() {
    const ByteTrie& trie = tokenizer_.trie_;
    for (size_t begin = 0; begin < word_.size();) {
      int32_t node = begin == 0 ? ByteTrie::kRoot : tokenizer_.continuing_root_;
      int32_t id = ByteTrie::kNone;
      size_t end = begin;
      for (size_t at = begin; at < word_.size() && node != ByteTrie::kNone; ++at) {
        node = trie.Step(node, static_cast<uint8_t>(word_[at]));
        if (node != ByteTrie::kNone && trie.value(node) != ByteTrie::kNone) {
          id = trie.value(node);
          end = at + 1;
        }
      }
      if (id == ByteTrie::kNone) return false;
      Span span = from_[begin];
      for (size_t at = begin + 1; at < end; ++at) {
        span = {std::min(span.begin, from_[at].begin), std::max(span.end, from_[at].end)};
      }
      sink_.Put(id, span.begin, span.end);
      begin = end;
    }
    return true;
  }

  struct Mark {
    char32_t value;
    uint8_t combining;
    Span from;
  };
  const WordPieceTokenizer& tokenizer_;
  const Rules& rules_;
  const TokenSink& sink_;
  std::vector<Mark> marks_;
  std::string word_;         // normalised bytes, at most max_word_chars characters
  std::vector<Span> from_;   // [byte of word_]: the source bytes
  std::string encoded_;
  Span whole_;
  int64_t chars_ = 0;        // counts on past max_word_chars
};

absl::StatusOr<std::unique_ptr<Tokenizer>> WordPieceTokenizer::Make(const TokenizerJson& parts) {
  std::unique_ptr<WordPieceTokenizer> out(new WordPieceTokenizer);
  std::vector<TokenKind> kinds(parts.tokens.size(), TokenKind::kNormal);
  for (const AddedToken& added : parts.added) {
    kinds[added.id] = added.special ? TokenKind::kControl : TokenKind::kUserDefined;
    out->specials_.Add(added.text, added.id, added.special);
  }
  out->specials_.set_rule(OverlapRule::kLeftmostLongest);
  const std::string_view prefix = parts.continuing_prefix;
  int32_t unknown = -1;
  for (size_t id = 0; id < parts.tokens.size(); ++id) {
    const std::string_view text = parts.tokens[id];
    const bool continues = !prefix.empty() && text.size() > prefix.size() && text.starts_with(prefix);
    RETURN_IF_ERROR(out->vocabulary_.Add(text, continues ? text.substr(prefix.size()) : text,
                                         text.empty() ? TokenKind::kUnused : kinds[id]));
    out->continues_.push_back(continues);
    if (text.empty()) continue;
    out->trie_.Insert(text, static_cast<int32_t>(id));
    if (text == parts.unknown_token) unknown = static_cast<int32_t>(id);
  }
  if (unknown < 0) return DataLoss("tokenizer.json: the unknown token is not in the vocabulary");
  out->unknown_id_ = unknown;
  out->max_word_chars_ = parts.max_word_chars;
  out->continuing_root_ = ByteTrie::kRoot;
  for (const char c : prefix) {
    if (out->continuing_root_ == ByteTrie::kNone) break;
    out->continuing_root_ = out->trie_.Step(out->continuing_root_, static_cast<uint8_t>(c));
  }
  out->prefix_ids_ = parts.prefix_ids;
  out->suffix_ids_ = parts.suffix_ids;
  RETURN_IF_ERROR(out->vocabulary_.Finish(-1, {}));

  Rules& rules = out->rules_;
  rules.clean_text = parts.clean_text;
  rules.chinese_chars = parts.chinese_chars;
  rules.strip_accents = parts.strip_accents;
  rules.lowercase = parts.lowercase;
  for (char32_t c = 0; c < 128; ++c) {
    rules.ascii_lower[c] = static_cast<char>(rules.lowercase && c >= 'A' && c <= 'Z' ? c + 32 : c);
    rules.ascii_kind[c] = rules.clean_text && IsRemovedByCleaning(c)       ? AsciiKind::kRemoved
                          : u_isUWhiteSpace(static_cast<UChar32>(c)) ? AsciiKind::kBlank
                          : IsPunctuation(c)                               ? AsciiKind::kPunctuation
                                                                           : AsciiKind::kLetter;
  }
  return out;
}

void WordPieceTokenizer::EncodeText(std::string_view part, int64_t begin, bool, const TokenSink& sink) const {
  Pass(*this, sink).Run(part, begin);
}

std::string WordPieceTokenizer::Decode(std::span<const int32_t> ids) const {
  std::string text;
  for (const int32_t id : ids) {
    const std::string_view piece = Piece(id);
    if (piece.empty()) continue;
    if (!text.empty() && !continues_[id]) text.push_back(' ');
    text += piece;
  }
  return text;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Tokenizer>> MakeWordPiece(const TokenizerJson& parts) {
  return WordPieceTokenizer::Make(parts);
}

}  // namespace lectern::tokenizer
