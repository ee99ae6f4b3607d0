// tests/base/nn/quant_samples.h: random rows of every type a Linear takes.
//
//   const std::vector<std::byte> bytes = RandomMatrix(DType::kQ4_K, rows, cols, seed);
//
// Shapes:  RowBytes(type, cols) bytes a row.
// Threads: any.
// Errors:  none.
// Cost:    random bytes, with scales put in a sane range.
#pragma once

#include <cstdint>
#include <cstring>
#include <random>
#include <vector>

#include "base/dtype.h"

namespace lectern::nn {

inline const std::vector<DType>& AllLinearTypes() {
  static const std::vector<DType> types = {DType::kF32,  DType::kF16,  DType::kBF16, DType::kQ4_0, DType::kQ4_1, DType::kQ5_0,
                                           DType::kQ5_1, DType::kQ8_0, DType::kQ4_K, DType::kQ5_K, DType::kQ6_K};
  return types;
}

inline std::vector<std::byte> RandomMatrix(DType type, int64_t rows, int64_t cols, uint64_t seed) {
  std::mt19937_64 rng(seed);
  std::normal_distribution<float> normal(0.0f, 0.05f);
  std::vector<std::byte> bytes(static_cast<size_t>(rows * RowBytes(type, cols)));
  auto* p = reinterpret_cast<uint8_t*>(bytes.data());
  if (type <= DType::kBF16) {
    for (int64_t i = 0; i < rows * cols; ++i) {
      const float value = normal(rng);
      if (type == DType::kF32) std::memcpy(p + 4 * i, &value, 4);
      const uint16_t bits = type == DType::kF16 ? ToFp16(value).bits : ToBf16(value).bits;
      if (type != DType::kF32) std::memcpy(p + 2 * i, &bits, 2);
    }
    return bytes;
  }
  for (size_t i = 0; i < bytes.size(); ++i) p[i] = static_cast<uint8_t>(rng());
  const auto put = [&](uint8_t* at, float low, float high) {
    const uint16_t bits = ToFp16(std::uniform_real_distribution<float>(low, high)(rng)).bits;
    std::memcpy(at, &bits, 2);
  };
  for (uint8_t* block = p; block < p + bytes.size(); block += BlockBytes(type)) {
    if (type == DType::kQ6_K) {
      put(block + 208, -1e-3f, 1e-3f);
      continue;
    }
    put(block, -0.01f, 0.01f);
    const bool has_minimum = type == DType::kQ4_1 || type == DType::kQ5_1 || type == DType::kQ4_K || type == DType::kQ5_K;
    if (has_minimum) put(block + 2, -0.02f, 0.02f);
    if (type == DType::kQ4_K || type == DType::kQ5_K) {
      put(block, 0.0f, 5e-4f);
      put(block + 2, 0.0f, 1e-3f);
    }
  }
  return bytes;
}

inline std::vector<float> RandomFloats(int64_t n, uint64_t seed) {
  std::mt19937_64 rng(seed);
  std::normal_distribution<float> normal;
  std::vector<float> x(static_cast<size_t>(n));
  for (float& v : x) v = normal(rng);
  return x;
}

}  // namespace lectern::nn
