// index/bm25_segment.h: the inverted index of one segment: terms, block-compressed postings, block maxima.
//
//   Bm25SegmentWriter writer(analyzer);  writer.Add(chunk_title, chunk_text);  writer.Write(file);
//   ASSIGN_OR_RETURN(auto postings, Bm25Segment::Open(segment_path, entry));
//
// Shapes:  one entry a chunk, in chunk order; the title's terms count title_weight times (see bm25.h).
// Threads: a writer belongs to one thread; an opened segment is immutable.
// Errors:  kDataLoss where a header, block or offset contradicts the file.
// Cost:    postings in blocks of 128, bit-packed; a term costs a binary search in the mapped dictionary.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "base/status.h"
#include "index/analyzer.h"
#include "index/data_directory.h"

namespace lectern::index {

class Bm25SegmentWriter {
 public:
  explicit Bm25SegmentWriter(const Analyzer& analyzer);
  ~Bm25SegmentWriter();
  absl::Status Add(std::string_view title, std::string_view chunk_text);   // the next chunk
  int64_t buffered_bytes() const;
  absl::Status Write(SegmentFile& file);   // the caller finishes the file

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

class Bm25Segment {
 public:
  static absl::StatusOr<std::shared_ptr<const Bm25Segment>> Open(const std::string& segment_path, const FileEntry& entry);
  ~Bm25Segment();
  int64_t num_chunks() const;
  uint64_t total_length() const;
  struct Impl;
  const Impl& impl() const { return *impl_; }

 private:
  Bm25Segment();
  std::unique_ptr<Impl> impl_;
};

}  // namespace lectern::index
