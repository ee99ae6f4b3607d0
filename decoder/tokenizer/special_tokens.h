// decoder/tokenizer/special_tokens.h: finds the tokens that are recognised whole, before any other rule.
//
//   SpecialTokens specials;  specials.Add("<|im_end|>", 2, /*control=*/true);
//   specials.Split(text, /*parse_control=*/false, [&](std::string_view part, int32_t id) { ... });
//
// Shapes:  parts in text order, none empty; id is kNone for ordinary text.
// Threads: immutable after the last Add.
// Errors:  none.
// Cost:    one trie walk; regions where different tokens overlap are walked once for each token length.
#pragma once

#include <cstdint>
#include <functional>
#include <set>
#include <string_view>

#include "decoder/tokenizer/byte_trie.h"

namespace lectern::tokenizer {

// Which token wins where several overlap: llama.cpp takes the longest of a region first, the `tokenizers` library
// the leftmost, then the longest.
enum class OverlapRule { kLongestFirst, kLeftmostLongest };

class SpecialTokens {
 public:
  static constexpr int32_t kNone = -1;
  using Sink = std::function<void(std::string_view part, int32_t id)>;

  void set_rule(OverlapRule rule) { rule_ = rule; }
  void Add(std::string_view text, int32_t id, bool control);  // control tokens match only where asked for
  void Split(std::string_view text, bool parse_control, const Sink& sink) const;

 private:
  struct Set {
    ByteTrie trie;
    std::set<size_t, std::greater<size_t>> lengths;
    bool first_bytes[256] = {};
  };
  void SplitRegion(const Set& set, std::string_view text, std::set<size_t, std::greater<size_t>>::const_iterator length,
                   const Sink& sink) const;

  Set always_;  // user-defined tokens
  Set all_;     // and control tokens
  OverlapRule rule_ = OverlapRule::kLongestFirst;
};

}  // namespace lectern::tokenizer
