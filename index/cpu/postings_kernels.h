// index/cpu/postings_kernels.h: the loops over posting blocks, one table of them a CPU target.
//
// Bit packing is horizontal: value i of a block lies at bit i * bits, lowest bit first, so that any eight values begin
// on a whole byte and a short block needs no other layout. Every kernel may read kReadSlack bytes past the packed
// values and write up to the next multiple of 16 values.
#pragma once

#include <cstddef>
#include <cstdint>

namespace lectern::index {

inline constexpr int kBlockSize = 128;     // postings a block
inline constexpr int kReadSlack = 64;      // readable bytes after the last packed byte

// What turns (tf, length) into a contribution: 1 + trunc(weight * tf / (tf + (base + slope * length))), computed in
// float with one rounding an operation and no fused multiply-add, so that every target gives the same integer.
struct ScoreTerms {
  float weight = 0;  // idf * count in the query * 2^scale_bits
  float base = 0;    // k1 * (1 - b)
  float slope = 0;   // k1 * b / average length
};

struct PostingsKernels {
  const char* name;
  // out[0..count): packed values, plus `add`.
  void (*unpack)(const uint8_t* packed, int bits, int count, uint32_t add, uint32_t* out);
  // out[i] = first + sum of (gap + 1) up to i, where the packed values are the gaps; first is one less than the
  // smallest legal value (uint32 -1 for the first block).
  void (*unpack_ascending)(const uint8_t* packed, int bits, int count, uint32_t first, uint32_t* out);
  // contribution[i] for tf[i] and lengths[docs[i]].
  void (*score)(const uint32_t* docs, const uint32_t* tf, int count, const uint32_t* lengths, const ScoreTerms& terms,
                uint32_t* contribution);
  // contribution[i] for tf[i] and length[i]: block maxima.
  void (*score_pairs)(const uint32_t* tf, const uint32_t* length, int count, const ScoreTerms& terms,
                      uint32_t* contribution);
  // Positions i in [0, count) with accumulated[i] >= least; count is a multiple of 16. Returns how many.
  int (*collect)(const uint32_t* accumulated, int count, uint32_t least, uint32_t* positions);
};

const PostingsKernels* PostingsKernelsScalar();
const PostingsKernels* PostingsKernelsAvx2();
const PostingsKernels* PostingsKernelsAvx512();

}  // namespace lectern::index
