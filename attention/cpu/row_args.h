// attention/cpu/row_args.h: what the CPU kernels on single rows get: plain numbers and pointers.
//
//   kernels.rows.dots({.query = q, .queries = 1, .width = 64, ...});
//
// Shapes:  widths are any number from 1; descriptors and weights are float or bf16, sums are float.
// Threads: pure functions of their arguments.
// Errors:  none; select.cc and append.cc check before.
// Cost:    none. Included by files built for wider instruction sets: no functions here, no library headers.
#pragma once

#include <cstdint>

namespace lectern::attention {

// out[width] = x[inputs] times weights [inputs, width].
struct ProjectArgs {
  const float* x;
  int64_t inputs;
  const void* weights;
  bool bf16;
  int64_t width;
  float* out;
};

// scores[query][block] = scale * query . descriptor of the block, for the blocks [begin, end).
struct DotsArgs {
  const float* query;  // [queries, width]
  int64_t queries, width;
  const char* descriptors;  // of this head in page 0
  bool bf16;
  int64_t page_bytes, block_bytes;
  const int32_t* pages;
  int64_t block_tokens, begin, end;
  float scale;
  bool largest;          // one score a block: the largest over the queries
  float* scores;         // [queries or 1, stride]
  int64_t stride;
};

// out = (x + bias) * norm / rms(x + bias), rounded to bf16 where asked. In place is fine.
struct NormArgs {
  const float* x;
  const float* bias;  // or null
  const float* norm;  // or null: no normalisation
  float eps;
  int64_t width;
  bool round_bf16;
  float* out;
};

// Pairs (i, i + width / 2) turned by the angle whose cosine and sine are given. In place is fine.
struct RotateArgs {
  const float* x;
  const float* cosines;  // [width / 2]
  const float* sines;
  int64_t width;
  float* out;
};

// descriptor [2, width]: the minimum, then the maximum, take in a key; the first one of a block replaces them.
struct MinMaxArgs {
  void* descriptor;
  bool bf16;
  const float* key;
  int64_t width;
  bool first;
};

// pool [3, width]: maximum, minimum and sum.
struct PoolArgs {
  float* pool;
  const float* key;
  int64_t width;
  bool first;
};

struct RowKernels {
  void (*project)(const ProjectArgs&);
  void (*dots)(const DotsArgs&);
  // to[i] = e^(x[i] - the largest); returns their sum.
  float (*exponentials)(float* x, int64_t n, float* to);
  void (*norm)(const NormArgs&);
  void (*rotate)(const RotateArgs&);
  void (*min_max)(const MinMaxArgs&);
  void (*pool)(const PoolArgs&);
};

}  // namespace lectern::attention
