#include "service/engine.h"

#include <malloc.h>

#include <algorithm>
#include <filesystem>
#include <system_error>

#include "base/file.h"
#include "base/json.h"

namespace lectern::service {
namespace {

// Blocks of records, write buffers and postings come and go in sizes that malloc would keep once it had been asked for them: it raises
// the size from which freed memory goes back to the system up to 32 MiB. Fixed, ingest's peak under 64 MiB falls from 72 to 61 MiB.
void ReturnFreedMemory() { mallopt(M_MMAP_THRESHOLD, 256 << 10); }

// With no name its files would lie in the root of the file system.
absl::Status CheckMayBeOne(const std::string& data_dir) {
  if (data_dir.empty()) return InvalidArgument("the data directory has no name (--data, LECTERN_DATA)");
  std::error_code unknown;
  if (std::filesystem::exists(data_dir, unknown) && !std::filesystem::is_directory(data_dir, unknown)) {
    return InvalidArgument(data_dir, " is a file; a data directory is a folder");
  }
  return absl::OkStatus();
}

absl::Status CheckIsOne(const std::string& data_dir) {
  RETURN_IF_ERROR(CheckMayBeOne(data_dir));
  if (index::DataDirectory::LooksLikeOne(data_dir)) return absl::OkStatus();
  return NotFound("no data directory at ", data_dir, "; make one with `lectern init ", data_dir, "` or `lectern ingest`");
}

}  // namespace

Engine::Engine(std::string data_dir, Config config)
    : data_dir_(std::move(data_dir)), config_(std::move(config)), models_(data_dir_, config_.String("models.dir")) {}
Engine::~Engine() = default;

ThreadPool& Engine::pool() {
  absl::MutexLock lock(&mutex_);
  if (pool_ == nullptr) {
    const int64_t wanted = config_.Int("index.threads");
    pool_ = std::make_unique<ThreadPool>(wanted > 0 ? static_cast<int>(wanted) : ThreadPool::HardwareThreads());
  }
  return *pool_;
}

absl::StatusOr<Writer> Engine::OpenWriter() const {
  ReturnFreedMemory();
  RETURN_IF_ERROR(CheckMayBeOne(data_dir_));
  Writer writer;
  ASSIGN_OR_RETURN(writer.directory, index::DataDirectory::OpenForWriting(data_dir_));
  ASSIGN_OR_RETURN(writer.store, OpenStore(writer.directory->manifest().IndexedSeq()));
  return writer;
}

absl::StatusOr<Writer> Engine::OpenForRepair(std::vector<std::string>* repaired) const {
  RETURN_IF_ERROR(CheckMayBeOne(data_dir_));
  Writer writer;
  ASSIGN_OR_RETURN(writer.directory, index::DataDirectory::OpenForRepair(data_dir_, repaired));
  ASSIGN_OR_RETURN(writer.store, OpenStore(0));
  return writer;
}

absl::StatusOr<std::unique_ptr<index::DocumentStore>> Engine::OpenStore(uint64_t expected_seq) const {
  // The store's own memory comes out of what ingest and index building may use: a twelfth for its two write buffers, half
  // of that for its cache.
  const int64_t share = config_.Int("index.memory_bytes") / 24;
  index::StoreOptions options;
  options.cache_bytes = std::min(config_.Int("storage.cache_bytes"), share);
  options.write_buffer_bytes = std::clamp(share, int64_t{1} << 20, options.write_buffer_bytes);
  options.expected_seq = expected_seq;
  return index::DocumentStore::Open(index::DataDirectory::StorePath(data_dir_), options);
}

absl::StatusOr<std::unique_ptr<index::DocumentStore>> Engine::OpenFollower() const {
  RETURN_IF_ERROR(CheckIsOne(data_dir_));
  index::StoreOptions options;
  options.mode = index::StoreOptions::Mode::kFollow;
  options.cache_bytes = config_.Int("storage.cache_bytes");
  return index::DocumentStore::Open(index::DataDirectory::StorePath(data_dir_), options);
}

absl::StatusOr<std::string> Engine::ResolveAlias(std::string_view name) const {
  RETURN_IF_ERROR(CheckIsOne(data_dir_));
  ASSIGN_OR_RETURN(const index::Manifest manifest, index::DataDirectory::ReadManifest(data_dir_));
  return manifest.Resolve(name);
}

absl::StatusOr<std::shared_ptr<const index::Corpus>> Engine::OpenCorpus(std::string_view collection) const {
  ASSIGN_OR_RETURN(const std::string name, ResolveAlias(collection));
  return index::Corpus::Open(data_dir_, name);
}

absl::StatusOr<index::Encoder*> Engine::EncoderNamed(const std::string& name, std::string* why) {
  const std::string& model = name.empty() ? config_.String("models.embed") : name;
  if (model == "none" || model.empty()) {
    *why = "models.embed is 'none'";
    return nullptr;
  }
  auto path = models_.Resolve(model);
  if (!path.ok()) {
    *why = std::string(path.status().message());
    return nullptr;
  }
  const std::string& precision = config_.String("models.embed_precision");
  if (precision != "bf16" && precision != "float32") {
    return InvalidArgument("models.embed_precision must be bf16 or float32, got '", precision, "'");
  }
  ThreadPool& threads = pool();
  absl::MutexLock lock(&mutex_);
  std::unique_ptr<index::Encoder>& encoder = encoders_[*path];
  if (encoder == nullptr) {
    index::EncoderOptions options;
    options.precision = precision == "bf16" ? index::Precision::kBf16 : index::Precision::kFloat32;
    ASSIGN_OR_RETURN(encoder, index::Encoder::Open(*path, options, threads));
  }
  return encoder.get();
}

absl::StatusOr<index::Encoder*> Engine::EncoderOf(const index::Corpus& corpus, std::string* why) {
  if (!corpus.has_vectors()) {
    *why = "the collection has no vectors";
    return nullptr;
  }
  std::string model;
  if (const auto it = corpus.settings().find("embed_model"); it != corpus.settings().end() && it->is_string()) model = it->get<std::string>();
  return EncoderNamed(model, why);
}

absl::StatusOr<index::CrossEncoder*> Engine::Reranker(const std::string& model) {
  ASSIGN_OR_RETURN(const std::string path, models_.Resolve(model));
  ThreadPool& threads = pool();
  absl::MutexLock lock(&mutex_);
  std::unique_ptr<index::CrossEncoder>& reranker = rerankers_[path];
  if (reranker == nullptr) {
    ASSIGN_OR_RETURN(reranker, index::CrossEncoder::Open(path, index::EncoderOptions(), threads));
  }
  return reranker.get();
}

absl::StatusOr<decoder::Reader*> Engine::Reader(const CancelToken* cancel) {
  ASSIGN_OR_RETURN(const std::string path, models_.Resolve(config_.String("reader.model")));
  absl::MutexLock lock(&reader_mutex_);
  if (reader_ == nullptr) {
    decoder::ReaderOptions options;
    options.num_threads = static_cast<int>(config_.Int("reader.threads"));
    options.chat_template = config_.String("reader.chat_template");
    options.cancel = cancel;
    ASSIGN_OR_RETURN(reader_, decoder::Reader::Open(path, options));
  }
  return reader_.get();
}

}  // namespace lectern::service
