#include "decoder/kv_cache.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <utility>

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
  if (shape.pool_tokens != 0 && shape.pool_tokens < shape.max_tokens) {
    return InvalidArgument("pool_tokens must be at least max_tokens ", shape.max_tokens, ", got ", shape.pool_tokens);
  }
  KvCache cache;
  cache.pool_ = std::make_shared<Pool>();
  Pool& pool = *cache.pool_;
  pool.shape = shape;
  const int64_t tokens = std::max(shape.max_tokens, shape.pool_tokens), num_pages = PagesFor(tokens);
  const int64_t bytes = num_pages * BytesPerPage(shape);
  void* memory = ::mmap(nullptr, static_cast<size_t>(bytes), PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);  // zeros, given when first touched
  if (memory == MAP_FAILED) {
    return ResourceExhausted("a KV cache of ", tokens, " tokens needs ", bytes,
                             " bytes of address space (reader.max_context_tokens)");
  }
  // A page of tokens is of the order of a large page, so that little is given too early and few translations are missed.
  ::madvise(memory, static_cast<size_t>(bytes), MADV_HUGEPAGE);  // advice: may fail
  pool.memory = std::unique_ptr<std::byte, Unmap>(static_cast<std::byte*>(memory), Unmap{bytes});
  pool.holders.assign(static_cast<size_t>(num_pages), 0);
  for (int64_t page = num_pages - 1; page >= 0; --page) pool.free_pages.push_back(static_cast<int32_t>(page));
  cache.tokens_.reserve(static_cast<size_t>(shape.max_tokens));
  cache.pages_.reserve(static_cast<size_t>(PagesFor(shape.max_tokens)));
  return cache;
}

KvCache& KvCache::operator=(KvCache&& other) noexcept {
  std::swap(pool_, other.pool_);
  std::swap(pages_, other.pages_);
  std::swap(tokens_, other.tokens_);
  return *this;
}

KvCache::~KvCache() {
  if (pool_ != nullptr) Truncate(0);
}

KvCache KvCache::Fork() const {
  KvCache fork;
  fork.pool_ = pool_;
  fork.tokens_.reserve(static_cast<size_t>(max_tokens()));
  fork.pages_.reserve(static_cast<size_t>(PagesFor(max_tokens())));
  fork.tokens_ = tokens_;
  fork.pages_.assign(pages_.begin(), pages_.begin() + PagesFor(size()));
  for (const int32_t page : fork.pages_) ++pool_->holders[page];
  return fork;
}

int32_t KvCache::TakePage() {
  const int32_t page = pool_->free_pages.back();
  pool_->free_pages.pop_back();
  pool_->holders[page] = 1;
  return page;
}

void KvCache::LetGo(int32_t page) {
  if (--pool_->holders[page] == 0) pool_->free_pages.push_back(page);
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
    LetGo(pages_.back());
    pages_.pop_back();
  }
}

absl::Status KvCache::Reserve(int64_t more_tokens) {
  const int64_t total = size() + more_tokens;
  if (total > max_tokens()) {
    return ResourceExhausted("the sequence needs ", total, " tokens, the KV cache holds ", max_tokens(),
                             " (reader.max_context_tokens)");
  }
  const int64_t open = size() / kPageSlots;  // the page that the next token falls into
  const bool shared = more_tokens > 0 && open < used_pages() && pool_->holders[pages_[open]] > 1;
  const int64_t needed = std::max<int64_t>(0, PagesFor(total) - used_pages()) + (shared ? 1 : 0);
  const auto left = static_cast<int64_t>(pool_->free_pages.size());
  if (needed > left) {
    return ResourceExhausted("the sequence needs ", needed, " pages of ", kPageSlots, " tokens more, the pool of ",
                             pool_->holders.size(), " pages that it shares with its forks has ", left);
  }
  if (shared) {
    const int32_t copy = TakePage();
    const int64_t bytes = BytesPerPage(pool_->shape);
    std::memcpy(pool_->memory.get() + copy * bytes, pool_->memory.get() + pages_[open] * bytes, static_cast<size_t>(bytes));
    LetGo(pages_[open]);
    pages_[open] = copy;
  }
  while (used_pages() < PagesFor(total)) pages_.push_back(TakePage());
  return absl::OkStatus();
}

void KvCache::Commit(std::span<const int32_t> tokens) {
  CHECK(PagesFor(size() + static_cast<int64_t>(tokens.size())) <= used_pages());
  tokens_.insert(tokens_.end(), tokens.begin(), tokens.end());
}

attention::PagedKv KvCache::Layer(int64_t layer, int64_t num_keys) const {
  CHECK(PagesFor(num_keys) <= used_pages());
  for (int64_t page = size() / kPageSlots; page < PagesFor(num_keys) && num_keys > size(); ++page) {
    CHECK(pool_->holders[pages_[page]] == 1);  // what is shared is not written
  }
  const KvCacheShape& shape = pool_->shape;
  const int64_t block = shape.head_dim * kPageSlots, layer_elements = 2 * shape.kv_heads * block;
  attention::KvView view{.base = pool_->memory.get() + layer * layer_elements * ElementBytes(shape),
                         .type = shape.type,
                         .heads = shape.kv_heads,
                         .width = shape.head_dim,
                         .page_stride = shape.num_layers * layer_elements,
                         .head_stride = block,
                         .num_pages = static_cast<int64_t>(pool_->holders.size())};
  attention::PagedKv kv{.k = view, .v = view, .pages = pages_, .num_keys = num_keys};
  kv.v.base += shape.kv_heads * block * ElementBytes(shape);
  return kv;
}

}  // namespace lectern::decoder
