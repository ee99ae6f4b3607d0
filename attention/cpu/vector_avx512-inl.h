// attention/cpu/vector_avx512-inl.h: the vector functions of the -inl.h files on 16 floats.

using F = __m512;
constexpr int kLanes = 16;
constexpr int kRegisters = 32;
constexpr int kRowBlock = 12;  // 24 accumulators, 2 columns, 1 broadcast, 1 mask

inline F Load(const float* p) { return _mm512_loadu_ps(p); }
inline void Store(float* p, F v) { _mm512_storeu_ps(p, v); }
inline F Set(float x) { return _mm512_set1_ps(x); }
inline F Add(F a, F b) { return _mm512_add_ps(a, b); }
inline F Sub(F a, F b) { return _mm512_sub_ps(a, b); }
inline F Mul(F a, F b) { return _mm512_mul_ps(a, b); }
inline F Div(F a, F b) { return _mm512_div_ps(a, b); }
inline F Max(F a, F b) { return _mm512_max_ps(a, b); }
inline F Fma(F a, F b, F c) { return _mm512_fmadd_ps(a, b, c); }
inline void MulAdd(F& acc, F a, F b) { acc = _mm512_fmadd_ps(a, b, acc); }
inline F ExponentOf(F x) { return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_castps_si512(x), 23)); }
inline F Keep(F x, int first, int lo, int hi) {
  const __m512i column = _mm512_add_epi32(_mm512_set1_epi32(first),
                                          _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15));
  const __mmask16 inside = _mm512_cmpge_epi32_mask(column, _mm512_set1_epi32(lo)) &
                           _mm512_cmplt_epi32_mask(column, _mm512_set1_epi32(hi));
  return _mm512_mask_blend_ps(inside, Set(-__builtin_inff()), x);
}
inline float ReduceMax(F v) { return _mm512_reduce_max_ps(v); }
inline float ReduceAdd(F v) { return _mm512_reduce_add_ps(v); }
inline uint16_t RoundBf16(float x) {
  uint32_t bits;
  __builtin_memcpy(&bits, &x, sizeof(bits));
  return static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}
inline F LoadEven(const uint32_t* p) { return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_loadu_si512(p), 16)); }
inline F LoadOdd(const uint32_t* p) {
  return _mm512_castsi512_ps(_mm512_and_si512(_mm512_loadu_si512(p), _mm512_set1_epi32(static_cast<int>(0xffff0000))));
}
inline F LoadBf16(const uint16_t* p) {
  const __m512i bits = _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  return _mm512_castsi512_ps(_mm512_slli_epi32(bits, 16));
}
inline void StoreBf16(uint16_t* p, F v) {
  const __m512i bits = _mm512_castps_si512(v);
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  const __m512i rounded =
      _mm512_srli_epi32(_mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff)), odd), 16);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtepi32_epi16(rounded));
}
