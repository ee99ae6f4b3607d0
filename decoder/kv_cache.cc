#include "decoder/kv_cache.h"

#include <sys/mman.h>

#include <algorithm>

#include "base/check.h"

namespace lectern::decoder {
namespace {

using attention::kPageSlots;

int64_t ElementBytes(const KvCacheShape& shape) { return shape.type == DType::kF32 ? 4 : 2; }
int64_t PagesFor(int64_t tokens) { return (tokens + kPageSlots - 1) / kPageSlots; }

}  // namespace

void KvCache::Unmap::operator()(std::byte* p) const { ::munmap(p, static_cast<size_t>(bytes)); }

int64_t KvCache::BytesPerPage(const KvCacheShape& shape) {
  return shape.num_layers * 2 * shape.kv_heads * shape.head_dim * kPageSlots * ElementBytes(shape);
}

absl::StatusOr<KvCache> KvCache::Create(const KvCacheShape& shape) {
  CHECK(shape.type == DType::kF32 || shape.type == DType::kBF16);
  if (shape.max_tokens < 1) return InvalidArgument("the KV cache must hold at least 1 token, got ", shape.max_tokens);
  KvCache cache;
  cache.shape_ = shape;
  const int64_t num_pages = PagesFor(shape.max_tokens), bytes = num_pages * BytesPerPage(shape);
  void* memory = ::mmap(nullptr, static_cast<size_t>(bytes), PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);  // zeros, given when first touched
  if (memory == MAP_FAILED) {
    return ResourceExhausted("a KV cache of ", shape.max_tokens, " tokens needs ", bytes,
                             " bytes of address space (reader.max_context_tokens)");
  }
  // A page of tokens is of the order of a large page, so that little is given too early and few translations are missed.
  ::madvise(memory, static_cast<size_t>(bytes), MADV_HUGEPAGE);  // advice: may fail
  cache.memory_ = std::unique_ptr<std::byte, Unmap>(static_cast<std::byte*>(memory), Unmap{bytes});
  cache.tokens_.reserve(static_cast<size_t>(shape.max_tokens));
  cache.pages_.reserve(static_cast<size_t>(num_pages));
  for (int64_t page = num_pages - 1; page >= 0; --page) cache.free_pages_.push_back(static_cast<int32_t>(page));
  return cache;
}

int64_t KvCache::KeepPrefixOf(std::span<const int32_t> tokens) {
  const int64_t most = std::min(size(), std::max<int64_t>(0, static_cast<int64_t>(tokens.size()) - 1));
  const auto differ = std::mismatch(tokens_.begin(), tokens_.begin() + most, tokens.begin());
  Truncate(differ.first - tokens_.begin());
  return size();
}

void KvCache::Truncate(int64_t num_tokens) {
  if (num_tokens < size()) tokens_.resize(static_cast<size_t>(num_tokens));
  for (const int64_t needed = PagesFor(size()); used_pages() > needed;) {
    free_pages_.push_back(pages_.back());
    pages_.pop_back();
  }
}

absl::Status KvCache::Reserve(int64_t more_tokens) {
  const int64_t total = size() + more_tokens;
  if (total > shape_.max_tokens) {
    return ResourceExhausted("the sequence needs ", total, " tokens, the KV cache holds ", shape_.max_tokens,
                             " (reader.max_context_tokens)");
  }
  while (used_pages() < PagesFor(total)) {
    CHECK(!free_pages_.empty());  // there is a page for each of max_tokens
    pages_.push_back(free_pages_.back());
    free_pages_.pop_back();
  }
  return absl::OkStatus();
}

void KvCache::Commit(std::span<const int32_t> tokens) {
  CHECK(PagesFor(size() + static_cast<int64_t>(tokens.size())) <= used_pages());
  tokens_.insert(tokens_.end(), tokens.begin(), tokens.end());
}

attention::PagedKv KvCache::Layer(int64_t layer, int64_t num_keys) const {
  const int64_t block = shape_.head_dim * kPageSlots, layer_elements = 2 * shape_.kv_heads * block;
  attention::KvView view{.base = memory_.get() + layer * layer_elements * ElementBytes(shape_),
                         .type = shape_.type,
                         .heads = shape_.kv_heads,
                         .width = shape_.head_dim,
                         .page_stride = shape_.num_layers * layer_elements,
                         .head_stride = block};
  attention::PagedKv kv{.k = view, .v = view, .pages = pages_, .num_keys = num_keys};
  kv.v.base += shape_.kv_heads * block * ElementBytes(shape_);
  return kv;
}

}  // namespace lectern::decoder
