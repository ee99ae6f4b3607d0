#include "index/chunker.h"

#include <algorithm>

#include "base/problem.h"

namespace lectern::index {
namespace {

constexpr int64_t kPieceBytes = 64 << 10;   // tokenised at a time
constexpr int64_t kWordBytes = 24;          // a unit without a tokenizer; a longer word counts as several

bool IsBlank(unsigned char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }
bool IsContinuation(unsigned char c) { return (c & 0xc0) == 0x80; }

// Down to the beginning of a character.
int64_t CharacterStart(std::string_view text, int64_t at) {
  while (at > 0 && at < static_cast<int64_t>(text.size()) && IsContinuation(static_cast<unsigned char>(text[static_cast<size_t>(at)]))) --at;
  return at;
}

// How good a place between two tokens is to end a chunk. [end, begin) are the bytes between them.
enum Break : uint8_t { kInsideCharacter, kInsideWord, kWord, kLine, kSentence, kParagraph };

bool EndsSentence(std::string_view text, int64_t end) {
  // Closing quotes and brackets may stand behind the mark.
  while (end > 0) {
    const unsigned char c = static_cast<unsigned char>(text[static_cast<size_t>(end - 1)]);
    if (c == '.' || c == '!' || c == '?') return true;
    if (c == '"' || c == '\'' || c == ')' || c == ']') {
      --end;
      continue;
    }
    const std::string_view before = text.substr(0, static_cast<size_t>(end));
    for (const std::string_view quote : {"\u201d", "\u2019", "\u300d", "\u300f", "\uff09"}) {
      if (before.ends_with(quote)) {
        end -= static_cast<int64_t>(quote.size());
        goto next;
      }
    }
    return before.ends_with("\u3002") || before.ends_with("\uff01") || before.ends_with("\uff1f") || before.ends_with("\u0964") ||
           before.ends_with("\u061f") || before.ends_with("\u06d4");
  next:;
  }
  return false;
}

Break ClassOf(std::string_view text, int64_t end, int64_t begin) {
  if (begin < static_cast<int64_t>(text.size()) && IsContinuation(static_cast<unsigned char>(text[static_cast<size_t>(begin)]))) return kInsideCharacter;
  int newlines = 0;
  bool blank = false;
  for (int64_t i = end; i < begin; ++i) {
    const unsigned char c = static_cast<unsigned char>(text[static_cast<size_t>(i)]);
    newlines += c == '\n';
    blank = blank || IsBlank(c);
  }
  if (newlines >= 2) return kParagraph;
  // Chinese and Japanese put no blank behind a sentence.
  const bool wide_mark = end >= 3 && !blank && EndsSentence(text, end) && (static_cast<unsigned char>(text[static_cast<size_t>(end - 1)]) & 0x80) != 0;
  if (wide_mark || (blank && EndsSentence(text, end))) return kSentence;
  if (newlines == 1) return kLine;
  return blank ? kWord : kInsideWord;
}

}  // namespace

Chunker::Chunker(const ChunkOptions& options, const tokenizer::Tokenizer* tokenizer) : options_(options), tokenizer_(tokenizer) {}

absl::StatusOr<Chunker> Chunker::Create(const ChunkOptions& options, const tokenizer::Tokenizer* tokenizer) {
  if (options.tokens != 0 && (options.tokens < kMinChunkTokens || options.tokens > kMaxChunkTokens)) {
    return WithLimit(InvalidArgument("chunk tokens (--chunk-tokens) must be 0, one chunk a document, or in ", kMinChunkTokens, "..", kMaxChunkTokens, ", got ", options.tokens),
                     "index.chunk_tokens", options.tokens < kMinChunkTokens ? kMinChunkTokens : kMaxChunkTokens, options.tokens);
  }
  if (options.tokens != 0 && (options.overlap < 0 || options.overlap > options.tokens / 2)) {
    return WithLimit(InvalidArgument("chunk overlap (--chunk-overlap) must be in 0..", options.tokens / 2, ", half of the chunk, got ", options.overlap),
                     "index.chunk_overlap", options.overlap < 0 ? 0 : options.tokens / 2, options.overlap);
  }
  Chunker chunker(options, tokenizer);
  if (tokenizer != nullptr) chunker.specials_ = static_cast<int64_t>(tokenizer->Encode("", {.add_special = true}).size());
  return chunker;
}

std::string EmbeddingText(std::string_view title, std::string_view chunk) {
  if (title.empty()) return std::string(chunk);
  if (chunk.empty()) return std::string(title);
  std::string out;
  out.reserve(title.size() + 1 + chunk.size());
  return out.append(title).append(" ").append(chunk);
}

namespace {

// The tokens of a text, a piece at a time, so that a long text needs little memory.
class TokenStream {
 public:
  TokenStream(std::string_view text, const tokenizer::Tokenizer* tokenizer) : text_(text), tokenizer_(tokenizer) {}

