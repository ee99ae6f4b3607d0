#include "index/segment_builder.h"

#include <algorithm>
#include <chrono>

#include "base/rng.h"

namespace lectern::index {
namespace {

constexpr size_t kEncodeBatch = 512;   // chunks: enough to sort by length, few enough to stay responsive

// The words of the schema's text fields, each value as often as its boost says.
std::string FieldText(const Schema& schema, const Document& document) {
  std::string text;
  for (const auto& [name, values] : document.fields) {
    const FieldSpec* spec = schema.Find(name);
    if (spec == nullptr || spec->type != FieldType::kText || !spec->indexed) continue;
    for (const FieldValue& value : values) {
      const std::string* words = std::get_if<std::string>(&value);
      for (int i = 0; words != nullptr && i < spec->boost; ++i) text += "\n" + *words;
    }
  }
  return text;
}

}  // namespace

struct SegmentBuilder::Open {
  std::unique_ptr<SegmentFolder> folder;
  std::unique_ptr<SegmentFile> documents_file;
  std::unique_ptr<SegmentDocumentsWriter> documents;
  std::unique_ptr<Bm25SegmentWriter> bm25;
  std::vector<float> vectors;               // [chunk, dim]; rows of pending chunks are zero until encoded
  std::vector<std::string> pending;         // embedding texts
  std::vector<int64_t> pending_chunks;      // their chunk ordinals
  int64_t pending_bytes = 0;
  std::vector<int32_t> sample_chunks;       // of the denoising hook: a reservoir over the chunks
  std::vector<std::string> sample_texts;
  int64_t sample_bytes = 0;
  int64_t num_documents = 0, num_chunks = 0;

