// index/cpu/dense_avx512.cc: the avx512 target of the inner products: VPDPBUSD sums 64 byte products an instruction.
#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "index/cpu/dense_kernels.h"

#define LECTERN_TARGET_NAMESPACE avx512
namespace lectern::index::avx512 {
namespace {
constexpr int64_t kLanes = 16;
inline int32_t DotBytes(const uint8_t* a, const int8_t* b, int64_t n) {
  __m512i s0 = _mm512_setzero_si512(), s1 = s0;
  int64_t i = 0;
  for (; i + 128 <= n; i += 128) {
    s0 = _mm512_dpbusd_epi32(s0, _mm512_loadu_si512(a + i), _mm512_loadu_si512(b + i));
    s1 = _mm512_dpbusd_epi32(s1, _mm512_loadu_si512(a + i + 64), _mm512_loadu_si512(b + i + 64));
  }
  for (; i < n; i += 64) s0 = _mm512_dpbusd_epi32(s0, _mm512_loadu_si512(a + i), _mm512_loadu_si512(b + i));
  return _mm512_reduce_add_epi32(_mm512_add_epi32(s0, s1));
}
int32_t DotCodes(const uint8_t* a, const uint8_t* b, int64_t n) {
  // a (b - 128) less 128 times the sum of b - 128.
  const __m512i bias = _mm512_set1_epi8(-128);
  __m512i products = _mm512_setzero_si512(), sums = products;
  for (int64_t i = 0; i < n; i += 64) {
    const __m512i signed_b = _mm512_xor_si512(_mm512_loadu_si512(b + i), bias);
    products = _mm512_dpbusd_epi32(products, _mm512_loadu_si512(a + i), signed_b);
    sums = _mm512_dpbusd_epi32(sums, bias, signed_b);  // the bits of -128 are those of 128 unsigned
  }
  return _mm512_reduce_add_epi32(_mm512_sub_epi32(products, sums));
}
}  // namespace
}  // namespace lectern::index::avx512

#include "index/cpu/dense-inl.h"
