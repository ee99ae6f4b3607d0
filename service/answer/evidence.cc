#include "service/answer/evidence.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace lectern::service::answer {
namespace {

constexpr double kFarOdds = 20;      // log-odds past this tell nothing more
constexpr double kExplained = 0.5;   // a word of the question gained less than this: the evidence does not speak of it

using WordSet = std::unordered_set<std::string_view>;

bool Has(const WordSet& set, const std::string& word) { return set.contains(word); }

QuestionKind KindOf(const std::vector<Word>& words) {
  static const WordSet amounts = {"percentage", "percent", "number", "amount", "proportion", "population", "age"};
  static const WordSet extents = {"many", "much", "long", "old", "far", "tall", "high", "large", "big", "often", "fast", "deep", "wide"};
  static const WordSet times = {"year", "years", "date", "day", "month", "century", "decade", "time", "era", "season"};
  static const WordSet places = {"city", "country", "state", "place", "location", "county", "continent", "town", "region", "village"};
  static const WordSet auxiliaries = {"is", "are", "was", "were", "do", "does", "did", "has", "have", "had", "can", "could",
                                      "will", "would", "should", "may", "might", "must"};
  static const WordSet descriptions = {"describe", "explain", "summarise", "summarize", "compare", "list", "tell", "outline"};
  if (words.empty()) return QuestionKind::kWhat;
  const auto asks_for = [&](size_t i, const WordSet& set) {  // "what year", "which former capital city"
    for (size_t j = i + 1; j <= i + 2 && j < words.size(); ++j) {
      if (Has(set, words[j].lower)) return true;
    }
    return false;
  };
  for (size_t i = 0; i < words.size(); ++i) {
    const std::string& word = words[i].lower;
    if (word == "how" && i + 1 < words.size() && Has(extents, words[i + 1].lower)) return QuestionKind::kNumber;
    if ((word == "what" || word == "which") && asks_for(i, amounts)) return QuestionKind::kNumber;
    if (word == "when" || ((word == "what" || word == "which") && asks_for(i, times))) return QuestionKind::kWhen;
    if (word == "who" || word == "whom" || word == "whose") return QuestionKind::kWho;
    if (word == "where" || ((word == "what" || word == "which") && asks_for(i, places))) return QuestionKind::kWhere;
    if (word == "why" || word == "how") return QuestionKind::kReason;
    if (word == "what" || word == "which") return QuestionKind::kWhat;
  }
  if (Has(descriptions, words[0].lower)) return QuestionKind::kDescribe;
  if (Has(auxiliaries, words[0].lower)) return QuestionKind::kYesNo;
  return QuestionKind::kWhat;
}

bool Contains(const std::unordered_set<std::string>& set, const std::string& stem) { return set.contains(stem); }

double Share(int64_t part, size_t whole) { return static_cast<double>(part) / static_cast<double>(std::max<size_t>(whole, 1)); }

int64_t SentenceAt(const PassageWords& passage, int64_t byte) {
  for (size_t i = 0; i < passage.sentences.size(); ++i) {
    if (byte < passage.sentences[i].end) return static_cast<int64_t>(i);
  }
  return static_cast<int64_t>(passage.sentences.size()) - 1;
}

double InQuestion(const Question& question, const std::vector<Word>& answer, int64_t* content_words) {
  const std::unordered_set<std::string> asked(question.content.begin(), question.content.end());
  int64_t shared = 0, total = 0;
  for (const Word& word : answer) {
    if (word.stop) continue;
    ++total;
    shared += asked.contains(word.stem);
  }
  *content_words = total;
  return Share(shared, total);
}

}  // namespace

std::string_view KindName(QuestionKind kind) {
  switch (kind) {
    case QuestionKind::kWho: return "who";
    case QuestionKind::kWhen: return "when";
    case QuestionKind::kWhere: return "where";
    case QuestionKind::kNumber: return "number";
    case QuestionKind::kWhat: return "what";
    case QuestionKind::kReason: return "reason";
    case QuestionKind::kYesNo: return "yes-no";
    case QuestionKind::kDescribe: return "describe";
  }
  return "what";
}

