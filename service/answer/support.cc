#include "service/answer/support.h"

#include <algorithm>
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
  std::unordered_set<std::string> set;
  bool any_negation = false;
};

Reading Read(std::string_view text) {
  Reading out;
  int since = 100;   // content words since the last negation
  for (Word& word : SplitWords(text)) {
    if (word.negation) {
      since = 0;
      out.any_negation = true;
      continue;
    }
    if (word.stop) continue;
    out.keys.push_back(word.number ? NumberKey(word) : word.stem);
    out.denied.push_back(since < 1);   // a negation denies the next content word
    ++since;
    out.set.insert(out.keys.back());
    out.content.push_back(std::move(word));
  }
  return out;
}

// A capital that does not just open the sentence, unless the word is nowhere in lower case.
bool IsName(const Reading& sentence, size_t i, bool lower_in_source) {
  const Word& word = sentence.content[i];
  if (!word.capital || word.number) return false;
  return word.at.begin > 0 || !lower_in_source;
}

struct Verdict {
  double coverage = 0, order = 0;
  std::string why;
};

Verdict Compare(const Reading& sentence, const Reading& source, const std::unordered_set<std::string>& title,
                const std::unordered_set<std::string>& lower_words) {
  Verdict v;
  int64_t found = 0;
  for (size_t i = 0; i < sentence.keys.size(); ++i) {
    const std::string& key = sentence.keys[i];
    const bool here = source.set.contains(key);
    if (here || title.contains(key)) {
      ++found;
    } else if (v.why.empty() && sentence.content[i].number) {
      v.why = "number " + sentence.content[i].lower + " is not in the passage";
    } else if (v.why.empty() && IsName(sentence, i, lower_words.contains(key))) {
      v.why = "name " + sentence.content[i].lower + " is not in the passage";
    }
  }
  v.coverage = sentence.keys.empty() ? 0 : static_cast<double>(found) / static_cast<double>(sentence.keys.size());
  // Order: each word found here should come after the found word before it, close by.
  std::unordered_map<std::string_view, std::vector<int64_t>> positions;
  for (size_t i = 0; i < source.keys.size(); ++i) positions[source.keys[i]].push_back(static_cast<int64_t>(i));
  int64_t pairs = 0, kept = 0, names_moved = 0;
  for (size_t i = 0; i + 1 < sentence.keys.size(); ++i) {
    const auto a = positions.find(sentence.keys[i]), b = positions.find(sentence.keys[i + 1]);
    if (a == positions.end() || b == positions.end()) continue;
    ++pairs;
    bool ordered = false;
    for (int64_t x : a->second) {
      for (int64_t y : b->second) ordered = ordered || (y > x && y - x <= 3);
    }
    kept += ordered;
    const bool exact = sentence.content[i].number || sentence.content[i].capital || sentence.content[i + 1].number || sentence.content[i + 1].capital;
    names_moved += !ordered && exact;
  }
  v.order = pairs == 0 ? (sentence.keys.size() <= 1 ? 1 : 0) : static_cast<double>(kept) / static_cast<double>(pairs);
  // What is denied on one side must be denied on the other.
  std::unordered_map<std::string_view, bool> denied_here;
  for (size_t i = 0; i < source.keys.size(); ++i) {
    auto [at, added] = denied_here.try_emplace(source.keys[i], source.denied[i]);
    if (!added) at->second = at->second && source.denied[i];
  }
  for (size_t i = 0; i < sentence.keys.size() && v.why.empty(); ++i) {
    const auto at = denied_here.find(sentence.keys[i]);
    if (sentence.denied[i] && (at == denied_here.end() || !at->second)) {
      if (!(at == denied_here.end() && source.any_negation)) v.why = "the passage does not deny '" + sentence.content[i].lower + "'";
    } else if (!sentence.denied[i] && at != denied_here.end() && at->second && !sentence.any_negation) {
      v.why = "the passage denies '" + sentence.content[i].lower + "'";
    }
  }
  if (v.why.empty() && names_moved >= 2 && v.order < 0.8) v.why = "names or numbers stand elsewhere in the passage";
  return v;
}

}  // namespace

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
    std::unordered_set<std::string> title, lower_words;
    for (const Word& word : SplitWords(source.title)) title.insert(word.number ? NumberKey(word) : word.stem);
    for (const Word& word : SplitWords(source.text)) {
      if (!word.capital) lower_words.insert(word.stem);
    }
    std::vector<ByteRange> segments = source.segments;
    if (segments.empty()) segments.push_back({0, static_cast<int64_t>(source.text.size())});
    for (const ByteRange& segment : segments) {
      std::vector<ByteRange> ranges = SplitSentences(source.text.substr(segment.begin, segment.end - segment.begin));
      const size_t single = ranges.size();
      for (size_t i = 0; i + 1 < single; ++i) ranges.push_back({ranges[i].begin, ranges[i + 1].end});
      for (size_t i = 0; i < ranges.size(); ++i) {
        const ByteRange at = {segment.begin + ranges[i].begin, segment.begin + ranges[i].end};
        const std::string_view text = source.text.substr(at.begin, at.end - at.begin);
        const Reading here = Read(text);
        Verdict v = Compare(reading, here, title, lower_words);
        double needed = kMinCoverage, like = 0;
        if (v.why.empty() && v.coverage >= kMinCoverage * 2 / 3 && v.coverage < 0.95 && similarity) {
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
