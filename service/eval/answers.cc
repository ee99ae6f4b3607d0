#include "service/eval/answers.h"

#include <algorithm>
#include <map>
#include <numeric>

namespace lectern::eval {
namespace {

constexpr std::string_view kPunctuation = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~";

// Python's str.lower for what occurs in answers: ASCII, Latin-1, Greek and Cyrillic capitals with fixed offsets.
std::string LowerUtf8(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    const auto c = static_cast<uint8_t>(text[i]);
    if (c >= 'A' && c <= 'Z') {
      out += static_cast<char>(c + 32);
    } else if (c >= 0xC3 && c <= 0xD1 && i + 1 < text.size()) {
      uint32_t code = (c & 0x1F) << 6 | (static_cast<uint8_t>(text[++i]) & 0x3F);
      if ((code >= 0xC0 && code <= 0xDE && code != 0xD7) || (code >= 0x391 && code <= 0x3A9 && code != 0x3A2)) code += 32;
      else if (code >= 0x410 && code <= 0x42F) code += 32;
      else if (code >= 0x400 && code <= 0x40F) code += 80;
      else if (code >= 0x100 && code <= 0x137 && code != 0x130 && code % 2 == 0) code += 1;
      else if (code >= 0x139 && code <= 0x148 && code % 2 == 1) code += 1;
      else if (code >= 0x14A && code <= 0x177 && code % 2 == 0) code += 1;
      else if (code == 0x179 || code == 0x17B || code == 0x17D) code += 1;
      out += static_cast<char>(0xC0 | code >> 6);
      out += static_cast<char>(0x80 | (code & 0x3F));
    } else {
      out += static_cast<char>(c);
    }
  }
  return out;
}

bool IsWordByte(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || static_cast<uint8_t>(c) >= 0x80;
}

// The width of a blank at `at` as Python's str.split sees it; 0 where there is none.
size_t BlankAt(std::string_view text, size_t at) {
  const char c = text[at];
  if (c == ' ' || (c >= '\t' && c <= '\r') || (c >= 0x1C && c <= 0x1F)) return 1;
  if (text.substr(at, 2) == "\xC2\xA0" || text.substr(at, 2) == "\xC2\x85") return 2;
  const std::string_view three = text.substr(at, 3);
  if (three.size() == 3 && three[0] == '\xE2' && three[1] == '\x80' &&
      ((static_cast<uint8_t>(three[2]) >= 0x80 && static_cast<uint8_t>(three[2]) <= 0x8A) || three[2] == '\xA8' || three[2] == '\xA9' || three[2] == '\xAF')) {
    return 3;
  }
  if (three == "\xE3\x80\x80" || three == "\xE1\x9A\x80" || three == "\xE2\x81\x9F") return 3;
  return 0;
}

std::vector<std::string> Split(std::string_view text) {
  std::vector<std::string> out;
  std::string word;
  for (size_t i = 0; i < text.size();) {
    const size_t blank = BlankAt(text, i);
    if (blank == 0) {
      word += text[i++];
      continue;
    }
    if (!word.empty()) out.push_back(std::move(word));
    word.clear();
    i += blank;
  }
  if (!word.empty()) out.push_back(std::move(word));
  return out;
}

template <class Fn>
double Best(std::span<const std::string> golds, Fn value) {
  double best = 0;
  for (const std::string& gold : golds) best = std::max(best, value(gold));
  return best;
}

}  // namespace

std::string NormaliseAnswer(std::string_view text) {
  std::string plain;
  for (char c : LowerUtf8(text)) {
    if (kPunctuation.find(c) == std::string_view::npos) plain += c;
  }
  // Articles as whole words become a blank (the regular expression \b(a|an|the)\b).
  std::string kept;
  for (size_t i = 0; i < plain.size();) {
    if (!IsWordByte(plain[i])) {
      kept += plain[i++];
      continue;
    }
    // U+2000..U+2FFF (bytes E2 ..) are blanks, dashes, quotes and symbols: they part words.
    const auto parts = [&](size_t at) { return plain[at] == '\xE2' ? size_t{3} : BlankAt(plain, at); };
    size_t end = i;
    while (end < plain.size() && IsWordByte(plain[end]) && parts(end) == 0) ++end;
    if (end == i) {
      kept += plain.substr(i, parts(i));
      i += parts(i);
      continue;
    }
    const std::string_view word = std::string_view(plain).substr(i, end - i);
    if (word == "a" || word == "an" || word == "the") kept += ' ';
    else kept += word;
    i = end;
  }
  std::string out;
  for (const std::string& word : Split(kept)) {
    if (!out.empty()) out += ' ';
    out += word;
  }
  return out;
}

double ExactMatch(std::string_view answer, std::span<const std::string> golds) {
  const std::string mine = NormaliseAnswer(answer);
  return Best(golds, [&](const std::string& gold) { return mine == NormaliseAnswer(gold) ? 1.0 : 0.0; });
}

