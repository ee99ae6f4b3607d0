// index/segment_documents.h: the documents, chunks and field values of one segment, as searching needs them.
//
//   SegmentDocumentsWriter writer(file);   writer.Add(stored_document, chunks);  writer.Finish();
//   ASSIGN_OR_RETURN(auto docs, SegmentDocuments::Open(files));       // index/data_directory.h
//   std::string_view id = docs->Id(ordinal);   std::string text = docs->Text(ordinal);
//
// Shapes:  document ordinals 0..num_documents()-1 and chunk ordinals 0..num_chunks()-1 within the segment, chunks
//          grouped by document, ascending by start.
// Threads: immutable after Open; any thread.
// Errors:  kDataLoss where an offset or count contradicts the file.
// Cost:    Id and ChunkAt are O(1) in the mapping; Text decompresses one document.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/file.h"
#include "base/status.h"
#include "index/data_directory.h"
#include "index/document.h"

namespace lectern::index {

struct ChunkRef {
  int32_t document = 0;   // ordinal in the segment
  int32_t number = 0;     // 0-based within its document; shown as "id#number"
  Span span;              // bytes of the document's text
};

class SegmentDocumentsWriter {
 public:
  explicit SegmentDocumentsWriter(SegmentFile& file);
  ~SegmentDocumentsWriter();
  absl::Status Add(const StoredDocument& document, std::span<const Span> chunks);
  absl::Status Finish();   // the caller then finishes the file
  int64_t buffered_bytes() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

class SegmentDocuments {
 public:
  static absl::StatusOr<std::shared_ptr<const SegmentDocuments>> Open(SegmentFiles& files);
  // The same without the checksum: every offset and count is checked, whatever the bytes (tests and fuzzing).
  static absl::StatusOr<std::shared_ptr<const SegmentDocuments>> FromMapping(MappedFile map, std::string name);
  ~SegmentDocuments();
  int64_t num_documents() const;
  int64_t num_chunks() const;
  std::string_view Id(int32_t document) const;
  std::string_view Title(int32_t document) const;
  std::string_view Uri(int32_t document) const;
  std::string_view SourceSha256(int32_t document) const;
  uint64_t Seq(int32_t document) const;
  absl::StatusOr<std::string> Text(int32_t document) const;
  ChunkRef ChunkAt(int64_t chunk) const;
  std::pair<int64_t, int64_t> ChunksOf(int32_t document) const;      // [first, last)
  int32_t FindDocument(std::string_view id) const;                   // -1 where absent
  std::vector<FieldValue> FieldValues(int32_t document, std::string_view field) const;
  std::vector<std::string> FieldNames() const;

 private:
  SegmentDocuments();
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace lectern::index
