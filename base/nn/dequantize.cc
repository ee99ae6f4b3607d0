#include "base/nn/dequantize.h"

#include <cstring>

#include "base/check.h"
#include "base/nn/quant_blocks.h"

namespace lectern::nn {
namespace {

float Half(const uint8_t* p) { return ToFloat(fp16{static_cast<uint16_t>(p[0] | p[1] << 8)}); }

// Q4_0, Q4_1, Q5_0, Q5_1, Q8_0: d * code, then the minimum; products and sums in the order of the reference.
void Block32(DType type, const uint8_t* block, float* out) {
  uint8_t codes[32];
  UnpackCodes32(type, block, codes);
  const float d = Half(block);
  const bool has_minimum = type == DType::kQ4_1 || type == DType::kQ5_1;
  const float minimum = has_minimum ? Half(block + 2) : 0.0f;
  const int zero = CodeZero(type);
  for (int i = 0; i < 32; ++i) {
    const float product = d * static_cast<float>(codes[i] - zero);
    out[i] = has_minimum ? product + minimum : product;
  }
}

void Block256(DType type, const uint8_t* block, float* out) {
  uint8_t codes[256];
  UnpackCodes256(type, block, codes);
  if (type == DType::kQ6_K) {
    const auto* scales = reinterpret_cast<const int8_t*>(block + 192);
    const float d = Half(block + 208);
    for (int i = 0; i < 256; ++i) {
      out[i] = d * static_cast<float>(scales[i / 16]) * static_cast<float>(codes[i] - 32);
    }
    return;
  }
  uint8_t scales[8], minima[8];
  UnpackScalesK(block + 4, scales, minima);
  const float d = Half(block), dmin = Half(block + 2);
  for (int i = 0; i < 256; ++i) {
    out[i] = d * static_cast<float>(scales[i / 32]) * static_cast<float>(codes[i]) -
             dmin * static_cast<float>(minima[i / 32]);
  }
}

}  // namespace

bool IsLinearType(DType type) { return type <= DType::kQ6_K; }

void Dequantize(DType type, const std::byte* bytes, int64_t cols, float* out) {
  const auto* p = reinterpret_cast<const uint8_t*>(bytes);
  switch (type) {
    case DType::kF32:
      std::memcpy(out, p, static_cast<size_t>(cols) * sizeof(float));
      return;
    case DType::kF16:
      for (int64_t i = 0; i < cols; ++i) out[i] = Half(p + 2 * i);
      return;
    case DType::kBF16:
      for (int64_t i = 0; i < cols; ++i) {
        out[i] = ToFloat(bf16{static_cast<uint16_t>(p[2 * i] | p[2 * i + 1] << 8)});
      }
      return;
    default:
      break;
  }
  CHECK(IsLinearType(type));
  const int64_t size = BlockSize(type), step = BlockBytes(type);
  for (int64_t i = 0; i < cols; i += size, p += step) {
    size == 32 ? Block32(type, p, out + i) : Block256(type, p, out + i);
  }
}

}  // namespace lectern::nn
