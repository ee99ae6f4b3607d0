// index/deletes.h: which documents of a segment are dead; the file SegmentEntry::deletes_file names.
//
//   ASSIGN_OR_RETURN(DeletedDocuments dead, DeletedDocuments::Open(files));   // none: an empty set
//   if (dead.Contains(document)) continue;
//
// Shapes:  one bit a document ordinal of the segment.
// Threads: a value; reads from any thread.
// Errors:  kDataLoss where the file's size or count contradicts the segment.
// Cost:    an eighth of a byte a document, in memory.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "index/data_directory.h"

namespace lectern::index {

class DeletedDocuments {
 public:
  explicit DeletedDocuments(int64_t num_documents = 0);
  static absl::StatusOr<DeletedDocuments> Open(SegmentFiles& files);
  static absl::StatusOr<DeletedDocuments> Parse(std::string_view bytes, int64_t num_documents);
  std::string Serialize() const;
  bool Contains(int64_t document) const { return (words_[static_cast<size_t>(document >> 6)] >> (document & 63)) & 1; }
  void Add(int64_t document);
  int64_t count() const { return count_; }
  int64_t num_documents() const { return num_documents_; }

 private:
  int64_t num_documents_ = 0, count_ = 0;
  std::vector<uint64_t> words_;
};

}  // namespace lectern::index
