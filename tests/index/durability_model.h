// tests/index/durability_model.h: writes whose result is known from their number alone, and the check of what is there.
//
//   WriteBatch batch = ModelWrites(store->last_seq() + 1, /*count=*/3);
//   std::string problem = CheckState(data_dir, {.seq = 12, .generation = 3});   // empty: all is well
//
// Shapes:  write n puts or deletes one of forty documents; a published segment holds the state as of its indexed_seq.
// Threads: pure functions.
// Errors:  CheckState describes the first thing that is wrong.
// Cost:    CheckState reads the whole store.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "base/status.h"
#include "index/data_directory.h"
#include "index/document_store.h"

namespace lectern::index::testing {

struct Acknowledged {
  uint64_t seq = 0;          // Commit returned it
  uint64_t generation = 0;   // Publish returned after it
};

WriteBatch ModelWrites(uint64_t first_seq, int64_t count);
// id -> text after write `seq`.
std::map<std::string, std::string> ModelState(uint64_t seq);
// One segment with one file that says which state it holds.
absl::Status PublishModel(DataDirectory& dir, uint64_t indexed_seq);
// A first generation without a segment, as an ingest leaves it whose records were all rejected.
absl::Status PublishNothing(DataDirectory& dir);
// Opens the directory as the next writer would. Exactly the writes 1..last_seq are there, last_seq reaches what was
// acknowledged, the published generation too, and every file it names checks out; then writes and publishes again.
std::string CheckState(const std::string& data_dir, const Acknowledged& acknowledged,
                       FileSystem& fs = FileSystem::Posix(), void* rocksdb_env = nullptr);
// The same for a reader beside a live writer: nothing torn, nothing from a later state than its own last_seq.
std::string CheckReader(const DocumentStore& store);
// Opens what the manifest names, once more where the writer removed it meanwhile.
std::string CheckPublished(const std::string& data_dir, uint64_t* indexed_seq, uint64_t* generation);

inline constexpr char kModelCollection[] = "model";

}  // namespace lectern::index::testing
