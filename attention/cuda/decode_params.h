// attention/cuda/decode_params.h: what the decode kernels are launched with; plain numbers and pointers, no headers.
#pragma once

namespace lectern::attention {

// Work is counted in units: 16 keys of one (sequence, KV head) row, which are contiguous in a page.
constexpr int kUnitKeys = 16;
constexpr int kStagedVectors = 4;  // of a thread

struct DecodeParams {
  const void* q;   // [batch, q_head, D]
  void* out;       // [batch, q_head, D]
  float* lse;      // [batch, q_head] or null
  const char* k;   // page, head and slot as the strides say; slots are D elements apart
  const char* v;
  long long k_page_bytes, k_head_bytes, v_page_bytes, v_head_bytes;
  const int* page_table;
  const int* lengths;
  const int* ids;     // block-sparse only
  const int* counts;
  float* part_out;    // [slot, group, D]
  float* part_stats;  // [slot, group, 2]: peak, sum
  unsigned* counters; // [row, then CTA; query head of the group], zero between launches
  int page_table_stride, batch, kv_heads, group;
  int num_pages;      // of both pools; 0: not said
  int guess_keys, guess_blocks;  // of a row at most, where lengths and counts are read before they are written
  int capacity, block_units;
  unsigned heads_magic, block_magic;  // ptx::Divide by kv_heads, by block_units
  int staged, staged_ids, staged_pages;  // 16-byte vectors that a CTA copies first: all, ids, pages, the rest of queries; 0: read where they are
  int chunk_units;    // fixed chunks; 0: stream-K
  int max_parts;      // CTAs of a row at most, where rows are few: adding parts up takes time too
  int min_units;      // of a CTA, before another joins in
  float scale_log2;   // scores to units of log2
  float cap_in, cap_out;  // soft cap: score = cap_out * tanh(score * cap_in), in units of log2
};

// Shared memory of a CTA: rings, the warps' sums and states, units of each ring, totals, and where each row begins.
constexpr long long DecodeSharedBytes(int d, int row_tiles, int stages, int warps, long long rows) {
  const int heads = 8 * row_tiles;
  return warps * stages * 2 * kUnitKeys * d * 2 + warps * heads * (d + 4) * 4 + warps * heads * 8 + warps * stages * 4 + (2 * warps + 4) * 4 +
         (rows + 1) * 4;
}

inline unsigned DivideMagic(int d) { return d <= 1 ? 0u : static_cast<unsigned>((0x100000000ull + d - 1) / d); }

}  // namespace lectern::attention
