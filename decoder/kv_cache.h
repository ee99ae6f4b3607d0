// decoder/kv_cache.h: the K and V of one sequence in pages, and the tokens they belong to; forks share pages.
//
//   ASSIGN_OR_RETURN(KvCache cache, KvCache::Create({.num_layers = 24, .kv_heads = 2, .head_dim = 64, ...}));
//   const int64_t kept = cache.KeepPrefixOf(prompt);        // prefix reuse: longest common prefix, the rest forgotten
//   RETURN_IF_ERROR(cache.Reserve(n));                      // pages for n more tokens
//   attention::PagedKv kv = cache.Layer(layer, /*num_keys=*/kept + n);   // write, then
//   cache.Commit(tokens);                                   // they count from now on
//   KvCache other = cache.Fork();                           // the same tokens in the same pages; goes its own way from here
//
// Shapes:  one page holds 64 tokens of all layers: [page][layer][K, V][kv_head] blocks of attention/paged_kv.h.
// Threads: one user at a time, of a cache and all its forks together.
// Errors:  kResourceExhausted: no page left (tokens needed, allowed), or the memory cannot be reserved.
// Cost:    memory is mapped for pool_tokens and used page by page; Reserve, Truncate and Commit allocate nothing. A page that
//          several forks hold is immutable: the Reserve of a fork whose next token falls into one copies that page, once.
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
  int64_t max_tokens = 0;   // of one sequence
  int64_t pool_tokens = 0;  // of a sequence and all its forks, what they share counted once; 0: max_tokens
  DType type = DType::kBF16;
};

class KvCache {
 public:
  static absl::StatusOr<KvCache> Create(const KvCacheShape& shape);
  static int64_t BytesPerPage(const KvCacheShape& shape);
  KvCache(KvCache&&) = default;
  KvCache& operator=(KvCache&& other) noexcept;
  ~KvCache();  // gives the pages back

  // Another sequence with the committed tokens of this one, in the same pages.
  KvCache Fork() const;

  int64_t size() const { return static_cast<int64_t>(tokens_.size()); }
  std::span<const int32_t> tokens() const { return tokens_; }
  int64_t max_tokens() const { return pool_->shape.max_tokens; }
  int64_t used_pages() const { return static_cast<int64_t>(pages_.size()); }

  // Truncates to the longest common prefix with `tokens`, but never to all of them: the last one must be computed
  // again for its logits. Returns the tokens kept.
  int64_t KeepPrefixOf(std::span<const int32_t> tokens);
  void Truncate(int64_t num_tokens);  // lets go of the pages behind
  absl::Status Reserve(int64_t more_tokens);
  void Commit(std::span<const int32_t> tokens);
  // REQUIRES: a Reserve() for the keys past size() since the last Fork(), Truncate() or Commit().
  attention::PagedKv Layer(int64_t layer, int64_t num_keys) const;

 private:
  struct Unmap {
    int64_t bytes;
    void operator()(std::byte* p) const;
  };
  // The memory of a cache and its forks.
  struct Pool {
    KvCacheShape shape;
    std::unique_ptr<std::byte, Unmap> memory{nullptr, Unmap{0}};
    std::vector<int32_t> free_pages;  // last one first
    std::vector<int32_t> holders;     // sequences that have the page
  };
  KvCache() = default;
  int32_t TakePage();
  void LetGo(int32_t page);

  std::shared_ptr<Pool> pool_;  // null: moved from
  std::vector<int32_t> pages_;  // of the sequence, in order
  std::vector<int32_t> tokens_;
};

}  // namespace lectern::decoder
