// decoder/tokenizer/byte_trie.h: which strings of a set begin here?
//
//   ByteTrie trie;  trie.Insert("ing", 7);
//   int32_t node = trie.Step(ByteTrie::kRoot, 'i');   // kNone where no string goes on
//   int32_t id = trie.value(node);                    // kNone where no string ends
//
// Shapes:  strings are bytes; values are ids >= 0.
// Threads: immutable after the last Insert; any thread.
// Errors:  none; inserting a string twice keeps the later value.
// Cost:    a step is one probe of a hash table at most half full: 24 bytes a node.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

namespace lectern::tokenizer {

class ByteTrie {
 public:
  static constexpr int32_t kNone = -1;
  static constexpr int32_t kRoot = 0;

  ByteTrie() : values_(1, kNone), slots_(kFirstSlots) {}

  void Insert(std::string_view text, int32_t value) {
    int32_t node = kRoot;
    for (const char c : text) {
      const int32_t next = Step(node, static_cast<uint8_t>(c));
      node = next != kNone ? next : Grow(node, static_cast<uint8_t>(c));
    }
    values_[node] = value;
  }

  int32_t Step(int32_t node, uint8_t byte) const {
    const uint32_t key = Key(node, byte);
    for (size_t at = Hash(key);; at = (at + 1) & (slots_.size() - 1)) {
      if (slots_[at].key == key) return slots_[at].node;
      if (slots_[at].node == kNone) return kNone;
    }
  }
  int32_t value(int32_t node) const { return values_[node]; }
  bool empty() const { return values_.size() == 1; }

  // The longest string that begins `text`: its bytes in *length; kNone (length 0) where none does.
  int32_t LongestPrefix(std::string_view text, size_t* length) const {
    int32_t node = kRoot, best = kNone;
    *length = 0;
    for (size_t i = 0; i < text.size(); ++i) {
      node = Step(node, static_cast<uint8_t>(text[i]));
      if (node == kNone) break;
      if (values_[node] != kNone) {
        best = values_[node];
        *length = i + 1;
      }
    }
    return best;
  }

 private:
  static constexpr size_t kFirstSlots = 64;
  struct Slot {
    uint32_t key = 0;
    int32_t node = kNone;
  };

  static uint32_t Key(int32_t node, uint8_t byte) { return static_cast<uint32_t>(node) << 8 | byte; }
  size_t Hash(uint32_t key) const {
    return static_cast<size_t>((key * uint64_t{0x9E3779B97F4A7C15}) >> 32) & (slots_.size() - 1);
  }
  void Place(uint32_t key, int32_t node) {
    size_t at = Hash(key);
    while (slots_[at].node != kNone) at = (at + 1) & (slots_.size() - 1);
    slots_[at] = {key, node};
  }
  int32_t Grow(int32_t node, uint8_t byte) {
    if (values_.size() * 2 >= slots_.size()) {
      std::vector<Slot> old(slots_.size() * 2);
      old.swap(slots_);
      for (const Slot& slot : old) {
        if (slot.node != kNone) Place(slot.key, slot.node);
      }
    }
    const auto added = static_cast<int32_t>(values_.size());
    values_.push_back(kNone);
    Place(Key(node, byte), added);
    return added;
  }

  std::vector<int32_t> values_;  // [node]
  std::vector<Slot> slots_;
};

}  // namespace lectern::tokenizer