  // Fitting holds the vectors three times: raw, packed for the neighbour search, fitted.
  int64_t bytes(bool denoise) const {
    return documents->buffered_bytes() + bm25->buffered_bytes() + static_cast<int64_t>(vectors.size() * sizeof(float)) * (denoise ? 2 : 1) + pending_bytes + sample_bytes;
  }
};

SegmentBuilder::SegmentBuilder(DataDirectory& dir, std::string collection, const Analyzer& analyzer, const Chunker& chunker,
                               const Schema& schema, const IndexOptions& options)
    : dir_(dir), collection_(std::move(collection)), analyzer_(analyzer), chunker_(chunker), schema_(schema), options_(options) {}
SegmentBuilder::~SegmentBuilder() = default;

absl::Status SegmentBuilder::Begin() {
  auto open = std::make_unique<Open>();
  ASSIGN_OR_RETURN(open->folder, dir_.NewSegment(collection_));
  ASSIGN_OR_RETURN(open->documents_file, open->folder->Create("documents.bin"));
  open->documents = std::make_unique<SegmentDocumentsWriter>(*open->documents_file);
  open->bm25 = std::make_unique<Bm25SegmentWriter>(analyzer_);
  open_ = std::move(open);
  return absl::OkStatus();
}

absl::Status SegmentBuilder::Add(const StoredDocument& stored, const KnownVectors* known) {
  RETURN_IF_ERROR(CheckCancel(options_.cancel));
  if (open_ == nullptr) RETURN_IF_ERROR(Begin());
  const Document& document = stored.document;
  const std::vector<Span> spans = chunker_.Chunk(document.title, document.text);
  RETURN_IF_ERROR(open_->documents->Add(stored, spans));
  const std::string field_text = FieldText(schema_, document);
  for (size_t i = 0; i < spans.size(); ++i) {
    const std::string_view chunk = std::string_view(document.text).substr(static_cast<size_t>(spans[i].begin),
                                                                          static_cast<size_t>(spans[i].end - spans[i].begin));
    // Fields count once a document: with its first chunk.
    const bool with_fields = i == 0 && !field_text.empty();
    RETURN_IF_ERROR(open_->bm25->Add(document.title, with_fields ? std::string(chunk) + field_text : chunk));
  }
  if (options_.encoder != nullptr) {
    const size_t dim = static_cast<size_t>(options_.encoder->dim());
    const size_t at = open_->vectors.size();
    open_->vectors.resize(at + spans.size() * dim);
    if (known != nullptr && known->spans == spans && known->vectors.size() == spans.size() * dim) {
      std::copy(known->vectors.begin(), known->vectors.end(), open_->vectors.begin() + static_cast<std::ptrdiff_t>(at));
    } else {
      for (size_t i = 0; i < spans.size(); ++i) {
        open_->pending.push_back(EmbeddingText(document.title, std::string_view(document.text).substr(
            static_cast<size_t>(spans[i].begin), static_cast<size_t>(spans[i].end - spans[i].begin))));
        open_->pending_chunks.push_back(open_->num_chunks + static_cast<int64_t>(i));
        open_->pending_bytes += static_cast<int64_t>(open_->pending.back().size());
      }
    }
  }
  if (options_.encoder != nullptr && options_.denoise) {
    for (size_t i = 0; i < spans.size(); ++i) {
      const int64_t chunk = open_->num_chunks + static_cast<int64_t>(i);
      // The same reservoir for the same chunks in the same order, whatever machine builds.
      int64_t place = chunk;
      if (chunk >= kDenoiseSample) {
        Rng rng(/*seed=*/0x6d66, static_cast<uint64_t>(chunk));
        place = rng.Below(chunk + 1);
        if (place >= kDenoiseSample) continue;
      } else {
        open_->sample_chunks.emplace_back();
        open_->sample_texts.emplace_back();
      }
      open_->sample_chunks[static_cast<size_t>(place)] = static_cast<int32_t>(chunk);
      std::string& text = open_->sample_texts[static_cast<size_t>(place)];
      open_->sample_bytes -= static_cast<int64_t>(text.size());
      text = EmbeddingText(document.title, std::string_view(document.text).substr(static_cast<size_t>(spans[i].begin),
                                                                                  static_cast<size_t>(spans[i].end - spans[i].begin)));
      open_->sample_bytes += static_cast<int64_t>(text.size());
    }
  }
  open_->num_chunks += static_cast<int64_t>(spans.size());
  ++open_->num_documents;
  ++documents_;
  chunks_ += static_cast<int64_t>(spans.size());
  if (open_->pending.size() >= kEncodeBatch) RETURN_IF_ERROR(EncodePending());
  // Building HNSW and writing postings need about as much again as what is held.
  if (open_->bytes(options_.denoise != nullptr) > options_.memory_bytes / 2) RETURN_IF_ERROR(Cut());
  return absl::OkStatus();
}

absl::Status SegmentBuilder::EncodePending() {
  if (open_->pending.empty()) return absl::OkStatus();
  const auto start = std::chrono::steady_clock::now();
  const std::vector<std::string_view> texts(open_->pending.begin(), open_->pending.end());
  EncodeStats stats;
  ASSIGN_OR_RETURN(const std::vector<float> vectors, options_.encoder->Encode(texts, /*cut=*/true, &stats, options_.cancel));
  const int64_t dim = options_.encoder->dim();
  for (size_t i = 0; i < texts.size(); ++i) {
    std::copy_n(vectors.begin() + static_cast<std::ptrdiff_t>(i) * dim, dim, open_->vectors.begin() + open_->pending_chunks[i] * dim);
  }
  cut_chunks_ += stats.cut_texts;
  open_->pending.clear();
  open_->pending_chunks.clear();
  open_->pending_bytes = 0;
  encode_seconds_ += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return absl::OkStatus();
}

absl::Status SegmentBuilder::Denoise(SegmentEntry& entry) {
  const int64_t dim = options_.encoder != nullptr ? options_.encoder->dim() : 0;
  ASSIGN_OR_RETURN(DenoiseResult denoised, options_.denoise({open_->vectors, dim, open_->sample_chunks, open_->sample_texts}));
  if (!denoised.fitted.empty()) {
    if (denoised.fitted.size() != open_->vectors.size()) {
      return Internal("denoising returned ", denoised.fitted.size(), " values for ", open_->vectors.size());
    }
    ASSIGN_OR_RETURN(entry.files.emplace_back(), DenseIndex::WriteFitted(std::move(denoised.fitted), dim, *open_->folder, *options_.pool));
  }
  (*denoised.report)["segment"] = entry.folder;
  denoise_reports_.push_back(std::move(*denoised.report));
  return absl::OkStatus();
}

absl::Status SegmentBuilder::Cut() {
  RETURN_IF_ERROR(EncodePending());
  SegmentEntry entry;
  entry.folder = open_->folder->folder();
  entry.num_documents = open_->num_documents;
  entry.num_chunks = open_->num_chunks;
  RETURN_IF_ERROR(open_->documents->Finish());
  ASSIGN_OR_RETURN(FileEntry documents, open_->documents_file->Finish());
  entry.files.push_back(std::move(documents));
  ASSIGN_OR_RETURN(const auto bm25_file, open_->folder->Create("bm25.bin"));
  RETURN_IF_ERROR(open_->bm25->Write(*bm25_file));
  ASSIGN_OR_RETURN(FileEntry bm25, bm25_file->Finish());
  entry.files.push_back(std::move(bm25));
  open_->bm25.reset();
  if (options_.denoise && open_->num_chunks > 0) RETURN_IF_ERROR(Denoise(entry));
  if (options_.encoder != nullptr && open_->num_chunks > 0) {
    ASSIGN_OR_RETURN(const auto dense, DenseIndex::Build(std::move(open_->vectors), options_.encoder->dim(), options_.dense, *options_.pool));
    ASSIGN_OR_RETURN(std::vector<FileEntry> files, dense->Write(*open_->folder));
    for (FileEntry& file : files) entry.files.push_back(std::move(file));
  }
  finished_.push_back(std::move(entry));
  open_.reset();
  return absl::OkStatus();
}

absl::StatusOr<std::vector<SegmentEntry>> SegmentBuilder::Finish() {
  if (open_ != nullptr) RETURN_IF_ERROR(Cut());
  return std::move(finished_);
}

}  // namespace lectern::index
