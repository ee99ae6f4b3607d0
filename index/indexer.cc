#include "index/indexer.h"

#include <algorithm>
#include <chrono>
#include <map>
#include <set>

#include "index/collection.h"
#include "index/deletes.h"
#include "index/segment_builder.h"

namespace lectern::index {
namespace {

using Clock = std::chrono::steady_clock;
double Since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

// One published segment, opened and checked.
struct OpenSegment {
  SegmentEntry entry;
  std::shared_ptr<const SegmentDocuments> documents;
  DeletedDocuments deleted;
};

const FileEntry* FindFile(const SegmentEntry& entry, std::string_view name) {
  const auto it = std::find_if(entry.files.begin(), entry.files.end(), [&](const FileEntry& file) { return file.name == name; });
  return it == entry.files.end() ? nullptr : &*it;
}

absl::StatusOr<OpenSegment> OpenOne(const std::string& data_dir, std::string_view collection, const SegmentEntry& entry) {
  OpenSegment segment;
  segment.entry = entry;
  const std::string path = DataDirectory::SegmentPath(data_dir, collection, entry.folder);
  const FileEntry* documents = FindFile(entry, "documents.bin");
  if (documents == nullptr) return DataLoss(entry.folder, " has no documents.bin in the manifest");
  ASSIGN_OR_RETURN(segment.documents, SegmentDocuments::Open(path, *documents));
  if (segment.documents->num_documents() != entry.num_documents || segment.documents->num_chunks() != entry.num_chunks) {
    return DataLoss(entry.folder, "/documents.bin holds ", segment.documents->num_documents(), " documents and ", segment.documents->num_chunks(),
                    " chunks, the manifest says ", entry.num_documents, " and ", entry.num_chunks);
  }
  ASSIGN_OR_RETURN(segment.deleted, DeletedDocuments::Open(path, entry));
  return segment;
}

bool HasVectors(const CollectionState& state) { return state.settings.contains("encoder"); }

std::string Fingerprint(const CollectionState& state) {
  return HasVectors(state) ? state.settings["encoder"].value("fingerprint", std::string()) : std::string();
}

Json SettingsOf(const CollectionSettings& settings, const Analyzer& analyzer, const Encoder* encoder) {
  Json json = settings.ToJson();
  json["analyzer_version"] = analyzer.name();
  if (encoder != nullptr) json["encoder"] = {{"fingerprint", encoder->fingerprint()}, {"dim", encoder->dim()}};
  return json;
}

CollectionState StateOf(const DataDirectory& dir, std::string_view collection) {
  const Manifest manifest = dir.manifest();
  const auto it = manifest.collections.find(std::string(collection));
  return it == manifest.collections.end() ? CollectionState() : it->second;
}

void Report(const IndexOptions& options, std::string_view phase, int64_t done, int64_t total) {
  if (options.progress) options.progress(phase, done, total);
}

// What both ways of building need of a collection.
struct Parts {
  CollectionSettings settings;
  std::shared_ptr<const Analyzer> analyzer;
  std::unique_ptr<Chunker> chunker;
};

absl::StatusOr<Parts> PartsOf(const DocumentStore& store, std::string_view collection, const IndexOptions& options) {
  Parts parts;
  ASSIGN_OR_RETURN(parts.settings, LoadCollection(store, collection));
  ASSIGN_OR_RETURN(parts.analyzer, Analyzer::Named(parts.settings.analyzer));
  ASSIGN_OR_RETURN(Chunker chunker, Chunker::Create(parts.settings.chunking, options.encoder != nullptr ? &options.encoder->tokenizer() : nullptr));
  parts.chunker = std::make_unique<Chunker>(std::move(chunker));
  return parts;
}

void MarkDead(OpenSegment& segment, std::string_view id) {
  const int32_t document = segment.documents->FindDocument(id);
  if (document >= 0 && !segment.deleted.Contains(document)) segment.deleted.Add(document);
}

// Writes which documents of an older segment are dead. False where all of them are now.
absl::StatusOr<bool> BuryDocuments(DataDirectory& dir, std::string_view collection, uint64_t generation, OpenSegment& segment,
                                   int64_t* newly_dead) {
  const int64_t died = segment.deleted.count() - segment.entry.num_deleted;
  *newly_dead += died;
  if (segment.deleted.count() == segment.entry.num_documents) return false;
  if (died == 0) return true;
  ASSIGN_OR_RETURN(const auto folder, dir.ExistingSegment(collection, segment.entry.folder));
  const std::string name = internal::Concat("deletes-", generation, ".bin");
  ASSIGN_OR_RETURN(const auto file, folder->Create(name));
  RETURN_IF_ERROR(file->Append(segment.deleted.Serialize()));
  ASSIGN_OR_RETURN(FileEntry entry, file->Finish());
  auto& files = segment.entry.files;
  files.erase(std::remove_if(files.begin(), files.end(), [&](const FileEntry& f) { return f.name == segment.entry.deletes_file; }), files.end());
  files.push_back(std::move(entry));
  segment.entry.deletes_file = name;
  segment.entry.num_deleted = segment.deleted.count();
  return true;
}

// Vectors that the published segments already have, by document.
class VectorSource {
 public:
  static absl::StatusOr<VectorSource> Open(const std::string& data_dir, std::string_view collection, const CollectionState& state) {
    VectorSource source;
    for (const SegmentEntry& entry : state.segments) {
      // A segment that does not open costs its vectors, nothing else: its documents come from the store.
      auto segment = OpenOne(data_dir, collection, entry);
      if (!segment.ok()) continue;
      auto dense = DenseIndex::Open(DataDirectory::SegmentPath(data_dir, collection, entry.folder), entry);
      if (!dense.ok() || (*dense)->size() != entry.num_chunks) continue;
      source.segments_.push_back({*std::move(segment), *std::move(dense)});
    }
    return source;
  }
  bool Find(const StoredDocument& stored, SegmentBuilder::KnownVectors& known) const {
    for (const auto& [segment, dense] : segments_) {
      const int32_t document = segment.documents->FindDocument(stored.document.id);
      if (document < 0 || segment.deleted.Contains(document) || segment.documents->Seq(document) != stored.seq) continue;
      const auto [first, last] = segment.documents->ChunksOf(document);
      known.spans.clear();
      known.vectors.clear();
      for (int64_t chunk = first; chunk < last; ++chunk) {
        known.spans.push_back(segment.documents->ChunkAt(chunk).span);
        const std::span<const float> vector = dense->Vector(chunk);
        known.vectors.insert(known.vectors.end(), vector.begin(), vector.end());
      }
      return true;
    }
    return false;
  }

