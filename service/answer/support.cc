#include "service/answer/support.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <unordered_map>
#include <unordered_set>

namespace lectern::service::answer {
namespace {

constexpr double kMinCoverage = 0.62;   // of content words; a sentence of one's own words still shares its subject
constexpr double kMinOrder = 0.45;      // of neighbouring pairs
constexpr double kLikeEnough = 0.80;    // cosine at which coverage may be a third lower

// "1,024" and "1024" are one number; so are "eleven" and "11" up to twenty.
std::string NumberKey(const Word& word) {
  static const std::unordered_map<std::string_view, std::string_view> small = {
      {"one", "1"}, {"two", "2"}, {"three", "3"}, {"four", "4"}, {"five", "5"}, {"six", "6"}, {"seven", "7"},
      {"eight", "8"}, {"nine", "9"}, {"ten", "10"}, {"eleven", "11"}, {"twelve", "12"}, {"thirteen", "13"},
      {"fourteen", "14"}, {"fifteen", "15"}, {"sixteen", "16"}, {"seventeen", "17"}, {"eighteen", "18"},
      {"nineteen", "19"}, {"twenty", "20"}};
  if (const auto at = small.find(word.lower); at != small.end()) return std::string(at->second);
  std::string key;
  for (char c : word.lower) {
    if (c != ',') key += c;
  }
  return key;
}

struct Reading {            // a stretch of text, as the judge sees it
  std::vector<Word> content;
  std::vector<std::string> keys;          // of content: number key or stem
  std::vector<bool> denied;               // a negation stands shortly before this word
  std::vector<int64_t> place;             // of content: the index, with a gap between sentences
  std::vector<bool> runs_on;              // a capitalised word that the next content word, capitalised too, directly follows
  std::vector<bool> agent;                // a capitalised word that opens the sentence, or the first one after "by"
  std::unordered_set<std::string> set;
  int64_t negations = 0;
  bool opens_with_pronoun = false;        // "He", "It", ...: speaks on of what stands before
};

Reading Read(std::string_view text) {
  Reading out;
  static const std::unordered_set<std::string_view> pronouns = {"he", "she", "it", "they", "his", "her", "its", "their", "this", "these", "there"};
  int since = 100;   // content words since the last negation
  bool first = true, by = false;
  for (Word& word : SplitWords(text)) {
    if (first) out.opens_with_pronoun = pronouns.contains(word.lower);
    const bool opens = first;
    first = false;
    if (word.negation) {
      since = 0;
      ++out.negations;
      continue;
    }
    by = by || word.lower == "by";
    if (word.stop) continue;
    out.agent.push_back(word.capital && !word.number && (opens || by));
    by = by && !word.capital && !word.number;   // "by the engineer Ruth Calder"
    out.keys.push_back(word.number ? NumberKey(word) : word.stem);
    out.denied.push_back(since < 1);   // a negation denies the next content word
    ++since;
    out.set.insert(out.keys.back());
    out.place.push_back(static_cast<int64_t>(out.place.size()));
    if (!out.content.empty()) {
      const Word& before = out.content.back();
      out.runs_on.back() = before.capital && word.capital && word.at.begin == before.at.end + 1;
    }
    out.runs_on.push_back(false);
    out.content.push_back(std::move(word));
  }
  return out;
}

// Two neighbouring sentences as one stretch. Ranges of words stay those of their own sentence.
Reading Join(const Reading& first, const Reading& second) {
  constexpr int64_t kGap = 5;
  Reading out = first;
  const int64_t shift = static_cast<int64_t>(first.keys.size()) + kGap;
  out.content.insert(out.content.end(), second.content.begin(), second.content.end());
  out.keys.insert(out.keys.end(), second.keys.begin(), second.keys.end());
  out.denied.insert(out.denied.end(), second.denied.begin(), second.denied.end());
  out.runs_on.insert(out.runs_on.end(), second.runs_on.begin(), second.runs_on.end());
  out.agent.insert(out.agent.end(), second.agent.begin(), second.agent.end());
  for (int64_t place : second.place) out.place.push_back(place + shift);
  out.set.insert(second.set.begin(), second.set.end());
  out.negations += second.negations;
  return out;
}

// A capital that does not just open the sentence, unless the word is nowhere in lower case.
bool IsName(const Reading& sentence, size_t i, bool lower_in_source) {
  const Word& word = sentence.content[i];
  if (!word.capital || word.number) return false;
  return word.at.begin > 0 || !lower_in_source;
}

using Positions = std::unordered_map<std::string_view, std::vector<int64_t>>;

int64_t Distance(const std::vector<int64_t>& a, const std::vector<int64_t>& b) {
  int64_t best = std::numeric_limits<int64_t>::max();
  for (int64_t x : a) {
    for (int64_t y : b) best = std::min(best, std::abs(x - y));
  }
  return best;
}

// A number of the sentence in whose place the source has another one: beside each of the words next to it, a number that the sentence
// does not have stands nearer.
std::string MisplacedNumber(const Reading& sentence, const Positions& positions, const Reading& source) {
  std::vector<int64_t> rivals;
  for (size_t i = 0; i < source.keys.size(); ++i) {
    if (source.content[i].number && !sentence.set.contains(source.keys[i])) rivals.push_back(source.place[i]);
  }
  if (rivals.empty()) return {};
  const auto n = static_cast<int64_t>(sentence.keys.size());
  for (int64_t i = 0; i < n; ++i) {
    const auto here = positions.find(sentence.keys[i]);
    if (!sentence.content[i].number || here == positions.end()) continue;
    int anchors = 0, displaced = 0;
    for (int64_t step : {-1, 1}) {
      int64_t j = i + step;
      while (j >= 0 && j < n && (sentence.content[j].number || !positions.contains(sentence.keys[j]))) j += step;
      if (j < 0 || j >= n) continue;
      const std::vector<int64_t>& anchor = positions.at(sentence.keys[j]);
      ++anchors;
      displaced += Distance(rivals, anchor) < Distance(here->second, anchor);
    }
    if (anchors > 0 && anchors == displaced) return "another number stands in the place of " + sentence.content[i].lower;
  }
  return {};
}

// A number or a name that only one of two neighbouring sentences has, while the words next to it in the claim come from the other one: no
// support, unless it opens the claim and the second sentence goes on speaking of it ("He ...").
std::string LentWord(const Reading& sentence, const Reading& first, const Reading& second) {
  const auto n = static_cast<int64_t>(sentence.keys.size());
  for (int64_t i = 0; i < n; ++i) {
    const Word& word = sentence.content[i];
    const bool a = first.set.contains(sentence.keys[i]), b = second.set.contains(sentence.keys[i]);
    if (a == b || !(word.number || (word.capital && word.at.begin > 0))) continue;
    if (a && i == 0 && second.opens_with_pronoun) continue;
    bool company = false;
    for (int64_t j = std::max<int64_t>(i - 2, 0); j <= std::min(i + 2, n - 1); ++j) {
      company = company || (j != i && (a ? first : second).set.contains(sentence.keys[j]));
    }
    if (!company) return (word.number ? "number " : "name ") + word.lower + " belongs to another sentence of the passage";
  }
  return {};
}

// Two capitalised words side by side, of which the source puts at least one beside another: "Suez Sea" out of Suez Canal and Red Sea.
std::string MixedName(const Reading& sentence, const Reading& source, const Reading& title) {
  for (size_t i = 0; i + 1 < sentence.keys.size(); ++i) {
    if (!sentence.runs_on[i]) continue;
    bool seen = false, otherwise = false;
    for (const Reading* known : {&source, &title}) {
      for (size_t j = 0; j + 1 < known->keys.size(); ++j) {
        if (!known->runs_on[j]) continue;
        const bool first = known->keys[j] == sentence.keys[i], second = known->keys[j + 1] == sentence.keys[i + 1];
        seen = seen || (first && second);
        otherwise = otherwise || first != second;
      }
    }
    if (!seen && otherwise) return "the passage has no " + sentence.content[i].lower + " " + sentence.content[i + 1].lower;
  }
  return {};
}

// Does the source deny something of which the sentence speaks?
bool DeniesNearby(const Reading& sentence, const Reading& source) {
  for (size_t i = 0; i < source.keys.size(); ++i) {
    if (!source.denied[i]) continue;
    for (size_t j = i < 2 ? 0 : i - 2; j <= i + 2 && j < source.keys.size(); ++j) {
      if (std::abs(source.place[j] - source.place[i]) <= 2 && sentence.set.contains(source.keys[j])) return true;
    }
  }
  return false;
}

// A name whose neighbours in the claim stand around another name in the source: "planet Mars is" where the source has "planet Earth is".
std::string DisplacedName(const Reading& sentence, const Positions& positions, const Reading& source) {
  const auto n = static_cast<int64_t>(sentence.keys.size());
  for (int64_t i = 1; i < n; ++i) {
    const Word& word = sentence.content[i];
    const auto here = positions.find(sentence.keys[i]);
    const auto left = positions.find(sentence.keys[i - 1]);
    if (!word.capital || word.number || word.at.begin == 0 || here == positions.end() || left == positions.end()) continue;
    if (Distance(here->second, left->second) <= 3) continue;   // it stands there itself
    const auto right = i + 1 < n ? positions.find(sentence.keys[i + 1]) : positions.end();
    if (i + 1 < n && (right == positions.end() || Distance(here->second, right->second) <= 3)) continue;
    for (size_t j = 0; j < source.keys.size(); ++j) {
      if (!source.content[j].capital || sentence.set.contains(source.keys[j])) continue;
      const std::vector<int64_t> rival = {source.place[j]};
      if (Distance(rival, left->second) <= 1 && (right == positions.end() || Distance(rival, right->second) <= 2)) {
        return "the passage has " + source.content[j].lower + " in the place of " + word.lower;
      }
    }
  }
  return {};
}

// As years are written: a year and a count do not stand in each other's place.
bool LikeYear(const std::string& key) { return key.size() == 4 && key.find_first_not_of("0123456789") == std::string::npos; }

// A number or a name that only the title has, where the source has another one in its place: "built in 1931", by the title, where the
// source says "built in 1935".
std::string TitleAgainstSource(const Reading& sentence, const Positions& positions, const Reading& source, const Reading& title,
                               const std::unordered_set<std::string>& lower_words) {
  const size_t n = sentence.keys.size();
  const auto lent = [&](size_t i) { return !positions.contains(sentence.keys[i]) && title.set.contains(sentence.keys[i]); };
  const auto rival = [&](size_t j) { return !sentence.set.contains(source.keys[j]) && !title.set.contains(source.keys[j]); };
  const auto beside = [](const Word& before, const Word& word) { return word.at.begin == before.at.end + 1; };
  for (size_t i = 0; i < n; ++i) {
    if (!lent(i)) continue;
    const Word& word = sentence.content[i];
    if (word.number) {
      bool of_name = false;   // "Apollo 11": one name in the title, and so here
      for (size_t t = 0; i > 0 && lent(i - 1) && beside(sentence.content[i - 1], word) && t + 1 < title.keys.size(); ++t) {
        of_name = of_name || (title.content[t].capital && title.keys[t] == sentence.keys[i - 1] && title.keys[t + 1] == sentence.keys[i] &&
                              beside(title.content[t], title.content[t + 1]));
      }
      for (size_t j = 0; !of_name && j < source.keys.size(); ++j) {
        if (source.content[j].number && rival(j) && LikeYear(source.keys[j]) == LikeYear(sentence.keys[i])) {
          return "number " + word.lower + " is only in the title, the passage has " + source.content[j].lower;
        }
      }
      continue;
    }
    if (!word.capital || (i > 0 && lent(i - 1) && sentence.content[i - 1].capital)) continue;   // once a name, at its first word
    size_t after = i + 1;
    while (after < n && lent(after) && sentence.content[after].capital) ++after;
    const auto left = i > 0 ? positions.find(sentence.keys[i - 1]) : positions.end();
    const auto right = after < n ? positions.find(sentence.keys[after]) : positions.end();
    for (size_t j = 0; j < source.keys.size(); ++j) {
      const bool initial = source.content[j].at.begin == 0;
      if (!source.content[j].capital || source.content[j].number || !rival(j) || (initial && lower_words.contains(source.keys[j]))) continue;
      size_t last = j;
      while (last + 1 < source.keys.size() && source.runs_on[last]) ++last;
      const std::vector<int64_t> place = {source.place[j], source.place[last]};
      const bool by_left = left != positions.end() && Distance(place, left->second) <= 1;
      const bool by_right = right != positions.end() && Distance(place, right->second) <= 2;
      const bool same_word_before = i > 0 && j > 0 && source.keys[j - 1] == sentence.keys[i - 1] &&   // "von Frisch"
                                    beside(sentence.content[i - 1], word) && beside(source.content[j - 1], source.content[j]);
      const bool same_part = sentence.agent[i] && source.agent[j] && (!initial || word.at.begin > 0 || by_right);
      if ((by_left && (by_right || after == n)) || same_word_before || same_part) {
        return "name " + word.lower + " is only in the title, the passage has " + source.content[j].lower;
      }
    }
  }
  return {};
}

struct Verdict {
  double coverage = 0, order = 0;
  std::string why;
};

Verdict Compare(const Reading& sentence, const Reading& source, const Reading& title,
                const std::unordered_set<std::string>& lower_words) {
  Verdict v;
  int64_t found = 0;
  bool any_here = false;
  for (size_t i = 0; i < sentence.keys.size(); ++i) {
    const std::string& key = sentence.keys[i];
    const bool here = source.set.contains(key);
    any_here = any_here || here;
    if (here || title.set.contains(key)) {
      ++found;
    } else if (v.why.empty() && sentence.content[i].number) {
      v.why = "number " + sentence.content[i].lower + " is not in the passage";
    } else if (v.why.empty() && IsName(sentence, i, lower_words.contains(key))) {
      v.why = "name " + sentence.content[i].lower + " is not in the passage";
    }
  }
  if (v.why.empty() && !any_here) v.why = "only the title speaks of it";
  v.coverage = sentence.keys.empty() ? 0 : static_cast<double>(found) / static_cast<double>(sentence.keys.size());
  // Order: each word found here should come after the found word before it, close by.
  Positions positions;
  for (size_t i = 0; i < source.keys.size(); ++i) positions[source.keys[i]].push_back(source.place[i]);
  int64_t pairs = 0, kept = 0, beside = 0, names_moved = 0;
  for (size_t i = 0; i + 1 < sentence.keys.size(); ++i) {
    const auto a = positions.find(sentence.keys[i]), b = positions.find(sentence.keys[i + 1]);
    if (a == positions.end() || b == positions.end()) continue;
    ++pairs;
    bool ordered = false, near = false;   // near: a clause may come before another, its words stay together
    for (int64_t x : a->second) {
      for (int64_t y : b->second) {
        ordered = ordered || (y > x && y - x <= 3);
        near = near || std::abs(y - x) <= 3;
      }
    }
    kept += ordered;
    beside += near;
    const bool exact = sentence.content[i].number || sentence.content[i].capital || sentence.content[i + 1].number || sentence.content[i + 1].capital;
    names_moved += !near && exact;
  }
  const auto share = [&](int64_t part) {
    return pairs == 0 ? (sentence.keys.size() <= 1 ? 1.0 : 0.0) : static_cast<double>(part) / static_cast<double>(pairs);
  };
  v.order = share(kept);
  // What is denied on one side must be denied on the other.
  std::unordered_map<std::string_view, bool> denied_here;
  for (size_t i = 0; i < source.keys.size(); ++i) {
    auto [at, added] = denied_here.try_emplace(source.keys[i], source.denied[i]);
    if (!added) at->second = at->second && source.denied[i];
  }
  for (size_t i = 0; i < sentence.keys.size() && v.why.empty(); ++i) {
    const auto at = denied_here.find(sentence.keys[i]);
    if (sentence.denied[i] && (at == denied_here.end() || !at->second)) {
      // "It is not true that ..." denies all that follows.
      static const std::unordered_set<std::string_view> verdicts = {"true", "case", "correct", "right", "fact"};
      const bool other_words = at == denied_here.end() && !verdicts.contains(sentence.keys[i]) && source.negations >= sentence.negations && DeniesNearby(sentence, source);
      if (!other_words) v.why = "the passage does not deny '" + sentence.content[i].lower + "'";
    } else if (!sentence.denied[i] && at != denied_here.end() && at->second && sentence.negations == 0) {
      v.why = "the passage denies '" + sentence.content[i].lower + "'";
    }
  }
  if (v.why.empty()) v.why = TitleAgainstSource(sentence, positions, source, title, lower_words);
  if (v.why.empty()) v.why = MixedName(sentence, source, title);
  if (v.why.empty()) v.why = DisplacedName(sentence, positions, source);
  if (v.why.empty()) v.why = MisplacedNumber(sentence, positions, source);
  if (v.why.empty() && names_moved >= 2 && share(beside) < 0.7) v.why = "names or numbers stand elsewhere in the passage";
  return v;
}

}  // namespace

Similarity EncoderSimilarity(index::Encoder* encoder) {
  if (encoder == nullptr) return nullptr;
  return [encoder](std::string_view a, std::string_view b) {
    const std::string_view texts[] = {a, b};
    const absl::StatusOr<std::vector<float>> v = encoder->Encode(texts, /*cut=*/true);
    if (!v.ok()) return 0.0;   // support then rests on the words alone
    double sum = 0;
    for (int64_t i = 0; i < encoder->dim(); ++i) sum += static_cast<double>((*v)[i]) * (*v)[encoder->dim() + i];
    return sum;
  };
}

Support JudgeSupport(std::string_view sentence, std::span<const Source> sources, const Similarity& similarity) {
  Support best;
  best.why = "no passage speaks of it";
  const Reading reading = Read(sentence);
  if (reading.content.empty()) {
    best.why = "the sentence claims nothing";
    return best;
  }
  double best_score = -1;
  for (size_t s = 0; s < sources.size(); ++s) {
    const Source& source = sources[s];
    const Reading title = Read(source.title);
    std::unordered_set<std::string> lower_words;
    for (const Word& word : SplitWords(source.text)) {
      if (!word.capital) lower_words.insert(word.stem);
    }
    std::vector<ByteRange> segments = source.segments;
    if (segments.empty()) segments.push_back({0, static_cast<int64_t>(source.text.size())});
    for (const ByteRange& segment : segments) {
      std::vector<ByteRange> ranges = SplitSentences(source.text.substr(segment.begin, segment.end - segment.begin));
      const size_t single = ranges.size();
      std::vector<Reading> readings;   // of the single sentences
      for (size_t i = 0; i + 1 < single; ++i) ranges.push_back({ranges[i].begin, ranges[i + 1].end});
      for (size_t i = 0; i < ranges.size(); ++i) {
        const ByteRange at = {segment.begin + ranges[i].begin, segment.begin + ranges[i].end};
        const std::string_view text = source.text.substr(at.begin, at.end - at.begin);
        if (i < single) readings.push_back(Read(text));
        const Reading here = i < single ? readings.back() : Join(readings[i - single], readings[i - single + 1]);
        Verdict v = Compare(reading, here, title, lower_words);
        if (i >= single && v.why.empty()) v.why = LentWord(reading, readings[i - single], readings[i - single + 1]);
        double needed = kMinCoverage, like = 0;
        if (v.why.empty() && v.coverage >= kMinCoverage * 2 / 3 && v.coverage < kMinCoverage && similarity) {
          like = similarity(sentence, text);
          if (like >= kLikeEnough) needed = kMinCoverage * 2 / 3;
        }
        if (v.why.empty() && v.coverage < needed) v.why = "too little of it is in the passage";
        if (v.why.empty() && v.order < kMinOrder) v.why = "its words stand in another order in the passage";
        const bool supported = v.why.empty();
        // One sentence is a better quote than two that say no more.
        const double score = (supported ? 10 : 0) + v.coverage + 0.3 * v.order - (i >= single ? 0.05 : 0);
        if (score <= best_score) continue;
        best_score = score;
        best = {supported, static_cast<int64_t>(s), at, v.coverage, v.order, like, v.why};
      }
    }
  }
  return best;
}

}  // namespace lectern::service::answer
