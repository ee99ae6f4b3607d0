// decoder/tokenizer/token_map.h: bytes to the token that stands for them.
//
//   TokenMap map;  map.Reserve(vocabulary.size());  map.Insert(vocabulary, id);
//   int32_t id = map.Find(vocabulary, "hello");     // -1 where no token has these bytes
//
// Shapes:  keys are the pieces of the vocabulary, which are not copied.
// Threads: immutable after the last Insert.
// Errors:  Insert returns the token that has these bytes already, or -1.
// Cost:    4 bytes a slot, at most half full; a lookup hashes the bytes once.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <string_view>
#include <vector>

#include "decoder/tokenizer/vocabulary.h"

namespace lectern::tokenizer {

class TokenMap {
 public:
  void Reserve(int64_t tokens) { slots_.assign(std::bit_ceil(static_cast<uint64_t>(tokens) * 2 + 2), -1); }
  int32_t Insert(const Vocabulary& vocabulary, int32_t id) {
    int32_t& slot = slots_[Probe(vocabulary, vocabulary.Piece(id))];
    if (slot >= 0) return slot;
    slot = id;
    return -1;
  }
  int32_t Find(const Vocabulary& vocabulary, std::string_view bytes) const {
    return slots_.empty() ? -1 : slots_[Probe(vocabulary, bytes)];
  }

 private:
  static uint64_t Hash(std::string_view bytes) {
    constexpr uint64_t kMultiplier = 0x9E3779B97F4A7C15;
    uint64_t hash = bytes.size() * kMultiplier;
    const auto mix = [&](uint64_t word) {
      hash = (hash ^ word) * kMultiplier;
      hash ^= hash >> 29;
    };
    while (bytes.size() >= 8) {
      uint64_t word;
      std::memcpy(&word, bytes.data(), 8);
      mix(word);
      bytes.remove_prefix(8);
    }
    uint64_t word = 0;
    std::memcpy(&word, bytes.data(), bytes.size());
    mix(word);
    return hash ^ hash >> 32;
  }
  size_t Probe(const Vocabulary& vocabulary, std::string_view bytes) const {
    const size_t mask = slots_.size() - 1;
    for (size_t at = Hash(bytes) & mask;; at = (at + 1) & mask) {
      if (slots_[at] < 0 || vocabulary.Piece(slots_[at]) == bytes) return at;
    }
  }
  std::vector<int32_t> slots_;
};

}  // namespace lectern::tokenizer
