#include "service/eval/embedding_cache.h"

#include <algorithm>
#include <cstring>

#include "base/json.h"

namespace lectern::eval {
namespace {

constexpr size_t kKeyBytes = 32, kBatch = 256;

std::string Key(std::string_view text) {
  const std::string hex = Sha256Hex(text);
  std::string key(kKeyBytes, '\0');
  const auto digit = [](char c) { return c <= '9' ? c - '0' : c - 'a' + 10; };
  for (size_t i = 0; i < kKeyBytes; ++i) key[i] = static_cast<char>(digit(hex[2 * i]) * 16 + digit(hex[2 * i + 1]));
  return key;
}

}  // namespace

absl::StatusOr<std::unique_ptr<EmbeddingCache>> EmbeddingCache::Open(const std::string& folder, index::Encoder& encoder) {
  RETURN_IF_ERROR(FileSystem::Posix().CreateDirectories(folder));
  const std::string name = folder + "/" + HexU64(Hash64(encoder.fingerprint() + "/" + std::to_string(encoder.max_tokens())));
  ASSIGN_OR_RETURN(FileLock lock, FileLock::Acquire(name + ".lock"));
  std::unique_ptr<EmbeddingCache> cache(new EmbeddingCache(encoder, std::move(lock)));
  cache->dim_ = encoder.dim();
  cache->path_ = name + ".vectors";
  const size_t record = kKeyBytes + static_cast<size_t>(cache->dim_) * 4;
  if (FileSystem::Posix().Exists(cache->path_)) {
    ASSIGN_OR_RETURN(const std::string bytes, ReadFile(cache->path_));
    const size_t count = bytes.size() / record;
    cache->vectors_.resize(count * static_cast<size_t>(cache->dim_));
    for (size_t i = 0; i < count; ++i) {
      std::memcpy(&cache->vectors_[i * static_cast<size_t>(cache->dim_)], &bytes[i * record + kKeyBytes], record - kKeyBytes);
      cache->rows_.emplace(bytes.substr(i * record, kKeyBytes), static_cast<int64_t>(i));
    }
    if (bytes.size() % record != 0) {
      RETURN_IF_ERROR(WriteFileAtomically(FileSystem::Posix(), cache->path_, std::string_view(bytes).substr(0, count * record)));
    }
  }
  return cache;
}

void EmbeddingCache::Know(std::string_view text, std::span<const float> vector) {
  if (!rows_.emplace(Key(text), static_cast<int64_t>(vectors_.size()) / dim_).second) return;
  vectors_.insert(vectors_.end(), vector.begin(), vector.end());
}

absl::Status EmbeddingCache::ListMissing(const std::string& file) {
  listing_.open(file, std::ios::binary | std::ios::trunc);
  return listing_ ? absl::OkStatus() : Unavailable("cannot write ", file);
}

absl::StatusOr<std::vector<float>> EmbeddingCache::Encode(std::span<const std::string> texts,
                                                          const std::function<void(int64_t, int64_t)>& progress,
                                                          const CancelToken* cancel) {
  std::vector<std::string> keys;
  std::vector<size_t> missing;
  std::unordered_map<std::string, size_t> asked;
  for (size_t i = 0; i < texts.size(); ++i) {
    keys.push_back(Key(texts[i]));
    if (!rows_.contains(keys.back()) && asked.emplace(keys.back(), i).second) missing.push_back(i);
  }
  if (listing_.is_open()) {
    for (const size_t i : missing) listing_ << DumpJson({{"text", texts[i]}}) << "\n";
    if (!listing_.flush()) return Unavailable("writing the list of missing texts failed");
    return std::vector<float>(texts.size() * static_cast<size_t>(dim_), 0.0f);
  }
  // Like lengths together: the encoder packs a batch without padding, and the bits do not depend on it.
  std::stable_sort(missing.begin(), missing.end(), [&](size_t a, size_t b) { return texts[a].size() < texts[b].size(); });
  std::ofstream file(path_, std::ios::binary | std::ios::app);
  for (size_t begin = 0; begin < missing.size(); begin += kBatch) {
    const size_t end = std::min(missing.size(), begin + kBatch);
    std::vector<std::string_view> batch;
    for (size_t i = begin; i < end; ++i) batch.push_back(texts[missing[i]]);
    ASSIGN_OR_RETURN(const std::vector<float> vectors, encoder_.Encode(batch, /*cut=*/true, nullptr, cancel));
    for (size_t i = begin; i < end; ++i) {
      const float* row = vectors.data() + static_cast<std::ptrdiff_t>(i - begin) * dim_;
      file.write(keys[missing[i]].data(), kKeyBytes);
      file.write(reinterpret_cast<const char*>(row), dim_ * 4);
      rows_.emplace(keys[missing[i]], static_cast<int64_t>(vectors_.size()) / dim_);
      vectors_.insert(vectors_.end(), row, row + dim_);
    }
    file.flush();
    if (!file) return Unavailable("writing ", path_, " failed");
    encoded_ += static_cast<int64_t>(end - begin);
    if (progress) progress(static_cast<int64_t>(end), static_cast<int64_t>(missing.size()));
  }
  std::vector<float> out(texts.size() * static_cast<size_t>(dim_));
  for (size_t i = 0; i < texts.size(); ++i) {
    std::copy_n(vectors_.begin() + rows_.at(keys[i]) * dim_, dim_, out.begin() + static_cast<std::ptrdiff_t>(i) * dim_);
  }
  return out;
}

}  // namespace lectern::eval
