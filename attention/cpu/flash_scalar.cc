// The kernel in plain C++ on vectors of four, which every x86-64 (and any other CPU) has.
#include <cstddef>
#include <cstdint>

#include "attention/cpu/flash_args.h"

namespace lectern::attention::scalar {
void FlashF32(const FlashTile&);
void FlashBf16(const FlashTile&);
void KeyMassF32(const KeyMassTile&);
void KeyMassBf16(const KeyMassTile&);

namespace {

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
inline F FromBits(I bits) {
  F v;
  __builtin_memcpy(&v, &bits, sizeof(v));
  return v;
}

#include "attention/cpu/flash-inl.h"

struct Bf16Lane : FloatRows {
  static constexpr int kPack = 2;
  struct B {
    F even, odd;
  };
  static B Split(I bits) { return {FromBits(bits << 16), FromBits(bits & static_cast<int32_t>(0xffff0000))}; }
  static B LoadLanes(const uint32_t* p) {
    I bits;
    __builtin_memcpy(&bits, p, sizeof(bits));
    return Split(bits);
  }
  static B Broadcast(const uint32_t* p) {
    const auto* row = reinterpret_cast<const float*>(p);
    return {Set(row[0]), Set(row[1])};
  }
  static F Dot(F acc, const B& a, const B& b) { return Fma(a.odd, b.odd, Fma(a.even, b.even, acc)); }
};

}  // namespace

void FlashF32(const FlashTile& tile) { Flash<F32Lane>(tile); }
void FlashBf16(const FlashTile& tile) { Flash<Bf16Lane>(tile); }
void KeyMassF32(const KeyMassTile& tile) { KeyMass<F32Lane>(tile); }
void KeyMassBf16(const KeyMassTile& tile) { KeyMass<Bf16Lane>(tile); }

}  // namespace lectern::attention::scalar
