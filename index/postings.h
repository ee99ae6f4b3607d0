// index/postings.h: one term's chunks and frequencies, in bit-packed blocks of 128, and how to read them.
//
//   PostingsEncoder encoder;  encoder.Add(chunks, frequencies, lengths);       // one term; ascending chunks
//   PostingsView list{...};   PostingsBlock block;
//   DecodeChunks(kernels, list, /*block=*/0, block);                           // block.chunks[0..block.count)
//
// Shapes:  chunk ordinals ascending, frequencies >= 1. A block holds its gaps minus one, then its frequencies minus one.
//          A list of two blocks or more also has, for each block, kImpactPairs pairs (frequency, length): for any k1 >= 0
//          and 0 <= b <= 1 the best score among the pairs is at least that of any posting of the block, because a score
//          grows with frequency and falls with length.
// Threads: plain data.
// Errors:  ValidatePostings gives kDataLoss where a block contradicts itself; after it passes, decoding needs no checks.
// Cost:    decoding about 0.3 ns a posting with AVX2; about 1 to 1.5 bytes a posting.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/status.h"
#include "index/cpu/postings_kernels.h"

namespace lectern::index {

inline constexpr int kImpactPairs = 3;  // 2 let 15-25 % more blocks through, 4 saved less than they cost

struct BlockMeta {
  uint32_t last_chunk = 0;
  uint32_t offset = 0;      // of the block, from the start of its term's data
  uint8_t chunk_bits = 0, frequency_bits = 0;
  uint8_t count_minus_1 = 0;
  uint8_t reserved = 0;
  int count() const { return count_minus_1 + 1; }
  int64_t chunk_bytes() const { return (int64_t{count()} * chunk_bits + 7) / 8; }
  int64_t bytes() const { return chunk_bytes() + (int64_t{count()} * frequency_bits + 7) / 8; }
};
static_assert(sizeof(BlockMeta) == 12);

struct PostingsView {
  uint32_t document_frequency = 0;        // in chunks
  std::span<const BlockMeta> blocks;
  const uint8_t* data = nullptr;
  const uint32_t* impact_frequency = nullptr;  // [block, kImpactPairs]; null for a list of one block
  const uint32_t* impact_length = nullptr;
  uint32_t chunk_before(size_t block) const { return block == 0 ? ~uint32_t{0} : blocks[block - 1].last_chunk; }
};

struct PostingsBlock {
  int count = 0;
  alignas(64) uint32_t chunks[kBlockSize + 16];
  alignas(64) uint32_t frequencies[kBlockSize + 16];
};

// The kernels of the active CPU target, or of a given one.
const PostingsKernels& ActivePostingsKernels();
std::vector<const PostingsKernels*> AllPostingsKernels();   // those this processor can run

inline void DecodeChunks(const PostingsKernels& kernels, const PostingsView& list, size_t block, PostingsBlock& out) {
  const BlockMeta& meta = list.blocks[block];
  out.count = meta.count();
  kernels.unpack_ascending(list.data + meta.offset, meta.chunk_bits, out.count, list.chunk_before(block), out.chunks);
}
inline void DecodeFrequencies(const PostingsKernels& kernels, const PostingsView& list, size_t block,
                              PostingsBlock& out) {
  const BlockMeta& meta = list.blocks[block];
  kernels.unpack(list.data + meta.offset + meta.chunk_bytes(), meta.frequency_bits, meta.count(), 1, out.frequencies);
}

class PostingsEncoder {
 public:
  // Appends one term's list. lengths[chunk] is the chunk's length in terms. REQUIRES: chunks ascending, not empty.
  // kResourceExhausted where one list's data would pass 4 GiB.
  absl::Status Add(std::span<const uint32_t> chunks, std::span<const uint32_t> frequencies,
                   std::span<const uint32_t> lengths);

  // All lists so far, one after the other.
  std::string data;
  std::vector<BlockMeta> blocks;
  std::vector<uint32_t> impact_frequency, impact_length;
};

absl::Status ValidatePostings(const PostingsView& list, int64_t data_bytes, int64_t num_chunks);

}  // namespace lectern::index
