// index/bm25_segment.h: the inverted index of one segment: terms, block-compressed postings, block maxima.
//
//   Bm25SegmentWriter writer(*analyzer);  writer.Add(chunk_title, chunk_text);  writer.Write(*file);
//   ASSIGN_OR_RETURN(auto segment, Bm25Segment::Open(files));
//   std::optional<PostingsView> list = segment->Find("whale");
//
// Shapes:  one entry a chunk, in chunk order; the title's terms count kTitleWeight times (see bm25.h).
// Threads: a writer belongs to one thread; an opened segment is immutable.
// Errors:  kDataLoss where a header, block or offset contradicts the file, kUnimplemented where a newer version
//          wrote it, kResourceExhausted past 2^31 - 1 chunks or 4 GiB of distinct terms.
// Cost:    a term is one probe of a hash table in the mapping. The writer holds about 11 bytes a posting. Open reads all
//          postings once (about 0.5 ns each) so that searching needs no checks.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "base/file.h"
#include "base/status.h"
#include "index/analyzer.h"
#include "index/data_directory.h"
#include "index/postings.h"

namespace lectern::index {

class Bm25SegmentWriter {
 public:
  explicit Bm25SegmentWriter(const Analyzer& analyzer);  // REQUIRES: the analyzer outlives the writer
  ~Bm25SegmentWriter();
  absl::Status Add(std::string_view title, std::string_view chunk_text);   // the next chunk
  int64_t num_chunks() const;
  int64_t buffered_bytes() const;           // what Write will have needed at its peak, so far
  absl::Status Write(SegmentFile& file);    // the caller finishes the file; the writer is then empty
  absl::Status WriteTo(const std::function<absl::Status(std::string_view)>& append);  // the same bytes, anywhere
  absl::StatusOr<std::string> Serialize();  // and in memory

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

class Bm25Segment {
 public:
  static absl::StatusOr<std::shared_ptr<const Bm25Segment>> Open(SegmentFiles& files);
  // From bytes that the segment then owns.
  static absl::StatusOr<std::shared_ptr<const Bm25Segment>> FromBytes(std::string bytes);
  static absl::StatusOr<std::shared_ptr<const Bm25Segment>> FromMapping(MappedFile map);
  ~Bm25Segment();

  int64_t num_chunks() const;
  int64_t num_terms() const;
  uint64_t total_length() const;
  std::string_view analyzer_name() const;          // as Analyzer::name() of the writer
  std::span<const uint32_t> lengths() const;       // of each chunk, in weighted terms
  std::optional<uint32_t> FindTerm(std::string_view term) const;   // its ordinal
  PostingsView Postings(uint32_t term) const;      // REQUIRES: term < num_terms()
  std::string_view TermText(uint32_t term) const;
  std::optional<PostingsView> Find(std::string_view term) const;

 private:
  Bm25Segment();
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace lectern::index
