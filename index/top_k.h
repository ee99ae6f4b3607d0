// index/top_k.h: the best k of a stream of scored chunks, ties by an order of the caller's.
//
//   TopK top(k, order);
//   if (sum >= top.least()) top.Offer({sum, segment, chunk});
//   std::vector<ScoredChunk> best = top.Take();
//
// Shapes:  sums >= 1, higher is better; equal sums in the caller's order.
// Threads: one.
// Errors:  none.
// Cost:    up to kHeapK a binary heap; beyond, a buffer of 2k cut back to k by a histogram of the sums, so that an offer
//          costs O(1). Take sorts by radix: the caller's order is asked only where sums are equal.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <utility>
#include <vector>

namespace lectern::index {

// Of one retriever and one request: its lists take some 20 MB at most.
inline constexpr int64_t kMaxCandidates = 100000;

struct ChunkPlace {
  uint32_t segment = 0, chunk = 0;
  bool operator==(const ChunkPlace&) const = default;
  uint64_t key() const { return uint64_t{segment} << 32 | chunk; }   // for maps
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
    if (kept_.size() <= kHeapK) {
      std::sort(kept_.begin(), kept_.end(), [this](const ScoredChunk& a, const ScoredChunk& b) { return Better(a, b); });
    } else {
      SortByRadix();
    }
    return std::move(kept_);
  }

 private:
  static constexpr size_t kHeapK = 128;
  static constexpr int kBucketBits = 10;
  static constexpr int kDigitBits = 8;                      // four digits hold a sum; their counts fit an L1 cache
  static constexpr uint32_t kDigits = 1u << kDigitBits;

  bool Better(const ScoredChunk& a, const ScoredChunk& b) const {
    return a.sum != b.sum ? a.sum > b.sum : order_.Before(a.place, b.place);
  }

  // Keeps the best k. Sums share a histogram of their upper bits; only the bucket in which the k-th lies is looked at
  // closer. The shift follows the largest sum, so that the buckets are used.
  void Cut() {
    uint32_t highest = 0;
    for (const ScoredChunk& scored : kept_) highest = std::max(highest, scored.sum);
    const int shift = std::max(0, static_cast<int>(std::bit_width(highest)) - kBucketBits);
    std::array<uint32_t, 1 << kBucketBits> counts{};
    for (const ScoredChunk& scored : kept_) ++counts[scored.sum >> shift];
    size_t above = 0;
    uint32_t bucket = (1 << kBucketBits) - 1;
    while (above + counts[bucket] < k_) above += counts[bucket--];
    // Those above the bucket move to the front without a branch, those in it aside; the rest go.
    at_k_.clear();
    size_t kept = 0;
    for (const ScoredChunk scored : kept_) {
      const uint32_t own = scored.sum >> shift;
      if (own == bucket) at_k_.push_back(scored);
      kept_[kept] = scored;
      kept += own > bucket;
    }
    const auto last = at_k_.begin() + static_cast<std::ptrdiff_t>(k_ - kept - 1);
    std::nth_element(at_k_.begin(), last, at_k_.end(),
                     [this](const ScoredChunk& a, const ScoredChunk& b) { return Better(a, b); });
    least_ = last->sum;
    kept_.resize(kept);
    kept_.insert(kept_.end(), at_k_.begin(), last + 1);
  }

  void SortByRadix() {
    std::vector<ScoredChunk> other(kept_.size());
    std::array<std::array<uint32_t, kDigits>, 4> counts{};
    for (const ScoredChunk& scored : kept_) {
      for (int digit = 0; digit < 4; ++digit) ++counts[digit][(scored.sum >> (digit * kDigitBits)) & (kDigits - 1)];
    }
    for (int digit = 0; digit < 4; ++digit) {
      const int shift = digit * kDigitBits;
      std::array<uint32_t, kDigits>& begin = counts[digit];
      if (begin[(kept_[0].sum >> shift) & (kDigits - 1)] == kept_.size()) continue;  // all the same
      uint32_t at = 0;
      for (uint32_t d = kDigits; d-- > 0;) at += std::exchange(begin[d], at);  // descending
      for (const ScoredChunk& scored : kept_) other[begin[(scored.sum >> shift) & (kDigits - 1)]++] = scored;
      kept_.swap(other);
    }
    for (size_t from = 0; from < kept_.size();) {
      size_t to = from + 1;
      while (to < kept_.size() && kept_[to].sum == kept_[from].sum) ++to;
      if (to - from > 1) {
        std::sort(kept_.begin() + static_cast<std::ptrdiff_t>(from), kept_.begin() + static_cast<std::ptrdiff_t>(to),
                  [this](const ScoredChunk& a, const ScoredChunk& b) { return order_.Before(a.place, b.place); });
      }
      from = to;
    }
  }

  const size_t k_;
  const ChunkOrder& order_;
  uint32_t least_ = 1;
  std::vector<ScoredChunk> kept_, at_k_;
};

}  // namespace lectern::index
