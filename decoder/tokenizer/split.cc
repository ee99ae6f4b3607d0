#include "decoder/tokenizer/split.h"

#include <unicode/uchar.h>

#include <array>
#include <cstdint>

#include "decoder/tokenizer/unicode.h"

namespace lectern::tokenizer {
namespace {

enum class Kind : uint8_t { kEnd, kLetter, kNumber, kBlank, kOther };

constexpr std::array<Kind, 128> kAsciiKinds = [] {
  std::array<Kind, 128> kinds{};
  for (int c = 0; c < 128; ++c) {
    const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    kinds[c] = letter                             ? Kind::kLetter
               : c >= '0' && c <= '9'             ? Kind::kNumber
               : c == ' ' || (c >= 9 && c <= 13) ? Kind::kBlank
                                                  : Kind::kOther;
  }
  return kinds;
}();

Kind KindOf(char32_t c) {
  if (c < 0x80) return kAsciiKinds[c];
  const uint32_t mask = U_MASK(u_charType(static_cast<UChar32>(c)));
  if ((mask & U_GC_L_MASK) != 0) return Kind::kLetter;
  if ((mask & U_GC_N_MASK) != 0) return Kind::kNumber;
  return u_isUWhiteSpace(static_cast<UChar32>(c)) ? Kind::kBlank : Kind::kOther;
}

struct Here {
  Kind kind = Kind::kEnd;
  uint32_t bytes = 0;
};

Here Look(std::string_view text, size_t at) {
  if (at >= text.size()) return {};
  const auto lead = static_cast<uint8_t>(text[at]);
  if (lead < 0x80) return {kAsciiKinds[lead], 1};
  const CodePoint c = NextCodePoint(text, at);
  return {c.valid ? KindOf(c.value) : Kind::kOther, c.bytes};
}

size_t SkipWhile(Kind kind, std::string_view text, size_t at) {
  for (Here here = Look(text, at); here.kind == kind; here = Look(text, at)) at += here.bytes;
  return at;
}

bool IsLineEnd(char c) { return c == '\r' || c == '\n'; }

// Bytes of 's, 't, 're, 've, 'm, 'll or 'd at `at`; 0 where there is none.
size_t Contraction(std::string_view text, size_t at, bool any_case) {
  if (text[at] != '\'' || at + 1 >= text.size()) return 0;
  const auto lower = [&](size_t i) {
    const char c = i < text.size() ? text[i] : '\0';
    return any_case && c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
  };
  const char first = lower(at + 1), second = lower(at + 2);
  if (first == 's' || first == 't' || first == 'm' || first == 'd') return 2;
  if ((first == 'r' && second == 'e') || (first == 'v' && second == 'e') || (first == 'l' && second == 'l')) return 3;
  return 0;
}

// \s+(?!\S)|\s+ : all blanks at the end of the text, else all but the last, which the next word may take.
size_t BlanksEnd(std::string_view text, size_t at, bool numbers_end_text) {
  size_t end = at, last = at;
  Here here = Look(text, end);
  for (; here.kind == Kind::kBlank; here = Look(text, end)) {
    last = end;
    end += here.bytes;
  }
  if (here.kind == Kind::kEnd || (numbers_end_text && here.kind == Kind::kNumber)) return end;
  return last > at ? last : end;
}

size_t Gpt2End(std::string_view text, size_t at, bool lone_numbers) {
  if (const size_t length = Contraction(text, at, /*any_case=*/false); length > 0) return at + length;
  const Here first = Look(text, at);
  if (lone_numbers && first.kind == Kind::kNumber) return at + first.bytes;
  const size_t begin = text[at] == ' ' ? at + 1 : at;
  const Here here = begin == at ? first : Look(text, begin);
  if (here.kind == Kind::kLetter || here.kind == Kind::kOther || (here.kind == Kind::kNumber && !lone_numbers)) {
    return SkipWhile(here.kind, text, begin + here.bytes);
  }
  return BlanksEnd(text, at, lone_numbers);
}

size_t Qwen2End(std::string_view text, size_t at, int digits) {
  if (const size_t length = Contraction(text, at, /*any_case=*/true); length > 0) return at + length;
  const Here first = Look(text, at);
  if (first.kind == Kind::kLetter) return SkipWhile(Kind::kLetter, text, at + first.bytes);
  if (first.kind == Kind::kNumber) {
    size_t end = at + first.bytes;
    for (int taken = 1; taken < digits; ++taken) {
      const Here next = Look(text, end);
      if (next.kind != Kind::kNumber) break;
      end += next.bytes;
    }
    return end;
  }
  const Here second = Look(text, at + first.bytes);
  if (second.kind == Kind::kLetter && !IsLineEnd(text[at])) {
    return SkipWhile(Kind::kLetter, text, at + first.bytes + second.bytes);
  }
  if (first.kind == Kind::kOther || (text[at] == ' ' && second.kind == Kind::kOther)) {
    size_t end = SkipWhile(Kind::kOther, text, at + first.bytes);
    while (end < text.size() && IsLineEnd(text[end])) ++end;
    return end;
  }
  // \s*[\r\n]+ : up to the last line end of this run of blanks.
  size_t line_end = 0;
  for (size_t end = at;;) {
    const Here here = Look(text, end);
    if (here.kind != Kind::kBlank) break;
    if (IsLineEnd(text[end])) line_end = end + 1;
    end += here.bytes;
  }
  return line_end > 0 ? line_end : BlanksEnd(text, at, /*numbers_end_text=*/false);
}

}  // namespace

absl::StatusOr<SplitRule> SplitRuleNamed(std::string_view name) {
  constexpr std::pair<std::string_view, SplitRule> kRules[] = {
      {"gpt-2", SplitRule::kGpt2},      {"smollm", SplitRule::kSmollm},     {"qwen2", SplitRule::kQwen2},
      {"llama-bpe", SplitRule::kLlama3}, {"llama3", SplitRule::kLlama3},    {"llama-v3", SplitRule::kLlama3},
      {"deepseek-r1-qwen", SplitRule::kQwen2},
  };
  for (const auto& [known, rule] : kRules) {
    if (known == name) return rule;
  }
  return NotSupported("pre-tokenizer '", std::string(name.substr(0, 48)), "'; known are gpt-2, smollm, qwen2, deepseek-r1-qwen, llama-bpe");
}

size_t WordEnd(SplitRule rule, std::string_view text, size_t at) {
  switch (rule) {
    case SplitRule::kGpt2: return Gpt2End(text, at, /*lone_numbers=*/false);
    case SplitRule::kSmollm: return Gpt2End(text, at, /*lone_numbers=*/true);
    case SplitRule::kQwen2: return Qwen2End(text, at, /*digits=*/1);
    case SplitRule::kLlama3: return Qwen2End(text, at, /*digits=*/3);
  }
  return text.size();
}

}  // namespace lectern::tokenizer
