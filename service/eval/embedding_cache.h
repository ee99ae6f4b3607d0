// service/eval/embedding_cache.h: embeddings kept by what was encoded, so that no text is encoded twice.
//
//   ASSIGN_OR_RETURN(auto cache, EmbeddingCache::Open("/var/tmp/embeddings", *encoder));
//   ASSIGN_OR_RETURN(std::vector<float> vectors, cache->Encode(texts, progress, &cancel));   // [texts, dim]
//
// Shapes:  one file an encoder's fingerprint; a record is SHA-256 of the text (32 bytes) and dim float32 values.
// Threads: one; one process at a time (a lock beside the file).
// Errors:  kAborted (another process), those of files and of the encoder. A record cut short by a crash is dropped.
// Cost:    holds what the file holds; new texts cost their encoding, and are on disk after each batch.
#pragma once

#include <cstdint>
#include <fstream>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/cancel.h"
#include "base/file.h"
#include "base/status.h"
#include "index/encoder.h"

namespace lectern::eval {

class EmbeddingCache {
 public:
  static absl::StatusOr<std::unique_ptr<EmbeddingCache>> Open(const std::string& folder, index::Encoder& encoder);
  absl::StatusOr<std::vector<float>> Encode(std::span<const std::string> texts,
                                            const std::function<void(int64_t done, int64_t total)>& progress,
                                            const CancelToken* cancel);
  // From now on texts that are missing go into `file`, a JSON line {"text"} each, instead of being encoded; their vectors are zero.
  absl::Status ListMissing(const std::string& file);
  // What is known from elsewhere; kept in memory alone.
  void Know(std::string_view text, std::span<const float> vector);
  int64_t encoded() const { return encoded_; }  // texts that were not in the cache
  int64_t dim() const { return dim_; }

 private:
  explicit EmbeddingCache(index::Encoder& encoder, FileLock lock) : encoder_(encoder), lock_(std::move(lock)) {}
  index::Encoder& encoder_;
  FileLock lock_;
  int64_t dim_ = 0, encoded_ = 0;
  std::string path_;
  std::ofstream listing_;
  std::vector<float> vectors_;
  std::unordered_map<std::string, int64_t> rows_;  // by SHA-256
};

}  // namespace lectern::eval