Question ReadQuestion(std::string_view text) {
  Question question;
  question.text = text;
  question.words = SplitWords(text);
  question.kind = KindOf(question.words);
  for (size_t i = 0; i < question.words.size(); ++i) {
    const Word& word = question.words[i];
    question.negated = question.negated || word.negation;
    if (word.stop) continue;
    question.content.push_back(word.stem);
    const bool digits = word.number && std::any_of(word.lower.begin(), word.lower.end(), [](char c) { return c >= '0' && c <= '9'; });
    if (i > 0 && (word.capital || digits)) question.entities.push_back(word.stem);
  }
  return question;
}

PassageWords ReadPassage(std::string_view title, std::string_view text) {
  PassageWords passage;
  passage.text = text;
  passage.sentences = SplitSentences(text);
  for (const ByteRange& range : passage.sentences) {
    std::unordered_set<std::string> stems;
    bool negated = false;
    for (Word& word : SplitWords(text.substr(range.begin, range.end - range.begin))) {
      negated = negated || word.negation;
      stems.insert(std::move(word.stem));
    }
    passage.stems.push_back(std::move(stems));
    passage.negated.push_back(negated);
  }
  for (Word& word : SplitWords(title)) passage.title.insert(std::move(word.stem));
  return passage;
}

std::optional<bool> FitsKind(QuestionKind kind, const std::vector<Word>& answer_words) {
  static const WordSet dates = {"january", "february", "march", "april", "may", "june", "july", "august", "september",
                                "october", "november", "december", "monday", "tuesday", "wednesday", "thursday", "friday",
                                "saturday", "sunday", "century", "decade", "today", "spring", "summer", "autumn", "winter"};
  const auto any = [&](auto test) { return std::any_of(answer_words.begin(), answer_words.end(), test); };
  const auto digit = [](const Word& word) {
    return std::any_of(word.lower.begin(), word.lower.end(), [](char c) { return c >= '0' && c <= '9'; });
  };
  switch (kind) {
    case QuestionKind::kNumber: return any([](const Word& word) { return word.number; });
    case QuestionKind::kWhen: return any([&](const Word& word) { return digit(word) || Has(dates, word.lower); });
    case QuestionKind::kWho:
    case QuestionKind::kWhere: return any([](const Word& word) { return word.capital; });
    default: return std::nullopt;
  }
}

Placed BestPlace(const Question& question, std::span<const PassageWords> passages, const SpanCandidate& candidate) {
  std::unordered_set<std::string> own;
  for (Word& word : SplitWords(candidate.text)) own.insert(std::move(word.stem));
  Placed best;
  best.coverage = -1;
  for (size_t i = 0; i < candidate.occurrences.size(); ++i) {
    const SpanAutomaton::Occurrence& at = candidate.occurrences[i];
    const PassageWords& passage = passages[at.passage];
    const int64_t sentence = SentenceAt(passage, at.begin);
    if (sentence < 0) continue;
    int64_t covered = 0;
    for (const std::string& stem : question.content) {
      covered += !own.contains(stem) && (Contains(passage.stems[sentence], stem) || Contains(passage.title, stem));
    }
    const double coverage = Share(covered, question.content.size());
    if (coverage > best.coverage) best = {static_cast<int64_t>(i), sentence, coverage};
  }
  best.coverage = std::max(best.coverage, 0.0);
  return best;
}