  // Adds the next piece's tokens to *out; false at the end of the text.
  bool Next(std::vector<Span>* out) {
    const auto size = static_cast<int64_t>(text_.size());
    if (at_ >= size) return false;
    int64_t end = std::min(size, at_ + kPieceBytes);
    if (end < size) {
      // Words must not be cut: back to a blank, or to a character's start where there is none in half a piece.
      int64_t blank = end;
      while (blank > at_ + kPieceBytes / 2 && !IsBlank(static_cast<unsigned char>(text_[static_cast<size_t>(blank)]))) --blank;
      end = blank > at_ + kPieceBytes / 2 ? blank : CharacterStart(text_, end);
      if (end <= at_) end = std::min(size, at_ + kPieceBytes);   // not UTF-8; the callers' readers saw to it
    }
    const std::string_view piece = text_.substr(static_cast<size_t>(at_), static_cast<size_t>(end - at_));
    if (tokenizer_ != nullptr) {
      offsets_.clear();
      tokenizer_->EncodeWithOffsets(piece, {}, &offsets_);
      for (const tokenizer::TokenOffset& t : offsets_) {
        if (t.end > t.begin) out->push_back({at_ + t.begin, at_ + t.end});
      }
    } else {
      Words(piece, out);
    }
    at_ = end;
    return true;
  }

 private:
  void Words(std::string_view piece, std::vector<Span>* out) const {
    const auto size = static_cast<int64_t>(piece.size());
    for (int64_t i = 0; i < size;) {
      if (IsBlank(static_cast<unsigned char>(piece[static_cast<size_t>(i)]))) {
        ++i;
        continue;
      }
      int64_t end = i;
      while (end < size && end - i < kWordBytes && !IsBlank(static_cast<unsigned char>(piece[static_cast<size_t>(end)]))) ++end;
      const int64_t whole = CharacterStart(piece, end);
      if (whole > i) end = whole;
      out->push_back({at_ + i, at_ + end});
      i = end;
    }
  }

  std::string_view text_;
  const tokenizer::Tokenizer* tokenizer_;
  int64_t at_ = 0;
  std::vector<tokenizer::TokenOffset> offsets_;
};

}  // namespace

std::vector<Span> Chunker::Chunk(std::string_view title, std::string_view text) const {
  std::vector<Span> chunks;
  std::vector<Span> tokens;   // those not passed yet
  TokenStream stream(text, tokenizer_);
  if (options_.tokens == 0) {
    // From the first token to the last, whatever lies between.
    Span whole{-1, 0};
    while (stream.Next(&tokens)) {
      if (tokens.empty()) continue;
      if (whole.begin < 0) whole.begin = tokens.front().begin;
      for (const Span& t : tokens) whole.end = std::max(whole.end, t.end);
      tokens.clear();
    }
    if (whole.begin >= 0) chunks.push_back(whole);
    else if (!title.empty()) chunks.push_back({0, 0});
    return chunks;
  }
  int64_t budget = options_.tokens - specials_;
  if (!title.empty()) {
    // A title of any length is counted on its first kibibyte: more would take its half anyway.
    const std::string_view head = title.substr(0, static_cast<size_t>(CharacterStart(title, std::min<int64_t>(static_cast<int64_t>(title.size()), 1024 + options_.tokens * 4))));
    std::vector<Span> title_tokens;
    TokenStream title_stream(head, tokenizer_);
    while (title_stream.Next(&title_tokens)) {
    }
    budget -= std::min(static_cast<int64_t>(title_tokens.size()), options_.tokens / 2 - specials_);
  }
  budget = std::max<int64_t>(budget, 4);
  const int64_t overlap = std::min(options_.overlap, budget / 2);

  bool more = true;
  size_t first = 0;   // of the chunk being made, in tokens
  while (true) {
    while (more && static_cast<int64_t>(tokens.size() - first) <= budget) more = stream.Next(&tokens);
    const auto left = static_cast<int64_t>(tokens.size() - first);
    if (left == 0) break;
    const auto class_at = [&](size_t i) { return ClassOf(text, tokens[i - 1].end, tokens[i].begin); };
    // `end` is one past the chunk's last token.
    size_t end = first + static_cast<size_t>(std::min(left, budget));
    const bool last = !more && left <= budget;
    if (!last) {
      // The best kind of place in the second half, the latest of its kind. A place inside a character is none at all.
      size_t best = 0;
      int best_class = kInsideCharacter;
      for (size_t i = end; i > first + static_cast<size_t>(budget / 2); --i) {
        const Break here = class_at(i);
        if (here > best_class) best = i, best_class = here;
      }
      if (best != 0) {
        end = best;
      } else {
        while (end > first + 1 && class_at(end) == kInsideCharacter) --end;
      }
      // One character of more tokens than the budget: taken whole, since a character is never split.
      while (end < tokens.size() && class_at(end) == kInsideCharacter) ++end;
    }
    Span span{tokens[first].begin, tokens[first].end};
    for (size_t i = first; i < end; ++i) span.end = std::max(span.end, tokens[i].end);
    span.begin = CharacterStart(text, span.begin);
    while (span.end < static_cast<int64_t>(text.size()) && IsContinuation(static_cast<unsigned char>(text[static_cast<size_t>(span.end)]))) ++span.end;
    chunks.push_back(span);
    if (last) break;
    // The next chunk begins in the overlap: at a sentence where there is one, else at a word, never inside a character.
    size_t next = end;
    const size_t low = std::max(first + 1, end - std::min(end, static_cast<size_t>(overlap)));
    int next_class = kInsideCharacter;
    for (size_t i = low; i < end; ++i) {
      const Break here = class_at(i);
      if (std::min<int>(here, kSentence) > next_class) next = i, next_class = std::min<int>(here, kSentence);
    }
    first = next;
    if (first > 8192) {
      tokens.erase(tokens.begin(), tokens.begin() + static_cast<int64_t>(first) - 1);   // one is kept: class_at looks behind
      first = 1;
    }
  }
  if (chunks.empty() && !title.empty()) chunks.push_back({0, 0});
  return chunks;
}

}  // namespace lectern::index
