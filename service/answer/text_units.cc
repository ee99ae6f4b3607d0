#include "service/answer/text_units.h"

#include <libstemmer.h>
#include <unicode/brkiter.h>
#include <unicode/locid.h>
#include <unicode/uchar.h>
#include <unicode/utext.h>
#include <unicode/utf8.h>

#include <algorithm>
#include <array>
#include <memory>
#include <unordered_set>
#include <utility>

#include "absl/strings/ascii.h"

namespace lectern::service::answer {
namespace {

using WordSet = std::unordered_set<std::string_view>;

const WordSet& StopWords() {
  static const WordSet words = {
      "a", "an", "the", "of", "in", "on", "at", "to", "for", "by", "with", "from", "as", "is", "are", "was", "were", "be",
      "been", "being", "do", "does", "did", "done", "has", "have", "had", "having", "and", "or", "not", "no", "that", "this",
      "these", "those", "it", "its", "he", "she", "they", "them", "his", "her", "their", "which", "who", "whom", "whose",
      "what", "when", "where", "why", "how", "many", "much", "long", "old", "often", "far", "there", "than", "then", "into",
      "about", "between", "during", "after", "before", "over", "under", "also", "can", "could", "would", "should", "will",
      "may", "might", "must", "because", "although", "though", "however", "since", "therefore", "thus", "according", "if",
      "so", "such", "out", "up", "down", "off", "while", "name", "called", "type", "kind"};
  return words;
}

const WordSet& NumberWords() {
  static const WordSet words = {
      "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve", "thirteen",
      "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty", "thirty", "forty", "fifty", "sixty",
      "seventy", "eighty", "ninety", "hundred", "thousand", "million", "billion", "trillion", "half", "dozen", "first",
      "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth", "both", "none", "twice"};
  return words;
}

const WordSet& Negations() {
  static const WordSet words = {"not", "never", "no", "nor", "neither", "without", "cannot", "none", "nobody", "nothing",
                                "hardly", "no-one", "nowhere"};
  return words;
}

// The words after which a full stop does not end a sentence, beside single capitals ("J. Hale").
const WordSet& Abbreviations() {
  static const WordSet words = {"mr", "mrs", "ms", "dr", "st", "prof", "gen", "col", "lt", "capt", "sgt", "rev", "sr", "jr",
                                "no", "nos", "vs", "cf", "ca", "c", "approx", "fig", "vol", "pp", "p", "ed", "eds", "et",
                                "al", "e.g", "i.e", "etc", "inc", "ltd", "co", "corp", "mt", "ft", "jan", "feb", "mar",
                                "apr", "aug", "sept", "sep", "oct", "nov", "dec", "u.s", "u.k", "op", "b", "d", "r", "art"};
  return words;
}

struct Character {
  UChar32 code = 0;
  int64_t begin = 0, end = 0;
};

Character Next(std::string_view text, int64_t at) {
  int32_t next = 0;
  UChar32 code;
  const auto* bytes = reinterpret_cast<const uint8_t*>(text.data()) + at;
  const auto left = static_cast<int32_t>(std::min<int64_t>(static_cast<int64_t>(text.size()) - at, 4));
  U8_NEXT(bytes, next, left, code);
  if (code < 0) {  // an invalid byte is one character of its own
    next = 1;
    code = 0xFFFD;
  }
  return {code, at, at + next};
}

Character Previous(std::string_view text, int64_t at) {
  int64_t begin = at - 1;
  for (int back = 1; back <= 4 && at - back >= 0; ++back) {
    const Character c = Next(text, at - back);
    if (c.end == at) begin = at - back;
    if ((static_cast<uint8_t>(text[at - back]) & 0xC0) != 0x80) break;
  }
  return Next(text, begin);
}

bool IsLetter(UChar32 c) {
  if (c < 0x80) return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
  if (c == 0xFFFD) return true;  // keep damaged bytes inside words rather than split there
  const int8_t type = u_charType(c);
  return u_isalnum(c) || type == U_NON_SPACING_MARK || type == U_COMBINING_SPACING_MARK || type == U_ENCLOSING_MARK;
}

// Scripts that write no blanks between words.
bool IsUnspaced(UChar32 c) {
  if (c < 0x0E00) return false;
  return (c >= 0x0E00 && c <= 0x0EFF) || (c >= 0x1000 && c <= 0x109F) || (c >= 0x1780 && c <= 0x17FF) ||
         (c >= 0x3040 && c <= 0x30FF) || (c >= 0x3400 && c <= 0x4DBF) || (c >= 0x4E00 && c <= 0x9FFF) ||
         (c >= 0xF900 && c <= 0xFAFF) || (c >= 0x20000 && c <= 0x2FFFF);
}

bool IsJoiner(UChar32 c) { return c == '.' || c == ',' || c == ':' || c == '\'' || c == '-' || c == 0x2019 || c == '_'; }

std::string Lower(std::string_view text) {
  std::string out;
  for (int64_t at = 0; at < static_cast<int64_t>(text.size());) {
    const Character c = Next(text, at);
    if (c.code < 0x80) {
      out += static_cast<char>(c.code >= 'A' && c.code <= 'Z' ? c.code + 32 : c.code);
    } else if (c.code == 0x2019) {
      out += '\'';
    } else if (c.code == 0xFFFD) {
      out.append(text.substr(c.begin, c.end - c.begin));
    } else {
      std::array<char, 4> bytes;
      int32_t n = 0;
      U8_APPEND_UNSAFE(bytes.data(), n, u_tolower(c.code));
      out.append(bytes.data(), n);
    }
    at = c.end;
  }
  return out;
}

struct StemmerDeleter {
  void operator()(sb_stemmer* stemmer) const { sb_stemmer_delete(stemmer); }
};

std::string Stem(const std::string& lower) {
  thread_local std::unique_ptr<sb_stemmer, StemmerDeleter> stemmer(sb_stemmer_new("english", "UTF_8"));
  const sb_symbol* out = sb_stemmer_stem(stemmer.get(), reinterpret_cast<const sb_symbol*>(lower.data()),
                                         static_cast<int>(lower.size()));
  return {reinterpret_cast<const char*>(out), static_cast<size_t>(sb_stemmer_length(stemmer.get()))};
}

Word MakeWord(std::string_view text, int64_t begin, int64_t end) {
  Word word;
  word.at = {begin, end};
  word.lower = Lower(text.substr(begin, end - begin));
  const bool contracted = word.lower.ends_with("n't");
  if (word.lower.ends_with("'s")) word.lower.resize(word.lower.size() - 2);
  word.stem = Stem(word.lower);
  word.capital = u_isupper(Next(text, begin).code);
  word.number = NumberWords().contains(word.lower);
  for (int64_t at = begin; at < end && !word.number;) {
    const Character c = Next(text, at);
    word.number = u_isdigit(c.code);
    at = c.end;
  }
  word.negation = contracted || Negations().contains(word.lower);
  word.stop = word.negation || (StopWords().contains(word.lower) && !word.number);
  return word;
}

// A full stop after these does not end a sentence.
bool EndsInAbbreviation(std::string_view sentence) {
  if (!sentence.ends_with('.')) return false;
  sentence.remove_suffix(1);
  size_t begin = sentence.size();
  while (begin > 0 && (IsLetter(static_cast<uint8_t>(sentence[begin - 1])) || sentence[begin - 1] == '.')) --begin;
  const std::string_view last = sentence.substr(begin);
  if (last.size() == 1 && last[0] >= 'A' && last[0] <= 'Z') return true;
  return Abbreviations().contains(Lower(last));
}

bool IsBlank(UChar32 c) { return c == ' ' || (c >= '\t' && c <= '\r') || c == 0xA0 || c == 0x3000 || c == 0x2028 || c == 0x2029; }

ByteRange Trim(std::string_view text, ByteRange range) {
  while (range.begin < range.end) {
    const Character c = Next(text, range.begin);
    if (!IsBlank(c.code)) break;
    range.begin = c.end;
  }
  while (range.end > range.begin) {
    const Character c = Previous(text, range.end);
    if (!IsBlank(c.code)) break;
    range.end = c.begin;
  }
  return range;
}

}  // namespace

std::vector<Word> SplitWords(std::string_view text) {
  std::vector<Word> words;
  const auto n = static_cast<int64_t>(text.size());
  for (int64_t at = 0; at < n;) {
    const Character c = Next(text, at);
    if (!IsLetter(c.code)) {
      at = c.end;
      continue;
    }
    int64_t end = c.end;
    if (!IsUnspaced(c.code)) {
      while (end < n) {
        const Character next = Next(text, end);
        if (IsLetter(next.code) && !IsUnspaced(next.code)) {
          end = next.end;
          continue;
        }
        if (!IsJoiner(next.code) || next.end >= n) break;
        const Character after = Next(text, next.end);
        if (!IsLetter(after.code) || IsUnspaced(after.code)) break;
        end = after.end;
      }
    }
    words.push_back(MakeWord(text, at, end));
    at = end;
  }
  return words;
}

std::vector<ByteRange> SplitSentences(std::string_view text) {
  std::vector<ByteRange> out;
  UErrorCode error = U_ZERO_ERROR;
  thread_local std::unique_ptr<icu::BreakIterator> breaks(
      icu::BreakIterator::createSentenceInstance(icu::Locale("en@ss=standard"), error));
  UText* utext = utext_openUTF8(nullptr, text.data(), static_cast<int64_t>(text.size()), &error);
  const auto add = [&](ByteRange range) {
    range = Trim(text, range);
    if (range.begin == range.end) return;
    // A line break always ends a piece: headings and list items are no part of the sentence below.
    const bool joins = !out.empty() && text.substr(out.back().end, range.begin - out.back().end).find('\n') == std::string_view::npos;
    const std::string_view before = out.empty() ? std::string_view() : text.substr(out.back().begin, out.back().end - out.back().begin);
    // "Is it?" he asked: a quotation goes on where small letters follow it.
    const bool quoted = before.ends_with('"') || before.ends_with("\u201D") || before.ends_with("\u2019");
    if (joins && (EndsInAbbreviation(before) || (quoted && u_islower(Next(text, range.begin).code)))) {
      out.back().end = range.end;
    } else {
      out.push_back(range);
    }
  };
  if (U_FAILURE(error) || breaks == nullptr) {  // no break data: the whole text is one sentence
    utext_close(utext);
    add({0, static_cast<int64_t>(text.size())});
    return out;
  }
  breaks->setText(utext, error);
  for (int32_t begin = breaks->first(), end = breaks->next(); end != icu::BreakIterator::DONE; begin = end, end = breaks->next()) {
    int64_t from = begin;
    for (int64_t at = begin; at < end; ++at) {
      if (text[at] != '\n') continue;
      add({from, at});
      from = at + 1;
    }
    add({from, end});
  }
  utext_close(utext);
  return out;
}

bool IsWordStart(std::string_view text, int64_t at) {
  if (at < 0 || at >= static_cast<int64_t>(text.size())) return false;
  if ((static_cast<uint8_t>(text[at]) & 0xC0) == 0x80) return false;
  const Character c = Next(text, at);
  if (IsBlank(c.code)) return false;
  if (at == 0 || !IsLetter(c.code) || IsUnspaced(c.code)) return true;
  const Character before = Previous(text, at);
  return !IsLetter(before.code) || IsUnspaced(before.code);
}

bool IsWordEnd(std::string_view text, int64_t at) {
  const auto n = static_cast<int64_t>(text.size());
  if (at <= 0 || at > n) return false;
  if (at < n && (static_cast<uint8_t>(text[at]) & 0xC0) == 0x80) return false;
  const Character c = Previous(text, at);
  if (IsBlank(c.code)) return false;
  if (at == n || !IsLetter(c.code) || IsUnspaced(c.code)) return true;
  const Character after = Next(text, at);
  return !IsLetter(after.code) || IsUnspaced(after.code);
}

namespace {
// Marks that come in twos, as UTF-8.
constexpr std::array<std::pair<std::string_view, std::string_view>, 8> kPairs = {{
    {"\"", "\""}, {"'", "'"}, {"\u201C", "\u201D"}, {"\u2018", "\u2019"}, {"(", ")"}, {"[", "]"}, {"{", "}"}, {"\u00AB", "\u00BB"}}};

// How often a mark stands in the text, apostrophes between letters left out.
int64_t CountOf(std::string_view text, std::string_view mark) {
  const bool apostrophe = mark == "'" || mark == "\u2019";
  int64_t count = 0;
  for (size_t at = text.find(mark); at != std::string_view::npos; at = text.find(mark, at + mark.size())) {
    const auto begin = static_cast<int64_t>(at), end = static_cast<int64_t>(at + mark.size());
    count += !(apostrophe && IsWordEnd(text, begin) && IsWordStart(text, end));
  }
  return count;
}

// One mark less at an end, or the same text.
std::string_view WithoutOneLooseEnd(std::string_view text) {
  const auto blank = [](char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; };
  if (blank(text.front())) return text.substr(1);
  if (blank(text.back()) || std::string_view(",;:").find(text.back()) != std::string_view::npos) {
    return text.substr(0, text.size() - 1);
  }
  for (const auto& [open, close] : kPairs) {
    const bool same = open == close;
    const int64_t opened = CountOf(text, open), closed = same ? opened : CountOf(text, close);
    const bool after_digit = same && text.size() > 1 && absl::ascii_isdigit(static_cast<unsigned char>(text[text.size() - 2]));
    if (text.ends_with(close) && (same ? opened % 2 == 1 : closed > opened) && !after_digit) {   // 6'2" keeps its mark
      return text.substr(0, text.size() - close.size());
    }
    if (text.starts_with(open) && (same ? opened % 2 == 1 : opened > closed)) return text.substr(open.size());
  }
  return text;
}
}  // namespace

std::string_view WithoutLooseEnds(std::string_view text) {
  std::string_view rest = text;
  while (!rest.empty()) {
    const std::string_view shorter = WithoutOneLooseEnd(rest);
    if (shorter.size() == rest.size()) return rest;
    rest = shorter;
  }
  return text;
}

absl::StatusOr<OffsetUnit> ParseOffsetUnit(std::string_view name) {
  if (name == "utf8") return OffsetUnit::kUtf8;
  if (name == "codepoint") return OffsetUnit::kCodepoint;
  if (name == "utf16") return OffsetUnit::kUtf16;
  return InvalidArgument("offset_unit must be utf8, codepoint or utf16, got '", name, "'");
}

namespace {
int64_t UnitsOf(const Character& c, OffsetUnit unit) {
  if (unit == OffsetUnit::kUtf8) return c.end - c.begin;
  return unit == OffsetUnit::kUtf16 && c.code > 0xFFFF ? 2 : 1;
}
}  // namespace

absl::StatusOr<int64_t> ConvertOffset(std::string_view text, int64_t byte, OffsetUnit unit) {
  const auto n = static_cast<int64_t>(text.size());
  if (byte < 0 || byte > n) return InvalidArgument("offset must be in 0..", n, ", got ", byte);
  int64_t units = 0, at = 0;
  while (at < byte) {
    const Character c = Next(text, at);
    units += UnitsOf(c, unit);
    at = c.end;
  }
  if (at != byte) return InvalidArgument("offset ", byte, " lies inside a character");
  return units;
}

absl::StatusOr<int64_t> ByteOffset(std::string_view text, int64_t offset, OffsetUnit unit) {
  if (offset < 0) return InvalidArgument("offset must be 0 or more, got ", offset);
  const auto n = static_cast<int64_t>(text.size());
  int64_t units = 0, at = 0;
  while (units < offset && at < n) {
    const Character c = Next(text, at);
    units += UnitsOf(c, unit);
    at = c.end;
  }
  if (units < offset) return InvalidArgument("offset must be in 0..", units, ", got ", offset);
  if (units > offset) return InvalidArgument("offset ", offset, " lies inside a character");
  return at;
}

}  // namespace lectern::service::answer
