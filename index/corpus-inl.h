// index/corpus-inl.h: an opened generation, and the state of one request over it; shared by corpus.cc and its search.
#pragma once

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/json.h"
#include "index/analyzer.h"
#include "index/bm25_segment.h"
#include "index/corpus.h"
#include "index/deletes.h"
#include "index/dense_index.h"
#include "index/segment_documents.h"
#include "index/wand.h"

namespace lectern::index {

struct CorpusSegment {
  std::shared_ptr<const SegmentDocuments> documents;
  std::shared_ptr<const Bm25Segment> postings;
  std::unique_ptr<DenseIndex> vectors;     // null where the collection has none
  std::unique_ptr<DenseIndex> fitted;      // denoised; null unless every segment with vectors has them
  DeletedDocuments dead;
  std::optional<ChunkSet> live;            // nullopt: all chunks

  const DenseIndex& VectorsFor(const RetrieverSpec& spec) const { return spec.denoise && fitted != nullptr ? *fitted : *vectors; }
};

// Ties: document ids ascending, then the chunk's number.
class ByDocumentId final : public ChunkOrder {
 public:
  explicit ByDocumentId(const std::vector<CorpusSegment>& segments) : segments_(segments) {}
  bool Before(ChunkPlace a, ChunkPlace b) const override {
    if (a.segment == b.segment && Document(a) == Document(b)) return a.chunk < b.chunk;
    const int compared = Id(a).compare(Id(b));
    if (compared != 0) return compared < 0;
    return a.segment != b.segment ? a.segment < b.segment : a.chunk < b.chunk;
  }

 private:
  int32_t Document(ChunkPlace place) const { return segments_[place.segment].documents->ChunkAt(place.chunk).document; }
  std::string_view Id(ChunkPlace place) const { return segments_[place.segment].documents->Id(Document(place)); }
  const std::vector<CorpusSegment>& segments_;
};

class CorpusImpl final : public Corpus {
 public:
  absl::Status Load(std::vector<SegmentFiles> files, const CollectionState& state);
  absl::StatusOr<SearchResponse> Search(const SearchRequest& request, Encoder* encoder) const override;
  uint64_t generation() const override { return generation_; }
  uint64_t indexed_seq() const override { return indexed_seq_; }
  int64_t num_documents() const override { return num_documents_; }
  int64_t num_chunks() const override { return searcher_->statistics().num_chunks; }
  bool has_vectors() const override { return !fingerprint_.empty(); }
  const Json& settings() const override { return settings_; }
  absl::StatusOr<std::string> DocumentText(std::string_view doc_id) const override;
  absl::StatusOr<std::string> DocumentTitle(std::string_view doc_id) const override;
  absl::StatusOr<std::vector<float>> DocumentVectors(std::string_view doc_id) const override;
  double TermIdf(std::string_view analysed_term) const override;

 private:
  friend class SearchPass;
  struct Found { const CorpusSegment* segment; int32_t document; };
  absl::StatusOr<Found> FindAlive(std::string_view doc_id) const;

  std::vector<CorpusSegment> segments_;
  std::unique_ptr<Bm25Searcher> searcher_;
  std::unique_ptr<ByDocumentId> order_;
  std::shared_ptr<const Analyzer> analyzer_;
  Json settings_;
  std::string fingerprint_;       // of the encoder that made the vectors; empty: no vectors
  uint64_t generation_ = 0, indexed_seq_ = 0;
  int64_t num_documents_ = 0;
  bool single_chunks_ = true;     // no document has more than one chunk
};

}  // namespace lectern::index
