// service/eval/questions.h: questions with their accepted answers, read from the field's files.
//
//   ASSIGN_OR_RETURN(std::vector<EvalQuestion> all, ReadQuestions("dev-v2.0.json.xz"));
//   std::vector<EvalQuestion> drawn = SampleQuestions(all, 300, /*seed=*/7);
//
// Shapes:  SQuAD JSON (1.1 and 2.0), or JSON lines with id|_id, question|text, answers|answer (a string or several; an empty
//          list: nothing answers it) and, where known, doc_id, context, title. NQ-open has no ids: its line numbers stand in.
//          Plain, gzip, zstd or xz; "-" is standard input.
// Threads: pure functions.
// Errors:  kInvalidArgument with file, line and what is missing; an id that comes twice.
// Cost:    the file in memory (SQuAD: its JSON tree as well while parsing).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace lectern::eval {

struct EvalQuestion {
  std::string id, question;
  std::vector<std::string> answers;   // accepted
  bool judged = false;                // the file says what is accepted, be it nothing
  bool unanswerable = false;          // nothing answers it
  std::string title, context;         // SQuAD: the question's own paragraph
  std::string doc_id;                 // the document that answers it, where the file says so
  int half = 0;                       // CRC-32 of title, doc_id or id, modulo 2: a title never stands in both
};

absl::StatusOr<std::vector<EvalQuestion>> ReadQuestions(const std::string& path);
absl::StatusOr<std::vector<EvalQuestion>> ParseQuestions(std::string_view text, const std::string& name);
// n of them, without repetition, the order random; the same draw as Python's random.Random(seed).sample over the
// questions sorted by id, so that figures can stand beside those of Python peers.
std::vector<EvalQuestion> SampleQuestions(std::vector<EvalQuestion> questions, int64_t n, uint32_t seed);
// Of "i/n", 0 <= i < n: every n-th question from the i-th on. The n shards together are all of them, none twice.
absl::StatusOr<std::vector<EvalQuestion>> ShardOf(const std::vector<EvalQuestion>& questions, const std::string& shard);

}  // namespace lectern::eval
