// base/nn/cpu/linear_kernels.h: packed forms of a weight matrix and the table of kernels, one per CPU target.
// Private to base/nn; kept free of standard headers but <cstdint>, because target files include it.
//
// Packed form   Rows go in panels of 16 (the last one padded with zeros), columns in groups of 32. Inside a panel,
//               64 bytes hold 16 rows x 4 columns ("a quad"), so that one dot-product instruction feeds 16 rows and
//               no sum ever crosses lanes. Codes are unsigned and stay at their own width:
//                 4 bits: 4 x 64 B a group; byte b of vector j holds quad j low, quad j + 4 high
//                 5 bits: the same and 64 B more; bit i of byte b is the fifth bit of quad i
//                 6 bits: the same and 128 B more; bits 2i of vector j are the high pair of quad 4 j + i
//                 8 bits: 8 x 64 B (signed bytes plus 128)
//               After the codes of all groups come the scales, 16 rows side by side:
//                 plain: fp16 d;   minimum: fp16 d, fp16 m;
//                 super: each 256 columns fp16 d, fp16 dmin, then 8 x (u8 scale, u8 minimum);
//                 six:   each 256 columns fp16 d, then 16 x int8 scale (one per 16 columns)
// Activations   A block of T tokens; each group of 32 columns is 64 T bytes: int8 [8 quads][T][4], then rows of T:
//               float d, float d * sum, int32 -8 sum, -16 sum, -128 sum, -32 sum(first 16), -32 sum(last 16), 0.
//               The negative sums start the integer accumulators: the codes' zero point costs nothing.
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

// What a group looks like once unpacked to bytes: 8 quads of 64 B, then one or two rows of 16 float.
enum class GroupKind : uint8_t { kPlain, kWide, kMin, kHalves };
constexpr int kGroupKinds = 4;

constexpr GroupKind KindOf(PackFormat format) {
  switch (format) {
    case PackFormat::kU8: return GroupKind::kWide;
    case PackFormat::kU4Min: case PackFormat::kU5Min: case PackFormat::kU4Super: case PackFormat::kU5Super:
      return GroupKind::kMin;
    case PackFormat::kU6Super: return GroupKind::kHalves;
    default: return GroupKind::kPlain;
  }
}
constexpr int64_t CodeBytes(PackFormat format) {  // of one group
  switch (format) {
    case PackFormat::kU5: case PackFormat::kU5Min: case PackFormat::kU5Super: return 320;
    case PackFormat::kU6Super: return 384;
    case PackFormat::kU8: return 512;
    default: return 256;
  }
}
constexpr int64_t ScaleBytes(PackFormat format, int64_t groups) {  // of one panel
  switch (format) {
    case PackFormat::kU4Min: case PackFormat::kU5Min: return groups * 64;
    case PackFormat::kU4Super: case PackFormat::kU5Super: return groups / 8 * 320;
    case PackFormat::kU6Super: return groups / 8 * 288;
    default: return groups * 32;
  }
}
constexpr int64_t UnpackedBytes(GroupKind kind) {
  return kind == GroupKind::kMin || kind == GroupKind::kHalves ? 640 : 576;
}
// Row of the activation group (after its 8 quads) that starts the accumulators.
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
