// attention/cpu/flash_args.h: what one work item of a CPU kernel gets: plain numbers and pointers.
//
//   FlashTile tile{...};  kernels.flash_bf16(tile);
//
// Shapes:  rows = num_queries * group, row r = query r / group, head r % group of the group; lanes are 4 bytes.
// Threads: a tile and its buffers belong to one thread.
// Errors:  none; attention.cc checks before.
// Cost:    none. Included by files built for wider instruction sets: no functions here, no library headers.
#pragma once

#include <cstdint>

namespace lectern::attention {

struct FlashTile {
  // Queries: the first query and first head of the group.
  const float* q;
  int64_t q_query_stride, q_head_stride;
  int64_t group, num_rows;
  int64_t first_position;  // of the first query
  // Keys [key_begin, key_end); k and v point at the block of this head in page 0, strides in bytes.
  const char* k;
  const char* v;
  int64_t k_page_bytes, v_page_bytes;
  const int32_t* pages;
  int64_t key_begin, key_end;
  int64_t key_width, value_width;
  bool causal;
  int64_t window;  // 0: none
  float scale, soft_cap;
  // One query over a list of key blocks; null: every key. Ascending and unique, block i holds the keys
  // [i * block_tokens, (i + 1) * block_tokens), a multiple of 16.
  const int32_t* blocks;
  int64_t num_blocks, block_tokens;
  const FlashTile* then;  // what the thread does next, or null: its first keys are asked for; `asked`: they have been
  bool asked;
  // Results: the sums before the division, and the softmax state with scores in units of log2.
  float* acc;   // [row, value_width]
  float* peak;  // [row]
  float* sum;   // [row]
  // Scratch.
  uint32_t* packed_q;  // [row, key_width] lanes at most
  float* scores;       // [kMaxRowBlock, 64]
  uint32_t* weights;   // [kMaxRowBlock, 64] lanes at most
  int64_t* bounds;     // [row, 2]
};

constexpr int64_t kMaxRowBlock = 12;  // rows a kernel works on at once: 12 x 2 accumulators of 32 registers

struct KeyMassTile {
  FlashTile tile;        // one query; acc, sum and weights unused, peak holds the log-sum-exp in units of log2
  float* mass;           // [key] from key 0; += only inside [key_begin, key_end)
};

// For each block of keys and each row the largest score, in units of log2.
struct BlockPeaksTile {
  FlashTile tile;        // one query, all keys of [0, key_end); acc and weights unused, peak and sum are results
  int64_t block_tokens;
  float* peaks;          // [row, stride]
  int64_t stride;
};

}  // namespace lectern::attention
