// index/indexer-inl.h: a published segment as building, checking and repairing see it; shared by indexer.cc and verify.cc.
#pragma once

#include <algorithm>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "base/json.h"
#include "index/data_directory.h"
#include "index/deletes.h"
#include "index/document_store.h"
#include "index/segment_documents.h"

namespace lectern::index {

struct OpenSegment {
  SegmentEntry entry;
  SegmentFiles files;      // those not opened yet
  std::shared_ptr<const SegmentDocuments> documents;
  DeletedDocuments deleted;
};

// documents.bin and the deletes, opened and checked. kNotFound where a file is gone.
inline absl::StatusOr<OpenSegment> OpenDocuments(const std::string& data_dir, std::string_view collection, const SegmentEntry& entry) {
  OpenSegment segment;
  segment.entry = entry;
  ASSIGN_OR_RETURN(segment.files, SegmentFiles::Map(DataDirectory::SegmentPath(data_dir, collection, entry.folder), entry));
  ASSIGN_OR_RETURN(segment.documents, SegmentDocuments::Open(segment.files));
  if (segment.documents->num_documents() != entry.num_documents || segment.documents->num_chunks() != entry.num_chunks) {
    return DataLoss(segment.files.PathOf("documents.bin"), " holds ", segment.documents->num_documents(), " documents and ",
                    segment.documents->num_chunks(), " chunks, the manifest says ", entry.num_documents, " and ", entry.num_chunks);
  }
  ASSIGN_OR_RETURN(segment.deleted, DeletedDocuments::Open(segment.files));
  return segment;
}

inline bool HasVectors(const CollectionState& state) { return state.settings->contains("encoder"); }

inline CollectionState StateOf(const Manifest& manifest, std::string_view collection) {
  const auto it = manifest.collections.find(std::string(collection));
  return it == manifest.collections.end() ? CollectionState() : it->second;
}

// An index is made from the store, so one that is ahead of it tells that writes were lost.
inline absl::Status CheckStoreReaches(const DocumentStore& store, std::string_view collection, const CollectionState& state) {
  if (store.last_seq() >= state.indexed_seq) return absl::OkStatus();
  return DataLoss("the document store ends at write ", store.last_seq(), ", and the index of '", collection, "' was made up to write ",
                  state.indexed_seq, ": the store was lost or replaced by an older copy. Put the right one back, or `lectern index repair ",
                  collection, "` makes the index anew from what the store holds");
}

// What is wrong with one segment, or with no one segment in particular (`folder` is empty).
struct Damage {
  std::string folder, reason;
};

}  // namespace lectern::index
