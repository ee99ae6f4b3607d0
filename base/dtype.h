// base/dtype.h: element types of tensors as stored, and bf16 / fp16 conversions.
//
//   bf16 b = ToBf16(1.5f);  float f = ToFloat(b);
//   int64_t bytes = RowBytes(DType::kQ4_K, 4864);
//
// Shapes:  block-quantised types hold BlockSize(type) consecutive elements of a row a block.
// Threads: any; pure functions.
// Errors:  RowBytes returns -1 where cols is not a multiple of the block size.
// Cost:    a conversion is a few instructions; round to nearest even.
#pragma once

#include <bit>
#include <cstdint>

namespace lectern {

enum class DType : uint8_t {
  kF32, kF16, kBF16, kQ4_0, kQ4_1, kQ5_0, kQ5_1, kQ8_0, kQ4_K, kQ5_K, kQ6_K, kI32, kI64, kI8, kU8,
};

inline const char* DTypeName(DType type) {
  constexpr const char* kNames[] = {"F32",  "F16",  "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0",
                                    "Q4_K", "Q5_K", "Q6_K", "I32",  "I64",  "I8",   "U8"};
  return kNames[static_cast<int>(type)];
}

// Elements in one block, and bytes of one block (the GGUF layouts).
inline int64_t BlockSize(DType type) {
  constexpr int64_t kSizes[] = {1, 1, 1, 32, 32, 32, 32, 32, 256, 256, 256, 1, 1, 1, 1};
  return kSizes[static_cast<int>(type)];
}
inline int64_t BlockBytes(DType type) {
  constexpr int64_t kBytes[] = {4, 2, 2, 18, 20, 22, 24, 34, 144, 176, 210, 4, 8, 1, 1};
  return kBytes[static_cast<int>(type)];
}
inline int64_t RowBytes(DType type, int64_t cols) {
  return cols < 0 || cols % BlockSize(type) != 0 ? -1 : cols / BlockSize(type) * BlockBytes(type);
}

struct bf16 { uint16_t bits; };
struct fp16 { uint16_t bits; };

inline float ToFloat(float x) { return x; }
inline float ToFloat(bf16 x) { return std::bit_cast<float>(uint32_t{x.bits} << 16); }
inline float ToFloat(fp16 x) {
  const uint32_t sign = uint32_t{x.bits & 0x8000u} << 16;
  const uint32_t exponent = (x.bits >> 10) & 0x1fu;
  const uint32_t mantissa = x.bits & 0x3ffu;
  if (exponent == 0) {  // zero or subnormal: mantissa * 2^-24
    const float value = static_cast<float>(mantissa) * 0x1p-24f;
    return std::bit_cast<float>(std::bit_cast<uint32_t>(value) | sign);
  }
  const uint32_t biased = exponent == 31 ? 255u : exponent + 112u;
  return std::bit_cast<float>(sign | (biased << 23) | (mantissa << 13));
}
inline bf16 ToBf16(float x) {
  const uint32_t bits = std::bit_cast<uint32_t>(x);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return {static_cast<uint16_t>((bits >> 16) | 0x40u)};  // NaN
  return {static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16)};
}
inline fp16 ToFp16(float x) {
  const uint32_t bits = std::bit_cast<uint32_t>(x);
  const uint16_t sign = static_cast<uint16_t>((bits >> 16) & 0x8000u);
  const uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return {static_cast<uint16_t>(sign | 0x7e00u)};   // NaN
  if (magnitude >= 0x477ff000u) return {static_cast<uint16_t>(sign | 0x7c00u)};  // rounds to infinity
  if (magnitude < 0x38800000u) {  // subnormal: adding 0.5 aligns the bits at 2^-24 and rounds to even
    const float aligned = std::bit_cast<float>(magnitude) + 0.5f;
    return {static_cast<uint16_t>(sign | (std::bit_cast<uint32_t>(aligned) - 0x3f000000u))};
  }
  const uint32_t rounded = magnitude + 0xfffu + ((magnitude >> 13) & 1u);
  return {static_cast<uint16_t>(sign | ((rounded - 0x38000000u) >> 13))};
}

}  // namespace lectern
