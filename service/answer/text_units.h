// service/answer/text_units.h: words, sentences and offset units of UTF-8 text.
//
//   std::vector<Word> words = SplitWords("Darwin's 1859 book");      // Darwin's | 1859 | book, with stems
//   std::vector<ByteRange> sentences = SplitSentences(text);         // "Dr. Hale left. He came back." -> 2
//   WithoutLooseEnds("7.6% a year',");                               // 7.6% a year
//   ASSIGN_OR_RETURN(int64_t at, ConvertOffset(text, byte, OffsetUnit::kUtf16));
//
// Shapes:  ranges are bytes [begin, end) of the text given; a sentence has no blanks at its ends.
// Threads: pure functions (each thread keeps one stemmer).
// Errors:  ConvertOffset: kInvalidArgument for an offset past the end or inside a character. Invalid UTF-8 never
//          crashes: such a byte is one character.
// Cost:    linear in the text; SplitSentences goes through ICU (about 10 MB/s).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace lectern::service::answer {

struct ByteRange {
  int64_t begin = 0, end = 0;
  bool operator==(const ByteRange&) const = default;
};

struct Word {
  ByteRange at;
  std::string lower;        // lower case, possessive 's removed
  std::string stem;         // English Snowball stem of lower
  bool capital = false;     // starts with an upper-case letter
  bool number = false;      // holds a digit, or is a number word ("seven", "hundred")
  bool stop = false;        // function word: tells nothing of the subject
  bool negation = false;    // not, n't, never, no, without, ...
};

// Letters and digits joined by inner . , : ' - (1,024 and mother-in-law are one word). CJK, Thai and the like, which
// write no blanks, give one word a character.
std::vector<Word> SplitWords(std::string_view text);
std::vector<ByteRange> SplitSentences(std::string_view text);

// True where a word may start or end at byte `at` of `text` (never inside a character).
bool IsWordStart(std::string_view text, int64_t at);
bool IsWordEnd(std::string_view text, int64_t at);

// The text without what a span cut out of a sentence leaves at its ends: commas, colons and semicolons, and a quotation mark
// or bracket whose partner was not cut out with it. The whole text where nothing else would remain.
std::string_view WithoutLooseEnds(std::string_view text);

enum class OffsetUnit { kUtf8, kCodepoint, kUtf16 };
absl::StatusOr<OffsetUnit> ParseOffsetUnit(std::string_view name);   // utf8, codepoint, utf16
// Byte offset -> offset in `unit`.
absl::StatusOr<int64_t> ConvertOffset(std::string_view text, int64_t byte, OffsetUnit unit);
// Offset in `unit` -> byte offset.
absl::StatusOr<int64_t> ByteOffset(std::string_view text, int64_t offset, OffsetUnit unit);

}  // namespace lectern::service::answer
