#include "base/dtype.h"

#include <gtest/gtest.h>

#include <cmath>

namespace lectern {
namespace {

TEST(DType, EveryFp16RoundTrips) {
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    const float value = ToFloat(fp16{static_cast<uint16_t>(bits)});
    const uint16_t back = ToFp16(value).bits;
    if (std::isnan(value)) {
      EXPECT_TRUE(std::isnan(ToFloat(fp16{back})));
    } else {
      EXPECT_EQ(back, bits);
    }
  }
}

TEST(DType, Fp16MatchesTheCompilersOwnConversion) {
  for (uint32_t bits = 0; bits < 0xffff0000u; bits += 9973) {
    const float value = std::bit_cast<float>(bits);
    if (std::isnan(value)) continue;
    const _Float16 expected = static_cast<_Float16>(value);
    EXPECT_EQ(ToFp16(value).bits, std::bit_cast<uint16_t>(expected)) << value;
  }
}

TEST(DType, Bf16RoundsToNearestEven) {
  EXPECT_EQ(ToBf16(1.0f).bits, 0x3f80);
  EXPECT_EQ(ToBf16(std::bit_cast<float>(0x3f808000u)).bits, 0x3f80);  // a tie goes to even
  EXPECT_EQ(ToBf16(std::bit_cast<float>(0x3f818000u)).bits, 0x3f82);
  EXPECT_TRUE(std::isnan(ToFloat(ToBf16(std::nanf("")))));
  EXPECT_TRUE(std::isinf(ToFloat(ToBf16(std::bit_cast<float>(0x7f7fffffu)))));
}

TEST(DType, RowBytesRefusesPartialBlocks) {
  EXPECT_EQ(RowBytes(DType::kQ4_K, 512), 288);
  EXPECT_EQ(RowBytes(DType::kQ4_K, 500), -1);
  EXPECT_EQ(RowBytes(DType::kF32, 3), 12);
}

}  // namespace
}  // namespace lectern
