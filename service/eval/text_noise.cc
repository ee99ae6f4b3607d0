#include "service/eval/text_noise.h"

#include <algorithm>
#include <array>
#include <span>
#include <utility>
#include <vector>

#include "base/file.h"
#include "base/rng.h"

namespace lectern::eval {
namespace {

using Pair = std::pair<std::string_view, std::string_view>;

// What a scanner takes for what; longer shapes first, so that "rn" is seen before "r".
constexpr Pair kConfusions[] = {
    {"rn", "m"},  {"cl", "d"},  {"vv", "w"},  {"ii", "u"},  {"fi", "fl"}, {"ri", "n"},  {"li", "h"},  {"tt", "ft"}, {"m", "rn"},
    {"d", "cl"},  {"w", "vv"},  {"u", "ii"},  {"l", "1"},   {"I", "l"},   {"1", "l"},   {"O", "0"},   {"0", "O"},   {"o", "c"},
    {"e", "c"},   {"c", "e"},   {"h", "b"},   {"b", "h"},   {"a", "o"},   {"n", "ri"},  {"s", "5"},   {"S", "5"},   {"5", "S"},
    {"g", "q"},   {"q", "g"},   {"t", "f"},   {"f", "t"},   {"i", "j"},   {"B", "8"},   {"8", "B"},   {"Z", "2"},   {"y", "v"},
    {"v", "y"},   {"k", "lc"},  {"G", "6"},   {"D", "O"},   {"E", "F"},   {"T", "7"},   {".", ","},   {",", "."},   {" ", ""},
};

constexpr std::string_view kKeyboard[] = {"1234567890", "qwertyuiop", "asdfghjkl", "zxcvbnm"};

// Sounds alike, spelled otherwise.
constexpr Pair kHomophones[] = {
    {"their", "there"}, {"there", "their"}, {"to", "too"},      {"too", "two"},      {"two", "to"},       {"its", "it's"},
    {"your", "you're"}, {"by", "buy"},      {"for", "four"},    {"four", "for"},     {"one", "won"},      {"no", "know"},
    {"know", "no"},     {"see", "sea"},     {"sea", "see"},     {"cell", "sell"},    {"cells", "sells"},  {"site", "sight"},
    {"sites", "sights"}, {"right", "write"}, {"write", "right"}, {"hole", "whole"},   {"whole", "hole"},   {"weak", "week"},
    {"week", "weak"},   {"which", "witch"}, {"where", "wear"},  {"were", "where"},   {"here", "hear"},    {"hear", "here"},
    {"than", "then"},   {"then", "than"},   {"affect", "effect"}, {"effect", "affect"}, {"effects", "affects"}, {"principal", "principle"},
    {"brake", "break"}, {"break", "brake"}, {"peace", "piece"}, {"piece", "peace"},  {"plain", "plane"},  {"plane", "plain"},
    {"rate", "great"},  {"rose", "rows"},   {"rain", "reign"},  {"role", "roll"},    {"mail", "male"},    {"male", "mail"},
    {"meat", "meet"},   {"meet", "meat"},   {"son", "sun"},     {"sun", "son"},      {"stationary", "stationery"}, {"in", "inn"},
    {"or", "are"},      {"are", "our"},     {"an", "and"},      {"and", "an"},       {"we", "wee"},       {"be", "bee"},
    {"new", "knew"},    {"some", "sum"},    {"through", "threw"}, {"week's", "weeks"}, {"wood", "would"},  {"would", "wood"},
    {"genes", "jeans"}, {"gene", "jean"},   {"heel", "heal"},   {"lead", "led"},     {"pair", "pear"},    {"council", "counsel"},
};
// Rewrites inside a word that keep how it sounds.
constexpr Pair kSounds[] = {
    {"ph", "f"},   {"ck", "k"},    {"tion", "shun"}, {"sion", "zhun"}, {"ough", "uff"}, {"kn", "n"},  {"wr", "r"},  {"mb", "m"},
    {"sc", "s"},   {"ei", "ee"},   {"ie", "y"},      {"qu", "kw"},     {"x", "ks"},     {"ll", "l"},  {"ss", "s"},  {"tt", "t"},
    {"mm", "m"},   {"nn", "n"},    {"rr", "r"},      {"ae", "e"},      {"oe", "e"},     {"rh", "r"},  {"y", "i"},   {"c", "k"},
};
constexpr std::string_view kSmallWords[] = {"a", "an", "the", "of", "in", "to", "and", "is", "are", "was", "that", "it", "for", "on", "as"};
constexpr std::string_view kFillers[] = {"uh", "um", "you know", "like", "so"};
constexpr std::string_view kDigits[] = {"zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"};

bool IsBlank(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }
bool IsLetter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
bool IsDigit(char c) { return c >= '0' && c <= '9'; }
char Lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; }

std::string Ocr(double level, Rng& rng, std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size();) {
    const Pair* found = nullptr;
    for (const Pair& pair : kConfusions) {
      if (text.substr(i, pair.first.size()) == pair.first) {
        found = &pair;
        break;
      }
    }
    // A lost blank is rarer than a wrong letter.
    if (found != nullptr && rng.Uniform() < (found->second.empty() ? level / 3 : level)) {
      out += found->second;
      i += found->first.size();
    } else {
      out += text[i++];
    }
  }
  return out;
}

