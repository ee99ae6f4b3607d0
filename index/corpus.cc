#include "index/corpus.h"

#include "base/check.h"
#include "index/corpus-inl.h"

namespace lectern::index {
namespace {

constexpr int kOpenAttempts = 3;  // a writer may publish twice between reading the manifest and opening its files

const FileEntry* FindFile(const SegmentEntry& entry, std::string_view name) {
  for (const FileEntry& file : entry.files) {
    if (file.name == name) return &file;
  }
  return nullptr;
}

}  // namespace

absl::Status CorpusImpl::Load(const std::string& data_dir, std::string_view collection, const CollectionState& state) {
  settings_ = state.settings;
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
  for (const SegmentEntry& entry : state.segments) {
    const std::string path = DataDirectory::SegmentPath(data_dir, collection, entry.folder);
    const FileEntry* documents = FindFile(entry, "documents.bin");
    const FileEntry* postings = FindFile(entry, "bm25.bin");
    if (documents == nullptr || postings == nullptr) {
      return DataLoss(path, ": the manifest names no ", documents == nullptr ? "documents.bin" : "bm25.bin");
    }
    CorpusSegment segment;
    ASSIGN_OR_RETURN(segment.documents, SegmentDocuments::Open(path, *documents));
    ASSIGN_OR_RETURN(segment.postings, Bm25Segment::Open(path, *postings));
    ASSIGN_OR_RETURN(segment.dead, DeletedDocuments::Open(path, entry));
    const int64_t chunks = segment.documents->num_chunks();
    if (segment.postings->num_chunks() != chunks) {
      return DataLoss(path, "/bm25.bin holds ", segment.postings->num_chunks(), " chunks, documents.bin ", chunks);
    }
    if (segment.postings->analyzer_name() != analyzer_->name()) {
      return FailedPrecondition(path, "/bm25.bin was made by analyzer ", segment.postings->analyzer_name(),
                                ", the collection has ", analyzer_->name(), "; `lectern index build` makes it anew");
    }
    if (segment.dead.num_documents() != segment.documents->num_documents()) {
      return DataLoss(path, ": its deletes are of ", segment.dead.num_documents(), " documents, documents.bin holds ",
                      segment.documents->num_documents());
    }
    if (has_vectors() && chunks > 0) {
      ASSIGN_OR_RETURN(segment.vectors, DenseIndex::Open(path, entry));
      if (segment.vectors->size() != chunks || segment.vectors->dim() != dim) {
        return DataLoss(path, "/vectors.bin holds ", segment.vectors->size(), " vectors of ", segment.vectors->dim(),
                        " numbers; ", chunks, " of ", dim, " are wanted");
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
  searcher_ = std::make_unique<Bm25Searcher>(std::move(parts));
  order_ = std::make_unique<ByDocumentId>(segments_);
  return absl::OkStatus();
}

absl::StatusOr<std::shared_ptr<const Corpus>> CorpusImpl::OpenState(const std::string& data_dir,
                                                                    std::string_view collection,
                                                                    const CollectionState& state) {
  auto corpus = std::make_shared<CorpusImpl>();
  RETURN_IF_ERROR(corpus->Load(data_dir, collection, state));
  return std::shared_ptr<const Corpus>(std::move(corpus));
}

absl::StatusOr<std::shared_ptr<const Corpus>> Corpus::Open(const std::string& data_dir, std::string_view collection) {
  absl::StatusOr<std::shared_ptr<const Corpus>> corpus = Internal("not opened");
  for (int attempt = 0; attempt < kOpenAttempts; ++attempt) {
    ASSIGN_OR_RETURN(const Manifest manifest, DataDirectory::ReadManifest(data_dir));
    std::string name(collection);
    if (const auto alias = manifest.aliases.find(name); alias != manifest.aliases.end()) name = alias->second;
    const auto state = manifest.collections.find(name);
    if (state == manifest.collections.end()) {
      return NotFound("collection '", collection, "' has no index in ", data_dir,
                      "; `lectern ingest` or `lectern index build` makes one");
    }
    corpus = CorpusImpl::OpenState(data_dir, name, state->second);
    if (corpus.status().code() != absl::StatusCode::kNotFound) return corpus;
  }
  return corpus;
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

double CorpusImpl::TermIdf(std::string_view analysed_term) const {
  const int64_t frequency = searcher_->DocumentFrequency(analysed_term);
  return frequency == 0 ? 0 : Bm25Idf(frequency, searcher_->statistics().num_chunks);
}

}  // namespace lectern::index
