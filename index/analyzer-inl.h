// index/analyzer-inl.h: the loop over words, inlined into whoever consumes them.
//
// ForEachWord gives folded words (lower case, NFKC); StemCache::Stem turns one into its term. Both paths, the table loop
// for ASCII and ICU for the rest, give the same words for ASCII text: the property test compares them.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "index/analyzer.h"
#include "index/stem_cache.h"

namespace lectern::index {

enum class ByteClass : uint8_t { kSeparator, kLetter, kDigit, kApostrophe, kNotAscii };

struct ByteTables {
  std::array<ByteClass, 256> type{};
  std::array<char, 256> lower{};
};
constexpr ByteTables MakeByteTables() {
  ByteTables tables;
  for (int c = 0; c < 256; ++c) {
    const bool upper = c >= 'A' && c <= 'Z';
    tables.lower[c] = static_cast<char>(upper ? c + 32 : c);
    if (upper || (c >= 'a' && c <= 'z')) tables.type[c] = ByteClass::kLetter;
    else if (c >= '0' && c <= '9') tables.type[c] = ByteClass::kDigit;
    else if (c == '\'') tables.type[c] = ByteClass::kApostrophe;
    else if (c >= 128) tables.type[c] = ByteClass::kNotAscii;
  }
  return tables;
}
inline constexpr ByteTables kByteTables = MakeByteTables();

// The 33 words that Lucene's English analyzer drops.
inline bool IsStopWord(std::string_view folded) {
  static constexpr std::array<std::string_view, 33> kWords = {
      "a",  "an", "and", "are", "as", "at",   "be",   "but",   "by",   "for",   "if",    "in",   "into", "is",  "it",   "no",  "not",
      "of", "on", "or",  "such", "that", "the", "their", "then", "there", "these", "they", "this", "to",  "was", "will", "with"};
  return folded.size() <= 5 && std::binary_search(kWords.begin(), kWords.end(), folded);
}

struct Analyzer::Impl {
  std::string name;
  bool joins_apostrophes = true;  // don't, john's; false where the apostrophe ends an article: l'homme
  bool folds_accents = false;     // café = cafe
  bool turkish_case = false;      // I lower-cases to a dotless i, so words with I leave the fast path
  bool drops_stop_words = false;  // the words of IsStopWord are no terms
  std::unique_ptr<StemCache> stems;  // null: no stemming

  struct IcuState;                // normalizers and break iterators, built once
  std::unique_ptr<IcuState> icu;
  Impl();
  ~Impl();

  // Takes the words that begin at text[begin], up to the first ASCII separator after them or more; gives their
  // folded forms to the sink and returns where it stopped (> begin).
  using WordSink = std::function<void(std::string_view folded, int64_t begin, int64_t end)>;
  int64_t ScanThroughIcu(std::string_view text, int64_t begin, const WordSink& sink) const;

  std::string_view TermOf(std::string_view folded, std::string& scratch) const {
    return stems == nullptr ? folded : stems->Stem(folded, scratch);
  }
};

// Curly quotes, dashes and blanks of U+2000..U+203F end a word without sending it through ICU; not the joiners and not
// the apostrophe U+2019.
inline bool IsPlainPunctuation(std::string_view text, int64_t at) {
  const std::string_view next = text.substr(static_cast<size_t>(at), 3);
  return next.size() == 3 && next[0] == '\xE2' && next[1] == '\x80' && next[2] != '\x8C' && next[2] != '\x8D' &&
         next[2] != '\x99' && (static_cast<unsigned char>(next[2]) & 0xC0) == 0x80;
}

// every_word(folded, begin, end) for every word of the text but dropped ones, in order. `folded` lives until the next word.
template <class WordFn>
void ForEachWord(const Analyzer::Impl& impl, std::string_view text, WordFn&& every_word) {
  const auto word = [&](std::string_view folded, int64_t from, int64_t to) {
    if (!impl.drops_stop_words || !IsStopWord(folded)) every_word(folded, from, to);
  };
  const auto* bytes = reinterpret_cast<const unsigned char*>(text.data());
  const int64_t size = static_cast<int64_t>(text.size());
  char folded[kMaxTermBytes + 1];
  int64_t at = 0;
  while (at < size) {
    ByteClass type = kByteTables.type[bytes[at]];
    if (type == ByteClass::kSeparator || type == ByteClass::kApostrophe) {
      ++at;
      continue;
    }
    const int64_t begin = at;
    int64_t length = 0;
    bool plain = type != ByteClass::kNotAscii;
    while (plain && at < size) {
      const unsigned char c = bytes[at];
      type = kByteTables.type[c];
      if (type == ByteClass::kSeparator) break;
      if (type == ByteClass::kApostrophe) {
        // Kept only between letters; before anything that is not ASCII the slow path decides.
        if (at + 1 < size && kByteTables.type[bytes[at + 1]] == ByteClass::kNotAscii) {
          plain = false;
          break;
        }
        if (!impl.joins_apostrophes || kByteTables.type[bytes[at - 1]] != ByteClass::kLetter || at + 1 >= size ||
            kByteTables.type[bytes[at + 1]] != ByteClass::kLetter) {
          break;
        }
      } else if (type == ByteClass::kNotAscii && IsPlainPunctuation(text, at)) {
        break;
      } else if (type == ByteClass::kNotAscii || length == kMaxTermBytes || (impl.turkish_case && c == 'I')) {
        plain = false;
        break;
      }
      if (length == kMaxTermBytes) {
        plain = false;
        break;
      }
      folded[length++] = kByteTables.lower[c];
      ++at;
    }
    if (plain) {
      word(std::string_view(folded, static_cast<size_t>(length)), begin, at);
    } else {
      at = impl.ScanThroughIcu(text, begin, [&word](std::string_view piece, int64_t from, int64_t to) {
        word(piece, from, to);
      });
    }
  }
}

}  // namespace lectern::index
