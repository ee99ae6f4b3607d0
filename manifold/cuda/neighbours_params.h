// manifold/cuda/neighbours_params.h: the table of fp16 vectors that the search reads, and what its kernels are given.
#pragma once

#include <cstdint>

namespace lectern::manifold::cuda {

constexpr int kTableRows = 256;     // of a block: one operand tile of 256 columns, two of 128 queries
constexpr int kTableInner = 64;     // elements of a piece of the inner axis: 128 bytes, the width of the swizzle
constexpr int kListEntries = 512;   // of a query's candidates while it searches: half, and one tile of columns
constexpr int kListKept = 256;      // after a compaction, at most
constexpr int kMaxKept = 192;       // neighbours asked for, spare ones for near-duplicates included

// Vectors rounded to fp16: [block][piece][row of 256][64], the 16-byte pieces of a row exchanged by row % 8, as matrix
// instructions want them in shared memory: a tile is one copy.
struct Table {
  uint16_t* elements;
  float* bias;         // [blocks * 256]: -|row|^2 / 2; -infinity behind the last
  float* longest;      // max |row|^2
  long long rows, blocks;
  int dim, pieces;     // pieces of kTableInner that hold dim
};

constexpr long long TableBlocks(long long rows) { return (rows + kTableRows - 1) / kTableRows; }
constexpr int TablePieces(int dim) { return (dim + kTableInner - 1) / kTableInner; }
constexpr long long TableElements(long long rows, int dim) {
  return TableBlocks(rows) * kTableRows * TablePieces(dim) * kTableInner;
}

struct Candidate {
  float score;  // product + bias
  int32_t id;
};

struct SearchParams {
  Table table, queries;   // queries: any part of whole 256-row blocks
  const int32_t* self;    // [query rows] table rows left out; null: none
  long long begin, end;   // query rows of this launch; begin a multiple of 128
  int keep;               // nearest ones that must be among the candidates
  Candidate* lists;       // [CTAs, tile rows, kListEntries]
  int32_t* candidates;    // [end - begin, kListKept]
  int32_t* counts;        // [end - begin]; -1: too many ties to hold, Rank() looks at all rows
};

struct RankParams {
  Table table, queries;
  const int32_t* self;
  const int32_t* candidates;
  const int32_t* counts;
  long long begin, end;
  int k, keep;
  bool collapse;          // near-duplicates of the query and of each other
  int32_t* ids;           // [query rows, k]
  float* distances;       // [query rows, k]
  unsigned long long* collapsed;
};

}  // namespace lectern::manifold::cuda
