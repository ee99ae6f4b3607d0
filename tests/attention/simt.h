// tests/attention/simt.h: a block of CUDA threads on the host, so that kernel code without special instructions is tested without a
// device.
//
//   #include "tests/attention/simt.h"         // before the .cuh under test: it stands in for the compiler's names
//   #include "attention/cuda/choose.cuh"
//   simt::RunBlock(256, seed, [&] { ... threadIdx.x ... __syncthreads() ... __shfl_sync(...) ... });
//
// Shapes:  one block of whole warps; all lanes of a warp take part in a warp's instruction, as full masks demand.
// Threads: one; a CUDA thread is a fibre. Between barriers the fibres run in an order drawn from the seed, so that a result which
//          leans on the order of threads differs from seed to seed.
// Errors:  a block whose threads wait for different things ends the test program.
// Cost:    about a microsecond a thread and barrier.
#pragma once

#include <ucontext.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <numeric>
#include <random>
#include <vector>

#define __device__
#define __forceinline__ inline
#define __align__(n) alignas(n)

struct int2 {
  int x, y;
};
struct uint2 {
  unsigned x, y;
};
struct int4 {
  int x, y, z, w;
};
struct uint4 {
  unsigned x, y, z, w;
};
struct float2 {
  float x, y;
};
inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
inline int4 make_int4(int x, int y, int z, int w) { return {x, y, z, w}; }
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }
using std::max;
using std::min;

namespace simt {

struct Index {
  unsigned x;
};

class Block {
 public:
  Block(int threads, unsigned seed, const std::function<void()>& body) : body_(body), random_(seed), fibres_(threads) {
    current_block = this;
    for (Fibre& f : fibres_) {
      f.stack.resize(64 << 10);
      getcontext(&f.context);
      f.context.uc_stack.ss_sp = f.stack.data();
      f.context.uc_stack.ss_size = f.stack.size();
      f.context.uc_link = &main_;
      makecontext(&f.context, [] { current_block->body_(); current_block->fibres_[current_block->current_].state = kEnded; }, 0);
    }
    std::vector<int> order(threads);
    std::iota(order.begin(), order.end(), 0);
    for (bool any = true; any;) {
      any = false;
      std::shuffle(order.begin(), order.end(), random_);
      for (const int t : order) {
        if (fibres_[t].state != kReady) continue;
        any = true;
        current_ = t;
        swapcontext(&main_, &fibres_[t].context);
      }
      any |= Release();
    }
    for (const Fibre& f : fibres_) {
      if (f.state == kEnded) continue;
      std::fprintf(stderr, "simt: threads of one block wait for different things\n");
      std::abort();
    }
    current_block = nullptr;
  }

  void Wait(bool warp_alone) {
    fibres_[current_].state = warp_alone ? kAtWarp : kAtBlock;
    swapcontext(&fibres_[current_].context, &main_);
  }
  unsigned current() const { return static_cast<unsigned>(current_); }
  // What the lanes of the current thread's warp say in one instruction.
  const long long* Exchange(long long mine) {
    Fibre& f = fibres_[current_];
    f.said[f.turn % 2] = mine;
    const int turn = f.turn++;
    Wait(/*warp_alone=*/true);
    const int first = current_ / 32 * 32;
    for (int i = 0; i < 32; ++i) lanes_[i] = fibres_[first + i].said[turn % 2];
    return lanes_;
  }

  static inline Block* current_block = nullptr;

 private:
  enum State { kReady, kAtWarp, kAtBlock, kEnded };
  struct Fibre {
    ucontext_t context;
    std::vector<char> stack;
    State state = kReady;
    int turn = 0;
    long long said[2] = {};  // the lanes before may be one instruction ahead
  };

  bool Release() {
    bool any = false;
    for (size_t w = 0; w < fibres_.size(); w += 32) {
      const auto begin = fibres_.begin() + static_cast<std::ptrdiff_t>(w), end = begin + 32;
      if (!std::all_of(begin, end, [](const Fibre& f) { return f.state == kAtWarp; })) continue;
      std::for_each(begin, end, [](Fibre& f) { f.state = kReady; });
      any = true;
    }
    if (std::all_of(fibres_.begin(), fibres_.end(), [](const Fibre& f) { return f.state == kAtBlock; })) {
      for (Fibre& f : fibres_) f.state = kReady;
      any = true;
    }
    return any;
  }

  std::function<void()> body_;
  std::mt19937 random_;
  std::vector<Fibre> fibres_;
  ucontext_t main_;
  int current_ = 0;
  long long lanes_[32];
};

inline void RunBlock(int threads, unsigned seed, const std::function<void()>& body) { Block block(threads, seed, body); }

struct ThreadIndex {
  struct X {
    operator unsigned() const { return Block::current_block->current(); }
  } x;
};

template <class T>
long long Bits(T value) {
  long long bits = 0;
  std::memcpy(&bits, &value, sizeof(value));
  return bits;
}
template <class T>
T Value(long long bits) {
  T value;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}
template <class T>
const long long* Say(T value) {
  return Block::current_block->Exchange(Bits(value));
}
template <class T, class Join>
T Reduce(T value, const Join& join) {
  const long long* lanes = Say(value);
  T all = Value<T>(lanes[0]);
  for (int i = 1; i < 32; ++i) all = join(all, Value<T>(lanes[i]));
  return all;
}

}  // namespace simt

inline const simt::ThreadIndex threadIdx;
inline int simt_lane() { return static_cast<int>(threadIdx.x % 32); }

inline void __syncthreads() { simt::Block::current_block->Wait(/*warp_alone=*/false); }
template <class T>
T __shfl_sync(unsigned, T value, int from) {
  return simt::Value<T>(simt::Say(value)[from % 32]);
}
template <class T>
T __shfl_up_sync(unsigned, T value, int by) {
  const int lane = simt_lane();
  return simt::Value<T>(simt::Say(value)[lane >= by ? lane - by : lane]);
}
template <class T>
T __shfl_xor_sync(unsigned, T value, int by) {
  const int lane = simt_lane();
  return simt::Value<T>(simt::Say(value)[lane ^ by]);
}
inline unsigned __ballot_sync(unsigned, bool value) {
  const long long* lanes = simt::Say(value);
  unsigned bits = 0;
  for (int i = 0; i < 32; ++i) bits |= (lanes[i] != 0 ? 1u : 0u) << i;
  return bits;
}
template <class T>
T __reduce_min_sync(unsigned, T value) {
  return simt::Reduce(value, [](T a, T b) { return std::min(a, b); });
}
template <class T>
T __reduce_max_sync(unsigned, T value) {
  return simt::Reduce(value, [](T a, T b) { return std::max(a, b); });
}
template <class T>
T __reduce_add_sync(unsigned, T value) {
  return simt::Reduce(value, [](T a, T b) { return a + b; });
}
inline int atomicAdd(int* to, int value) {
  const int before = *to;
  *to += value;
  return before;
}
inline int __popc(unsigned x) { return std::popcount(x); }
inline int __ffs(unsigned x) { return x == 0 ? 0 : std::countr_zero(x) + 1; }
inline unsigned __float_as_uint(float x) { return std::bit_cast<unsigned>(x); }
inline float __uint_as_float(unsigned x) { return std::bit_cast<float>(x); }
inline float __fdividef(float x, float y) { return x / y; }
inline unsigned __umulhi(unsigned x, unsigned y) { return static_cast<unsigned>(static_cast<unsigned long long>(x) * y >> 32); }
