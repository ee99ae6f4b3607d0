// index/indexer.h: from stored documents to a published generation.
//
//   ASSIGN_OR_RETURN(IndexReport r, UpdateIndex(*dir, *store, "books", options));   // a delta segment of what changed
//   ASSIGN_OR_RETURN(IndexReport r, BuildIndex(*dir, *store, "books", options));    // all of it, folded into one
//
// Shapes:  a segment holds documents.bin, bm25.bin and, with an encoder, vectors.bin (and hnsw.bin). A generation's settings
//          are the collection's (index/collection.h) plus, where it has vectors, "encoder": {"fingerprint", "dim"}.
//          Segments are folded into as few as memory_bytes allows; their number never changes a score.
// Threads: one call at a time a directory (its lock).
// Errors:  kAborted, kDataLoss (the store ends before what is indexed), kResourceExhausted (disk), kFailedPrecondition (encoder
//          differs), kCancelled: the last published generation stays as it was, and the call can be made again.
// Cost:    memory stays under options.memory_bytes: segments are cut when their buffers reach it. An update reads every
//          published byte once, for its checksum.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/cancel.h"
#include "base/json_fwd.h"
#include "base/thread_pool.h"
#include "index/data_directory.h"
#include "index/dense_index.h"
#include "index/document_store.h"
#include "index/encoder.h"

namespace lectern::index {

// Asked once a segment of a whole build, with all its vectors [chunks, dim] and a sample of its chunks' embedding texts: fitted
// vectors of the same shape, or none. Without an encoder dim is 0 and there is nothing to fit. What it learned goes into the
// generation's settings as "denoise", an object a segment.
struct DenoiseRequest {
  const std::vector<float>& vectors;
  int64_t dim = 0;
  const std::vector<int32_t>& sample_chunks;
  const std::vector<std::string>& sample_texts;
};
struct DenoiseResult {
  std::vector<float> fitted;   // empty: none
  JsonBox report;
};
using DenoiseHook = std::function<absl::StatusOr<DenoiseResult>(const DenoiseRequest&)>;
inline constexpr int64_t kDenoiseSample = 2000;   // chunks of a segment whose texts the hook gets

struct IndexOptions {
  DenoiseHook denoise;                 // null: raw vectors alone
  int64_t memory_bytes = int64_t{2} << 30;
  Encoder* encoder = nullptr;          // null: no vectors
  DenseBuildOptions dense;
  ThreadPool* pool = nullptr;          // required
  const CancelToken* cancel = nullptr;
  std::function<void(std::string_view phase, int64_t done, int64_t total)> progress;
};

struct IndexReport {
  uint64_t generation = 0, indexed_seq = 0;
  int64_t documents = 0, chunks = 0, deleted = 0, cut_chunks = 0;   // documents and chunks written by this call
  double seconds = 0, encode_seconds = 0;
  std::vector<std::string> notes;    // what the caller must tell the user
};

// Checks every published file first; where one is damaged or missing, its segment goes to quarantine/ and all is built anew.
absl::StatusOr<IndexReport> UpdateIndex(DataDirectory& dir, const DocumentStore& store, std::string_view collection,
                                        const IndexOptions& options);
absl::StatusOr<IndexReport> BuildIndex(DataDirectory& dir, const DocumentStore& store, std::string_view collection,
                                       const IndexOptions& options);

struct VerifyReport {
  std::vector<std::string> problems;   // empty: clean
  int64_t files = 0, documents = 0, chunks = 0;
};
// Checksums of every file, and that segments and store agree document by document. Changes nothing.
// A follower is caught up with what is published; changes that are not indexed yet are no problem.
absl::StatusOr<VerifyReport> VerifyIndex(const std::string& data_dir, DocumentStore& store, std::string_view collection);
// Quarantines what VerifyIndex finds damaged and rebuilds it from the store; where the store has lost the collection, puts its
// index aside.
absl::StatusOr<IndexReport> RepairIndex(DataDirectory& dir, DocumentStore& store, std::string_view collection,
                                        const IndexOptions& options);

}  // namespace lectern::index
