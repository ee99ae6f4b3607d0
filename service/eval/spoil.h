// service/eval/spoil.h: true sentences made false by rule, to see whether the citation check notices.
//
//   std::vector<Spoiled> wrong = SpoilSentence("Hale built the dam in 1931.", passages, {.seed = 7, .elsewhere = other_sentences});
//
// Shapes:  at most one sentence a kind; a kind that does not apply (no number, no name) is left out.
// Threads: pure functions; the same seed gives the same sentences.
// Errors:  none.
// Cost:    a few passes over the words.
//
// kNumber: a number becomes another one of the passages (the hard case), or, where there is none or by the seed's turn, one that stands
// nowhere in them. kName: a name becomes another name of the passages that the sentence does not have. kNegation: "is" becomes "is not",
// "never" goes, or "It is not true that" comes before. kElsewhere: a sentence of another text. kTitle: a number or a name becomes
// one that stands nowhere in the passages (a name: out of `elsewhere`), to be judged with that word in their titles.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace lectern::eval {

enum class Spoiling { kNumber, kName, kNegation, kElsewhere, kTitle };
std::string_view SpoilingName(Spoiling kind);   // number, name, negation, elsewhere, title

struct Spoiled {
  Spoiling kind = Spoiling::kNumber;
  std::string text;
  std::string in_title;                     // kTitle: what the titles of the passages are to hold as well
};

struct SpoilOptions {
  uint64_t seed = 1;
  std::span<const std::string> elsewhere;   // sentences of other documents
};
std::vector<Spoiled> SpoilSentence(std::string_view sentence, std::string_view passages, const SpoilOptions& options);

}  // namespace lectern::eval