std::vector<std::string> Words(std::string_view text) {
  std::vector<std::string> words;
  for (size_t i = 0; i < text.size();) {
    while (i < text.size() && IsBlank(text[i])) ++i;
    const size_t begin = i;
    while (i < text.size() && !IsBlank(text[i])) ++i;
    if (i > begin) words.emplace_back(text.substr(begin, i - begin));
  }
  return words;
}

std::string Join(const std::vector<std::string>& words) {
  std::string out;
  for (const std::string& word : words) {
    if (word.empty()) continue;
    if (!out.empty()) out += ' ';
    out += word;
  }
  return out;
}

char NextKey(char c, Rng& rng) {
  for (const std::string_view row : kKeyboard) {
    const size_t at = row.find(Lower(c));
    if (at == std::string_view::npos) continue;
    const size_t other = at == 0 ? 1 : at + 1 == row.size() ? at - 1 : rng.Below(2) ? at + 1 : at - 1;
    return row[other];
  }
  return c;
}

std::string Typo(double level, Rng& rng, std::string_view text) {
  std::vector<std::string> words = Words(text);
  for (std::string& word : words) {
    if (rng.Uniform() >= level || word.size() < 2) continue;
    const size_t at = static_cast<size_t>(rng.Below(static_cast<int64_t>(word.size()) - 1));
    if ((word[at] | word[at + 1]) & 0x80) continue;  // never inside a character of several bytes
    switch (rng.Below(4)) {
      case 0: std::swap(word[at], word[at + 1]); break;
      case 1: word.erase(at, 1); break;
      case 2: word.insert(at, 1, word[at]); break;
      default: word[at] = NextKey(word[at], rng);
    }
  }
  return Join(words);
}

std::vector<std::string_view> Sentences(std::string_view text) {
  std::vector<std::string_view> sentences;
  size_t begin = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    const bool stop = (text[i] == '.' || text[i] == '!' || text[i] == '?') && (i + 1 == text.size() || IsBlank(text[i + 1]));
    if (!stop) continue;
    sentences.push_back(text.substr(begin, i + 1 - begin));
    begin = i + 1;
  }
  if (begin < text.size()) sentences.push_back(text.substr(begin));
  return sentences;
}

std::string Drop(double level, Rng& rng, std::string_view text) {
  const std::vector<std::string_view> sentences = Sentences(text);
  if (sentences.size() < 2) {
    // One sentence: a share of its words instead.
    std::vector<std::string> words = Words(text), kept;
    for (std::string& word : words) {
      if (rng.Uniform() >= level) kept.push_back(std::move(word));
    }
    return Join(kept);
  }
  std::string out;
  for (const std::string_view sentence : sentences) {
    if (rng.Uniform() >= level) out += sentence;
  }
  return out.empty() ? std::string(sentences[static_cast<size_t>(rng.Below(static_cast<int64_t>(sentences.size())))]) : out;
}

std::string_view Find(std::span<const Pair> table, std::string_view word) {
  for (const Pair& pair : table) {
    if (pair.first == word) return pair.second;
  }
  return {};
}

