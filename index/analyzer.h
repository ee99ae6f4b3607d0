// index/analyzer.h: text to terms.
//
//   ASSIGN_OR_RETURN(auto analyzer, Analyzer::Named("en"));      // en, icu, or a Snowball language code
//   analyzer->Analyze(text, [&](std::string_view term, int64_t begin, int64_t end) { ... });
//
// Shapes:  terms are lower-cased, stemmed UTF-8; begin/end are the bytes of the word in the input.
// Threads: immutable; any thread.
// Errors:  kInvalidArgument names an unknown analyzer and lists the known ones.
// Cost:    ASCII text takes a fast path with cached stems; anything else goes through ICU segmentation.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace lectern::index {

class Analyzer {
 public:
  using Sink = std::function<void(std::string_view term, int64_t begin, int64_t end)>;
  static absl::StatusOr<std::shared_ptr<const Analyzer>> Named(std::string_view name);
  virtual ~Analyzer() = default;
  virtual std::string name() const = 0;    // with its version, stored in the manifest: "en/1"
  virtual void Analyze(std::string_view text, const Sink& sink) const = 0;
  std::vector<std::string> Terms(std::string_view text) const;
};

}  // namespace lectern::index
