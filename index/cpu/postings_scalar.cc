#include "index/cpu/postings_kernels.h"

#include <cstring>

namespace lectern::index {
namespace {

uint32_t Value(const uint8_t* packed, int bits, int i) {
  const size_t bit = static_cast<size_t>(i) * static_cast<size_t>(bits);
  uint64_t word;
  std::memcpy(&word, packed + (bit >> 3), 8);
  return static_cast<uint32_t>((word >> (bit & 7)) & ((uint64_t{1} << bits) - 1));
}

void Unpack(const uint8_t* packed, int bits, int count, uint32_t add, uint32_t* out) {
  for (int i = 0; i < count; ++i) out[i] = Value(packed, bits, i) + add;
}

void UnpackAscending(const uint8_t* packed, int bits, int count, uint32_t first, uint32_t* out) {
  for (int i = 0; i < count; ++i) out[i] = first += Value(packed, bits, i) + 1;
}

uint32_t Contribution(uint32_t tf_count, uint32_t length, const ScoreTerms& t) {
  const float tf = static_cast<float>(static_cast<int32_t>(tf_count));
  const float scaled = t.slope * static_cast<float>(static_cast<int32_t>(length));
  const float norm = t.base + scaled;
  const float numerator = t.weight * tf;
  const float denominator = tf + norm;
  return 1 + static_cast<uint32_t>(static_cast<int32_t>(numerator / denominator));
}

void Score(const uint32_t* docs, const uint32_t* tf, int count, const uint32_t* lengths, const ScoreTerms& terms,
           uint32_t* contribution) {
  for (int i = 0; i < count; ++i) contribution[i] = Contribution(tf[i], lengths[docs[i]], terms);
}

void ScorePairs(const uint32_t* tf, const uint32_t* length, int count, const ScoreTerms& terms, uint32_t* contribution) {
  for (int i = 0; i < count; ++i) contribution[i] = Contribution(tf[i], length[i], terms);
}

int Collect(const uint32_t* accumulated, int count, uint32_t least, uint32_t* positions) {
  int found = 0;
  for (int i = 0; i < count; ++i) {
    positions[found] = static_cast<uint32_t>(i);
    found += accumulated[i] >= least;
  }
  return found;
}

}  // namespace

const PostingsKernels* PostingsKernelsScalar() {
  static constexpr PostingsKernels kTable{"scalar", Unpack, UnpackAscending, Score, ScorePairs, Collect};
  return &kTable;
}

}  // namespace lectern::index
