// service/engine.h: wires the parts over one data directory. No part knows another; this file does.
//
//   ASSIGN_OR_RETURN(auto engine, Engine::Open(data_dir, config));
//   ASSIGN_OR_RETURN(auto corpus, engine->OpenCorpus("books"));
//   ASSIGN_OR_RETURN(index::Encoder* encoder, engine->EncoderOf(*corpus));   // null: none, see why
//
// Shapes:  see the parts.
// Threads: one command or request pool; models load once under a lock.
// Errors:  those of the parts; kNotFound names a missing collection or data directory.
// Cost:    opens nothing that is not asked for: a BM25 search loads no model, an ingest no reader.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "base/thread_pool.h"
#include "decoder/reader.h"
#include "index/corpus.h"
#include "index/data_directory.h"
#include "index/document_store.h"
#include "index/encoder.h"
#include "service/config.h"
#include "service/models.h"

namespace lectern::service {

// A directory opened for writing: the lock, the published state and the store.
struct Writer {
  std::unique_ptr<index::DataDirectory> directory;
  std::unique_ptr<index::DocumentStore> store;
};

class Engine {
 public:
  Engine(std::string data_dir, Config config);
  ~Engine();
  const std::string& data_dir() const { return data_dir_; }
  const Config& config() const { return config_; }
  const ModelStore& models() const { return models_; }
  ThreadPool& pool();

  absl::StatusOr<Writer> OpenWriter() const;                                       // kAborted where another process writes
  // The same for `index repair`: see DataDirectory::OpenForRepair. A store that ends before what is indexed is opened, too.
  absl::StatusOr<Writer> OpenForRepair(std::vector<std::string>* repaired) const;
  absl::StatusOr<std::unique_ptr<index::DocumentStore>> OpenFollower() const;      // beside a writer, or read-only
  absl::StatusOr<std::string> ResolveAlias(std::string_view name) const;
  absl::StatusOr<std::shared_ptr<const index::Corpus>> OpenCorpus(std::string_view collection) const;

  // The encoder of that name (empty: models.embed); null with a reason in *why where none is at hand or it is 'none'.
  absl::StatusOr<index::Encoder*> EncoderNamed(const std::string& model, std::string* why);
  // The encoder for searching a corpus; null with a reason in *why. Corpus::Search refuses one whose fingerprint differs.
  absl::StatusOr<index::Encoder*> EncoderOf(const index::Corpus& corpus, std::string* why);
  absl::StatusOr<index::CrossEncoder*> Reranker(const std::string& model);
  absl::StatusOr<decoder::Reader*> Reader(const CancelToken* cancel = nullptr);  // cancel: of opening it

 private:
  absl::StatusOr<std::unique_ptr<index::DocumentStore>> OpenStore(uint64_t expected_seq) const;
  std::string data_dir_;
  Config config_;
  ModelStore models_;
  absl::Mutex mutex_;
  std::unique_ptr<ThreadPool> pool_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, std::unique_ptr<index::Encoder>> encoders_ ABSL_GUARDED_BY(mutex_);         // by path
  std::map<std::string, std::unique_ptr<index::CrossEncoder>> rerankers_ ABSL_GUARDED_BY(mutex_);   // by path
  absl::Mutex reader_mutex_;   // of its own: a reader may be loading while a search finds its encoder
  std::unique_ptr<decoder::Reader> reader_ ABSL_GUARDED_BY(reader_mutex_);
};

}  // namespace lectern::service
