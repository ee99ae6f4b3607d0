// decoder/kv_cache.h: the K and V of one sequence in pages, and the tokens they belong to.
//
//   ASSIGN_OR_RETURN(KvCache cache, KvCache::Create({.num_layers = 24, .kv_heads = 2, .head_dim = 64, ...}));
//   const int64_t kept = cache.KeepPrefixOf(prompt);        // prefix reuse: longest common prefix, the rest forgotten
//   RETURN_IF_ERROR(cache.Reserve(n));                      // pages for n more tokens
//   attention::PagedKv kv = cache.Layer(layer, /*num_keys=*/kept + n);   // write, then
//   cache.Commit(tokens);                                   // they count from now on
//
// Shapes:  one page holds 64 tokens of all layers: [page][layer][K, V][kv_head] blocks of attention/paged_kv.h.
// Threads: one user at a time.
// Errors:  kResourceExhausted: no page left (tokens needed, allowed), or the memory cannot be reserved.
// Cost:    memory is mapped for max_tokens and used page by page; Reserve, Truncate and Commit allocate nothing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "attention/paged_kv.h"
#include "base/dtype.h"
#include "base/status.h"

namespace lectern::decoder {

struct KvCacheShape {
  int64_t num_layers = 0, kv_heads = 0, head_dim = 0;
  int64_t max_tokens = 0;
  DType type = DType::kBF16;
};

class KvCache {
 public:
  static absl::StatusOr<KvCache> Create(const KvCacheShape& shape);
  static int64_t BytesPerPage(const KvCacheShape& shape);

  int64_t size() const { return static_cast<int64_t>(tokens_.size()); }
  std::span<const int32_t> tokens() const { return tokens_; }
  int64_t max_tokens() const { return shape_.max_tokens; }
  int64_t used_pages() const { return static_cast<int64_t>(pages_.size()); }

  // Truncates to the longest common prefix with `tokens`, but never to all of them: the last one must be computed
  // again for its logits. Returns the tokens kept.
  int64_t KeepPrefixOf(std::span<const int32_t> tokens);
  void Truncate(int64_t num_tokens);  // frees the pages behind
  absl::Status Reserve(int64_t more_tokens);
  void Commit(std::span<const int32_t> tokens);
  attention::PagedKv Layer(int64_t layer, int64_t num_keys) const;

 private:
  struct Unmap {
    int64_t bytes;
    void operator()(std::byte* p) const;
  };
  KvCacheShape shape_;
  std::unique_ptr<std::byte, Unmap> memory_{nullptr, Unmap{0}};
  std::vector<int32_t> pages_;       // of the sequence, in order
  std::vector<int32_t> free_pages_;  // last one first
  std::vector<int32_t> tokens_;
};

}  // namespace lectern::decoder
