// index/top_k.h: the best k of a stream of scored chunks, ties by an order of the caller's.
//
//   TopK top(k, order);
//   if (sum >= top.least()) top.Offer({sum, segment, chunk});
//   std::vector<ScoredChunk> best = top.Take();
//
// Shapes:  sums >= 1, higher is better; equal sums in the caller's order.
// Threads: one.
// Errors:  none.
// Cost:    up to kHeapK a binary heap; beyond, a buffer of 2k cut back to k in linear time, so that an offer costs O(1).
#pragma once

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

namespace lectern::index {

struct ChunkPlace {
  uint32_t segment = 0, chunk = 0;
  bool operator==(const ChunkPlace&) const = default;
};

// Which of two chunks comes first where their scores are equal. The default is the order of segments and chunks.
class ChunkOrder {
 public:
  virtual ~ChunkOrder() = default;
  virtual bool Before(ChunkPlace a, ChunkPlace b) const {
    return a.segment != b.segment ? a.segment < b.segment : a.chunk < b.chunk;
  }
};

struct ScoredChunk {
  uint32_t sum = 0;
  ChunkPlace place;
};

class TopK {
 public:
  TopK(int64_t k, const ChunkOrder& order) : k_(static_cast<size_t>(k)), order_(order) {
    kept_.reserve(k_ <= kHeapK ? k_ : std::min(2 * k_, size_t{1} << 16));
  }

  // A sum below this cannot enter; an equal one may, by its order.
  uint32_t least() const { return least_; }

  void Offer(const ScoredChunk& scored) {
    const auto better = [this](const ScoredChunk& a, const ScoredChunk& b) { return Better(a, b); };
    if (k_ <= kHeapK) {
      if (kept_.size() < k_) {
        kept_.push_back(scored);
        std::push_heap(kept_.begin(), kept_.end(), better);
      } else if (better(scored, kept_.front())) {
        std::pop_heap(kept_.begin(), kept_.end(), better);
        kept_.back() = scored;
        std::push_heap(kept_.begin(), kept_.end(), better);
      }
      if (kept_.size() == k_) least_ = kept_.front().sum;
      return;
    }
    kept_.push_back(scored);
    if (kept_.size() >= 2 * k_) Cut();
  }

  std::vector<ScoredChunk> Take() {
    if (kept_.size() > k_) Cut();
    std::sort(kept_.begin(), kept_.end(), [this](const ScoredChunk& a, const ScoredChunk& b) { return Better(a, b); });
    return std::move(kept_);
  }

 private:
  static constexpr size_t kHeapK = 128;

  bool Better(const ScoredChunk& a, const ScoredChunk& b) const {
    return a.sum != b.sum ? a.sum > b.sum : order_.Before(a.place, b.place);
  }
  void Cut() {
    std::nth_element(kept_.begin(), kept_.begin() + static_cast<std::ptrdiff_t>(k_ - 1), kept_.end(),
                     [this](const ScoredChunk& a, const ScoredChunk& b) { return Better(a, b); });
    kept_.resize(k_);
    least_ = kept_[k_ - 1].sum;
  }

  const size_t k_;
  const ChunkOrder& order_;
  uint32_t least_ = 1;
  std::vector<ScoredChunk> kept_;
};

}  // namespace lectern::index
