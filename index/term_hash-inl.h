// index/term_hash-inl.h: the hash of a term, the same on every machine because dictionaries on disk use it.
#pragma once

#include <cstdint>
#include <cstring>
#include <string_view>

namespace lectern::index {

inline uint64_t LoadUpTo8(const char* data, size_t size) {
  uint64_t value = 0;
  std::memcpy(&value, data, size);
  return value;
}

// Multiply-and-fold over 8-byte pieces; words are short, so a call to a general hash would cost more than this.
inline uint64_t TermHash(std::string_view term) {
  constexpr uint64_t kMul = 0x9E3779B97F4A7C15ull;
  uint64_t hash = term.size() * kMul;
  const char* data = term.data();
  size_t left = term.size();
  for (; left >= 8; data += 8, left -= 8) {
    uint64_t piece;
    std::memcpy(&piece, data, 8);
    const unsigned __int128 product = static_cast<unsigned __int128>(hash ^ piece) * kMul;
    hash = static_cast<uint64_t>(product) ^ static_cast<uint64_t>(product >> 64);
  }
  if (left > 0) {
    const unsigned __int128 product =
        static_cast<unsigned __int128>(hash ^ LoadUpTo8(data, left)) * kMul;
    hash = static_cast<uint64_t>(product) ^ static_cast<uint64_t>(product >> 64);
  }
  hash ^= hash >> 32;
  hash *= 0xD6E8FEB86659FD93ull;
  return hash ^ (hash >> 32);
}

}  // namespace lectern::index
