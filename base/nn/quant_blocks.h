// base/nn/quant_blocks.h: the codes and scales inside one block of each quantised GGUF type.
//
//   uint8_t codes[32];  UnpackCodes32(DType::kQ5_0, block, codes);   // 0..31
//   weight = scale * (code - CodeZero(type)) + minimum
//
// Shapes:  a block holds 32 or 256 weights; codes are unsigned (Q8_0: the signed byte plus 128).
// Threads: any; pure functions.
// Errors:  none.
// Cost:    plain loops; used at load and by the reference.
#pragma once

#include <cstdint>

#include "base/dtype.h"

namespace lectern::nn {

// The code that stands for zero, where a type is symmetric; 0 where it has a minimum of its own.
inline int CodeZero(DType type) {
  switch (type) {
    case DType::kQ4_0: return 8;
    case DType::kQ5_0: return 16;
    case DType::kQ6_K: return 32;
    case DType::kQ8_0: return 128;
    default: return 0;
  }
}

inline void UnpackCodes32(DType type, const uint8_t* block, uint8_t codes[32]) {
  if (type == DType::kQ8_0) {  // d, 32 signed bytes
    for (int i = 0; i < 32; ++i) codes[i] = block[2 + i] ^ 0x80;
    return;
  }
  const bool five = type == DType::kQ5_0 || type == DType::kQ5_1;
  const bool has_minimum = type == DType::kQ4_1 || type == DType::kQ5_1;
  const uint8_t* p = block + (has_minimum ? 4 : 2);  // d, maybe m, maybe 32 high bits, 16 bytes of nibbles
  uint32_t high = 0;
  if (five) {
    high = uint32_t{p[0]} | uint32_t{p[1]} << 8 | uint32_t{p[2]} << 16 | uint32_t{p[3]} << 24;
    p += 4;
  }
  for (int i = 0; i < 16; ++i) {
    codes[i] = static_cast<uint8_t>((p[i] & 15) | ((high >> i) & 1) << 4);
    codes[i + 16] = static_cast<uint8_t>((p[i] >> 4) | ((high >> (i + 16)) & 1) << 4);
  }
}

// Q4_K and Q5_K: eight 6-bit scales and minima in 12 bytes.
inline void UnpackScalesK(const uint8_t* p, uint8_t scales[8], uint8_t minima[8]) {
  for (int i = 0; i < 4; ++i) {
    scales[i] = p[i] & 63;
    minima[i] = p[i + 4] & 63;
    scales[i + 4] = static_cast<uint8_t>((p[i + 8] & 15) | (p[i] >> 6) << 4);
    minima[i + 4] = static_cast<uint8_t>((p[i + 8] >> 4) | (p[i + 4] >> 6) << 4);
  }
}

inline void UnpackCodes256(DType type, const uint8_t* block, uint8_t codes[256]) {
  if (type == DType::kQ6_K) {  // 128 low nibbles, 64 high pairs, 16 scales, d
    for (int half = 0; half < 2; ++half) {
      const uint8_t* low = block + 64 * half;
      const uint8_t* high = block + 128 + 32 * half;
      uint8_t* out = codes + 128 * half;
      for (int i = 0; i < 32; ++i) {
        out[i] = static_cast<uint8_t>((low[i] & 15) | (high[i] & 3) << 4);
        out[i + 32] = static_cast<uint8_t>((low[i + 32] & 15) | ((high[i] >> 2) & 3) << 4);
        out[i + 64] = static_cast<uint8_t>((low[i] >> 4) | ((high[i] >> 4) & 3) << 4);
        out[i + 96] = static_cast<uint8_t>((low[i + 32] >> 4) | ((high[i] >> 6) & 3) << 4);
      }
    }
    return;
  }
  const bool five = type == DType::kQ5_K;  // d, dmin, scales, maybe 32 bytes of high bits, 128 bytes of nibbles
  const uint8_t* high = block + 16;
  const uint8_t* low = block + (five ? 48 : 16);
  for (int pair = 0; pair < 4; ++pair) {  // groups 2 pair and 2 pair + 1 share 32 bytes
    for (int i = 0; i < 32; ++i) {
      const int high0 = five ? (high[i] >> (2 * pair)) & 1 : 0;
      const int high1 = five ? (high[i] >> (2 * pair + 1)) & 1 : 0;
      codes[64 * pair + i] = static_cast<uint8_t>((low[32 * pair + i] & 15) | high0 << 4);
      codes[64 * pair + 32 + i] = static_cast<uint8_t>((low[32 * pair + i] >> 4) | high1 << 4);
    }
  }
}

}  // namespace lectern::nn
