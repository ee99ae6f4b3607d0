// tests/attention/simt/simt.h: a block of CUDA threads, or a cluster of them, on the host, so that kernel code is tested without a device.
//
//   #include "tests/attention/simt/simt.h"         // before the .cuh under test: it stands in for the compiler's names
//   #include "attention/cuda/choose.cuh"      // kernels with instructions of ptx.cuh: tests/attention/simt/simt_ptx.h instead of simt.h
//   simt::RunBlock(256, seed, [&] { ... threadIdx.x ... __syncthreads() ... __shfl_sync(...) ... });
//   simt::RunCluster({.ctas = 4, .threads = 256, .shared_bytes = n, .shared = memory}, seed, [&] { Kernel(params); });
//
// Shapes:  blocks of whole warps; all lanes of a warp take part in a warp's instruction, as full masks demand. Dynamic shared memory
//          is each CTA's own and holds anything at first.
// Threads: one; a CUDA thread is a fibre. Between barriers CTAs, warps and fibres run in an order drawn from the seed, and some wait
//          longer than others, so that a result which leans on the order of threads differs from seed to seed.
// Errors:  these end the test program: threads that wait for different things, lanes of a warp in different instructions, a cluster's
//          barrier arrived at twice or waited for in vain, a store into a CTA that has not begun or has ended, a byte written behind
//          the dynamic shared memory.
// Cost:    about a tenth of a microsecond a thread and barrier or instruction of a warp.
#pragma once

#include <setjmp.h>
#include <ucontext.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <limits>
#include <memory>
#include <numeric>
#include <random>
#include <vector>