RankFeatures FeaturesForRank(const Question& question, const SpanCandidate& candidate, const Placed& place, const ReaderScores& scores) {
  const std::vector<Word> words = SplitWords(candidate.text);
  int64_t content = 0;
  const double in_question = InQuestion(question, words, &content);
  const std::optional<bool> fits = FitsKind(question.kind, words);
  const double tokens = std::max<double>(static_cast<double>(candidate.token_logprobs.size()), 1);
  const char last = candidate.text.empty() ? ' ' : candidate.text.back();
  return {candidate.logprob, tokens, std::log(tokens), candidate.end_logprob, place.coverage, in_question,
          fits == true ? 1.0 : 0.0, fits == false ? 1.0 : 0.0,
          std::string_view(".,;:!?").find(last) != std::string_view::npos ? 1.0 : 0.0, content == 0 ? 1.0 : 0.0,
          std::accumulate(scores.given.begin(), scores.given.end(), 0.0), std::clamp(scores.yes, -kFarOdds, kFarOdds)};
}

TrustFeatures FeaturesForTrust(const Question& question, const PassageWords& passage, const SpanCandidate& candidate,
                               const Placed& place, const ReaderScores& scores) {
  const auto n = static_cast<int64_t>(passage.sentences.size());
  const auto share_in = [&](int64_t sentence) {
    int64_t covered = 0;
    for (const std::string& stem : question.content) {
      covered += Contains(passage.stems[sentence], stem) || Contains(passage.title, stem);
    }
    return Share(covered, question.content.size());
  };
  double most = 0;
  for (int64_t s = 0; s < n; ++s) most = std::max(most, share_in(s));
  const double here = share_in(place.sentence);
  int64_t missing = 0;
  for (const std::string& stem : question.entities) {
    bool found = Contains(passage.title, stem);
    for (int64_t s = std::max<int64_t>(place.sentence - 1, 0); s <= std::min(place.sentence + 1, n - 1); ++s) {
      found = found || Contains(passage.stems[s], stem);
    }
    missing += !found;
  }
  int64_t content = 0;
  const double in_question = InQuestion(question, SplitWords(candidate.text), &content);
  double sum = 0, worst = 0, worst_gain = kFarOdds;
  for (size_t i = 0; i < scores.given.size(); ++i) {
    sum += scores.given[i];
    worst = std::min<double>(worst, scores.given[i]);
    if (i < scores.alone.size()) worst_gain = std::min<double>(worst_gain, scores.given[i] - scores.alone[i]);
  }
  if (scores.given.empty()) worst_gain = 0;
  // What sentence and answer tell of each content word of the question: an entity that was swapped gains nothing.
  std::vector<double> gains(question.words.size(), 0);
  double gain = 0;
  for (size_t i = 0; i < std::min({scores.given.size(), scores.alone.size(), scores.word.size()}); ++i) {
    gain += scores.given[i] - scores.alone[i];
    if (scores.word[i] >= 0) gains[static_cast<size_t>(scores.word[i])] += scores.given[i] - scores.alone[i];
  }
  double worst_word = kFarOdds;
  int64_t unexplained = 0, content_words = 0;
  for (size_t w = 0; w < gains.size(); ++w) {
    if (question.words[w].stop) continue;
    ++content_words;
    worst_word = std::min(worst_word, gains[w]);
    unexplained += gains[w] < kExplained;
  }
  if (content_words == 0) worst_word = 0;
  return {candidate.logprob,
          std::clamp(scores.not_found - candidate.logprob, -kFarOdds, kFarOdds),
          std::min<double>(static_cast<double>(candidate.token_logprobs.size()), 12),
          here,
          most - here,
          static_cast<double>(std::min<int64_t>(missing, 3)),
          in_question,
          question.negated ? 1.0 : 0.0,
          question.negated && !passage.negated[place.sentence] ? 1.0 : 0.0,
          static_cast<double>(std::min<size_t>(question.content.size(), 14)),
          sum / static_cast<double>(std::max<size_t>(scores.given.size(), 1)),
          worst,
          worst_gain,
          std::clamp(scores.refusal, -kFarOdds, kFarOdds),
          std::clamp(scores.yes, -kFarOdds, kFarOdds),
          gain / static_cast<double>(std::max<size_t>(scores.given.size(), 1)),
          std::max(worst_word, -kFarOdds),
          Share(unexplained, static_cast<size_t>(content_words))};
}

}  // namespace lectern::service::answer