 private:
  std::vector<std::pair<OpenSegment, std::unique_ptr<DenseIndex>>> segments_;
};

}  // namespace

absl::StatusOr<IndexReport> UpdateIndex(DataDirectory& dir, const DocumentStore& store, std::string_view collection,
                                        const IndexOptions& given) {
  const auto start = Clock::now();
  CollectionState state = StateOf(dir, collection);
  IndexOptions options = given;
  options.dense.kind = DenseKind::kFlat;   // a delta is small: exact, and cheap to fold
  ASSIGN_OR_RETURN(const Parts parts, PartsOf(store, collection, options));
  IndexReport report;

  // Counted first, then gone through: their ids are never held, there may be more than memory holds.
  int64_t touched = 0, alive = 0;
  RETURN_IF_ERROR(store.ScanChanges(collection, state.indexed_seq, [&](const Change& change) {
    ++touched;
    alive += change.deleted ? 0 : 1;
    return absl::OkStatus();
  }));
  if (touched == 0 && state.generation > 0) {
    report.generation = state.generation;
    report.indexed_seq = state.indexed_seq;
    report.seconds = Since(start);
    return report;
  }
  if (!state.segments.empty() && alive > 0) {
    if (state.settings.value("analyzer_version", std::string()) != parts.analyzer->name()) {
      return FailedPrecondition("collection '", collection, "' was indexed with analyzer ", state.settings.value("analyzer_version", std::string("?")),
                                ", this is ", parts.analyzer->name(), "; `lectern index build` indexes it anew");
    }
    if (HasVectors(state) && options.encoder == nullptr) {
      return FailedPrecondition("collection '", collection, "' has vectors, and no encoder is at hand for the new documents; "
                                "set models.embed to the one it was made with");
    }
    if (HasVectors(state) && options.encoder->fingerprint() != Fingerprint(state)) {
      return FailedPrecondition("collection '", collection, "' has vectors of encoder ", Fingerprint(state), ", models.embed is ",
                                options.encoder->fingerprint(), "; set it back, or `lectern index build` encodes everything anew");
    }
    if (!HasVectors(state) && options.encoder != nullptr) {
      report.notes.push_back("the collection has no vectors yet, so the new documents get none; `lectern index build` encodes everything");
      options.encoder = nullptr;
    }
  }

  std::vector<OpenSegment> older;
  for (const SegmentEntry& entry : state.segments) {
    auto segment = OpenOne(dir.path(), collection, entry);
    if (segment.status().code() == absl::StatusCode::kDataLoss) {
      // Found before it was parsed: put aside, and everything comes from the store again.
      RETURN_IF_ERROR(dir.Quarantine(collection, entry.folder, std::string(segment.status().message())));
      ASSIGN_OR_RETURN(IndexReport rebuilt, BuildIndex(dir, store, collection, given));
      rebuilt.notes.push_back(internal::Concat(std::string(segment.status().message()), "; moved to quarantine/ and rebuilt from the store"));
      return rebuilt;
    }
    RETURN_IF_ERROR(segment.status());
    older.push_back(*std::move(segment));
  }

  CollectionState next = state;
  next.generation = state.generation + 1;
  next.segments.clear();
  SegmentBuilder builder(dir, std::string(collection), *parts.analyzer, *parts.chunker, parts.settings.schema, options);
  uint64_t seen_seq = state.indexed_seq;
  RETURN_IF_ERROR(store.ScanChanges(collection, state.indexed_seq, [&](const Change& change) -> absl::Status {
    seen_seq = std::max(seen_seq, change.seq);
    for (OpenSegment& segment : older) MarkDead(segment, change.id);
    if (!change.deleted) {
      ASSIGN_OR_RETURN(const StoredDocument stored, store.Get(collection, change.id));
      RETURN_IF_ERROR(builder.Add(stored, nullptr));
      Report(options, "index", builder.documents(), alive);
    }
    return CheckCancel(options.cancel);
  }));
  ASSIGN_OR_RETURN(std::vector<SegmentEntry> fresh, builder.Finish());
  for (OpenSegment& segment : older) {
    ASSIGN_OR_RETURN(const bool keep, BuryDocuments(dir, collection, next.generation, segment, &report.deleted));
    if (keep) next.segments.push_back(segment.entry);
  }
  older.clear();
  const bool first = state.segments.empty();
  for (SegmentEntry& entry : fresh) next.segments.push_back(std::move(entry));
  next.indexed_seq = seen_seq;
  if (first || !HasVectors(state)) {
    next.settings = SettingsOf(parts.settings, *parts.analyzer, options.encoder);
  } else {
    const Json encoder = state.settings["encoder"];
    next.settings = SettingsOf(parts.settings, *parts.analyzer, nullptr);
    next.settings["encoder"] = encoder;
  }
  RETURN_IF_ERROR(dir.Publish(collection, next));
  report.generation = next.generation;
  report.indexed_seq = next.indexed_seq;
  report.documents = builder.documents();
  report.chunks = builder.chunks();
  report.cut_chunks = builder.cut_chunks();
  report.encode_seconds = builder.encode_seconds();
  report.seconds = Since(start);
  return report;
}

absl::StatusOr<IndexReport> BuildIndex(DataDirectory& dir, const DocumentStore& store, std::string_view collection,
                                       const IndexOptions& options) {
  const auto start = Clock::now();
  const CollectionState state = StateOf(dir, collection);
  ASSIGN_OR_RETURN(const Parts parts, PartsOf(store, collection, options));
  IndexReport report;
  if (HasVectors(state) && options.encoder == nullptr) {
    report.notes.push_back("the collection had vectors; no encoder is at hand, so this generation has none");
  }
  VectorSource known_vectors;
  const bool reuse = options.encoder != nullptr && Fingerprint(state) == options.encoder->fingerprint();
  if (reuse) {
    ASSIGN_OR_RETURN(known_vectors, VectorSource::Open(dir.path(), collection, state));
  }
  // The scan is one snapshot of the store, so what it shows is everything up to this number.
  const uint64_t seq = store.last_seq();
  ASSIGN_OR_RETURN(const int64_t total, store.CountDocuments(collection));
  SegmentBuilder builder(dir, std::string(collection), *parts.analyzer, *parts.chunker, parts.settings.schema, options);
  absl::Status failure;
  SegmentBuilder::KnownVectors known;
  RETURN_IF_ERROR(store.Scan(collection, "", [&](StoredDocument&& stored) {
    const bool found = reuse && known_vectors.Find(stored, known);
    failure = builder.Add(stored, found ? &known : nullptr);
    Report(options, "index", builder.documents(), total);
    return failure.ok();
  }));
  RETURN_IF_ERROR(failure);
  CollectionState next;
  next.generation = state.generation + 1;
  next.indexed_seq = seq;
  ASSIGN_OR_RETURN(next.segments, builder.Finish());
  next.settings = SettingsOf(parts.settings, *parts.analyzer, options.encoder);
  RETURN_IF_ERROR(dir.Publish(collection, next));
  report.generation = next.generation;
  report.indexed_seq = next.indexed_seq;
  report.documents = builder.documents();
  report.chunks = builder.chunks();
  report.cut_chunks = builder.cut_chunks();
  report.encode_seconds = builder.encode_seconds();
  report.seconds = Since(start);
  return report;
}

namespace {

// Everything of one segment: files, counts, and what its documents say.
absl::Status VerifySegment(const std::string& data_dir, const DocumentStore& store, std::string_view collection, const CollectionState& state,
                           const SegmentEntry& entry, std::set<std::string>& alive, VerifyReport& report) {
  const std::string path = DataDirectory::SegmentPath(data_dir, collection, entry.folder);
  for (const FileEntry& file : entry.files) {
    RETURN_IF_ERROR(OpenSegmentFile(path, file).status());
    ++report.files;
  }
  ASSIGN_OR_RETURN(const OpenSegment segment, OpenOne(data_dir, collection, entry));
  const FileEntry* bm25 = FindFile(entry, "bm25.bin");
  if (bm25 == nullptr) return DataLoss(entry.folder, " has no bm25.bin in the manifest");
  ASSIGN_OR_RETURN(const auto postings, Bm25Segment::Open(path, *bm25));
  if (postings->num_chunks() != entry.num_chunks) {
    return DataLoss(entry.folder, "/bm25.bin holds ", postings->num_chunks(), " chunks, documents.bin ", entry.num_chunks);
  }
  if (HasVectors(state) && entry.num_chunks > 0) {
    ASSIGN_OR_RETURN(const auto dense, DenseIndex::Open(path, entry));
    if (dense->size() != entry.num_chunks) return DataLoss(entry.folder, "/vectors.bin holds ", dense->size(), " vectors for ", entry.num_chunks, " chunks");
  }
  for (int32_t document = 0; document < entry.num_documents; ++document) {
    if (segment.deleted.Contains(document)) continue;
    const std::string id(segment.documents->Id(document));
    if (!alive.insert(id).second) return DataLoss("document '", id, "' is alive in two segments, one of them ", entry.folder);
    auto stored = store.Get(collection, id);
    if (stored.status().code() == absl::StatusCode::kNotFound) {
      report.problems.push_back(internal::Concat("document '", id, "' is in ", entry.folder, " and not in the store"));
      continue;
    }
    RETURN_IF_ERROR(stored.status());
    if (stored->seq > state.indexed_seq) continue;   // written since; the next update replaces it
    ASSIGN_OR_RETURN(const std::string text, segment.documents->Text(document));
    if (stored->seq != segment.documents->Seq(document) || stored->document.text != text) {
      return DataLoss("document '", id, "' of ", entry.folder, " differs from the store");
    }
    ++report.documents;
  }
  report.chunks += entry.num_chunks;
  return absl::OkStatus();
}

struct Damage {
  std::string folder, reason;   // folder empty: the documents of no one segment
};

absl::StatusOr<std::vector<Damage>> FindDamage(const std::string& data_dir, const DocumentStore& store, std::string_view collection,
                                               VerifyReport& report) {
  ASSIGN_OR_RETURN(const Manifest manifest, DataDirectory::ReadManifest(data_dir));
  std::vector<Damage> damage;
  const auto it = manifest.collections.find(std::string(collection));
  if (it == manifest.collections.end()) return damage;
  std::set<std::string> alive;
  for (const SegmentEntry& entry : it->second.segments) {
    const absl::Status status = VerifySegment(data_dir, store, collection, it->second, entry, alive, report);
    if (status.ok()) continue;
    if (status.code() != absl::StatusCode::kDataLoss && status.code() != absl::StatusCode::kNotFound) return status;
    damage.push_back({entry.folder, std::string(status.message())});
  }
  int64_t missing = 0;
  std::string example;
  if (damage.empty()) {
    RETURN_IF_ERROR(store.Scan(collection, "", [&](StoredDocument&& stored) {
      if (stored.seq <= it->second.indexed_seq && !alive.contains(stored.document.id)) {
        if (missing++ == 0) example = stored.document.id;
      }
      return true;
    }));
  }
  if (missing > 0) damage.push_back({"", internal::Concat(missing, " documents of the store are missing in the index, one of them '", example, "'")});
  for (const std::string& problem : report.problems) damage.push_back({"", problem});
  return damage;
}

}  // namespace

absl::StatusOr<VerifyReport> VerifyIndex(const std::string& data_dir, const DocumentStore& store, std::string_view collection) {
  VerifyReport report;
  ASSIGN_OR_RETURN(const std::vector<Damage> damage, FindDamage(data_dir, store, collection, report));
  report.problems.clear();
  for (const Damage& one : damage) report.problems.push_back(one.folder.empty() ? one.reason : one.folder + ": " + one.reason);
  return report;
}

absl::StatusOr<IndexReport> RepairIndex(DataDirectory& dir, const DocumentStore& store, std::string_view collection,
                                        const IndexOptions& options) {
  VerifyReport verified;
  ASSIGN_OR_RETURN(const std::vector<Damage> damage, FindDamage(dir.path(), store, collection, verified));
  if (damage.empty()) return UpdateIndex(dir, store, collection, options);
  for (const Damage& one : damage) {
    if (!one.folder.empty()) RETURN_IF_ERROR(dir.Quarantine(collection, one.folder, one.reason));
  }
  ASSIGN_OR_RETURN(IndexReport report, BuildIndex(dir, store, collection, options));
  for (const Damage& one : damage) report.notes.push_back(one.folder.empty() ? one.reason : one.folder + ": " + one.reason);
  return report;
}

}  // namespace lectern::index
