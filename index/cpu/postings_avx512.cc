// As the AVX2 form with sixteen values a step: four 16-byte loads (values 0-3, 4-7, 8-11, 12-15).
#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "index/cpu/postings_kernels.h"

namespace lectern::index {
namespace {

constexpr int kMaxShuffledBits = 25;

struct Tables {
  alignas(64) uint8_t shuffle[kMaxShuffledBits + 1][64];
  alignas(64) uint32_t shift[kMaxShuffledBits + 1][16];
  int at[kMaxShuffledBits + 1][4];
};
constexpr Tables MakeTables() {
  Tables t{};
  for (int bits = 0; bits <= kMaxShuffledBits; ++bits) {
    for (int i = 0; i < 16; ++i) {
      t.at[bits][i / 4] = (i / 4) * 4 * bits / 8;
      const int bit = i * bits - 8 * t.at[bits][i / 4];
      t.shift[bits][i] = static_cast<uint32_t>(bit % 8);
      for (int byte = 0; byte < 4; ++byte) t.shuffle[bits][4 * i + byte] = static_cast<uint8_t>(bit / 8 + byte);
    }
  }
  return t;
}
constexpr Tables kTables = MakeTables();

inline uint32_t Value(const uint8_t* packed, int bits, int i) {
  const size_t bit = static_cast<size_t>(i) * static_cast<size_t>(bits);
  uint64_t word;
  __builtin_memcpy(&word, packed + (bit >> 3), 8);
  return static_cast<uint32_t>((word >> (bit & 7)) & ((uint64_t{1} << bits) - 1));
}

struct Shape {
  const int* at;
  __m512i shuffle, shift, mask;
  explicit Shape(int bits)
      : at(kTables.at[bits]),
        shuffle(_mm512_load_si512(kTables.shuffle[bits])),
        shift(_mm512_load_si512(kTables.shift[bits])),
        mask(_mm512_set1_epi32(static_cast<int>((uint32_t{1} << bits) - 1))) {}
  __m512i Sixteen(const uint8_t* from) const {
    auto load = [from, this](int part) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(from + at[part])); };
    const __m256i low = _mm256_inserti128_si256(_mm256_castsi128_si256(load(0)), load(1), 1);
    const __m256i high = _mm256_inserti128_si256(_mm256_castsi128_si256(load(2)), load(3), 1);
    const __m512i all = _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
    return _mm512_and_si512(_mm512_srlv_epi32(_mm512_shuffle_epi8(all, shuffle), shift), mask);
  }
};

void Unpack(const uint8_t* packed, int bits, int count, uint32_t add, uint32_t* out) {
  const __m512i plus = _mm512_set1_epi32(static_cast<int>(add));
  if (bits == 0) {
    for (int i = 0; i < count; i += 16) _mm512_storeu_si512(out + i, plus);
    return;
  }
  if (bits > kMaxShuffledBits) {
    for (int i = 0; i < count; ++i) out[i] = Value(packed, bits, i) + add;
    return;
  }
  const Shape shape(bits);
  for (int i = 0; i < count; i += 16, packed += 2 * bits) {
    _mm512_storeu_si512(out + i, _mm512_add_epi32(shape.Sixteen(packed), plus));
  }
}

void UnpackAscending(const uint8_t* packed, int bits, int count, uint32_t first, uint32_t* out) {
  if (bits > kMaxShuffledBits) {
    for (int i = 0; i < count; ++i) out[i] = first += Value(packed, bits, i) + 1;
    return;
  }
  const Shape shape(bits);
  const __m512i ramp = _mm512_setr_epi32(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16);
  const __m512i zero = _mm512_setzero_si512();
  const __m512i last = _mm512_set1_epi32(15);
  __m512i before = _mm512_set1_epi32(static_cast<int>(first));
  for (int i = 0; i < count; i += 16, packed += 2 * bits) {
    __m512i v = shape.Sixteen(packed);
    v = _mm512_add_epi32(v, _mm512_alignr_epi32(v, zero, 15));
    v = _mm512_add_epi32(v, _mm512_alignr_epi32(v, zero, 14));
    v = _mm512_add_epi32(v, _mm512_alignr_epi32(v, zero, 12));
    v = _mm512_add_epi32(v, _mm512_alignr_epi32(v, zero, 8));
    v = _mm512_add_epi32(v, _mm512_add_epi32(before, ramp));
    _mm512_storeu_si512(out + i, v);
    before = _mm512_permutexvar_epi32(last, v);
  }
}

inline __m512i Contributions(__m512i tf_count, __m512i length, __m512 weight, __m512 base, __m512 slope) {
  const __m512 tf = _mm512_cvtepi32_ps(tf_count);
  const __m512 norm = _mm512_add_ps(base, _mm512_mul_ps(slope, _mm512_cvtepi32_ps(length)));
  const __m512 quotient = _mm512_div_ps(_mm512_mul_ps(weight, tf), _mm512_add_ps(tf, norm));
  return _mm512_add_epi32(_mm512_cvttps_epi32(quotient), _mm512_set1_epi32(1));
}

void Score(const uint32_t* docs, const uint32_t* tf, int count, const uint32_t* lengths, const ScoreTerms& terms,
           uint32_t* contribution) {
  const __m512 weight = _mm512_set1_ps(terms.weight), base = _mm512_set1_ps(terms.base),
               slope = _mm512_set1_ps(terms.slope);
  // All lengths first, by scalar loads (a gather of sixteen is no faster on this generation); the vector loads come long
  // after the stores they read.
  alignas(64) uint32_t length[kBlockSize + 16];
  for (int begin = 0; begin < count; begin += kBlockSize) {
    const int end = count - begin < kBlockSize ? count - begin : kBlockSize;
    for (int i = 0; i < end; ++i) length[i] = lengths[docs[begin + i]];
    for (int i = end; i < (end + 15) / 16 * 16; ++i) length[i] = 0;
    for (int i = 0; i < end; i += 16) {
      _mm512_storeu_si512(contribution + begin + i, Contributions(_mm512_loadu_si512(tf + begin + i),
                                                                  _mm512_load_si512(length + i), weight, base, slope));
    }
  }
}

void ScorePairs(const uint32_t* tf, const uint32_t* length, int count, const ScoreTerms& terms, uint32_t* contribution) {
  const __m512 weight = _mm512_set1_ps(terms.weight), base = _mm512_set1_ps(terms.base),
               slope = _mm512_set1_ps(terms.slope);
  for (int i = 0; i < count; i += 16) {
    _mm512_storeu_si512(contribution + i, Contributions(_mm512_loadu_si512(tf + i), _mm512_loadu_si512(length + i),
                                                        weight, base, slope));
  }
}

int Collect(const uint32_t* accumulated, int count, uint32_t least, uint32_t* positions) {
  int found = 0;
  const __m512i bound = _mm512_set1_epi32(static_cast<int>(least));
  for (int i = 0; i < count; i += 16) {
    unsigned mask = _mm512_cmpge_epu32_mask(_mm512_loadu_si512(accumulated + i), bound);
    for (; mask != 0; mask &= mask - 1) positions[found++] = static_cast<uint32_t>(i + __builtin_ctz(mask));
  }
  return found;
}

}  // namespace

const PostingsKernels* PostingsKernelsAvx512() {
  static constexpr PostingsKernels kTable{"avx512", Unpack, UnpackAscending, Score, ScorePairs, Collect};
  return &kTable;
}

}  // namespace lectern::index
