#include "decoder/tokenizer/special_tokens.h"

namespace lectern::tokenizer {

void SpecialTokens::Add(std::string_view text, int32_t id, bool control) {
  if (text.empty()) return;
  const auto add = [&](Set& set) {
    set.trie.Insert(text, id);
    set.lengths.insert(text.size());
    set.first_bytes[static_cast<uint8_t>(text[0])] = true;
  };
  add(all_);
  if (!control) add(always_);
}

// Longest first: tokens of the greatest length take what they match, then the next length looks at the gaps.
void SpecialTokens::SplitRegion(const Set& set, std::string_view text,
                                std::set<size_t, std::greater<size_t>>::const_iterator length, const Sink& sink) const {
  while (length != set.lengths.end() && *length > text.size()) ++length;
  if (text.empty()) return;
  if (length == set.lengths.end()) return sink(text, kNone);
  size_t done = 0;
  for (size_t at = 0; at + *length <= text.size();) {
    const std::string_view candidate = text.substr(at, *length);
    size_t matched = 0;
    const int32_t id = set.trie.LongestPrefix(candidate, &matched);
    if (id == kNone || matched != *length) {
      ++at;
      continue;
    }
    SplitRegion(set, text.substr(done, at - done), std::next(length), sink);
    sink(candidate, id);
    at += *length;
    done = at;
  }
  SplitRegion(set, text.substr(done), std::next(length), sink);
}

void SpecialTokens::Split(std::string_view text, bool parse_control, const Sink& whole_parts) const {
  const Set& set = parse_control ? all_ : always_;
  if (set.trie.empty()) {
    if (!text.empty()) whole_parts(text, kNone);
    return;
  }
  // What lies between two tokens is one part, even where a region of overlaps leaves some of it.
  std::string_view waiting;
  const Sink sink = [&](std::string_view part, int32_t id) {
    if (id == kNone) {
      waiting = waiting.empty() ? part : std::string_view(waiting.data(), waiting.size() + part.size());
      return;
    }
    if (!waiting.empty()) whole_parts(waiting, kNone);
    waiting = {};
    whole_parts(part, id);
  };
  size_t done = 0;
  for (size_t at = 0; at < text.size();) {
    if (!set.first_bytes[static_cast<uint8_t>(text[at])]) {
      ++at;
      continue;
    }
    size_t length = 0;
    const int32_t id = set.trie.LongestPrefix(text.substr(at), &length);
    if (id == kNone) {
      ++at;
      continue;
    }
    if (done < at) sink(text.substr(done, at - done), kNone);
    if (rule_ == OverlapRule::kLongestFirst) {
      // The region ends where no match that begins inside reaches further.
      size_t end = at + length;
      bool overlapping = false;
      for (size_t inside = at + 1; inside < end; ++inside) {
        if (!set.first_bytes[static_cast<uint8_t>(text[inside])]) continue;
        size_t reach = 0;
        if (set.trie.LongestPrefix(text.substr(inside), &reach) != kNone && inside + reach > end) {
          end = inside + reach;
          overlapping = true;
        }
      }
      if (overlapping) {
        SplitRegion(set, text.substr(at, end - at), set.lengths.begin(), sink);
        at = done = end;
        continue;
      }
    }
    sink(text.substr(at, length), id);
    at = done = at + length;
  }
  if (done < text.size()) sink(text.substr(done), kNone);
  if (!waiting.empty()) whole_parts(waiting, kNone);
}

}  // namespace lectern::tokenizer
