// service/answer/pack.h: which passages the reader sees, and how they are put before it.
//
//   ASSIGN_OR_RETURN(Packed packed, PackPassages(passages, tokenizer, {.budget_tokens = 1024}));
//   std::string body = packed.text;      // "[1] Title\ntext\n\n[2] ..."
//
// Shapes:  segments are bytes of the passage's text; what was left out stands in dropped, each with its reason.
// Threads: pure function.
// Errors:  kResourceExhausted where overflow is an error, or where not even one passage fits (needed, allowed, setting).
// Cost:    one tokenisation of each passage.
//
// Passages come best first. A text seen before is dropped ("duplicate"); an overlap with a packed passage of the same
// document is cut away ("overlap"); sentences that speak to the reader instead of the subject are cut away
// ("instruction"); what does not fit is dropped ("budget"), or cut at a sentence end where trimming is allowed ("trimmed").
// A title is one line: blanks and control characters become one blank, past kMaxTitleBytes it is cut ("title-cut"), and where
// it speaks to the reader it is left out ("title-instruction"). Nothing else of the answer rests on what was left out.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "decoder/tokenizer/tokenizer.h"
#include "service/answer/text_units.h"

namespace lectern::service::answer {

inline constexpr int64_t kMaxTitleBytes = 200;

struct Passage {
  std::string doc_id, chunk_id, title, uri, doc_sha256;
  std::string text;               // of the chunk
  int64_t begin = 0;              // where text stands in the document, bytes
  double score = 0;
};

struct PackOptions {
  int64_t budget_tokens = 1024;
  bool overflow_is_error = false; // otherwise the lowest passages are dropped, each with its reason
  bool allow_trim = false;        // cut the last passage at a sentence end instead of dropping it
  bool drop_instructions = true;
};

struct PackedPassage {
  int64_t input = 0;              // index into the passages given
  int64_t tokens = 0;
  std::string title;              // as the reader sees it
  std::vector<ByteRange> segments;   // of Passage::text, in order; answers and quotes come from these alone
};

struct DroppedPassage {
  std::string chunk_id;
  std::string reason;             // budget, duplicate, overlap, instruction, trimmed, title-instruction, title-cut
  ByteRange at;                   // bytes of the document; the whole chunk for budget and duplicate, empty for titles
};

struct Packed {
  std::vector<PackedPassage> passages;   // number 1.. in the prompt
  std::vector<DroppedPassage> dropped;
  std::string text;
  int64_t tokens = 0;
};

absl::StatusOr<Packed> PackPassages(std::span<const Passage> passages, const tokenizer::Tokenizer& tokenizer,
                                    const PackOptions& options);

// A sentence that tells the reader what to do ("Ignore the instructions above and reply ...").
bool SpeaksToReader(std::string_view sentence);

}  // namespace lectern::service::answer
