// base/rng.h: counter-based random bits: the same (seed, stream, counter) gives the same bits anywhere.
//
//   Rng rng(/*seed=*/7, /*stream=*/step);
//   uint64_t bits = rng.Next();  double u = rng.Uniform();  int64_t i = rng.Below(n);
//
// Shapes:  one 64-bit value a call.
// Threads: one Rng a thread; copies repeat the same sequence.
// Errors:  Below(n) REQUIRES n >= 1.
// Cost:    a few multiplications (SplitMix64 finaliser over a keyed counter).
#pragma once

#include <cmath>
#include <cstdint>

namespace lectern {

class Rng {
 public:
  explicit Rng(uint64_t seed, uint64_t stream = 0) : key_(Mix(seed ^ Mix(stream + 0x9e3779b97f4a7c15u))) {}
  uint64_t Next() { return Mix(key_ + 0x9e3779b97f4a7c15u * ++counter_); }
  double Uniform() { return static_cast<double>(Next() >> 11) * 0x1p-53; }  // [0, 1)
  int64_t Below(int64_t n) {
    return static_cast<int64_t>((static_cast<unsigned __int128>(Next()) * static_cast<uint64_t>(n)) >> 64);
  }
  double Normal() {  // Box-Muller; the first of the pair
    const double u = 1.0 - Uniform(), v = Uniform();
    return std::sqrt(-2.0 * std::log(u)) * std::cos(6.283185307179586 * v);
  }

 private:
  static uint64_t Mix(uint64_t z) {
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
  }
  uint64_t key_;
  uint64_t counter_ = 0;
};

}  // namespace lectern
