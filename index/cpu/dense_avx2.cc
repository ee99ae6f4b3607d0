// index/cpu/dense_avx2.cc: the avx2 target of the inner products; bytes are widened, since VPMADDUBSW would saturate.
#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "index/cpu/dense_kernels.h"

#define LECTERN_TARGET_NAMESPACE avx2
namespace lectern::index::avx2 {
namespace {
constexpr int64_t kLanes = 8;
inline int32_t DotBytes(const uint8_t* a, const int8_t* b, int64_t n) {
  __m256i sum = _mm256_setzero_si256(), more = sum;
  for (int64_t i = 0; i < n; i += 32) {
    const __m256i a0 = _mm256_cvtepu8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(a + i)));
    const __m256i b0 = _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(b + i)));
    const __m256i a1 = _mm256_cvtepu8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(a + i + 16)));
    const __m256i b1 = _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(b + i + 16)));
    sum = _mm256_add_epi32(sum, _mm256_madd_epi16(a0, b0));
    more = _mm256_add_epi32(more, _mm256_madd_epi16(a1, b1));
  }
  sum = _mm256_add_epi32(sum, more);
  __m128i half = _mm_add_epi32(_mm256_castsi256_si128(sum), _mm256_extracti128_si256(sum, 1));
  half = _mm_add_epi32(half, _mm_shuffle_epi32(half, 0x4e));
  half = _mm_add_epi32(half, _mm_shuffle_epi32(half, 0xb1));
  return _mm_cvtsi128_si32(half);
}
int32_t DotCodes(const uint8_t* a, const uint8_t* b, int64_t n) {
  const __m256i bias = _mm256_set1_epi16(128);
  __m256i sum = _mm256_setzero_si256();
  for (int64_t i = 0; i < n; i += 16) {
    const __m256i a0 = _mm256_cvtepu8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(a + i)));
    const __m256i b0 = _mm256_cvtepu8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(b + i)));
    sum = _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_sub_epi16(a0, bias), _mm256_sub_epi16(b0, bias)));
  }
  __m128i half = _mm_add_epi32(_mm256_castsi256_si128(sum), _mm256_extracti128_si256(sum, 1));
  half = _mm_add_epi32(half, _mm_shuffle_epi32(half, 0x4e));
  half = _mm_add_epi32(half, _mm_shuffle_epi32(half, 0xb1));
  return _mm_cvtsi128_si32(half);
}
}  // namespace
}  // namespace lectern::index::avx2

#include "index/cpu/dense-inl.h"
