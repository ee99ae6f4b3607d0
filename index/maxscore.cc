// MaxScore by windows. In a window of kWindow chunks, terms sorted by their bound there fall in two: the first ones,
// whose bounds together stay below the k-th best sum, cannot bring a chunk into the top k alone ("optional"); the others
// are added up chunk by chunk into an array. What the array shows within reach of the k-th sum is then completed from
// the optional terms, the strongest first, dropping out as soon as the rest cannot suffice. Sums are integers, so the
// order of additions does not matter.
#include <algorithm>
#include <cstring>

#include "index/wand-inl.h"

namespace lectern::index {
namespace {

constexpr uint32_t kWindow = 4096;  // sums of 16 KiB: half of an L1 cache

constexpr int64_t kAdditionsPerSeek = 8;

struct Window {
  uint32_t begin = 0, end = 0;
  alignas(64) uint32_t sums[kWindow];
  alignas(64) uint32_t close[kWindow + 16];  // positions within reach of the k-th sum
};

// The bound of the list in [begin, end), 0 where it has nothing there; moves to its first block that may.
uint32_t WindowBound(TermCursor& cursor, uint32_t begin, uint32_t end) {
  const auto& blocks = cursor.list.blocks;
  while (!cursor.at_end() && blocks[cursor.block].last_chunk < begin) {
    ++cursor.block;
    cursor.loaded = false;
  }
  uint32_t bound = 0;
  for (size_t b = cursor.block; b < blocks.size() && cursor.list.chunk_before(b) + 1 < end; ++b) {
    bound = std::max(bound, cursor.bounds[b]);
    if (blocks[b].last_chunk >= end) break;
  }
  if (bound != 0 && cursor.loaded) {  // a decoded block tells more: whether anything of it lies here
    int position = cursor.position;
    while (position < cursor.count && cursor.chunks[position] < begin) ++position;
    cursor.position = position;
    if (position < cursor.count && cursor.chunks[position] >= end) return 0;
  }
  return bound;
}

// Adds all contributions in the window.
void AddAll(SegmentPass& pass, TermCursor& cursor, Window& window) {
  const auto& blocks = cursor.list.blocks;
  uint32_t* const sums = window.sums;
  for (;;) {
    if (!cursor.loaded) pass.Load(cursor);
    const uint32_t* chunks = cursor.chunks;
    const uint32_t* contributions = cursor.contributions;
    int i = cursor.position;
    while (i < cursor.count && chunks[i] < window.begin) ++i;
    if (blocks[cursor.block].last_chunk < window.end) {
      for (; i < cursor.count; ++i) sums[chunks[i] - window.begin] += contributions[i];
    } else {
      for (; chunks[i] < window.end; ++i) sums[chunks[i] - window.begin] += contributions[i];
      cursor.position = i;
      return;
    }
    ++cursor.block;
    cursor.loaded = false;
    if (cursor.at_end() || cursor.list.chunk_before(cursor.block) + 1 >= window.end) return;
  }
}

// About how many postings the list has in the window: those of its blocks there.
int64_t PostingsIn(const TermCursor& cursor, const Window& window) {
  int64_t postings = 0;
  for (size_t b = cursor.block; b < cursor.list.blocks.size(); ++b) {
    postings += cursor.list.blocks[b].count();
    if (cursor.list.blocks[b].last_chunk + 1 >= window.end) break;
  }
  return postings;
}

// Adds the term to the close chunks alone; `rest` is what the terms after it can still bring.
void AddToClose(SegmentPass& pass, TermCursor& cursor, Window& window, int count, uint32_t least, uint32_t rest) {
  const auto& blocks = cursor.list.blocks;
  for (int i = 0; i < count; ++i) {
    const uint32_t position = window.close[i];
    const uint32_t chunk = window.begin + position;
    while (blocks[cursor.block].last_chunk < chunk) {
      ++cursor.block;
      cursor.loaded = false;
      if (cursor.at_end()) return;
    }
    if (cursor.list.chunk_before(cursor.block) + 1 > chunk) continue;
    if (window.sums[position] + cursor.bounds[cursor.block] + rest < least) continue;
    if (!cursor.loaded) pass.Load(cursor);
    int at = cursor.position;
    while (cursor.chunks[at] < chunk) ++at;  // ends: the block's last chunk is not before this one
    cursor.position = at;
    if (cursor.chunks[at] == chunk) window.sums[position] += cursor.contributions[at];
  }
}

}  // namespace

void RunMaxScore(SegmentPass& pass, bool exhaustive) {
  auto window = std::make_unique<Window>();
  std::vector<TermCursor*> active;
  std::vector<uint32_t> below;  // [i]: sum of the bounds before i
  const auto num_chunks = static_cast<uint32_t>(pass.num_chunks);
  std::memset(window->sums, 0, sizeof(window->sums));
  for (uint32_t begin = 0; begin < num_chunks; begin += kWindow) {
    if (pass.cancel != nullptr && !CheckCancel(pass.cancel).ok()) {
      pass.stopped = true;
      return;
    }
    window->begin = begin;
    window->end = std::min(begin + kWindow, num_chunks);
    active.clear();
    uint64_t reach = 0;
    for (TermCursor* cursor : pass.cursors) {
      cursor->window_bound = WindowBound(*cursor, window->begin, window->end);
      if (cursor->window_bound == 0) continue;
      reach += cursor->window_bound;
      active.push_back(cursor);
    }
    uint32_t least = exhaustive ? 1 : pass.top.least();
    if (active.empty() || reach < least) continue;
    std::sort(active.begin(), active.end(),
              [](const TermCursor* a, const TermCursor* b) { return a->window_bound < b->window_bound; });
    below.assign(1, 0);
    size_t optional = 0;
    for (size_t i = 0; i < active.size(); ++i) {
      below.push_back(below.back() + active[i]->window_bound);
      if (below.back() < least) optional = i + 1;
    }
    for (size_t i = optional; i < active.size(); ++i) AddAll(pass, *active[i], *window);

    const int span = static_cast<int>((window->end - window->begin + 15) / 16 * 16);
    int count = pass.kernels.collect(window->sums, span, std::max<uint32_t>(1, least - below[optional]), window->close);
    for (size_t i = optional; i-- > 0 && count > 0;) {
      // A seek costs some eight additions, most of it a branch that cannot be foretold: where close chunks are many
      // beside the list's postings here, all of them are added. The sums of other chunks are not looked at again.
      if (int64_t{count} * kAdditionsPerSeek > PostingsIn(*active[i], *window)) {
        AddAll(pass, *active[i], *window);
      } else {
        AddToClose(pass, *active[i], *window, count, least, below[i]);
      }
      int kept = 0;
      for (int j = 0; j < count; ++j) {
        const uint32_t position = window->close[j];
        window->close[kept] = position;
        kept += window->sums[position] + below[i] >= least;
      }
      count = kept;
    }
    for (int j = 0; j < count; ++j) {
      const uint32_t position = window->close[j];
      if (window->sums[position] >= pass.top.least()) pass.Offer(window->sums[position], begin + position);
    }
    std::memset(window->sums, 0, static_cast<size_t>(span) * sizeof(uint32_t));
  }
}

}  // namespace lectern::index
