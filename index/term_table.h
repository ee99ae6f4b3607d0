// index/term_table.h: strings numbered in the order they come, for building an index.
//
//   TermTable table;
//   auto [id, is_new] = table.Intern("whale");   table.Text(id);
//
// Shapes:  ids 0, 1, 2, ...; strings of at most 65,535 bytes.
// Threads: one.
// Errors:  none; the caller bounds how many strings it gives.
// Cost:    one probe a call; about 24 bytes a string beside its own.
#pragma once

#include <cstdint>
#include <cstring>
#include <memory>
#include <string_view>
#include <utility>
#include <vector>

#include "index/term_hash-inl.h"

namespace lectern::index {

class TermTable {
 public:
  TermTable() : slots_(1 << 12) {}

  std::pair<uint32_t, bool> Intern(std::string_view text) {
    const uint64_t hash = TermHash(text);
    const uint64_t tag = hash >> 32 << 32;
    size_t at = hash & (slots_.size() - 1);
    for (; slots_[at] != 0; at = (at + 1) & (slots_.size() - 1)) {
      const uint32_t id = static_cast<uint32_t>(slots_[at]) - 1;
      if ((slots_[at] >> 32 << 32) == tag && Text(id) == text) return {id, false};
    }
    const auto id = static_cast<uint32_t>(texts_.size());
    texts_.push_back({Keep(text), static_cast<uint32_t>(text.size())});
    slots_[at] = tag | (id + 1);
    if (texts_.size() * 2 > slots_.size()) Grow();
    return {id, true};
  }
  std::string_view Text(uint32_t id) const { return {texts_[id].data, texts_[id].size}; }
  uint32_t size() const { return static_cast<uint32_t>(texts_.size()); }
  int64_t bytes() const {
    return static_cast<int64_t>(slots_.size() * 8 + texts_.capacity() * sizeof(Kept) + slabs_.size() * kSlab);
  }

 private:
  static constexpr size_t kSlab = 64 << 10;
  struct Kept { const char* data; uint32_t size; };

  const char* Keep(std::string_view text) {
    if (used_ + text.size() > kSlab) {
      slabs_.push_back(std::make_unique<char[]>(kSlab));
      used_ = 0;
    }
    char* at = slabs_.back().get() + used_;
    std::memcpy(at, text.data(), text.size());
    used_ += text.size();
    return at;
  }
  void Grow() {
    slots_.assign(slots_.size() * 2, 0);
    for (uint32_t id = 0; id < texts_.size(); ++id) {
      const uint64_t hash = TermHash(Text(id));
      size_t at = hash & (slots_.size() - 1);
      while (slots_[at] != 0) at = (at + 1) & (slots_.size() - 1);
      slots_[at] = (hash >> 32 << 32) | (id + 1);
    }
  }

  std::vector<uint64_t> slots_;   // upper half: hash; lower half: id + 1; 0: free
  std::vector<Kept> texts_;
  std::vector<std::unique_ptr<char[]>> slabs_;
  size_t used_ = kSlab;
};

}  // namespace lectern::index
