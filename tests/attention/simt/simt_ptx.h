// tests/attention/simt/simt_ptx.h: attention/cuda/ptx.cuh for the threads of simt.h, as far as the selectors use it: each instruction as
// its manual tells it.
//
//   #include "tests/attention/simt/simt_ptx.h"     // in place of simt.h and before the .cuh under test
//   #include "attention/cuda/select.cuh"
//
// Shapes:  an address of shared memory is 24 bits of offset below the CTA's rank plus one; 0 there is the CTA's own.
// Threads: as simt.h.
// Errors:  as simt.h, and a load of 16 bytes that are not aligned. Sums of a matrix product are rounded once, which no device does:
//          where scores are not equal to the bit, compare with a tolerance.
// Cost:    as simt.h.
#pragma once

#include "tests/attention/simt/simt.h"

// The real ones stay, under other names; they are instructions.
#define Bf16 DeviceBf16
#define Fp16 DeviceFp16
#define SharedAddress DeviceSharedAddress
#define Exp2 DeviceExp2
#define EvictFirst DeviceEvictFirst
#define WaitForPredecessors DeviceWaitForPredecessors
#define LaunchDependents DeviceLaunchDependents
#define LoadOnce DeviceLoadOnce
#define ClusterRank DeviceClusterRank
#define MapToRank DeviceMapToRank
#define StoreCluster DeviceStoreCluster
#define OrCluster DeviceOrCluster
#define ClusterArriveRelaxed DeviceClusterArriveRelaxed
#define ClusterArrive DeviceClusterArrive
#define ClusterWait DeviceClusterWait
#include "attention/cuda/ptx.cuh"
#undef Bf16
#undef Fp16
#undef SharedAddress
#undef Exp2
#undef EvictFirst
#undef WaitForPredecessors
#undef LaunchDependents
#undef LoadOnce
#undef ClusterRank
#undef MapToRank
#undef StoreCluster
#undef OrCluster
#undef ClusterArriveRelaxed
#undef ClusterArrive
#undef ClusterWait

#include "base/dtype.h"

namespace lectern::ptx {

template <class Type>
struct Element16 {
  static float Widen(u16 x) { return ToFloat(Type{x}); }
  static float Low(u32 x) { return Widen(static_cast<u16>(x)); }
  static float High(u32 x) { return Widen(static_cast<u16>(x >> 16)); }
  template <class Join>
  static u32 Halves(u32 a, u32 b, const Join& join) {
    const auto of = [&](u16 x, u16 y) -> u32 { return join(Widen(x), Widen(y)) ? x : y; };
    return of(static_cast<u16>(a), static_cast<u16>(b)) | of(static_cast<u16>(a >> 16), static_cast<u16>(b >> 16)) << 16;
  }
  static u32 Min(u32 a, u32 b) { return Halves(a, b, [](float x, float y) { return x < y; }); }
  static u32 Max(u32 a, u32 b) { return Halves(a, b, [](float x, float y) { return x > y; }); }
  // Lane l has of a rows l / 4 and l / 4 + 8, columns 2 (l % 4) and the next, and the same eight further on; of b those rows of column
  // l / 4; of d rows l / 4 and l / 4 + 8, columns 2 (l % 4) and the next.
  static void Mma(float (&d)[4], const u32 (&a)[4], u32 b0, u32 b1) {
    struct Words {
      u32 a[4], b[2];
    };
    const simt::Cluster::Said* lanes = simt::Say("mma", Words{{a[0], a[1], a[2], a[3]}, {b0, b1}});
    for (int i = 0; i < 4; ++i) {
      const int row = simt_lane() / 4, column = simt_lane() % 4 * 2 + i % 2, lower = i / 2;
      double sum = d[i];
      for (int k = 0; k < 4; ++k) {
        const Words left = simt::Value<Words>(lanes[row * 4 + k]), right = simt::Value<Words>(lanes[column * 4 + k]);
        for (int half = 0; half < 2; ++half) {
          const u32 x = left.a[lower + 2 * half], y = right.b[half];
          sum += static_cast<double>(Low(x)) * Low(y) + static_cast<double>(High(x)) * High(y);
        }
      }
      d[i] = static_cast<float>(sum);
    }
  }
};
using Bf16 = Element16<bf16>;
using Fp16 = Element16<fp16>;

inline float Exp2(float x) { return std::exp2(x); }
inline u64 EvictFirst() { return 0; }
inline void WaitForPredecessors() {}
inline void LaunchDependents() {}
inline uint4 LoadOnce(const void* p, u64) {
  if (reinterpret_cast<uintptr_t>(p) % 16 != 0) simt::Fail("a load of 16 bytes that are not aligned");
  uint4 x;
  std::memcpy(&x, p, sizeof(x));
  return x;
}

inline u32 SharedAddress(const void* p) { return static_cast<u32>(static_cast<const char*>(p) - simt::Cluster::current_cluster->shared()); }
inline u32 ClusterRank() { return static_cast<u32>(simt::Cluster::current_cluster->rank()); }
inline u32 MapToRank(u32 address, u32 rank) { return address | (rank + 1) << 24; }
inline unsigned* ClusterWord(u32 address) { return simt::Cluster::current_cluster->Remote(static_cast<int>(address >> 24) - 1, address & 0xffffff); }
inline void StoreCluster(u32 address, u32 value) { *ClusterWord(address) = value; }
inline void OrCluster(u32 address, u32 value) { *ClusterWord(address) |= value; }
inline void ClusterArriveRelaxed() { simt::Cluster::current_cluster->Arrive(); }
inline void ClusterArrive() { simt::Cluster::current_cluster->Arrive(); }
inline void ClusterWait() { simt::Cluster::current_cluster->WaitForCluster(); }

}  // namespace lectern::ptx
