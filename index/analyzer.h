// index/analyzer.h: text to terms.
//
//   ASSIGN_OR_RETURN(auto analyzer, Analyzer::Named("en"));      // en, en-stop, icu, or a Snowball language code
//   analyzer->Analyze(text, [&](std::string_view term, int64_t begin, int64_t end) { ... });
//
// Shapes:  terms are case-folded (NFKC), stemmed UTF-8 of 1 to 255 bytes; begin/end are the bytes of the word in the
//          input. A word is a run of letters, digits and marks, with apostrophes between letters; scripts without
//          spaces go through ICU's dictionaries (Thai, Lao, Khmer, Burmese) or become overlapping bigrams (Chinese,
//          Japanese, Korean). A longer word becomes several terms; bytes that are not UTF-8 separate words.
//          en-stop is en without the 33 words that Lucene's English analyzer drops.
// Threads: immutable to the eye; any thread (the stem cache inside is read without a lock).
// Errors:  kInvalidArgument names an unknown analyzer and lists the known ones.
// Cost:    ASCII words take a table loop and a cached stem, some 20 ns a word; other words go through ICU.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace lectern::index {

inline constexpr int64_t kMaxTermBytes = 255;  // a length fits one byte in the dictionary

class Analyzer {
 public:
  using Sink = std::function<void(std::string_view term, int64_t begin, int64_t end)>;
  static absl::StatusOr<std::shared_ptr<const Analyzer>> Named(std::string_view name);
  static std::vector<std::string> KnownNames();
  ~Analyzer();

  std::string name() const;  // with its version, stored in the manifest: "en/1"
  void Analyze(std::string_view text, const Sink& sink) const;
  std::vector<std::string> Terms(std::string_view text) const;

  // The same terms with every word sent through ICU: what the fast path is tested against.
  void AnalyzeThroughIcuForTest(std::string_view text, const Sink& sink) const;

  struct Impl;  // analyzer-inl.h, for the loops that cannot pay a call a word
  const Impl& impl() const { return *impl_; }

 private:
  Analyzer();
  std::unique_ptr<Impl> impl_;
};

}  // namespace lectern::index
