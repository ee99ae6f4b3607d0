// base/nn/cpu/linear_kernels.h: packed forms of a weight matrix and the table of kernels, one per CPU target.
// Private to base/nn; kept free of standard headers but <cstdint>, because target files include it.
//
// Packed form   Rows go in panels of 16 (the last one padded with zeros), columns in groups of 32, that is 16 pairs.
//               A vector is 64 bytes: 16 rows x the even and the odd column of a pair, 16 bits each, so that one
//               instruction multiplies a pair of 16 rows and no sum ever crosses lanes. Codes are unsigned and stay at
//               their own width; the 16 bits of vector j hold the codes of several pairs:
//                 4 bits: 4 vectors; pairs 4 j .. 4 j + 3 from the lowest bit on
//                 5 bits: 5 vectors; pairs 3 j .. 3 j + 2; the top bit is bit j of pair 15
//                 6 bits: 6 vectors; pairs 2 j, 2 j + 1; the top four bits are a share of pairs 12 .. 15: of vectors 0, 2,
//                         3, 5 the low four bits of one, of vectors 1 and 4 the high two bits of two of them
//                 8 bits: 8 vectors; pairs 2 j, 2 j + 1 (signed bytes plus 128)
//               After the codes of all groups come the scales, 16 rows side by side:
//                 plain: fp16 d;   minimum: fp16 d, fp16 m;
//                 super: each 256 columns fp16 d, fp16 dmin, then 8 x (u8 scale, u8 minimum);
//                 six:   each 256 columns fp16 d, then 16 x int8 scale (one per 16 columns)
// Activations   A block of T tokens; each group of 32 columns is 96 T bytes: int16 [16 pairs][T][2], then rows of T:
//               float d, float d * sum, int32 -8 sum, -16 sum, -128 sum, -32 sum(first 16), -32 sum(last 16), 0.
//               The negative sums start the integer accumulators: the codes' zero point costs nothing. A group's
//               greatest value is 32767: rounding is 2^8 times finer than with bytes, and 32 x 255 x 32767 fits int32.
// Order         For one token and one row every path sums in the same order, so a result does not depend on how
//               many tokens are computed together.
#pragma once

#include <cstdint>

namespace lectern::nn {

enum class PackFormat : uint8_t { kU4, kU4Min, kU5, kU5Min, kU8, kU4Super, kU5Super, kU6Super, kBf16, kF32 };
constexpr int kQuantFormats = 8;
constexpr int kPanelRows = 16;
constexpr int kMaxDirect = 4;  // up to here the kernel reads the packed form; above, a panel is unpacked first
constexpr int kMaxTile = 12;

// What a group looks like once unpacked: 16 vectors, one a pair, then one or two rows of 16 float.
enum class GroupKind : uint8_t { kPlain, kMin, kHalves };
constexpr int kGroupKinds = 3;
constexpr int64_t kActivationBytes = 96;  // of a group and token

constexpr GroupKind KindOf(PackFormat format) {
  switch (format) {
    case PackFormat::kU4Min: case PackFormat::kU5Min: case PackFormat::kU4Super: case PackFormat::kU5Super:
      return GroupKind::kMin;
    case PackFormat::kU6Super: return GroupKind::kHalves;
    default: return GroupKind::kPlain;
  }
}
constexpr int BitsOf(PackFormat format) {
  switch (format) {
    case PackFormat::kU5: case PackFormat::kU5Min: case PackFormat::kU5Super: return 5;
    case PackFormat::kU6Super: return 6;
    case PackFormat::kU8: return 8;
    default: return 4;
  }
}
constexpr int64_t CodeBytes(PackFormat format) { return 64 * BitsOf(format); }  // of one group
constexpr int64_t ScaleBytes(PackFormat format, int64_t groups) {  // of one panel
  switch (format) {
    case PackFormat::kU4Min: case PackFormat::kU5Min: return groups * 64;
    case PackFormat::kU4Super: case PackFormat::kU5Super: return groups / 8 * 320;
    case PackFormat::kU6Super: return groups / 8 * 288;
    default: return groups * 32;
  }
}
constexpr int64_t UnpackedBytes(GroupKind kind) {
  return kind == GroupKind::kPlain ? 1088 : 1152;
}
// Row of the activation group (after its 16 pairs) that starts the accumulators.
constexpr int StartRow(PackFormat format) {
  switch (format) {
    case PackFormat::kU4: return 2;
    case PackFormat::kU5: return 3;
    case PackFormat::kU8: return 4;
    default: return 7;  // zeros
  }
}

struct QuantTask {
  const uint8_t* codes;    // packed or unpacked groups of one panel
  const uint8_t* scales;   // packed form only
  int64_t groups;
  const uint8_t* x;        // one activation block
  float* y;                // y[token * y_stride + row]
  int64_t y_stride;
  int rows;                // valid rows of the panel, 1..16
  int start_row;           // StartRow, for unpacked groups
  int64_t next_panel;      // packed form only: bytes to the panel that is read next
};
using QuantKernel = void (*)(const QuantTask&);

struct FloatTask {
  const uint8_t* w;        // panel: float [col][16], or bf16 [col / 2][16][2]
  int64_t panel_bytes;     // distance to the next panel, where two are computed together
  int64_t steps;           // cols, or pairs of cols
  const uint8_t* x;        // float [col][T], or bf16 [col / 2][T][2]
  float* y;
  int64_t y_stride;
  int rows;                // valid rows of all panels of this call, 1..16 or 17..32
  const float* bias;       // [rows] or null
};
using FloatKernel = void (*)(const FloatTask&);

struct LinearKernels {
  int quant_tile;  // most tokens of a block
  int float_tile;
  void (*quantize)(const float* x, int64_t x_stride, int tokens, int64_t groups, uint8_t* out);
  void (*to_bf16)(const float* x, int64_t x_stride, int tokens, int64_t cols, uint8_t* out);
  void (*to_float)(const float* x, int64_t x_stride, int tokens, int64_t cols, uint8_t* out);
  void (*unpack[kQuantFormats])(const uint8_t* codes, const uint8_t* scales, int64_t groups, uint8_t* out);
  QuantKernel direct[kQuantFormats][kMaxDirect];  // [tokens - 1]
  QuantKernel gemm[kGroupKinds][kMaxTile];        // null past quant_tile
  FloatKernel float_gemm[2][kMaxTile];            // [panels - 1][tokens - 1]
  FloatKernel bf16_gemm[2][kMaxTile];
};

namespace scalar { extern const LinearKernels kLinear; }
namespace avx2 { extern const LinearKernels kLinear; }
namespace avx512 { extern const LinearKernels kLinear; }
namespace avx512bf16 {
extern const FloatKernel kBf16Gemm[2][kMaxTile];
extern void (*const kToBf16)(const float* x, int64_t x_stride, int tokens, int64_t cols, uint8_t* out);
}

const LinearKernels& ActiveLinearKernels();

}  // namespace lectern::nn
