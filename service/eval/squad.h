// service/eval/squad.h: SQuAD's JSON, versions 1.1 and 2.0, as a flat list of questions.
//
//   ASSIGN_OR_RETURN(std::vector<SquadQuestion> all, ParseSquad(json_text));
//   std::vector<SquadQuestion> half = SampleQuestions(all, 300, /*seed=*/7);
//
// Shapes:  one entry a question, in file order; context is the paragraph.
// Threads: pure functions.
// Errors:  kInvalidArgument with what is missing.
// Cost:    the JSON tree of the file (dev: about 60 MB) while parsing.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace lectern::eval {

struct SquadQuestion {
  std::string id, title, question;
  std::string context;
  std::vector<std::string> answers;
  bool impossible = false;
  int half = 0;                 // CRC-32 of the title, modulo 2: articles never stand in both
};

absl::StatusOr<std::vector<SquadQuestion>> ParseSquad(std::string_view json);
// n of them, without repetition, the order random; the same draw as Python's random.Random(seed).sample over the
// questions sorted by id, so that figures can stand beside those of Python peers.
std::vector<SquadQuestion> SampleQuestions(std::vector<SquadQuestion> questions, int64_t n, uint32_t seed);

}  // namespace lectern::eval