double TokenF1(std::string_view answer, std::span<const std::string> golds) {
  const std::vector<std::string> mine = Split(NormaliseAnswer(answer));
  std::map<std::string, int64_t> counts;
  for (const std::string& word : mine) ++counts[word];
  return Best(golds, [&](const std::string& text) {
    const std::vector<std::string> gold = Split(NormaliseAnswer(text));
    if (mine.empty() || gold.empty()) return mine.empty() && gold.empty() ? 1.0 : 0.0;
    std::map<std::string, int64_t> left = counts;
    int64_t same = 0;
    for (const std::string& word : gold) {
      if (auto at = left.find(word); at != left.end() && at->second > 0) {
        --at->second;
        ++same;
      }
    }
    return same == 0 ? 0.0 : 2.0 * static_cast<double>(same) / static_cast<double>(mine.size() + gold.size());
  });
}

double ContainsAnswer(std::string_view answer, std::span<const std::string> golds) {
  const std::string mine = NormaliseAnswer(answer);
  return Best(golds, [&](const std::string& text) {
    const std::string gold = NormaliseAnswer(text);
    return !gold.empty() && mine.find(gold) != std::string::npos ? 1.0 : 0.0;
  });
}

bool IsRefusal(std::string_view answer) {
  const std::string lower = LowerUtf8(answer);
  if (Split(lower).empty()) return true;
  for (std::string_view sign : {"not found", "not mentioned", "not provided", "no information", "not contain",
                                "cannot be determined", "unanswerable", "not specified", "not stated", "no answer"}) {
    if (lower.find(sign) != std::string::npos) return true;
  }
  return false;
}

CitationCounts CountCitations(std::span<const CitedSpan> cited, std::span<const GoldPassage> gold,
                              std::span<const std::string> golds) {
  CitationCounts counts;
  for (const CitedSpan& citation : cited) {
    ++counts.cited;
    bool good = ContainsAnswer(citation.quote, golds) > 0;
    for (const GoldPassage& passage : gold) {
      good = good || (citation.doc_id == passage.doc_id && citation.begin >= passage.begin &&
                      (passage.end < 0 || citation.end <= passage.end));
    }
    counts.good += good;
    counts.any_good = counts.any_good || good;
  }
  return counts;
}

RiskCoverage RiskCoverageOf(std::span<const double> trust, const std::vector<bool>& right) {
  RiskCoverage out;
  std::vector<size_t> order(trust.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return trust[a] > trust[b]; });
  int64_t wrong = 0;
  double last_coverage = 0;
  for (size_t i = 0; i < order.size(); ++i) {
    wrong += !right[order[i]];
    if (i + 1 < order.size() && trust[order[i + 1]] == trust[order[i]]) continue;   // ties enter together
    const double coverage = static_cast<double>(i + 1) / static_cast<double>(order.size());
    const double risk = static_cast<double>(wrong) / static_cast<double>(i + 1);
    out.area += risk * (coverage - last_coverage);
    last_coverage = coverage;
    out.points.push_back({coverage, risk, trust[order[i]]});
  }
  return out;
}

AbstentionPoint AbstentionFrom(double threshold, std::span<const double> trust, const std::vector<bool>& right,
                               const std::vector<bool>& unanswerable) {
  int64_t rights = 0, kept = 0, no = 0, no_abstained = 0, yes = 0, yes_abstained = 0;
  for (size_t i = 0; i < trust.size(); ++i) {
    const bool abstains = trust[i] < threshold;
    if (unanswerable[i]) {
      ++no;
      no_abstained += abstains;
      continue;
    }
    ++yes;
    yes_abstained += abstains;
    rights += right[i];
    kept += right[i] && !abstains;
  }
  const auto share = [](int64_t part, int64_t whole) { return whole == 0 ? 0.0 : static_cast<double>(part) / static_cast<double>(whole); };
  return {threshold, share(kept, rights), share(no_abstained, no), share(yes_abstained, yes)};
}

AbstentionPoint AbstentionAt(double keep, std::span<const double> trust, const std::vector<bool>& right,
                             const std::vector<bool>& unanswerable) {
  std::vector<double> rights;
  for (size_t i = 0; i < trust.size(); ++i) {
    if (right[i] && !unanswerable[i]) rights.push_back(trust[i]);
  }
  if (rights.empty()) return AbstentionFrom(0, trust, right, unanswerable);
  std::sort(rights.begin(), rights.end(), std::greater<>());
  const auto needed = static_cast<size_t>(std::max(1.0, std::min<double>(static_cast<double>(rights.size()),
                                                                         keep * static_cast<double>(rights.size()) + 0.999999)));
  return AbstentionFrom(rights[needed - 1], trust, right, unanswerable);
}

}  // namespace lectern::eval
