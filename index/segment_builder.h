// index/segment_builder.h: documents into new segments, cut where memory asks for it.
//
//   SegmentBuilder builder(dir, "books", *analyzer, chunker, options);
//   RETURN_IF_ERROR(builder.Add(stored, /*known=*/nullptr));      // chunked, indexed, encoded
//   ASSIGN_OR_RETURN(std::vector<SegmentEntry> segments, builder.Finish());
//
// Shapes:  a segment's chunk ordinals are the same in documents.bin, bm25.bin and vectors.bin.
// Threads: one thread; encoding uses the encoder's pool.
// Errors:  those of the parts. What was written before an error is not published, and is removed at the next open.
// Cost:    holds postings and vectors of one segment; a segment is cut when they pass half of memory_bytes.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/status.h"
#include "index/analyzer.h"
#include "index/bm25_segment.h"
#include "index/chunker.h"
#include "index/data_directory.h"
#include "index/indexer.h"
#include "index/schema.h"
#include "index/segment_documents.h"

namespace lectern::index {

class SegmentBuilder {
 public:
  // REQUIRES: dir, analyzer, chunker, schema and options outlive the builder.
  SegmentBuilder(DataDirectory& dir, std::string collection, const Analyzer& analyzer, const Chunker& chunker,
                 const Schema& schema, const IndexOptions& options);
  ~SegmentBuilder();

  // The vectors a document's chunks had before, [chunks, dim]; used only where the chunk spans are still the same.
  struct KnownVectors {
    std::vector<Span> spans;
    std::vector<float> vectors;
  };
  absl::Status Add(const StoredDocument& stored, const KnownVectors* known);
  absl::StatusOr<std::vector<SegmentEntry>> Finish();

  int64_t documents() const { return documents_; }
  int64_t chunks() const { return chunks_; }
  int64_t cut_chunks() const { return cut_chunks_; }
  double encode_seconds() const { return encode_seconds_; }
  const Json& denoise_reports() const { return denoise_reports_; }  // one a segment with chunks; empty without the hook

 private:
  struct Open;   // the segment being written
  absl::Status Begin();
  absl::Status EncodePending();
  absl::Status Denoise(SegmentEntry& entry);
  absl::Status Cut();

  DataDirectory& dir_;
  const std::string collection_;
  const Analyzer& analyzer_;
  const Chunker& chunker_;
  const Schema& schema_;
  const IndexOptions& options_;
  std::unique_ptr<Open> open_;
  std::vector<SegmentEntry> finished_;
  int64_t documents_ = 0, chunks_ = 0, cut_chunks_ = 0;
  double encode_seconds_ = 0;
  Json denoise_reports_ = Json::array();
};

}  // namespace lectern::index
