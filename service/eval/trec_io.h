// service/eval/trec_io.h: judgements, runs and topics, read and written in the field's formats.
//
//   ASSIGN_OR_RETURN(Qrels qrels, ReadQrels("qrels.tsv"));          // TREC, BEIR (header line) or MS MARCO
//   ASSIGN_OR_RETURN(RunMap run, ReadRun("run.trec.gz"));              // TREC (6 columns) or MS MARCO (3)
//   ASSIGN_OR_RETURN(auto topics, ReadTopics("queries.jsonl"));     // JSONL, or id TAB text
//
// Shapes:  plain text, gzip, zstd or xz, or "-" for stdin; '#' begins a comment line. Judgements and runs are cut
//          at tabs where that gives their columns, so that ids may hold blanks; else at blanks.
// Threads: pure functions.
// Errors:  kInvalidArgument with file, line and what was wrong; kNotFound; kDataLoss where packed bytes are damaged.
// Cost:    one pass, everything in memory.
#pragma once

#include <string>
#include <vector>

#include "base/cancel.h"
#include "base/status.h"
#include "service/eval/measures.h"

namespace lectern::eval {

struct Topic {
  std::string id, text;
  std::vector<std::string> answers;   // where the file has them
};

// All of a file or of stdin ("-"), unpacked; `cancel` ends a wait for stdin.
absl::StatusOr<std::string> ReadUnpacked(const std::string& path, const CancelToken* cancel = nullptr);
absl::StatusOr<Qrels> ReadQrels(const std::string& path);
absl::StatusOr<RunMap> ReadRun(const std::string& path);
absl::StatusOr<std::vector<Topic>> ReadTopics(const std::string& path);

enum class RunFormat { kTrec, kMsMarco };
// Entries must come in rank order. TREC scores are made strictly decreasing within a query where they tie (by the
// smallest float32 step), so that any scorer keeps our order; at least 9 digits. kInvalidArgument names an id or a tag that
// the format, whose columns blanks separate, cannot hold.
absl::StatusOr<std::string> FormatRun(const std::vector<std::pair<std::string, std::vector<RunEntry>>>& run, RunFormat format,
                      const std::string& tag);

}  // namespace lectern::eval
