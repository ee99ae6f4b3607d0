// Verifying an index against its store, and repairing it.
#include <set>

#include "index/bm25_segment.h"
#include "index/collection.h"
#include "index/dense_index.h"
#include "index/indexer-inl.h"
#include "index/indexer.h"

namespace lectern::index {
namespace {

// One segment: its files, its counts, and what its documents say.
absl::Status VerifySegment(OpenSegment& segment, const DocumentStore& store, std::string_view collection, const CollectionState& state,
                           std::set<std::string>& alive, VerifyReport& report) {
  const SegmentEntry& entry = segment.entry;
  report.files += static_cast<int64_t>(entry.files.size());
  ASSIGN_OR_RETURN(const auto postings, Bm25Segment::Open(segment.files));
  if (postings->num_chunks() != entry.num_chunks) {
    return DataLoss(entry.folder, "/bm25.bin holds ", postings->num_chunks(), " chunks, documents.bin ", entry.num_chunks);
  }
  if (HasVectors(state) && entry.num_chunks > 0) {
    ASSIGN_OR_RETURN(const auto dense, DenseIndex::Open(segment.files));
    if (dense->size() != entry.num_chunks) return DataLoss(entry.folder, "/vectors.bin holds ", dense->size(), " vectors for ", entry.num_chunks, " chunks");
  }
  RETURN_IF_ERROR(segment.files.CheckRest());
  int64_t absent = 0;
  std::string example;
  for (int32_t document = 0; document < entry.num_documents; ++document) {
    if (segment.deleted.Contains(document)) continue;
    const std::string id(segment.documents->Id(document));
    if (!alive.insert(id).second) return DataLoss("document '", id, "' is alive in two segments, one of them ", entry.folder);
    // What was written or deleted since is for the next update to tell.
    ASSIGN_OR_RETURN(const std::optional<Change> latest, store.LatestChange(collection, id));
    if (latest.has_value() && latest->seq > state.indexed_seq) continue;
    if (!latest.has_value() || latest->deleted) {
      if (absent++ == 0) example = id;
      continue;
    }
    ASSIGN_OR_RETURN(const StoredDocument stored, store.Get(collection, id));
    ASSIGN_OR_RETURN(const std::string text, segment.documents->Text(document));
    if (stored.seq != segment.documents->Seq(document) || stored.document.text != text) {
      return DataLoss("document '", id, "' of ", entry.folder, " differs from the store");
    }
    ++report.documents;
  }
  if (absent > 0) report.problems.push_back(internal::Concat(absent, " documents of ", entry.folder, " are not in the store, one of them '", example, "'"));
  report.chunks += entry.num_chunks;
  return absl::OkStatus();
}

// The segments of one manifest, mapped; those that cannot be are damage. Read again where a writer was faster.
absl::StatusOr<CollectionState> OpenPublished(const std::string& data_dir, std::string_view collection, std::vector<OpenSegment>& segments,
                                              std::vector<Damage>& damage) {
  while (true) {
    ASSIGN_OR_RETURN(const Manifest manifest, DataDirectory::ReadManifest(data_dir));
    const CollectionState state = StateOf(manifest, collection);
    segments.clear();
    damage.clear();
    bool gone = false;
    for (const SegmentEntry& entry : state.segments) {
      auto segment = OpenDocuments(data_dir, collection, entry);
      if (segment.ok()) {
        segments.push_back(*std::move(segment));
        continue;
      }
      gone |= absl::IsNotFound(segment.status());
      if (!absl::IsNotFound(segment.status()) && !absl::IsDataLoss(segment.status())) return segment.status();
      damage.push_back({entry.folder, std::string(segment.status().message())});
    }
    if (!gone) return state;
    ASSIGN_OR_RETURN(const Manifest now, DataDirectory::ReadManifest(data_dir));
    if (now.number == manifest.number) return state;
  }
}

absl::StatusOr<std::vector<Damage>> FindDamage(const std::string& data_dir, DocumentStore& store, std::string_view collection,
                                               VerifyReport& report) {
  std::vector<OpenSegment> segments;
  std::vector<Damage> damage;
  ASSIGN_OR_RETURN(const CollectionState state, OpenPublished(data_dir, collection, segments, damage));
  RETURN_IF_ERROR(store.CatchUp());   // what was published, was committed before
  if (const absl::Status behind = CheckStoreReaches(store, collection, state); !behind.ok()) damage.push_back({"", std::string(behind.message())});
  std::set<std::string> alive;
  for (OpenSegment& segment : segments) {
    const absl::Status status = VerifySegment(segment, store, collection, state, alive, report);
    if (status.ok()) continue;
    if (!absl::IsDataLoss(status)) return status;
    damage.push_back({segment.entry.folder, std::string(status.message())});
  }
  int64_t missing = 0;
  std::string example;
  if (damage.empty()) {
    RETURN_IF_ERROR(store.Scan(collection, "", [&](StoredDocument&& stored) {
      if (stored.seq <= state.indexed_seq && !alive.contains(stored.document.id)) {
        if (missing++ == 0) example = stored.document.id;
      }
      return true;
    }));
  }
  if (missing > 0) damage.push_back({"", internal::Concat(missing, " documents of the store are missing in the index, one of them '", example, "'")});
  for (const std::string& problem : report.problems) damage.push_back({"", problem});
  return damage;
}

std::string LineOf(const Damage& one) { return one.folder.empty() ? one.reason : one.folder + ": " + one.reason; }

// An index whose collection the store no longer has: nothing to make it anew from. It is put aside, not deleted.
absl::StatusOr<IndexReport> PutAside(DataDirectory& dir, std::string_view collection, const CollectionState& state, const std::string& why) {
  for (const SegmentEntry& entry : state.segments) RETURN_IF_ERROR(dir.Quarantine(collection, entry.folder, why));
  RETURN_IF_ERROR(dir.PublishDrop(collection));
  IndexReport report;
  report.notes.push_back(internal::Concat(why, "; the ", state.segments.size(), " segments of its index were moved to quarantine/. Ingest its documents again"));
  return report;
}

}  // namespace

absl::StatusOr<VerifyReport> VerifyIndex(const std::string& data_dir, DocumentStore& store, std::string_view collection) {
  VerifyReport report;
  ASSIGN_OR_RETURN(const std::vector<Damage> damage, FindDamage(data_dir, store, collection, report));
  report.problems.clear();
  for (const Damage& one : damage) report.problems.push_back(LineOf(one));
  return report;
}

absl::StatusOr<IndexReport> RepairIndex(DataDirectory& dir, DocumentStore& store, std::string_view collection, const IndexOptions& options) {
  const CollectionState state = StateOf(dir.manifest(), collection);
  const absl::Status stored = LoadCollection(store, collection).status();
  if (absl::IsNotFound(stored) && state.generation > 0) {
    return PutAside(dir, collection, state, internal::Concat("the store has no collection '", collection, "' any more"));
  }
  RETURN_IF_ERROR(stored);
  VerifyReport verified;
  ASSIGN_OR_RETURN(const std::vector<Damage> damage, FindDamage(dir.path(), store, collection, verified));
  if (damage.empty()) return UpdateIndex(dir, store, collection, options);
  for (const Damage& one : damage) {
    if (!one.folder.empty()) RETURN_IF_ERROR(dir.Quarantine(collection, one.folder, one.reason));
  }
  ASSIGN_OR_RETURN(IndexReport report, BuildIndex(dir, store, collection, options));
  for (const Damage& one : damage) report.notes.push_back(LineOf(one));
  return report;
}

}  // namespace lectern::index
