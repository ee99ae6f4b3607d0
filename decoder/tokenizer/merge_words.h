// decoder/tokenizer/merge_words.h: merges neighbours, best pair first, until none is left: the heart of BPE and SentencePiece.
//
//   Merger merger;   // scratch, reused from word to word
//   merger.Run(symbols, [&](const Symbol& a, const Symbol& b) { return MergeOf(a, b); });
//
// Shapes:  symbols in text order; a merge covers the bytes of both.
// Threads: a Merger belongs to one thread.
// Errors:  none.
// Cost:    n^2 comparisons of integers up to kSmall symbols, n log n past it. `merge_of` is asked once a neighbour pair.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

namespace lectern::tokenizer {

struct Symbol {
  int32_t id = -1;      // token, or -1 where the bytes are none
  uint32_t begin = 0, end = 0;  // bytes of the word
};

struct Merge {
  static constexpr uint32_t kNever = std::numeric_limits<uint32_t>::max();
  uint32_t rank = kNever;  // lower merges first; equal ranks from left to right
  int32_t id = -1;
};

class Merger {
 public:
  // Replaces `symbols` by what is left of them. merge_of(left, right) tells rank and result of a pair.
  template <class MergeOf>
  void Run(std::vector<Symbol>& symbols, const MergeOf& merge_of) {
    if (symbols.size() < 2) return;
    if (symbols.size() <= kSmall) return RunSmall(symbols, merge_of);
    RunLarge(symbols, merge_of);
  }

 private:
  static constexpr size_t kSmall = 40;  // past this the heap wins, measured on runs of letters

  template <class MergeOf>
  void RunSmall(std::vector<Symbol>& symbols, const MergeOf& merge_of) {
    merges_.resize(symbols.size());  // [i]: of symbols i and i + 1
    for (size_t i = 0; i + 1 < symbols.size(); ++i) merges_[i] = merge_of(symbols[i], symbols[i + 1]);
    for (size_t count = symbols.size(); count > 1; --count) {
      size_t best = 0;
      for (size_t i = 1; i + 1 < count; ++i) {
        if (merges_[i].rank < merges_[best].rank) best = i;
      }
      if (merges_[best].rank == Merge::kNever) break;
      symbols[best].id = merges_[best].id;
      symbols[best].end = symbols[best + 1].end;
      symbols.erase(symbols.begin() + static_cast<ptrdiff_t>(best) + 1);
      merges_.erase(merges_.begin() + static_cast<ptrdiff_t>(best) + 1);
      if (best + 1 < symbols.size()) merges_[best] = merge_of(symbols[best], symbols[best + 1]);
      if (best > 0) merges_[best - 1] = merge_of(symbols[best - 1], symbols[best]);
    }
  }

  template <class MergeOf>
  void RunLarge(std::vector<Symbol>& symbols, const MergeOf& merge_of) {
    const size_t count = symbols.size();
    merges_.assign(count, Merge{});
    next_.resize(count);
    previous_.resize(count);
    heap_.clear();
    const auto later = [](const Entry& a, const Entry& b) { return a.rank != b.rank ? a.rank > b.rank : a.at > b.at; };
    const auto offer = [&](size_t at) {
      merges_[at] = next_[at] < count ? merge_of(symbols[at], symbols[next_[at]]) : Merge{};
      if (merges_[at].rank == Merge::kNever) return;
      heap_.push_back({merges_[at].rank, static_cast<uint32_t>(at), merges_[at].id});
      std::push_heap(heap_.begin(), heap_.end(), later);
    };
    for (size_t i = 0; i < count; ++i) {
      next_[i] = static_cast<uint32_t>(i + 1);
      previous_[i] = static_cast<uint32_t>(i - 1);
    }
    for (size_t i = 0; i + 1 < count; ++i) offer(i);
    while (!heap_.empty()) {
      std::pop_heap(heap_.begin(), heap_.end(), later);
      const Entry top = heap_.back();
      heap_.pop_back();
      // An entry is stale once its pair has changed: then another merge stands at its place, or none.
      if (merges_[top.at].rank != top.rank || merges_[top.at].id != top.id) continue;
      const size_t gone = next_[top.at];
      symbols[top.at].id = top.id;
      symbols[top.at].end = symbols[gone].end;
      merges_[gone] = Merge{};
      symbols[gone].end = symbols[gone].begin;  // marks it for removal
      next_[top.at] = next_[gone];
      if (next_[gone] < count) previous_[next_[gone]] = top.at;
      offer(top.at);
      if (top.at > 0 && previous_[top.at] < count) offer(previous_[top.at]);
    }
    std::erase_if(symbols, [](const Symbol& symbol) { return symbol.begin == symbol.end; });
  }

  struct Entry {
    uint32_t rank;
    uint32_t at;
    int32_t id;
  };
  std::vector<Merge> merges_;
  std::vector<uint32_t> next_, previous_;
  std::vector<Entry> heap_;
};

}  // namespace lectern::tokenizer
