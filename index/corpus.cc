#include "index/corpus.h"

#include <algorithm>
#include <chrono>

#include "base/check.h"
#include "base/json.h"
#include "index/corpus-inl.h"

namespace lectern::index {
namespace {

using Clock = std::chrono::steady_clock;
constexpr auto kOpenPatience = std::chrono::seconds(10);   // with a writer that publishes faster than files can be mapped

// kNotFound where the writer has removed one of them since.
absl::StatusOr<std::vector<SegmentFiles>> MapSegments(const std::string& data_dir, std::string_view collection, const CollectionState& state) {
  std::vector<SegmentFiles> all;
  for (const SegmentEntry& entry : state.segments) {
    ASSIGN_OR_RETURN(SegmentFiles files, SegmentFiles::Map(DataDirectory::SegmentPath(data_dir, collection, entry.folder), entry));
    all.push_back(std::move(files));
  }
  return all;
}

absl::Status Damaged(const absl::Status& status, std::string_view collection) {
  return DataLoss(std::string(status.message()), "; `lectern index repair ", collection, "` makes it anew from the store");
}

}  // namespace

absl::Status CorpusImpl::Load(std::vector<SegmentFiles> all_files, const CollectionState& state) {
  settings_ = *state.settings;
  generation_ = state.generation;
  indexed_seq_ = state.indexed_seq;
  std::string analyzer = settings_.value("analyzer_version", settings_.value("analyzer", std::string("en")));
  ASSIGN_OR_RETURN(analyzer_, Analyzer::Named(analyzer));
  int64_t dim = 0;
  if (const auto encoder = settings_.find("encoder"); encoder != settings_.end() && encoder->is_object()) {
    fingerprint_ = encoder->value("fingerprint", std::string());
    dim = encoder->value("dim", int64_t{0});
  }
  std::vector<Bm25Part> parts;
  for (SegmentFiles& files : all_files) {
    CorpusSegment segment;
    ASSIGN_OR_RETURN(segment.documents, SegmentDocuments::Open(files));
    ASSIGN_OR_RETURN(segment.postings, Bm25Segment::Open(files));
    ASSIGN_OR_RETURN(segment.dead, DeletedDocuments::Open(files));
    const int64_t chunks = segment.documents->num_chunks();
    if (segment.postings->num_chunks() != chunks) {
      return DataLoss(files.PathOf("bm25.bin"), " holds ", segment.postings->num_chunks(), " chunks, documents.bin ", chunks);
    }
    if (segment.postings->analyzer_name() != analyzer_->name()) {
      return FailedPrecondition(files.PathOf("bm25.bin"), " was made by analyzer ", segment.postings->analyzer_name(),
                                ", the collection has ", analyzer_->name(), "; `lectern index build` makes it anew");
    }
    if (segment.dead.num_documents() != segment.documents->num_documents()) {
      return DataLoss(files.PathOf("documents.bin"), ": the deletes beside it are of ", segment.dead.num_documents(), " documents, it holds ",
                      segment.documents->num_documents());
    }
    if (has_vectors() && chunks > 0) {
      ASSIGN_OR_RETURN(segment.vectors, DenseIndex::Open(files));
      if (segment.vectors->size() != chunks || segment.vectors->dim() != dim) {
        return DataLoss(files.PathOf("vectors.bin"), " holds ", segment.vectors->size(), " vectors of ", segment.vectors->dim(),
                        " numbers; ", chunks, " of ", dim, " are wanted");
      }
    }
    if (segment.vectors != nullptr) {
      ASSIGN_OR_RETURN(segment.fitted, DenseIndex::OpenFitted(files));
      if (segment.fitted != nullptr && (segment.fitted->size() != chunks || segment.fitted->dim() != dim)) {
        return DataLoss(files.PathOf("fitted.bin"), " holds ", segment.fitted->size(), " vectors of ", segment.fitted->dim(), " numbers; ", chunks,
                        " of ", dim, " are wanted");
      }
    }
    num_documents_ += segment.documents->num_documents() - segment.dead.count();
    for (int32_t document = 0; document < segment.documents->num_documents() && single_chunks_; ++document) {
      const auto [first, last] = segment.documents->ChunksOf(document);
      single_chunks_ = last - first <= 1;
    }
    if (segment.dead.count() > 0) {
      segment.live = ChunkSet(chunks, /*all=*/true);
      for (int32_t document = 0; document < segment.documents->num_documents(); ++document) {
        if (!segment.dead.Contains(document)) continue;
        const auto [first, last] = segment.documents->ChunksOf(document);
        for (int64_t chunk = first; chunk < last; ++chunk) segment.live->Remove(static_cast<uint32_t>(chunk));
      }
    }
    parts.push_back({segment.postings, segment.live});
    segments_.push_back(std::move(segment));
  }
  // Fitted vectors have less noise, which is nearer to every query: raw ones beside them would not be found.
  const bool all_fitted = std::all_of(segments_.begin(), segments_.end(), [](const CorpusSegment& segment) {
    return segment.vectors == nullptr || segment.fitted != nullptr || segment.dead.count() == segment.documents->num_documents();
  });
  for (CorpusSegment& segment : segments_) {
    if (!all_fitted) segment.fitted.reset();
  }
  searcher_ = std::make_unique<Bm25Searcher>(std::move(parts));
  order_ = std::make_unique<ByDocumentId>(segments_);
  return absl::OkStatus();
}

absl::StatusOr<std::shared_ptr<const Corpus>> Corpus::Open(const std::string& data_dir, std::string_view collection) {
  const auto give_up = Clock::now() + kOpenPatience;
  while (true) {
    ASSIGN_OR_RETURN(const Manifest manifest, DataDirectory::ReadManifest(data_dir));
    const std::string name = manifest.Resolve(collection);
    const auto state = manifest.collections.find(name);
    if (state == manifest.collections.end()) {
      return NotFound("collection '", collection, "' has no index in ", data_dir,
                      "; `lectern ingest` or `lectern index build` makes one");
    }
    absl::StatusOr<std::vector<SegmentFiles>> files = MapSegments(data_dir, name, state->second);
    if (absl::IsNotFound(files.status())) {
      ASSIGN_OR_RETURN(const Manifest now, DataDirectory::ReadManifest(data_dir));
      if (now.number == manifest.number) return Damaged(files.status(), name);   // it is named, and not there
      if (Clock::now() > give_up) return Unavailable(data_dir, " was published anew faster than it could be opened, for ", kOpenPatience.count(), " s");
      continue;
    }
    absl::Status opened = files.status();
    auto corpus = std::make_shared<CorpusImpl>();
    if (opened.ok()) opened = corpus->Load(*std::move(files), state->second);
    if (absl::IsDataLoss(opened)) return Damaged(opened, name);
    RETURN_IF_ERROR(opened);
    return std::shared_ptr<const Corpus>(std::move(corpus));
  }
}

absl::StatusOr<CorpusImpl::Found> CorpusImpl::FindAlive(std::string_view doc_id) const {
  for (const CorpusSegment& segment : segments_) {
    const int32_t document = segment.documents->FindDocument(doc_id);
    if (document >= 0 && !segment.dead.Contains(document)) return Found{&segment, document};
  }
  return NotFound("no document '", doc_id, "' in generation ", generation_);
}

absl::StatusOr<std::string> CorpusImpl::DocumentText(std::string_view doc_id) const {
  ASSIGN_OR_RETURN(const Found found, FindAlive(doc_id));
  return found.segment->documents->Text(found.document);
}

absl::StatusOr<std::string> CorpusImpl::DocumentTitle(std::string_view doc_id) const {
  ASSIGN_OR_RETURN(const Found found, FindAlive(doc_id));
  return std::string(found.segment->documents->Title(found.document));
}

absl::StatusOr<std::vector<float>> CorpusImpl::DocumentVectors(std::string_view doc_id) const {
  ASSIGN_OR_RETURN(const Found found, FindAlive(doc_id));
  std::vector<float> vectors;
  if (found.segment->vectors == nullptr) return vectors;
  const auto [first, last] = found.segment->documents->ChunksOf(found.document);
  for (int64_t chunk = first; chunk < last; ++chunk) {
    const std::span<const float> row = found.segment->vectors->Vector(chunk);
    vectors.insert(vectors.end(), row.begin(), row.end());
  }
  return vectors;
}

double CorpusImpl::TermIdf(std::string_view analysed_term) const {
  const int64_t frequency = searcher_->DocumentFrequency(analysed_term);
  return frequency == 0 ? 0 : Bm25Idf(frequency, searcher_->statistics().num_chunks);
}

}  // namespace lectern::index
