// service/cli/cmd_eval_answers.h: the commands `eval answers` and `eval citations`, apart from the measures of search.
//
//   RegisterEvalAnswers(registry, eval);  RegisterEvalCitations(registry, eval);
//
// Shapes:  see service/eval/answer_report.h.
// Threads: one command's.
// Errors:  kInvalidArgument names the flag or the file and line; a stopped run exits 11 and says how to go on.
// Cost:    a reading a question; the answers file grows by a line each.
#pragma once

#include "service/cli/app.h"

namespace lectern::cli {

void RegisterEvalAnswers(Registry& registry, CommandLine eval);
void RegisterEvalCitations(Registry& registry, CommandLine eval);

}  // namespace lectern::cli
