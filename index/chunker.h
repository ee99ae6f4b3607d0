// index/chunker.h: a document's text to the spans that are searched and embedded.
//
//   ASSIGN_OR_RETURN(Chunker chunker, Chunker::Create({.tokens = 256, .overlap = 32}, &encoder->tokenizer()));
//   std::vector<Span> chunks = chunker.Chunk(title, text);
//   std::string input = EmbeddingText(title, text.substr(span.begin, span.end - span.begin));
//
// Shapes:  spans ascend by begin and by end; neighbours share about `overlap` tokens; each begins and ends at a character.
//          Every byte of text that has a token is in at least one chunk. A chunk's tokens, the title's and the special
//          ones together are at most `tokens`; a title may take half of that, what is longer is the encoder's to cut.
//          tokens = 0: one chunk a document. No tokens in the text: one empty chunk [0, 0) where there is a title, else none.
// Threads: immutable; any thread.
// Errors:  kInvalidArgument names the limit and the setting.
// Cost:    one tokenisation, in pieces of 64 KiB; memory does not grow with the text but for the spans.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "decoder/tokenizer/tokenizer.h"
#include "index/document.h"

namespace lectern::index {

inline constexpr int64_t kMinChunkTokens = 16;      // less leaves no room for a title
inline constexpr int64_t kMaxChunkTokens = 8192;

struct ChunkOptions {
  int64_t tokens = 256;    // 0: one chunk a document
  int64_t overlap = 32;    // at most a half of tokens
};

class Chunker {
 public:
  // Null tokenizer: the unit is a word, a run of bytes without white space, of at most 24 bytes.
  static absl::StatusOr<Chunker> Create(const ChunkOptions& options, const tokenizer::Tokenizer* tokenizer);
  std::vector<Span> Chunk(std::string_view title, std::string_view text) const;
  const char* unit() const { return tokenizer_ != nullptr ? "tokens" : "words"; }
  const ChunkOptions& options() const { return options_; }

 private:
  Chunker(const ChunkOptions& options, const tokenizer::Tokenizer* tokenizer);
  ChunkOptions options_;
  const tokenizer::Tokenizer* tokenizer_;
  int64_t specials_ = 0;
};

// What the encoder reads for a chunk: title and chunk joined by a blank, as BEIR does; the chunk alone without a title.
std::string EmbeddingText(std::string_view title, std::string_view chunk);

}  // namespace lectern::index
