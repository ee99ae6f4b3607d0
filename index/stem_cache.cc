#include "index/stem_cache.h"

#include <libstemmer.h>

#include <atomic>
#include <cstdint>
#include <cstring>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "base/check.h"
#include "index/term_hash-inl.h"

namespace lectern::index {
namespace {

constexpr size_t kSlots = 1 << 16;    // twice the words remembered, so that probes stay short
constexpr size_t kMaxWords = 1 << 15;
constexpr size_t kProbes = 16;
constexpr size_t kSlab = 64 << 10;

struct Entry {
  uint32_t tag;
  uint16_t word_size, stem_size;
  // word bytes, then stem bytes, follow
  const char* bytes() const { return reinterpret_cast<const char*>(this + 1); }
};

using StemmerPtr = std::unique_ptr<sb_stemmer, decltype(&sb_stemmer_delete)>;

}  // namespace

struct StemCache::Impl {
  std::string language;
  std::unique_ptr<std::atomic<const Entry*>[]> slots{new std::atomic<const Entry*>[kSlots]()};
  absl::Mutex mu;
  std::vector<StemmerPtr> idle ABSL_GUARDED_BY(mu);   // a stemmer keeps state: one user at a time
  std::vector<std::unique_ptr<char[]>> slabs ABSL_GUARDED_BY(mu);
  size_t slab_used ABSL_GUARDED_BY(mu) = kSlab;
  size_t words ABSL_GUARDED_BY(mu) = 0;
};

StemCache::StemCache(const std::string& language) : impl_(std::make_unique<Impl>()) {
  impl_->language = language;
}
StemCache::~StemCache() = default;

bool StemCache::Supports(const std::string& language) {
  return StemmerPtr(sb_stemmer_new(language.c_str(), "UTF_8"), sb_stemmer_delete) != nullptr;
}

std::string_view StemCache::Stem(std::string_view word, std::string& scratch) const {
  const uint64_t hash = TermHash(word);
  const uint32_t tag = static_cast<uint32_t>(hash >> 32);
  for (size_t probe = 0; probe < kProbes; ++probe) {
    const Entry* entry = impl_->slots[(hash + probe) % kSlots].load(std::memory_order_acquire);
    if (entry == nullptr) break;
    if (entry->tag == tag && entry->word_size == word.size() &&
        std::memcmp(entry->bytes(), word.data(), word.size()) == 0) {
      return {entry->bytes() + entry->word_size, entry->stem_size};
    }
  }
  Impl& impl = *impl_;
  StemmerPtr stemmer(nullptr, sb_stemmer_delete);
  {
    absl::MutexLock lock(&impl.mu);
    if (!impl.idle.empty()) {
      stemmer = std::move(impl.idle.back());
      impl.idle.pop_back();
    }
  }
  if (stemmer == nullptr) stemmer.reset(sb_stemmer_new(impl.language.c_str(), "UTF_8"));
  CHECK(stemmer != nullptr);
  const sb_symbol* stem = sb_stemmer_stem(stemmer.get(), reinterpret_cast<const sb_symbol*>(word.data()),
                                          static_cast<int>(word.size()));
  CHECK(stem != nullptr);
  scratch.assign(reinterpret_cast<const char*>(stem), static_cast<size_t>(sb_stemmer_length(stemmer.get())));
  if (scratch.empty()) scratch.assign(word);  // a term is never empty

  absl::MutexLock lock(&impl.mu);
  impl.idle.push_back(std::move(stemmer));
  if (impl.words >= kMaxWords) return scratch;
  for (size_t probe = 0; probe < kProbes; ++probe) {
    std::atomic<const Entry*>& slot = impl.slots[(hash + probe) % kSlots];
    if (slot.load(std::memory_order_relaxed) != nullptr) continue;
    const size_t need = (sizeof(Entry) + word.size() + scratch.size() + 7) & ~size_t{7};
    if (need > kSlab) return scratch;
    if (impl.slab_used + need > kSlab) {
      impl.slabs.push_back(std::make_unique<char[]>(kSlab));
      impl.slab_used = 0;
    }
    char* at = impl.slabs.back().get() + impl.slab_used;
    impl.slab_used += need;
    auto* entry = new (at) Entry{tag, static_cast<uint16_t>(word.size()), static_cast<uint16_t>(scratch.size())};
    std::memcpy(at + sizeof(Entry), word.data(), word.size());
    std::memcpy(at + sizeof(Entry) + word.size(), scratch.data(), scratch.size());
    slot.store(entry, std::memory_order_release);
    ++impl.words;
    return {entry->bytes() + entry->word_size, entry->stem_size};
  }
  return scratch;
}

}  // namespace lectern::index
