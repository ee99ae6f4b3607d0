#include "index/indexer.h"

#include <algorithm>
#include <chrono>

#include "base/json.h"
#include "index/collection.h"
#include "index/indexer-inl.h"
#include "index/segment_builder.h"

namespace lectern::index {
namespace {

using Clock = std::chrono::steady_clock;
double Since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

std::string Fingerprint(const CollectionState& state) {
  return HasVectors(state) ? state.settings->at("encoder").value("fingerprint", std::string()) : std::string();
}

Json SettingsOf(const CollectionSettings& settings, const Analyzer& analyzer, const Encoder* encoder) {
  Json json = settings.ToJson();
  json["analyzer_version"] = analyzer.name();
  if (encoder != nullptr) json["encoder"] = {{"fingerprint", encoder->fingerprint()}, {"dim", encoder->dim()}};
  return json;
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
  // By the generation that it belongs to; beside what an earlier attempt at that generation left, under a name of its own.
  std::string name = internal::Concat("deletes-", generation, ".bin");
  auto created = folder->Create(name);
  for (int attempt = 2; absl::IsAlreadyExists(created.status()); ++attempt) {
    name = internal::Concat("deletes-", generation, "-", attempt, ".bin");
    created = folder->Create(name);
  }
  ASSIGN_OR_RETURN(const auto file, std::move(created));
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
      auto segment = OpenDocuments(data_dir, collection, entry);
      if (!segment.ok()) continue;
      auto dense = DenseIndex::Open(segment->files);
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

// Whether new documents can stand beside those that are indexed.
absl::Status CheckFits(std::string_view collection, const CollectionState& state, const Analyzer& analyzer, const Encoder* encoder) {
  const std::string indexed_with = state.settings->value("analyzer_version", std::string("?"));
  if (indexed_with != analyzer.name()) {
    return FailedPrecondition("collection '", collection, "' was indexed with analyzer ", indexed_with, ", this is ", analyzer.name(),
                              "; `lectern index build` indexes it anew");
  }
  if (!HasVectors(state)) return absl::OkStatus();
  const std::string model = state.settings->value("embed_model", std::string());
  if (encoder == nullptr) {
    return FailedPrecondition("collection '", collection, "' has vectors, and its encoder '", model, "' is not at hand for the new documents; "
                              "`lectern model add PATH --as ", model, "` brings it");
  }
  if (encoder->fingerprint() != Fingerprint(state)) {
    return FailedPrecondition("collection '", collection, "' has vectors of encoder ", Fingerprint(state), ", and its encoder '", model, "' is now ",
                              encoder->fingerprint(), "; bring back the former, or `lectern index build` encodes everything anew");
  }
  return absl::OkStatus();
}

// Puts the damaged segments aside and makes everything from the store again.
absl::StatusOr<IndexReport> Rebuild(DataDirectory& dir, const DocumentStore& store, std::string_view collection, const IndexOptions& options,
                                    const std::vector<Damage>& damage) {
  for (const Damage& one : damage) RETURN_IF_ERROR(dir.Quarantine(collection, one.folder, one.reason));
  ASSIGN_OR_RETURN(IndexReport report, BuildIndex(dir, store, collection, options));
  for (const Damage& one : damage) report.notes.push_back(one.reason + "; moved to quarantine/ and rebuilt from the store");
  return report;
}

}  // namespace

absl::StatusOr<IndexReport> UpdateIndex(DataDirectory& dir, const DocumentStore& store, std::string_view collection,
                                        const IndexOptions& given) {
  const auto start = Clock::now();
  const CollectionState state = StateOf(dir.manifest(), collection);
  RETURN_IF_ERROR(CheckStoreReaches(store, collection, state));
  // What is published is looked at whole, whether anything has changed or not: damage is to be found here, not by a search.
  std::vector<OpenSegment> older;
  std::vector<Damage> damage;
  for (const SegmentEntry& entry : state.segments) {
    RETURN_IF_ERROR(CheckCancel(given.cancel));
    auto segment = OpenDocuments(dir.path(), collection, entry);
    absl::Status status = segment.status();
    if (status.ok()) status = segment->files.CheckRest();
    if (absl::IsDataLoss(status) || absl::IsNotFound(status)) {   // nobody else removes files: one that is gone was lost
      damage.push_back({entry.folder, std::string(status.message())});
      continue;
    }
    RETURN_IF_ERROR(status);
    older.push_back(*std::move(segment));
  }
  if (!damage.empty()) return Rebuild(dir, store, collection, given, damage);

  // Counted first, then gone through: their ids are never held, there may be more than memory holds.
  IndexReport report;
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
  const bool first = state.segments.empty();
  IndexOptions options = given;
  options.dense.kind = DenseKind::kFlat;   // a delta is small: exact, and cheap to fold
  options.denoise = nullptr;               // and no neighbourhood of its own: raw until the next build
  if (!first && !HasVectors(state) && options.encoder != nullptr) {
    if (alive > 0) report.notes.push_back("the collection has no vectors yet, so the new documents get none; `lectern index build` encodes everything");
    options.encoder = nullptr;
  }
  ASSIGN_OR_RETURN(const Parts parts, PartsOf(store, collection, options));
  if (!first && alive > 0) RETURN_IF_ERROR(CheckFits(collection, state, *parts.analyzer, options.encoder));

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
  for (SegmentEntry& entry : fresh) next.segments.push_back(std::move(entry));
  next.indexed_seq = seen_seq;
  next.settings = SettingsOf(parts.settings, *parts.analyzer, first ? options.encoder : nullptr);
  // Segments that stay are what they were, whatever is at hand now: the settings say what is in all of them.
  for (const char* made_with : {"analyzer_version", "encoder", "denoise"}) {
    if (!first && state.settings->contains(made_with)) (*next.settings)[made_with] = state.settings->at(made_with);
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
  const CollectionState state = StateOf(dir.manifest(), collection);
  ASSIGN_OR_RETURN(const Parts parts, PartsOf(store, collection, options));
  IndexReport report;
  if (HasVectors(state) && options.encoder == nullptr) {
    report.notes.push_back("the collection had vectors; no encoder is at hand, so this generation has none");
  }
  VectorSource known_vectors;
  // A store that was lost gives its numbers again: then a number no longer tells whether a text is the same.
  const bool reuse = options.encoder != nullptr && Fingerprint(state) == options.encoder->fingerprint() && store.last_seq() >= state.indexed_seq;
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
  if (!builder.denoise_reports().empty()) (*next.settings)["denoise"] = builder.denoise_reports();
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

}  // namespace lectern::index
