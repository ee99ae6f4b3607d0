// index/ingest.h: records of files into the store: read, check, commit.
//
//   IngestOptions options{.rejects_path = "books.rejects.jsonl", .on_commit = [&](uint64_t seq) { ... }};
//   ASSIGN_OR_RETURN(IngestReport report, Ingest(*store, "books", {"corpus/"}, options));
//
// Shapes:  documents are committed in groups; each commit carries every document read before it, in the order read.
//          Within one run and across runs an id stands for one document: a record that reads as it did, source,
//          extraction and fields, is skipped and counted, another goes by on_conflict. Deletes come from {"op":"delete","id":...} lines.
// Threads: a reading thread beside the caller's; one Ingest a collection at a time.
// Errors:  kInvalidArgument (options, schema), kAlreadyExists (on_conflict = fail: which id, file and line),
//          kResourceExhausted (more than max_rejects; disk full), kCancelled; what was committed stays, and `resume`
//          goes on behind it. Bad records are no error: they go to the rejects file, and into the report.
// Cost:    memory stays under memory_bytes whatever the input: a sixteenth for records under way, a sixteenth for one batch
//          and as much again for its encoded form; the store's share is the caller's to set (service/engine.cc).
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/cancel.h"
#include "base/status.h"
#include "index/collection.h"
#include "index/document_store.h"
#include "index/readers/reader.h"

namespace lectern::index {

enum class OnConflict { kReplace, kSkip, kFail };
absl::StatusOr<OnConflict> ParseOnConflict(std::string_view name);   // replace, skip, fail

struct IngestProgress {
  int64_t records = 0;
  int64_t bytes = 0, total_bytes = 0;   // as stored on disk (a packed file's count once it is read); 0 where unknown
};

// --memory: at least 64 MiB, half of which is the program itself.
absl::Status CheckMemory(int64_t bytes);

struct IngestOptions {
  Format format = Format::kAuto;
  std::string id_field, text_field;
  int64_t memory_bytes = int64_t{2} << 30;
  int64_t batch_documents = 1000, batch_bytes = int64_t{8} << 20;   // a commit at whichever comes first
  OnConflict on_conflict = OnConflict::kReplace;
  std::string rejects_path;            // JSONL; empty: none is written. Made when the first reject comes.
  int64_t max_rejects = -1;            // below 0: any number
  bool resume = false;                 // go on behind what an earlier, interrupted run of the same inputs committed
  bool dry_run = false;                // read and check, commit nothing
  CollectionSettings new_collection;   // of the collection, where it is made
  int64_t shard = 0, num_shards = 1;   // keep only the ids with ShardOf(id, n) == shard
  const CancelToken* cancel = nullptr;
  std::function<void(uint64_t durable_seq)> on_commit;      // after each commit, from the calling thread
  std::function<void(const IngestProgress&)> on_progress;
  std::function<void(const Item&)> on_reject;
};

struct IngestReport {
  int64_t records = 0;                 // read, rejects not counted
  int64_t added = 0, replaced = 0, unchanged = 0, skipped = 0, deleted = 0, absent_deletes = 0, rejected = 0;
  int64_t other_shards = 0;            // records that belong to other shards
  int64_t repeated_ids = 0;            // ids that came more than once in this run; the last one stands (replace)
  bool repeated_ids_exact = true;      // false: memory for counting them ran out
  int64_t clashes = 0;                 // of those, the records whose content was another: the one before or they themselves were lost
  std::string first_clash;             // its id, file and line, for a message
  int64_t hidden = 0;                  // files and folders left out because their names begin with a dot
  int64_t resumed_records = 0;         // files or records passed over because an earlier run had committed them
  uint64_t durable_seq = 0;
  bool created_collection = false;
  Schema schema;                       // as it is now
  std::vector<std::string> notes;      // what the caller must tell the user
};

absl::StatusOr<IngestReport> Ingest(DocumentStore& store, std::string_view collection,
                                    const std::vector<std::string>& inputs, const IngestOptions& options);
// What Ingest into a new collection would do, without a store. REQUIRES: options.dry_run.
absl::StatusOr<IngestReport> TryIngest(std::string_view collection, const std::vector<std::string>& inputs,
                                       const IngestOptions& options);

int64_t ShardOf(std::string_view id, int64_t num_shards);    // XXH3 of the id, modulo

}  // namespace lectern::index
