#include "index/query.h"

#include <algorithm>
#include <unordered_map>

#include "base/problem.h"
#include "index/analyzer-inl.h"
#include "index/readers/extract.h"

namespace lectern::index {
namespace {

// Distinct terms in order of first occurrence.
class Bag {
 public:
  void Add(std::string_view term) {
    if (terms.size() <= kLinear) {
      for (QueryTerm& known : terms) {
        if (known.term == term) {
          ++known.count;
          return;
        }
      }
      terms.push_back({std::string(term), 1});
      if (terms.size() > kLinear) {
        for (size_t i = 0; i < terms.size(); ++i) places_[terms[i].term] = i;
      }
      return;
    }
    const auto [place, is_new] = places_.try_emplace(std::string(term), terms.size());
    if (is_new) terms.push_back({std::string(term), 1});
    else ++terms[place->second].count;
  }
  std::vector<QueryTerm> terms;

 private:
  static constexpr size_t kLinear = 24;  // below, comparing is faster than hashing
  std::unordered_map<std::string, size_t> places_;
};

class Builder {
 public:
  explicit Builder(const Analyzer& analyzer) : impl_(analyzer.impl()) {}

  void AddText(std::string_view text) {
    ForEachWord(impl_, text, [&](std::string_view folded, int64_t, int64_t) { bag_.Add(impl_.TermOf(folded, scratch_)); });
  }
  absl::Status AddPhrase(std::string_view text, bool excluded) {
    QueryPhrase phrase;
    phrase.excluded = excluded;
    ForEachWord(impl_, text, [&](std::string_view folded, int64_t, int64_t) {
      phrase.terms.emplace_back(impl_.TermOf(folded, scratch_));
      if (!excluded) bag_.Add(phrase.terms.back());
    });
    if (phrase.terms.empty()) return InvalidArgument("a phrase must have a word that the analyzer keeps, got '", text, "'");
    phrases_.push_back(std::move(phrase));
    if (static_cast<int64_t>(phrases_.size()) > kMaxQueryPhrases) {
      return WithLimit(InvalidArgument("a query may have at most ", kMaxQueryPhrases, " phrases and exclusions, got more"), "query", kMaxQueryPhrases, phrases_.size());
    }
    return absl::OkStatus();
  }
  absl::StatusOr<Query> Finish(std::string plain_text) {
    Query query;
    query.terms = std::move(bag_.terms);
    query.phrases = std::move(phrases_);
    query.plain_text = std::move(plain_text);
    if (static_cast<int64_t>(query.terms.size()) > kMaxQueryTerms) {
      return WithLimit(InvalidArgument("a query may have at most ", kMaxQueryTerms, " distinct terms, got ", query.terms.size()), "query", kMaxQueryTerms, query.terms.size());
    }
    if (query.terms.empty() && !query.phrases.empty()) {
      return InvalidArgument("a query must ask for a word beside what it leaves out");
    }
    return query;
  }

 private:
  const Analyzer::Impl& impl_;
  Bag bag_;
  std::vector<QueryPhrase> phrases_;
  std::string scratch_;
};

bool IsBlank(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

absl::Status CheckText(std::string_view text) {
  if (static_cast<int64_t>(text.size()) > kMaxQueryBytes) {
    return WithLimit(InvalidArgument("a query may have at most ", kMaxQueryBytes, " bytes, got ", text.size()), "query", kMaxQueryBytes, text.size());
  }
  if (const int64_t bad = FindInvalidUtf8(text); bad >= 0) {
    return InvalidArgument("a query must be valid UTF-8, byte ", bad, " of this one is not");
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<Query> PlainQuery(const Analyzer& analyzer, std::string_view text) {
  RETURN_IF_ERROR(CheckText(text));
  Builder builder(analyzer);
  builder.AddText(text);
  return builder.Finish(std::string(text));
}

absl::StatusOr<Query> ParseQuery(const Analyzer& analyzer, std::string_view text) {
  if (text.find_first_of("\"-") == std::string_view::npos) return PlainQuery(analyzer, text);
  RETURN_IF_ERROR(CheckText(text));
  Builder builder(analyzer);
  std::string plain;
  size_t plain_begin = 0, at = 0;
  auto flush = [&](size_t end) {
    const std::string_view piece = text.substr(plain_begin, end - plain_begin);
    builder.AddText(piece);
    plain.append(piece);
  };
  while (at < text.size()) {
    const bool starts_word = at == 0 || IsBlank(text[at - 1]);
    const size_t operator_begin = at;
    bool excluded = false;
    if (text[at] == '-' && starts_word && at + 1 < text.size()) {
      const char next = text[at + 1];
      const ByteClass type = kByteTables.type[static_cast<unsigned char>(next)];
      excluded = next == '"' || type == ByteClass::kLetter || type == ByteClass::kNotAscii;
      if (excluded) ++at;
    }
    if (text[at] == '"') {
      const size_t close = text.find('"', at + 1);
      if (close != std::string_view::npos) {
        flush(operator_begin);
        const std::string_view inside = text.substr(at + 1, close - at - 1);
        RETURN_IF_ERROR(builder.AddPhrase(inside, excluded));
        if (!excluded) plain.append(inside);
        at = plain_begin = close + 1;
        continue;
      }
    } else if (excluded) {
      flush(operator_begin);
      size_t end = at;
      while (end < text.size() && !IsBlank(text[end]) && text[end] != '"') ++end;
      RETURN_IF_ERROR(builder.AddPhrase(text.substr(at, end - at), true));
      at = plain_begin = end;
      continue;
    }
    ++at;
  }
  flush(text.size());
  return builder.Finish(std::move(plain));
}

bool ContainsPhrase(const Analyzer& analyzer, std::string_view text, const std::vector<std::string>& terms) {
  if (terms.empty()) return true;
  std::vector<std::string> window;  // the last terms.size() terms, as a ring
  window.resize(terms.size());
  size_t seen = 0;
  bool found = false;
  std::string scratch;
  ForEachWord(analyzer.impl(), text, [&](std::string_view folded, int64_t, int64_t) {
    if (found) return;
    window[seen++ % terms.size()] = analyzer.impl().TermOf(folded, scratch);
    if (seen < terms.size()) return;
    found = true;
    for (size_t i = 0; i < terms.size() && found; ++i) found = window[(seen + i) % terms.size()] == terms[i];
  });
  return found;
}

}  // namespace lectern::index
