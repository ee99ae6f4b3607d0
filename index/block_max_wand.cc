// Block-max WAND, one chunk at a time (Ding and Suel, 2011): cursors sorted by their chunk; the pivot is the first chunk
// that list bounds let into the top k; block bounds then say whether it is worth scoring, or how far to jump.
#include <algorithm>

#include "index/wand-inl.h"

namespace lectern::index {
namespace {

// The cursor's chunk: exact where the block is decoded, else the first chunk the block may hold.
uint32_t Current(const TermCursor& cursor) {
  if (cursor.at_end()) return kNoChunk;
  return cursor.loaded ? cursor.chunks[cursor.position] : cursor.list.chunk_before(cursor.block) + 1;
}

// Moves to the block that may hold `chunk`, without decoding it.
void ShallowSeek(TermCursor& cursor, uint32_t chunk) {
  while (!cursor.at_end() && cursor.list.blocks[cursor.block].last_chunk < chunk) {
    ++cursor.block;
    cursor.loaded = false;
  }
}

void Seek(SegmentPass& pass, TermCursor& cursor, uint32_t chunk) {
  ShallowSeek(cursor, chunk);
  if (cursor.at_end()) return;
  if (!cursor.loaded) pass.Load(cursor);
  while (cursor.chunks[cursor.position] < chunk) ++cursor.position;
}

}  // namespace

void RunBlockMaxWand(SegmentPass& pass) {
  std::vector<TermCursor*> cursors = pass.cursors;
  for (TermCursor* cursor : cursors) Seek(pass, *cursor, 0);
  int64_t steps = 0;
  for (;;) {
    if ((++steps & 4095) == 0 && !CheckCancel(pass.cancel).ok()) {
      pass.stopped = true;
      return;
    }
    std::erase_if(cursors, [](const TermCursor* cursor) { return cursor->at_end(); });
    std::sort(cursors.begin(), cursors.end(),
              [](const TermCursor* a, const TermCursor* b) { return Current(*a) < Current(*b); });
    const uint32_t least = pass.top.least();
    uint64_t reach = 0;
    size_t pivot = 0;
    while (pivot < cursors.size() && (reach += cursors[pivot]->list_bound) < least) ++pivot;
    if (pivot == cursors.size()) return;
    const uint32_t chunk = Current(*cursors[pivot]);
    while (pivot + 1 < cursors.size() && Current(*cursors[pivot + 1]) == chunk) ++pivot;

    uint64_t bound = 0;
    uint32_t next = pivot + 1 < cursors.size() ? Current(*cursors[pivot + 1]) : kNoChunk;
    for (size_t i = 0; i <= pivot; ++i) {
      TermCursor& cursor = *cursors[i];
      // Looking ahead must not lose the cursor's place, so the block is searched from where it stands.
      size_t b = cursor.block;
      while (b < cursor.list.blocks.size() && cursor.list.blocks[b].last_chunk < chunk) ++b;
      if (b == cursor.list.blocks.size()) continue;
      bound += cursor.bounds[b];
      next = std::min(next, cursor.list.blocks[b].last_chunk + 1);
    }
    if (bound >= least) {
      uint32_t sum = 0;
      for (size_t i = 0; i <= pivot; ++i) {
        Seek(pass, *cursors[i], chunk);
        if (Current(*cursors[i]) == chunk) {
          sum += cursors[i]->contributions[cursors[i]->position];
          Seek(pass, *cursors[i], chunk + 1);
        }
      }
      if (sum >= least) pass.Offer(sum, chunk);
    } else {
      for (size_t i = 0; i <= pivot; ++i) Seek(pass, *cursors[i], next);
    }
  }
}

}  // namespace lectern::index
