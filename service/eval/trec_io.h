// service/eval/trec_io.h: judgements, runs and topics, read and written in the field's formats.
//
//   ASSIGN_OR_RETURN(Qrels qrels, ReadQrels("qrels.tsv"));          // TREC, BEIR (header line) or MS MARCO
//   ASSIGN_OR_RETURN(RunMap run, ReadRun("run.trec.gz"));              // TREC (6 columns) or MS MARCO (3)
//   ASSIGN_OR_RETURN(auto topics, ReadTopics("queries.jsonl"));     // JSONL, or id TAB text
//
// Shapes:  plain text, .gz, or "-" for stdin; '#' begins a comment line.
// Threads: pure functions.
// Errors:  kInvalidArgument with file, line and what was wrong; kNotFound.
// Cost:    one pass, everything in memory.
#pragma once

#include <string>
#include <vector>

#include "base/status.h"
#include "service/eval/measures.h"

namespace lectern::eval {

struct Topic {
  std::string id, text;
  std::vector<std::string> answers;   // where the file has them
};

absl::StatusOr<std::string> ReadMaybeGzip(const std::string& path);   // "-" is stdin
absl::StatusOr<Qrels> ReadQrels(const std::string& path);
absl::StatusOr<RunMap> ReadRun(const std::string& path);
absl::StatusOr<std::vector<Topic>> ReadTopics(const std::string& path);

enum class RunFormat { kTrec, kMsMarco };
// Entries must come in rank order. TREC scores are made strictly decreasing within a query where they tie (by the
// smallest float32 step), so that any scorer keeps our order; at least 9 digits.
std::string FormatRun(const std::vector<std::pair<std::string, std::vector<RunEntry>>>& run, RunFormat format,
                      const std::string& tag);

}  // namespace lectern::eval
