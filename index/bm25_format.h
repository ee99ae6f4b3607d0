// index/bm25_format.h: the bytes of bm25.bin. docs/formats/bm25.md has them in words.
//
//   struct Header, then sections in this order, each beginning on a multiple of 64 bytes:
//   lengths u32[chunk]  slots u64[slot]  terms TermRecord[term]  blocks BlockMeta[block]
//   impact frequencies u32[impact block, kImpactPairs]  impact lengths, the same
//   strings (one length byte, then the term)  data (packed blocks)  kReadSlack zero bytes
//
// Shapes:  little-endian; terms in byte order; a slot is the upper half of the term's hash and its ordinal plus one, 0
//          where free, found by linear probing from hash modulo slots (a power of two).
// Threads: plain values.
// Errors:  Layout::Of gives kDataLoss where the counts do not add up to the file's size.
// Cost:    none.
#pragma once

#include <cstdint>

#include "base/status.h"
#include "index/postings.h"

namespace lectern::index::bm25_format {

inline constexpr char kMagic[8] = {'L', 'C', 'T', 'N', 'B', 'M', '2', '5'};
inline constexpr uint32_t kVersion = 1;

struct Header {
  char magic[8];
  uint32_t version, title_weight;
  uint64_t num_chunks, total_length, num_terms, num_blocks, num_impact_blocks, num_slots, string_bytes, data_bytes;
  char analyzer[32];  // name and version, zero-padded
};
static_assert(sizeof(Header) == 112);

struct TermRecord {
  uint64_t data_offset;
  uint32_t document_frequency;
  uint32_t first_block;
  uint32_t first_impact_block;  // meaningful where the list has two blocks or more
  uint32_t string_offset;
};
static_assert(sizeof(TermRecord) == 24);

struct Layout {
  uint64_t lengths, slots, terms, blocks, impact_frequency, impact_length, strings, data, end;

  static absl::StatusOr<Layout> Of(const Header& h, uint64_t limit) {
    // Each count is below the limit (the file's size), so that products of it stay far below 2^64.
    for (const uint64_t count : {h.num_chunks, h.num_terms, h.num_blocks, h.num_impact_blocks, h.num_slots,
                                 h.string_bytes, h.data_bytes}) {
      if (count > limit) return DataLoss("bm25.bin: a count of ", count, " is past the file's ", limit, " bytes");
    }
    Layout layout{};
    uint64_t at = sizeof(Header);
    auto section = [&at](uint64_t& begin, uint64_t bytes) {
      begin = (at + 63) / 64 * 64;
      at = begin + bytes;
    };
    section(layout.lengths, h.num_chunks * 4);
    section(layout.slots, h.num_slots * 8);
    section(layout.terms, h.num_terms * sizeof(TermRecord));
    section(layout.blocks, h.num_blocks * sizeof(BlockMeta));
    section(layout.impact_frequency, h.num_impact_blocks * kImpactPairs * 4);
    section(layout.impact_length, h.num_impact_blocks * kImpactPairs * 4);
    section(layout.strings, h.string_bytes);
    section(layout.data, h.data_bytes);
    layout.end = at + kReadSlack;
    return layout;
  }
};

}  // namespace lectern::index::bm25_format