#define __global__
#define __device__
#define __shared__
#define __grid_constant__
#define __forceinline__ inline
#define __align__(n) __attribute__((aligned(n)))
#define __launch_bounds__(n)
#define __maxnreg__(n)

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
struct float4 {
  float x, y, z, w;
};
inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
inline int4 make_int4(int x, int y, int z, int w) { return {x, y, z, w}; }
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }
inline float2 make_float2(float x, float y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
using std::max;
using std::min;

namespace simt {

constexpr int kBehind = 128;  // bytes after the dynamic shared memory that nobody may write

struct Index {
  unsigned x;
};
struct Grid {
  int ctas = 1, threads = 32;
  int shared_bytes = 0;
  char* shared = nullptr;  // [shared_bytes + kBehind]: the kernel's dynamic shared memory; it holds that of the CTA that runs
  int first_block = 0;     // blockIdx.x of the cluster's first CTA
  int all_blocks = 1;      // gridDim.x
};
[[noreturn]] inline void Fail(const char* why) {
  std::fprintf(stderr, "simt: %s\n", why);
  std::abort();
}

class Cluster {
 public:
  Cluster(const Grid& grid, unsigned seed, const std::function<void()>& body)
      : grid_(grid), body_(body), random_(seed), size_(grid.ctas * grid.threads), fibres_(size_), threads_(size_), ctas_(grid.ctas), said_(new Said[size_ / 32][2][32]) {
    current_cluster = this;
    constexpr size_t kStack = 48 << 10;
    static std::unique_ptr<char[]> stacks;  // one cluster's after the other
    static size_t stack_bytes = 0;
    if (stack_bytes < size_ * kStack) stacks.reset(new char[stack_bytes = size_ * kStack]);
    for (size_t i = 0; i < size_; ++i) {
      ucontext_t& context = fibres_[i].begin;
      getcontext(&context);
      context.uc_stack.ss_sp = stacks.get() + i * kStack;
      context.uc_stack.ss_size = kStack;
      context.uc_link = nullptr;
      makecontext(&context, [] { current_cluster->Body(); }, 0);
    }
    for (std::vector<char>& cta : ctas_) {
      cta.resize(Kept());
      for (char& x : cta) x = static_cast<char>(random_());
    }
    std::vector<int> ctas(grid.ctas), warps(grid.threads / 32), lanes(32);
    std::iota(ctas.begin(), ctas.end(), 0);
    std::iota(warps.begin(), warps.end(), 0);
    std::iota(lanes.begin(), lanes.end(), 0);
    for (bool lazy = true;;) {
      bool any = false;
      std::shuffle(ctas.begin(), ctas.end(), random_);
      for (const int cta : ctas) {
        if (lazy && grid.ctas > 1 && random_() % 4 == 0) continue;
        Enter(cta);
        std::shuffle(warps.begin(), warps.end(), random_);
        std::shuffle(lanes.begin(), lanes.end(), random_);
        for (const int warp : warps) {
          if (lazy && random_() % 4 == 0) continue;
          const int first = cta * grid.threads + warp * 32;
          // A warp by itself until its lanes wait for others.
          do {
            for (const int lane : lanes) any |= Resume(first + lane);
          } while (ReleaseWarp(first));
        }
      }
      any |= Release();
      if (All(0, size_, [](const Thread& t) { return t.state == kEnded; })) break;
      if (!any && !lazy) Fail("threads wait for different things");
      lazy = any;  // nobody moved: was it chance?
    }
    Leave();
    current_cluster = nullptr;
  }

  enum State : unsigned char { kReady, kAtWarp, kAtBlock, kAtCluster, kEnded };
  void Wait(State state) {
    threads_[current_].state = state;
    if (_setjmp(fibres_[current_].at) == 0) _longjmp(main_, 1);
  }
  unsigned thread() const { return static_cast<unsigned>(current_ % grid_.threads); }
  int rank() const { return current_ / grid_.threads; }
  unsigned block() const { return static_cast<unsigned>(grid_.first_block + rank()); }
  char* shared() const { return grid_.shared; }
  unsigned blocks() const { return static_cast<unsigned>(grid_.all_blocks); }
  int cluster_ctas() const { return grid_.ctas; }
  size_t threads() const { return size_; }
  size_t current() const { return static_cast<size_t>(current_); }
  unsigned Draw() { return static_cast<unsigned>(random_()); }

  // What the lanes of the current thread's warp say in one instruction.
  struct Said {
    alignas(8) unsigned char bytes[24];
  };
  const Said* Exchange(const char* instruction, const void* mine, size_t size) {
    Thread& t = threads_[current_];
    t.instruction = instruction;
    Said* lanes = said_[current_ / 32][t.turn++ % 2];  // the lanes before may be one instruction ahead
    std::memcpy(lanes[current_ % 32].bytes, mine, size);
    Wait(kAtWarp);
    return lanes;
  }

  void Arrive() {
    Thread& t = threads_[current_];
    if (t.arrived != t.waited) Fail("a thread arrived twice at the cluster's barrier");
    ++t.arrived;
  }
  void WaitForCluster() {
    Thread& t = threads_[current_];
    if (t.arrived != t.waited + 1) Fail("a thread waits for the cluster without having arrived");
    ++t.waited;
    Wait(kAtCluster);
  }
  // A word of a CTA's shared memory.
  unsigned* Remote(int rank, unsigned offset) {
    if (rank < 0 || rank >= grid_.ctas || offset % 4 != 0 || offset + 4 > static_cast<unsigned>(grid_.shared_bytes)) Fail("a store outside a CTA's shared memory");
    const size_t first = static_cast<size_t>(rank) * grid_.threads;
    if (!All(first, grid_.threads, [](const Thread& t) { return t.begun; })) Fail("a store into a CTA that has not begun");
    if (All(first, grid_.threads, [](const Thread& t) { return t.state == kEnded; })) Fail("a store into a CTA that has ended");
    return reinterpret_cast<unsigned*>((rank == inside_ ? grid_.shared : ctas_[rank].data()) + offset);
  }

  static inline Cluster* current_cluster = nullptr;

 private:
  struct Fibre {
    ucontext_t begin;
    jmp_buf at;
  };
  struct Thread {
    const char* instruction = nullptr;
    int turn = 0, arrived = 0, waited = 0;
    State state = kReady;
    bool begun = false;
  };

  template <class Test>
  bool All(size_t first, size_t count, const Test& test) const {
    const auto begin = threads_.begin() + static_cast<std::ptrdiff_t>(first);
    return std::all_of(begin, begin + static_cast<std::ptrdiff_t>(count), test);
  }
  size_t Kept() const { return grid_.shared == nullptr ? 0 : static_cast<size_t>(grid_.shared_bytes) + kBehind; }
  void Body() {
    body_();
    threads_[current_].state = kEnded;
    _longjmp(main_, 1);
  }
  void Leave() {
    if (inside_ < 0 || Kept() == 0) return;
    std::vector<char>& kept = ctas_[inside_];
    if (std::memcmp(kept.data() + grid_.shared_bytes, grid_.shared + grid_.shared_bytes, kBehind) != 0) Fail("a store behind a CTA's shared memory");
    std::memcpy(kept.data(), grid_.shared, Kept());
  }
  void Enter(int cta) {
    if (cta == inside_) return;
    Leave();
    inside_ = cta;
    if (Kept() > 0) std::memcpy(grid_.shared, ctas_[cta].data(), Kept());
  }
  bool Resume(int thread) {
    Thread& t = threads_[thread];
    if (t.state != kReady) return false;
    current_ = thread;
    if (_setjmp(main_) != 0) return true;
    if (threads_[current_].begun) _longjmp(fibres_[current_].at, 1);
    threads_[current_].begun = true;
    setcontext(&fibres_[current_].begin);
    return true;
  }

  bool ReleaseWarp(size_t first) {
    if (!All(first, 32, [](const Thread& t) { return t.state == kAtWarp; })) return false;
    const char* instruction = threads_[first].instruction;
    if (!All(first, 32, [&](const Thread& t) { return std::strcmp(t.instruction, instruction) == 0; })) Fail("lanes of a warp in different instructions");
    for (size_t i = first; i < first + 32; ++i) threads_[i].state = kReady;
    return true;
  }
  bool Release() {
    bool any = false;
    int arrived = std::numeric_limits<int>::max();
    for (const Thread& t : threads_) {
      if (t.state != kEnded) arrived = std::min(arrived, t.arrived);
    }
    for (size_t first = 0; first < size_; first += grid_.threads) {
      const bool block = All(first, grid_.threads, [](const Thread& t) { return t.state == kAtBlock; });
      for (size_t i = first; i < first + grid_.threads; ++i) {
        Thread& t = threads_[i];
        if (!block && !(t.state == kAtCluster && t.waited <= arrived)) continue;
        t.state = kReady;
        any = true;
      }
    }
    return any;
  }

  Grid grid_;
  std::function<void()> body_;
  std::mt19937 random_;
  size_t size_;
  std::vector<Fibre> fibres_;
  std::vector<Thread> threads_;
  std::vector<std::vector<char>> ctas_;  // what each has in its shared memory while another runs
  std::unique_ptr<Said[][2][32]> said_;  // [warp]
  jmp_buf main_;
  int current_ = 0, inside_ = -1;
};

inline void RunCluster(const Grid& grid, unsigned seed, const std::function<void()>& body) { Cluster cluster(grid, seed, body); }
inline void RunBlock(int threads, unsigned seed, const std::function<void()>& body) { RunCluster({.threads = threads}, seed, body); }

struct ThreadIndex {
  struct X {
    operator unsigned() const { return Cluster::current_cluster->thread(); }
  } x;
};
struct BlockIndex {
  struct X {
    operator unsigned() const { return Cluster::current_cluster->block(); }
  } x;
};

struct GridSize {
  struct X {
    operator unsigned() const { return Cluster::current_cluster->blocks(); }
  } x;
};

template <class T>
T Value(const Cluster::Said& said) {
  T value;
  std::memcpy(&value, said.bytes, sizeof(value));
  return value;
}
template <class T>
const Cluster::Said* Say(const char* instruction, const T& value) {
  static_assert(sizeof(T) <= sizeof(Cluster::Said));
  return Cluster::current_cluster->Exchange(instruction, &value, sizeof(value));
}
template <class T, class Join>
T Reduce(const char* instruction, T value, const Join& join) {
  const Cluster::Said* lanes = Say(instruction, value);
  T all = Value<T>(lanes[0]);
  for (int i = 1; i < 32; ++i) all = join(all, Value<T>(lanes[i]));
  return all;
}

}  // namespace simt

inline const simt::ThreadIndex threadIdx;
inline const simt::BlockIndex blockIdx;
inline const simt::GridSize gridDim;
inline int simt_lane() { return static_cast<int>(threadIdx.x % 32); }

inline void __syncwarp() { simt::Say("syncwarp", 0); }
inline void __syncthreads() { simt::Cluster::current_cluster->Wait(simt::Cluster::kAtBlock); }
template <class T>
T __shfl_sync(unsigned, T value, int from) {
  return simt::Value<T>(simt::Say("shfl", value)[from % 32]);
}
template <class T>
T __shfl_up_sync(unsigned, T value, int by) {
  const int lane = simt_lane();
  return simt::Value<T>(simt::Say("shfl.up", value)[lane >= by ? lane - by : lane]);
}
template <class T>
T __shfl_xor_sync(unsigned, T value, int by) {
  const int lane = simt_lane();
  return simt::Value<T>(simt::Say("shfl.xor", value)[lane ^ by]);
}
inline unsigned __ballot_sync(unsigned, bool value) {
  const simt::Cluster::Said* lanes = simt::Say("ballot", value);
  unsigned bits = 0;
  for (int i = 0; i < 32; ++i) bits |= (simt::Value<bool>(lanes[i]) ? 1u : 0u) << i;
  return bits;
}
inline bool __any_sync(unsigned all, bool value) { return __ballot_sync(all, value) != 0; }
inline bool __all_sync(unsigned all, bool value) { return __ballot_sync(all, value) == ~0u; }
template <class T>
T __reduce_min_sync(unsigned, T value) {
  return simt::Reduce("redux.min", value, [](T a, T b) { return std::min(a, b); });
}
template <class T>
T __reduce_max_sync(unsigned, T value) {
  return simt::Reduce("redux.max", value, [](T a, T b) { return std::max(a, b); });
}
template <class T>
T __reduce_add_sync(unsigned, T value) {
  return simt::Reduce("redux.add", value, [](T a, T b) { return a + b; });
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
inline float rsqrtf(float x) { return 1 / std::sqrt(x); }
inline void sincospif(float x, float* s, float* c) {
  *s = static_cast<float>(std::sin(x * 3.14159265358979323846));
  *c = static_cast<float>(std::cos(x * 3.14159265358979323846));
}
inline unsigned __umulhi(unsigned x, unsigned y) { return static_cast<unsigned>(static_cast<unsigned long long>(x) * y >> 32); }