std::string Asr(double level, Rng& rng, std::string_view text) {
  std::vector<std::string> out;
  for (const std::string& word : Words(text)) {
    std::string plain;
    for (const char c : word) {
      if (IsDigit(c)) {
        if (!plain.empty() && plain.back() != ' ') plain += ' ';
        plain += kDigits[c - '0'];
        plain += ' ';
      } else if (IsLetter(c) || c == '\'' || (c & 0x80)) {
        plain += Lower(c);
      } else if (c == '-' || c == '/') {
        plain += ' ';
      }
    }
    if (plain.empty()) continue;
    if (rng.Uniform() >= level) {
      out.push_back(std::move(plain));
      continue;
    }
    if (const std::string_view other = Find(kHomophones, plain); !other.empty()) {
      out.emplace_back(other);
    } else if (std::find(std::begin(kSmallWords), std::end(kSmallWords), plain) != std::end(kSmallWords)) {
      continue;  // swallowed
    } else if (rng.Below(8) == 0) {
      out.emplace_back(kFillers[static_cast<size_t>(rng.Below(static_cast<int64_t>(std::size(kFillers))))]);
      out.push_back(std::move(plain));
    } else if (rng.Below(6) == 0 && !out.empty()) {
      out.back() += plain;  // two words heard as one
    } else if (plain.size() >= 7 && rng.Below(4) == 0 && !(plain[plain.size() / 2] & 0x80)) {
      plain.insert(plain.size() / 2, 1, ' ');  // one word heard as two
      out.push_back(std::move(plain));
    } else {
      for (const Pair& sound : kSounds) {
        const size_t at = plain.find(sound.first);
        if (at == std::string::npos) continue;
        plain.replace(at, sound.first.size(), sound.second);
        break;
      }
      out.push_back(std::move(plain));
    }
  }
  return Join(out);
}

std::string Shift(double level, Rng& rng, std::string_view text) {
  const std::vector<std::string> words = Words(text);
  const int64_t n = static_cast<int64_t>(words.size());
  const int64_t cut = std::min<int64_t>(n - 1, static_cast<int64_t>(level * static_cast<double>(n)));
  if (cut <= 0) return std::string(text);
  const int64_t begin = rng.Below(cut + 1);
  return Join(std::vector<std::string>(words.begin() + begin, words.end() - (cut - begin)));
}

}  // namespace

const char* TextNoiseName(TextNoise family) {
  constexpr const char* kNames[] = {"ocr", "typo", "drop", "asr", "shift"};
  return kNames[static_cast<int>(family)];
}

absl::StatusOr<TextNoise> ParseTextNoise(std::string_view name) {
  for (const TextNoise family : {TextNoise::kOcr, TextNoise::kTypo, TextNoise::kDrop, TextNoise::kAsr, TextNoise::kShift}) {
    if (name == TextNoiseName(family)) return family;
  }
  return InvalidArgument("a family of text noise must be ocr, typo, drop, asr or shift, got '", name, "'");
}

std::string AddTextNoise(TextNoise family, double level, uint64_t seed, std::string_view text) {
  Rng rng(seed, Hash64(text) ^ static_cast<uint64_t>(family));
  if (level <= 0 || text.empty()) return std::string(text);
  std::string out;
  switch (family) {
    case TextNoise::kOcr: out = Ocr(level, rng, text); break;
    case TextNoise::kTypo: out = Typo(level, rng, text); break;
    case TextNoise::kDrop: out = Drop(level, rng, text); break;
    case TextNoise::kAsr: out = Asr(level, rng, text); break;
    case TextNoise::kShift: out = Shift(level, rng, text); break;
  }
  return out.find_first_not_of(" \t\r\n") == std::string::npos ? std::string(text) : out;
}

std::string PickSentence(uint64_t seed, std::string_view text) {
  constexpr size_t kLeastWords = 5, kRun = 16;
  Rng rng(seed, Hash64(text));
  std::vector<std::vector<std::string>> sentences;
  for (const std::string_view sentence : Sentences(text)) {
    std::vector<std::string> words = Words(sentence);
    if (words.size() >= kLeastWords) sentences.push_back(std::move(words));
  }
  if (sentences.size() >= 2) return Join(sentences[static_cast<size_t>(rng.Below(static_cast<int64_t>(sentences.size())))]);
  const std::vector<std::string> words = Words(text);
  if (words.size() < 2 * kRun) return "";
  const auto begin = words.begin() + static_cast<std::ptrdiff_t>(rng.Below(static_cast<int64_t>(words.size() - kRun)));
  return Join(std::vector<std::string>(begin, begin + kRun));
}

}  // namespace lectern::eval
