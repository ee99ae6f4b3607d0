// index/query.h: what a query asks for.
//
//   ASSIGN_OR_RETURN(Query q, ParseQuery(*analyzer, "white \"moby dick\" -film"));
//   q.terms: white, mobi, dick;  q.phrases: {mobi, dick}, and {film} excluded
//
// Shapes:  a query is a bag of words. "..." asks that its words stand next to each other in a chunk's text or title and
//          adds them to the bag; -word and -"..." leave out chunks that have them. An operator begins a word: the minus
//          in co-op is none, and -5 is a number (-"5" leaves out fives). A quotation mark without a partner is
//          punctuation. No word is a stop word: leaving function words out lowered nDCG@10 on four of five sets.
// Threads: pure.
// Errors:  kInvalidArgument: invalid UTF-8, more than kMaxQueryTerms distinct terms, more than kMaxQueryPhrases operators, a phrase
//          without a word, nothing asked for beside what is left out.
// Cost:    one analysis of the text.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "index/analyzer.h"

namespace lectern::index {

inline constexpr int64_t kMaxQueryTerms = 1024;   // distinct; a posting list each is held open
inline constexpr int64_t kMaxQueryPhrases = 64;
inline constexpr int64_t kMaxQueryBytes = int64_t{1} << 20;

struct QueryTerm {
  std::string term;
  int64_t count = 1;
};

struct QueryPhrase {
  std::vector<std::string> terms;   // in order; one for a single word
  bool excluded = false;
};

struct Query {
  std::vector<QueryTerm> terms;     // distinct, in order of first occurrence; empty where the text has no words
  std::vector<QueryPhrase> phrases;
  std::string plain_text;           // without operators and what they leave out: what an encoder reads
};

absl::StatusOr<Query> ParseQuery(const Analyzer& analyzer, std::string_view text);
// The same without operators: quotation marks and minus signs are punctuation.
absl::StatusOr<Query> PlainQuery(const Analyzer& analyzer, std::string_view text);

// Whether the phrase's terms stand next to each other in the text, as the analyzer cuts it.
bool ContainsPhrase(const Analyzer& analyzer, std::string_view text, const std::vector<std::string>& terms);

}  // namespace lectern::index
