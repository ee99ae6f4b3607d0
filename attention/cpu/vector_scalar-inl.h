// attention/cpu/vector_scalar-inl.h: the vector functions of the -inl.h files on four floats, in plain C++.

typedef float F __attribute__((vector_size(16)));
typedef int32_t I __attribute__((vector_size(16)));
constexpr int kLanes = 4;
constexpr int kRowBlock = 4;  // 8 accumulators of 16 registers

inline F Load(const float* p) {
  F v;
  __builtin_memcpy(&v, p, sizeof(v));
  return v;
}
inline void Store(float* p, F v) { __builtin_memcpy(p, &v, sizeof(v)); }
inline F Set(float x) { return F{x, x, x, x}; }
inline F Add(F a, F b) { return a + b; }
inline F Mul(F a, F b) { return a * b; }
inline F Div(F a, F b) { return a / b; }
inline F Max(F a, F b) { return a > b ? a : b; }
inline F Fma(F a, F b, F c) { return a * b + c; }
inline F Round(F x) {  // |x| < 2^22: adding 1.5 * 2^23 leaves the nearest integer in the low bits
  const F magic = Set(12582912.0f);
  return (x + magic) - magic;
}
inline F Scale2(F x, F n) {
  const I exponent = (__builtin_convertvector(n, I) + 127) << 23;  // n in -127..128 here: 0 at -127
  F power;
  __builtin_memcpy(&power, &exponent, sizeof(power));
  return x * power;
}
inline F Keep(F x, int first, int lo, int hi) {
  const I column = I{first, first + 1, first + 2, first + 3};
  return (column >= lo) & (column < hi) ? x : Set(-__builtin_inff());
}
inline F ZeroBelow(F x, F limit, F value) { return x >= limit ? value : Set(0.0f); }
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
inline F FromBits(I bits) {
  F v;
  __builtin_memcpy(&v, &bits, sizeof(v));
  return v;
}
inline F LoadBf16(const uint16_t* p) {
  I bits = {p[0], p[1], p[2], p[3]};
  return FromBits(bits << 16);
}
inline void StoreBf16(uint16_t* p, F v) {
  for (int i = 0; i < kLanes; ++i) p[i] = RoundBf16(v[i]);
}
