// attention/cpu/vector_scalar-inl.h: the vector functions of the -inl.h files on four floats, in plain C++.

typedef float F __attribute__((vector_size(16)));
typedef int32_t I __attribute__((vector_size(16)));
constexpr int kLanes = 4;
constexpr int kRegisters = 16;
constexpr int kRowBlock = 4;  // 8 accumulators of 16 registers: products take registers of their own

inline F Load(const float* p) {
  F v;
  __builtin_memcpy(&v, p, sizeof(v));
  return v;
}
inline void Store(float* p, F v) { __builtin_memcpy(p, &v, sizeof(v)); }
inline F Set(float x) { return F{x, x, x, x}; }
inline F Add(F a, F b) { return a + b; }
inline F Sub(F a, F b) { return a - b; }
inline F Mul(F a, F b) { return a * b; }
inline F Div(F a, F b) { return a / b; }
inline F Max(F a, F b) { return a > b ? a : b; }
inline F Fma(F a, F b, F c) { return a * b + c; }
inline void MulAdd(F& acc, F a, F b) { acc = a * b + acc; }
inline F FromBits(I bits) {
  F v;
  __builtin_memcpy(&v, &bits, sizeof(v));
  return v;
}
inline I Bits(F v) {
  I bits;
  __builtin_memcpy(&bits, &v, sizeof(bits));
  return bits;
}
inline F ExponentOf(F x) { return FromBits(Bits(x) << 23); }
inline F Keep(F x, int first, int lo, int hi) {
  const I column = I{first, first + 1, first + 2, first + 3};
  return (column >= lo) & (column < hi) ? x : Set(-__builtin_inff());
}
inline float ReduceMax(F v) {
  float best = v[0];
  for (int i = 1; i < kLanes; ++i) best = v[i] > best ? v[i] : best;
  return best;
}
inline float ReduceAdd(F v) { return (v[0] + v[1]) + (v[2] + v[3]); }
inline uint16_t RoundBf16(float x) {
  uint32_t bits;
  __builtin_memcpy(&bits, &x, sizeof(bits));
  return static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}
inline F LoadEven(const uint32_t* p) { return FromBits(Bits(Load(reinterpret_cast<const float*>(p))) << 16); }
inline F LoadOdd(const uint32_t* p) {
  return FromBits(Bits(Load(reinterpret_cast<const float*>(p))) & static_cast<int32_t>(0xffff0000));
}
inline F LoadBf16(const uint16_t* p) {
  I bits = {p[0], p[1], p[2], p[3]};
  return FromBits(bits << 16);
}
inline void StoreBf16(uint16_t* p, F v) {
  for (int i = 0; i < kLanes; ++i) p[i] = RoundBf16(v[i]);
}
