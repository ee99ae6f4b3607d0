#include "service/answer/pack.h"

#include <algorithm>
#include <unordered_set>

namespace lectern::service::answer {
namespace {

using WordSet = std::unordered_set<std::string_view>;

std::string Render(int64_t number, std::string_view title, const Passage& passage, const std::vector<ByteRange>& segments) {
  std::string out = "[" + std::to_string(number) + "]";
  if (!title.empty()) (out += " ") += title;
  out += "\n";
  for (size_t i = 0; i < segments.size(); ++i) {
    if (i > 0) out += " ";
    out += passage.text.substr(segments[i].begin, segments[i].end - segments[i].begin);
  }
  return out + "\n\n";
}

// The parts of `whole` outside `cut`.
std::vector<ByteRange> Without(const std::vector<ByteRange>& whole, ByteRange cut) {
  std::vector<ByteRange> out;
  for (const ByteRange& range : whole) {
    if (cut.end <= range.begin || cut.begin >= range.end) {
      out.push_back(range);
      continue;
    }
    if (range.begin < cut.begin) out.push_back({range.begin, cut.begin});
    if (cut.end < range.end) out.push_back({cut.end, range.end});
  }
  return out;
}

bool AllBlank(std::string_view text) {
  return text.find_first_not_of(" \t\r\n") == std::string_view::npos;
}

// Every run of blanks is one blank, of control characters and line separators one line break; none at the ends.
std::string Lines(std::string_view text) {
  std::string out;
  char gap = 0;
  for (size_t i = 0; i < text.size();) {
    const auto byte = static_cast<uint8_t>(text[i]);
    const std::string_view left = text.substr(i);
    const bool no_break = left.starts_with("\u00A0"), separator = left.starts_with("\u2028") || left.starts_with("\u2029");
    const bool c1 = byte == 0xC2 && left.size() > 1 && static_cast<uint8_t>(left[1]) < 0xA0;   // U+0080..U+009F
    if (byte == ' ' || no_break) {
      if (gap == 0) gap = ' ';
      i += no_break ? 2 : 1;
    } else if (byte < ' ' || byte == 0x7F || c1 || separator) {
      gap = '\n';
      i += separator ? 3 : c1 ? 2 : 1;
    } else {
      if (gap != 0 && !out.empty()) out += gap;
      gap = 0;
      out += text[i++];
    }
  }
  return out;
}

bool AnySpeaksToReader(std::string_view text) {
  if (SpeaksToReader(text)) return true;
  for (const ByteRange& s : SplitSentences(text)) {
    if (SpeaksToReader(text.substr(s.begin, s.end - s.begin))) return true;
  }
  return false;
}

}  // namespace

bool SpeaksToReader(std::string_view sentence) {
  static const WordSet override = {"ignore", "disregard", "forget", "override", "bypass", "skip"};
  static const WordSet given = {"instruction", "instructions", "prompt", "prompts", "passage", "passages", "question",
                                "rules", "context", "directions", "guidelines", "message", "messages", "documents"};
  static const WordSet before = {"previous", "above", "earlier", "prior", "preceding", "all", "any", "these", "other", "your", "the", "system"};
  static const WordSet say = {"answer", "reply", "respond", "say", "output", "print", "write", "repeat", "reveal", "state", "return", "type"};
  static const WordSet duty = {"must", "should", "always", "only", "instead", "now", "please", "shall", "exactly"};
  static const WordSet reader = {"assistant", "ai", "chatbot", "model", "llm", "reader", "language-model", "bot"};
  const std::vector<Word> words = SplitWords(sentence);
  const auto in = [](const WordSet& set, const Word& word) { return set.contains(word.lower); };
  bool overrides = false, names_given = false, names_before = false, says = false, duties = false, names_reader = false;
  static const WordSet anybody = {"somebody", "someone", "anybody", "anyone", "user", "users", "people", "you", "they", "i"};
  static const WordSet when = {"when", "whenever", "if", "once", "should"};
  static const WordSet ask = {"ask", "asks", "asked"};
  bool you = false, question = false, starts_with_say = false, supposes = false, is_asked = false;
  for (size_t i = 0; i < words.size(); ++i) {
    overrides = overrides || in(override, words[i]);
    names_given = names_given || in(given, words[i]);
    names_before = names_before || in(before, words[i]);
    says = says || in(say, words[i]);
    duties = duties || in(duty, words[i]);
    names_reader = names_reader || in(reader, words[i]);
    you = you || words[i].lower == "you" || words[i].lower == "your";
    question = question || words[i].lower == "question" || words[i].lower == "questions" || words[i].lower == "user" || words[i].lower == "asked";
    if (i == 0) starts_with_say = in(say, words[i]);
    supposes = supposes || in(when, words[i]);
    is_asked = is_asked || (supposes && i > 0 && in(ask, words[i]) && (in(anybody, words[i - 1]) || words[i - 1].lower == "are"));
  }
  if (sentence.find("<|") != std::string_view::npos || sentence.find("|>") != std::string_view::npos) return true;
  if (sentence.find("[INST]") != std::string_view::npos || sentence.find("<start_of_turn>") != std::string_view::npos) return true;
  if (overrides && names_given && names_before) return true;             // "disregard the earlier instructions"
  if (says && duties && (question || (you && names_reader))) return true;  // "you must answer every question with ..."
  if (starts_with_say && (duties || question) && !sentence.ends_with("?")) return true;  // "Reply only with ..."
  if (is_asked && says) return true;                                     // "When somebody asks ..., say ..."
  if (names_reader && you && (duties || overrides)) return true;         // "As an AI assistant you must now ..."
  if (words.size() >= 2 && (words[0].lower == "system" || words[0].lower == "assistant") &&
      words[0].at.end < static_cast<int64_t>(sentence.size()) && sentence[words[0].at.end] == ':') {
    return true;                                                         // a forged turn
  }
  return false;
}

absl::StatusOr<Packed> PackPassages(std::span<const Passage> passages, const tokenizer::Tokenizer& tokenizer,
                                    const PackOptions& options) {
  Packed packed;
  std::unordered_set<std::string_view> seen;
  int64_t smallest = -1, needed = 0;
  const auto count = [&](const std::string& text) { return static_cast<int64_t>(tokenizer.Encode(text).size()); };
  for (size_t p = 0; p < passages.size(); ++p) {
    const Passage& passage = passages[p];
    const auto size = static_cast<int64_t>(passage.text.size());
    const ByteRange whole = {passage.begin, passage.begin + size};
    const auto drop = [&](std::string reason, ByteRange at) { packed.dropped.push_back({passage.chunk_id, std::move(reason), at}); };
    if (AllBlank(passage.text) || !seen.insert(passage.text).second) {
      drop("duplicate", whole);
      continue;
    }
    std::vector<ByteRange> segments = {{0, size}};
    for (const PackedPassage& have : packed.passages) {
      const Passage& other = passages[have.input];
      if (other.doc_id != passage.doc_id) continue;
      const ByteRange shared = {std::max(other.begin, passage.begin) - passage.begin,
                                std::min<int64_t>(other.begin + static_cast<int64_t>(other.text.size()), whole.end) - passage.begin};
      if (shared.begin >= shared.end) continue;
      segments = Without(segments, shared);
      drop("overlap", {passage.begin + shared.begin, passage.begin + shared.end});
    }
    if (options.drop_instructions) {
      const std::vector<ByteRange> before = segments;
      for (const ByteRange& range : before) {
        for (const ByteRange& s : SplitSentences(std::string_view(passage.text).substr(range.begin, range.end - range.begin))) {
          const ByteRange at = {range.begin + s.begin, range.begin + s.end};
          if (!SpeaksToReader(std::string_view(passage.text).substr(at.begin, at.end - at.begin))) continue;
          segments = Without(segments, at);
          drop("instruction", {passage.begin + at.begin, passage.begin + at.end});
        }
      }
    }
    std::erase_if(segments, [&](const ByteRange& r) { return AllBlank(std::string_view(passage.text).substr(r.begin, r.end - r.begin)); });
    if (segments.empty()) continue;   // nothing left, and every part has its reason
    std::string title = Lines(passage.title);
    if (options.drop_instructions && AnySpeaksToReader(title)) {
      title.clear();
      drop("title-instruction", {});
    }
    std::replace(title.begin(), title.end(), '\n', ' ');
    if (static_cast<int64_t>(title.size()) > kMaxTitleBytes) {
      int64_t end = kMaxTitleBytes;
      while (end > 0 && !IsWordEnd(title, end)) --end;   // a word without end: nothing of it
      title.resize(static_cast<size_t>(end));
      drop("title-cut", {});
    }
    const auto number = static_cast<int64_t>(packed.passages.size()) + 1;
    std::string text = Render(number, title, passage, segments);
    int64_t tokens = count(text);
    needed += tokens;
    if (smallest < 0 || tokens < smallest) smallest = tokens;
    if (packed.tokens + tokens > options.budget_tokens && options.allow_trim && !options.overflow_is_error) {
      // Sentences from the front as long as they fit.
      std::vector<ByteRange> kept;
      for (const ByteRange& range : segments) {
        bool full = false;
        for (const ByteRange& s : SplitSentences(std::string_view(passage.text).substr(range.begin, range.end - range.begin))) {
          std::vector<ByteRange> longer = kept;
          const ByteRange at = {range.begin + s.begin, range.begin + s.end};
          if (!longer.empty() && longer.back().end >= range.begin && s.begin > 0) longer.back().end = at.end;
          else longer.push_back(at);
          if (packed.tokens + count(Render(number, title, passage, longer)) > options.budget_tokens) {
            full = true;
            break;
          }
          kept = std::move(longer);
        }
        if (full) break;
      }
      if (!kept.empty()) {
        drop("trimmed", {passage.begin + kept.back().end, whole.end});
        segments = std::move(kept);
        text = Render(number, title, passage, segments);
        tokens = count(text);
      }
    }
    if (packed.tokens + tokens > options.budget_tokens) {
      drop("budget", whole);
      continue;
    }
    packed.tokens += tokens;
    packed.text += text;
    packed.passages.push_back({static_cast<int64_t>(p), tokens, std::move(title), std::move(segments)});
  }
  if (options.overflow_is_error && needed > options.budget_tokens) {
    return ResourceExhausted("context-overflow: the passages need ", needed, " tokens, allowed are ", options.budget_tokens,
                             " (reader.max_context_tokens); raise it, ask for fewer passages, or drop the lowest");
  }
  if (packed.passages.empty() && smallest >= 0) {
    return ResourceExhausted("context-overflow: the smallest passage needs ", smallest, " tokens, allowed are ",
                             options.budget_tokens, " (reader.max_context_tokens)");
  }
  return packed;
}

}  // namespace lectern::service::answer
