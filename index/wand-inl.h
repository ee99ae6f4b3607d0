// index/wand-inl.h: what the two dynamic pruning algorithms share: a cursor a term and the state of one segment's pass.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "base/cancel.h"
#include "index/bm25.h"
#include "index/postings.h"
#include "index/top_k.h"
#include "index/chunk_set.h"

namespace lectern::index {

inline constexpr uint32_t kNoChunk = ~uint32_t{0};

// A term's list in one segment. Blocks are decoded and scored one at a time, whole.
struct TermCursor {
  PostingsView list;
  ScoreTerms terms;
  std::vector<uint32_t> bounds;   // [block]: no contribution of the block is above it
  uint32_t list_bound = 0;        // the largest of them
  uint32_t window_bound = 0;
  size_t block = 0;
  int position = 0;
  bool loaded = false;            // chunks and contributions are those of `block`
  int count = 0;
  alignas(64) uint32_t chunks[kBlockSize + 16];
  alignas(64) uint32_t contributions[kBlockSize + 16];

  bool at_end() const { return block >= list.blocks.size(); }
};

struct SegmentPass {
  const PostingsKernels& kernels;
  uint32_t segment = 0;
  int64_t num_chunks = 0;
  const uint32_t* lengths = nullptr;
  std::vector<TermCursor*> cursors;
  const ChunkSet* allowed = nullptr;                        // null: all
  const std::function<bool(ChunkPlace)>* accepts = nullptr; // null: all
  const CancelToken* cancel = nullptr;
  TopK& top;
  int64_t postings_scored = 0;
  bool stopped = false;

  void Load(TermCursor& cursor) {
    alignas(64) uint32_t frequencies[kBlockSize + 16];
    const BlockMeta& meta = cursor.list.blocks[cursor.block];
    const uint8_t* data = cursor.list.data + meta.offset;
    cursor.count = meta.count();
    kernels.unpack_ascending(data, meta.chunk_bits, cursor.count, cursor.list.chunk_before(cursor.block),
                             cursor.chunks);
    kernels.unpack(data + meta.chunk_bytes(), meta.frequency_bits, cursor.count, 1, frequencies);
    kernels.score(cursor.chunks, frequencies, cursor.count, lengths, cursor.terms, cursor.contributions);
    cursor.position = 0;
    cursor.loaded = true;
    postings_scored += cursor.count;
  }

  // Bounds of all blocks; a list of one block is decoded, which gives its exact maximum.
  void Prepare(TermCursor& cursor) {
    const size_t blocks = cursor.list.blocks.size();
    cursor.bounds.resize(blocks);
    if (blocks == 1) {
      Load(cursor);
      cursor.bounds[0] = *std::max_element(cursor.contributions, cursor.contributions + cursor.count);
    } else {
      constexpr size_t kStep = 32;
      alignas(64) uint32_t pairs[kStep * kImpactPairs + 16];
      for (size_t begin = 0; begin < blocks; begin += kStep) {
        const size_t count = std::min(kStep, blocks - begin);
        kernels.score_pairs(cursor.list.impact_frequency + begin * kImpactPairs,
                            cursor.list.impact_length + begin * kImpactPairs, static_cast<int>(count * kImpactPairs),
                            cursor.terms, pairs);
        for (size_t i = 0; i < count; ++i) {
          cursor.bounds[begin + i] =
              BoundOf(*std::max_element(pairs + i * kImpactPairs, pairs + (i + 1) * kImpactPairs));
        }
      }
    }
    cursor.list_bound = *std::max_element(cursor.bounds.begin(), cursor.bounds.end());
  }

  // REQUIRES: sum >= top.least().
  void Offer(uint32_t sum, uint32_t chunk) {
    const ChunkPlace place{segment, chunk};
    if (allowed != nullptr && !allowed->Has(chunk)) return;
    if (accepts != nullptr && !(*accepts)(place)) return;
    top.Offer({sum, place});
  }
};

void RunMaxScore(SegmentPass& pass, bool exhaustive);
void RunBlockMaxWand(SegmentPass& pass);

}  // namespace lectern::index
