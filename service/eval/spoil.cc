#include "service/eval/spoil.h"

#include <algorithm>
#include <unordered_set>
#include <utility>

#include "base/rng.h"
#include "service/answer/text_units.h"

namespace lectern::eval {
namespace {

using service::answer::SplitWords;
using service::answer::Word;

std::string Replace(std::string_view text, const Word& word, std::string_view with) {
  std::string out(text.substr(0, word.at.begin));
  out += with;
  out += text.substr(word.at.end);
  return out;
}

bool HasDigit(const Word& word) {
  return std::any_of(word.lower.begin(), word.lower.end(), [](char c) { return c >= '0' && c <= '9'; });
}

std::string_view Of(std::string_view text, const Word& word) { return text.substr(word.at.begin, word.at.end - word.at.begin); }

// Another number of the same look, which `taken` does not hold.
std::string OtherNumber(std::string number, const std::unordered_set<std::string>& taken, Rng& rng) {
  for (int tries = 0; tries < 100; ++tries) {
    for (size_t i = 0; i < number.size(); ++i) {
      if (number[i] < '0' || number[i] > '9' || rng.Below(2) == 0) continue;
      number[i] = static_cast<char>('1' + rng.Below(9));
    }
    if (!taken.contains(number)) return number;
  }
  return {};
}

std::string SpoilNumber(std::string_view sentence, const std::vector<Word>& words, std::string_view passages,
                        const std::vector<Word>& around, Rng& rng) {
  std::vector<const Word*> own, others;
  std::unordered_set<std::string> mine, all;
  for (const Word& word : words) {
    if (!HasDigit(word)) continue;
    own.push_back(&word);
    mine.insert(word.lower);
    all.insert(word.lower);
  }
  if (own.empty()) return {};
  for (const Word& word : around) {
    if (!HasDigit(word)) continue;
    all.insert(word.lower);
    if (!mine.contains(word.lower)) others.push_back(&word);
  }
  const Word& victim = *own[rng.Below(static_cast<int64_t>(own.size()))];
  const bool from_passage = rng.Below(2) == 0 && !others.empty();
  const std::string other = from_passage ? std::string(Of(passages, *others[rng.Below(static_cast<int64_t>(others.size()))]))
                                         : OtherNumber(std::string(Of(sentence, victim)), all, rng);
  return other.empty() ? other : Replace(sentence, victim, other);
}

bool IsName(const Word& word) { return word.capital && !word.stop && !word.number && word.at.begin > 0; }

std::string SpoilName(std::string_view sentence, const std::vector<Word>& words, std::string_view passages,
                      const std::vector<Word>& around, Rng& rng) {
  std::unordered_set<std::string> mine, small;   // small: words also written in lower case, so no names
  for (const Word& word : words) mine.insert(word.stem);
  for (const Word& word : around) {
    if (!word.capital) small.insert(word.stem);
  }
  std::vector<const Word*> own, others;
  for (const Word& word : words) {
    if (IsName(word) && !small.contains(word.stem)) own.push_back(&word);
  }
  for (const Word& word : around) {
    if (IsName(word) && !small.contains(word.stem) && !mine.contains(word.stem)) others.push_back(&word);
  }
  if (own.empty() || others.empty()) return {};
  const Word& victim = *own[rng.Below(static_cast<int64_t>(own.size()))];
  return Replace(sentence, victim, Of(passages, *others[rng.Below(static_cast<int64_t>(others.size()))]));
}

std::string Negate(std::string_view sentence, const std::vector<Word>& words) {
  static const std::unordered_set<std::string_view> auxiliaries = {"is", "are", "was", "were", "has", "have", "had", "can", "could", "will",
                                                                   "would", "should", "may", "might", "must", "does", "did", "do"};
  for (const Word& word : words) {
    if (word.lower == "not" || word.lower == "never") {
      std::string out(sentence.substr(0, word.at.begin));
      size_t after = static_cast<size_t>(word.at.end);
      while (after < sentence.size() && sentence[after] == ' ') ++after;
      return out += sentence.substr(after);
    }
  }
  for (const Word& word : words) {
    if (auxiliaries.contains(word.lower)) return Replace(sentence, word, std::string(Of(sentence, word)) + " not");
  }
  return "It is not true that " + std::string(sentence);
}

Spoiled SpoilTitle(std::string_view sentence, const std::vector<Word>& words, const std::vector<Word>& around,
                   std::span<const std::string> elsewhere, Rng& rng) {
  std::unordered_set<std::string> known, small;
  for (const std::vector<Word>* here : {&words, &around}) {
    for (const Word& word : *here) {
      known.insert(word.number ? word.lower : word.stem);
      if (!word.capital) small.insert(word.stem);
    }
  }
  std::vector<const Word*> numbers, names;
  for (const Word& word : words) {
    if (HasDigit(word)) numbers.push_back(&word);
    else if (IsName(word) && !small.contains(word.stem)) names.push_back(&word);
  }
  std::vector<std::string> others;
  for (const std::string& text : elsewhere) {
    for (const Word& word : SplitWords(text)) {
      if (IsName(word) && !known.contains(word.stem)) others.emplace_back(Of(text, word));
    }
  }
  if (others.empty()) names.clear();
  if (names.empty() && numbers.empty()) return {};
  const bool number = names.empty() || (!numbers.empty() && rng.Below(2) == 0);
  const std::vector<const Word*>& victims = number ? numbers : names;
  const Word& victim = *victims[rng.Below(static_cast<int64_t>(victims.size()))];
  std::string other = number ? OtherNumber(std::string(Of(sentence, victim)), known, rng) : others[rng.Below(static_cast<int64_t>(others.size()))];
  if (other.empty()) return {};
  return {Spoiling::kTitle, Replace(sentence, victim, other), other};
}

}  // namespace

std::string_view SpoilingName(Spoiling kind) {
  switch (kind) {
    case Spoiling::kNumber: return "number";
    case Spoiling::kName: return "name";
    case Spoiling::kNegation: return "negation";
    case Spoiling::kElsewhere: return "elsewhere";
    case Spoiling::kTitle: return "title";
  }
  return "number";
}

std::vector<Spoiled> SpoilSentence(std::string_view sentence, std::string_view passages, const SpoilOptions& options) {
  Rng rng(options.seed, /*stream=*/0);
  const std::vector<Word> words = SplitWords(sentence), around = SplitWords(passages);
  std::vector<Spoiled> out;
  const auto add = [&](Spoiling kind, std::string text) {
    if (!text.empty() && text != sentence) out.push_back({kind, std::move(text), {}});
  };
  add(Spoiling::kNumber, SpoilNumber(sentence, words, passages, around, rng));
  add(Spoiling::kName, SpoilName(sentence, words, passages, around, rng));
  if (!words.empty()) add(Spoiling::kNegation, Negate(sentence, words));
  if (!options.elsewhere.empty()) {
    add(Spoiling::kElsewhere, options.elsewhere[rng.Below(static_cast<int64_t>(options.elsewhere.size()))]);
  }
  if (Spoiled spoiled = SpoilTitle(sentence, words, around, options.elsewhere, rng); !spoiled.text.empty()) out.push_back(std::move(spoiled));
  return out;
}

}  // namespace lectern::eval
