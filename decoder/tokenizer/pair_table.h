// decoder/tokenizer/pair_table.h: two token ids to their merge.
//
//   PairTable table(num_merges);  table.Insert(left, right, {rank, id});
//   Merge merge = table.Find(left, right);     // rank kNever where the pair does not merge
//
// Shapes:  ids >= 0.
// Threads: immutable after the last Insert.
// Errors:  Insert returns false where the pair is there already.
// Cost:    16 bytes a slot, at most two thirds full; a lookup is one or two cache lines.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "decoder/tokenizer/merge_words.h"

namespace lectern::tokenizer {

class PairTable {
 public:
  explicit PairTable(size_t pairs = 0) : slots_(std::bit_ceil(pairs + pairs / 2 + 2)) {}

  bool Insert(int32_t left, int32_t right, Merge merge) {
    Slot& slot = slots_[Probe(KeyOf(left, right))];
    if (slot.merge.rank != Merge::kNever) return false;
    slot = {KeyOf(left, right), merge};
    return true;
  }
  Merge Find(int32_t left, int32_t right) const { return slots_[Probe(KeyOf(left, right))].merge; }

 private:
  struct Slot {
    uint64_t key = 0;
    Merge merge;
  };
  static uint64_t KeyOf(int32_t left, int32_t right) {
    return uint64_t{static_cast<uint32_t>(left)} << 32 | static_cast<uint32_t>(right);
  }
  size_t Probe(uint64_t key) const {
    uint64_t hash = key * uint64_t{0x9E3779B97F4A7C15};
    hash ^= hash >> 32;
    for (size_t at = hash & (slots_.size() - 1);; at = (at + 1) & (slots_.size() - 1)) {
      if (slots_[at].key == key || slots_[at].merge.rank == Merge::kNever) return at;
    }
  }
  std::vector<Slot> slots_;
};

}  // namespace lectern::tokenizer
