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
}  // namespace
}  // namespace lectern::index::avx512

#include "index/cpu/dense-inl.h"
