// Eight values of `bits` bits fill `bits` whole bytes. Two 16-byte loads (values 0-3 and 4-7), one byte shuffle that
// brings the four bytes holding a value into its lane, one variable shift, one mask. Values wider than 25 bits can
// straddle five bytes and take the scalar way; gaps that wide are rare (33 million chunks apart).
#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "index/cpu/postings_kernels.h"

namespace lectern::index {
namespace {

constexpr int kMaxShuffledBits = 25;

struct Tables {
  alignas(32) uint8_t shuffle[kMaxShuffledBits + 1][32];
  alignas(32) uint32_t shift[kMaxShuffledBits + 1][8];
  int second[kMaxShuffledBits + 1];  // byte where the load for values 4-7 begins
};
constexpr Tables MakeTables() {
  Tables t{};
  for (int bits = 0; bits <= kMaxShuffledBits; ++bits) {
    t.second[bits] = 4 * bits / 8;
    for (int i = 0; i < 8; ++i) {
      const int bit = i * bits - (i < 4 ? 0 : 8 * t.second[bits]);
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

inline __m256i Eight(const uint8_t* at, int second, __m256i shuffle, __m256i shift, __m256i mask) {
  const __m128i low = _mm_loadu_si128(reinterpret_cast<const __m128i*>(at));
  const __m128i high = _mm_loadu_si128(reinterpret_cast<const __m128i*>(at + second));
  const __m256i both = _mm256_inserti128_si256(_mm256_castsi128_si256(low), high, 1);
  return _mm256_and_si256(_mm256_srlv_epi32(_mm256_shuffle_epi8(both, shuffle), shift), mask);
}

void Unpack(const uint8_t* packed, int bits, int count, uint32_t add, uint32_t* out) {
  if (bits > kMaxShuffledBits) {
    for (int i = 0; i < count; ++i) out[i] = Value(packed, bits, i) + add;
    return;
  }
  const __m256i shuffle = _mm256_load_si256(reinterpret_cast<const __m256i*>(kTables.shuffle[bits]));
  const __m256i shift = _mm256_load_si256(reinterpret_cast<const __m256i*>(kTables.shift[bits]));
  const __m256i mask = _mm256_set1_epi32(static_cast<int>((uint32_t{1} << bits) - 1));
  const __m256i plus = _mm256_set1_epi32(static_cast<int>(add));
  const int second = kTables.second[bits];
  for (int i = 0; i < count; i += 8, packed += bits) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + i),
                        _mm256_add_epi32(Eight(packed, second, shuffle, shift, mask), plus));
  }
}

void UnpackAscending(const uint8_t* packed, int bits, int count, uint32_t first, uint32_t* out) {
  if (bits > kMaxShuffledBits) {
    for (int i = 0; i < count; ++i) out[i] = first += Value(packed, bits, i) + 1;
    return;
  }
  const __m256i shuffle = _mm256_load_si256(reinterpret_cast<const __m256i*>(kTables.shuffle[bits]));
  const __m256i shift = _mm256_load_si256(reinterpret_cast<const __m256i*>(kTables.shift[bits]));
  const __m256i mask = _mm256_set1_epi32(static_cast<int>((uint32_t{1} << bits) - 1));
  const __m256i ramp = _mm256_setr_epi32(1, 2, 3, 4, 5, 6, 7, 8);  // the ones that gaps leave out
  const int second = kTables.second[bits];
  __m256i before = _mm256_set1_epi32(static_cast<int>(first));
  for (int i = 0; i < count; i += 8, packed += bits) {
    __m256i v = Eight(packed, second, shuffle, shift, mask);
    v = _mm256_add_epi32(v, _mm256_slli_si256(v, 4));
    v = _mm256_add_epi32(v, _mm256_slli_si256(v, 8));
    // The low half's total goes to the high half.
    const __m256i low_total = _mm256_permute2x128_si256(_mm256_shuffle_epi32(v, 0xFF), v, 0x08);
    v = _mm256_add_epi32(_mm256_add_epi32(v, low_total), _mm256_add_epi32(before, ramp));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + i), v);
    before = _mm256_permutevar8x32_epi32(v, _mm256_set1_epi32(7));
  }
}

inline __m256i Contributions(__m256i tf_count, __m256i length, __m256 weight, __m256 base, __m256 slope) {
  const __m256 tf = _mm256_cvtepi32_ps(tf_count);
  const __m256 norm = _mm256_add_ps(base, _mm256_mul_ps(slope, _mm256_cvtepi32_ps(length)));
  const __m256 quotient = _mm256_div_ps(_mm256_mul_ps(weight, tf), _mm256_add_ps(tf, norm));
  return _mm256_add_epi32(_mm256_cvttps_epi32(quotient), _mm256_set1_epi32(1));
}

void Score(const uint32_t* docs, const uint32_t* tf, int count, const uint32_t* lengths, const ScoreTerms& terms,
           uint32_t* contribution) {
  const __m256 weight = _mm256_set1_ps(terms.weight), base = _mm256_set1_ps(terms.base),
               slope = _mm256_set1_ps(terms.slope);
  // All lengths first, by scalar loads (no slower than gathers, and faster on older AMD cores); the vector loads come
  // long after the stores they read.
  alignas(32) uint32_t length[kBlockSize + 8];
  for (int begin = 0; begin < count; begin += kBlockSize) {
    const int end = count - begin < kBlockSize ? count - begin : kBlockSize;
    for (int i = 0; i < end; ++i) length[i] = lengths[docs[begin + i]];
    for (int i = end; i < (end + 7) / 8 * 8; ++i) length[i] = 0;
    for (int i = 0; i < end; i += 8) {
      const __m256i counts = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(tf + begin + i));
      const __m256i own = _mm256_load_si256(reinterpret_cast<const __m256i*>(length + i));
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(contribution + begin + i),
                          Contributions(counts, own, weight, base, slope));
    }
  }
}

void ScorePairs(const uint32_t* tf, const uint32_t* length, int count, const ScoreTerms& terms, uint32_t* contribution) {
  const __m256 weight = _mm256_set1_ps(terms.weight), base = _mm256_set1_ps(terms.base),
               slope = _mm256_set1_ps(terms.slope);
  for (int i = 0; i < count; i += 8) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(contribution + i),
                        Contributions(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(tf + i)),
                                      _mm256_loadu_si256(reinterpret_cast<const __m256i*>(length + i)), weight, base,
                                      slope));
  }
}

int Collect(const uint32_t* accumulated, int count, uint32_t least, uint32_t* positions) {
  int found = 0;
  const __m256i bound = _mm256_set1_epi32(static_cast<int>(least) - 1);  // sums stay below 2^31: signed compare
  for (int i = 0; i < count; i += 8) {
    const __m256i v = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(accumulated + i));
    auto mask = static_cast<unsigned>(_mm256_movemask_ps(_mm256_castsi256_ps(_mm256_cmpgt_epi32(v, bound))));
    for (; mask != 0; mask &= mask - 1) positions[found++] = static_cast<uint32_t>(i + __builtin_ctz(mask));
  }
  return found;
}

}  // namespace

const PostingsKernels* PostingsKernelsAvx2() {
  static constexpr PostingsKernels kTable{"avx2", Unpack, UnpackAscending, Score, ScorePairs, Collect};
  return &kTable;
}

}  // namespace lectern::index
