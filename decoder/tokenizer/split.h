// decoder/tokenizer/split.h: cuts text into the words that byte-pair merges never cross.
//
//   ASSIGN_OR_RETURN(SplitRule rule, SplitRuleNamed("qwen2"));
//   for (size_t at = 0; at < text.size(); at = WordEnd(rule, text, at)) { ... }
//
// Shapes:  byte positions. A word ends on a character boundary; bytes that are no UTF-8 count as symbols.
// Threads: pure functions.
// Errors:  kUnimplemented names an unknown rule.
// Cost:    each byte is looked at once or twice; ASCII takes no Unicode table.
#pragma once

#include <cstddef>
#include <string_view>

#include "base/status.h"

namespace lectern::tokenizer {

// Written by hand after the regular expressions the models were trained with:
//   kGpt2    's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
//   kSmollm  first \p{N} alone, then kGpt2 in each gap by itself
//   kQwen2   (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+
//   kLlama3  kQwen2 with \p{N}{1,3}
enum class SplitRule { kGpt2, kSmollm, kQwen2, kLlama3 };

absl::StatusOr<SplitRule> SplitRuleNamed(std::string_view name);

// The end of the word that begins at `at`. REQUIRES: at < text.size().
size_t WordEnd(SplitRule rule, std::string_view text, size_t at);

}  // namespace lectern::tokenizer
