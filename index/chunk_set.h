// index/chunk_set.h: a set of chunks of one segment.
//
//   ChunkSet allowed(num_chunks, /*all=*/true);  allowed.Remove(7);  if (allowed.Has(8)) ...
//
// Shapes:  one bit a chunk.
// Threads: plain value.
// Errors:  REQUIRES: chunk < size().
// Cost:    size / 8 bytes.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace lectern::index {

class ChunkSet {
 public:
  ChunkSet() = default;
  explicit ChunkSet(int64_t size, bool all = false)
      : size_(size), words_(static_cast<size_t>((size + 63) / 64), all ? ~uint64_t{0} : 0) {
    if (all && size % 64 != 0) words_.back() = (uint64_t{1} << (size % 64)) - 1;
  }
  int64_t size() const { return size_; }
  bool Has(uint32_t chunk) const { return (words_[chunk / 64] >> (chunk % 64)) & 1; }
  void Add(uint32_t chunk) { words_[chunk / 64] |= uint64_t{1} << (chunk % 64); }
  void Remove(uint32_t chunk) { words_[chunk / 64] &= ~(uint64_t{1} << (chunk % 64)); }
  void Intersect(const ChunkSet& other) {
    for (size_t i = 0; i < words_.size(); ++i) words_[i] &= other.words_[i];
  }
  void Subtract(const ChunkSet& other) {
    for (size_t i = 0; i < words_.size(); ++i) words_[i] &= ~other.words_[i];
  }
  int64_t Count() const {
    int64_t count = 0;
    for (const uint64_t word : words_) count += std::popcount(word);
    return count;
  }

 private:
  int64_t size_ = 0;
  std::vector<uint64_t> words_;
};

}  // namespace lectern::index
